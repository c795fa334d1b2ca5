//! Initial sequence numbers (RFC 6528), timestamp offsets (RFC 7323 5.4) and the hash of SYN cookies.
//!
//! `ISN = M + F(local, remote, secret)`, where M is a 4 us clock and F is SipHash-2-4: an attacker who sees
//! the numbers of his own connections learns nothing about those of another tuple, while a reused tuple
//! still moves forward with the clock (RFC 9293 3.4.1). Timestamps get an offset from a second, independent
//! key, so neither value tells anything about the other, about the uptime, or about other peers. This module
//! keeps no state; who draws the secret from the system's random source, once per boot, is the caller.

use core::fmt;

use siphasher::sip::SipHasher24;

use crate::clock::Instant;
use crate::flow_table::FlowKey;

/// RFC 6528 3: M is "the 4 microsecond timer".
const TICK_NS: u64 = 4_000;

/// The key of the process, from the system's random source, new at every start. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret {
    sequence: SipHasher24,
    timestamp: SipHasher24,
    cookie: SipHasher24,
}

/// What the key of SYN cookies is derived from: of another length than every digest of a tuple, so the other uses
/// of both keys never produce it.
const COOKIE_LABEL: &[u8] = b"SYN cookie key";

impl Secret {
    /// 32 random bytes: independent SipHash keys for sequence numbers and timestamp offsets. The key of SYN cookies
    /// is derived from both.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Secret {
        let (mut sequence, mut timestamp) = ([0; 16], [0; 16]);
        sequence.copy_from_slice(&bytes[..16]);
        timestamp.copy_from_slice(&bytes[16..]);
        let sequence = SipHasher24::new_with_key(&sequence);
        let timestamp = SipHasher24::new_with_key(&timestamp);
        Secret {
            sequence,
            timestamp,
            cookie: SipHasher24::new_with_keys(
                sequence.hash(COOKIE_LABEL),
                timestamp.hash(COOKIE_LABEL),
            ),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The initial send sequence number of the connection `key` opened at `now` (RFC 6528 3).
#[must_use]
pub fn iss(now: Instant, key: &FlowKey, secret: &Secret) -> u32 {
    let clock = low_half(now.as_nanos() / TICK_NS);
    clock.wrapping_add(low_half(secret.sequence.hash(key.digest().as_slice())))
}

/// What to add to the millisecond clock for the TSval of the connection `key` (RFC 7323 5.4).
///
/// It depends on the tuple only, so the timestamps of successive connections of one tuple never go back,
/// which TIME-WAIT reuse relies on (RFC 6191).
#[must_use]
pub fn timestamp_offset(key: &FlowKey, secret: &Secret) -> u32 {
    low_half(secret.timestamp.hash(key.digest().as_slice()))
}

/// The keyed hash behind SYN cookies: 32 bits that nobody without the secret can tell from random ones.
pub(crate) fn cookie_hash(message: &[u8], secret: &Secret) -> u32 {
    low_half(secret.cookie.hash(message))
}

/// Which segment is held back next ([`crate::skip`]): for a connection that has sent `offset` bytes, 32 bits that its
/// peer cannot foresee.
pub(crate) fn skip_hash(key: &FlowKey, offset: u64, secret: &Secret) -> u32 {
    low_half(
        secret.cookie.hash(&offset.to_be_bytes()) ^ secret.timestamp.hash(key.digest().as_slice()),
    )
}

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};
    use core::time::Duration;

    use super::*;

    fn key(remote_port: u16) -> FlowKey {
        let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        FlowKey::new(address(1), 443, address(2), remote_port)
    }

    fn secret() -> Secret {
        Secret::new(core::array::from_fn(|i| u8::try_from(i * 7).unwrap()))
    }

    /// RFC 6528 3.
    #[test]
    fn a_reused_tuple_advances_by_one_each_four_microseconds() {
        let start = Instant::from_nanos(123_456_789_000);
        let first = iss(start, &key(1000), &secret());
        let later = iss(start + Duration::from_millis(1), &key(1000), &secret());
        assert_eq!(later.wrapping_sub(first), 250);
    }

    #[test]
    fn the_clock_wraps_every_four_and_three_quarter_hours() {
        let period = Duration::from_nanos(TICK_NS << 32);
        assert_eq!(
            iss(Instant::ZERO, &key(1), &secret()),
            iss(Instant::ZERO + period, &key(1), &secret())
        );
    }

    #[test]
    fn tuples_and_secrets_do_not_share_numbers() {
        let other = Secret::new([1; 32]);
        let now = Instant::ZERO;
        assert_ne!(
            iss(now, &key(1000), &secret()),
            iss(now, &key(1001), &secret())
        );
        assert_ne!(
            iss(now, &key(1000), &secret()),
            iss(now, &key(1000), &other)
        );
        assert_ne!(
            timestamp_offset(&key(1000), &secret()),
            timestamp_offset(&key(1001), &secret())
        );
        assert_ne!(
            timestamp_offset(&key(1000), &secret()),
            timestamp_offset(&key(1000), &other)
        );
    }

    #[test]
    fn the_timestamp_offset_uses_its_own_key() {
        let (a, b) = ([3; 16], [4; 16]);
        let join = |first: [u8; 16], second: [u8; 16]| {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&first);
            bytes[16..].copy_from_slice(&second);
            Secret::new(bytes)
        };
        let (ab, aa, bb) = (join(a, b), join(a, a), join(b, b));
        assert_eq!(
            iss(Instant::ZERO, &key(5), &ab),
            iss(Instant::ZERO, &key(5), &aa)
        );
        assert_eq!(
            timestamp_offset(&key(5), &ab),
            timestamp_offset(&key(5), &bb)
        );
        assert_ne!(
            timestamp_offset(&key(5), &aa),
            timestamp_offset(&key(5), &bb)
        );
    }

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", secret()), "Secret(..)");
    }
}
