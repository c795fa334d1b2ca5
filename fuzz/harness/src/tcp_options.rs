//! Any option field, against a reader written by the book (RFC 9293 3.1, MUST-6, MUST-7, MUST-68).

use sluice_wire::{
    AccEcnOption, AccEcnOrder, DropReason, Packet, ParseConfig, SackBlock, TcpHeader, TcpOptions,
    Timestamps,
};

use crate::bytes::{u16_at, u32_at};
use crate::packet::check_header_again;

/// Ethernet, IPv4 and TCP headers before the options.
const BEFORE_OPTIONS: usize = 14 + 20 + 20;

/// Runs the option parser on up to 40 bytes.
pub fn tcp_options(data: &[u8]) {
    let mut field = data[..data.len().min(40)].to_vec();
    field.resize(field.len().next_multiple_of(4), 0);
    let read = read_options(&field);
    assert_eq!(read.map(|header| header.options), by_the_book(&field));
    if let Ok(header) = read {
        let mut frame = vec![0; BEFORE_OPTIONS + 40];
        let len = write_options(&header, &mut frame);
        assert!(len <= 40 && len.is_multiple_of(4));
        let again = read_options(&frame[BEFORE_OPTIONS..][..len]).expect("what we wrote");
        check_header_again(&header, &again);
    }
}

fn by_the_book(field: &[u8]) -> Result<TcpOptions, DropReason> {
    let mut options = TcpOptions::default();
    let mut at = 0;
    while at < field.len() {
        let kind = field[at];
        if kind == 0 {
            break;
        }
        if kind == 1 {
            at += 1;
            continue;
        }
        let len = usize::from(*field.get(at + 1).ok_or(DropReason::TcpBadOption)?);
        if len < 2 || at + len > field.len() {
            return Err(DropReason::TcpBadOption);
        }
        match (kind, len) {
            (2, 4) => options.mss = u16_at(field, at + 2),
            (3, 3) => options.window_scale = Some(field[at + 2]),
            (4, 2) => options.sack_permitted = true,
            (5, _) if len % 8 == 2 => {
                for block in (at + 2..at + len).step_by(8) {
                    options.sack.push(SackBlock {
                        start: u32_at(field, block).expect("in the option"),
                        end: u32_at(field, block + 4).expect("in the option"),
                    });
                }
            }
            (8, 10) => {
                options.timestamps = Some(Timestamps {
                    value: u32_at(field, at + 2).expect("in the option"),
                    echo: u32_at(field, at + 6).expect("in the option"),
                });
            }
            (172 | 174, _) => {
                // RFC 9768 section 3.2.3: the whole fields of whatever length there is.
                let value = |n: usize| {
                    let start = at + 2 + 3 * n;
                    let bytes = field
                        .get(start..start + 3)
                        .filter(|_| start + 3 <= at + len);
                    bytes.map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]]))
                };
                let seen = [value(0), value(1), value(2)];
                let fields = seen.iter().flatten().count();
                let [first, second, third] = seen.map(|value| value.unwrap_or(0));
                let (order, counters) = match kind {
                    172 => (AccEcnOrder::Ect0First, [first, second, third]),
                    _ => (AccEcnOrder::Ect1First, [third, second, first]),
                };
                let fields = u8::try_from(fields).expect("three at most");
                options.accecn = Some(AccEcnOption::new(order, counters, fields));
            }
            _ => {}
        }
        at += len;
    }
    Ok(options)
}

fn read_options(field: &[u8]) -> Result<TcpHeader, DropReason> {
    let mut frame = vec![0; BEFORE_OPTIONS];
    frame[12] = 8;
    let total = u16::try_from(40 + field.len()).expect("short");
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    let checksum = !crate::bytes::naive_sum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[46] = u8::try_from(5 + field.len() / 4).expect("a nibble") << 4;
    frame.extend_from_slice(field);
    match sluice_wire::parse(&frame, frame.len(), &ParseConfig::default())? {
        Packet::Tcp(packet) => Ok(packet.header),
        other => panic!("{other:?}"),
    }
}

/// Writes headers, and returns the length of the options.
fn write_options(header: &TcpHeader, frame: &mut [u8]) -> usize {
    let emit = sluice_wire::TcpEmit {
        link: &sluice_wire::LinkHeader {
            dst: sluice_wire::MacAddr([2, 0, 0, 0, 0, 1]),
            src: sluice_wire::MacAddr([2, 0, 0, 0, 0, 2]),
            vlan: sluice_wire::VlanTags::NONE,
        },
        src: [192, 0, 2, 1].into(),
        dst: [192, 0, 2, 2].into(),
        ecn: sluice_wire::Ecn::NotEct,
        header,
        payload_len: 0,
    };
    let unsealed = emit.emit(frame).expect("room for every header");
    let len = unsealed.headers_len() - BEFORE_OPTIONS;
    unsealed.seal_partial(frame);
    len
}
