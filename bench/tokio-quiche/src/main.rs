//! tokio-quiche.

fn main() -> ! {
    bench_core::run::<bench_tokio_quiche::TokioQuiche>()
}
