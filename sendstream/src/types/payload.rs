//! [`Payload`]: owned bytes to send.

use std::{sync::Arc, vec};

use bytes::{Bytes, BytesMut};

/// Owned bytes on their way into a stream, without a copy: whatever the value owned is what MsQuic
/// reads from.
///
/// Made from `Vec<u8>`, [`Bytes`], `BytesMut`, `Box<[u8]>`, `Arc<[u8]>`, `String`, `&'static [u8]`,
/// `&'static str`, and from a `Vec` of `Bytes` or of `Vec<u8>`, which is sent as one piece of the
/// stream. For memory of another kind (a mapped file, a slab) see [`Bytes::from_owner`].
///
/// Once the bytes are acknowledged, what owned them is dropped on MsQuic's worker thread, and its
/// destructor must not [wait there](crate#what-runs-on-msquics-threads).
#[derive(Debug)]
pub struct Payload {
    parts: Parts,
    len: u64,
}

#[derive(Debug)]
enum Parts {
    Vec(Vec<u8>),
    Bytes(Bytes),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
    List(Vec<Bytes>),
}

impl Payload {
    /// How many bytes it holds.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No bytes: what a bare FIN carries.
    #[inline]
    pub(crate) fn empty() -> Self {
        Self::one(Parts::Static(&[]), 0)
    }

    #[inline]
    fn one(parts: Parts, len: usize) -> Self {
        Self { parts, len: len as u64 }
    }

    /// The first part, and the others.
    pub(crate) fn into_parts(self) -> (Bytes, vec::IntoIter<Bytes>) {
        let one = match self.parts {
            Parts::Vec(vec) => Bytes::from(vec),
            Parts::Bytes(bytes) => bytes,
            Parts::Shared(shared) => Bytes::from_owner(shared),
            Parts::Static(bytes) => Bytes::from_static(bytes),
            Parts::List(list) => {
                let mut parts = list.into_iter();
                return (parts.next().unwrap_or_default(), parts);
            }
        };
        (one, Vec::new().into_iter())
    }

    /// Where the bytes lie.
    #[inline]
    pub(crate) fn pieces(&self) -> Pieces<'_> {
        match &self.parts {
            Parts::Vec(vec) => Pieces::One(vec),
            Parts::Bytes(bytes) => Pieces::One(bytes),
            Parts::Shared(shared) => Pieces::One(shared),
            Parts::Static(bytes) => Pieces::One(bytes),
            Parts::List(list) => Pieces::Many(list),
        }
    }
}

/// The memory of a [`Payload`], which does not move while the payload lives, wherever that is
/// moved.
#[derive(Debug)]
pub(crate) enum Pieces<'a> {
    One(&'a [u8]),
    Many(&'a [Bytes]),
}

impl From<Vec<u8>> for Payload {
    #[inline]
    fn from(vec: Vec<u8>) -> Self {
        let len = vec.len();
        Self::one(Parts::Vec(vec), len)
    }
}

impl From<Bytes> for Payload {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len();
        Self::one(Parts::Bytes(bytes), len)
    }
}

impl From<BytesMut> for Payload {
    fn from(bytes: BytesMut) -> Self {
        Self::from(bytes.freeze())
    }
}

impl From<Box<[u8]>> for Payload {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::from(Vec::from(bytes))
    }
}

impl From<Arc<[u8]>> for Payload {
    fn from(shared: Arc<[u8]>) -> Self {
        let len = shared.len();
        Self::one(Parts::Shared(shared), len)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::one(Parts::Static(bytes), bytes.len())
    }
}

impl<const N: usize> From<&'static [u8; N]> for Payload {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(list: Vec<Bytes>) -> Self {
        let len = list.iter().map(|bytes| bytes.len() as u64).sum();
        Self { parts: Parts::List(list), len }
    }
}

impl From<Vec<Vec<u8>>> for Payload {
    fn from(list: Vec<Vec<u8>>) -> Self {
        Self::from(list.into_iter().map(Bytes::from).collect::<Vec<_>>())
    }
}
