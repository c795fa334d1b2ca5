//! SYN cookies (RFC 4987 section 3.6): the whole handshake in the numbers of the SYN-ACK, nothing kept here.
//!
//! ```text
//! ISS   1 bit parity of the period | 3 bits MSS class | 28 bits SipHash-2-4 of period, tuple, IRS, class, options
//! TSval upper 26 bits the clock of the tuple | 1 ECN | 1 SACK-permitted | 4 window scale (15: none)
//! ```
//!
//! A period lasts 64 s and its number is part of what is hashed, so each period has numbers of its own; a cookie
//! is good in its period and the next one. The parity bit says which of the two, so a forged ACK costs one hash.
//! The options are hashed too: a peer cannot change them, nor answer without the timestamps that carry them. A
//! peer without timestamps gets the MSS and nothing else. Accurate ECN needs no bit: the ACK of the SYN-ACK tells that
//! it was agreed on (RFC 9768 section 5.1), so the ECN bit is that of RFC 3168. All workers share the secret and the clock, so a
//! cookie is good on every one of them.

use core::time::Duration;

use sluice_wire::{TcpFlags, TcpHeader, Timestamps};

use crate::clock::Instant;
use crate::config::StackConfig;
use crate::ecn_terms::EcnTerms;
use crate::flow_table::FlowKey;
use crate::handshake::{Handshake, Offer, SynAck};
use crate::isn::{self, Secret};
use crate::segment::Segment;
use crate::seq::SeqNumber;

/// A cookie is good for at least one and at most two of these.
pub(crate) const PERIOD: Duration = Duration::from_secs(64);

/// What the peer's MSS is rounded down to: the least we use, the defaults of both families, tunnels, PPPoE and
/// IPv6 over Ethernet, Ethernet, jumbo frames.
const MSS_CLASSES: [u16; 8] = [216, 536, 1220, 1360, 1400, 1440, 1460, 8940];

const PARITY_SHIFT: u32 = 31;
const CLASS_SHIFT: u32 = 28;
const HASH_MASK: u32 = (1 << CLASS_SHIFT) - 1;

/// Bits of the timestamp that hold options: 64 ms of its clock.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const SCALE_MASK: u8 = 0x0f;
const SCALE_NONE: u8 = 0x0f;
const SACK: u8 = 0x10;
const ECN: u8 = 0x20;
/// Hashed in place of the option bits when there are no timestamps; no option bits look like it.
const NO_OPTIONS: u8 = 0xff;

/// The SYN-ACK that holds the handshake of this SYN.
pub(crate) fn syn_ack(segment: &Segment<'_>, config: &StackConfig, now: Instant) -> TcpHeader {
    let key = segment.key;
    let offer = Offer::of_syn(segment, config);
    let class = mss_class(offer.mss);
    let bits = offer.timestamp.map(|_| option_bits(&offer));
    let facts = Facts {
        period: period(now),
        irs: segment.header.seq,
        class,
        options: bits.unwrap_or(NO_OPTIONS),
    };
    let handshake = Handshake {
        key,
        irs: SeqNumber::new(segment.header.seq),
        iss: SeqNumber::new(facts.cookie(&key, &config.secret)),
        offer: Offer {
            ecn: if offer.ecn.is_accurate() {
                offer.ecn
            } else {
                ecn_of(bits.unwrap_or(SCALE_NONE))
            },
            ..kept(offer.timestamp, class, bits.unwrap_or(SCALE_NONE))
        },
        syn_ack: SynAck::Cookie,
    };
    let mut header = handshake.syn_ack(config, now);
    if let (Some(timestamps), Some(bits)) = (&mut header.options.timestamps, bits) {
        timestamps.value = with_options(timestamps.value, bits);
    }
    header
}

