//! `sendstream http`: files over HTTP/3 (RFC 9114), both ends.
//!
//! | module        | what it is for                                                        |
//! | ------------- | --------------------------------------------------------------------- |
//! | `serve`       | `http serve`: listens, announces itself, drains when interrupted      |
//! | `tcp`         | the same by TCP, for browsers that do not know of HTTP/3 here yet     |
//! | `certificate` | what the server shows its clients                                     |
//! | `files`       | the served folder: what a request gets                                |
//! | `target`      | what a request's path stands for                                      |
//! | `conditions`  | whether a client has the content already                              |
//! | `ranges`      | which parts of it a request asks for                                  |
//! | `listing`     | pages for people                                                      |
//! | `log`         | the request log                                                       |
//! | `get`         | `http get`: fetches URLs                                              |
//! | `fetch`       | one URL, from its request to the end of its content                   |
//! | `origins`     | one connection to each server                                         |
//! | `sink`        | where content goes: a file that is complete, or standard output       |

use tokio::runtime::{Builder, Runtime};

use crate::{
    cli::{HttpArgs, HttpCommand},
    error::Failure,
};

pub(crate) use fetch::parse_url;

mod certificate;
mod conditions;
mod fetch;
mod files;
mod get;
mod listing;
mod log;
mod origins;
mod ranges;
mod serve;
mod sink;
mod target;
mod tcp;

/// Does one of both.
pub(crate) fn run(args: HttpArgs) -> Result<(), Failure> {
    match args.command {
        HttpCommand::Get(args) => get::run(args),
        HttpCommand::Serve(args) => serve::run(args),
    }
}

/// A runtime that also does the work of the QUIC connections that are made in it.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::new(format!("cannot start: {error}")))
}
