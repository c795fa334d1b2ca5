use proptest::prelude::*;

use super::*;

fn key(file: u64, block: u64) -> BlockKey {
    BlockKey {
        file: FileId(file),
        block,
    }
}

/// Reserves a block for `key` and fills it.
fn filled(cache: &mut BlockCache, key: BlockKey) -> u32 {
    let block = cache.reserve(key, Urgency::Ahead).expect("a block");
    cache.finish(block, 1);
    block
}

#[test]
fn the_block_used_longest_ago_is_evicted_first() {
    let mut cache = BlockCache::new(3);
    for number in 0..3 {
        filled(&mut cache, key(1, number));
    }
    let Lookup::Ready(first) = cache.lookup(&key(1, 0)) else {
        panic!("block 0 is cached");
    };
    cache.pin(first);
    cache.unpin(first);
    filled(&mut cache, key(1, 3));
    assert_eq!(cache.lookup(&key(1, 1)), Lookup::Absent);
    assert_eq!(cache.lookup(&key(1, 0)), Lookup::Ready(first));
    assert_eq!(cache.evictions(), 1);
}

#[test]
fn a_remembered_place_changes_nothing_about_what_is_found() {
    let mut cache = BlockCache::new(5);
    let blocks = [0, 1, 2].map(|number| filled(&mut cache, key(1, number)));
    // One is used for another key since, one is an upload's, and one is being read.
    for block in &blocks[..2] {
        cache.pin(*block);
    }
    cache.reserve(key(1, 3), Urgency::Ahead).expect("a block");
    filled(&mut cache, key(1, 4));
    filled(&mut cache, key(1, 5));
    cache.unpin(blocks[0]);
    cache.begin_upload().expect("a block");
    for number in 0..7 {
        let key = key(1, number);
        for place in 0..7 {
            assert_eq!(cache.lookup_near(&key, place), cache.lookup(&key));
        }
    }
    assert_eq!(cache.lookup(&key(1, 1)), Lookup::Ready(blocks[1]));
}

#[test]
fn a_pinned_block_stays_until_its_last_reference_is_gone() {
    let mut cache = BlockCache::new(1);
    let block = filled(&mut cache, key(1, 0));
    cache.pin(block);
    cache.pin(block);
    cache.unpin(block);
    assert_eq!(cache.reserve(key(1, 1), Urgency::Awaited), None);
    cache.unpin(block);
    assert_eq!(cache.reserve(key(1, 1), Urgency::Awaited), Some(block));
}

#[test]
fn a_block_that_somebody_waits_for_is_kept_back_for_two_turns() {
    let mut cache = BlockCache::new(1);
    cache.next_turn();
    let block = cache
        .reserve(key(1, 0), Urgency::Awaited)
        .expect("a free block");
    cache.finish(block, 1);
    assert_eq!(cache.reserve(key(1, 1), Urgency::Awaited), None);
    assert!(!cache.next_turn());
    assert!(cache.keeps_back());
    assert_eq!(cache.reserve(key(1, 1), Urgency::Awaited), None);
    assert!(cache.next_turn());
    assert!(!cache.keeps_back());
    assert_eq!(cache.reserve(key(1, 1), Urgency::Awaited), Some(block));
}

#[test]
fn read_ahead_that_somebody_begins_to_wait_for_is_kept_back_too() {
    let mut cache = BlockCache::new(1);
    let block = cache
        .reserve(key(1, 0), Urgency::Ahead)
        .expect("a free block");
    cache.awaited(block);
    cache.finish(block, 1);
    assert!(cache.keeps_back());
}

#[test]
fn a_failure_is_told_once_and_leaves_a_free_block() {
    let mut cache = BlockCache::new(1);
    let block = cache
        .reserve(key(1, 0), Urgency::Awaited)
        .expect("a free block");
    cache.fail(block, Errno::IO);
    assert_eq!(cache.lookup(&key(1, 0)), Lookup::Failed(block, Errno::IO));
    assert_eq!(cache.valid(block), 0);
    cache.discard(block);
    assert_eq!(cache.lookup(&key(1, 0)), Lookup::Absent);
    assert_eq!(cache.census().free, 1);
}

