//! The TCP of Sluice, sans-I/O.
//!
//! [`Stack`] owns every connection of one worker. It gets parsed headers and `now`, and returns headers to
//! send, events and the next deadline; it never sees a packet buffer, a socket, a clock or a thread, so the
//! worker, the simulator, the fuzzer and the packet dialogues drive the same code.
//!
//! Neither direction owns payload. A connection keeps *stream offsets*: the driver learns which bytes of a
//! segment are new ([`Receipt::pieces`]) and which range of its own stream to put behind a header
//! ([`Outgoing::payload`]), and supplies or keeps the bytes itself.
//!
//! One role per file, as the RFCs divide them:
//!
//! | file | role | RFC |
//! |---|---|---|
//! | `stack` | flows, timers, order of work | 9293 3.10 |
//! | `listener`, `handshake`, `syn_table`, `syn_cookie`, `isn` | before a connection | 9293, 4987, 6528 |
//! | `time_wait` | after a connection | 9293, 6191, 1337 |
//! | `connection`, `input`, `output` | one connection: state, arriving and leaving segments | 9293, 5961 |
//! | `receive`, `ranges` | sequence space of the peer, acknowledgements, SACK, DSACK | 9293, 2018, 2883, 5681 |
//! | `send` | our sequence space, windows | 9293 |
//! | `scoreboard`, `loss` | what the peer holds, what is lost, what to send again | 6675, 6582 |
//! | `rtt` | smoothed RTT and the retransmission time-out | 6298 |
//! | `congestion/*` | congestion window | 5681, 9438, 6928 |
//! | `timestamps` | RTTM and PAWS | 7323 |
//! | `challenge` | limit of challenge ACKs | 5961 |
//! | `deadlines`, `wheel` | every state has a deadline | 9293 3.8 |

#![forbid(unsafe_code)]

mod challenge;
pub mod clock;
pub mod config;
pub mod congestion;
mod connection;
mod deadlines;
pub mod events;
pub mod flow_table;
mod handshake;
mod input;
pub mod isn;
mod listener;
mod loss;
mod output;
pub mod ranges;
mod receive;
pub mod rtt;
mod scoreboard;
mod segment;
mod send;
pub mod seq;
pub mod stack;
pub mod state;
pub mod stats;
mod syn_cookie;
mod syn_table;
mod time_wait;
mod timestamps;
pub mod wheel;

pub use config::StackConfig;
pub use events::{CloseReason, ConnId, Events};
pub use receive::NewBytes;
pub use segment::{Disposition, Outgoing, Receipt, Segment, SendView};
pub use stack::Stack;
pub use state::State;
pub use stats::{SegmentDrop, StackCounters};
