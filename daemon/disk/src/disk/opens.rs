//! How a file is opened: by who opened it in this turn, from the dentry cache, or by a helper thread.
//!
//! Whichever it was, what is open is one entry per version of a file ([`FileTable`](crate::file::FileTable)), and
//! descriptors that are not needed are closed by a helper thread, because that can wait for a server.

use super::Disk;
use crate::answer::Opening;
use crate::file::Adopted;
use crate::handle::{FileHandle, OpenTicket};
use crate::root::{OpenError, Opened, Root};

impl Disk {
    /// Opens the regular file at `path` below `root`. `path` is relative, already decoded; whatever it contains, it
    /// does not lead out of the root. The empty path is the root itself, a directory.
    ///
    /// A path that was opened in this turn of the loop leads to the same version again: the caller calls
    /// [`poll`](Disk::poll) after requests have arrived and before it answers them.
    pub fn open(&mut self, root: &Root, path: &[u8]) -> Opening {
        if let Some((slot, id)) = self.recent.find(root, path)
            && let Some(handle) = self.files.join(slot, id)
        {
            self.counters.opens_recent += 1;
            return Opening::Done(Ok(handle));
        }
        if let Err(error) = self.name.set(path) {
            return Opening::Done(Err(error));
        }
        if self.inline.opens
            && let Some(answer) = root.open_cached(self.name.as_c_str())
        {
            self.counters.opens_inline += 1;
            let answer = answer.and_then(|opened| self.adopt(opened));
            if let Ok(handle) = &answer {
                self.note_recent(root, path, handle.0);
            }
            return Opening::Done(answer);
        }
        let Some((ticket, name)) = self.tickets.issue(&self.name) else {
            return Opening::Done(Err(OpenError::TooManyFiles));
        };
        self.counters.opens_helper += 1;
        self.helpers.open(ticket.0, root.clone(), name);
        Opening::Pending(ticket)
    }

    /// Exchanges a ticket for the answer.
    ///
    /// # Errors
    /// The ticket back, if there is no answer yet.
    pub fn opened(
        &mut self,
        ticket: OpenTicket,
    ) -> Result<Result<FileHandle, OpenError>, OpenTicket> {
        let answer = self.tickets.redeem(ticket)?;
        Ok(answer.and_then(|opened| self.adopt(opened)))
    }

    /// Gives up an open, whether it is answered or not.
    pub fn abandon(&mut self, ticket: OpenTicket) {
        if let Some(opened) = self.tickets.abandon(ticket) {
            self.helpers.close(opened.fd);
        }
    }

    pub(super) fn adopt(&mut self, opened: Opened) -> Result<FileHandle, OpenError> {
        let opened = match self.files.adopt(opened) {
            Adopted::Full(opened) => opened,
            adopted => return self.adopted(adopted),
        };
        // What is open for nobody in particular must not be in the way.
        self.let_go();
        let adopted = self.files.adopt(opened);
        self.adopted(adopted)
    }

    fn adopted(&mut self, adopted: Adopted) -> Result<FileHandle, OpenError> {
        match adopted {
            Adopted::Own(handle) => {
                self.choose_way(handle.0);
                Ok(handle)
            }
            Adopted::Shared(handle, surplus) => {
                self.counters.opens_shared += 1;
                self.helpers.close(surplus);
                Ok(handle)
            }
            Adopted::Full(unwanted) => {
                self.helpers.close(unwanted.fd);
                Err(OpenError::TooManyFiles)
            }
        }
    }

    /// `path` was opened here and now: others in this turn may have the same.
    fn note_recent(&mut self, root: &Root, path: &[u8], slot: u32) {
        let id = self.files.id(slot);
        self.recent.note(root, path, slot, id);
        // Its times were read a moment ago.
        self.files.note_confirmed(slot, self.recent.turn());
        if self.recent.may_hold()
            && let Some(held) = self.files.join(slot, id)
        {
            self.recent.hold(held);
        }
    }

    pub(super) fn let_go(&mut self) {
        while let Some(held) = self.recent.let_go() {
            self.close(held);
        }
    }
}
