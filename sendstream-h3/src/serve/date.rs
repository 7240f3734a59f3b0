//! The `date` of responses (RFC 9110 §6.6.1).

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;

/// Now, in whole seconds. Each thread keeps the text for as long as it is true.
pub(super) fn now() -> HeaderValue {
    thread_local! {
        static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let time = SystemTime::now();
    let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|last| match last {
        Some((of, text)) if *of == second => text.clone(),
        _ => {
            let text = HeaderValue::try_from(httpdate::fmt_http_date(time)).expect("a date is plain text");
            *last = Some((second, text.clone()));
            text
        }
    })
}
