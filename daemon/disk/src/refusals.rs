//! Who was told that there is no block, and must hear of it when there is one.
//!
//! Those who were refused ask again when a poll reports news, and most of it comes from helper threads. Blocks also come
//! back by calls of the caller, and those that are kept back for their waiters become free by turns of the loop: of both
//! nobody else would tell, and the loop may be about to sleep. So where a method says so, the disk has to signal itself,
//! that the next poll comes and reports it. All is forgotten when one did.

/// The refusals since the last poll that reported news.
#[derive(Default)]
pub(crate) struct Refusals {
    fetch: bool,
    /// An upload, for want of memory.
    upload: bool,
    /// An upload, because it or all of them have their share.
    share: bool,
    /// Somebody got none although some were kept back for others.
    starved: bool,
    /// There is one again.
    is_over: bool,
}

impl Refusals {
    /// A fetch got no block. Starving is another matter: see [`Refusals::starve`].
    pub(crate) fn note_fetch(&mut self) {
        self.fetch = true;
    }

    /// An upload got no block, because there was none.
    pub(crate) fn note_upload(&mut self) {
        self.upload = true;
    }

    /// An upload got no block, because it has enough.
    pub(crate) fn note_share(&mut self) {
        self.share = true;
    }

    /// Whether an upload waits for memory.
    pub(crate) fn concerns_memory_of_uploads(&self) -> bool {
        self.upload
    }

    /// Whether anybody was refused.
    pub(crate) fn concerns_anybody(&self) -> bool {
        self.fetch || self.upload || self.share
    }

    /// Somebody got no block; `keeps_back`: some are kept back for others. True if that is to be signalled.
    #[must_use]
    pub(crate) fn starve(&mut self, keeps_back: bool) -> bool {
        let is_new = keeps_back && !self.starved;
        self.starved |= keeps_back;
        is_new
    }

    /// Somebody starves.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// A block came back. True if that is to be signalled.
    #[must_use]
    pub(crate) fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.is_over, true)
    }

    /// A block came back since the last news.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// All that were refused are told to ask again.
    pub(crate) fn forget(&mut self) {
        *self = Refusals::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_comes_back_is_signalled_once_until_it_is_told() {
        let mut refusals = Refusals::default();
        refusals.note_upload();
        assert!(refusals.end());
        assert!(!refusals.end());
        refusals.forget();
        assert!(!refusals.concerns_anybody() && !refusals.is_over());
        assert!(refusals.end());
    }

    #[test]
    fn who_gets_none_of_what_is_kept_back_starves_and_nobody_else_does() {
        let mut refusals = Refusals::default();
        refusals.note_fetch();
        assert!(!refusals.starve(false));
        assert!(!refusals.is_starved());
        assert!(refusals.starve(true));
        assert!(!refusals.starve(true), "signalled before");
        assert!(refusals.is_starved());
    }
}
