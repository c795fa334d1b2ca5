//! A chunked body: how it is cut does not matter, and a reader by the book agrees about every byte.
//!
//! The twin (`Twin`) has the whole input at once and reads it by the grammar of RFC 9112 section 7.1, line after line,
//! with the limits that the decoder names: 16 digits, 256 bytes of extensions in a line, 8 KiB of trailers. The decoder
//! gets the same bytes in pieces, in one buffer as an upload does and each in a buffer of its own, and must say the
//! same: the data, where the body ends, what is certain to follow, and for what is no body the status and the first
//! byte at which no continuation could help.

use sluice_http::{ChunkDecoder, Status};

/// A stored input is a kilobyte; so much stands for the limits that lie beyond it.
const LONG_TEXT: usize = 250;
const BODY_BYTES_MAX: usize = 16 << 10;

/// The limits of the decoder, told again.
const DIGITS_MAX: usize = 16;
const EXTENSION_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// So many pieces are compared one by one: all of a long body would be quadratic.
const PIECES_MAX: usize = 64;
/// Around a piece in its buffer: nobody's bytes.
const MARGIN: usize = 5;
const UNTOUCHED: u8 = 0xa5;

/// Runs the decoder of chunked bodies on a stream.
pub fn http_chunks(data: &[u8]) {
    let [options, seed, body @ ..] = data else {
        return;
    };
    let body = if options & 1 == 0 {
        body.to_vec()
    } else {
        with_long_texts(body)
    };
    let twin = Twin::read(&body);
    check_bounds(&twin);
    assert_eq!(in_one_buffer(&body, |_| usize::MAX), twin.seen());
    assert_eq!(in_one_buffer(&body, |_| 1), twin.seen());
    let mut cuts = Cuts::new(*options, *seed);
    assert_eq!(in_one_buffer(&body, |_| cuts.next()), twin.seen());
    let mut cuts = Cuts::new(*options, *seed);
    in_their_own_buffers(&body, &twin, |_| cuts.next());
    check_first_bad_byte(&body, &twin);
}

/// A byte 0xfe stands for a long text, so that short inputs reach every limit.
fn with_long_texts(body: &[u8]) -> Vec<u8> {
    let mut long = Vec::new();
    for &byte in body {
        match byte {
            0xfe => long.extend_from_slice(&[b'x'; LONG_TEXT]),
            _ => long.push(byte),
        }
    }
    long.truncate(BODY_BYTES_MAX);
    long
}

/// What one way of reading found.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The body has ended behind so many bytes of the input, or has not; this is its data.
    Body {
        data: Vec<u8>,
        end: Option<usize>,
    },
    Bad(Status),
}

/// As an upload reads: every piece stands behind the one before, and the data moves together at the front.
fn in_one_buffer(body: &[u8], mut next_len: impl FnMut(usize) -> usize) -> Seen {
    let mut decoder = ChunkDecoder::new();
    let mut buffer = body.to_vec();
    let (mut data, mut at) = (0, 0);
    while at < body.len() && !decoder.is_done() {
        let end = at + next_len(at).min(body.len() - at);
        let decoded = match decoder.decode(&mut buffer, data, at..end) {
            Ok(decoded) => decoded,
            Err(status) => return Seen::Bad(status),
        };
        assert!(decoded.taken == end - at || decoder.is_done());
        assert!(data <= decoded.data && decoded.data - data <= decoded.taken);
        data = decoded.data;
        at += decoded.taken;
        let near = at..(at + MARGIN).min(body.len());
        assert_eq!(buffer[near.clone()], body[near], "what follows is touched");
    }
    buffer.truncate(data);
    Seen::Body {
        data: buffer,
        end: decoder.is_done().then_some(at),
    }
}

/// The first pieces, each alone between bytes that are nobody's. After each the decoder is where the twin is that has read as much.
fn in_their_own_buffers(body: &[u8], twin: &Twin, mut next_len: impl FnMut(usize) -> usize) {
    let mut decoder = ChunkDecoder::new();
    let mut data = Vec::new();
    let mut at = 0;
    for _ in 0..PIECES_MAX {
        if at == body.len() || decoder.is_done() {
            break;
        }
        let len = next_len(at).min(body.len() - at);
        let mut buffer = vec![UNTOUCHED; MARGIN + len + MARGIN];
        buffer[MARGIN..MARGIN + len].copy_from_slice(&body[at..at + len]);
        let before = MARGIN.min(at);
        let so_far = Twin::read(&body[..at + len]);
        let Ok(decoded) = decoder.decode(&mut buffer, before, MARGIN..MARGIN + len) else {
            assert!(matches!(so_far.end, End::Bad(_)));
            return;
        };
        let is_untouched = |bytes: &[u8]| bytes.iter().all(|byte| *byte == UNTOUCHED);
        assert!(is_untouched(&buffer[..before]) && is_untouched(&buffer[MARGIN + len..]));
        data.extend_from_slice(&buffer[before..decoded.data]);
        at += decoded.taken;
        assert_eq!(data, so_far.data);
        assert_eq!(decoder.certain(), so_far.certain);
        assert_eq!(decoder.is_done(), so_far.end == End::Done(at));
    }
    // Nothing is taken behind the end.
    if decoder.is_done() {
        let decoded = decoder.decode(&mut [b'0'; 4], 0, 0..4);
        assert_eq!(
            decoded.map(|decoded| (decoded.data, decoded.taken)),
            Ok((0, 0))
        );
    }
    assert!(twin.data.starts_with(&data));
}

