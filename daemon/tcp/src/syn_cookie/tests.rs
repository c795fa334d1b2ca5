use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use sluice_wire::{Ecn, TcpOptions};

use super::*;

fn config() -> StackConfig {
    StackConfig {
        mtu: 9000,
        receive_buffer: 1 << 20,
        ecn: crate::ecn_terms::EcnConfig::ACCEPT,
        ..StackConfig::new(1, [1; 16], Secret::new([5; 32]))
    }
}

fn segment<'a>(key: FlowKey, header: &'a TcpHeader) -> Segment<'a> {
    Segment {
        key,
        header,
        payload_len: 0,
        ecn: Ecn::NotEct,
    }
}

fn header(seq: u32, ack: u32, flags: TcpFlags, options: TcpOptions) -> TcpHeader {
    TcpHeader {
        src_port: 1,
        dst_port: 2,
        seq,
        ack,
        flags,
        window: 1000,
        urgent: 0,
        options,
    }
}

/// What a client answers to the SYN-ACK, with its own timestamp if it has any.
fn final_ack(syn: &TcpHeader, syn_ack: &TcpHeader, value: u32) -> TcpHeader {
    let options = TcpOptions {
        timestamps: syn_ack.options.timestamps.map(|timestamps| Timestamps {
            value,
            echo: timestamps.value,
        }),
        ..TcpOptions::default()
    };
    let seq = syn.seq.wrapping_add(1);
    // Who got a SYN-ACK with one of these says as what it arrived (RFC 9768 table 3).
    let is_accurate = syn_ack.flags.ace() >= 0b010;
    let flags = TcpFlags::ACK.with_ace(if is_accurate { 0b010 } else { 0 });
    header(seq, syn_ack.seq.wrapping_add(1), flags, options)
}

#[derive(Clone, Debug)]
struct Case {
    key: FlowKey,
    syn: TcpHeader,
    sent_at: Instant,
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

prop_compose! {
    fn any_options()(
        mss in proptest::option::of(1u16..),
        window_scale in proptest::option::of(0u8..=20),
        sack_permitted: bool,
        value in proptest::option::of(any::<u32>()),
    ) -> TcpOptions {
        TcpOptions {
            mss,
            window_scale,
            sack_permitted,
            timestamps: value.map(|value| Timestamps { value, echo: 0 }),
            ..TcpOptions::default()
        }
    }
}

prop_compose! {
    fn any_case()(
        local in any_address(),
        remote in any_address(),
        ports: (u16, u16),
        seq: u32,
        ace in 0u8..8,
        options in any_options(),
        sent_ms in 0u64..1 << 40,
    ) -> Case {
        Case {
            key: FlowKey::new(local, ports.0, remote, ports.1),
            syn: header(seq, 0, TcpFlags::SYN.with_ace(ace), options),
            sent_at: Instant::from_nanos(sent_ms * 1_000_000),
        }
    }
}

impl Case {
    fn syn_ack(&self) -> TcpHeader {
        syn_ack(&segment(self.key, &self.syn), &config(), self.sent_at)
    }
}

fn accepted(key: FlowKey, ack: &TcpHeader, now: Instant) -> Option<Handshake> {
    accept(&segment(key, ack), &config(), now)
}

proptest! {
    /// RFC 4987 section 3.6: the ACK alone tells what the SYN offered.
    #[test]
    fn a_cookie_brings_the_handshake_back(case in any_case(), delay_ms in 0u64..64_000, value: u32) {
        let syn_ack = case.syn_ack();
        let ack = final_ack(&case.syn, &syn_ack, value);
        let now = case.sent_at + Duration::from_millis(delay_ms);
        let handshake = accepted(case.key, &ack, now).expect("within a period");
        let offered = Offer::of_syn(&segment(case.key, &case.syn), &config());
        prop_assert_eq!(handshake.key, case.key);
        prop_assert_eq!(handshake.irs.raw(), case.syn.seq);
        prop_assert_eq!(handshake.iss.raw(), syn_ack.seq);
        prop_assert!(handshake.offer.mss <= offered.mss.max(MSS_CLASSES[0]));
        if offered.timestamp.is_some() {
            // Everything but the MSS comes back exactly.
            let mss = handshake.offer.mss;
            prop_assert_eq!(handshake.offer, Offer { mss, timestamp: Some(value), ..offered });
        } else {
            // Accurate ECN needs no timestamps.
            let ecn = if offered.ecn.is_accurate() { offered.ecn } else { EcnTerms::None };
            let bare = Offer { mss: handshake.offer.mss, window_scale: None, sack: false, ecn, timestamp: None };
            prop_assert_eq!(handshake.offer, bare);
        }
        // What the SYN-ACK promises is what the connection will do.
        prop_assert_eq!(syn_ack.options.sack_permitted, handshake.offer.sack);
        prop_assert_eq!(syn_ack.options.window_scale.is_some(), handshake.offer.window_scale.is_some());
        prop_assert_eq!(syn_ack.options.timestamps.map(|timestamps| timestamps.echo), offered.timestamp);
    }

    /// Each part of the tuple, both sequence numbers, the options and the secret count.
    #[test]
    fn nothing_else_is_accepted(case in any_case(), other in any_case(), what in 0usize..9, flip in 0u32..32) {
        let syn_ack = case.syn_ack();
        let mut ack = final_ack(&case.syn, &syn_ack, 7);
        let (mut key, mut now, mut secret) = (case.key, case.sent_at, config().secret);
        let (local, remote) = (key.local(), key.remote());
        let (local_port, remote_port) = (key.local_port(), key.remote_port());
        let port_bit = 1u16 << (flip % 16);
        match what {
            0 => key = FlowKey::new(other.key.local(), local_port, other.key.remote(), remote_port),
            1 => key = FlowKey::new(local, local_port ^ port_bit, remote, remote_port),
            2 => key = FlowKey::new(local, local_port, remote, remote_port ^ port_bit),
            3 => ack.seq ^= 1 << flip,
            4 => ack.ack = syn_ack.seq.wrapping_add(1 + (1 << flip)),
            5 => now = now + 3 * PERIOD,
            6 => secret = Secret::new([6; 32]),
            7 => match &mut ack.options.timestamps {
                Some(timestamps) => timestamps.echo ^= 1 << (flip % OPTION_BITS),
                // A peer that offered none has none to echo.
                None => ack.options.timestamps = Some(Timestamps { value: 1, echo: flip }),
            },
            _ => ack.flags = [TcpFlags::SYN, TcpFlags::RST][flip as usize % 2].union(TcpFlags::ACK),
        }
        prop_assume!(what != 0 || key != case.key);
        let config = StackConfig { secret, ..config() };
        prop_assert!(accept(&segment(key, &ack), &config, now).is_none());
    }

    /// PAWS at the peer (RFC 7323 section 5.3): no later segment may seem older than the SYN-ACK.
    #[test]
    fn option_bits_never_put_a_timestamp_ahead_of_the_clock(value: u32, bits in 0u8..64) {
        let coded = with_options(value, bits);
        prop_assert_eq!(low_bits(coded), bits);
        prop_assert!(value.wrapping_sub(coded) < 1 << OPTION_BITS);
    }
}

fn plain_case(sent_at: Instant) -> Case {
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 9, echo: 0 }),
        ..TcpOptions::default()
    };
    let address = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    Case {
        key: FlowKey::new(address(1), 443, address(2), 50_000),
        syn: header(1000, 0, TcpFlags::SYN, options),
        sent_at,
    }
}

