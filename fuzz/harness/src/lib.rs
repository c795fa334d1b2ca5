//! Fuzz targets as ordinary functions: bytes in, a panic if an invariant does not hold.
//!
//! The fuzzer (`fuzz/targets`, nightly) and the replay of its corpora (`tests/corpus.rs`, stable, part of
//! `make test`) call the same functions, so an input that was found once is a test for ever. A target never
//! refuses an input: what does not fit is cut or repaired, so that mutations stay cheap. Nothing here reads a
//! clock, a file or a random source: the same bytes always take the same path.
//!
//! | target | what it gets | what must hold |
//! |---|---|---|
//! | `packet` | a frame | every view lies in the frame, is written again as it was read, has the naive checksum |
//! | `tcp_options` | an option field | agrees with a reader written by the book; survives writing |
//! | `http_head` | a stream of requests | how it is cut does not matter; framing agrees with httparse and a naive reader |
//! | `http_chunks` | a chunked body | how it is cut does not matter; agrees with a reader written by the book |
//! | `http_answer` | fields, target and file | ranges and paths agree with naive twins; answers are well-formed and true |
//! | `config` | a TOML file | reads or explains itself; what is printed reads back |
//! | `stack` | operations on a TCP | streams stay what they were, windows are kept, everything ends |
//! | `ranges`, `wheel`, `flows` | operations | agree with a bitmap, a sorted map and a list |

#![forbid(unsafe_code)]

mod bytes;
mod config;
mod flows;
mod http_answer;
mod http_chunks;
mod http_head;
mod packet;
mod ranges;
mod stack;
mod tcp_options;
mod wheel;

pub use config::config;
pub use flows::flows;
pub use http_answer::http_answer;
pub use http_chunks::http_chunks;
pub use http_head::http_head;
pub use packet::packet;
pub use ranges::ranges;
pub use stack::{stack, stack_operations};
pub use tcp_options::tcp_options;
pub use wheel::wheel;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: the binary of the fuzzer and the folder of its corpus.
    pub name: &'static str,
    /// Runs one input; panics if an invariant does not hold.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "packet",
        run: packet,
    },
    Target {
        name: "tcp_options",
        run: tcp_options,
    },
    Target {
        name: "http_head",
        run: http_head,
    },
    Target {
        name: "http_chunks",
        run: http_chunks,
    },
    Target {
        name: "http_answer",
        run: http_answer,
    },
    Target {
        name: "config",
        run: config,
    },
    Target {
        name: "stack",
        run: stack,
    },
    Target {
        name: "ranges",
        run: ranges,
    },
    Target {
        name: "wheel",
        run: wheel,
    },
    Target {
        name: "flows",
        run: flows,
    },
];
