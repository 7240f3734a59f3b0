//! The tasks of a run, and what ends them.

use tokio::{sync::watch, task::JoinSet};

use super::run_error::RunError;

/// Says when the senders are to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// The senders end when `true` is sent.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is set.
    pub(crate) async fn wait(&mut self) {
        // Whoever could set it is gone: the run is over then as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Tasks that end together: the first that fails ends the others, and so does dropping this.
#[derive(Debug, Default)]
pub(crate) struct Tasks(JoinSet<Result<(), RunError>>);

impl Tasks {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = Result<(), RunError>> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Waits for all of them, or for the first failure.
    pub(crate) async fn all(mut self) -> Result<(), RunError> {
        while let Some(ended) = self.0.join_next().await {
            ended.map_err(|error| RunError::Unable(format!("a task failed: {error}; please report it")))??;
        }
        Ok(())
    }
}
