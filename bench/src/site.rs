//! What is served: a large file of random bytes and a small one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::lab::{Lab, SERVER, output};
use crate::server::PORT;

/// Name of the large file.
pub const LARGE: &str = "large.bin";
pub const SMALL: &str = "small.bin";
pub const SMALL_BYTES: u64 = 16 << 20;

/// The served directory.
pub struct Site {
    /// Its path.
    pub root: PathBuf,
    /// Bytes of the large file.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Site {
    /// Fills it with a large file of random bytes and a small one.
    pub fn create(lab: &Lab, bytes: u64) -> Result<Site, Error> {
        let root = lab.scratch().join("site");
        fs::create_dir(&root).map_err(Error::io(root.display().to_string()))?;
        random_file(&root.join(LARGE), bytes)?;
        random_file(&root.join(SMALL), SMALL_BYTES)?;
        let sha256 = sha256(&root.join(LARGE))?;
        Ok(Site {
            root,
            bytes,
            sha256,
        })
    }
}

/// A served directory with a file for every size that is asked for.
pub struct Objects {
    /// Its path.
    pub root: PathBuf,
    sums: RefCell<BTreeMap<String, String>>,
}

impl Objects {
    /// Empty.
    pub fn create(lab: &Lab) -> Result<Objects, Error> {
        let root = lab.scratch().join("objects");
        fs::create_dir(&root).map_err(Error::io(root.display().to_string()))?;
        Ok(Objects {
            root,
            sums: RefCell::default(),
        })
    }

    /// SHA-256 of such a file, computed once.
    pub fn sha256(&self, name: &str) -> Result<String, Error> {
        if let Some(known) = self.sums.borrow().get(name) {
            return Ok(known.clone());
        }
        let sum = sha256(&self.root.join(name))?;
        self.sums.borrow_mut().insert(name.to_owned(), sum.clone());
        Ok(sum)
    }

    /// Name of the file of so many random bytes, which is made if it is not there.
    pub fn of(&self, bytes: u64) -> Result<String, Error> {
        let name = format!("{bytes}.bin");
        let path = self.root.join(&name);
        if !path.exists() {
            random_file(&path, bytes)?;
        }
        Ok(name)
    }
}

/// A directory for uploads, empty at first. It and all that was stored go with the value.
pub struct Inbox {
    /// Its path.
    pub root: PathBuf,
}

impl Inbox {
    /// Beside the files that are uploaded, on the same file system.
    pub fn create(lab: &Lab) -> Result<Inbox, Error> {
        let root = lab.scratch().join("inbox");
        fs::create_dir(&root).map_err(Error::io(root.display().to_string()))?;
        Ok(Inbox { root })
    }

    /// Whether it has files, and all of them so many bytes.
    ///
    /// # Errors
    /// The first that has others, of this server.
    pub fn check(&self, server: &'static str, bytes: u64) -> Result<(), Error> {
        let read = || Error::io(self.root.display().to_string());
        let wrong = |what| Error::WrongBytes {
            backend: server,
            what,
        };
        let mut count = 0;
        for entry in fs::read_dir(&self.root).map_err(read())? {
            let entry = entry.map_err(read())?;
            let stored = entry.metadata().map_err(read())?.len();
            if stored != bytes {
                let name = entry.file_name();
                return Err(wrong(format!(
                    "{} has {stored} bytes instead of {bytes}",
                    name.display()
                )));
            }
            count += 1;
        }
        match count {
            0 => Err(wrong("nothing is stored".to_owned())),
            _ => Ok(()),
        }
    }

    /// Removes a file that must have the bytes of the one at `sent`.
    ///
    /// # Errors
    /// It has others, with the place of the first.
    pub fn take(&self, name: &str, sent: &Path) -> Result<(), Error> {
        let path = self.root.join(name);
        output("cmp", Command::new("cmp").arg(sent).arg(&path))?;
        fs::remove_file(&path).map_err(Error::io(path.display().to_string()))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Else it goes with the lab.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String, Error> {
    let said = output("sha256sum", Command::new("sha256sum").arg(path))?;
    Ok(first_word(&said))
}

fn random_file(path: &Path, bytes: u64) -> Result<(), Error> {
    let source = fs::File::open("/dev/urandom").map_err(Error::io("/dev/urandom"))?;
    let mut file = fs::File::create(path).map_err(Error::io(path.display().to_string()))?;
    std::io::copy(&mut source.take(bytes), &mut file)
        .map_err(Error::io(path.display().to_string()))?;
    Ok(())
}

/// Where a file is served.
pub fn url(name: &str) -> String {
    format!("http://{SERVER}:{PORT}/{name}")
}

/// The first word of what a program printed.
pub fn first_word(line: &str) -> String {
    line.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}