/// What is refused is refused with the first byte that nothing could follow, not earlier and not later.
fn check_first_bad_byte(body: &[u8], twin: &Twin) {
    let End::Bad(status) = twin.end else {
        return;
    };
    let mut decoder = ChunkDecoder::new();
    let mut buffer = body.to_vec();
    let bad = (0..body.len()).find(|&at| {
        let decoded = decoder.decode(&mut buffer, 0, at..at + 1);
        assert!(decoded.is_ok() || decoded == Err(status));
        decoded.is_err()
    });
    let bad = bad.expect("the whole was refused");
    assert_eq!(Twin::read(&body[..bad]).end, End::Open);
    assert_eq!(Twin::read(&body[..=bad]).end, End::Bad(status));
}

/// RFC 9112 section 7.1.1: what is sent and not stored has a limit.
fn check_bounds(twin: &Twin) {
    let End::Done(end) = twin.end else {
        return;
    };
    // Each chunk has a byte at least; each line of trailers a byte that counts, and its end.
    let chunk = DIGITS_MAX + EXTENSION_BYTES_MAX + 4;
    let most = (twin.data.len() + 1) * (chunk + 1) + 3 * TRAILER_BYTES_MAX + 2;
    assert!(end <= most, "{end} bytes for {}", twin.data.len());
}

/// Lengths of pieces.
struct Cuts {
    state: u32,
    most: u32,
}

impl Cuts {
    fn new(options: u8, seed: u8) -> Cuts {
        Cuts {
            state: u32::from(seed).wrapping_mul(0x9e37_79b9) | 1,
            most: [2, 7, 40, 1000][usize::from(options >> 1 & 3)],
        }
    }

    fn next(&mut self) -> usize {
        // xorshift32
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        1 + (self.state % self.most) as usize
    }
}

/// Where a reader of the whole input stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More has to come.
    Open,
    /// Behind so many bytes.
    Done(usize),
    Bad(Status),
}

/// What a reader of the whole input finds.
#[derive(Debug)]
struct Twin {
    data: Vec<u8>,
    end: End,
    /// Bytes of data that the chunk in which the input ends still has to have.
    certain: u64,
}

impl Twin {
    /// `chunked-body = *chunk last-chunk trailer-section CRLF`
    fn read(input: &[u8]) -> Twin {
        let mut twin = Twin {
            data: Vec::new(),
            end: End::Open,
            certain: 0,
        };
        let mut rest = input;
        twin.end = match twin.read_chunks(&mut rest) {
            Ok(()) => End::Done(input.len() - rest.len()),
            Err(end) => end,
        };
        twin
    }

    fn read_chunks(&mut self, rest: &mut &[u8]) -> Result<(), End> {
        loop {
            let size = chunk_size(rest)?;
            extensions(rest)?;
            if size == 0 {
                return trailers(rest);
            }
            let len = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
            let (data, after) = rest.split_at(len);
            self.data.extend_from_slice(data);
            *rest = after;
            if (len as u64) < size {
                self.certain = size - len as u64;
                return Err(End::Open);
            }
            literal(rest, b"\r\n")?;
        }
    }

    fn seen(&self) -> Seen {
        let end = match self.end {
            End::Bad(status) => return Seen::Bad(status),
            End::Open => None,
            End::Done(end) => Some(end),
        };
        Seen::Body {
            data: self.data.clone(),
            end,
        }
    }
}

const BAD: End = End::Bad(Status::BadRequest);

/// `chunk-size = 1*HEXDIG`, at most 16 of them. One more is beyond 64 bits, or begins with zeros.
fn chunk_size(rest: &mut &[u8]) -> Result<u64, End> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let count = digits.count();
    let text = str::from_utf8(&rest[..count]).expect("digits");
    if count > DIGITS_MAX {
        return Err(match text.starts_with('0') {
            true => BAD,
            false => End::Bad(Status::ContentTooLarge),
        });
    }
    if count == rest.len() {
        return Err(End::Open);
    }
    *rest = &rest[count..];
    u64::from_str_radix(text, 16).map_err(|_| BAD)
}

/// `chunk-ext CRLF`, where an extension is what follows a semicolon, with white space before that.
fn extensions(rest: &mut &[u8]) -> Result<(), End> {
    let text = line(rest);
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let named = text.iter().find(|byte| !is_blank(byte));
    if text.len() > EXTENSION_BYTES_MAX || named.is_some_and(|byte| *byte != b';') {
        return Err(BAD);
    }
    if named.is_none() && !text.is_empty() && !rest.is_empty() {
        // White space, and the line ends.
        return Err(BAD);
    }
    end_of_line(rest)
}

/// `trailer-section CRLF`, where a field line is any text: nobody reads it.
fn trailers(rest: &mut &[u8]) -> Result<(), End> {
    let mut bytes = 0;
    loop {
        let text = line(rest);
        bytes += text.len();
        if bytes > TRAILER_BYTES_MAX {
            return Err(BAD);
        }
        let is_last = text.is_empty();
        end_of_line(rest)?;
        if is_last {
            return Ok(());
        }
    }
}

/// The text before what is none: the end of the line, or a control character.
fn line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let len = rest.iter().take_while(|byte| is_text(byte)).count();
    let (text, after) = rest.split_at(len);
    *rest = after;
    text
}

fn end_of_line(rest: &mut &[u8]) -> Result<(), End> {
    literal(rest, b"\r\n")
}

fn literal(rest: &mut &[u8], expected: &[u8]) -> Result<(), End> {
    for wanted in expected {
        match rest.split_first() {
            None => return Err(End::Open),
            Some((byte, _)) if byte != wanted => return Err(BAD),
            Some((_, after)) => *rest = after,
        }
    }
    Ok(())
}
