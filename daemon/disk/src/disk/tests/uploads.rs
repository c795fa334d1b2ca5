//! Uploads to real directories, by both kinds of scratch file.

mod loans;
#[path = "../../../../tests/names/mod.rs"]
mod names;
#[path = "../../../../tests/skip.rs"]
mod skip;

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::upload::{
    Precondition, Published, Space, TEMPORARY_PREFIX, TakeBlock, UploadError, UploadHandle,
    UploadOptions, UploadState,
};
use names::names;

const LIMITS: UploadLimits = UploadLimits {
    uploads: 3,
    threads: 2,
    blocks: 6,
    blocks_each: 4,
    loans: 0,
};

pub(super) fn rig_with(blocks: usize, uploads: UploadLimits) -> Rig {
    let config = DiskConfig {
        threads: 2,
        files: 4,
        queue_depth: 8,
        uploads,
    };
    Rig::with(blocks, &config)
}

/// With O_TMPFILE and without. Whatever the test did, no temporary name may be left.
fn on_both(test: impl Fn(&mut Rig)) {
    for tmpfile in [true, false] {
        let mut rig = rig_with(16, LIMITS);
        if !tmpfile {
            rig.disk.uploads.without_tmpfile();
        }
        test(&mut rig);
        rig.poll_until("every upload is cleared away", |rig| {
            rig.disk.ledger().at_rest()
        });
        assert_eq!(rig.temporary_names(), Vec::<String>::new(), "{tmpfile}");
    }
}

impl Rig {
    fn begin(&mut self, name: &str, options: &UploadOptions) -> Result<UploadHandle, UploadError> {
        self.disk.begin_upload(&self.root, name.as_bytes(), options)
    }

    /// Waits for the state after `than`.
    fn state_after(&mut self, upload: &UploadHandle, than: UploadState) -> UploadState {
        while self.disk.upload_state(upload) == than {
            self.wait();
        }
        self.disk.upload_state(upload)
    }

    /// Takes blocks until all of `bytes` are submitted from `offset` on.
    fn send(&mut self, upload: &UploadHandle, bytes: &[u8], offset: u64) {
        for (number, piece) in (0..).zip(bytes.chunks(BLOCK_BYTES)) {
            let mut block = loop {
                match self.disk.upload_block(upload) {
                    TakeBlock::Taken(block) => break block,
                    TakeBlock::NoBlock => self.wait(),
                    TakeBlock::Closed => return,
                }
            };
            block.bytes_mut()[..piece.len()].copy_from_slice(piece);
            let offset = offset + number * BLOCK_BYTES_U64;
            self.disk.submit(block, offset, piece.len());
        }
    }

    fn finish(&mut self, upload: UploadHandle, size: u64) -> Result<Published, UploadError> {
        self.disk.finish_upload(&upload, size);
        let answer = loop {
            match self.disk.upload_state(&upload) {
                UploadState::Published(published) => break Ok(published),
                UploadState::Failed(error) => break Err(error),
                _ => self.wait(),
            }
        };
        self.disk.end_upload(upload);
        answer
    }

