//! Where uploads are on: can files be stored, and as large as is allowed?
//!
//! Only the root itself is tried. Nothing here stops a start: uploads may be meant for directories below it, and
//! downloads do not care.

use sluice_disk::{Errno, Root, UploadError};

use super::{Check, Facts, Problem, Scope};
use crate::config::units::format_size;
use crate::config::{Config, Symlinks};

/// Stores an empty file in every root for a moment. A root that cannot be opened is told by [`super::root`].
pub(super) fn probe(config: &Config) -> Vec<Result<(), UploadError>> {
    if !config.upload.enabled {
        return Vec::new();
    }
    let symlinks = |symlinks| match symlinks {
        Symlinks::Never => sluice_disk::Symlinks::Never,
        Symlinks::InsideRoot => sluice_disk::Symlinks::InsideRoot,
    };
    let tried = config.sites.iter().map(|site| {
        let root = Root::open(&site.root, symlinks(site.symlinks));
        root.map_or(Ok(()), |root| root.try_upload())
    });
    tried.collect()
}

pub(super) fn checks(config: &Config, facts: &Facts) -> Vec<Check> {
    if !config.upload.enabled {
        return Vec::new();
    }
    let tried = config.sites.iter().zip(&facts.uploads);
    let stored = tried.map(|(site, outcome)| {
        let root = site.root.display();
        match outcome {
            Ok(()) => Check::pass(Scope::Service, format!("files can be stored in {root}")),
            Err(error) => {
                let (why, fix) = upload_remedy(*error, facts.privileges.uid);
                let what = format!("files cannot be stored in {root}");
                Check::warn(Scope::Service, Problem::new(what, why, fix))
            }
        }
    });
    stored.chain(file_size(config, facts)).collect()
}

/// Why the machine fails uploads, and what to do about it: for `doctor`, and for the log when it happens.
#[must_use]
pub fn upload_remedy(error: UploadError, uid: u32) -> (String, String) {
    let (why, fix) = match error {
        UploadError::ReadOnly => (
            "it is mounted read-only for this process".to_owned(),
            "ReadWritePaths= for it in the unit (ProtectSystem=strict), or mount it read-write"
                .to_owned(),
        ),
        UploadError::Denied => (
            format!("uid {uid} may not write there, or a symbolic link is in the way"),
            format!("chown or chmod it, or `setfacl -m u:{uid}:rwx` on it"),
        ),
        UploadError::NoSpace | UploadError::Quota => (
            "no space is left".to_owned(),
            "make room, or raise the quota".to_owned(),
        ),
        UploadError::Io(Errno::NOENT) => (
            "a file without a name cannot get one without /proc".to_owned(),
            "mount /proc for the service".to_owned(),
        ),
        UploadError::Io(errno) | UploadError::NotDurable(errno) => (
            errno.to_string(),
            "check the file system it is on, and the log of the kernel".to_owned(),
        ),
        other => (format!("{other:?}"), "check the directory".to_owned()),
    };
    (why, fix)
}

/// Beyond RLIMIT_FSIZE a write fails (EFBIG), however much was announced and sent before.
fn file_size(config: &Config, facts: &Facts) -> Option<Check> {
    let limit = facts.privileges.file_size?;
    let max_size = config.upload.max_size;
    if limit >= max_size {
        return None;
    }
    let limit = format_size(limit);
    Some(Check::warn(
        Scope::Service,
        Problem::new(
            format!(
                "upload.max_size is {}, but RLIMIT_FSIZE is {limit}",
                format_size(max_size)
            ),
            "longer uploads are answered 413 when they get there",
            format!("LimitFSIZE=infinity in the unit, or max_size = \"{limit}\""),
        ),
    ))
}
