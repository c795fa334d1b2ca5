//! How far ahead of its transport a connection reads.
//!
//! What lies within the window is asked for at once, whatever this file says: it may leave as soon as it is there. The
//! *lead* is what is read beyond the window, so that a block is there when the window reaches it. How long the disk takes
//! nobody knows in advance. So a response begins with one block; whenever its stream has to wait for the disk the lead
//! becomes as long as the window, and then twice what it was; every block that was in the page cache shortens it by one.
//! A file in memory is read block by block as the transport takes it, and a slow client costs a block or two.

/// Blocks of a lead at least: the kernel, too, reads ahead of one that is not in memory.
const LEAST: usize = 1;
/// Blocks of the first lead after the stream had to wait: 256 KiB hide some milliseconds of an ordinary client.
const WAITED: usize = 4;
/// Blocks that one look asks for: each that is not in memory costs the loop a system call, some 10 us. What is left over is
/// asked for in the next look, and those come with acknowledgements or with blocks.
pub(super) const AT_ONCE: usize = 8;

/// Blocks to be read beyond the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lead(usize);

impl Lead {
    /// Of a connection about which nothing is known.
    pub(super) const fn new() -> Lead {
        Lead(LEAST)
    }

    /// In blocks, at most `most`.
    pub(super) fn blocks(self, most: usize) -> usize {
        self.0.min(most)
    }

    /// The stream had to wait for a block within a window of `window` blocks. At most `most` are ever wanted.
    pub(super) fn waited(&mut self, window: usize, most: usize) {
        self.0 = (2 * self.0).max(window).max(WAITED).min(most.max(LEAST));
    }

    /// A block was in memory before anybody needed it to be.
    pub(super) fn was_there(&mut self) {
        self.0 = self.0.saturating_sub(1).max(LEAST);
    }
}

/// The end of what is read ahead: `lead` blocks behind `wanted`, in whole reads of `run` blocks. So far as the share in memory
/// goes, which ends at `share`, and not behind the `end` of what is sent of the file.
pub(super) fn end_of_lead(wanted: u64, lead: u64, run: u64, share: u64, end: u64) -> u64 {
    let runs = wanted.saturating_add(lead).div_ceil(run);
    let wish = runs.saturating_mul(run).min(end);
    match wish <= share {
        true => wish,
        // What is left is fetched when the stream needs it. A share that moves on block by block must not make reads of one.
        false => share / run * run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 64;

    fn after(waits: usize, window: usize) -> Lead {
        let mut lead = Lead::new();
        (0..waits).for_each(|_| lead.waited(window, MOST));
        lead
    }

    #[test]
    fn who_never_waits_reads_one_block_ahead() {
        let mut lead = Lead::new();
        lead.was_there();
        assert_eq!(lead.blocks(MOST), 1);
    }

    #[test]
    fn the_first_wait_makes_the_lead_as_long_as_the_window() {
        assert_eq!(after(1, 16).blocks(MOST), 16);
        assert_eq!(after(1, 1).blocks(MOST), WAITED);
    }

    #[test]
    fn each_further_wait_doubles_it_up_to_the_most() {
        let leads: Vec<usize> = (1..=6).map(|waits| after(waits, 1).blocks(MOST)).collect();
        assert_eq!(leads, [4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn a_file_that_is_in_memory_after_all_shortens_it_block_by_block() {
        let mut lead = after(2, 1);
        (0..3).for_each(|_| lead.was_there());
        assert_eq!(lead.blocks(MOST), 5);
        (0..10).for_each(|_| lead.was_there());
        assert_eq!(lead.blocks(MOST), LEAST);
    }

    #[test]
    fn a_lead_block_by_block_ends_where_the_share_or_the_file_does() {
        assert_eq!(end_of_lead(10, 4, 1, 64, 100), 14);
        assert_eq!(end_of_lead(10, 4, 1, 12, 100), 12);
        assert_eq!(end_of_lead(10, 4, 1, 64, 11), 11);
        assert_eq!(end_of_lead(10, u64::MAX, 1, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_lead_in_long_reads_ends_with_one_or_with_the_file() {
        assert_eq!(end_of_lead(10, 1, 8, 64, 100), 16);
        assert_eq!(end_of_lead(16, 0, 8, 64, 100), 16);
        assert_eq!(end_of_lead(16, 1, 8, 64, 100), 24);
        assert_eq!(end_of_lead(16, 1, 8, 64, 19), 19);
        assert_eq!(
            end_of_lead(16, 1, 8, 23, 100),
            16,
            "the share has no whole one"
        );
        assert_eq!(end_of_lead(3, 1, 8, 7, 100), 0, "nor this one");
    }

    #[test]
    fn without_read_ahead_there_is_none() {
        assert_eq!(after(3, 16).blocks(0), 0);
    }
}
