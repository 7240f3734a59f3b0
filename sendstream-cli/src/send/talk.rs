//! A sender's half of the protocol over one connection: it tells of the entries, sends what the receiver
//! wants, and takes its answers.

use std::{cell::Cell, pin::pin, time::Duration};

use bytes::Bytes;
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
        let (activity, is_writing) = (Activity::new(), Cell::new(false));
        let out = Out { control, other: self.other, activity: &activity, is_writing: &is_writing };
        let said = pin!(future::try_join(self.say(out, pieces, bell), self.listen(answer, &activity)));
        // It may have to take what is written, or to answer.
        let is_its_turn = || is_writing.get() || !self.hook.hub.borrow().is_at_work_for(self.hook.peer);
        let ended = pin!(async {
            let stalled = pin!(activity.stalls(self.stall, is_its_turn));
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
        mut out: Out<'_>,
        mut pieces: mpsc::Receiver<Piece>,
        mut bell: mpsc::Receiver<()>,
    ) -> Result<(), Trouble> {
        loop {
            // This end has got on.
            out.activity.note();
            if let Some(Some(piece)) = pieces.next().now_or_never() {
                out.write(piece.bytes).await?;
                continue;
            }
            let mut offers = Vec::new();
            let done = {
                let mut hub = self.hook.hub.borrow_mut();
                hub.offers(self.hook.peer, &mut offers);
                hub.is_done(self.hook.peer)
            };
            if !offers.is_empty() {
                out.write(offers.into()).await?;
            } else if done {
                let mut last = Vec::new();
                ToReceiver::Done.encode(&mut last);
                out.write(last.into()).await?;
                return out.finish().await;
            } else {
                let piece = match future::select(pieces.next(), bell.next()).await {
                    Either::Left((Some(piece), _)) => piece,
                    Either::Left((None, _)) => future::pending().await,
                    Either::Right(_) => continue,
                };
                out.write(piece.bytes).await?;
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

/// The way to the receiver.
struct Out<'a> {
    control: SendStream,
    other: &'a OtherEnd,
    activity: &'a Activity,
    /// Whether the receiver has to take something.
    is_writing: &'a Cell<bool>,
}

impl Out<'_> {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Trouble> {
        self.activity.note();
        self.is_writing.set(true);
        let written = self.control.write_chunk(bytes).await;
        self.is_writing.set(false);
        written.map(drop).map_err(|error| Trouble::of(&error, self.other))
    }

    /// Ends the stream, and waits until the receiver has it all: dropping it would reset it.
    async fn finish(mut self) -> Result<(), Trouble> {
        self.control.finish().map_err(|error| Trouble::of(&error, self.other))?;
        self.control.finished().await.map_err(|error| Trouble::of(&error, self.other))
    }
}
