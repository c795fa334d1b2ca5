//! What goes to the console: reports and tables to stdout, the log to stderr.
//!
//! `print!` and `eprintln!` panic when the other end of a pipe is gone, and `sluiced | head` must not end a
//! service: everything that is printed goes through [`say`]. Clippy keeps the macros out of this crate.

use std::io::Write;

/// Writes `text`, ending as it ends. An error is ignored: there is nobody left to tell it to.
pub fn say(mut stream: impl Write, text: &str) {
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}
