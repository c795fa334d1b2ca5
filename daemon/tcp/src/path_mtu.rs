//! Path MTU of one connection: what is known about the largest packet that gets through, and what to try next.
//!
//! Two things lower it: a router that says so (RFC 1191, RFC 8201), and a long segment at SND.UNA that vanishes
//! twice (a black hole, RFC 8899 section 4.3). One raises it: a probe that arrived. Ten minutes after it was lowered, the size that the handshake allowed is tried again, and the usual
//! sizes below that, largest first; a size is given up after three probes that were lost alone. Invariant:
//! floor <= `mtu` <= `ceiling`, unless the handshake agreed on less than the floor; then nothing ever changes.
//!
//! Values in, decisions out: `segment_size` carries them out. No timer belongs to it, because a probe is made of
//! data that wants to leave anyway: an idle connection costs these few bytes and nothing else.

use core::time::Duration;

use crate::clock::Instant;
use crate::path_probe::Probed;

mod rest;

pub(crate) use rest::RestingPathMtu;

/// Smallest IPv4 path that is believed in, as in Linux. Every link must carry 68 bytes (RFC 791), and who claims such
/// a path wants our packets to be many and small.
const FLOOR_V4: u16 = 552;
/// Every IPv6 link carries this much (RFC 8200 section 5).
const FLOOR_V6: u16 = 1280;
/// RFC 1191 section 7, for routers that do not say how much would pass.
const PLATEAUS: [u16; 8] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492, 1006];
/// What is tried where a black hole is suspected: few, since each wrong one costs a time-out. 1,400 fits into most
/// tunnels and 1,280 is what IPv6 asks of every link.
const STEPS_DOWN: [u16; 4] = [1500, 1400, 1280, 1024];
/// What is tried on the way up below the first size: a lost probe costs little. Jumbo frames and the plateaus above
/// Ethernet; then Ethernet itself, PPPoE, tunnels (IP in IP, VXLAN, WireGuard), and the steps down.
const STEPS_UP: [u16; 14] = [
    32_000, 17_914, 9000, 8166, 4352, 2002, 1500, 1492, 1480, 1450, 1420, 1400, 1280, 1024,
];
/// PMTU_RAISE_TIMER (RFC 8899 section 5.1.1; RFC 8201 section 4 recommends the same).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// PROBE_TIMER (RFC 8899 section 5.1.1: at least a second).
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// MAX_PROBES (RFC 8899 section 5.1.2).
const PROBES_MAX: u8 = 3;
/// Losses in a row of the same segment that make a black hole: once is congestion.
const VANISHED_MAX: u8 = 2;

/// What a connection makes of a router's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Segments have to be shorter.
    Lowered,
    /// The probe in flight did not pass; full segments do.
    ProbeRefused,
    /// Our segments are not longer than that.
    NotSmaller,
    /// Less than any path has to carry.
    TooSmall,
}

/// What is known about the path. Sizes are bytes of IP packets.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// PLPMTU: what full segments fill.
    mtu: u16,
    /// What the interface and the peer's MSS allow.
    ceiling: u16,
    floor: u16,
    /// Smallest size that is known not to pass since the search began; 0 while there is none.
    refused: u16,
    /// Size of the probe in flight; 0 while there is none.
    probing: u16,
    /// What was given up for a black hole and is returned to if that was none; 0 otherwise.
    before: u16,
    /// No probe before this second of the clock.
    probe_at_s: u32,
    /// Probes of the size under test that were lost.
    lost_probes: u8,
    /// Times that the segment at SND.UNA was lost.
    vanished: u8,
    /// `refused` is a router's word: one byte less passes.
    told: bool,
}

impl PathMtu {
    /// A path that is taken to carry the `ceiling` until it shows otherwise.
    pub(crate) fn new(ceiling: u16, ipv6: bool) -> Self {
        PathMtu {
            mtu: ceiling,
            ceiling,
            floor: if ipv6 { FLOOR_V6 } else { FLOOR_V4 },
            refused: 0,
            probing: 0,
            before: 0,
            probe_at_s: 0,
            lost_probes: 0,
            vanished: 0,
            told: false,
        }
    }

