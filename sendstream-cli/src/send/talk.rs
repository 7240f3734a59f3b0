//! A sender's half of the protocol over one connection: it tells of the entries, sends what the receiver
//! wants, and takes its answers.

use std::pin::pin;

use futures::{
    FutureExt as _, StreamExt as _,
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
    transport,
};

/// A connection to a receiver.
pub(crate) struct Talk<'a> {
    pub(crate) hook: &'a Hook,
    /// The receiver, for messages.
    pub(crate) other: &'a OtherEnd,
    pub(crate) connection: &'a Connection,
}

impl Talk<'_> {
    /// Talks to the end, and closes the connection. Dropping the future leaves that to the caller.
    pub(crate) async fn run(&self, control: SendStream, answer: RecvStream, inflow: Inflow) -> Result<(), Trouble> {
        let said = pin!(future::try_join(self.say(control, inflow), self.listen(answer)));
        let talked = match future::select(said, pin!(transport::silence(self.connection))).await {
            Either::Left((said, _)) => said.map(|_| ()),
            Either::Right(_) => Err(Trouble::Lost(self.other.went_silent())),
        };
        // Before the streams are dropped, which resets them: the receiver is told nothing but this.
        let code = match talked {
            Ok(()) => Code::Done,
            Err(Trouble::Lost(_)) => Code::Moved,
            Err(Trouble::Final(_)) => Code::BadMessage,
        };
        transport::close(self.connection, code);
        talked
    }

    /// Tells of the entries, and sends what the receiver wants.
    async fn say(&self, mut control: SendStream, mut inflow: Inflow) -> Result<(), Trouble> {
        let trouble = |error| Trouble::of(&error, self.other);
        loop {
            if let Some(Some(piece)) = inflow.pieces.next().now_or_never() {
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
                let piece = match future::select(inflow.pieces.next(), inflow.bell.next()).await {
                    Either::Left((Some(piece), _)) => piece,
                    Either::Left((None, _)) => future::pending().await,
                    Either::Right(_) => continue,
                };
                control.write_chunk(piece.bytes).await.map_err(trouble)?;
            }
        }
    }

    /// Takes the receiver's answers, to the last.
    async fn listen(&self, mut answer: RecvStream) -> Result<(), Trouble> {
        let wrong = |error| Trouble::protocol(error, self.other);
        let mut decoder = Decoder::default();
        let mut bye = false;
        while let Some(chunk) = answer.read_chunk().await.map_err(|error| Trouble::of(&error, self.other))? {
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
