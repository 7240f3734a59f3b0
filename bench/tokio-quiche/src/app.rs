//! [`App`]: a [`Role`] in tokio-quiche's worker.

use std::future::pending;

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};
use tokio_quiche::{
    ApplicationOverQuic, QuicResult,
    quic::{HandshakeInfo, QuicheConnection},
};

/// What one side of a connection does. An error ends the process: nobody else would notice.
pub(crate) trait Role: Send + 'static {
    /// Reads what there is.
    fn reads(&mut self, _connection: &mut QuicheConnection) -> Result<()> {
        Ok(())
    }

    /// Writes what there is room for. Called whenever there may be more.
    fn writes(&mut self, _connection: &mut QuicheConnection) -> Result<()> {
        Ok(())
    }
}

/// Has a client begin.
pub(crate) struct Go(oneshot::Sender<()>);

impl Go {
    pub(crate) fn now(self) {
        let _ = self.0.send(());
    }
}

pub(crate) struct App {
    role: Box<dyn Role>,
    /// Resolves when the role may begin; `None` once it has.
    begin: Option<oneshot::Receiver<()>>,
    connected: Option<mpsc::UnboundedSender<()>>,
}

impl App {
    /// Begins at once; `connected` is told of the handshake's end.
    pub(crate) fn server(role: Box<dyn Role>, connected: mpsc::UnboundedSender<()>) -> Self {
        Self { role, begin: None, connected: Some(connected) }
    }

    pub(crate) fn client(role: Box<dyn Role>) -> (Self, Go) {
        let (go, begin) = oneshot::channel();
        (Self { role, begin: Some(begin), connected: None }, Go(go))
    }
}

impl ApplicationOverQuic for App {
    fn on_conn_established(&mut self, _connection: &mut QuicheConnection, _info: &HandshakeInfo) -> QuicResult<()> {
        if let Some(connected) = self.connected.take() {
            let _ = connected.send(());
        }
        Ok(())
    }

    fn should_act(&self) -> bool {
        true
    }

    async fn wait_for_data(&mut self, _connection: &mut QuicheConnection) -> QuicResult<()> {
        match &mut self.begin {
            None => pending().await,
            Some(begin) => {
                let told = begin.await;
                self.begin = None;
                Ok(told?)
            }
        }
    }

    fn process_reads(&mut self, connection: &mut QuicheConnection) -> QuicResult<()> {
        end_on_error(self.role.reads(connection));
        Ok(())
    }

    fn process_writes(&mut self, connection: &mut QuicheConnection) -> QuicResult<()> {
        if self.begin.is_none() {
            end_on_error(self.role.writes(connection));
        }
        Ok(())
    }
}

fn end_on_error(result: Result<()>) {
    if let Err(error) = result {
        eprintln!("bench tokio-quiche: {error:#}");
        std::process::exit(1);
    }
}
