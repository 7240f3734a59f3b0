//! What a peer of the tool may send: a hello, a welcome, the messages of a session in any pieces;
//! and the names in them.
//!
//! The first byte says in which pieces the rest comes.

#![no_main]

// Inside of a module that stands for the folder, so that each file finds its own modules.
#[path = "../../sendstream-cli/src"]
mod tool {
    pub(crate) mod name;
    pub(crate) mod protocol;
    pub(crate) mod ticket;
}

use std::{fmt::Debug, path::Component};

use libfuzzer_sys::fuzz_target;
use sendstream::Printable;
use tool::{
    name::{SafeName, components},
    protocol::{
        Hello, ProtocolError, Welcome,
        message::{Decoder, Message, Part, ToReceiver, ToSender, encode_data_front},
    },
    ticket,
};

fuzz_target!(|data: &[u8]| {
    let Some((piece, data)) = data.split_first() else { return };
    if let Some(message) = data.first_chunk()
        && let Ok(hello) = Hello::decode(message)
    {
        assert_eq!(hello.encode(), message);
    }
    if let Some(message) = data.first_chunk()
        && let Ok(welcome) = Welcome::decode(*message)
    {
        assert_eq!(welcome.encode(), message);
    }
    for message in check::<ToReceiver>(data, usize::from(*piece)) {
        if let ToReceiver::Offer { name, .. } | ToReceiver::Skipped { name, .. } = message
            && let Ok(name) = SafeName::new(name)
        {
            check_name(&name);
        }
    }
    check::<ToSender>(data, usize::from(*piece));
    if let Ok(name) = SafeName::new(data) {
        check_name(&name);
    }
    // Whatever the bytes are.
    assert!(!Printable::new(data).to_string().chars().any(Printable::escapes));
});

/// Decodes whole and in pieces, and what comes out once more. Returns the messages.
fn check<M: Message + PartialEq + Debug>(stream: &[u8], piece: usize) -> Vec<M> {
    let whole = decode::<M>(stream, stream.len().max(1));
    assert_eq!(decode::<M>(stream, piece.max(1)), whole);
    let (messages, content, _) = whole;
    assert!(M::HAS_CONTENT || content.is_empty());
    assert!(content.len() <= stream.len());
    // A text that was no UTF-8, or too long, is mended by one of the two ways. After that it stays as it is.
    let again = |messages: &[M]| {
        let mut stream = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut stream));
        let (messages, content, end) = decode::<M>(&stream, 7);
        assert_eq!((content, end), (Vec::new(), Ok(())));
        (stream, messages)
    };
    let (_, mended) = again(&messages);
    let (stream, same) = again(&mended);
    assert_eq!(same, mended);
    assert_eq!(again(&same).0, stream);
    messages
}

/// The messages, the content, and whether it may end there.
type Decoded<M> = (Vec<M>, Vec<u8>, Result<(), ProtocolError>);

fn decode<M: Message>(stream: &[u8], piece: usize) -> Decoded<M> {
    let (mut messages, mut content) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::default();
    for mut input in stream.chunks(piece) {
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Part::Message(message))) => messages.push(message),
                Ok(Some(Part::Content(found))) => {
                    assert!(!found.is_empty());
                    content.extend_from_slice(found);
                }
                Ok(None) => break,
                Err(error) => return (messages, content, Err(error)),
            }
        }
        assert!(input.is_empty());
    }
    let end = decoder.end();
    (messages, content, end)
}

/// It stays below the directory that it is joined to.
fn check_name(name: &SafeName) {
    let mut count = 0;
    for component in components(name.as_bytes()) {
        let path = std::path::Path::new(component);
        assert!(path.components().all(|component| matches!(component, Component::Normal(_))));
        assert_eq!(path.components().count(), 1);
        count += 1;
    }
    assert_eq!(count, name.parents().count() + 1);
    assert!(!name.to_string().chars().any(Printable::escapes));
    let mut front = Vec::new();
    encode_data_front(name.as_bytes().len(), &mut front);
    let (_, content, end) = decode::<ToReceiver>(&[&front, name.as_bytes()].concat(), 3);
    assert_eq!((content.as_slice(), end), (name.as_bytes(), Ok(())));
}
