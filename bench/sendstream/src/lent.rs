//! Sendstream on tokio, with MsQuic's workers lent to it.

fn main() -> ! {
    bench_core::run::<bench_sendstream::OnLentWorkers>()
}
