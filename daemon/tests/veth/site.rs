//! The served directory: files of any size with content that repeats nowhere, and SHA-256 sums.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::lab::run;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// A directory of files, removed with the value.
pub struct Site {
    folder: TempDir,
}

impl Site {
    pub fn new() -> Site {
        Site {
            folder: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A site in this directory, which goes with it at the latest.
    pub fn within(folder: &Path) -> Site {
        Site {
            folder: tempfile::tempdir_in(folder).expect("a temporary directory"),
        }
    }

    /// A site with one file.
    pub fn with(name: &str, bytes: usize) -> Site {
        let site = Site::new();
        site.file(name, bytes);
        site
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// What lies in it, sorted.
    pub fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.root()).expect("the directory is readable");
        let mut names: Vec<OsString> = entries
            .map(|entry| entry.expect("the directory is readable").file_name())
            .collect();
        names.sort();
        names
    }

    /// Writes a file whose content follows from its name.
    pub fn file(&self, name: &str, bytes: usize) {
        let file = File::create(self.path(name)).expect("the directory is writable");
        let mut out = BufWriter::with_capacity(MIB, file);
        let seed = name.bytes().fold(bytes as u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut words = SplitMix(seed);
        let mut left = bytes;
        while left > 0 {
            let word = words.next().to_le_bytes();
            let take = left.min(word.len());
            out.write_all(&word[..take])
                .expect("there is room on the disk");
            left -= take;
        }
        out.flush().expect("there is room on the disk");
    }

    /// Cuts a file to `bytes` in place.
    pub fn truncate(&self, name: &str, bytes: u64) {
        let file = OpenOptions::new().write(true).open(self.path(name));
        file.and_then(|file| file.set_len(bytes))
            .expect("the file can be cut");
    }

    /// Puts a file of another content in the place of `name`, as a publisher does: new file, then rename.
    pub fn replace(&self, name: &str, bytes: usize) {
        let fresh = format!("{name}.new");
        self.file(&fresh, bytes);
        fs::rename(self.path(&fresh), self.path(name)).expect("the file can be replaced");
    }
}

/// SHA-256 of every file, in order.
pub fn sha256(files: &[PathBuf]) -> Vec<String> {
    let names: Vec<&str> = files
        .iter()
        .map(|file| file.to_str().expect("names are ASCII"))
        .collect();
    run("sha256sum", &names)
        .lines()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

/// Asserts that two files have the same SHA-256.
pub fn assert_same(left: &Path, right: &Path) {
    let sums = sha256(&[left.to_owned(), right.to_owned()]);
    assert_eq!(
        sums[0],
        sums[1],
        "{} and {} differ",
        left.display(),
        right.display()
    );
}

/// SplitMix64 (Steele, Lea, Flood 2014): fast, and every word of a file differs from the others.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
