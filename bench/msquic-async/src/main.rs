//! msquic-async on tokio.

fn main() -> ! {
    bench_core::run::<bench_msquic_async::OnTokio>()
}
