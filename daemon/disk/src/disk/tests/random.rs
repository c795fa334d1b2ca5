//! Random users of one small disk, against the contents of the files.

use proptest::prelude::*;

use super::*;

const FILES: usize = 6;
const FILE_BLOCKS: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Open {
        user: usize,
        file: usize,
    },
    Abandon {
        user: usize,
    },
    Close {
        user: usize,
    },
    Fetch {
        user: usize,
        block: u64,
    },
    FetchAlong {
        user: usize,
        block: u64,
        wanted: u64,
        ahead: u64,
    },
    Prefetch {
        user: usize,
        block: u64,
    },
    Clone {
        user: usize,
    },
    Release {
        user: usize,
    },
    Cool {
        file: usize,
    },
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    let user = 0..4_usize;
    let file = 0..FILES;
    let block = 0..FILE_BLOCKS;
    prop_oneof![
        3 => (user.clone(), file.clone()).prop_map(|(user, file)| Op::Open { user, file }),
        1 => user.clone().prop_map(|user| Op::Abandon { user }),
        2 => user.clone().prop_map(|user| Op::Close { user }),
        8 => (user.clone(), block.clone()).prop_map(|(user, block)| Op::Fetch { user, block }),
        4 => (user.clone(), block.clone(), 0..=FILE_BLOCKS, 0..=FILE_BLOCKS).prop_map(
            |(user, block, wanted, ahead)| Op::FetchAlong { user, block, wanted, ahead }
        ),
        2 => (user.clone(), block).prop_map(|(user, block)| Op::Prefetch { user, block }),
        1 => user.clone().prop_map(|user| Op::Clone { user }),
        5 => user.prop_map(|user| Op::Release { user }),
        1 => file.prop_map(|file| Op::Cool { file }),
        4 => Just(Op::Poll),
    ]
}

/// Somebody with one file at most and any number of blocks.
#[derive(Default)]
struct User {
    wants: usize,
    ticket: Option<OpenTicket>,
    file: Option<FileHandle>,
    blocks: Vec<(usize, u64, BlockRef)>,
}

/// The size of a file: whole blocks, but for the last of every other file.
fn size_of(file: usize) -> usize {
    let whole = usize::try_from(FILE_BLOCKS).expect("small") * BLOCK_BYTES;
    whole - (file % 2) * 1000
}

fn seed_of(file: usize) -> u8 {
    u8::try_from(file).expect("few files")
}

fn check(rig: &Rig, files: &[Vec<u8>], users: &[User]) {
    for user in users {
        for (file, block, held) in &user.blocks {
            let at = usize::try_from(*block).expect("small") * BLOCK_BYTES;
            let end = files[*file].len().min(at + BLOCK_BYTES);
            assert!(
                rig.disk.bytes(held) == &files[*file][at..end],
                "{file}/{block}"
            );
        }
    }
    let ledger = rig.disk.ledger();
    assert!(ledger.balanced(), "{ledger:?}");
}

fn fetch(rig: &mut Rig, user: &mut User, block: u64, along: Along) {
    let Some(file) = &user.file else {
        return;
    };
    match rig.disk.fetch_along(file, block, along) {
        Fetch::Ready(found) => user.blocks.push((user.wants, block, found)),
        Fetch::Pending | Fetch::NextTurn | Fetch::NoBlock => {}
        Fetch::Failed(error) => panic!("{error:?}"),
    }
}

fn apply(rig: &mut Rig, users: &mut [User], op: Op) {
    match op {
        Op::Open { user, file } => {
            let user = &mut users[user];
            if user.file.is_none() && user.ticket.is_none() {
                user.wants = file;
                match rig.disk.open(&rig.root, file.to_string().as_bytes()) {
                    Opening::Done(answer) => user.file = answer.ok(),
                    Opening::Pending(ticket) => user.ticket = Some(ticket),
                }
            }
        }
        Op::Abandon { user } => {
            if let Some(ticket) = users[user].ticket.take() {
                rig.disk.abandon(ticket);
            }
        }
        Op::Close { user } => {
            if let Some(file) = users[user].file.take() {
                rig.disk.close(file);
            }
        }
        Op::Fetch { user, block } => fetch(rig, &mut users[user], block, Along::NOTHING),
        Op::FetchAlong {
            user,
            block,
            wanted,
            ahead,
        } => {
            let along = Along {
                wanted_until: wanted,
                ahead_until: ahead,
            };
            fetch(rig, &mut users[user], block, along);
        }
        Op::Prefetch { user, block } => {
            if let Some(file) = &users[user].file {
                rig.disk.prefetch(file, block);
            }
        }
        Op::Clone { user } => {
            let user = &mut users[user];
            if let Some((file, block, held)) = user.blocks.first() {
                let clone = (*file, *block, rig.disk.clone_ref(held));
                user.blocks.push(clone);
            }
        }
        Op::Release { user } => {
            if let Some((_, _, held)) = users[user].blocks.pop() {
                rig.disk.release(held);
            }
        }
        Op::Cool { file } => rig.make_cold(&file.to_string()),
        Op::Poll => {
            rig.disk.poll();
            for user in users {
                let Some(ticket) = user.ticket.take() else {
                    continue;
                };
                match rig.disk.opened(ticket) {
                    Ok(answer) => user.file = answer.ok(),
                    Err(pending) => user.ticket = Some(pending),
                }
            }
        }
    }
}

fn leave(rig: &mut Rig, users: Vec<User>) {
    for user in users {
        if let Some(ticket) = user.ticket {
            rig.disk.abandon(ticket);
        }
        if let Some(file) = user.file {
            rig.disk.close(file);
        }
        for (_, _, held) in user.blocks {
            rig.disk.release(held);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_block_held_has_the_bytes_of_its_file_and_nothing_is_left_at_the_end(
        blocks in 1_usize..8,
        opens in any::<bool>(),
        direct_above in prop::sample::select(vec![None, Some(1), Some(FILE_BLOCKS * BLOCK_BYTES_U64)]),
        refusal in prop::sample::select(vec![None, Some(Errno::INVAL)]),
        bytes in prop::sample::select(vec![0, 10_000, BLOCK_BYTES, 2 * BLOCK_BYTES + 10_000, 4 * BLOCK_BYTES]),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let mut rig = Rig::with(blocks, &DiskConfig {
            threads: 2,
            files: 4,
            queue_depth: 8,
            direct_above,
            uploads: UploadLimits::NONE,
        });
        rig.disk.inline = Inline { opens, bytes };
        rig.disk.direct.answers = refusal;
        let files: Vec<Vec<u8>> = (0..FILES)
            .map(|file| rig.write(&file.to_string(), seed_of(file), size_of(file)))
            .collect();
        let mut users: Vec<User> = (0..4).map(|_| User::default()).collect();
        for op in ops {
            apply(&mut rig, &mut users, op);
            check(&rig, &files, &users);
        }
        leave(&mut rig, users);
        // The rig checks the ledger and the descriptors when it goes.
    }
}
