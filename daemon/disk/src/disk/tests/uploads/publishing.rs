//! What an upload makes of a name, and when readers see it.

use std::os::unix::fs::PermissionsExt;

use super::*;

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
