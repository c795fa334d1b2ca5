//! Memory of the caller that is written where it lies: received frames, whose bytes then never pass through a block.

use std::any::Any;
use std::fmt;
use std::io::IoSlice;

#[cfg(doc)]
use crate::Disk;

/// Bytes that a caller lends until they are written. It comes back by [`Disk::take_loan`], as the same box.
pub trait Loan: Any + Send + fmt::Debug {
    /// Piece number `index` of its bytes, from 0; `None` behind the last. Always the same.
    fn piece(&self, index: usize) -> Option<&[u8]>;
}

/// Bytes of a loan.
pub(crate) fn bytes_of(loan: &dyn Loan) -> usize {
    let pieces = (0..).map_while(|index| loan.piece(index));
    pieces.map(<[u8]>::len).sum()
}

/// Lists the pieces of a loan in `slices`: how many, or `None` if they do not fit.
pub(crate) fn list<'a>(loan: &'a dyn Loan, slices: &mut [IoSlice<'a>]) -> Option<usize> {
    let mut count = 0;
    while let Some(piece) = loan.piece(count) {
        *slices.get_mut(count)? = IoSlice::new(piece);
        count += 1;
    }
    Some(count)
}