    fn put_as(
        &mut self,
        name: &str,
        bytes: &[u8],
        options: &UploadOptions,
    ) -> Result<Published, UploadError> {
        let upload = self.begin(name, options)?;
        self.send(&upload, bytes, 0);
        self.finish(upload, bytes.len() as u64)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<Published, UploadError> {
        self.put_as(name, bytes, &UploadOptions::default())
    }

    pub(super) fn temporary_names(&self) -> Vec<String> {
        let mut names = names(self.dir.path());
        names.retain(|name| name.starts_with(TEMPORARY_PREFIX));
        names
    }
}

fn given(precondition: Precondition) -> UploadOptions {
    UploadOptions {
        precondition,
        ..UploadOptions::default()
    }
}

#[test]
fn an_upload_creates_a_file_that_the_next_open_finds_as_it_was_told() {
    on_both(|rig| {
        let bytes = content(1, 9 * BLOCK_BYTES + 17);
        let published = rig.put("file", &bytes).expect("published");
        assert!(published.created);
        assert_eq!(published.meta.size, bytes.len() as u64);
        let file = rig.open("file");
        assert_eq!(rig.disk.meta(&file), published.meta);
        assert_eq!(rig.read(&file), Ok(bytes));
        rig.disk.close(file);
        let counters = rig.disk.counters();
        assert_eq!((counters.uploads_begun, counters.uploads_published), (1, 1));
        assert_eq!(counters.bytes_uploaded, published.meta.size);
    });
}

#[test]
fn an_empty_file_can_be_uploaded() {
    on_both(|rig| {
        let published = rig.put("file", b"").expect("published");
        assert_eq!(published.meta.size, 0);
        assert_eq!(fs::read(rig.path("file")).expect("the file"), b"");
    });
}

#[test]
fn whoever_reads_the_old_version_keeps_it_and_the_next_open_sees_the_new_one() {
    on_both(|rig| {
        let old = rig.write("file", 1, 3 * BLOCK_BYTES);
        let reader = rig.open("file");
        assert_eq!(
            rig.read_block(&reader, 0).as_deref(),
            Ok(&old[..BLOCK_BYTES])
        );
        let new = content(2, old.len());
        let published = rig.put("file", &new).expect("published");
        assert!(!published.created);
        assert_eq!(rig.read(&reader), Ok(old));
        let next = rig.open("file");
        assert_eq!(rig.disk.meta(&next), published.meta);
        assert_eq!(rig.read(&next), Ok(new));
        rig.disk.close(reader);
        rig.disk.close(next);
    });
}

#[test]
fn two_uploads_of_one_length_differ_in_their_time_of_change() {
    on_both(|rig| {
        let first = rig.put("file", b"one").expect("published").meta;
        let second = rig.put("file", b"two").expect("published").meta;
        assert_ne!(
            (first.mtime_s, first.mtime_ns),
            (second.mtime_s, second.mtime_ns)
        );
    });
}

#[test]
fn nothing_shows_before_the_upload_is_finished() {
    on_both(|rig| {
        let old = rig.write("file", 1, 100);
        let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
        let state = rig.state_after(&upload, UploadState::Opening);
        assert_eq!(state, UploadState::Writing);
        rig.send(&upload, &content(2, 5 * BLOCK_BYTES), 0);
        assert_eq!(fs::read(rig.path("file")).expect("the file"), old);
        let published = rig.finish(upload, 5 * BLOCK_BYTES_U64).expect("published");
        let there = fs::metadata(rig.path("file")).expect("the file");
        assert_eq!(there.len(), published.meta.size);
    });
}

#[test]
fn blocks_in_any_order_make_the_same_file_and_the_length_said_last_counts() {
    on_both(|rig| {
        let bytes = content(3, 3 * BLOCK_BYTES);
        let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
        for number in [2, 0, 1] {
            let at = number * BLOCK_BYTES;
            rig.send(&upload, &bytes[at..at + BLOCK_BYTES], at as u64);
        }
        rig.finish(upload, 2 * BLOCK_BYTES_U64 + 5)
            .expect("published");
        let there = fs::read(rig.path("file")).expect("the file");
        assert!(there == bytes[..2 * BLOCK_BYTES + 5]);

        let upload = rig
            .begin("longer", &UploadOptions::default())
            .expect("begun");
        rig.send(&upload, b"x", 0);
        rig.finish(upload, 3).expect("published");
        assert_eq!(fs::read(rig.path("longer")).expect("the file"), b"x\0\0");
    });
}

#[test]
fn an_upload_given_up_leaves_nothing_whatever_it_was_doing() {
    on_both(|rig| {
        let old = rig.write("file", 1, 10);
        // Not opened yet, written to, with a block with the caller, and told to finish but not done.
        for moment in 0..4 {
            rig.disk.helpers.gate().set_closed(moment != 1);
            let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
            if moment == 1 {
                rig.state_after(&upload, UploadState::Opening);
                rig.disk.helpers.gate().set_closed(true);
            }
            let held = (moment >= 2).then(|| rig.disk.upload_block(&upload));
            if moment > 0 {
                rig.send(&upload, &content(2, 2 * BLOCK_BYTES), 0);
            }
            if moment == 3 {
                rig.disk.finish_upload(&upload, 5);
            }
            rig.disk.end_upload(upload);
            assert_eq!(
                rig.disk.ledger().uploads,
                1,
                "not before its helper is done"
            );
            rig.disk.helpers.gate().set_closed(false);
            if let Some(TakeBlock::Taken(block)) = held {
                rig.disk.return_block(block);
            }
            rig.poll_until("the upload is cleared away", |rig| {
                rig.disk.ledger().at_rest()
            });
            assert_eq!(fs::read(rig.path("file")).expect("the file"), old);
            assert_eq!(rig.temporary_names(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_disk_that_goes_takes_its_uploads_along() {
    for closed in [true, false] {
        let mut rig = rig_with(16, LIMITS);
        rig.disk.uploads.without_tmpfile();
        let uploads: Vec<UploadHandle> = (0..3)
            .map(|_| rig.begin("file", &UploadOptions::default()).expect("begun"))
            .collect();
        rig.state_after(&uploads[0], UploadState::Opening);
        rig.disk.helpers.gate().set_closed(closed);
        for upload in uploads {
            rig.send(&upload, &content(1, BLOCK_BYTES), 0);
            let _lost = rig.disk.upload_block(&upload);
        }
        let gate_opener = std::thread::scope(|scope| {
            let disk = std::mem::replace(
                &mut rig.disk,
                Disk::anonymous(BLOCK_BYTES, &config_of_one()).expect("a disk"),
            );
            disk.helpers.gate().set_closed(false);
            scope.spawn(move || drop(disk)).join()
        });
        gate_opener.expect("it goes");
        assert_eq!(rig.temporary_names(), Vec::<String>::new());
    }
}

fn config_of_one() -> DiskConfig {
    DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        uploads: UploadLimits::NONE,
    }
}

#[test]
fn a_new_file_is_not_made_over_one_that_appeared_meanwhile() {
    on_both(|rig| {
        let create = given(Precondition::Absent);
        let upload = rig.begin("file", &create).expect("begun");
        let state = rig.state_after(&upload, UploadState::Opening);
        assert_eq!(state, UploadState::Writing);
        rig.write("file", 1, 10);
        rig.send(&upload, b"new", 0);
        assert_eq!(rig.finish(upload, 3), Err(UploadError::Exists));
        assert_eq!(
            fs::read(rig.path("file")).expect("the file"),
            content(1, 10)
        );
        // And where it is there from the start, one need not send.
        let upload = rig.begin("file", &create).expect("begun");
        let state = rig.state_after(&upload, UploadState::Opening);
        assert_eq!(state, UploadState::Failed(UploadError::Exists));
        assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::Closed));
        rig.disk.end_upload(upload);
        assert_eq!(
            rig.put_as("new", b"new", &create).map(|new| new.created),
            Ok(true)
        );
        assert_eq!(rig.disk.counters().uploads_failed, 2);
    });
}

#[test]
fn only_the_expected_version_is_replaced() {
    on_both(|rig| {
        let first = rig.put("file", b"one").expect("published").meta;
        let replace_first = given(Precondition::Version(first));
        let late = rig.begin("file", &replace_first).expect("begun");
        rig.state_after(&late, UploadState::Opening);
        let second = rig.put_as("file", b"two", &replace_first);
        assert_eq!(second.map(|second| second.created), Ok(false));
        assert_eq!(rig.finish(late, 0), Err(UploadError::Changed));
        let too_late = rig.put_as("file", b"six", &replace_first);
        assert_eq!(too_late, Err(UploadError::Changed));
        assert_eq!(fs::read(rig.path("file")).expect("the file"), b"two");
    });
}

#[test]
fn a_file_that_must_be_there_is_not_created() {
    on_both(|rig| {
        let present = given(Precondition::Present);
        assert_eq!(
            rig.put_as("file", b"x", &present),
            Err(UploadError::Changed)
        );
        rig.write("file", 1, 10);
        let replaced = rig.put_as("file", b"x", &present);
        assert_eq!(replaced.map(|replaced| replaced.created), Ok(false));
        let upload = rig.begin("file", &present).expect("begun");
        rig.state_after(&upload, UploadState::Opening);
        fs::remove_file(rig.path("file")).expect("removed");
        assert_eq!(rig.finish(upload, 0), Err(UploadError::Changed));
    });
}

#[test]
fn what_is_no_file_is_neither_replaced_nor_written_through() {
    on_both(|rig| {
        fs::create_dir_all(rig.path("dir")).expect("a directory");
        rig.write("secret", 1, 10);
        symlink("secret", rig.path("link")).expect("a link");
        symlink("dir", rig.path("linked")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, rig.path("fifo"), 0o600.into()).expect("a FIFO");
        for (name, error) in [
            ("dir", UploadError::IsDirectory),
            ("dir/", UploadError::IsDirectory),
            ("", UploadError::IsDirectory),
            ("link", UploadError::Denied),
            ("linked/file", UploadError::Denied),
            ("fifo", UploadError::NotAFile),
            ("../file", UploadError::Escapes),
            ("/etc/file", UploadError::Escapes),
            ("missing/file", UploadError::NoDirectory),
            ("secret/file", UploadError::NoDirectory),
            (&"n".repeat(256), UploadError::BadName),
            (".sluice-upload-0", UploadError::BadName),
        ] {
            assert_eq!(rig.put(name, b"x"), Err(error), "{name}");
        }
        rig.put("dir/file", b"x").expect("published");
    });
}

#[test]
fn a_directory_on_a_link_inside_the_root_is_followed_where_links_are() {
    let mut rig = rig_with(4, LIMITS);
    rig.root = Root::open(rig.dir.path(), Symlinks::InsideRoot).expect("the root opens");
    fs::create_dir(rig.path("dir")).expect("a directory");
    symlink("dir", rig.path("linked")).expect("a link");
    symlink("..", rig.path("up")).expect("a link");
    symlink("dir/file", rig.path("to_file")).expect("a link");
    rig.put("linked/file", b"x").expect("published");
    assert_eq!(fs::read(rig.path("dir/file")).expect("the file"), b"x");
    assert_eq!(rig.put("up/file", b"x"), Err(UploadError::Escapes));
    assert_eq!(rig.put("to_file", b"y"), Err(UploadError::Denied));
}

#[test]
fn a_directory_removed_or_moved_meanwhile_is_missing() {
    on_both(|rig| {
        for moved in [false, true] {
            fs::create_dir(rig.path("dir")).expect("a directory");
            let upload = rig.begin("dir/file", &UploadOptions::default());
            let upload = upload.expect("begun");
            rig.state_after(&upload, UploadState::Opening);
            fs::rename(rig.path("dir"), rig.path("other")).expect("moved");
            if moved {
                fs::create_dir(rig.path("dir")).expect("a directory");
            } else {
                fs::remove_dir_all(rig.path("other")).expect("removed");
            }
            rig.send(&upload, b"x", 0);
            assert_eq!(rig.finish(upload, 1), Err(UploadError::NoDirectory));
            if moved {
                let left = fs::read_dir(rig.path("other")).expect("a directory");
                assert_eq!(left.count(), 0);
                fs::remove_dir(rig.path("other")).expect("removed");
                fs::remove_dir(rig.path("dir")).expect("removed");
            }
        }
    });
}

#[test]
fn a_failed_write_ends_the_upload_and_takes_no_further_blocks() {
    on_both(|rig| {
        let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
        let held = rig.disk.upload_block(&upload);
        rig.send(&upload, b"x", u64::MAX);
        let error = UploadError::TooLarge;
        while rig.disk.upload_state(&upload) != UploadState::Failed(error) {
            rig.wait();
        }
        if let TakeBlock::Taken(block) = held {
            rig.disk.submit(block, 0, 1);
        }
        assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::Closed));
        assert_eq!(rig.disk.ledger().uploading, 0);
        assert_eq!(rig.finish(upload, 1), Err(error));
        assert!(!rig.path("file").exists());
    });
}

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
    use std::os::unix::fs::MetadataExt;
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

/// The umask of this process, which is not ours to change: other tests make files.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let digits = line.expect("proc_pid_status(5)").trim();
    u32::from_str_radix(digits, 8).expect("octal digits")
}

#[test]
fn the_file_has_the_mode_asked_for_without_the_umask() {
    on_both(|rig| {
        for mode in [0o666, 0o640, 0o777] {
            let options = UploadOptions {
                mode,
                ..UploadOptions::default()
            };
            rig.put_as("file", b"x", &options).expect("published");
            let there = fs::metadata(rig.path("file")).expect("the file");
            let expected = mode & !umask();
            assert_eq!(there.permissions().mode() & 0o7777, expected, "{mode:o}");
        }
    });
}

#[test]
fn names_of_unfinished_uploads_are_not_served() {
    let mut rig = rig_with(4, LIMITS);
    for name in [".sluice-upload-", ".sluice-upload-0123456789abcdef"] {
        rig.write(name, 1, 10);
        assert_eq!(rig.try_open(name), Err(OpenError::NotFound));
        assert_eq!(rig.try_open(&format!("./{name}")), Err(OpenError::NotFound));
        rig.disk.inline.opens = false;
        assert_eq!(rig.try_open(name), Err(OpenError::NotFound));
    }
}

#[test]
fn more_uploads_than_slots_are_refused_until_one_ends() {
    let mut rig = rig_with(4, LIMITS);
    let options = UploadOptions::default();
    let uploads: Vec<UploadHandle> = (0..3)
        .map(|number| rig.begin(&number.to_string(), &options).expect("begun"))
        .collect();
    assert_eq!(rig.begin("more", &options), Err(UploadError::TooMany));
    for upload in uploads {
        rig.disk.end_upload(upload);
    }
    rig.poll_until("the slots are free", |rig| rig.disk.ledger().uploads == 0);
    rig.put("more", b"x").expect("published");
    let mut rig = rig_with(4, UploadLimits::NONE);
    assert_eq!(rig.begin("more", &options), Err(UploadError::TooMany));
}

#[test]
fn uploads_hold_no_more_blocks_than_their_share() {
    let mut rig = rig_with(10, LIMITS);
    let options = UploadOptions::default();
    let uploads: Vec<UploadHandle> = (0..3)
        .map(|number| rig.begin(&number.to_string(), &options).expect("begun"))
        .collect();
    let mut blocks = Vec::new();
    for upload in &uploads {
        while let TakeBlock::Taken(block) = rig.disk.upload_block(upload) {
            blocks.push(block);
        }
    }
    // Four for the first, and half of ten for all.
    let ledger = rig.disk.ledger();
    assert_eq!((blocks.len(), ledger.uploading), (5, 5));
    assert!(ledger.balanced());
    assert_eq!(rig.disk.counters().upload_no_block, 3);
    for block in blocks {
        rig.disk.return_block(block);
    }
    for upload in uploads {
        rig.disk.end_upload(upload);
    }
}

#[test]
fn whoever_got_no_block_hears_of_every_way_one_comes_back() {
    let one_each = UploadLimits {
        blocks_each: 1,
        loans: 0,
        ..LIMITS
    };
    let mut rig = rig_with(2, one_each);
    rig.write("file", 1, 2 * BLOCK_BYTES);
    let upload = rig.begin("new", &UploadOptions::default()).expect("begun");
    rig.state_after(&upload, UploadState::Opening);
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("all are free");
    };
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    assert!(!rig.disk.poll(), "nothing has changed");
    // Written, returned, and released by a reader.
    rig.disk.submit(block, 0, 10);
    rig.wait();
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("it was written");
    };
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    rig.disk.return_block(block);
    rig.wait();
    let file = rig.open("file");
    let readers = [rig.fetch(&file, 0), rig.fetch(&file, 1)];
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    for block in readers {
        rig.disk.release(block);
    }
    rig.wait();
    // And the other way round: a reader hears of a block that an upload returns.
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("both are cached only");
    };
    let reader = rig.fetch(&file, 1);
    assert!(matches!(rig.disk.fetch(&file, 0), Fetch::NoBlock));
    rig.disk.return_block(block);
    rig.wait();
    let other = rig.fetch(&file, 0);
    rig.disk.release(other);
    rig.disk.release(reader);
    rig.disk.close(file);
    rig.disk.end_upload(upload);
}

