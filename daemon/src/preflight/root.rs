//! The served directory: can it be entered and read, and if not, which part of the path is to blame.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, openat, stat};
use rustix::io::Errno;

use super::{Check, Facts, Problem, Scope};
use crate::config::Config;

/// Opens the directory for reading and lets go again.
pub(super) fn probe(root: &Path) -> Result<(), (PathBuf, Errno)> {
    // From the top, so that the first component that fails is named and not the whole path.
    let mut components: Vec<_> = root
        .ancestors()
        .filter(|path| *path != Path::new(""))
        .collect();
    components.reverse();
    for path in components {
        let found = stat(path).map_err(|error| (path.to_owned(), error))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err((path.to_owned(), Errno::NOTDIR));
        }
        accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
            .map_err(|error| (path.to_owned(), error))?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty())
        .map(drop)
        .map_err(|error| (root.to_owned(), error))
}

pub(super) fn check(config: &Config, facts: &Facts) -> Check {
    for (site, outcome) in config.sites.iter().zip(&facts.roots) {
        if let Err((part, error)) = outcome {
            return Check::fail(Scope::Service, refusal(&site.root, part, *error, facts));
        }
    }
    let roots: Vec<_> = config
        .sites
        .iter()
        .map(|site| site.root.display().to_string())
        .collect();
    if config.sites.iter().any(|site| site.root == Path::new("/")) {
        return Check::warn(
            Scope::Service,
            Problem::new(
                "root is /",
                "every readable file of this host is served",
                "serve a directory that holds nothing else",
            ),
        );
    }
    Check::pass(
        Scope::Service,
        format!("root {} is readable", roots.join(", ")),
    )
}

fn refusal(root: &Path, part: &Path, error: Errno, facts: &Facts) -> Problem {
    let what = format!("root {} is unreadable", root.display());
    let part = part.display();
    let uid = facts.privileges.uid;
    match error {
        Errno::NOENT => Problem::new(
            what,
            format!("{part} does not exist"),
            "create it, or correct site.root or --root",
        ),
        Errno::NOTDIR => Problem::new(
            what,
            format!("{part} is not a directory"),
            "correct site.root or --root",
        ),
        Errno::ACCESS => Problem::new(
            what,
            format!("uid {uid} may not read or enter {part}"),
            format!(
                "`chmod o+rx {part}`, or `setfacl -m u:{uid}:rx {part}`; check ProtectHome= of the unit"
            ),
        ),
        other => Problem::new(
            what,
            format!("{part}: {other}"),
            "check the file system it is on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_readable() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(probe(directory.path()), Ok(()));
    }

    #[test]
    fn the_missing_component_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("a");
        assert_eq!(probe(&missing.join("b/c")), Err((missing, Errno::NOENT)));
    }

    #[test]
    fn a_file_is_not_a_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            probe(file.path()),
            Err((file.path().to_owned(), Errno::NOTDIR))
        );
    }

    #[test]
    fn a_relative_root_is_looked_up_from_here() {
        assert_eq!(probe(Path::new(".")), Ok(()));
        assert_eq!(probe(Path::new("src")), Ok(()));
    }
}
