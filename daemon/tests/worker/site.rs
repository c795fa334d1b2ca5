//! The served directory: files whose content differs from file to file and from block to block.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

pub struct Site {
    directory: TempDir,
}

impl Site {
    pub fn new() -> Site {
        Site {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and returns its content.
    pub fn file(&self, name: &str, bytes: usize) -> Vec<u8> {
        let content = content(name, bytes);
        fs::write(self.path(name), &content).expect("the directory is writable");
        content
    }

    /// Writes so many files of about so many bytes, "file0" and so on, and returns their contents.
    pub fn files(&self, count: usize, bytes: usize) -> Vec<Vec<u8>> {
        let file = |index| self.file(&format!("file{index}"), bytes + index);
        (0..count).map(file).collect()
    }

    /// Files of the site that this process has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir("/proc/self/fd")
            .expect("proc is mounted")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target != self.root() && target.starts_with(self.root()))
            .count()
    }

    pub fn root(&self) -> &std::path::Path {
        self.directory.path()
    }
}

fn content(name: &str, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(name.bytes().fold(1, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    }));
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        content.extend_from_slice(&random.next().to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// SplitMix64: the same numbers from the same seed for ever.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize has at most 64 bits");
        usize::try_from(self.next() % end).expect("below a usize")
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
