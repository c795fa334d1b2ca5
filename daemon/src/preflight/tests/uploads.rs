//! Roots that take no uploads, and limits of the process below that of an upload.

use rustix::io::Errno;
use sluice_disk::UploadError;

use super::*;

fn judged_with_uploads(change: impl FnOnce(&mut Facts)) -> Preflight {
    let mut config = config("");
    config.upload.enabled = true;
    config.upload.max_size = 1 << 40;
    let mut facts = good(&config);
    change(&mut facts);
    judge(&config, &facts)
}

#[test]
fn files_that_may_not_get_as_large_as_uploads() {
    let limited = |limit| judged_with_uploads(move |facts| facts.privileges.file_size = limit);
    assert_eq!(
        warnings(&limited(Some(1 << 30))),
        [
            "upload.max_size is 1TiB, but RLIMIT_FSIZE is 1GiB: longer uploads are answered 413 when they get there \
          -> LimitFSIZE=infinity in the unit, or max_size = \"1GiB\""
        ]
    );
    for enough in [None, Some(1 << 40)] {
        assert_eq!(warnings(&limited(enough)), Vec::<String>::new());
    }
    let off = judged("", |facts| facts.privileges.file_size = Some(1));
    assert_eq!(warnings(&off), Vec::<String>::new(), "nobody uploads");
}

#[test]
fn a_root_that_takes_no_uploads() {
    let refused = |error| judged_with_uploads(move |facts| facts.uploads = vec![Err(error)]);
    for (error, expected) in [
        (
            UploadError::ReadOnly,
            "files cannot be stored in /srv/files: it is mounted read-only for this process \
             -> ReadWritePaths= for it in the unit (ProtectSystem=strict), or mount it read-write",
        ),
        (
            UploadError::Denied,
            "files cannot be stored in /srv/files: uid 998 may not write there, or a symbolic link is in the way \
             -> chown or chmod it, or `setfacl -m u:998:rwx` on it",
        ),
        (
            UploadError::Io(Errno::NOENT),
            "files cannot be stored in /srv/files: a file without a name cannot get one without /proc \
             -> mount /proc for the service",
        ),
    ] {
        let preflight = refused(error);
        assert_eq!(warnings(&preflight), [expected]);
        // Directories below it may take some.
        assert_eq!(serves(&preflight), Some(ActiveBackend::Xdp));
    }
    let taken = judged_with_uploads(|facts| facts.uploads = vec![Ok(())]);
    assert_eq!(warnings(&taken), Vec::<String>::new());
    assert!(
        taken
            .render()
            .contains("PASS files can be stored in /srv/files\n")
    );
}
