//! Option fields as bytes: what is read, what is refused, what is written.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::accecn_option::AccEcnOrder;

fn block(n: u32) -> SackBlock {
    SackBlock {
        start: n,
        end: n + 100,
    }
}

fn blocks(count: u32) -> SackBlocks {
    let mut blocks = SackBlocks::EMPTY;
    for n in 1..=count {
        assert!(blocks.push(block(n * 1000)));
    }
    blocks
}

fn emitted(options: &TcpOptions) -> Vec<u8> {
    let mut field = [0xee; MAX_LEN];
    let len = options.encoded_len();
    // With room to spare: what is not in the length is not written either.
    options.emit(&mut Words::new(&mut field));
    assert!(field[len..].iter().all(|&b| b == 0xee));
    field[..len].to_vec()
}

const TIMESTAMPS_1_2: Timestamps = Timestamps { value: 1, echo: 2 };

#[test]
fn a_linux_syn_is_read() {
    let field = [
        2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7,
    ];
    let expected = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(TIMESTAMPS_1_2),
        ..TcpOptions::default()
    };
    assert_eq!(TcpOptions::parse(&field), Ok(expected));
    assert_eq!(emitted(&expected), field);
}

#[test]
fn a_windows_syn_in_another_order_is_read() {
    let field = [2, 4, 0x05, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
    let options = TcpOptions::parse(&field).unwrap();
    assert_eq!(
        (options.mss, options.window_scale, options.sack_permitted),
        (Some(1460), Some(8), true)
    );
    assert_eq!(options.timestamps, None);
}

#[test]
fn an_ack_with_timestamps_and_sack_is_read() {
    let options = TcpOptions {
        timestamps: Some(TIMESTAMPS_1_2),
        sack: blocks(3),
        ..TcpOptions::default()
    };
    let mut field = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 26];
    for n in [1000_u32, 2000, 3000] {
        field.extend(n.to_be_bytes());
        field.extend((n + 100).to_be_bytes());
    }
    assert_eq!(TcpOptions::parse(&field), Ok(options));
    assert_eq!(emitted(&options), field);
}

#[test]
fn options_need_no_alignment() {
    let field = [1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 2, 4, 2, 0, 4, 2, 0];
    let options = TcpOptions::parse(&field).unwrap();
    assert_eq!(
        (options.timestamps, options.mss),
        (Some(TIMESTAMPS_1_2), Some(512))
    );
    assert!(options.sack_permitted);
}

#[test]
fn unknown_kinds_are_skipped_by_their_length() {
    // Experimental (TFO cookie), MD5-like of the maximal length, then an MSS.
    let field = [254, 6, 0xf9, 0x89, 1, 2, 19, 2, 2, 4, 2, 0];
    assert_eq!(TcpOptions::parse(&field).unwrap().mss, Some(512));
    let mut longest = [0xff; MAX_LEN];
    longest[..2].copy_from_slice(&[30, 40]);
    assert_eq!(TcpOptions::parse(&longest), Ok(TcpOptions::default()));
}

#[test]
fn nothing_is_read_after_the_end_of_the_list() {
    assert_eq!(
        TcpOptions::parse(&[0, 2, 4, 2, 0, 7, 0, 0]),
        Ok(TcpOptions::default())
    );
}

#[test]
fn lengths_of_0_1_or_past_the_end_refuse_the_segment() {
    let cases: [&[u8]; 8] = [
        &[2, 0, 5, 180],
        &[2, 1, 5, 180],
        &[1, 1, 1, 2],
        &[1, 2, 4, 5],
        &[8, 10, 0, 0, 0, 1, 0, 0],
        &[99, 0, 0, 0],
        &[99, 5, 0, 0],
        &[5, 255, 0, 0],
    ];
    for field in cases {
        assert_eq!(
            TcpOptions::parse(field),
            Err(DropReason::TcpBadOption),
            "{field:?}"
        );
    }
}

#[test]
fn a_known_kind_of_a_wrong_length_is_skipped() {
    let cases: [&[u8]; 6] = [
        &[2, 3, 5, 1],
        &[3, 4, 7, 7],
        &[4, 3, 0, 1],
        &[8, 4, 0, 0],
        &[5, 2, 1, 1],
        &[5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
    ];
    for field in cases {
        assert_eq!(
            TcpOptions::parse(field),
            Ok(TcpOptions::default()),
            "{field:?}"
        );
    }
}

#[test]
fn of_a_repeated_option_the_last_counts() {
    assert_eq!(
        TcpOptions::parse(&[2, 4, 1, 1, 2, 4, 2, 2]).unwrap().mss,
        Some(0x0202)
    );
}

#[test]
fn repeated_sack_options_never_hold_more_than_four_blocks() {
    let one = [5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let options = TcpOptions::parse(&one.repeat(4)).unwrap();
    assert_eq!(
        options.sack.as_slice(),
        [SackBlock { start: 1, end: 2 }; SackBlocks::MAX]
    );
}

#[test]
fn a_fifth_block_is_refused_and_changes_nothing() {
    let mut four = blocks(4);
    let before = four;
    assert!(!four.push(block(9)));
    assert_eq!(four, before);
    assert_eq!(four.iter().count(), four.len());
}

#[test]
fn three_blocks_go_with_timestamps_and_four_without() {
    let with = TcpOptions {
        timestamps: Some(TIMESTAMPS_1_2),
        sack: blocks(4),
        ..TcpOptions::default()
    };
    assert_eq!(with.encoded_len(), 40);
    assert_eq!(
        TcpOptions::parse(&emitted(&with)).unwrap().sack,
        blocks(3),
        "the last is left out"
    );

    let without = TcpOptions {
        sack: blocks(4),
        ..TcpOptions::default()
    };
    assert_eq!(without.encoded_len(), 36);
    assert_eq!(
        TcpOptions::parse(&emitted(&without)).unwrap().sack,
        blocks(4)
    );
}

#[test]
fn every_combination_is_padded_fits_and_is_read_back() {
    let accecn = [
        None,
        Some(AccEcnOption::new(AccEcnOrder::Ect0First, [9, 8, 7], 0)),
        Some(AccEcnOption::new(AccEcnOrder::Ect1First, [9, 8, 7], 1)),
        Some(AccEcnOption::new(AccEcnOrder::Ect0First, [9, 8, 7], 2)),
        Some(AccEcnOption::new(AccEcnOrder::Ect1First, [9, 8, 7], 3)),
    ];
    for combination in 0..5 * 5 * 16_u32 {
        let (present, count) = (combination % 16, combination / 16 % 5);
        let options = TcpOptions {
            mss: (present & 1 != 0).then_some(1448),
            window_scale: (present & 2 != 0).then_some(14),
            sack_permitted: present & 4 != 0,
            timestamps: (present & 8 != 0).then_some(TIMESTAMPS_1_2),
            sack: blocks(count),
            accecn: accecn[usize::try_from(combination / 80).unwrap()],
        };
        let field = emitted(&options);
        assert_eq!(field.len(), options.encoded_len(), "{options:?}");
        assert!(
            field.len() <= MAX_LEN && field.len().is_multiple_of(4),
            "{options:?}"
        );

        let read = TcpOptions::parse(&field).unwrap();
        let fitting = options.sack_blocks_that_fit();
        assert_eq!(read.sack.as_slice(), &options.sack.as_slice()[..fitting]);
        assert_eq!(
            TcpOptions {
                sack: options.sack,
                ..read
            },
            options
        );
    }
}
