//! Segments that belong to no connection: LISTEN, CLOSED and SYN-RECEIVED (RFC 9293 sections 3.10.7.1, 3.10.7.2 and
//! 3.10.7.4).
//!
//! A SYN gets an entry in the SYN table, or a cookie while the table is under pressure or its source has its share
//! of it. Neither is a connection: that begins with the final ACK, which is checked here as any segment of a
//! synchronized connection would be. So nobody who cannot receive at the address he claims costs more than 64 bytes
//! for some seconds, and under pressure nothing.

use core::net::IpAddr;
use core::time::Duration;

use sluice_wire::{TcpFlags, TcpHeader, TcpOptions};

use crate::clock::Instant;
use crate::config::{SYN_ACK_REPEATS_MAX, StackConfig};
use crate::connection::{Env, first_sequence_number};
use crate::ecn_terms::Contradiction;
use crate::flow_table::FlowKey;
use crate::handshake::{Handshake, Offer, SynAck};
use crate::isn;
use crate::segment::Segment;
use crate::seq::SeqNumber;
use crate::stats::SegmentDrop;
use crate::syn_cookie;
use crate::syn_table::{Due, EntryId, SynTable};

/// SYN-ACK repeats under pressure: an entry then makes room after 3 s instead of 63 s, and a client whose SYN-ACK
/// was lost has sent its SYN again by then.
const REPEATS_UNDER_PRESSURE: u8 = 1;
/// A source gets this part of the table, and at least so many entries of it.
const SOURCE_SHARE: u32 = 16;
const SOURCE_MIN: u32 = 16;
/// Over which cookies are counted.
const METER_PERIOD: Duration = Duration::from_secs(1);

/// What a segment for no connection asks for.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// It is the final ACK of this handshake: a connection begins. The entry, if there is one, goes with
    /// [`Listener::complete`].
    Complete(Handshake, Option<EntryId>),
    /// A SYN that has an entry. Its SYN-ACK leaves with the entries that are due, or with this answer.
    Pending(EntryId, Option<TcpHeader>),
    /// A SYN whose answer holds the handshake.
    Cookie(TcpHeader),
    /// For something that is not here: another worker may have it, else a RST is due.
    Stray,
    /// Nothing to be done, except perhaps a challenge ACK.
    Drop(SegmentDrop, Option<TcpHeader>),
}

/// Everything before a connection.
pub(crate) struct Listener {
    table: SynTable,
    /// Answers new handshakes by cookies until the table has room again.
    under_pressure: bool,
    accepting: bool,
    meter: CookieMeter,
}

impl Listener {
    pub(crate) fn new(config: &StackConfig, now: Instant) -> Self {
        Listener {
            table: SynTable::new(config.half_open, config.flow_hash_key, &config.rto, now),
            under_pressure: false,
            accepting: true,
            meter: CookieMeter::default(),
        }
    }

    pub(crate) fn table(&self) -> &SynTable {
        &self.table
    }

    pub(crate) fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// Whether more SYNs come than can be honest: the table is nearly full, or a table of cookies leaves per second.
    pub(crate) fn is_flooded(&self) -> bool {
        self.under_pressure || self.meter.count >= self.table.capacity()
    }

    /// Earliest moment at which [`Self::on_timers`] has something to do: also the end of a flood of cookies, which
    /// nothing else would notice.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let calm =
            (self.meter.count >= self.table.capacity()).then(|| self.meter.begun_at + METER_PERIOD);
        match (self.table.next_deadline(), calm) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Sorts a segment that matches no connection. `after` is the last sequence number of an earlier connection of
    /// the tuple; `room` says whether a connection slot is free.
    pub(crate) fn on_segment(
        &mut self,
        segment: &Segment<'_>,
        after: Option<SeqNumber>,
        room: bool,
        env: &mut Env<'_>,
    ) -> Arrival {
        if let Some(id) = self.table.find(&segment.key) {
            return self.on_half_open(id, segment, env);
        }
        if !can_converse(&segment.key) {
            return Arrival::Drop(SegmentDrop::BogusAddress, None);
        }
        match classify(segment.header) {
            Kind::Syn => self.open(segment, after, room, env),
            Kind::Acknowledgment => self.stray(segment, None, env),
            Kind::Unfit(reason) => Arrival::Drop(reason, None),
        }
    }

