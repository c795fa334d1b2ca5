//! Big-endian fields at constant offsets of headers whose size was checked before.
//!
//! The array type carries the proof: with a constant offset the bounds check folds away.

/// The 16-bit field at `at`.
pub(crate) fn u16_at<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The 32-bit field at `at`.
pub(crate) fn u32_at<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// The `M` bytes at `at`: an address.
pub(crate) fn array_at<const N: usize, const M: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    let mut field = [0; M];
    field.copy_from_slice(&header[at..at + M]);
    field
}

/// Writes a field of any width at `at`.
pub(crate) fn put<const N: usize, const M: usize>(header: &mut [u8; N], at: usize, field: [u8; M]) {
    header[at..at + M].copy_from_slice(&field);
}
