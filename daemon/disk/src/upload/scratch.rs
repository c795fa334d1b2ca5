//! The file that an upload is written to, until it gets the name of the target.
//!
//! It has no name (O_TMPFILE), so whatever ends it takes it along: an error, an abort, the end of the process. Where
//! the file system cannot do that it has a temporary name, which is taken away when the value is dropped. All calls
//! here may block: helper threads only.

use std::ffi::CStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    fallocate, fdatasync, fstatvfs, fsync, ftruncate, futimens, linkat, openat, renameat,
    renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::file::{Drift, FileMeta};
use crate::root::{Freshness, Root, realtime, stat, stat_at};
use crate::upload::target::TargetName;
use crate::upload::{Precondition, Published, Space, TEMPORARY_PREFIX, UploadError, UploadOptions};

/// A file being written. Gone when dropped, unless it was published.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: OwnedFd,
    directory: OwnedFd,
    /// What it is called in `directory` meanwhile, if anything.
    name: Option<TemporaryName>,
    /// Whether space behind its end may have been taken.
    reserved: bool,
}

impl Scratch {
    /// Makes the file for an upload to `target`, if that is possible as far as can be said now. `tmpfile`: whether to
    /// try O_TMPFILE.
    pub(crate) fn create(
        root: &Root,
        target: &TargetName,
        options: &UploadOptions,
        tmpfile: bool,
    ) -> Result<Scratch, UploadError> {
        let directory = open_directory(root, target)?;
        let found = look(&directory, target.leaf())?;
        options.precondition.check(found.as_ref())?;
        let mode = Mode::from_bits_truncate(options.mode & 0o777);
        let (file, name) = make_file(&directory, mode, tmpfile)?;
        let mut scratch = Scratch {
            file,
            directory,
            name,
            reserved: false,
        };
        scratch.find_space(options.space)?;
        Ok(scratch)
    }

