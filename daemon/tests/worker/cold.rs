//! Ten thousand clients who all want bytes that are not in memory: the loop asks the disk and waits for nothing.
//!
//! Whether a turn waited is not a matter of time, which on a busy machine says nothing: a thread that waits in the kernel
//! gives its core up of its own accord, and the kernel counts that. A few waits are the allocator's, because a crowd of ten
//! thousand needs memory; none is for the disk. How much one turn reads is bounded by the disk, and tested there.

use core::time::Duration;
use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};

use crate::bed::{Bed, Setup, UNIX_SECONDS, wait_for_helpers};
use crate::client::Client;
use crate::frames;
use crate::site::{KIB, Site};

const READERS: usize = 10_000;
const BLOCK: usize = 64 * KIB;
/// Blocks of the file: a cold read for every fourth reader at least, and many times what the worker has memory for.
const FILE_BLOCKS: usize = 2_500;
/// What each of them wants.
const PIECE: usize = 3_000;
/// What turns cost the thread that takes them.
#[derive(Default)]
struct Cost {
    turns: u64,
    waited: u64,
    longest: Duration,
}

impl Cost {
    fn of<T>(&mut self, turn: impl FnOnce() -> T) -> T {
        let (waits, began) = (voluntary_switches(), thread_time());
        let result = turn();
        self.longest = self.longest.max(thread_time() - began);
        self.waited += voluntary_switches() - waits;
        self.turns += 1;
        result
    }
}

/// How often this thread has given its core up to wait for something.
fn voluntary_switches() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("proc is mounted");
    status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok())
        .expect("the kernel counts them")
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).expect("not negative"),
        u32::try_from(time.tv_nsec).expect("below a second"),
    )
}

fn make_cold(path: &Path) {
    let file = File::open(path).expect("the file opens");
    file.sync_all().expect("only clean pages can be dropped");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
}

/// Where the piece of a reader begins: neighbours in time are far apart in the file.
fn piece_of(reader: usize) -> usize {
    let block = reader * 997 % FILE_BLOCKS;
    block * BLOCK + reader / FILE_BLOCKS * PIECE
}

/// A round with an index of clients by port, which a search through ten thousand would not do.
fn round(bed: &mut Bed, clients: &mut [Client], first_port: u16, cost: &mut Cost) -> usize {
    let mut moved = 0;
    let mut from = 0;
    // As many frames as the worker takes in a turn.
    loop {
        let mut room = 256;
        while from < clients.len() && room > clients[from].out.len() {
            room -= clients[from].out.len();
            moved += bed.inject_from(&mut clients[from]);
            from += 1;
        }
        let now = bed.now;
        cost.of(|| bed.worker.turn(|| now, UNIX_SECONDS));
        let sent = bed.collect();
        moved += sent.len();
        for frame in &sent {
            let (packet, payload) = frames::read(frame);
            let index = usize::from(packet.header.dst_port - first_port);
            clients[index].hear(&packet, payload, bed.now);
        }
        if from == clients.len() {
            return moved;
        }
    }
}

#[test]
fn ten_thousand_cold_readers_never_make_the_loop_wait() {
    never_wait(None);
}

#[test]
fn ten_thousand_readers_past_the_page_cache_never_make_the_loop_wait() {
    never_wait(Some(1 << 20));
}

fn never_wait(direct_above: Option<u64>) {
    // As the supervisor does.
    sluiced::descriptors::make_room(4096);
    let site = Site::new();
    let content = site.file("big", FILE_BLOCKS * BLOCK);
    let setup = Setup {
        blocks: 600,
        connections: 10_100,
        direct_above,
        ..Setup::default()
    };
    let mut bed = Bed::with(&site, &setup);
    let mut clients: Vec<Client> = (0..READERS)
        .map(|_| Client::connect(bed.take_port()))
        .collect();
    let first_port = clients[0].local.port();
    let rounds = |bed: &mut Bed, clients: &mut [Client], done: fn(&Client) -> bool| {
        let mut cost = Cost::default();
        let mut quiet = 0;
        while !clients.iter().all(done) {
            if round(bed, clients, first_port, &mut cost) > 0 {
                bed.pass(Duration::from_micros(50));
                quiet = 0;
            } else {
                wait_for_helpers();
                quiet += 1;
                assert!(quiet < 100_000, "nothing moves any more");
            }
        }
        cost
    };
    rounds(&mut bed, &mut clients, Client::is_established);
    make_cold(&site.path("big"));
    for (reader, client) in clients.iter_mut().enumerate() {
        let from = piece_of(reader);
        let to = from + PIECE - 1;
        client.write(format!(
            "GET /big HTTP/1.1\r\nHost: sluice.test\r\nRange: bytes={from}-{to}\r\n\r\n"
        ));
    }
    let cost = rounds(&mut bed, &mut clients, Client::has_response);
    for (reader, client) in clients.iter_mut().enumerate() {
        let answer = client.take_response().expect("run until it was there");
        assert!(
            answer.body == content[piece_of(reader)..][..PIECE],
            "{reader}"
        );
    }
    let reads = bed.report().service.reads;
    println!(
        "{} turns, the longest {:?} of processor time, {} waits; {reads:?}",
        cost.turns, cost.longest, cost.waited
    );
    assert!(reads.reads_helper > 500, "little was cold: {reads:?}");
    // A loop that read them itself would have waited for each.
    assert!(
        cost.waited < reads.reads_helper / 10,
        "{} waits",
        cost.waited
    );
}
