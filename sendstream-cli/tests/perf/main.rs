//! `sendstream perf` as its users run it, and as nobody should.
//!
//! | module           | what it holds                                                     |
//! | ---------------- | ----------------------------------------------------------------- |
//! | `support`        | a server, clients of it                                           |
//! | `runs`           | what each load measures, and what both ends say of it             |
//! | `refused`        | runs that may not be, and what the user is told                   |
//! | `hostile_client` | clients made by hand that do not keep to what was agreed on       |
//! | `hostile_server` | servers made by hand that do not                                  |
//! | `network`        | what is reported beside what the interface has counted            |
//! | `page`           | the page, and what a person sees of it                            |
//! | `browser`        | Chromium without a window, as the tests of `http` run it          |

#![forbid(unsafe_code)]

#[path = "../http/browser.rs"]
mod browser;
mod hostile_client;
mod hostile_server;
#[cfg(target_os = "linux")]
mod network;
mod page;
mod refused;
mod runs;
mod support;