    /// Writes all of `slices`, which are `bytes` long together, at `offset`.
    pub(crate) fn write(
        &self,
        mut slices: &mut [IoSlice<'_>],
        mut offset: u64,
        bytes: u64,
    ) -> Result<(), UploadError> {
        // The kernel's offsets are signed. What it thinks of such a place would be EINVAL, or EOVERFLOW.
        let end = offset.checked_add(bytes);
        if end.is_none_or(|end| end > i64::MAX.cast_unsigned()) {
            return Err(UploadError::TooLarge);
        }
        while !slices.is_empty() {
            match rustix::io::pwritev(&self.file, slices, offset) {
                // Not known to happen to a regular file; to go on would be for ever.
                Ok(0) => return Err(UploadError::Io(Errno::IO)),
                Ok(written) => {
                    IoSlice::advance_slices(&mut slices, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(UploadError::from_errno(errno)),
            }
        }
        Ok(())
    }

    /// Gives the file its length, makes it durable, and then the name of the target to it. What fails behind that is
    /// [`UploadError::NotDurable`]: the name may be seen, and read, already.
    pub(crate) fn publish(
        mut self,
        root: &Root,
        target: &TargetName,
        precondition: &Precondition,
        size: u64,
    ) -> Result<Published, UploadError> {
        self.set_size(size).map_err(UploadError::from_errno)?;
        self.stamp().map_err(UploadError::from_errno)?;
        fdatasync(&self.file).map_err(UploadError::from_errno)?;
        let published = {
            let _turn = root.publishing_turn();
            self.confirm_directory(root, target)?;
            let created = self.take_name_of(target.leaf(), precondition)?;
            // Before the next upload replaces it, which would show in the number of links.
            let (meta, _) =
                stat(self.file.as_fd(), Freshness::Synced).map_err(UploadError::NotDurable)?;
            Published { created, meta }
        };
        fsync(&self.directory).map_err(UploadError::NotDurable)?;
        Ok(published)
    }

    fn find_space(&mut self, space: Space) -> Result<(), UploadError> {
        match space {
            Space::Unknown | Space::Expected(0) | Space::Reserved(0) => Ok(()),
            Space::Expected(bytes) => self.expect_space(bytes),
            Space::Reserved(bytes) => {
                self.reserved = true;
                match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.expect_space(bytes),
                    answer => answer.map_err(UploadError::from_errno),
                }
            }
        }
    }

    fn expect_space(&self, bytes: u64) -> Result<(), UploadError> {
        let Ok(volume) = fstatvfs(&self.file) else {
            // Nobody is refused because the question has no answer.
            return Ok(());
        };
        let available = volume.f_bavail.saturating_mul(volume.f_frsize);
        // File systems that do not count (some FUSE ones) say 0 for everything.
        if volume.f_blocks > 0 && available < bytes {
            return Err(UploadError::NoSpace);
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), Errno> {
        let (meta, _) = stat(self.file.as_fd(), Freshness::Synced)?;
        // Of the right length already, it may still have reserved blocks behind its end.
        if meta.size != size || self.reserved {
            ftruncate(&self.file, size)?;
        }
        Ok(())
    }

    /// Sets the time of the last change to the nanosecond. The kernel's own stamp advances by ticks of some milliseconds,
    /// so two uploads of one length could share it, and an entity tag made of both would not tell them apart.
    fn stamp(&self) -> Result<(), Errno> {
        let now = unrounded(realtime());
        let (last_access, last_modification) = (now, now);
        let times = Timestamps {
            last_access,
            last_modification,
        };
        futimens(&self.file, &times)
    }

    /// The directory may have been moved or removed since: then the name of the target leads elsewhere by now.
    fn confirm_directory(&self, root: &Root, target: &TargetName) -> Result<(), UploadError> {
        let there = open_directory(root, target)?;
        let is_same = stat(there.as_fd(), Freshness::Synced)
            .and_then(|(there, _)| Ok((there, stat(self.directory.as_fd(), Freshness::Synced)?.0)))
            .map(|(there, ours)| there.is_same_inode(&ours))
            .map_err(UploadError::from_errno)?;
        if is_same {
            Ok(())
        } else {
            Err(UploadError::NoDirectory)
        }
    }

    /// Says whether no file had the name before.
    fn take_name_of(
        &mut self,
        leaf: &CStr,
        precondition: &Precondition,
    ) -> Result<bool, UploadError> {
        let may_create = matches!(precondition, Precondition::None | Precondition::Absent);
        let must_create = matches!(precondition, Precondition::Absent);
        if self.name.is_none() && may_create {
            // A name that nobody has is taken in one step. link(2) never replaces.
            match self.link(leaf) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) if must_create => return Err(UploadError::Exists),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.naming_failed(errno)),
            }
        }
        if must_create {
            return self.rename_to_new(leaf).map(|()| true);
        }
        // To replace is rename(2)'s alone, and that needs a name to begin with.
        self.take_temporary_name()?;
        let found = look(&self.directory, leaf)?;
        precondition.check(found.as_ref())?;
        if let Some(name) = &self.name {
            renameat(&self.directory, name.as_c_str(), &self.directory, leaf)
                .map_err(|errno| self.naming_failed(errno))?;
        }
        self.name = None;
        Ok(found.is_none())
    }

