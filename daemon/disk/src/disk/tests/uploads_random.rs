//! Random uploads to few names, against a model of what each name holds.

use std::io::Read;
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::uploads::rig_with;
use super::*;
use crate::root::{Freshness, stat};
use crate::upload::{
    Precondition, Published, TakeBlock, UploadBlock, UploadHandle, UploadOptions, UploadState,
};

const NAMES: usize = 3;
const FILE_BLOCKS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Begin {
        user: usize,
        name: usize,
        must_create: bool,
    },
    Take {
        user: usize,
    },
    Submit {
        user: usize,
    },
    Return {
        user: usize,
    },
    Finish {
        user: usize,
    },
    End {
        user: usize,
    },
    Freeze(bool),
    Remove {
        name: usize,
    },
    Poll,
}

fn op() -> impl Strategy<Value = Op> {
    let user = 0..4_usize;
    let name = 0..NAMES;
    let begin = (user.clone(), name.clone(), any::<bool>());
    prop_oneof![
        4 => begin.prop_map(|(user, name, must_create)| Op::Begin { user, name, must_create }),
        6 => user.clone().prop_map(|user| Op::Take { user }),
        6 => user.clone().prop_map(|user| Op::Submit { user }),
        1 => user.clone().prop_map(|user| Op::Return { user }),
        3 => user.clone().prop_map(|user| Op::Finish { user }),
        1 => user.prop_map(|user| Op::End { user }),
        1 => any::<bool>().prop_map(Op::Freeze),
        1 => name.prop_map(|name| Op::Remove { name }),
        6 => Just(Op::Poll),
    ]
}

/// Somebody with one upload at most.
#[derive(Default)]
struct User {
    upload: Option<UploadHandle>,
    name: usize,
    /// What the file will hold.
    bytes: Vec<u8>,
    /// How many of its blocks were submitted.
    submitted: usize,
    finishing: bool,
    /// The end of it was looked at.
    settled: bool,
    blocks: Vec<UploadBlock>,
}

/// Every content is another one.
struct Model {
    uploads: u8,
    /// What each name may hold: nothing, or an upload that was finished at some time.
    possible: [Vec<Option<Vec<u8>>>; NAMES],
}

fn apply(rig: &mut Rig, users: &mut [User], model: &mut Model, op: Op) {
    match op {
        Op::Begin {
            user,
            name,
            must_create,
        } => {
            let user = &mut users[user];
            if user.upload.is_some() || !user.blocks.is_empty() {
                return;
            }
            let precondition = if must_create {
                Precondition::Absent
            } else {
                Precondition::None
            };
            let options = UploadOptions {
                precondition,
                ..UploadOptions::default()
            };
            let path = name.to_string();
            let has_slot = rig.disk.ledger().uploads < 3;
            let begun = rig.disk.begin_upload(&rig.root, path.as_bytes(), &options);
            assert_eq!(begun.is_ok(), has_slot);
            if let Ok(upload) = begun {
                model.uploads = model.uploads.wrapping_add(1);
                let size = FILE_BLOCKS * BLOCK_BYTES - usize::from(model.uploads);
                *user = User {
                    upload: Some(upload),
                    name,
                    bytes: content(model.uploads, size),
                    ..User::default()
                };
            }
        }
        Op::Take { user } => {
            let user = &mut users[user];
            if let Some(upload) = &user.upload
                && let TakeBlock::Taken(block) = rig.disk.upload_block(upload)
            {
                user.blocks.push(block);
            }
        }
        Op::Submit { user } => {
            let user = &mut users[user];
            if user.submitted < FILE_BLOCKS
                && let Some(mut block) = user.blocks.pop()
            {
                // From the end to the start: the order does not matter.
                let number = FILE_BLOCKS - 1 - user.submitted;
                let start = number * BLOCK_BYTES;
                let end = user.bytes.len().min(start + BLOCK_BYTES);
                let piece = &user.bytes[start..end];
                block.bytes_mut()[..piece.len()].copy_from_slice(piece);
                rig.disk.submit(block, start as u64, piece.len());
                user.submitted += 1;
            }
        }
        Op::Return { user } => {
            if let Some(block) = users[user].blocks.pop() {
                rig.disk.return_block(block);
            }
        }
        Op::Finish { user } => {
            let user = &mut users[user];
            if let Some(upload) = &user.upload
                && user.submitted == FILE_BLOCKS
            {
                rig.disk.finish_upload(upload, user.bytes.len() as u64);
                user.finishing = true;
                model.possible[user.name].push(Some(user.bytes.clone()));
            }
        }
        Op::End { user } => {
            if let Some(upload) = users[user].upload.take() {
                rig.disk.end_upload(upload);
            }
        }
        Op::Freeze(closed) => rig.disk.helpers.gate().set_closed(closed),
        Op::Remove { name } => {
            let _ = fs::remove_file(rig.path(&name.to_string()));
            model.possible[name].push(None);
        }
        Op::Poll => {
            rig.disk.poll();
        }
    }
}