    /// LISTEN (RFC 9293 section 3.10.7.2): data and FIN on a SYN are not taken, they come again.
    fn open(
        &mut self,
        segment: &Segment<'_>,
        after: Option<SeqNumber>,
        room: bool,
        env: &mut Env<'_>,
    ) -> Arrival {
        if !self.accepting {
            return Arrival::Drop(SegmentDrop::Draining, None);
        }
        if !room {
            return Arrival::Drop(SegmentDrop::ConnectionsFull, None);
        }
        self.judge_pressure();
        let share = (self.table.capacity() / SOURCE_SHARE).max(SOURCE_MIN);
        let has_its_share = self.table.of_source(&segment.key) >= share;
        // A cookie cannot begin above the numbers of the connection before it, so a tuple fresh from TIME-WAIT gets
        // an entry, if need be another's. Who reopens has completed a handshake before.
        if after.is_none() && (self.under_pressure || has_its_share) {
            env.counters.syn_cookies_sent += 1;
            self.meter.on_sent(env.now);
            return Arrival::Cookie(syn_cookie::syn_ack(segment, env.config, env.now));
        }
        let key = segment.key;
        let handshake = Handshake {
            key,
            irs: SeqNumber::new(segment.header.seq),
            iss: first_sequence_number(isn::iss(env.now, &key, &env.config.secret), after),
            offer: Offer::of_syn(segment, env.config),
            syn_ack: SynAck::Several { repeats: 0 },
        };
        let mut entry = self.table.insert(&handshake);
        if entry.is_none() && self.table.evict_oldest() {
            env.counters.half_open_evicted += 1;
            entry = self.table.insert(&handshake);
        }
        match entry {
            Some(id) => Arrival::Pending(id, None),
            None => Arrival::Drop(SegmentDrop::HalfOpenFull, None),
        }
    }

    /// An ACK that fits no entry: the answer to a cookie, or for somebody else.
    fn stray(
        &mut self,
        segment: &Segment<'_>,
        entry: Option<EntryId>,
        env: &mut Env<'_>,
    ) -> Arrival {
        if let Some(handshake) = syn_cookie::accept(segment, env.config, env.now) {
            return Arrival::Complete(handshake, entry);
        }
        if self.meter.may_be_good(env.now) {
            env.counters.syn_cookies_failed += 1;
        }
        Arrival::Stray
    }

    /// SYN-RECEIVED, in the order of RFC 9293 section 3.10.7.4 with the answers of RFC 5961.
    fn on_half_open(&mut self, id: EntryId, segment: &Segment<'_>, env: &mut Env<'_>) -> Arrival {
        let header = segment.header;
        let handshake = self.table.handshake(id);
        let window = handshake.receiver(env.config).window;
        let seq = SeqNumber::new(header.seq);
        if header.flags.contains(TcpFlags::RST) {
            if window.distance_to_next(seq) == 0 {
                // Back to LISTEN (second check).
                env.counters.resets_received += 1;
                self.table.remove(id);
                return Arrival::Drop(SegmentDrop::ConnectionReset, None);
            }
            let answer = window.contains(seq);
            return self.refuse(id, &handshake, SegmentDrop::ResetNotExact, answer, env);
        }
        if header.flags.contains(TcpFlags::SYN) {
            if seq == handshake.irs && !header.flags.contains(TcpFlags::ACK) {
                return self.on_repeated_syn(id, segment, env);
            }
            return self.refuse(id, &handshake, SegmentDrop::SynInConnection, true, env);
        }
        let has_ack = header.flags.contains(TcpFlags::ACK);
        if has_ack && header.ack != handshake.iss.add(1).raw() {
            // Before the first check, because it is about whose the segment is: it may acknowledge the SYN-ACK of another
            // worker, or a cookie from before the entry. What is nobody's gets RST wherever it lies, as RFC 9293 section
            // 3.5.2 has it of an unacceptable ACK before the connection is open.
            let arrival = self.stray(segment, Some(id), env);
            if matches!(arrival, Arrival::Stray) {
                env.counters.drop(SegmentDrop::HandshakeAck);
            }
            return arrival;
        }
        match (
            handshake.timestamps(env.config, env.now),
            header.options.timestamps,
        ) {
            // RFC 7323 section 3.2.
            (Some(_), None) => return Arrival::Drop(SegmentDrop::TimestampMissing, None),
            // PAWS (RFC 7323 section 5.3, R1).
            (Some(state), Some(timestamps)) if state.is_old(timestamps.value, env.now) => {
                return self.refuse(id, &handshake, SegmentDrop::Paws, true, env);
            }
            _ => {}
        }
        if !window.is_acceptable(seq, segment.sequence_len()) {
            return self.refuse(id, &handshake, SegmentDrop::OutsideWindow, true, env);
        }
        if !has_ack {
            return Arrival::Drop(SegmentDrop::NoAck, None);
        }
        Arrival::Complete(handshake, Some(id))
    }

