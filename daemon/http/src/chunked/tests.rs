//! Chunks in every cut.

use super::*;
use proptest::prelude::*;

/// Decodes `body` in pieces that end at `cuts`, each piece in one buffer behind the data so far.
fn decode_cut(body: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), Status> {
    let mut decoder = ChunkDecoder::new();
    let mut buffer = body.to_vec();
    let (mut data, mut taken, mut from) = (0, 0, 0);
    for &to in cuts.iter().chain([&body.len()]) {
        let to = to.clamp(from, body.len());
        let decoded = decoder.decode(&mut buffer, data, from..to)?;
        data = decoded.data;
        taken += decoded.taken;
        from = to;
    }
    buffer.truncate(data);
    Ok((buffer, taken, decoder.is_done()))
}

fn decode(body: &[u8]) -> Result<(Vec<u8>, usize, bool), Status> {
    decode_cut(body, &[])
}

#[test]
fn the_data_of_all_chunks_moves_together() {
    let (data, taken, done) = decode(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET").expect("valid");
    assert_eq!(data, b"hello world");
    assert!(done);
    assert_eq!(taken, 26, "what follows is not touched");
}

#[test]
fn a_body_of_the_last_chunk_alone_is_empty() {
    assert_eq!(decode(b"0\r\n\r\n"), Ok((Vec::new(), 5, true)));
    assert_eq!(decode(b"000\r\n\r\n"), Ok((Vec::new(), 7, true)));
}

#[test]
fn extensions_and_trailers_are_skipped() {
    let body = b"3;a=b;c=\"d e\"\r\nabc\r\n0 \t;x\r\nDigest: x\r\nB: y\r\n\r\n";
    let (data, taken, done) = decode(body).expect("valid");
    assert_eq!(
        (data.as_slice(), taken, done),
        (&b"abc"[..], body.len(), true)
    );
}

#[test]
fn what_is_no_chunk_is_400_at_its_first_byte() {
    for body in [
        &b"\r"[..],
        b"g",
        b"-",
        b"0x",
        b" ",
        b"5 5",
        b"5 \r",
        b"5\n",
        b"5\rx",
        b"5;a\n",
        b"5;\0",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\rx",
        b"0\r\n\n",
        b"0\r\n\rx",
        b"0\r\na: b\n",
        b"0\r\n\x01",
    ] {
        let text = String::from_utf8_lossy(body);
        assert_eq!(decode(body), Err(Status::BadRequest), "{text:?}");
        let before = decode(&body[..body.len() - 1]);
        assert!(before.is_ok(), "{text:?} was good until its last byte");
    }
}

#[test]
fn a_size_beyond_64_bits_is_413() {
    assert!(decode(b"ffffffffffffffff\r\n").is_ok());
    assert_eq!(decode(b"10000000000000000"), Err(Status::ContentTooLarge));
}

#[test]
fn zeros_before_a_size_are_400_beyond_sixteen_digits() {
    let zeros = "0".repeat(16);
    assert_eq!(decode(zeros.as_bytes()), Ok((Vec::new(), 16, false)));
    for more in ["0", "3", "f\r\n"] {
        let body = format!("{zeros}{more}");
        assert_eq!(decode(body.as_bytes()), Err(Status::BadRequest), "{body}");
    }
    let each = format!("{}3\r\nabc\r\n", "0".repeat(15));
    let decoded = decode(format!("{each}{each}").as_bytes()).map(|(data, ..)| data);
    assert_eq!(
        decoded,
        Ok(b"abcabc".to_vec()),
        "each size has its own digits"
    );
}

#[test]
fn extensions_and_trailers_without_end_are_400() {
    let mut body = b"1;".to_vec();
    body.resize(2 + usize::from(EXTENSION_BYTES) - 1, b'x');
    assert!(decode(&body).is_ok());
    body.push(b'x');
    assert_eq!(decode(&body), Err(Status::BadRequest));
    let mut body = b"0\r\n".to_vec();
    body.resize(3 + usize::from(TRAILER_BYTES), b'x');
    assert!(decode(&body).is_ok());
    body.push(b'x');
    assert_eq!(decode(&body), Err(Status::BadRequest));
}

#[test]
fn every_chunk_may_have_extensions_up_to_the_limit() {
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(200));
    let body = chunk.repeat(5) + "0\r\n\r\n";
    assert_eq!(decode(body.as_bytes()).expect("valid").0, b"aaaaa");
}

#[test]
fn what_is_left_of_a_chunk_certainly_follows() {
    let mut decoder = ChunkDecoder::new();
    let mut buffer = b"a\r\n123".to_vec();
    let len = buffer.len();
    let decoded = decoder.decode(&mut buffer, 0, 0..len).expect("valid");
    assert_eq!((decoded.data, decoder.certain()), (3, 7));
}

proptest! {
    /// Any data in any chunks, cut anywhere, reads back, and what follows the body is left alone.
    #[test]
    fn any_chunks_in_any_cut_read_back(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
        cuts in proptest::collection::vec(0_usize..6000, 0..40),
        extension in "(;[a-z]{0,5})?",
        rest in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let end = body.len();
        body.extend_from_slice(&rest);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (data, taken, done) = decode_cut(&body, &cuts).expect("valid");
        prop_assert!(done);
        prop_assert_eq!(taken, end);
        prop_assert_eq!(data, chunks.concat());
    }

    /// Whatever the bytes are and however they are cut, the answer is the same, and nothing panics.
    #[test]
    fn any_bytes_in_any_cut_have_one_answer(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), any::<u8>()],
            0..60,
        ),
        cut in 0_usize..60,
    ) {
        let whole = decode(&bytes);
        let pieces = decode_cut(&bytes, &[cut.min(bytes.len())]);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(whole, pieces);
        }
    }
}
