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
//! | `stack`, `queues` | flows, timers, order of work, whose turn it is | 9293 3.10 |
//! | `slots`, `rest`, `pool` | where connections live: packed while they are idle, in a box of the pool else | |
//! | `listener`, `handshake`, `syn_table`, `syn_cookie`, `isn` | before a connection | 9293, 4987, 6528 |
//! | `ack_run` | acknowledgements of one batch that are taken as one | 9293 3.4, 3465, 5961 |
//! | `open` | active and simultaneous open | 9293 |
//! | `time_wait` | after a connection | 9293, 6191, 1337 |
//! | `connection`, `input`, `output` | one connection: state, arriving and leaving segments | 9293, 5961 |
//! | `receive`, `held`, `ranges` | sequence space of the peer, window, acknowledgements, SACK, DSACK | 9293, 2018, 2883, 5681 |
//! | `send` | our sequence space, windows | 9293 |
//! | `runs` | segments that leave as one | |
//! | `autotune`, `budget` | how large windows and flights may get, and who shares the memory | DRS |
//! | `flight`, `flight_pool`, `rings` | what was sent when, what the peer holds of it, and the memory for that | 8985, 6675 |
//! | `rack`, `tail_probe`, `prr`, `undo`, `duplicates` | what is lost, how a tail shows it, how much leaves meanwhile, what was a mistake, peers without SACK | 8985, 9937, 5682, 3522, 6582 |
//! | `outstanding`, `verdict`, `loss`, `recovery` | the phases of a recovery, their memory, and what the connection does in them | 5681, 6298 |
//! | `path_mtu`, `path_probe`, `segment_size` | how long segments are | 1191, 8201, 4821, 8899 |
//! | `icmp` | what is believed of an error | 5927, 1122 |
//! | `rtt` | smoothed RTT and the retransmission time-out | 6298 |
//! | `congestion/*` | congestion window and pacing rate | 5681, 9438, 9406, 8257, 6928, draft BBR |
//! | `control` | where the two meet what follows | |
//! | `delivery_rate`, `markers` | how fast the path delivers | draft delivery rate estimation |
//! | `pacing` | when a segment may leave | |
//! | `validation` | whether the window is in use | 7661 |
//! | `ecn` | congestion marks | 3168, 8511 |
//! | `timestamps` | RTTM and PAWS | 7323 |
//! | `challenge` | limit of challenge ACKs | 5961 |
//! | `record`, `event_ring` | what a connection did with its time, and its last events | |
//! | `skip` | peers that acknowledge what they cannot have | 9293 3.10.7.4 |
//! | `deadlines`, `wheel` | every state has a deadline | 9293 3.8 |

#![forbid(unsafe_code)]
// They panic when nobody reads; what is to be said goes to the caller.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod accecn;
mod ack_run;
pub mod autotune;
pub mod budget;
mod challenge;
pub mod clock;
pub mod config;
pub mod congestion;
mod connection;
mod control;
mod deadlines;
pub mod delivery_rate;
mod duplicates;
mod ecn;
pub mod ecn_terms;
pub mod event_ring;
pub mod events;
mod flight;
mod flight_pool;
pub mod flow_table;
mod handshake;
mod held;
mod icmp;
mod input;
pub mod isn;
mod listener;
mod loss;
mod markers;
mod open;
mod output;
mod outstanding;
pub mod pacing;
mod path_mtu;
mod path_probe;
mod pool;
mod prr;
mod queues;
mod rack;
pub mod ranges;
mod receive;
pub mod record;
mod recovery;
mod rest;
mod rings;
pub mod rtt;
mod runs;
mod segment;
mod segment_size;
mod send;
pub mod seq;
pub mod skip;
mod slots;
pub mod stack;
pub mod state;
pub mod stats;
mod syn_cookie;
mod syn_table;
mod tail_probe;
mod time_wait;
mod timestamps;
mod undo;
mod validation;
mod verdict;
mod waiting;
pub mod wheel;

pub use ack_run::{AckRun, AckRuns, Joining};
pub use autotune::{Autotune, BuffersView};
pub use budget::BudgetView;
pub use config::StackConfig;
pub use events::{CloseReason, ConnId, Events};
pub use receive::NewBytes;
pub use record::{Awaited, Cause, ConnectionRecord, Repeat};
pub use runs::RunLimit;
pub use segment::{ControlView, Disposition, EcnView, Outgoing, Receipt, Segment, SendView};
pub use stack::{ConnectError, Stack};
pub use state::State;
pub use stats::{IcmpVerdict, SegmentDrop, StackCounters};
