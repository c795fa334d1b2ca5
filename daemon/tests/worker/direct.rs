//! Large files, read past the page cache: what clients get is the same, and how it is read is not.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};

use crate::bed::{Bed, Setup, get, wait_for_helpers};
use crate::site::{KIB, MIB, Site};

const BLOCK: usize = 64 * KIB;

fn direct(blocks: usize) -> Setup {
    Setup {
        blocks,
        direct_above: Some(1 << 20),
        ..Setup::default()
    }
}

fn make_cold(site: &Site, name: &str) {
    let file = File::open(site.path(name)).expect("the file opens");
    file.sync_all().expect("only clean pages can be dropped");
    fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
}

/// Whether anything was read directly; where the file system has no such reads, nothing is.
fn was_direct(bed: &Bed) -> bool {
    let reads = bed.report().service.reads;
    if reads.reads_direct == 0 {
        eprintln!("the temporary directory has no direct reads: they are not asserted");
        assert!(reads.direct_refused > 0);
        return false;
    }
    assert_eq!(
        (reads.read_errors, reads.direct_refused),
        (0, 0),
        "{reads:?}"
    );
    true
}

#[test]
fn a_large_file_arrives_whole_by_few_long_reads_and_none_on_the_loop() {
    let site = Site::new();
    let content = site.file("big", 40 * MIB + 12_345);
    make_cold(&site, "big");
    let mut bed = Bed::with(&site, &direct(256));
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/big").body == content);
    if was_direct(&bed) {
        let reads = bed.report().service.reads;
        assert_eq!((reads.read_calls, reads.reads_inline), (0, 0), "{reads:?}");
        assert!(reads.bytes_direct >= content.len() as u64);
        // Eighty of eight blocks and one of the rest; some more where what was read ahead had to make room.
        let blocks = content.len().div_ceil(BLOCK) as u64;
        assert!(reads.reads_direct <= blocks / 8 + 8, "{reads:?}");
    }
    bed.close(client);
}

#[test]
fn small_files_beside_it_are_read_as_ever() {
    let site = Site::new();
    let small = site.file("small", MIB - 1);
    let mut bed = Bed::with(&site, &direct(256));
    let mut client = bed.connect();
    assert!(bed.get(&mut client, "/small").body == small);
    assert_eq!(bed.report().service.reads.reads_direct, 0);
    bed.close(client);
}

#[test]
fn ranges_get_their_bytes_and_read_little_more() {
    let site = Site::new();
    let content = site.file("big", 8 * MIB + 5);
    let mut bed = Bed::with(&site, &direct(256));
    let mut client = bed.connect();
    for (from, to) in [
        (0, 0),
        (100_000, 100_001),
        (3 * BLOCK, 4 * BLOCK - 1),
        (5 * BLOCK + 1, 29 * BLOCK),
        (8 * MIB, 8 * MIB + 4),
    ] {
        client.write(format!(
            "GET /big HTTP/1.1\r\nHost: sluice.test\r\nRange: bytes={from}-{to}\r\n\r\n"
        ));
        let answer = bed.response(&mut client);
        assert!(answer.body == content[from..=to], "{from}-{to}");
    }
    if was_direct(&bed) {
        let bytes = bed.report().service.reads.bytes_direct;
        assert!(bytes <= (1 + 1 + 25 + 2) * BLOCK as u64, "{bytes}");
    }
    bed.close(client);
}

#[test]
fn many_clients_share_few_blocks() {
    let site = Site::new();
    let contents = site.files(24, 3 * MIB);
    let mut bed = Bed::with(&site, &direct(48));
    bed.download_at_once(&contents);
    was_direct(&bed);
}

#[test]
fn a_file_that_changes_on_the_way_is_cut_and_never_mixed() {
    let site = Site::new();
    let content = site.file("big", 20 * MIB);
    let mut bed = Bed::with(&site, &direct(64));
    let mut client = bed.connect();
    client.write(get("/big"));
    bed.run_one(&mut client, |client| client.unparsed().len() > MIB);
    // A change within the same tick of the clock would not show.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let file = OpenOptions::new().write(true).open(site.path("big"));
    let file = file.expect("it opens");
    for at in (0..20 * MIB as u64).step_by(4096) {
        file.write_all_at(b"another version", at).expect("written");
    }
    for _ in 0..10_000 {
        bed.settle_one(&mut client);
        if client.reset {
            break;
        }
        wait_for_helpers();
    }
    assert!(client.reset, "its length was promised");
    let got = client.unparsed();
    let head = got.windows(4).position(|four| four == b"\r\n\r\n");
    let body = &got[head.expect("a head") + 4..];
    assert!(body.len() < content.len() && *body == content[..body.len()]);
}