#[test]
fn what_is_submitted_during_a_job_goes_with_the_next() {
    let mut rig = rig_with(16, LIMITS);
    let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
    rig.state_after(&upload, UploadState::Opening);
    rig.disk.helpers.gate().set_closed(true);
    let bytes = content(1, 4 * BLOCK_BYTES);
    rig.send(&upload, &bytes, 0);
    rig.disk.finish_upload(&upload, 4 * BLOCK_BYTES_U64);
    assert_eq!(rig.disk.upload_state(&upload), UploadState::Publishing);
    assert_eq!(rig.disk.ledger().uploading, 4);
    rig.disk.helpers.gate().set_closed(false);
    rig.finish(upload, 0).expect("the first length counts");
    assert!(fs::read(rig.path("file")).expect("the file") == bytes);
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

#[test]
fn sizes_of_uploads_of_zero_are_refused() {
    for bad in [
        UploadLimits {
            threads: 0,
            ..LIMITS
        },
        UploadLimits {
            blocks: 0,
            ..LIMITS
        },
        UploadLimits {
            blocks_each: 0,
            loans: 0,
            ..LIMITS
        },
    ] {
        let config = DiskConfig {
            uploads: bad,
            ..config_of_one()
        };
        let error = Disk::anonymous(BLOCK_BYTES, &config).expect_err("not a usable size");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
    }
}
