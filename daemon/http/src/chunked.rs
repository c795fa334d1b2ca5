//! The chunks of a body (RFC 9112 section 7.1), decoded in the buffer they arrived in.
//!
//! The data of all chunks moves together at the front of the buffer, so that it can be written in one
//! piece; every byte moves once. As with heads, nothing doubtful is repaired: what two readers could read
//! in two ways ends the upload. Chunk extensions and trailers mean nothing here and are skipped, within
//! bounds: RFC 9112 7.1.1 asks for a limit, since they cost a client nothing and are no progress.
//!
//! A function of the bytes alone: where they were cut has no influence.

use core::ops::Range;

use crate::status::Status;

/// Digits of a size, which is 64 bits: zeros in front of it would be another way to send for ever and store nothing.
const SIZE_DIGITS: u8 = 16;
/// Bytes of extensions in one chunk-size line.
const EXTENSION_BYTES: u16 = 256;
/// Bytes of all trailer lines.
const TRAILER_BYTES: u16 = 8 * 1024;

/// Where in the body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size, behind so many digits of it.
    Size {
        digits: u8,
    },
    /// White space behind the size: only extensions may follow (RFC 9112 7.1.1, BWS).
    Space,
    Extension,
    /// Behind the CR of a chunk-size line.
    SizeEnd,
    Data,
    /// Behind the data: CR, then LF.
    DataCr,
    DataLf,
    /// At the begin of a trailer line, or of the empty line that ends the body.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    /// Behind the CR of that empty line.
    LastLf,
    Done,
}

/// What became of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decoded {
    /// Bytes of the buffer from its begin that are data of the body now.
    pub data: usize,
    /// Bytes taken of the range that was given: all, unless the body ended.
    pub taken: usize,
}

/// A chunked body as far as it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkDecoder {
    state: State,
    /// Bytes of data left in the chunk, or its size while that is read.
    left: u64,
    /// Bytes of extension in this line, or of trailers.
    skipped: u16,
}

impl Default for ChunkDecoder {
    fn default() -> ChunkDecoder {
        ChunkDecoder::new()
    }
}

impl ChunkDecoder {
    /// At the first byte of the body.
    pub const fn new() -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size { digits: 0 },
            left: 0,
            skipped: 0,
        }
    }

    /// The last chunk and the trailers are read: the next byte belongs to the next request.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that certainly follow before the end of the body: the rest of the chunk.
    pub fn certain(&self) -> u64 {
        match self.state {
            State::Data => self.left,
            _ => 0,
        }
    }

    /// Decodes `buffer[fresh]`, which are the next bytes of the body, and appends the data in them to
    /// `buffer[..data]`, which is what the calls before made. `data` is never beyond `fresh.start`.
    ///
    /// # Errors
    /// 400 for what is no chunked body, or one that cannot be told, or a size of more than 16 digits that
    /// begin with zeros; 413 for a size beyond 64 bits. The decoder is of no use after that.
    pub fn decode(
        &mut self,
        buffer: &mut [u8],
        data: usize,
        fresh: Range<usize>,
    ) -> Result<Decoded, Status> {
        debug_assert!(data <= fresh.start && fresh.end <= buffer.len());
        let mut data = data;
        let mut at = fresh.start;
        while at < fresh.end && self.state != State::Done {
            if self.state == State::Data {
                let there = fresh.end - at;
                let len = usize::try_from(self.left).map_or(there, |left| left.min(there));
                if data != at {
                    buffer.copy_within(at..at + len, data);
                }
                data += len;
                at += len;
                // Not more than `left` by the line above.
                self.left -= len as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.step(buffer[at])?;
                at += 1;
            }
        }
        Ok(Decoded {
            data,
            taken: at - fresh.start,
        })
    }

    /// Takes one byte outside of the data.
    fn step(&mut self, byte: u8) -> Result<(), Status> {
        self.state = match (self.state, byte) {
            (State::Size { digits: 1.. } | State::Extension, b'\r') => State::SizeEnd,
            (State::Size { digits: 1.. } | State::Space, b';') => {
                self.skip(EXTENSION_BYTES)?;
                State::Extension
            }
            (State::Size { digits: 1.. } | State::Space, b' ' | b'\t') => {
                self.skip(EXTENSION_BYTES)?;
                State::Space
            }
            (State::Size { digits }, _) => {
                let digit = hex_digit(byte).ok_or(Status::BadRequest)?;
                let larger = self.left.checked_mul(16).ok_or(Status::ContentTooLarge)?;
                if digits == SIZE_DIGITS {
                    return Err(Status::BadRequest);
                }
                self.left = larger | u64::from(digit);
                State::Size { digits: digits + 1 }
            }
            (State::Extension, _) if is_text(byte) => {
                self.skip(EXTENSION_BYTES)?;
                State::Extension
            }
            (State::SizeEnd, b'\n') => {
                self.skipped = 0;
                if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            (State::Trailer, b'\r') => State::LastLf,
            (State::TrailerLine, b'\r') => State::TrailerLineEnd,
            (State::TrailerLineEnd, b'\n') => State::Trailer,
            (State::Trailer | State::TrailerLine, _) if is_text(byte) => {
                self.skip(TRAILER_BYTES)?;
                State::TrailerLine
            }
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Status::BadRequest),
        };
        Ok(())
    }

    fn skip(&mut self, most: u16) -> Result<(), Status> {
        self.skipped += 1;
        if self.skipped > most {
            return Err(Status::BadRequest);
        }
        Ok(())
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// What a line may hold besides its end.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
