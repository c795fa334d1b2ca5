//! The one place where the crate takes its atomics from.
//!
//! The ring indices are the only memory this crate shares with somebody who runs at the same time (the kernel, or its
//! twin in [`crate::testing`]). Under `--cfg loom` the same ring code runs on loom's types, which explore every
//! interleaving and report a slot that is read while it is written; otherwise these are the types of `core`, with an
//! `UnsafeCell` wrapper that has loom's closure interface and no cost.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
};

#[cfg(not(loom))]
pub(crate) use self::native::UnsafeCell;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::Arc;

#[cfg(not(loom))]
mod native {
    /// `core::cell::UnsafeCell` with loom's closure interface.
    ///
    /// Transparent, so that a slice of them can lie over the entries of a ring that the kernel has mapped for us.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}
