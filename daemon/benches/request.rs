//! Instructions of a small request, to be run under callgrind (docs/BENCH.md): `cargo bench -p sluiced --bench request`.
//!
//! 64 connections ask for one object of 1 KiB again and again, in turn with a worker whose rings are in memory. Nothing
//! here depends on time or chance, so two runs of one binary execute the same instructions but for some hundred of the
//! allocator: a change of one in a thousand shows, on a busy machine too. Only what is done
//! in `counted_turn` counts, which is `Worker::turn`; divide by the number of responses that is printed. What the kernel does is not in it, and neither is waiting for memory.
//!
//! Without `--bench`, as in a run of all targets, it is short.

mod seat;

use core::time::Duration;
use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::SystemTime;

use sluice_tcp::clock::Instant;
use sluiced::worker::Worker;

use seat::{Seat, SeatConfig, take_turn};

/// That of the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONFIG: SeatConfig = SeatConfig {
    bytes: 1024,
    blocks: 64,
    offload: true,
    connections: 64,
};
/// When the file was written: before the time that the seats show, so that its entity-tag is a strong one.
const WRITTEN: Duration = Duration::from_secs(700_000_000);
/// Younger files are looked at again and again.
const SETTLING: Duration = Duration::from_secs(4);

fn main() {
    let is_bench = std::env::args().any(|word| word == "--bench");
    let wanted = if is_bench { 20_000 } else { 200 };
    let site = tempfile::tempdir().expect("a temporary directory");
    let mut file = File::create(site.path().join("file")).expect("the directory is writable");
    file.write_all(&[7; CONFIG.bytes])
        .and_then(|()| file.set_modified(SystemTime::UNIX_EPOCH + WRITTEN))
        .expect("the file is writable");
    drop(file);
    if is_bench {
        thread::sleep(SETTLING);
    }
    let mut seat = Seat::new(&CONFIG, site.path(), None);
    seat.warm_up();
    seat.take_received();
    let (mut turns, mut bytes, mut responses) = (0, 0, 0);
    while responses < wanted {
        seat.turn_by(counted_turn);
        let received = seat.take_received();
        turns += 1;
        bytes += received.0;
        responses += received.1;
    }
    // Where openat2(2) is not known, as to older versions of valgrind, they are of another kind.
    assert_eq!(bytes, responses * CONFIG.bytes as u64, "files, not errors");
    println!("{responses} responses in {turns} turns");
}

/// Where counting begins and ends: a name for callgrind that no optimisation takes away.
#[inline(never)]
fn counted_turn(worker: &mut Worker, now: Instant) {
    take_turn(worker, now);
}