    /// Our SYN-ACK may be lost: it is said again without waiting for the timer.
    fn on_repeated_syn(&mut self, id: EntryId, segment: &Segment<'_>, env: &Env<'_>) -> Arrival {
        let header = segment.header;
        let known = self.table.handshake(id);
        let accept = env.config.accepts_ecn(segment.key.local_port());
        match (known.offer.ecn).on_repeated_syn(header.flags, segment.ecn, accept) {
            Ok(terms) => self.table.set_ecn(id, terms),
            Err(Contradiction) => {
                // Nobody could tell which of the two it goes on with.
                self.table.reset(id);
                return Arrival::Drop(SegmentDrop::SynInConnection, None);
            }
        }
        if let (Some(state), Some(timestamps)) = (
            known.timestamps(env.config, env.now),
            header.options.timestamps,
        ) && !state.is_old(timestamps.value, env.now)
        {
            self.table.set_ts_recent(id, timestamps.value);
        }
        let again = self.table.on_repeated_syn(id);
        let answer = again.then(|| self.table.handshake(id).syn_ack(env.config, env.now));
        Arrival::Pending(id, answer)
    }

    /// A segment that changes nothing; with a challenge ACK if it deserves one and the entry has one left.
    fn refuse(
        &mut self,
        id: EntryId,
        handshake: &Handshake,
        reason: SegmentDrop,
        answer: bool,
        env: &mut Env<'_>,
    ) -> Arrival {
        let challenge = (answer && self.table.take_challenge(id)).then(|| {
            env.counters.challenge_acks += 1;
            handshake.bare(TcpFlags::ACK, env.config, env.now)
        });
        Arrival::Drop(reason, challenge)
    }

    /// A connection was made of a handshake.
    pub(crate) fn complete(
        &mut self,
        handshake: &Handshake,
        entry: Option<EntryId>,
        env: &mut Env<'_>,
    ) {
        if let Some(id) = entry {
            self.table.remove(id);
        }
        if handshake.syn_ack == SynAck::Cookie {
            env.counters.syn_cookies_accepted += 1;
        }
    }

    /// Has a handshake reset. False if it is not under way any more.
    pub(crate) fn abort(&mut self, id: EntryId) -> bool {
        self.table.reset(id)
    }

    /// Serves at most `budget` due timers.
    pub(crate) fn on_timers(&mut self, budget: u32, env: &mut Env<'_>) {
        let repeats_max = if self.under_pressure {
            REPEATS_UNDER_PRESSURE
        } else {
            SYN_ACK_REPEATS_MAX
        };
        let expired = self.table.expire(env.now, repeats_max, budget);
        env.counters.half_open_timed_out += u64::from(expired.timed_out);
        env.counters.half_open_evicted += u64::from(expired.evicted);
        self.meter.pass(env.now);
        self.judge_pressure();
    }

