//! What a client resumes with: the ticket that it may show to a server.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::Poll,
    time::SystemTime,
};

use sendstream_core::foreign::{Contained, contain};
use tracing::Span;

use crate::{
    driver::connection::shared::KeepTickets,
    native::{background, configuration::Alpn},
    types::{
        resumption::{SessionCache, SessionKey, ticket::Ticket},
        tls::{CertificateRefusal, PeerCertificate, PeerIdentity, Trust},
    },
};

/// A client's cache, and what it is asked for.
#[derive(Clone)]
pub(crate) struct Sessions {
    cache: Arc<dyn SessionCache>,
    alpn: Alpn,
}

impl Sessions {
    pub(crate) fn new(cache: Arc<dyn SessionCache>, alpn: Alpn) -> Self {
        Self { cache, alpn }
    }

    fn key(&self, server_name: &str) -> SessionKey {
        SessionKey::new(server_name, self.alpn.protocols().iter().cloned())
    }

    /// Whether early data may go out: where another protocol than the earlier connection's could be
    /// agreed on, MsQuic would send what was refused again under that one.
    pub(crate) fn may_be_early(&self) -> bool {
        self.alpn.protocols().len() == 1
    }

    /// The newest ticket for `server_name` that is still good, and whose server `trust` believes
    /// now. Others are logged in `span`.
    pub(crate) async fn find(&self, server_name: &str, trust: &Trust, span: &Span) -> Option<Ticket> {
        let key = self.key(server_name);
        for _ in 0..MOST_TRIED {
            let (cache, wanted) = (self.cache.clone(), key.clone());
            let bytes = background::ask(move || Ok(cache.take(&wanted))).await.ok().flatten()?;
            match Ticket::decode(&bytes, &key, SystemTime::now()) {
                Ok(ticket) => match judge(trust, server_name, &ticket.identity).await {
                    Ok(()) => return Some(ticket),
                    Err(error) => {
                        tracing::debug!(parent: span, %error, "a session ticket is not used: not believed any more");
                    }
                },
                Err(error) => tracing::debug!(parent: span, %error, "a session ticket is not used"),
            }
        }
        None
    }

    /// Where a connection to `server_name` keeps its tickets.
    pub(crate) fn keep(&self, server_name: &str) -> KeepTickets {
        KeepTickets { cache: self.cache.clone(), key: self.key(server_name), shown: OnceLock::new() }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// The whole judgement that the certificates would get in a handshake, with the verifier's.
async fn judge(trust: &Trust, server_name: &str, identity: &PeerIdentity) -> Result<(), CertificateRefusal> {
    let verified = trust.verify_server_again(server_name, identity);
    let asked = || PeerCertificate::new(identity.clone(), Some(server_name.to_owned()), verified.clone());
    let Some(verdict) = trust.ask_verifier(asked) else { return verified };
    // A verifier's panic is a refusal in the handshake, so it is one here.
    let panicked = Err(CertificateRefusal::VerifierPanicked);
    let mut verdict = Contained::new(verdict);
    poll_fn(|cx| {
        let Some(verdict) = verdict.get_mut() else { return Poll::Ready(panicked.clone()) };
        contain("a verifier", || verdict.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(panicked.clone()))
    })
    .await
}

/// How many tickets are looked at before a full handshake is the quicker way.
const MOST_TRIED: usize = 8;
