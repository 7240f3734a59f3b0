//! `sendstream http` as its users run it, with clients and servers of our own and of others.
//!
//! | module     | what it holds                                                          |
//! | ---------- | ---------------------------------------------------------------------- |
//! | `support`  | a served folder, a client that asks for anything, a server of anything |
//! | `serve`    | what clients get of a folder, the log, and how it ends                 |
//! | `get`      | what becomes of URLs                                                   |
//! | `tcp`      | the same folder by TCP                                                 |
//! | `gtls`     | ngtcp2's `gtlsclient` and `gtlsserver`                                 |
//! | `aioquic`  | aioquic's HTTP/3, over good and bad networks                           |
//! | `chromium` | a browser that follows a link of a listing                             |
//! | `browser`  | Chromium without a window                                              |

#![forbid(unsafe_code)]

mod aioquic;
mod browser;
mod chromium;
mod get;
mod gtls;
mod serve;
mod support;
mod tcp;
