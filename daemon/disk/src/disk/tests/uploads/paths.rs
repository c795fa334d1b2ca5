//! Names that lead to no file of the root, and directories that go meanwhile.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_is_no_file_is_neither_replaced_nor_written_through() {
    on_both(|rig| {
        fs::create_dir_all(rig.path("dir")).expect("a directory");
        rig.write("secret", 1, 10);
        symlink("secret", rig.path("link")).expect("a link");
        symlink("dir", rig.path("linked")).expect("a link");
        rustix::fs::mkfifoat(rustix::fs::CWD, rig.path("fifo"), 0o600.into()).expect("a FIFO");
        for (name, error) in [
            ("dir", UploadError::IsDirectory),
            ("dir/", UploadError::IsDirectory),
            ("", UploadError::IsDirectory),
            ("link", UploadError::Denied),
            ("linked/file", UploadError::Denied),
            ("fifo", UploadError::NotAFile),
            ("../file", UploadError::Escapes),
            ("/etc/file", UploadError::Escapes),
            ("missing/file", UploadError::NoDirectory),
            ("secret/file", UploadError::NoDirectory),
            (&"n".repeat(256), UploadError::BadName),
            (".sluice-upload-0", UploadError::BadName),
        ] {
            assert_eq!(rig.put(name, b"x"), Err(error), "{name}");
        }
        rig.put("dir/file", b"x").expect("published");
    });
}

#[test]
fn a_directory_on_a_link_inside_the_root_is_followed_where_links_are() {
    let mut rig = rig_with(4, LIMITS);
    rig.root = Root::open(rig.dir.path(), Symlinks::InsideRoot).expect("the root opens");
    fs::create_dir(rig.path("dir")).expect("a directory");
    symlink("dir", rig.path("linked")).expect("a link");
    symlink("..", rig.path("up")).expect("a link");
    symlink("dir/file", rig.path("to_file")).expect("a link");
    rig.put("linked/file", b"x").expect("published");
    assert_eq!(fs::read(rig.path("dir/file")).expect("the file"), b"x");
    assert_eq!(rig.put("up/file", b"x"), Err(UploadError::Escapes));
    assert_eq!(rig.put("to_file", b"y"), Err(UploadError::Denied));
}

#[test]
fn a_directory_removed_or_moved_meanwhile_is_missing() {
    on_both(|rig| {
        for moved in [false, true] {
            fs::create_dir(rig.path("dir")).expect("a directory");
            let upload = rig.begin("dir/file", &UploadOptions::default());
            let upload = upload.expect("begun");
            rig.state_after(&upload, UploadState::Opening);
            fs::rename(rig.path("dir"), rig.path("other")).expect("moved");
            if moved {
                fs::create_dir(rig.path("dir")).expect("a directory");
            } else {
                fs::remove_dir_all(rig.path("other")).expect("removed");
            }
            rig.send(&upload, b"x", 0);
            assert_eq!(rig.finish(upload, 1), Err(UploadError::NoDirectory));
            if moved {
                let left = fs::read_dir(rig.path("other")).expect("a directory");
                assert_eq!(left.count(), 0);
                fs::remove_dir(rig.path("other")).expect("removed");
                fs::remove_dir(rig.path("dir")).expect("removed");
            }
        }
    });
}

#[test]
fn names_of_unfinished_uploads_are_not_served() {
    let mut rig = rig_with(4, LIMITS);
    for name in [".sluice-upload-", ".sluice-upload-0123456789abcdef"] {
        rig.write(name, 1, 10);
        assert_eq!(rig.try_open(name), Err(OpenError::NotFound));
        assert_eq!(rig.try_open(&format!("./{name}")), Err(OpenError::NotFound));
        rig.disk.inline.opens = false;
        assert_eq!(rig.try_open(name), Err(OpenError::NotFound));
    }
}
