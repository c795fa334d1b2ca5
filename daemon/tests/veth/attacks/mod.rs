//! The attacks of the threat table against the running daemon: raw frames on a veth, and honest clients beside them.
//!
//! Every test ends with [`Bed::healthy`]: the process lives, a plain download works at once, every ledger sums up,
//! connections, timers and descriptors are back where they were, and hardly any memory was kept. One daemon with the
//! default settings goes through all the attacks that leave the lab as it was, and is drained at the end: what each of
//! them leaves behind adds up.
//!
//! | row | what is sent | file |
//! |---|---|---|
//! | A | floods of SYN, ACK, RST and FIN, reflection, LAND, bogus sources, illegal flags, half-open and hoarded connections, predictable numbers | `handshake` |
//! | A | hundreds of thousands of SYNs per second beside downloads and new connections | `flood` |
//! | B | RST, SYN, data, ACK and ICMP from off the path into live transfers; budgets of challenge ACKs; desynchronised peers | `off_path` |
//! | B | RST, SYN and old duplicates into TIME-WAIT | `time_wait` |
//! | C | truncation at every length, lying lengths and offsets, absurd options, bad and partial sums, fragments, mutations | `parsing` |
//! | D | tiny and disordered pieces, SACK games, ACK division, duplicate ACKs and ACKs of nothing, closed and tiny windows, slow heads | `resources` |
//! | D | endless pipelines, fast optimistic ACKs | `greed` |
//! | D | FINs that are never acknowledged, sides that are never ended, windows that never open | `endings` |
//! | E | VLAN tags, tunnels, padding, group addresses, ARP and NDP poisoning, foreign MAC addresses, answers of the kernel | `link` |

mod endings;
mod flood;
mod greed;
mod handshake;
mod link;
mod off_path;
mod parsing;
mod resources;
mod time_wait;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::Client;
use crate::daemon::{Daemon, Settings};
use crate::lab::{Lab, eventually};
use crate::raw::{Flow, Wire};
use crate::report::Report;
use crate::site::{KIB, MIB, Site};

/// What a download that works at once takes, on a machine that does other things too.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Memory that a daemon may have more after all its attacks than before: two huge pages. The file blocks come in those,
/// whenever one of them is used for the first time.
const KEPT: u64 = 4 << 20;

/// Survived everything so far, and waits for the next attack.
static SURVIVOR: Mutex<Option<Bed>> = Mutex::new(None);

/// One attack by a peer with an IPv4 address, and the same by one with an IPv6 address. Each has to leave nothing behind.
pub fn over_both_families(attack: impl Fn(&Bed, SocketAddr)) {
    let Some(mut bed) = Bed::new() else { return };
    for me in bed.wire.strangers(1) {
        attack(&bed, me);
        bed.rebase();
    }
    bed.healthy();
}

/// A daemon under attack.
pub struct Bed {
    shared: bool,
    pub wire: Wire,
    pub daemon: Daemon,
    pub site: Site,
    base: Base,
    // Last, because it ends what runs in it.
    pub lab: Lab,
}

/// What it holds when nobody is there.
struct Base {
    descriptors: usize,
    resident: u64,
    /// In the served directory.
    names: Vec<OsString>,
    report: Report,
}

impl Bed {
    /// The daemon that the attack before this one left, or the first. `None`, reported as a skip, without the rights.
    pub fn new() -> Option<Bed> {
        let survivor = SURVIVOR.lock().expect("nobody panics with it").take();
        let Some(mut bed) = survivor else {
            let bed = Bed::with(&[])?;
            return Some(Bed {
                shared: true,
                ..bed
            });
        };
        bed.rebase();
        Some(bed)
    }

    /// The next attack begins: its counters start here, once nothing is left of the one before. Memory and descriptors
    /// count from the beginning.
    pub fn rebase(&mut self) {
        self.wire.forget();
        self.base.report = self.daemon.settle();
    }

