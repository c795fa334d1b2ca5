//! What libbpf prints, caught for the error it belongs to.
//!
//! libbpf has one print function per process and by default writes to stderr: a missing capability would bury its one
//! useful line under a verifier log. From the first [`collect`] on its messages go to the collecting thread, or nowhere.

use std::cell::RefCell;

use libbpf_rs::{PrintLevel, set_print};

thread_local! {
    /// The messages of the collection that runs on this thread, if any.
    static MESSAGES: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `operation` and returns its value with what libbpf said meanwhile, warnings and the verifier log.
pub(crate) fn collect<T>(operation: impl FnOnce() -> T) -> (T, String) {
    set_print(Some((PrintLevel::Warn, append)));
    MESSAGES.set(Some(String::new()));
    let value = operation();
    (value, MESSAGES.take().unwrap_or_default())
}

// The signature is libbpf-rs's.
#[allow(clippy::needless_pass_by_value)]
fn append(_: PrintLevel, message: String) {
    MESSAGES.with_borrow_mut(|messages| {
        if let Some(messages) = messages {
            messages.push_str(&message);
        }
    });
}
