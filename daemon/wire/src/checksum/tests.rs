//! The fast sum against the definition, at every alignment, length and split.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec;
use std::vec::Vec;

use super::*;

/// RFC 1071 word by word: the definition, kept free of every trick of the fast code.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Bytes without pattern, the same every time (xorshift64).
fn noise(len: usize, mut state: u64) -> Vec<u8> {
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

#[test]
fn the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes).fold(), 0xddf2);
    assert_eq!(sum(&bytes).finish(), 0x220d);
}

#[test]
fn agrees_with_the_definition_at_every_alignment_and_length() {
    let bytes = noise(400, 7);
    for start in 0..64 {
        for len in 0..=300 {
            let part = &bytes[start..start + len];
            assert_eq!(sum(part).fold(), naive(part), "start {start} len {len}");
        }
    }
}

#[test]
fn agrees_with_the_definition_where_every_word_carries() {
    for len in (0..200).chain([1448, 9000, 65_535, 1 << 20]) {
        let bytes = vec![0xff; len];
        assert_eq!(sum(&bytes).fold(), naive(&bytes), "len {len}");
    }
}

#[test]
fn zeros_sum_to_zero_and_anything_else_does_not() {
    assert_eq!(sum(&[0; 1000]).fold(), 0);
    assert_eq!(sum(&[0xff; 2]).fold(), 0xffff);
    assert_eq!(sum(&[0xff; 1000]).fold(), 0xffff);
}

#[test]
fn pieces_split_anywhere_sum_like_the_whole() {
    let bytes = noise(150, 11);
    let whole = naive(&bytes);
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let mut total = Sum::default();
            total.add_bytes(&bytes[..first]);
            total.add_bytes(&bytes[first..second]);
            total.add_bytes(&bytes[second..]);
            assert_eq!(total.fold(), whole, "split at {first} and {second}");
        }
    }
}

#[test]
fn sums_are_appended_like_their_bytes() {
    let bytes = noise(99, 3);
    for split in 0..=bytes.len() {
        let mut total = sum(&bytes[..split]);
        total.add(sum(&bytes[split..]));
        assert_eq!(total.fold(), naive(&bytes), "split at {split}");
    }
}

#[test]
fn a_value_is_its_two_bytes_also_at_an_odd_offset() {
    for prefix in [&b""[..], b"a", b"ab"] {
        let mut total = sum(prefix);
        total.add_u16(0x1234);
        let bytes = [prefix, &[0x12, 0x34]].concat();
        assert_eq!(total.fold(), naive(&bytes));
    }
}

#[test]
fn copying_sums_and_copies_at_every_alignment_and_length() {
    let bytes = noise(400, 5);
    for start in 0..16 {
        for len in 0..=260 {
            let src = &bytes[start..start + len];
            let mut dst = vec![0xaa; len + 2];
            assert_eq!(copy_and_sum(&mut dst[1..=len], src).fold(), naive(src));
            assert_eq!(
                (dst[0], &dst[1..=len], dst[len + 1]),
                (0xaa, src, 0xaa),
                "start {start} len {len}"
            );
        }
    }
}

#[test]
fn a_copied_odd_piece_leaves_the_sum_odd() {
    let bytes = noise(77, 9);
    let mut dst = [0; 77];
    let mut total = copy_and_sum(&mut dst[..33], &bytes[..33]);
    total.add(copy_and_sum(&mut dst[33..], &bytes[33..]));
    assert_eq!(total.fold(), naive(&bytes));
}

#[test]
#[should_panic(expected = "different length")]
fn copying_between_different_lengths_panics() {
    let _ = copy_and_sum(&mut [0; 3], &[0; 4]);
}

#[test]
fn pseudo_headers_are_the_words_of_the_rfcs() {
    let v4 = pseudo_header(
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv4Addr::new(198, 51, 100, 7).into(),
        6,
        1480,
    );
    assert_eq!(
        v4.fold(),
        naive(&[192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xc8])
    );

    let src: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let dst: Ipv6Addr = "2001:db8:ffff::2".parse().unwrap();
    let v6 = pseudo_header(src.into(), dst.into(), 58, 0x0001_0020);
    let words = [
        &src.octets()[..],
        &dst.octets(),
        &[0, 1, 0, 0x20, 0, 0, 0, 58],
    ]
    .concat();
    assert_eq!(v6.fold(), naive(&words));
}
