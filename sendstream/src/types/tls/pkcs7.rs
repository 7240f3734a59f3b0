//! Reads the certificates that MsQuic reports of a peer, which come as a PKCS#7 SignedData without
//! signers (RFC 2315 §9.1).

use rustls_pki_types::CertificateDer;

use super::der::{CONTEXT_0, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET};

/// The certificates in `der`, in its order; `None` if it is not such a SignedData.
pub(super) fn certificates(der: &[u8]) -> Option<Vec<CertificateDer<'_>>> {
    let mut content_info = Reader::new(Reader::only(der, SEQUENCE)?);
    if content_info.take(OBJECT_IDENTIFIER)?.contents != SIGNED_DATA {
        return None;
    }
    let mut signed_data = content_info.enter(CONTEXT_0)?.enter(SEQUENCE)?;
    signed_data.take(INTEGER)?;
    signed_data.take(SET)?;
    signed_data.take(SEQUENCE)?;
    let mut set = signed_data.enter(CONTEXT_0)?;
    let mut certificates = Vec::new();
    while !set.is_empty() {
        certificates.push(CertificateDer::from(set.take(SEQUENCE)?.whole));
    }
    Some(certificates)
}

/// The SignedData of `certificates` in the form that MsQuic's `i2d_PKCS7` writes.
#[cfg(test)]
pub(super) fn encode(certificates: &[&[u8]]) -> Vec<u8> {
    use super::der::element;
    let data = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[DATA])]);
    let certificates = element(CONTEXT_0, certificates);
    let no_signers = element(SET, &[]);
    let signed_data = element(SEQUENCE, &[&[INTEGER, 1, 1], &element(SET, &[]), &data, &certificates, &no_signers]);
    let content_type = element(OBJECT_IDENTIFIER, &[SIGNED_DATA]);
    element(SEQUENCE, &[&content_type, &element(CONTEXT_0, &[&signed_data])]).to_vec()
}

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// 1.2.840.113549.1.7.1
#[cfg(test)]
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_out_in_order() {
        let (first, second) = ([SEQUENCE, 1, 7], [SEQUENCE, 2, 8, 9]);
        let der = encode(&[&first, &second]);
        assert_eq!(certificates(&der).unwrap(), [&first[..], &second].map(CertificateDer::from));
    }

    #[test]
    fn damaged_input_is_none_and_never_a_panic() {
        let der = encode(&[&[SEQUENCE, 1, 7]]);
        for end in 0..der.len() {
            assert!(certificates(&der[..end]).is_none(), "cut at {end}");
        }
        for position in 0..der.len() {
            let mut der = der.clone();
            der[position] ^= 0xff;
            // Some flips are harmless, such as one in the certificate; none may panic.
            let _ = certificates(&der);
        }
    }
}