    /// Bytes of the IP packet that a full segment fills.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// A router says that `mtu` bytes pass; 0 from one older than RFC 1191. The caller has checked that what it
    /// quotes is in flight, and whether that is the probe.
    pub(crate) fn on_told(&mut self, mtu: u32, quotes_probe: bool, now: Instant) -> Told {
        let quoted = if quotes_probe { self.probing } else { self.mtu };
        let mtu = match u16::try_from(mtu).unwrap_or(u16::MAX) {
            0 if self.floor == FLOOR_V4 => self.plateau_below(quoted),
            mtu => mtu,
        };
        if mtu < self.floor {
            Told::TooSmall
        } else if mtu < self.mtu {
            self.mtu = mtu;
            self.vanished = 0;
            self.before = 0;
            self.end_search(now);
            Told::Lowered
        } else if quotes_probe && mtu < self.probing {
            // RFC 8899 section 4.6.1: the size to try next.
            self.refuse(mtu + 1, true, now);
            Told::ProbeRefused
        } else {
            Told::NotSmaller
        }
    }

    fn plateau_below(&self, mtu: u16) -> u16 {
        let lower = PLATEAUS.into_iter().find(|plateau| *plateau < mtu);
        lower.unwrap_or(self.floor).max(self.floor)
    }

    /// The segment at SND.UNA is lost once more, a packet of `size` bytes. True if shorter ones are to be tried.
    ///
    /// It need not be a full one: the end of a short response is as good as gone if it is too long for the path.
    pub(crate) fn on_vanished(&mut self, size: u16, now: Instant) -> bool {
        if size <= self.floor || self.mtu <= self.floor {
            return false;
        }
        self.vanished = self.vanished.saturating_add(1);
        if self.vanished < VANISHED_MAX {
            return false;
        }
        if self.before == 0 {
            self.before = self.mtu;
        }
        let lower = STEPS_DOWN.into_iter().find(|step| *step < size);
        self.mtu = lower.unwrap_or(self.floor).max(self.floor);
        self.end_search(now);
        true
    }

    /// The segment at SND.UNA arrived, or a full one: this size passes.
    pub(crate) fn on_passed(&mut self) {
        self.vanished = 0;
        self.before = 0;
    }

    /// What was held lost was late: there was no black hole. True if segments may be as long as before.
    pub(crate) fn on_spurious(&mut self) -> bool {
        let before = core::mem::take(&mut self.before);
        self.vanished = 0;
        let restored = before > self.mtu;
        self.mtu = self.mtu.max(before);
        restored
    }

    /// The size of the probe to send now, if any.
    pub(crate) fn next_probe(&self, now: Instant) -> Option<u16> {
        if self.mtu >= self.ceiling || self.probing != 0 || seconds(now) < self.probe_at_s {
            return None;
        }
        self.candidate()
    }

    fn candidate(&self) -> Option<u16> {
        let size = match self.refused {
            0 => Some(self.ceiling),
            refused if self.told => Some(refused - 1),
            refused => STEPS_UP.into_iter().find(|step| *step < refused),
        };
        size.filter(|size| *size > self.mtu)
    }

    /// A probe of `size` bytes left.
    pub(crate) fn on_probe_sent(&mut self, size: u16) {
        self.probing = size;
    }

    /// The fate of the probe is known.
    pub(crate) fn on_probed(&mut self, probed: Probed, now: Instant) {
        let size = core::mem::take(&mut self.probing);
        match probed {
            // Else it was settled by a router before.
            _ if size == 0 => {}
            Probed::Delivered => {
                self.mtu = self.mtu.max(size);
                self.lost_probes = 0;
                self.on_passed();
                self.search_on(now, Duration::ZERO);
            }
            Probed::Refused => {
                self.lost_probes += 1;
                if self.lost_probes >= PROBES_MAX {
                    self.refuse(size, false, now);
                } else {
                    self.probe_at_s = seconds_up(now + PROBE_AFTER);
                }
            }
            Probed::Unclear => self.probe_at_s = seconds_up(now + PROBE_AFTER),
        }
    }

    fn refuse(&mut self, size: u16, told: bool, now: Instant) {
        self.refused = size;
        self.told = told;
        self.probing = 0;
        self.lost_probes = 0;
        self.search_on(now, if told { Duration::ZERO } else { PROBE_AFTER });
    }

    fn search_on(&mut self, now: Instant, after: Duration) {
        if self.candidate().is_some() && self.refused != 0 {
            self.probe_at_s = seconds(now + after);
        } else {
            self.end_search(now);
        }
    }

    /// Nothing more to try until the path may have changed.
    fn end_search(&mut self, now: Instant) {
        self.refused = 0;
        self.told = false;
        self.probing = 0;
        self.lost_probes = 0;
        self.probe_at_s = seconds_up(now + RAISE_AFTER);
    }
}

fn seconds(at: Instant) -> u32 {
    u32::try_from(at.as_millis() / 1000).unwrap_or(u32::MAX)
}

fn seconds_up(at: Instant) -> u32 {
    seconds(at).saturating_add(1)
}

#[cfg(test)]
mod tests;
