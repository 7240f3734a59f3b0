//! The tool as its users run it: separate processes, real files, loopback.
//!
//! | module       | what it holds                                                          |
//! | ------------ | ---------------------------------------------------------------------- |
//! | `support`    | a running receiver, a sender, files to send                            |
//! | `transfer`   | files that arrive, whatever their number, size and name                |
//! | `refusal`    | files and senders that are not let in, and what both ends say          |
//! | `storage`    | disks that are full or read-only                                       |
//! | `broken_off` | ends that are killed or interrupted in the middle                      |
//! | `resume`     | ends that are killed, stopped or cut off, and go on                    |
//! | `share`      | the other way round: one end waits with files, and others come for them |
//! | `sharer`     | sharers and getters made by hand that do not keep to the protocol      |
//! | `receiver_by_hand` | receivers made by hand at which `send` finds less than it expects |
//! | `truth`      | both ends agree, and nothing odd stops the rest                        |
//! | `stranger`   | peers made by hand that do not keep to the protocol                    |
//! | `crowd`      | many strangers at once                                                 |
//! | `memory`     | what strangers and senders make a receiver hold                        |
//! | `reach`      | two machines: tickets that reach, and what is said where nothing does  |
//! | `readme`     | every command of the READMEs, on two machines                          |
//! | `tickets`    | where a ticket may come from, and what may befall it                   |
//! | `terminals`  | what a terminal shows, and a pipe gets                                 |
//! | `peers`      | known peers, and settings that stay                                    |
//! | `commands`   | `demo`, `version`, wrong usage                                         |

#![forbid(unsafe_code)]

mod broken_off;
mod commands;
mod crowd;
#[cfg(target_os = "linux")]
mod memory;
mod peers;
#[cfg(target_os = "linux")]
mod reach;
#[cfg(target_os = "linux")]
mod readme;
mod receiver_by_hand;
mod refusal;
mod resume;
mod share;
mod sharer;
mod storage;
mod stranger;
mod support;
mod terminals;
mod tickets;
mod transfer;
mod truth;