    fn rename_to_new(&mut self, leaf: &CStr) -> Result<(), UploadError> {
        let Some(name) = &self.name else {
            return Err(UploadError::Io(Errno::NOENT));
        };
        let name = name.as_c_str();
        let (directory, noreplace) = (&self.directory, RenameFlags::NOREPLACE);
        match renameat_with(directory, name, directory, leaf, noreplace) {
            Ok(()) => self.name = None,
            // A file system without flags for rename (NFS) can link: the temporary name goes with `self`.
            Err(Errno::INVAL) => match linkat(directory, name, directory, leaf, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::EXIST) => return Err(UploadError::Exists),
                Err(errno) => return Err(self.naming_failed(errno)),
            },
            Err(Errno::EXIST) => return Err(UploadError::Exists),
            Err(errno) => return Err(self.naming_failed(errno)),
        }
        Ok(())
    }

    fn take_temporary_name(&mut self) -> Result<(), UploadError> {
        while self.name.is_none() {
            let name = TemporaryName::random();
            match self.link(name.as_c_str()) {
                Ok(()) => self.name = Some(name),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.naming_failed(errno)),
            }
        }
        Ok(())
    }

    /// Gives the file without a name the name `name` in its directory.
    fn link(&self, name: &CStr) -> Result<(), Errno> {
        match linkat(&self.file, c"", &self.directory, name, AtFlags::EMPTY_PATH) {
            // Before Linux 6.10 that takes CAP_DAC_READ_SEARCH (open(2), O_TMPFILE); this takes a mounted /proc.
            Err(Errno::NOENT) => {}
            answer => return answer,
        }
        let mut path = [0; 32];
        // "/proc/self/fd/" and ten digits fit.
        let _ = write!(&mut path[..], "/proc/self/fd/{}", self.file.as_raw_fd());
        let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
        linkat(CWD, path, &self.directory, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn naming_failed(&self, errno: Errno) -> UploadError {
        let is_removed = || {
            stat(self.directory.as_fd(), Freshness::Synced).is_ok_and(|(meta, _)| !meta.has_names())
        };
        match errno {
            Errno::NOENT if is_removed() => UploadError::NoDirectory,
            errno => UploadError::from_errno(errno),
        }
    }
}

impl Root {
    /// Whether a file can be stored right below this root, as far as can be said now: makes an empty one as an upload
    /// does, gives it a name with [`TEMPORARY_PREFIX`] and takes it away. Directories below may be another matter. May
    /// block.
    ///
    /// # Errors
    /// What an upload would fail with. [`UploadError::Io`] with ENOENT: a file without a name needs /proc to get one,
    /// unless the process has CAP_DAC_READ_SEARCH or the kernel is Linux 6.10.
    pub fn try_upload(&self) -> Result<(), UploadError> {
        let directory = self.open_directory(c".").map_err(UploadError::from_errno)?;
        let (file, name) = make_file(&directory, Mode::RUSR | Mode::WUSR, true)?;
        let mut scratch = Scratch {
            file,
            directory,
            name,
            reserved: false,
        };
        scratch.take_temporary_name()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nothing can be done about an error. The prefix tells an operator what the file is.
            let _ = unlinkat(&self.directory, name.as_c_str(), AtFlags::empty());
        }
    }
}

impl Precondition {
    /// Tests it against the file that has the name, if one has.
    fn check(&self, found: Option<&FileMeta>) -> Result<(), UploadError> {
        match (self, found) {
            (Precondition::None, _)
            | (Precondition::Absent, None)
            | (Precondition::Present, Some(_)) => Ok(()),
            (Precondition::Absent, Some(_)) => Err(UploadError::Exists),
            (Precondition::Present | Precondition::Version(_), None) => Err(UploadError::Changed),
            (Precondition::Version(version), Some(now)) => match version.drift(now) {
                Drift::Same | Drift::Relinked => Ok(()),
                Drift::Changed(_) => Err(UploadError::Changed),
            },
        }
    }
}

/// A time that every coarser file system has to change: the finest step below the nanosecond's is 100 ns (NTFS, SMB). So
/// what it stored shows whether it rounded.
fn unrounded(mut time: Timespec) -> Timespec {
    if time.tv_nsec % 100 == 0 {
        time.tv_nsec += 1;
    }
    time
}

/// A name of our own in the directory of the target.
#[derive(Debug)]
struct TemporaryName([u8; TemporaryName::BYTES]);

impl TemporaryName {
    /// The prefix, 16 hexadecimal digits and a NUL.
    const BYTES: usize = TEMPORARY_PREFIX.len() + 16 + 1;

