//! How long the paths of `bench_micro` take.

use std::hint::black_box;

use bench_micro::{awaited, complete, complete_and_wake, one_message, receive_and_read, submit, task};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sendstream::benching::Stream;

fn paths(criterion: &mut Criterion) {
    let (stream, waker) = (Stream::started(), task());
    criterion.bench_function("submit, then acknowledged unawaited", |bencher| {
        bencher.iter(|| complete(&stream, black_box(submit(&stream))));
    });
    criterion.bench_function("acknowledged and woken", |bencher| {
        let set_up = || awaited(&waker);
        bencher.iter_batched(
            set_up,
            |(stream, lent)| {
                complete_and_wake(&stream, lent);
                stream
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("received, woken and read", |bencher| {
        bencher.iter(|| receive_and_read(black_box(&stream), &waker));
    });
    criterion.bench_function("a stream of one message", |bencher| {
        bencher.iter(|| one_message(black_box(&waker)));
    });
}

criterion_group!(benches, paths);
criterion_main!(benches);
