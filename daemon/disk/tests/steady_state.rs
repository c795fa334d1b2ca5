//! Serving allocates nothing: neither from the page cache nor by helper threads. Uploads do not either.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_disk::{
    Along, BLOCK_BYTES, Disk, DiskConfig, Fetch, FileHandle, Opening, Root, Symlinks, TakeBlock,
    UploadLimits, UploadOptions, UploadState,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes on to `System` as it came; counting has no influence on it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises for `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` by `alloc` above, with the same `layout`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn open(disk: &mut Disk, root: &Root, name: &[u8]) -> FileHandle {
    let mut ticket = match disk.open(root, name) {
        Opening::Done(answer) => return answer.expect("the file opens"),
        Opening::Pending(ticket) => ticket,
    };
    loop {
        match disk.opened(ticket) {
            Ok(answer) => return answer.expect("the file opens"),
            Err(pending) => ticket = pending,
        }
        disk.poll();
    }
}

/// Reads one file as a connection does, with a short window and read-ahead, and returns the sum of its bytes.
fn serve(disk: &mut Disk, root: &Root, name: &[u8]) -> u64 {
    let file = open(disk, root, name);
    let mut sum = 0;
    for number in 0..disk.meta(&file).blocks() {
        let along = Along {
            wanted_until: number + 2,
            ahead_until: number + 4,
        };
        disk.prefetch_along(&file, number + 1, along);
        let block = loop {
            disk.poll();
            match disk.fetch_along(&file, number, along) {
                Fetch::Ready(block) => break block,
                Fetch::Pending | Fetch::NextTurn | Fetch::NoBlock => {}
                Fetch::Failed(error) => panic!("{error:?}"),
            }
        };
        sum += disk
            .bytes(&block)
            .iter()
            .map(|&byte| u64::from(byte))
            .sum::<u64>();
        disk.release(block);
    }
    disk.close(file);
    disk.poll();
    sum
}

/// Uploads one file of ten blocks as a connection does.
fn upload(disk: &mut Disk, root: &Root, name: &[u8]) {
    let options = UploadOptions::default();
    let upload = disk
        .begin_upload(root, name, &options)
        .expect("a free slot");
    for number in 0..10 {
        let mut block = loop {
            disk.end_turn(false);
            disk.poll();
            if let TakeBlock::Taken(block) = disk.upload_block(&upload) {
                break block;
            }
        };
        block.bytes_mut().fill(number);
        disk.submit(block, u64::from(number) * BLOCK_BYTES as u64, BLOCK_BYTES);
    }
    disk.finish_upload(&upload, 10 * BLOCK_BYTES as u64);
    loop {
        disk.end_turn(false);
        disk.poll();
        match disk.upload_state(&upload) {
            UploadState::Published(_) => break,
            UploadState::Failed(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    disk.end_upload(upload);
}

fn make_cold(path: &std::path::Path) {
    let file = std::fs::File::open(path).expect("the file opens");
    file.sync_all().expect("only clean pages can be dropped");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
}

#[test]
fn serving_and_taking_uploads_allocate_nothing() {
    // One after the other: every allocation of the process is counted.
    for direct_above in [None, Some(1)] {
        allocate_nothing(direct_above);
    }
}

fn allocate_nothing(direct_above: Option<u64>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = Root::open(dir.path(), Symlinks::Never).expect("the root opens");
    let config = DiskConfig {
        threads: 2,
        files: 2,
        queue_depth: 8,
        direct_above,
        uploads: UploadLimits {
            uploads: 2,
            threads: 1,
            blocks: 4,
            blocks_each: 2,
            loans: 0,
        },
    };
    let mut disk = Disk::anonymous(8 * BLOCK_BYTES, &config).expect("a disk");
    // A long name: short ones are copied to the stack by the system call wrapper anyway.
    let name = "n".repeat(250);
    let path = dir.path().join(&name);
    std::fs::write(&path, vec![1; 20 * BLOCK_BYTES + 1]).expect("the file is written");
    let expected = 20 * BLOCK_BYTES as u64 + 1;
    serve(&mut disk, &root, name.as_bytes());
    let uploaded = "u".repeat(250);
    upload(&mut disk, &root, uploaded.as_bytes());

    for round in 0..20 {
        if round % 2 == 0 {
            make_cold(&path);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let sum = serve(&mut disk, &root, name.as_bytes());
        upload(&mut disk, &root, uploaded.as_bytes());
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(sum, expected);
        assert_eq!(after - before, 0, "allocations in round {round}");
    }
    assert!(disk.counters().reads_helper > 0 || disk.counters().reads_inline > 0);
}
