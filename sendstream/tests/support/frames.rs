//! QUIC frames, written by hand (RFC 9000).

/// `values` as variable-length integers (§16), each as short as can be: most frames are that and
/// nothing else.
pub(crate) fn numbers(values: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &value in values {
        match value {
            0..=0x3f => bytes.push(value as u8),
            0x40..=0x3fff => bytes.extend((value as u16 | 0x4000).to_be_bytes()),
            0x4000..=0x3fff_ffff => bytes.extend((value as u32 | 0x8000_0000).to_be_bytes()),
            _ => bytes.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
        }
    }
    bytes
}

/// A STREAM frame (§19.8).
pub(crate) fn stream(id: u64, offset: u64, data: &[u8], end: bool) -> Vec<u8> {
    [&numbers(&[0x0e | u64::from(end), id, offset, data.len() as u64])[..], data].concat()
}

/// A RESET_STREAM frame (§19.4).
pub(crate) fn reset_stream(id: u64, code: u64, final_size: u64) -> Vec<u8> {
    numbers(&[0x04, id, code, final_size])
}

/// A CRYPTO frame (§19.6).
pub(crate) fn crypto(offset: u64, data: &[u8]) -> Vec<u8> {
    [&numbers(&[0x06, offset, data.len() as u64])[..], data].concat()
}

/// A DATAGRAM frame that is the rest of its packet (RFC 9221 §4).
pub(crate) fn datagram(data: &[u8]) -> Vec<u8> {
    [&numbers(&[0x30])[..], data].concat()
}
