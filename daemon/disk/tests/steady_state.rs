//! Serving allocates nothing: neither from the page cache nor by helper threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Fetch, FileHandle, Opening, Root, Symlinks};

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

/// Reads one file as a connection does, with read-ahead, and returns the sum of its bytes.
fn serve(disk: &mut Disk, root: &Root, name: &[u8]) -> u64 {
    let file = open(disk, root, name);
    let mut sum = 0;
    for number in 0..disk.meta(&file).blocks() {
        disk.prefetch(&file, number + 1);
        let block = loop {
            disk.poll();
            match disk.fetch(&file, number) {
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

fn make_cold(path: &std::path::Path) {
    let file = std::fs::File::open(path).expect("the file opens");
    file.sync_all().expect("only clean pages can be dropped");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
}

#[test]
fn serving_allocates_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = Root::open(dir.path(), Symlinks::Never).expect("the root opens");
    let config = DiskConfig {
        threads: 2,
        files: 2,
        queue_depth: 8,
        uploads: sluice_disk::UploadLimits::NONE,
    };
    let mut disk = Disk::anonymous(8 * BLOCK_BYTES, &config).expect("a disk");
    // A long name: short ones are copied to the stack by the system call wrapper anyway.
    let name = "n".repeat(250);
    let path = dir.path().join(&name);
    std::fs::write(&path, vec![1; 20 * BLOCK_BYTES + 1]).expect("the file is written");
    let expected = 20 * BLOCK_BYTES as u64 + 1;
    serve(&mut disk, &root, name.as_bytes());

    for round in 0..20 {
        if round % 2 == 0 {
            make_cold(&path);
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let sum = serve(&mut disk, &root, name.as_bytes());
        let after = ALLOCATIONS.load(Ordering::Relaxed);
        assert_eq!(sum, expected);
        assert_eq!(after - before, 0, "allocations in round {round}");
    }
    assert!(disk.counters().reads_helper > 0 || disk.counters().reads_inline > 0);
}