/// The file that has the name of an upload, if it is still the one that was published, holds its bytes. Others may have
/// taken the name since.
fn assert_published(rig: &Rig, user: &User, published: &Published) {
    assert!(user.finishing);
    assert_eq!(published.meta.size, user.bytes.len() as u64);
    let Ok(mut file) = fs::File::open(rig.path(&user.name.to_string())) else {
        return;
    };
    let (now, _) = stat(file.as_fd(), Freshness::Synced).expect("an open file");
    let (mtime_s, mtime_ns) = (published.meta.mtime_s, published.meta.mtime_ns);
    if now.is_same_inode(&published.meta) && (now.mtime_s, now.mtime_ns) == (mtime_s, mtime_ns) {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("it is read");
        assert!(bytes == user.bytes, "{} holds other bytes", user.name);
    }
}

fn check(rig: &Rig, users: &mut [User], model: &Model) {
    let ledger = rig.disk.ledger();
    assert!(ledger.balanced(), "{ledger:?}");
    assert!(ledger.uploading <= 3, "{ledger:?}");
    for (name, possible) in model.possible.iter().enumerate() {
        let there = fs::read(rig.path(&name.to_string())).ok();
        assert!(
            possible.contains(&there),
            "{name} holds what nobody published"
        );
    }
    for user in users {
        let Some(upload) = &user.upload else { continue };
        match rig.disk.upload_state(upload) {
            UploadState::Published(published) => {
                if !std::mem::replace(&mut user.settled, true) {
                    assert_published(rig, user, &published);
                }
            }
            UploadState::Publishing => assert!(user.finishing),
            UploadState::Failed(error) => assert_eq!(error, crate::UploadError::Exists),
            UploadState::Opening | UploadState::Writing => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_name_holds_whole_uploads_only_and_nothing_is_left_of_the_others(
        tmpfile in any::<bool>(),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let limits = UploadLimits { uploads: 3, threads: 2, blocks: 3, blocks_each: 2, loans: 0 };
        let mut rig = rig_with(8, limits);
        if !tmpfile {
            rig.disk.uploads.without_tmpfile();
        }
        let mut users: Vec<User> = (0..4).map(|_| User::default()).collect();
        let mut model = Model { uploads: 0, possible: [(); NAMES].map(|()| vec![None]) };
        for op in ops {
            apply(&mut rig, &mut users, &mut model, op);
            check(&rig, &mut users, &model);
        }
        for user in users {
            for block in user.blocks {
                rig.disk.return_block(block);
            }
            if let Some(upload) = user.upload {
                rig.disk.end_upload(upload);
            }
        }
        rig.disk.helpers.gate().set_closed(false);
        rig.poll_until("every upload is cleared away", |rig| rig.disk.ledger().at_rest());
        prop_assert_eq!(rig.temporary_names(), Vec::<String>::new());
    }
}