#[test]
fn a_handshake_across_a_rotation_succeeds() {
    let rotation = Instant::from_nanos(10 * 64 * 1_000_000_000);
    let before = Instant::from_nanos(rotation.as_nanos() - 1);
    let case = plain_case(before);
    let ack = final_ack(&case.syn, &case.syn_ack(), 10);
    assert_ne!(period(before), period(rotation));
    assert!(accepted(case.key, &ack, rotation).is_some());
    let last = rotation + (PERIOD - Duration::from_nanos(1));
    assert!(accepted(case.key, &ack, last).is_some());
    assert!(accepted(case.key, &ack, rotation + PERIOD).is_none());
}

#[test]
fn the_first_period_has_no_predecessor() {
    let case = plain_case(Instant::ZERO);
    let ack = final_ack(&case.syn, &case.syn_ack(), 10);
    assert!(accepted(case.key, &ack, Instant::ZERO).is_some());
    let mut other = ack;
    other.ack = other.ack.wrapping_add(1 << PARITY_SHIFT);
    assert!(accepted(case.key, &other, Instant::ZERO).is_none());
}

#[test]
fn an_old_timestamp_with_the_right_option_bits_is_refused() {
    let case = plain_case(Instant::from_nanos(1_000_000_000_000));
    let mut ack = final_ack(&case.syn, &case.syn_ack(), 10);
    if let Some(timestamps) = &mut ack.options.timestamps {
        timestamps.echo = timestamps.echo.wrapping_sub(200_000 & !OPTION_MASK);
    }
    assert!(accepted(case.key, &ack, case.sent_at).is_none());
}

#[test]
fn an_mss_is_rounded_down_to_its_class() {
    let classes: Vec<u16> = [0, 216, 535, 536, 1219, 1452, 1460, 8959, u16::MAX]
        .map(|mss| MSS_CLASSES[mss_class(mss)])
        .to_vec();
    assert_eq!(classes, [216, 216, 216, 536, 536, 1440, 1460, 8940, 8940]);
}
