//! How fast uploads reach the disk: `cargo run --release -p sluice-disk --example uploads -- DIRECTORY MIB UPLOADS ROUNDS`.
//!
//! Writes UPLOADS files of MIB each at the same time, as the loop of a worker does, and prints the time of every round
//! until the last is durable, and how much of it was waited for after the last byte had been handed over.

use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use sluice_disk::{
    BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks, TakeBlock, UploadHandle, UploadLimits,
    UploadOptions, UploadState,
};

struct Sender {
    upload: UploadHandle,
    sent: u64,
    finished: bool,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let directory = args.next().expect("a directory");
    let mut number = || args.next().and_then(|text| text.parse::<u64>().ok());
    let size = number().expect("MiB") << 20;
    let uploads = number().expect("uploads");
    let rounds = number().expect("rounds");
    let root = Root::open(Path::new(&directory), Symlinks::Never).expect("the root opens");
    let config = DiskConfig {
        threads: 1,
        files: 1,
        queue_depth: 1,
        direct_above: None,
        uploads: UploadLimits {
            uploads: 64,
            threads: 4,
            blocks: 128,
            blocks_each: 32,
            loans: 0,
        },
    };
    let mut disk = Disk::anonymous(256 * BLOCK_BYTES, &config).expect("a disk");
    for round in 0..rounds {
        let start = Instant::now();
        let mut senders: Vec<Sender> = (0..uploads)
            .map(|number| {
                let name = format!("upload-{number}");
                let options = UploadOptions::default();
                let upload = disk.begin_upload(&root, name.as_bytes(), &options);
                Sender {
                    upload: upload.expect("begun"),
                    sent: 0,
                    finished: false,
                }
            })
            .collect();
        let mut handed_over = start.elapsed();
        while !senders.iter().all(|sender| is_published(&disk, sender)) {
            for sender in &mut senders {
                send(&mut disk, sender, size);
            }
            if senders.iter().any(|sender| !sender.finished) {
                handed_over = start.elapsed();
            }
            disk.end_turn(false);
            if !disk.poll() {
                let wake = disk.wake_fd();
                let mut fds = [PollFd::new(&wake, PollFlags::IN)];
                poll(&mut fds, None).expect("poll");
            }
        }
        let all = start.elapsed();
        let bytes = (size * uploads) as f64;
        println!(
            "round {round}: {:.2} GB/s, {:.3} s, of it {:.3} s after the last block",
            bytes / all.as_secs_f64() / 1e9,
            all.as_secs_f64(),
            (all - handed_over).as_secs_f64()
        );
        for (number, sender) in senders.into_iter().enumerate() {
            disk.end_upload(sender.upload);
            std::fs::remove_file(Path::new(&directory).join(format!("upload-{number}")))
                .expect("removed");
        }
    }
}

fn is_published(disk: &Disk, sender: &Sender) -> bool {
    match disk.upload_state(&sender.upload) {
        UploadState::Published(_) => true,
        UploadState::Failed(error) => panic!("{error:?}"),
        _ => false,
    }
}

fn send(disk: &mut Disk, sender: &mut Sender, size: u64) {
    while sender.sent < size {
        let TakeBlock::Taken(mut block) = disk.upload_block(&sender.upload) else {
            return;
        };
        // Stands for the copy out of the receive buffer.
        block.bytes_mut().fill(sender.sent.to_le_bytes()[2]);
        let len = BLOCK_BYTES.min(usize::try_from(size - sender.sent).unwrap_or(BLOCK_BYTES));
        disk.submit(block, sender.sent, len);
        sender.sent += len as u64;
    }
    if !sender.finished {
        disk.finish_upload(&sender.upload, size);
        sender.finished = true;
    }
}
