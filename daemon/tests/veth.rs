//! The daemon on a veth pair, with kernel TCP as its clients: `make test-veth`.
//!
//! Every test builds its own network ([`lab`]), runs the release binary in it ([`daemon`]), and ends by holding
//! the ledgers of the daemon against each other: frames, blocks, connections, files. Clients are curl, which
//! also compares lengths and ranges, and plain sockets where a client must misbehave. A number that a test waits
//! for is polled with a limit; nothing sleeps and hopes.

#[path = "veth/attacks/mod.rs"]
mod attacks;
#[path = "veth/client.rs"]
mod client;
#[path = "veth/daemon.rs"]
mod daemon;
#[path = "veth/ecn.rs"]
mod ecn;
#[path = "veth/faults.rs"]
mod faults;
#[path = "veth/gather.rs"]
mod gather;
#[path = "../../bench/src/flood/generator.rs"]
mod generator;
#[path = "veth/lab.rs"]
mod lab;
#[path = "veth/lifecycle.rs"]
mod lifecycle;
mod names;
#[path = "veth/napi.rs"]
mod napi;
#[path = "veth/path_mtu.rs"]
mod path_mtu;
#[expect(dead_code, reason = "the link emulator uses more of it")]
#[path = "../../bench/src/link/port.rs"]
mod port;
#[path = "veth/queues.rs"]
mod queues;
#[path = "veth/raw.rs"]
mod raw;
#[path = "veth/report.rs"]
mod report;
#[path = "veth/site.rs"]
mod site;
#[path = "skip.rs"]
mod skip;
#[path = "veth/startup.rs"]
mod startup;
#[path = "veth/transfers.rs"]
mod transfers;
#[path = "veth/uploads.rs"]
mod uploads;