    /// A daemon of one's own that has served a bit: with other settings, or for a test that changes the lab.
    pub fn with(settings: Settings) -> Option<Bed> {
        let lab = Lab::new()?;
        let site = Site::within(&lab.scratch);
        site.file("small.bin", 16 * KIB);
        site.file("file.bin", 8 * MIB);
        // Segments one by one, as on a wire: a packet socket would see whole super-segments.
        let settings: Vec<_> = [("xdp.tx_lane", "\"copy\"")]
            .iter()
            .chain(settings)
            .copied()
            .collect();
        let daemon = Daemon::start(&lab, site.root(), &settings);
        let wire = Wire::open(&lab);
        // Everything that is made at first use is made now.
        for address in [lab.server.ipv4, lab.server.ipv6] {
            let client = Client::new(&lab.client, address);
            client.download(&site, "file.bin");
            client.download(&site, "small.bin");
        }
        let mut flow = Flow::open(&wire, wire.stranger(999));
        flow.ask("/small.bin");
        flow.read_file(&site.path("small.bin"));
        flow.reset();
        let base = Base {
            report: daemon.settle(),
            descriptors: daemon.descriptors(),
            resident: daemon.resident(),
            names: site.names(),
        };
        Some(Bed {
            shared: false,
            wire,
            daemon,
            site,
            base,
            lab,
        })
    }

    /// A client over kernel TCP and IPv4.
    pub fn client(&self) -> Client<'_> {
        Client::new(&self.lab.client, self.lab.server.ipv4)
    }

    /// The same over IPv6.
    pub fn client_v6(&self) -> Client<'_> {
        Client::new(&self.lab.client, self.lab.server.ipv6)
    }

    /// The same over the family of this address.
    pub fn client_of(&self, me: SocketAddr) -> Client<'_> {
        if me.is_ipv4() {
            self.client()
        } else {
            self.client_v6()
        }
    }

    /// How far a counter has come since the attack began.
    pub fn grown(&self, name: &str) -> u64 {
        self.since(&self.daemon.report(), &[name])
    }

    /// Waits until these counters have grown by `count` in all, and asserts that it is not more.
    pub fn counted(&self, names: &[&str], count: usize) {
        let count = u64::try_from(count).expect("a few");
        let limit = Duration::from_secs(5);
        eventually(&format!("{names:?} grow by {count}"), limit, || {
            let grown = self.since(&self.daemon.report(), names);
            assert!(
                grown <= count,
                "{names:?} grew by {grown} and not by {count}"
            );
            (grown == count).then_some(())
        });
    }

    fn since(&self, report: &Report, names: &[&str]) -> u64 {
        names
            .iter()
            .map(|name| report.get(name) - self.base.report.get(name))
            .sum()
    }

    /// A plain download, now.
    pub fn serves(&self) {
        let begun = Instant::now();
        self.client().download(&self.site, "small.bin");
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "a download of 16 KiB took {took:?}");
    }

    /// The end of an attack whose half-open handshakes nobody can take back: a drain ends them, and nothing else is left.
    pub fn healthy_after_drain(self) {
        self.serves();
        self.assert_small();
        self.daemon.signal(Signal::TERM);
        let report = self.daemon.ended();
        assert_none_missing(&self.base, &report);
    }

    /// What the process has of descriptors and memory, and the directory of files.
    fn assert_small(&self) {
        assert_eq!(self.daemon.descriptors(), self.base.descriptors);
        assert_eq!(self.site.names(), self.base.names);
        let kept = self.daemon.resident().saturating_sub(self.base.resident);
        assert!(kept <= KEPT, "{} KiB more than before", kept >> 10);
    }

    /// The end of every other attack.
    pub fn healthy(self) {
        self.serves();
        let report = self.daemon.settle();
        assert_none_missing(&self.base, &report);
        self.assert_small();
        if self.shared {
            *SURVIVOR.lock().expect("nobody panics with it") = Some(self);
        } else {
            self.daemon.finish();
        }
    }
}

/// No timer is armed any more, and there are as many frames and blocks as before. That each of them is where it
/// belongs is in every report (`Report::leftovers`).
fn assert_none_missing(base: &Base, report: &Report) {
    assert_eq!(report.get("timers"), 0, "{}", report.text());
    for total in ["frames_total", "blocks_total"] {
        assert_eq!(report.get(total), base.report.get(total), "{total}");
    }
}

// The last of them by its name, so that it drains the daemon that all the others attacked.
#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn when_all_is_over_a_drain_finds_nothing_left_behind() {
    let Some(bed) = Bed::new() else { return };
    bed.serves();
    bed.daemon.finish();
}
