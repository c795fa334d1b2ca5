//! File systems that are full, read-only, or not ours to write to.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::upload::Space;

#[test]
fn more_than_the_file_system_has_is_refused_before_it_is_sent() {
    on_both(|rig| {
        for space in [Space::Expected(1 << 60), Space::Reserved(1 << 60)] {
            let options = UploadOptions {
                space,
                ..UploadOptions::default()
            };
            let answer = rig.put_as("file", b"x", &options);
            let refused = matches!(answer, Err(UploadError::NoSpace | UploadError::TooLarge));
            assert!(refused, "{answer:?}");
        }
    });
}

#[test]
fn reserved_space_that_was_not_needed_comes_back() {
    on_both(|rig| {
        for size in [0, 10] {
            let options = UploadOptions {
                space: Space::Reserved(1 << 20),
                ..UploadOptions::default()
            };
            let bytes = content(1, size);
            rig.put_as("file", &bytes, &options).expect("published");
            let there = fs::metadata(rig.path("file")).expect("the file");
            assert_eq!(there.len(), size as u64);
            assert!(there.blocks() * 512 <= 65536, "{} blocks", there.blocks());
        }
    });
}

/// A file system of one MiB at `at`, which goes with the calling thread: its mounts are its own. `None`, with the reason
/// printed, where that is not allowed.
fn mount_small(at: &std::path::Path) -> Option<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: a mount namespace (and with it the working directory) of its own changes for this thread, and those it
    // starts later, what paths mean. No memory or descriptor table is unshared, nothing else here relies on paths.
    let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)
        })
        .and_then(|()| mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(c"size=1m")));
    if let Err(errno) = mounted {
        skip::skip("disk", &format!("no tmpfs can be mounted here: {errno}"));
        return None;
    }
    Some(())
}

/// A rig on a small file system.
fn small_rig() -> Option<Rig> {
    let dir = TempDir::new().expect("a temporary directory");
    mount_small(dir.path())?;
    let mut rig = rig_with(32, LIMITS);
    // The helper threads, started after the mount, see it.
    rig.root = Root::open(dir.path(), Symlinks::Never).expect("the root opens");
    rig.dir = dir;
    Some(rig)
}

#[test]
fn a_full_disk_fails_the_upload_and_leaves_the_space_to_the_next() {
    let Some(mut rig) = small_rig() else { return };
    let options = UploadOptions::default();
    for _ in 0..3 {
        let too_much = content(1, 20 * BLOCK_BYTES);
        assert_eq!(rig.put("file", &too_much), Err(UploadError::NoSpace));
        assert!(!rig.path("file").exists());
    }
    let fits = content(2, 10 * BLOCK_BYTES);
    rig.put("file", &fits).expect("published");
    for (space, expected) in [
        (Space::Expected(1 << 20), Err(UploadError::NoSpace)),
        (Space::Reserved(1 << 20), Err(UploadError::NoSpace)),
        (Space::Reserved(BLOCK_BYTES_U64), Ok(true)),
    ] {
        let options = UploadOptions { space, ..options };
        let answer = rig.put_as("other", b"x", &options);
        assert_eq!(answer.map(|published| published.created), expected);
    }
    assert!(fs::read(rig.path("file")).expect("the file") == fits);
}

#[test]
fn a_read_only_file_system_is_told() {
    use rustix::mount::{MountFlags, mount_remount};
    let Some(mut rig) = small_rig() else { return };
    let upload = rig.begin("late", &UploadOptions::default()).expect("begun");
    rig.state_after(&upload, UploadState::Opening);
    rig.disk.end_upload(upload);
    rig.poll_until("it is gone", |rig| rig.disk.ledger().at_rest());
    mount_remount(rig.dir.path(), MountFlags::RDONLY, "").expect("remounted");
    assert_eq!(rig.put("file", b"x"), Err(UploadError::ReadOnly));
}

#[test]
fn a_directory_that_may_not_be_written_to_is_told() {
    // Helper threads have what the thread that starts them has; the thread of this test may be that of the next.
    let test = std::thread::spawn(|| {
        obey_modes();
        on_both(|rig| {
            fs::create_dir(rig.path("dir")).expect("a directory");
            let mode = fs::Permissions::from_mode(0o555);
            fs::set_permissions(rig.path("dir"), mode).expect("read-only");
            assert_eq!(rig.put("dir/file", b"x"), Err(UploadError::Denied));
            rig.put("file", b"x").expect("published, by way of /proc");
        });
    });
    test.join().expect("it may not write there");
}

/// Takes from this thread what lets root write everywhere.
fn obey_modes() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("its own");
    sets.effective
        .remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
    set_capabilities(None, sets).expect("less is always allowed");
}
