//! Names opened in the present turn of the loop: requests that came in together open a file once.
//!
//! What a request is told must not be older than the request. Those of a turn had arrived when it began, so one open in
//! the turn speaks for all of them, and for nobody later: a file that is replaced, removed, closed to us or no longer
//! below the root is noticed as if every request opened it. The files stay open to the end of the turn, since an answer
//! that is complete at once closes its own, and no longer: the space of a deleted file comes back, and a file system can
//! be unmounted. That is why this needs no time limit, no notification and no setting, as a cache of open files
//! beyond the turn would.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::file::FileId;
use crate::handle::FileHandle;
use crate::root::Root;

/// Names in the table, and files kept open for them. In a turn come some hundred requests at most; those for more names
/// than this open theirs.
const PLACES: usize = 64;
/// The longest name that is remembered: longer than most, and the table stays 8 KiB.
const NAME_BYTES: usize = 100;

struct Place {
    /// The turn it is about. Turns count from 1, so 0 is never now.
    turn: u64,
    slot: u32,
    file: FileId,
    len: usize,
    name: [u8; NAME_BYTES],
}

/// Which name was which file in this turn.
pub(crate) struct Recent {
    hasher: RandomState,
    /// Each name has one place, which it takes from any other.
    places: Box<[Place]>,
    /// The root that all of them are below.
    root: Option<Root>,
    turn: u64,
    /// To be closed when the turn ends.
    held: Vec<FileHandle>,
}

impl Recent {
    pub(crate) fn new() -> Recent {
        let nothing = |_| Place {
            turn: 0,
            slot: 0,
            file: FileId::NONE,
            len: 0,
            name: [0; NAME_BYTES],
        };
        Recent {
            hasher: RandomState::new(),
            places: (0..PLACES).map(nothing).collect(),
            root: None,
            turn: 1,
            held: Vec::with_capacity(PLACES),
        }
    }

    /// Begins a turn: nothing is known of any name.
    pub(crate) fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// Whether one more file may be held open to the end of the turn.
    pub(crate) fn may_hold(&self) -> bool {
        self.held.len() < PLACES
    }

    /// Holds a file, if [`Recent::may_hold`].
    pub(crate) fn hold(&mut self, file: FileHandle) {
        debug_assert!(self.may_hold());
        self.held.push(file);
    }

    /// A file that is held no longer, until there is none.
    pub(crate) fn let_go(&mut self) -> Option<FileHandle> {
        self.held.pop()
    }

    /// The number of the present turn.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// The entry of the file table that `name` below `root` led to in this turn, and the version that was there.
    pub(crate) fn find(&self, root: &Root, name: &[u8]) -> Option<(u32, FileId)> {
        if !self.root.as_ref().is_some_and(|known| known.is(root)) {
            return None;
        }
        let place = &self.places[self.place_of(name)];
        let is_it = place.turn == self.turn && place.name.get(..place.len) == Some(name);
        is_it.then_some((place.slot, place.file))
    }

    /// `name` below `root` has just led to this entry and version.
    pub(crate) fn note(&mut self, root: &Root, name: &[u8], slot: u32, file: FileId) {
        if name.len() > NAME_BYTES {
            return;
        }
        if !self.root.as_ref().is_some_and(|known| known.is(root)) {
            // Everything in the table was below another one.
            self.next_turn();
            self.root = Some(root.clone());
        }
        let turn = self.turn;
        let at = self.place_of(name);
        let place = &mut self.places[at];
        (place.turn, place.slot, place.file) = (turn, slot, file);
        place.len = name.len();
        place.name[..name.len()].copy_from_slice(name);
    }

    fn place_of(&self, name: &[u8]) -> usize {
        // Keyed: a peer that knew which names share a place could have every request of the others opened.
        let mut hasher = self.hasher.build_hasher();
        // Not `hash_one`, which hashes the length too, as if more followed.
        hasher.write(name);
        usize::try_from(hasher.finish() % PLACES as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Symlinks;

    fn root() -> Root {
        Root::open(Path::new("/"), Symlinks::Never).expect("every system has it")
    }

    #[test]
    fn a_name_is_known_until_the_turn_ends() {
        let (root, mut recent) = (root(), Recent::new());
        assert_eq!(recent.find(&root, b"a"), None);
        recent.note(&root, b"a", 7, FileId(9));
        assert_eq!(recent.find(&root, b"a"), Some((7, FileId(9))));
        assert_eq!(recent.find(&root, b"b"), None);
        recent.next_turn();
        assert_eq!(recent.find(&root, b"a"), None);
    }

    #[test]
    fn a_name_below_one_root_says_nothing_about_another_root() {
        let (one, other, mut recent) = (root(), root(), Recent::new());
        recent.note(&one, b"a", 7, FileId(9));
        assert_eq!(recent.find(&other, b"a"), None);
        recent.note(&other, b"b", 8, FileId(10));
        assert_eq!(recent.find(&other, b"a"), None);
        assert_eq!(recent.find(&one, b"a"), None);
    }

    #[test]
    fn a_clone_of_a_root_is_that_root() {
        let (root, mut recent) = (root(), Recent::new());
        recent.note(&root, b"a", 7, FileId(9));
        assert!(recent.find(&root.clone(), b"a").is_some());
    }

    #[test]
    fn a_name_too_long_for_the_table_is_not_remembered() {
        let (root, mut recent) = (root(), Recent::new());
        for (len, is_known) in [(NAME_BYTES, true), (NAME_BYTES + 1, false)] {
            let name = vec![b'n'; len];
            recent.note(&root, &name, 7, FileId(9));
            assert_eq!(recent.find(&root, &name).is_some(), is_known, "{len}");
        }
    }

    #[test]
    fn of_names_in_one_place_the_last_is_known_and_no_name_leads_to_another_file() {
        let (root, mut recent) = (root(), Recent::new());
        let names: Vec<String> = (0..4 * PLACES).map(|at| at.to_string()).collect();
        for (slot, name) in (0..).zip(&names) {
            recent.note(&root, name.as_bytes(), slot, FileId(u64::from(slot) + 1));
        }
        let mut known = 0;
        for (slot, name) in (0..).zip(&names) {
            if let Some(found) = recent.find(&root, name.as_bytes()) {
                assert_eq!(found, (slot, FileId(u64::from(slot) + 1)));
                known += 1;
            }
        }
        assert!((1..=PLACES).contains(&known), "{known}");
    }
}