#[test]
fn a_cancelled_load_leaves_no_trace() {
    let mut cache = BlockCache::new(2);
    let before = cache.census();
    let block = cache
        .reserve(key(1, 0), Urgency::Awaited)
        .expect("a free block");
    assert_eq!(cache.census().loading, 1);
    cache.cancel(block);
    assert_eq!(cache.census(), before);
    assert_eq!(cache.lookup(&key(1, 0)), Lookup::Absent);
}

/// The same rules written down naively: one list of blocks with content in the order of their last use.
struct Twin {
    blocks: usize,
    turn: u64,
    held: Vec<Held>,
    uploading: Vec<u32>,
    evictions: u64,
}

#[derive(Clone, PartialEq, Debug)]
struct Held {
    key: BlockKey,
    what: What,
    pins: u32,
    awaited: bool,
    /// The turn of arrival, while the block is kept back.
    kept_since: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum What {
    Absent,
    Loading,
    Ready(u32),
    Failed,
}

impl Twin {
    fn what(&self, key: BlockKey) -> What {
        self.held
            .iter()
            .find(|held| held.key == key)
            .map_or(What::Absent, |held| held.what)
    }

    fn get(&mut self, key: BlockKey) -> &mut Held {
        let held = self.held.iter_mut().find(|held| held.key == key);
        held.expect("the twin has the key")
    }

    fn forget(&mut self, key: BlockKey) {
        self.held.retain(|held| held.key != key);
    }

    /// Moves the key to the recently used end.
    fn touch(&mut self, key: BlockKey) {
        let held = self.get(key).clone();
        self.forget(key);
        self.held.push(held);
    }

    fn make_room(&mut self) -> bool {
        if self.held.len() + self.uploading.len() == self.blocks {
            let coldest = self.held.iter().position(|held| {
                held.pins == 0 && held.what != What::Loading && held.kept_since.is_none()
            });
            let Some(coldest) = coldest else {
                return false;
            };
            self.held.remove(coldest);
            self.evictions += 1;
        }
        true
    }

    fn reserve(&mut self, key: BlockKey, awaited: bool) -> bool {
        if !self.make_room() {
            return false;
        }
        self.held.push(Held {
            key,
            what: What::Loading,
            pins: 0,
            awaited,
            kept_since: None,
        });
        true
    }

    fn arrive(&mut self, key: BlockKey, what: What) {
        let turn = self.turn;
        let held = self.get(key);
        held.what = what;
        held.kept_since = held.awaited.then_some(turn);
        self.touch(key);
    }

    fn next_turn(&mut self) {
        self.turn += 1;
        let turn = self.turn;
        let due: Vec<BlockKey> = self
            .held
            .iter()
            .filter(|held| held.kept_since.is_some_and(|since| since + 2 <= turn))
            .map(|held| held.key)
            .collect();
        for key in due {
            self.get(key).kept_since = None;
            self.touch(key);
        }
    }

