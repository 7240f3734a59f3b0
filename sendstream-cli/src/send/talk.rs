//! A sender's half of the protocol over one connection: it tells of the entries, sends what the receiver
//! wants, and takes its answers.

use std::{pin::pin, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    channel::mpsc,
    future::{self, Either},
};
use sendstream::{Connection, RecvStream, SendStream};

use super::hub::{Hook, Inflow};
use crate::{
    caller::Trouble,
    error::OtherEnd,
    protocol::{
        Code, ProtocolError,
        message::{Decoder, Message as _, Part, ToReceiver, ToSender},
    },
    reader::Piece,
    transport::{self, Activity},
};

/// A connection to a receiver.
pub(crate) struct Talk<'a> {
    pub(crate) hook: &'a Hook,
    /// The receiver, for messages.
    pub(crate) other: &'a OtherEnd,
    pub(crate) connection: &'a Connection,
    /// How long the receiver may say and take nothing.
    pub(crate) stall: Duration,
}

impl Talk<'_> {
    /// Talks to the end, and closes the connection. Dropping the future leaves that to the caller.
    pub(crate) async fn run(&self, control: SendStream, answer: RecvStream, inflow: Inflow) -> Result<(), Trouble> {
        let Inflow { pieces, bell, let_go } = inflow;
        let let_go = pin!(async move {
            if let_go.await.is_err() {
                // It may stay.
                future::pending::<()>().await;
            }
        });
        let activity = Activity::new();
        let said = pin!(future::try_join(self.say(control, pieces, bell, &activity), self.listen(answer, &activity)));
        let ended = pin!(async {
            let stalled = pin!(activity.stalls(self.stall));
            let silent = pin!(transport::silence(self.connection));
            match future::select(silent, future::select(stalled, let_go)).await {
                Either::Left(_) => Trouble::Lost(self.other.went_silent()),
                Either::Right((Either::Left(_), _)) => Trouble::Final(self.other.stalled(self.stall)),
                Either::Right((Either::Right(_), _)) => Trouble::Final(self.other.held_up_others()),
            }
        });
        let talked = match future::select(said, ended).await {
            Either::Left((said, _)) => said.map(|_| ()),
            Either::Right((trouble, _)) => Err(trouble),
        };
        // Before the streams are dropped, which resets them: the receiver is told nothing but this.
        let code = match &talked {
            Ok(()) => Code::Done,
            Err(Trouble::Lost(_)) => Code::Moved,
            Err(Trouble::Final(failure)) if failure.is_timeout() => Code::Stalled,
            Err(Trouble::Final(_)) => Code::BadMessage,
        };
        transport::close(self.connection, code);
        talked
    }

    /// Tells of the entries, and sends what the receiver wants.
    async fn say(
        &self,
        mut control: SendStream,
        mut pieces: mpsc::Receiver<Piece>,
        mut bell: mpsc::Receiver<()>,
        activity: &Activity,
    ) -> Result<(), Trouble> {
        let trouble = |error| Trouble::of(&error, self.other);
        loop {
            // What was written before was taken.
            activity.note();
            if let Some(Some(piece)) = pieces.next().now_or_never() {
                control.write_chunk(piece.bytes).await.map_err(trouble)?;
                continue;
            }
            let mut offers = Vec::new();
            let done = {
                let mut hub = self.hook.hub.borrow_mut();
                hub.offers(self.hook.peer, &mut offers);
                hub.is_done(self.hook.peer)
            };
            if !offers.is_empty() {
                control.write_chunk(offers.into()).await.map_err(trouble)?;
            } else if done {
                let mut last = Vec::new();
                ToReceiver::Done.encode(&mut last);
                control.write_chunk(last.into()).await.map_err(trouble)?;
                control.finish().map_err(trouble)?;
                // To its end: dropping the stream would reset it.
                return control.finished().await.map_err(trouble);
            } else {
                let piece = match future::select(pieces.next(), bell.next()).await {
                    Either::Left((Some(piece), _)) => piece,
                    Either::Left((None, _)) => future::pending().await,
                    Either::Right(_) => continue,
                };
                control.write_chunk(piece.bytes).await.map_err(trouble)?;
            }
        }
    }

    /// Takes the receiver's answers, to the last.
    async fn listen(&self, mut answer: RecvStream, activity: &Activity) -> Result<(), Trouble> {
        let wrong = |error| Trouble::protocol(error, self.other);
        let mut decoder = Decoder::default();
        let mut bye = false;
        while let Some(chunk) = answer.read_chunk().await.map_err(|error| Trouble::of(&error, self.other))? {
            activity.note();
            let mut input = &chunk[..];
            while let Some(part) = decoder.next::<ToSender>(&mut input).map_err(wrong)? {
                let Part::Message(message) = part else { continue };
                if bye {
                    return Err(wrong(ProtocolError::TooMuch));
                }
                bye = message == ToSender::Bye;
                self.hook.hub.borrow_mut().hear(self.hook.peer, message).map_err(wrong)?;
            }
        }
        decoder.end().map_err(wrong)?;
        if bye { Ok(()) } else { Err(wrong(ProtocolError::TooLittle)) }
    }
}
