//! How many instructions the paths of `bench_micro` take, counted by Callgrind.

use std::{hint::black_box, task::Waker};

use gungraun::{library_benchmark, library_benchmark_group, main};
use sendstream::benching::{Lent, Stream};

/// A stream that has sent and received before, so that nothing grows for the first time.
fn started() -> Stream {
    let stream = Stream::started();
    bench_micro::complete(&stream, bench_micro::submit(&stream));
    bench_micro::receive_and_read(&stream, &bench_micro::task());
    stream
}

fn submitted() -> (Stream, Lent) {
    let stream = started();
    let lent = bench_micro::submit(&stream);
    (stream, lent)
}

fn awaited() -> (Stream, Lent) {
    bench_micro::awaited(&bench_micro::task())
}

#[library_benchmark]
#[bench::on_a_started_stream(started())]
fn submit(stream: Stream) -> (Stream, Lent) {
    let lent = bench_micro::submit(black_box(&stream));
    (stream, lent)
}

#[library_benchmark]
#[bench::unawaited(submitted())]
fn complete((stream, lent): (Stream, Lent)) -> Stream {
    bench_micro::complete(black_box(&stream), lent);
    stream
}

#[library_benchmark]
#[bench::awaited(awaited())]
fn complete_and_wake((stream, lent): (Stream, Lent)) -> Stream {
    bench_micro::complete_and_wake(black_box(&stream), lent);
    stream
}

#[library_benchmark]
#[bench::awaited(started(), bench_micro::task())]
fn receive_and_read(stream: Stream, waker: Waker) -> (Stream, Waker) {
    bench_micro::receive_and_read(black_box(&stream), &waker);
    (stream, waker)
}

#[library_benchmark]
#[bench::whole_life(bench_micro::task())]
fn one_message(waker: Waker) -> Waker {
    bench_micro::one_message(black_box(&waker));
    waker
}

library_benchmark_group!(
    name = paths;
    benchmarks = submit, complete, complete_and_wake, receive_and_read, one_message
);
main!(library_benchmark_groups = paths);