    /// The next SYN-ACK or RST that a handshake sends.
    pub(crate) fn next_due(&mut self, env: &mut Env<'_>) -> Option<(EntryId, FlowKey, TcpHeader)> {
        let (id, due) = self.table.next_due(env.now)?;
        match due {
            Due::SynAck {
                handshake,
                repeated,
            } => {
                env.counters.retransmitted_syn_ack += u64::from(repeated);
                let header = handshake.syn_ack(env.config, env.now);
                Some((id, handshake.key, header))
            }
            Due::Reset(handshake) => {
                env.counters.resets_sent += 1;
                let flags = TcpFlags::RST.union(TcpFlags::ACK);
                let header = handshake.bare(flags, env.config, env.now);
                Some((id, handshake.key, header))
            }
        }
    }

    /// With cookies from three quarters of the table on, down to half of it.
    fn judge_pressure(&mut self) {
        let (len, capacity) = (self.table.len(), self.table.capacity());
        if len >= capacity - capacity / 4 {
            self.under_pressure = true;
        } else if len <= capacity / 2 {
            self.under_pressure = false;
        }
    }
}

/// How many cookies leave, and until when one that did can come back.
#[derive(Debug, Default)]
struct CookieMeter {
    begun_at: Instant,
    /// Cookies since then.
    count: u32,
    /// When the last cookie that was sent is no good any more.
    good_until: Option<Instant>,
}

impl CookieMeter {
    fn on_sent(&mut self, now: Instant) {
        self.pass(now);
        self.count = self.count.saturating_add(1);
        self.good_until = Some(now + 2 * syn_cookie::PERIOD);
    }

    fn pass(&mut self, now: Instant) {
        if now.saturating_since(self.begun_at) >= METER_PERIOD {
            self.begun_at = now;
            self.count = 0;
        }
    }

    fn may_be_good(&self, now: Instant) -> bool {
        self.good_until.is_some_and(|until| now <= until)
    }
}

/// A segment without connection by its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A clean SYN.
    Syn,
    /// It has an ACK, and neither SYN nor RST; or it is a SYN-ACK, which asks for a RST as well.
    Acknowledgment,
    /// Of no use.
    Unfit(SegmentDrop),
}

fn classify(header: &TcpHeader) -> Kind {
    let flags = header.flags;
    let syn = flags.contains(TcpFlags::SYN);
    if syn && flags.intersects(TcpFlags::FIN.union(TcpFlags::RST)) {
        return Kind::Unfit(SegmentDrop::IllegalFlags);
    }
    if flags.contains(TcpFlags::RST) {
        return Kind::Unfit(SegmentDrop::UnknownReset);
    }
    if flags.contains(TcpFlags::ACK) {
        return Kind::Acknowledgment;
    }
    if syn {
        return Kind::Syn;
    }
    Kind::Unfit(SegmentDrop::ListenNoSyn)
}

/// Whether two hosts can have this conversation (RFC 9293 MUST-57 and MUST-63). An answer to any other tuple would go
/// to many hosts, to nobody, or to ourselves (LAND). `sluice-wire` refuses the packets; this is for every driver.
fn can_converse(key: &FlowKey) -> bool {
    let is_host = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && v6.to_ipv4_mapped().is_none(),
    } && !address.is_multicast()
        && !address.is_loopback();
    let (local, remote) = (key.local(), key.remote());
    is_host(local) && is_host(remote) && local != remote
}

/// The RST that answers a segment for a closed port or an unknown flow (RFC 9293 section 3.10.7.1). `None`
/// for a RST, which is never answered.
pub(crate) fn refusal(segment: &Segment<'_>) -> Option<TcpHeader> {
    let header = segment.header;
    if header.flags.contains(TcpFlags::RST) {
        return None;
    }
    let (seq, ack, flags) = if header.flags.contains(TcpFlags::ACK) {
        (header.ack, 0, TcpFlags::RST)
    } else {
        let ack = header.seq.wrapping_add(segment.sequence_len());
        (0, ack, TcpFlags::RST.union(TcpFlags::ACK))
    };
    Some(TcpHeader {
        src_port: header.dst_port,
        dst_port: header.src_port,
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        options: TcpOptions::default(),
    })
}
