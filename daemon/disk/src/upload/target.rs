//! Where an upload is to go: a path cut into the directory and the name in it, in the form system calls take.

use std::ffi::CStr;

use crate::upload::{UploadError, is_temporary_name};

/// The longest path with its NUL: PATH_MAX of linux/limits.h.
const PATH_BYTES: usize = 4096;

/// A target below a root. Its buffer is made once and set again for every upload.
#[derive(Debug)]
pub(crate) struct TargetName {
    /// The path with a NUL behind it and another in place of its last slash.
    path: Box<[u8; PATH_BYTES]>,
    leaf_at: usize,
}

impl TargetName {
    pub(crate) fn new() -> TargetName {
        TargetName {
            path: Box::new([0; PATH_BYTES]),
            leaf_at: 0,
        }
    }

    /// Holds `path` from now on.
    ///
    /// # Errors
    /// `BadName`, `IsDirectory` and `Escapes`, as far as the text shows it. The old target may be gone then.
    pub(crate) fn set(&mut self, path: &[u8]) -> Result<(), UploadError> {
        if path.len() >= PATH_BYTES || path.contains(&0) {
            return Err(UploadError::BadName);
        }
        let slash = path.iter().rposition(|&byte| byte == b'/');
        let leaf_at = slash.map_or(0, |slash| slash + 1);
        match &path[leaf_at..] {
            b"" | b"." | b".." => return Err(UploadError::IsDirectory),
            leaf if is_temporary_name(leaf) => return Err(UploadError::BadName),
            _ => {}
        }
        // Cut behind an only slash, an absolute path would look like one of the root.
        if path.starts_with(b"/") {
            return Err(UploadError::Escapes);
        }
        self.path[..path.len()].copy_from_slice(path);
        self.path[path.len()] = 0;
        if let Some(slash) = slash {
            self.path[slash] = 0;
        }
        self.leaf_at = leaf_at;
        Ok(())
    }

    /// The path of the directory.
    pub(crate) fn directory(&self) -> &CStr {
        match self.leaf_at {
            0 => c".",
            _ => until_nul(&self.path[..]),
        }
    }

    /// The name in the directory.
    pub(crate) fn leaf(&self) -> &CStr {
        until_nul(&self.path[self.leaf_at..])
    }
}

fn until_nul(bytes: &[u8]) -> &CStr {
    // `set` ended both parts with a NUL, `new` the whole.
    CStr::from_bytes_until_nul(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::TEMPORARY_PREFIX;

    fn parts(path: &[u8]) -> Result<(String, String), UploadError> {
        let mut target = TargetName::new();
        target.set(b"some/longer/name/of/before")?;
        target.set(path)?;
        let text = |part: &CStr| part.to_str().expect("text").to_owned();
        Ok((text(target.directory()), text(target.leaf())))
    }

    #[test]
    fn a_path_is_cut_at_its_last_slash() {
        let expect = |directory: &str, leaf: &str| Ok((directory.to_owned(), leaf.to_owned()));
        assert_eq!(parts(b"file"), expect(".", "file"));
        assert_eq!(parts(b"a/b/file"), expect("a/b", "file"));
        assert_eq!(parts(b"a//..file"), expect("a/", "..file"));
        assert_eq!(parts(b"a/../..."), expect("a/..", "..."));
    }

    #[test]
    fn what_can_only_be_a_directory_is_said_to_be_one() {
        for path in [
            &b""[..],
            b"/",
            b".",
            b"..",
            b"a/",
            b"a/b//",
            b"a/.",
            b"a/..",
        ] {
            assert_eq!(parts(path), Err(UploadError::IsDirectory), "{path:?}");
        }
    }

    #[test]
    fn absolute_paths_lead_out_of_the_root() {
        assert_eq!(parts(b"/file"), Err(UploadError::Escapes));
        assert_eq!(parts(b"//a/file"), Err(UploadError::Escapes));
    }

    #[test]
    fn impossible_and_kept_names_are_bad() {
        assert_eq!(parts(b"a\0b"), Err(UploadError::BadName));
        assert_eq!(parts(&[b'a'; PATH_BYTES]), Err(UploadError::BadName));
        let kept = format!("a/{TEMPORARY_PREFIX}0123");
        assert_eq!(parts(kept.as_bytes()), Err(UploadError::BadName));
        let longest = [b'a'; PATH_BYTES - 1];
        assert_eq!(
            parts(&longest).map(|(_, leaf)| leaf.len()),
            Ok(PATH_BYTES - 1)
        );
    }
}
