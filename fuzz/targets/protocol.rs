//! What a peer of the tool may send: a hello, a welcome, a file's stream in any pieces, a verdict;
//! and the names in it.
//!
//! The first byte says in which pieces the rest comes.

#![no_main]

#[path = "../../sendstream-cli/src/name.rs"]
mod name;
#[path = "../../sendstream-cli/src/protocol.rs"]
mod protocol;
#[path = "../../sendstream-cli/src/ticket.rs"]
mod ticket;

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use name::SafeName;
use protocol::{FileDecoder, FileHeader, Hello, Part, ProtocolError, Verdict, Welcome};
use sendstream::Printable;

/// What comes out of a file's stream.
type Decoded = (Option<FileHeader>, Vec<u8>, Option<blake3::Hash>, Result<(), ProtocolError>);

fuzz_target!(|data: &[u8]| {
    let Some((piece, data)) = data.split_first() else { return };
    if let Some(message) = data.first_chunk()
        && let Ok(hello) = Hello::decode(message)
    {
        assert_eq!(hello.encode(), *message);
    }
    if let Some(message) = data.first_chunk()
        && Welcome::decode(*message).is_ok()
    {
        assert_eq!(Welcome::encode(), *message);
    }
    if let Ok(verdict) = Verdict::decode(data) {
        assert_eq!(Verdict::decode(&verdict.encode()).is_ok(), true);
    }
    let whole = decode(data, data.len().max(1));
    assert_eq!(decode(data, usize::from(*piece).max(1)), whole);
    let (header, content, digest, end) = whole;
    if let Some(header) = &header {
        check_name(&header.name);
        assert!(content.len() as u64 <= header.size);
        let mut again = Vec::new();
        header.encode(&mut again);
        assert!(data.starts_with(&again));
    }
    assert!(end.is_err() || digest.is_some());
    // Whatever the bytes are.
    assert!(!Printable::new(data).to_string().chars().any(Printable::escapes));
    if let Ok(text) = str::from_utf8(data) {
        if let Ok(name) = text.parse() {
            check_name(&name);
        }
    }
});

fn decode(stream: &[u8], piece: usize) -> Decoded {
    let (mut header, mut content, mut digest) = (None, Vec::new(), None);
    let mut decoder = FileDecoder::new();
    for mut input in stream.chunks(piece) {
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Part::Header(found))) => assert_eq!(header.replace(found), None),
                Ok(Some(Part::Content(found))) => {
                    assert!(header.is_some() && digest.is_none() && !found.is_empty());
                    content.extend_from_slice(found);
                }
                Ok(Some(Part::Digest(found))) => assert_eq!(digest.replace(found), None),
                Ok(None) => break,
                Err(error) => return (header, content, digest, Err(error)),
            }
        }
        assert!(input.is_empty());
    }
    let end = decoder.end();
    (header, content, digest, end)
}

/// It stays below the directory that it is joined to, and is spelled as it came.
fn check_name(name: &SafeName) {
    let path = name.to_path();
    assert!(path.is_relative());
    assert!(path.components().all(|component| matches!(component, Component::Normal(_))));
    assert_eq!(path.components().count(), name.parents().count() + 1);
    assert_eq!(path.to_str(), Some(name.as_str()));
    assert!(!name.to_string().chars().any(char::is_control));
}
