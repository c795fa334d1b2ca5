//! What helper threads do for uploads: one job at a time of each.
//!
//! Everything of an upload travels to the helper and back in one box: nothing is shared, nothing locked, nothing
//! allocated. One job at a time loses nothing, since a file's writers exclude each other in the kernel; what is
//! submitted meanwhile goes with the next job, so the busier the disk, the larger the batches.

use std::io::IoSlice;

use crate::block::LoadBuffer;
use crate::root::Root;
use crate::upload::scratch::Scratch;
use crate::upload::target::TargetName;
use crate::upload::{Published, UploadError, UploadOptions};

/// Pieces of one pwritev(2): 4 MiB, beyond which a system call costs nothing worth naming.
const PIECES_PER_WRITE: usize = 64;

/// Bytes for one place in the file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) buffer: LoadBuffer,
    pub(crate) offset: u64,
    /// How many bytes of the block.
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
            take_back(piece.buffer);
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
            let (run, behind) = rest.split_at_mut(run_of(rest));
            self.written += write_run(&scratch, run)?;
            rest = behind;
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

/// How many pieces from the first on follow one another in the file, as many as one write takes.
fn run_of(pieces: &[Piece]) -> usize {
    let follows =
        |pair: &[Piece]| pair[0].offset.checked_add(pair[0].len as u64) == Some(pair[1].offset);
    let pairs = pieces.windows(2).take(PIECES_PER_WRITE - 1);
    1 + pairs.take_while(|pair| follows(pair)).count()
}

/// Writes pieces that follow one another; how many bytes they are.
fn write_run(scratch: &Scratch, run: &mut [Piece]) -> Result<u64, UploadError> {
    let offset = run.first().map_or(0, |piece| piece.offset);
    let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
    let mut bytes = 0;
    let count = run.len();
    for (slice, piece) in slices.iter_mut().zip(run) {
        *slice = IoSlice::new(&piece.buffer.bytes_mut()[..piece.len]);
        bytes += piece.len as u64;
    }
    scratch.write(&mut slices[..count], offset, bytes)?;
    Ok(bytes)
}
