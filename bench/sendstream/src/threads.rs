//! Sendstream on tokio, with MsQuic on threads of its own.

fn main() -> ! {
    bench_core::run::<bench_sendstream::BesideThreads>()
}
