//! quinn on tokio.

fn main() -> ! {
    bench_core::run::<bench_quinn::OnTokio>()
}
