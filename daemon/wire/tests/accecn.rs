//! AccECN in whole frames (RFC 9768 3.2.2 and 3.2.3): what is read, written and read again is the same.

use proptest::prelude::*;
use sluice_wire::{
    AccEcnOption, AccEcnOrder, Ecn, LinkHeader, MacAddr, Packet, ParseConfig, SackBlock, TcpEmit,
    TcpFlags, TcpHeader, TcpOptions, Timestamps, VlanTags, checksum, parse,
};

fn option() -> impl Strategy<Value = AccEcnOption> {
    (any::<bool>(), any::<[u32; 3]>(), 0..=3_u8).prop_map(|(first, counters, fields)| {
        let order = if first {
            AccEcnOrder::Ect0First
        } else {
            AccEcnOrder::Ect1First
        };
        AccEcnOption::new(order, counters, fields)
    })
}

/// The header after a way through a frame.
fn through_a_frame(header: &TcpHeader) -> TcpHeader {
    let emit = TcpEmit {
        link: &LinkHeader {
            dst: MacAddr([2, 0, 0, 0, 0, 1]),
            src: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan: VlanTags::NONE,
        },
        src: [192, 0, 2, 1].into(),
        dst: [192, 0, 2, 2].into(),
        ecn: Ecn::Ect0,
        header,
        payload_len: 0,
    };
    let mut frame = [0; 128];
    let unsealed = emit.emit(&mut frame).expect("room for every header");
    let len = unsealed.headers_len();
    unsealed.seal_full(&mut frame, checksum::Sum::default());
    match parse(&frame[..len], len, &ParseConfig::default()) {
        Ok(Packet::Tcp(packet)) => packet.header,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn an_option_among_others_comes_through(
        accecn in option(),
        stamps in any::<Option<(u32, u32)>>(),
        blocks in 0..=4_u32,
        flags in any::<u16>(),
    ) {
        let mut header = TcpHeader {
            flags: TcpFlags::from_bits(flags),
            options: TcpOptions {
                timestamps: stamps.map(|(value, echo)| Timestamps { value, echo }),
                accecn: Some(accecn),
                ..TcpOptions::default()
            },
            ..TcpHeader::default()
        };
        for block in 0..blocks {
            header.options.sack.push(SackBlock { start: block, end: block + 1 });
        }
        let read = through_a_frame(&header);
        prop_assert_eq!(read.flags, header.flags);
        prop_assert_eq!(read.options.accecn, Some(accecn));
        prop_assert_eq!(read.options.timestamps, header.options.timestamps);
        // The counters take the room of the last blocks, never the other way round.
        let taken = AccEcnOption::padded_len_of(accecn.fields()) + stamps.map_or(0, |_| 12) + 4;
        let room = (40 - taken) / 8;
        prop_assert_eq!(read.options.sack.len(), room.min(blocks.try_into().unwrap()));
        prop_assert_eq!(through_a_frame(&read), read);
    }
}