/// The handshake that this ACK completes, if it acknowledges a cookie of ours that is still good.
pub(crate) fn accept(
    segment: &Segment<'_>,
    config: &StackConfig,
    now: Instant,
) -> Option<Handshake> {
    let (key, header, secret) = (segment.key, segment.header, &config.secret);
    let unfit = TcpFlags::SYN.union(TcpFlags::RST);
    if !header.flags.contains(TcpFlags::ACK) || header.flags.intersects(unfit) {
        return None;
    }
    let cookie = header.ack.wrapping_sub(1);
    let irs = header.seq.wrapping_sub(1);
    let timestamps = header.options.timestamps;
    let class = usize::try_from(cookie >> CLASS_SHIFT).ok()? % MSS_CLASSES.len();
    let bits = timestamps.map(|timestamps| low_bits(timestamps.echo));
    let facts = Facts {
        period: period_of(cookie, now)?,
        irs,
        class,
        options: bits.unwrap_or(NO_OPTIONS),
    };
    if facts.cookie(&key, secret) != cookie {
        return None;
    }
    if let Some(timestamps) = timestamps
        && !is_recent(&timestamps, &key, secret, now)
    {
        return None;
    }
    let mut offer = kept(
        timestamps.map(|timestamps| timestamps.value),
        class,
        bits.unwrap_or(SCALE_NONE),
    );
    if offer.ecn == EcnTerms::None {
        let accept = config.accepts_ecn(key.local_port());
        offer.ecn = EcnTerms::of_cookie_ack(header.flags, segment.payload_len > 0, accept);
    }
    Some(Handshake {
        key,
        irs: SeqNumber::new(irs),
        iss: SeqNumber::new(cookie),
        offer,
        syn_ack: SynAck::Cookie,
    })
}

/// What a cookie vouches for.
struct Facts {
    period: u64,
    irs: u32,
    class: usize,
    options: u8,
}

impl Facts {
    fn cookie(&self, key: &FlowKey, secret: &Secret) -> u32 {
        // At most eight classes.
        let class = u8::try_from(self.class).unwrap_or(0);
        let mut message = [0u8; 50];
        message[..8].copy_from_slice(&self.period.to_le_bytes());
        message[8..12].copy_from_slice(&self.irs.to_le_bytes());
        message[12] = class;
        message[13] = self.options;
        let digest = key.digest();
        let tuple = digest.as_slice();
        let len = 14 + tuple.len();
        message[14..len].copy_from_slice(tuple);
        let hash = isn::cookie_hash(&message[..len], secret) & HASH_MASK;
        let parity = u32::from(self.period & 1 == 1);
        (parity << PARITY_SHIFT) | (u32::from(class) << CLASS_SHIFT) | hash
    }
}

fn period(now: Instant) -> u64 {
    now.as_millis() / 1000 / PERIOD.as_secs()
}

/// The period a cookie can be of: this one or the last one, whichever has its parity.
fn period_of(cookie: u32, now: Instant) -> Option<u64> {
    let current = period(now);
    if u64::from(cookie >> PARITY_SHIFT) == current & 1 {
        Some(current)
    } else {
        current.checked_sub(1)
    }
}

fn mss_class(mss: u16) -> usize {
    MSS_CLASSES
        .iter()
        .rposition(|class| *class <= mss)
        .unwrap_or(0)
}

fn option_bits(offer: &Offer) -> u8 {
    let scale = offer.window_scale.unwrap_or(SCALE_NONE) & SCALE_MASK;
    let sack = if offer.sack { SACK } else { 0 };
    let is_classic = matches!(offer.ecn, EcnTerms::Classic { .. });
    let ecn = if is_classic { ECN } else { 0 };
    scale | sack | ecn
}

/// What a cookie keeps of an offer. Classic ECN needs no timestamps by its nature, but there is no other place for it.
fn kept(timestamp: Option<u32>, class: usize, bits: u8) -> Offer {
    let scale = bits & SCALE_MASK;
    Offer {
        mss: MSS_CLASSES[class],
        window_scale: (scale != SCALE_NONE).then_some(scale),
        sack: bits & SACK != 0,
        ecn: ecn_of(bits),
        timestamp,
    }
}

fn ecn_of(bits: u8) -> EcnTerms {
    if bits & ECN == 0 {
        EcnTerms::None
    } else {
        EcnTerms::Classic { may_send: true }
    }
}

/// The latest timestamp up to `value` that ends in these bits: never ahead of the clock, or the next segment would
/// be older than the SYN-ACK for the peer's PAWS.
fn with_options(value: u32, bits: u8) -> u32 {
    let behind = value.wrapping_sub(u32::from(bits)) & OPTION_MASK;
    value.wrapping_sub(behind)
}

fn low_bits(echo: u32) -> u8 {
    // Six bits.
    u8::try_from(echo & OPTION_MASK).unwrap_or(0)
}

/// Whether we can have sent this echo within two periods. The offset of the tuple's clock is secret, so this makes
/// a forged ACK 2^15 times less likely still.
fn is_recent(timestamps: &Timestamps, key: &FlowKey, secret: &Secret, now: Instant) -> bool {
    let oldest = 2 * PERIOD.as_millis() + u128::from(OPTION_MASK);
    let clock = low_half(now.as_millis()).wrapping_add(isn::timestamp_offset(key, secret));
    u128::from(clock.wrapping_sub(timestamps.echo)) <= oldest
}

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests;
