//! Connections that are made and closed again. They belong to a run by the server's name that they
//! ask for, and say nothing.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use sendstream::{Client, ConnectError, ConnectionError, Incoming};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    counts::Counts,
    latency::Latency,
    plan::Plan,
    receiving::{PeerSent, all_there},
    run_error::{RunError, close},
    tasks::{Stop, Tasks},
};
use crate::protocol::Code;

/// Where a run's handshakes go.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) client: Arc<Client>,
    pub(crate) address: SocketAddr,
    pub(crate) name: Arc<str>,
}

/// Connects until `stop` is set, as many at once as the plan has streams.
pub(crate) async fn connect(
    place: Place,
    plan: &Plan,
    counts: &Arc<Counts>,
    latency: &Arc<Latency>,
    stop: Stop,
) -> Result<(), RunError> {
    let mut tasks = Tasks::default();
    for _ in 0..plan.streams {
        tasks.spawn(connect_in_turn(place.clone(), Arc::clone(counts), Arc::clone(latency), stop.clone()));
    }
    tasks.all().await
}

/// A connection is closed when the next one is there: the server knows it by then.
async fn connect_in_turn(place: Place, counts: Arc<Counts>, latency: Arc<Latency>, stop: Stop) -> Result<(), RunError> {
    let mut last = None;
    while !stop.is_set() {
        let begin = Instant::now();
        let connection = place.client.connect(place.address, &place.name).await.map_err(|error| match error {
            ConnectError::Connection(error) => RunError::Lost(error),
            other => RunError::Unable(other.to_string()),
        })?;
        latency.record(begin.elapsed());
        counts.add_message(0);
        if let Some(last) = last.replace(connection) {
            close(&last, Code::Done, "");
        }
    }
    if let Some(last) = last {
        counts.may_end();
        // Nothing follows that would show that the server has it.
        let _ = tokio::time::timeout(last.rtt() * 3, last.closed()).await;
        close(&last, Code::Done, "");
    }
    Ok(())
}

/// Accepts the handshakes of a run until there are as many as the client has made.
pub(crate) async fn accept(
    mut incoming: mpsc::Receiver<Incoming>,
    counts: &Arc<Counts>,
    peer_sent: PeerSent,
) -> Result<(), RunError> {
    let accepting = async {
        let mut open = JoinSet::new();
        while let Some(next) = incoming.recv().await {
            while open.try_join_next().is_some() {}
            // Dropping one closes it.
            if open.len() < MAX_OPEN {
                open.spawn(accept_one(next, Arc::clone(counts)));
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        all = all_there(counts, peer_sent) => all,
        never = accepting => never,
    }
}

async fn accept_one(incoming: Incoming, counts: Arc<Counts>) {
    match incoming.accept().await {
        Ok(connection) => {
            counts.add_message(0);
            tokio::select! {
                _ = connection.closed() => {}
                // Nothing is to be said, and what is said would take memory here.
                _ = connection.read_datagram() => close(&connection, Code::BadMessage, ""),
            }
        }
        // It was complete at the client's end, which had seen enough.
        Err(ConnectionError::ApplicationClosed { .. }) => counts.add_message(0),
        Err(_) => {}
    }
}

/// How many may be open at once: those of as many senders as there may be, each with one to come and
/// one that is over.
const MAX_OPEN: usize = 4 * super::plan::MAX_STREAMS as usize;