    fn census(&self) -> Census {
        let count = |which: fn(&Held) -> bool| {
            let n = self.held.iter().filter(|held| which(held)).count();
            u32::try_from(n).expect("few blocks")
        };
        let blocks = u32::try_from(self.blocks).expect("few blocks");
        let held = self.held.len() + self.uploading.len();
        let held = u32::try_from(held).expect("few blocks");
        Census {
            free: blocks - held,
            cached: count(|held| held.pins == 0 && held.what != What::Loading),
            pinned: count(|held| held.pins > 0),
            loading: count(|held| held.what == What::Loading),
            uploading: u32::try_from(self.uploading.len()).expect("few blocks"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Reserve { awaited: bool },
    Await,
    Finish { valid: u32 },
    Fail,
    Cancel,
    Discard,
    Pin,
    Unpin,
    NextTurn,
    BeginUpload,
    EndUpload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<bool>().prop_map(|awaited| Op::Reserve { awaited }),
        1 => Just(Op::Await),
        5 => (1_u32..100).prop_map(|valid| Op::Finish { valid }),
        1 => Just(Op::Fail),
        1 => Just(Op::Cancel),
        1 => Just(Op::Discard),
        4 => Just(Op::Pin),
        4 => Just(Op::Unpin),
        2 => Just(Op::NextTurn),
        1 => Just(Op::BeginUpload),
        1 => Just(Op::EndUpload),
    ]
}

/// Applies an operation to both where its precondition holds. The twin decides that.
fn apply(cache: &mut BlockCache, twin: &mut Twin, op: Op, key: BlockKey) {
    match op {
        Op::BeginUpload => {
            let block = cache.begin_upload();
            assert_eq!(block.is_some(), twin.make_room());
            twin.uploading.extend(block);
            return;
        }
        Op::EndUpload => {
            if let Some(block) = twin.uploading.pop() {
                cache.end_upload(block);
            }
            return;
        }
        _ => {}
    }
    let (Lookup::Loading(block) | Lookup::Ready(block) | Lookup::Failed(block, _)) =
        cache.lookup(&key)
    else {
        match op {
            Op::Reserve { awaited } => {
                let urgency = if awaited {
                    Urgency::Awaited
                } else {
                    Urgency::Ahead
                };
                let reserved = cache.reserve(key, urgency).is_some();
                assert_eq!(reserved, twin.reserve(key, awaited));
            }
            Op::NextTurn => {
                cache.next_turn();
                twin.next_turn();
            }
            _ => {}
        }
        return;
    };
    match (op, twin.what(key)) {
        (Op::Await, What::Loading) => {
            cache.awaited(block);
            twin.get(key).awaited = true;
        }
        (Op::Finish { valid }, What::Loading) => {
            cache.finish(block, valid);
            twin.arrive(key, What::Ready(valid));
        }
        (Op::Fail, What::Loading) => {
            cache.fail(block, Errno::IO);
            twin.arrive(key, What::Failed);
        }
        (Op::Cancel, What::Loading) => {
            cache.cancel(block);
            twin.forget(key);
        }
        (Op::Discard, What::Failed) => {
            cache.discard(block);
            twin.forget(key);
        }
        (Op::Pin, What::Ready(_)) => {
            cache.pin(block);
            twin.get(key).pins += 1;
            twin.get(key).kept_since = None;
        }
        (Op::Unpin, What::Ready(_)) if twin.get(key).pins > 0 => {
            cache.unpin(block);
            twin.get(key).pins -= 1;
            twin.touch(key);
        }
        (Op::NextTurn, _) => {
            cache.next_turn();
            twin.next_turn();
        }
        _ => {}
    }
}

fn as_the_twin_says(cache: &BlockCache, key: BlockKey) -> What {
    match cache.lookup(&key) {
        Lookup::Absent => What::Absent,
        Lookup::Loading(_) => What::Loading,
        Lookup::Ready(block) => What::Ready(cache.valid(block)),
        Lookup::Failed(..) => What::Failed,
    }
}

proptest! {
    #[test]
    fn the_cache_behaves_as_its_naive_twin(
        blocks in 1_u32..6,
        ops in prop::collection::vec((op(), 1_u64..3, 0_u64..4), 1..300),
    ) {
        let mut cache = BlockCache::new(blocks);
        let mut twin = Twin { blocks: blocks as usize, turn: 0, held: Vec::new(), uploading: Vec::new(), evictions: 0 };
        for (op, file, block) in ops {
            apply(&mut cache, &mut twin, op, key(file, block));
            for (file, block) in (1..3).flat_map(|file| (0..4).map(move |block| (file, block))) {
                let key = key(file, block);
                prop_assert_eq!(as_the_twin_says(&cache, key), twin.what(key), "{:?} after {:?}", key, op);
            }
            prop_assert_eq!(cache.census(), twin.census());
            prop_assert_eq!(cache.evictions(), twin.evictions);
        }
    }
}
