//! Every segment of a run beside what `TcpEmit` writes for it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::checksum::sum;
use crate::vlan::VlanTag;
use crate::{
    AccEcnOption, AccEcnOrder, Ecn, LinkHeader, MacAddr, TcpOptions, Timestamps, VlanTags,
};

fn link(tags: usize) -> LinkHeader {
    let mut vlan = VlanTags::NONE;
    for tci in (1..).take(tags) {
        assert!(vlan.push(VlanTag { tpid: 0x8100, tci }));
    }
    LinkHeader {
        dst: MacAddr([2, 0, 0, 0, 0, 2]),
        src: MacAddr([2, 0, 0, 0, 0, 1]),
        vlan,
    }
}

fn addresses(is_ipv4: bool, number: u32) -> (IpAddr, IpAddr) {
    if is_ipv4 {
        let other = Ipv4Addr::from_bits(number.rotate_left(7));
        (Ipv4Addr::from_bits(number).into(), other.into())
    } else {
        let address = u128::from(number).wrapping_mul(0x0123_4567_89ab_cdef_0123_4567);
        let other = Ipv6Addr::from_bits(!address);
        (Ipv6Addr::from_bits(address).into(), other.into())
    }
}

fn header() -> impl Strategy<Value = TcpHeader> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>());
    let options = (any::<Option<(u32, u32)>>(), any::<bool>());
    let flags = (0..4u16, 0..8u8);
    (numbers, options, flags).prop_map(|((seq, ack, window), (timestamps, accecn), (last, ace))| {
        let last = [
            TcpFlags::EMPTY,
            TcpFlags::PSH,
            TcpFlags::FIN,
            TcpFlags::PSH | TcpFlags::FIN,
        ][usize::from(last)];
        TcpHeader {
            src_port: 80,
            dst_port: 40_000,
            seq,
            ack,
            flags: (TcpFlags::ACK | last).with_ace(ace),
            window,
            urgent: 0,
            options: TcpOptions {
                timestamps: timestamps.map(|(value, echo)| Timestamps { value, echo }),
                accecn: accecn.then(|| AccEcnOption::new(AccEcnOrder::Ect0First, [1, 2, 3], 3)),
                ..TcpOptions::default()
            },
        }
    })
}

proptest! {
    #[test]
    fn a_run_is_written_as_its_segments(
        header in header(),
        (is_ipv4, number, tags) in (any::<bool>(), any::<u32>(), 0..=2usize),
        (each, count, last) in (1..9000usize, 1..46usize, any::<prop::sample::Index>()),
        is_full in any::<bool>(),
    ) {
        let link = link(tags);
        let (src, dst) = addresses(is_ipv4, number);
        let last_len = if is_full { each } else { last.index(each) + 1 };
        let run = TcpEmit { link: &link, src, dst, ecn: Ecn::Ect0, header: &header, payload_len: each };
        let template = RunTemplate::new(&run).unwrap();
        let payload: std::vec::Vec<u8> = (0..=250).cycle().take(each).collect();
        for index in 0..count {
            let is_last = index + 1 == count;
            let len = if is_last { last_len } else { each };
            let ahead = u32::try_from(index * each).unwrap();
            let one = TcpHeader {
                seq: header.seq.wrapping_add(ahead),
                flags: if is_last { header.flags } else { header.flags.without(FLAGS_OF_LAST) },
                ..header
            };
            let emit = TcpEmit { header: &one, payload_len: len, ..run };
            let [mut expected, mut written] = [[0xee; TcpEmit::MAX_HEADERS + 4]; 2];
            for is_sealed_here in [true, false] {
                let by_one = emit.emit(&mut expected).unwrap();
                let by_run = if is_last {
                    template.emit_last(ahead, len, &mut written).unwrap()
                } else {
                    template.emit(ahead, &mut written).unwrap()
                };
                prop_assert_eq!(by_run.headers_len(), by_one.headers_len());
                prop_assert_eq!(template.headers_len(), by_one.headers_len());
                if is_sealed_here {
                    by_one.seal_full(&mut expected, sum(&payload[..len]));
                    by_run.seal_full(&mut written, sum(&payload[..len]));
                } else {
                    let offload = by_one.seal_partial(&mut expected);
                    prop_assert_eq!(by_run.seal_partial(&mut written), offload);
                }
                prop_assert_eq!(written, expected, "segment {} of {}", index, count);
            }
        }
    }
}

fn template(payload_len: usize) -> RunTemplate {
    let (src, dst) = addresses(true, 1);
    let run = TcpEmit {
        link: &link(0),
        src,
        dst,
        ecn: Ecn::NotEct,
        header: &TcpHeader::default(),
        payload_len,
    };
    RunTemplate::new(&run).unwrap()
}

#[test]
fn a_buffer_shorter_than_the_headers_is_refused() {
    let template = template(1000);
    for len in [0, 10, 53] {
        let mut buf = [0; 60];
        let buf = &mut buf[..len];
        assert_eq!(template.emit(0, buf).err(), Some(EmitError::BufferTooSmall));
        let last = template.emit_last(0, 1, buf).err();
        assert_eq!(last, Some(EmitError::BufferTooSmall));
    }
}

#[test]
fn the_last_segment_is_no_longer_than_the_others() {
    let mut buf = [0; 60];
    let last = template(1000).emit_last(0, 1001, &mut buf).err();
    assert_eq!(last, Some(EmitError::TooLong));
}
