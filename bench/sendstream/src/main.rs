//! Sendstream on tokio.

fn main() -> ! {
    bench_core::run::<bench_sendstream::OnTokio>()
}