    /// One of 2^64. Whoever finds it taken tries another.
    fn random() -> TemporaryName {
        // The standard library's way to random numbers: keys from the kernel, other ones each time.
        let random = RandomState::new().build_hasher().finish();
        let mut name = [0; TemporaryName::BYTES];
        let _ = write!(&mut name[..], "{TEMPORARY_PREFIX}{random:016x}");
        TemporaryName(name)
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// Makes an empty file in `directory`, without a name if that can be.
fn make_file(
    directory: &OwnedFd,
    mode: Mode,
    tmpfile: bool,
) -> Result<(OwnedFd, Option<TemporaryName>), UploadError> {
    let failed = |errno| match errno {
        // The directory was removed a moment ago.
        Errno::NOENT => UploadError::NoDirectory,
        errno => UploadError::from_errno(errno),
    };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if tmpfile {
        match openat(directory, c".", flags | OFlags::TMPFILE, mode) {
            // No O_TMPFILE here; EISDIR comes from where the flag is not known at all (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
            answer => return answer.map(|file| (file, None)).map_err(failed),
        }
    }
    loop {
        let name = TemporaryName::random();
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match openat(directory, name.as_c_str(), flags, mode) {
            Err(Errno::EXIST) => {}
            answer => return answer.map(|file| (file, Some(name))).map_err(failed),
        }
    }
}

fn open_directory(root: &Root, target: &TargetName) -> Result<OwnedFd, UploadError> {
    root.open_directory(target.directory())
        .map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => UploadError::NoDirectory,
            errno => UploadError::from_errno(errno),
        })
}

/// The file that has the name `leaf`, if one has. Anything else of that name is an error.
fn look(directory: &OwnedFd, leaf: &CStr) -> Result<Option<FileMeta>, UploadError> {
    match stat_at(directory.as_fd(), leaf) {
        Ok((meta, FileType::RegularFile)) => Ok(Some(meta)),
        Ok((_, FileType::Directory)) => Err(UploadError::IsDirectory),
        // To replace the link would change what the name is, to write through it somebody else's file.
        Ok((_, FileType::Symlink)) => Err(UploadError::Denied),
        Ok(_) => Err(UploadError::NotAFile),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(UploadError::from_errno(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Symlinks;

    #[test]
    fn no_upload_is_given_a_time_that_a_coarse_file_system_could_have() {
        let stamped = |tv_nsec| {
            let time = Timespec { tv_sec: 7, tv_nsec };
            (unrounded(time).tv_sec, unrounded(time).tv_nsec)
        };
        assert_eq!(stamped(0), (7, 1));
        assert_eq!(stamped(999_999_900), (7, 999_999_901));
        assert_eq!(stamped(123_456_789), (7, 123_456_789));
    }

    #[test]
    fn a_trial_of_uploads_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = Root::open(directory.path(), Symlinks::Never).expect("the root");
        assert_eq!(root.try_upload(), Ok(()));
        let entries = std::fs::read_dir(directory.path()).expect("the directory");
        assert_eq!(entries.count(), 0);
    }

    #[test]
    fn a_trial_of_uploads_says_what_an_upload_would_fail_with() {
        // Nobody makes files there, whoever they are.
        let root = Root::open(std::path::Path::new("/proc/self"), Symlinks::Never);
        let error = root.expect("proc is mounted").try_upload();
        assert!(
            matches!(error, Err(UploadError::Denied | UploadError::NoDirectory)),
            "{error:?}"
        );
    }

    #[test]
    fn what_fails_behind_the_name_says_that_the_file_is_there() {
        for precondition in [Precondition::None, Precondition::Absent] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let root = Root::open(directory.path(), Symlinks::Never).expect("the root");
            let mut target = TargetName::new();
            target.set(b"new").expect("a name");
            let options = UploadOptions::default();
            let mut scratch = Scratch::create(&root, &target, &options, true).expect("created");
            scratch
                .write(&mut [IoSlice::new(b"whole")], 0, 5)
                .expect("written");
            // Names can be made by way of such a descriptor, but fsync(2) says EBADF.
            let path_only = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            scratch.directory =
                openat(CWD, directory.path(), path_only, Mode::empty()).expect("the directory");
            let published = scratch.publish(&root, &target, &precondition, 5);
            assert_eq!(published, Err(UploadError::NotDurable(Errno::BADF)));
            let there = std::fs::read(directory.path().join("new")).expect("the file");
            assert_eq!(there, b"whole");
        }
    }
}
