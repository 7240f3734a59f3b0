//! Sendstream with each task on its connection's own MsQuic worker.

fn main() -> ! {
    bench_core::run::<bench_sendstream::OnWorkers>()
}
