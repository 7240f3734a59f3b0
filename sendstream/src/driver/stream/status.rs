//! What MsQuic's statuses mean to a stream: which of them say that something is going, and which
//! are failures.

use sendstream_core::stream::cause::{Refused, StartFailed};

use crate::types::error::NativeError;

/// What it means that MsQuic answered a call with `status`.
pub(super) fn refused(status: NativeError) -> Refused {
    match status {
        NativeError::ABORTED | NativeError::INVALID_STATE => Refused::Going,
        status => Refused::Failed(status.into()),
    }
}

/// What it means that START_COMPLETE came with `status`.
pub(super) fn start_failed(status: NativeError) -> StartFailed {
    match status {
        NativeError::STREAM_LIMIT_REACHED => StartFailed::LimitReached,
        NativeError::ABORTED | NativeError::INVALID_STATE => StartFailed::Going,
        status => StartFailed::Failed(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_has_its_cause_elsewhere() {
        for status in [NativeError::ABORTED, NativeError::INVALID_STATE] {
            assert_eq!(refused(status), Refused::Going);
            assert_eq!(start_failed(status), StartFailed::Going);
        }
        let status = NativeError::OUT_OF_MEMORY;
        assert_eq!(refused(status), Refused::Failed(status.into()));
        assert_eq!(start_failed(status), StartFailed::Failed(status.into()));
    }

    #[test]
    fn the_limit_is_told_apart_where_a_start_may_meet_it() {
        let status = NativeError::STREAM_LIMIT_REACHED;
        assert_eq!(start_failed(status), StartFailed::LimitReached);
        assert_eq!(refused(status), Refused::Failed(status.into()));
    }
}
