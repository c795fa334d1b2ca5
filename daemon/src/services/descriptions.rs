//! What was said of files lately, to be said again: a [`Description`] in each of some places.
//!
//! A place belongs to a slot of the disk's file table, which a version of a file keeps while it is remembered there. Where
//! two share one they write over each other. A description is looked at before it is used, so nothing has to be forgotten
//! when a file changes, and a peer gains nothing by choosing files: at worst every answer is described anew.

use sluice_disk::FileHandle;
use sluice_http::{Description, Found};

/// Some 600 bytes each.
const PLACES: usize = 256;

/// The places.
pub(crate) struct Descriptions {
    places: Box<[Description]>,
}

impl Descriptions {
    pub(crate) fn new() -> Descriptions {
        let nothing = Found {
            size: 0,
            mtime_s: 0,
            mtime_ns: 0,
        };
        Descriptions {
            places: vec![Description::new(b"", &nothing, 0); PLACES].into_boxed_slice(),
        }
    }

    /// The description of the file `found` at `path`, which is open as `file`, when the clock shows `now_s`.
    pub(crate) fn of(
        &mut self,
        file: &FileHandle,
        path: &[u8],
        found: &Found,
        now_s: i64,
    ) -> &Description {
        let place = &mut self.places[file.slot() % PLACES];
        if !place.is_of(path, found, now_s) {
            *place = Description::new(path, found, now_s);
        }
        place
    }
}
