//! Sendstream's errors in h3's words.
//!
//! Each variant is named, and what is unknown to h3 goes through whole. Sendstream's enums are
//! `#[non_exhaustive]`, so the compiler wants a last arm as well; a test here finds variants that
//! would reach it.

use std::sync::Arc;

use h3::quic::{ConnectionErrorIncoming, StreamErrorIncoming};
use h3_datagram::quic_traits::SendDatagramErrorIncoming;
use sendstream::{ConnectionError, OpenError, ReadError, SendDatagramError, StartError, WriteError};

pub(crate) fn connection(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed { code, .. } => {
            ConnectionErrorIncoming::ApplicationClose { error_code: code }
        }
        ConnectionError::TimedOut(_) => ConnectionErrorIncoming::Timeout,
        error @ (ConnectionError::LocallyClosed { .. }
        | ConnectionError::TransportClosed { .. }
        | ConnectionError::Refused
        | ConnectionError::CertificateRefused(_)
        | ConnectionError::Tls { .. }
        | ConnectionError::VersionMismatch
        | ConnectionError::Unreachable
        | ConnectionError::System(_)
        | ConnectionError::Forked) => ConnectionErrorIncoming::Undefined(Arc::new(error)),
        unknown => ConnectionErrorIncoming::Undefined(Arc::new(unknown)),
    }
}

pub(crate) fn open(error: OpenError) -> StreamErrorIncoming {
    match error {
        OpenError::ConnectionLost(cause) => lost(cause),
        error @ OpenError::ConnectionEnding => StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::Undefined(Arc::new(error)),
        },
        error @ OpenError::Native(_) => StreamErrorIncoming::Unknown(Box::new(error)),
        unknown => StreamErrorIncoming::Unknown(Box::new(unknown)),
    }
}

pub(crate) fn start(error: StartError) -> StreamErrorIncoming {
    match error {
        StartError::Stopped(error_code) => StreamErrorIncoming::StreamTerminated { error_code },
        StartError::ConnectionLost(cause) => lost(cause),
        error @ (StartError::LimitReached | StartError::Reset(_) | StartError::Finished | StartError::Native(_)) => {
            StreamErrorIncoming::Unknown(Box::new(error))
        }
        unknown => StreamErrorIncoming::Unknown(Box::new(unknown)),
    }
}

pub(crate) fn write(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(error_code) => StreamErrorIncoming::StreamTerminated { error_code },
        WriteError::ConnectionLost(cause) => lost(cause),
        WriteError::Start(error) => start(error),
        error @ (WriteError::Reset(_)
        | WriteError::Finished
        | WriteError::CodeOutOfRange(_)
        | WriteError::Native(_)) => StreamErrorIncoming::Unknown(Box::new(error)),
        unknown => StreamErrorIncoming::Unknown(Box::new(unknown)),
    }
}

pub(crate) fn read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(error_code) => StreamErrorIncoming::StreamTerminated { error_code },
        ReadError::ConnectionLost(cause) => lost(cause),
        error @ (ReadError::Stopped(_) | ReadError::NotStarted | ReadError::Native(_)) => {
            StreamErrorIncoming::Unknown(Box::new(error))
        }
        unknown => StreamErrorIncoming::Unknown(Box::new(unknown)),
    }
}

pub(crate) fn datagram(error: SendDatagramError) -> SendDatagramErrorIncoming {
    match error {
        SendDatagramError::TooLarge { .. } => SendDatagramErrorIncoming::TooLarge,
        SendDatagramError::UnsupportedByPeer | SendDatagramError::Native(_) => SendDatagramErrorIncoming::NotAvailable,
        SendDatagramError::ConnectionLost(cause) => SendDatagramErrorIncoming::ConnectionError(connection(cause)),
        _ => SendDatagramErrorIncoming::NotAvailable,
    }
}

fn lost(cause: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection(cause) }
}

#[cfg(test)]
mod tests {
    /// The variants of `pub enum name` in Rust source.
    fn variants<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
        let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let at_depth_one = body.lines().filter_map(|line| line.strip_prefix("    "));
        at_depth_one
            .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
            .map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap())
            .collect()
    }

    #[test]
    fn every_variant_is_mapped_by_its_name() {
        let connection_error = include_str!("../../sendstream/src/types/error.rs");
        let send_stream = include_str!("../../sendstream/src/send_stream.rs");
        let mapping = include_str!("error.rs");
        for (name, source, least) in [
            ("ConnectionError", connection_error, 11),
            ("OpenError", include_str!("../../sendstream/src/connection.rs"), 3),
            ("StartError", send_stream, 6),
            ("WriteError", send_stream, 7),
            ("ReadError", include_str!("../../sendstream/src/recv_stream.rs"), 5),
            ("SendDatagramError", include_str!("../../sendstream/src/datagram.rs"), 4),
        ] {
            let variants = variants(source, name);
            assert!(variants.len() >= least, "{name}: {variants:?}");
            for variant in variants {
                let full = format!("{name}::{variant}");
                let named = mapping.match_indices(&full).any(|(at, _)| {
                    !mapping[at + full.len()..].starts_with(|c: char| c.is_alphanumeric())
                        && !mapping[..at].ends_with(|c: char| c.is_alphanumeric())
                });
                assert!(named, "{full} has no arm of its own");
            }
        }
    }
}
