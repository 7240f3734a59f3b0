//! What logging costs where it is switched off. A process of its own, because a process has one
//! global subscriber.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Pair, run};
use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

/// How often the subscriber was asked for anything below `info`.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Wants `info`, and counts what is not.
struct InfoOnly;

fn count(metadata: &Metadata<'_>) {
    if *metadata.level() > Level::INFO && metadata.target().starts_with("sendstream") {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
}

impl Subscriber for InfoOnly {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        count(metadata);
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        count(span.metadata());
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        count(event.metadata());
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_subscriber_is_not_even_asked_about_what_is_below_its_level() {
    tracing::subscriber::set_global_default(InfoOnly).unwrap();
    run(async {
        let pair = Pair::new().await;
        for _ in 0..10 {
            let mut send = pair.client.open_uni().unwrap();
            let reading = async { pair.server.accept_uni().await.unwrap().read_to_end(100).await.unwrap() };
            let (sent, read) = futures::join!(send.finish_with("some"), reading);
            sent.unwrap();
            assert_eq!(read, b"some");
            drop(pair.client.send_datagram("datagram"));
            pair.server.read_datagram().await.unwrap();
        }
        pair.end().await;
    });
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
}
