//! What helper threads do for uploads: one job at a time of each.
//!
//! Everything of an upload travels to the helper and back in one box: nothing is shared, nothing locked, nothing
//! allocated. One job at a time loses nothing, since a file's writers exclude each other in the kernel; what is
//! submitted meanwhile goes with the next job, so the busier the disk, the larger the batches.

use std::io::IoSlice;

use rustix::io::Errno;

use crate::block::LoadBuffer;
use crate::root::Root;
use crate::upload::loan::{self, Loan};
use crate::upload::scratch::Scratch;
use crate::upload::target::TargetName;
use crate::upload::{Published, UploadError, UploadOptions};

/// Pieces of memory of one pwritev(2): 16 packets of 64 KiB in frames. The kernel takes 1,024 (UIO_MAXIOV).
const SLICES_PER_WRITE: usize = 288;

/// Where the bytes of a piece are.
#[derive(Debug)]
pub(crate) enum Source {
    /// In a block of this disk, from its begin.
    Block(LoadBuffer),
    /// In memory of the caller's: all of it.
    Loan(Box<dyn Loan>),
}

/// Bytes for one place in the file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) source: Source,
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) len: usize,
}

/// What is to be done after the batch is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Nothing: more comes.
    GoOn,
    /// The file is complete with so many bytes: publish it.
    Finish(u64),
    /// Not even the batch is wanted any more.
    GiveUp,
}

/// Everything a helper needs of one upload.
#[derive(Debug)]
pub(crate) struct UploadWork {
    pub(crate) target: TargetName,
    /// `None` while the slot is free.
    pub(crate) root: Option<Root>,
    pub(crate) options: UploadOptions,
    /// From the first job on, until it is published or given up.
    pub(crate) scratch: Option<Scratch>,
    pub(crate) batch: Vec<Piece>,
    pub(crate) order: Order,
    /// How many bytes the last job wrote.
    pub(crate) written: u64,
    /// Whether O_TMPFILE is tried. Always, except in tests of the other way.
    pub(crate) tmpfile: bool,
}

/// Work for a helper.
pub(crate) struct UploadJob {
    /// Slot of the upload table.
    pub(crate) slot: u32,
    pub(crate) work: Box<UploadWork>,
}

/// What a job came to: `Some` when the upload is published.
pub(crate) type UploadResult = Result<Option<Published>, UploadError>;

impl UploadJob {
    /// Ends the upload when the disk goes; the blocks are given to `take_back`.
    pub(crate) fn take_apart(self, mut take_back: impl FnMut(LoadBuffer)) {
        for piece in self.work.batch {
            // What was lent goes with its box: whoever lent it counts on none of it any more.
            if let Source::Block(buffer) = piece.source {
                take_back(buffer);
            }
        }
    }
}

impl UploadWork {
    /// Does the job. After an error the file is gone, and its space is free.
    pub(crate) fn run(&mut self) -> UploadResult {
        self.written = 0;
        let result = self.step();
        if result.is_err() || self.order == Order::GiveUp {
            self.scratch = None;
        }
        result
    }

    fn step(&mut self) -> UploadResult {
        if self.order == Order::GiveUp {
            return Ok(None);
        }
        let Some(root) = &self.root else {
            return Ok(None);
        };
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => Scratch::create(root, &self.target, &self.options, self.tmpfile)?,
        };
        let mut rest = self.batch.as_mut_slice();
        while !rest.is_empty() {
            let (pieces, bytes) = write_run(&scratch, rest)?;
            self.written += bytes;
            rest = &mut rest[pieces..];
        }
        if let Order::Finish(size) = self.order {
            let precondition = &self.options.precondition;
            return scratch
                .publish(root, &self.target, precondition, size)
                .map(Some);
        }
        self.scratch = Some(scratch);
        Ok(None)
    }
}

/// Writes the first of `pieces` and those that follow it in the file, as many as one call takes: how many, and their
/// bytes.
fn write_run(scratch: &Scratch, pieces: &mut [Piece]) -> Result<(usize, u64), UploadError> {
    let offset = pieces.first().map_or(0, |piece| piece.offset);
    let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
    let (mut used, mut count, mut bytes) = (0, 0, 0);
    for piece in pieces {
        if offset.checked_add(bytes) != Some(piece.offset) {
            break;
        }
        let len = piece.len as u64;
        let Some(more) = piece.list(&mut slices[used..]) else {
            break;
        };
        used += more;
        count += 1;
        bytes += len;
    }
    if count == 0 {
        // A loan of more pieces than fit is refused when it is made.
        return Err(UploadError::Io(Errno::INVAL));
    }
    scratch.write(&mut slices[..used], offset, bytes)?;
    Ok((count, bytes))
}

impl Piece {
    /// Lists where its bytes are: in how many places, or `None` if they do not fit.
    fn list<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> Option<usize> {
        match &mut self.source {
            Source::Block(buffer) => {
                *slices.first_mut()? = IoSlice::new(&buffer.bytes_mut()[..self.len]);
                Some(1)
            }
            Source::Loan(loan) => loan::list(&**loan, slices),
        }
    }
}

/// Whether a loan can be written in one call.
pub(crate) fn fits_a_write(loan: &dyn Loan) -> bool {
    loan.piece(0).is_some() && loan.piece(SLICES_PER_WRITE).is_none()
}
