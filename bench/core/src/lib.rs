//! What the bench programs have in common: one program per QUIC stack, one command line, one way to
//! measure.
//!
//! A program is `bench_core::run::<ItsStack>()`. [`Stack`] says what a stack must be able to do;
//! stacks with an async interface implement [`Transport`] instead and get the workloads of
//! [`Async`] for it, so that they all run the same code. Client and server are in one process, or in
//! one each, and talk over loopback. The result is one line of JSON on stdout.
//!
//! | module      | what it is                                                           |
//! | ----------- | -------------------------------------------------------------------- |
//! | `plan`      | the command line                                                     |
//! | `limits`    | windows, limits and packet sizes, the same for all stacks            |
//! | `payload`   | what is sent, and how the receiver checks it                         |
//! | `identity`  | the server's certificate                                             |
//! | `process`   | time, CPU and memory of this process, and which CPUs its threads use |
//! | `half`      | [`Half`]: what client and server agree on, in one process or in two  |
//! | `stack`     | [`Stack`]                                                            |
//! | `transport` | [`Transport`]                                                        |
//! | `workloads` | [`Async`]: the workloads written against it                          |
//! | `run`       | one workload, measured and reported                                  |

mod half;
pub mod identity;
pub mod limits;
pub mod payload;
pub mod plan;
pub mod process;
mod run;
mod stack;
mod transport;
mod workloads;

pub use half::{Half, Side};
pub use identity::Identity;
pub use plan::{Bulk, Hold, Messages, Suite, Transfer, Work};
pub use run::run;
pub use stack::{Cost, Listening, Setup, Stack, histogram};
pub use transport::Transport;
pub use workloads::Async;
