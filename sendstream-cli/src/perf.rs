//! `sendstream perf`: what a path carries, measured between two ends.
//!
//! | module        | what it is for                                                          |
//! | ------------- | ----------------------------------------------------------------------- |
//! | `cli`         | what can be typed                                                        |
//! | `serve`       | `perf serve`: listens, and serves one run at a time                      |
//! | `served`      | one run there, and what is said of it                                     |
//! | `admission`   | clients that have not shown the token yet                                |
//! | `run`         | `perf run`: a run, and its results                                       |
//! | `measure`     | the run itself, from its connection to what is known in the end          |
//! | `target`      | a ticket, or where an open server is                                     |
//! | `plan`        | what a run does: agreed on before it begins                              |
//! | `protocol`    | the bytes between the two ends, without a network                        |
//! | `control`     | the same on their stream                                                 |
//! | `party`       | one end of a run, from its beginning to both ends' reports               |
//! | `sending`, `receiving`, `ping_pong`, `handshakes` | what is measured                     |
//! | `counts`, `latency` | what went by, and how long it took                                 |
//! | `tasks`, `run_error` | the tasks of a run; why it broke off                              |
//! | `transport`   | how both ends set up their connection                                    |
//! | `failure`     | what the user is told when it broke off                                  |
//! | `sampling`    | looks at a run again and again while it goes on                          |
//! | `outcome`     | all that is known of a run in the end                                    |
//! | `lines`, `units`, `json` | the same as iperf3 writes it                                  |
//! | `page`, `chart` | the same as a page for people                                          |

use crate::error::Failure;

pub(crate) use cli::PerfArgs;

mod admission;
mod chart;
mod cli;
mod control;
mod counts;
mod failure;
mod handshakes;
mod json;
mod latency;
mod lines;
mod measure;
mod outcome;
mod page;
mod party;
mod ping_pong;
mod plan;
mod protocol;
mod receiving;
mod run;
mod run_error;
mod sampling;
mod sending;
mod serve;
mod served;
mod target;
mod tasks;
mod transport;
mod units;

/// Does one of both.
pub(crate) fn run(args: PerfArgs) -> Result<(), Failure> {
    match args.command {
        cli::PerfCommand::Serve(args) => serve::run(args),
        cli::PerfCommand::Run(args) => run::run(args),
    }
}
