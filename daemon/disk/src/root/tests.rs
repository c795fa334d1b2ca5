use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, mkfifoat};
use tempfile::TempDir;

use super::*;

/// A root with files, links and other things in it, and a secret beside it.
struct Tree {
    dir: TempDir,
}

impl Tree {
    fn new() -> Tree {
        let dir = TempDir::new().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root/sub")).expect("directories");
        fs::write(at("secret"), "secret").expect("a file");
        fs::write(at("root/file"), "inside").expect("a file");
        fs::write(at("root/sub/file"), "below").expect("a file");
        symlink("../file", at("root/sub/inside")).expect("a link");
        symlink("../secret", at("root/outside")).expect("a link");
        symlink("../..", at("root/sub/up")).expect("a link");
        symlink(at("root/file"), at("root/absolute")).expect("a link");
        symlink("loop", at("root/loop")).expect("a link");
        mkfifoat(CWD, at("root/fifo"), Mode::RUSR).expect("a FIFO");
        Tree { dir }
    }

    fn root(&self, symlinks: Symlinks) -> Root {
        Root::open(&self.dir.path().join("root"), symlinks).expect("the root opens")
    }
}

/// Opens in both ways, which must agree unless the first would block.
fn open(root: &Root, name: &CStr) -> Result<FileMeta, OpenError> {
    let blocking = root.open_blocking(name).map(|opened| opened.meta);
    if let Some(cached) = root.open_cached(name) {
        assert_eq!(cached.map(|opened| opened.meta), blocking, "{name:?}");
    }
    blocking
}

#[test]
fn a_file_below_the_root_opens() {
    let tree = Tree::new();
    let root = tree.root(Symlinks::Never);
    assert_eq!(open(&root, c"file").map(|meta| meta.size), Ok(6));
    assert_eq!(open(&root, c"sub/file").map(|meta| meta.size), Ok(5));
    assert_eq!(open(&root, c"sub/../file").map(|meta| meta.size), Ok(6));
}

#[test]
fn no_path_leads_out_of_the_root() {
    let tree = Tree::new();
    let root = tree.root(Symlinks::InsideRoot);
    for name in [
        c"../secret",
        c"sub/../../secret",
        c"/etc/passwd",
        c"outside",
        c"sub/up/secret",
        c"absolute",
    ] {
        assert_eq!(open(&root, name), Err(OpenError::Escapes), "{name:?}");
    }
}

#[test]
fn a_link_inside_the_root_is_followed_only_where_links_are_allowed() {
    let tree = Tree::new();
    let followed = open(&tree.root(Symlinks::InsideRoot), c"sub/inside");
    assert_eq!(followed.map(|meta| meta.size), Ok(6));
    let refused = open(&tree.root(Symlinks::Never), c"sub/inside");
    assert_eq!(refused, Err(OpenError::Denied));
}

#[test]
fn a_loop_of_links_is_denied() {
    let tree = Tree::new();
    let root = tree.root(Symlinks::InsideRoot);
    assert_eq!(open(&root, c"loop"), Err(OpenError::Denied));
}

#[test]
fn a_magic_link_is_denied() {
    let root = Root::open(Path::new("/proc/self"), Symlinks::InsideRoot).expect("procfs");
    assert_eq!(open(&root, c"exe"), Err(OpenError::Denied));
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let tree = Tree::new();
    let root = tree.root(Symlinks::Never);
    let directory = Err(OpenError::NotAFile(FileKind::Directory));
    assert_eq!(open(&root, c"sub"), directory);
    assert_eq!(open(&root, c"sub/"), directory);
    assert_eq!(open(&root, c""), directory);
    // Nobody writes to this FIFO: a plain open would wait for ever.
    let other = Err(OpenError::NotAFile(FileKind::Other));
    assert_eq!(open(&root, c"fifo"), other);
    let devices = Root::open(Path::new("/dev"), Symlinks::Never).expect("/dev");
    assert_eq!(open(&devices, c"null"), other);
}

#[test]
fn a_missing_name_is_not_found() {
    let tree = Tree::new();
    let root = tree.root(Symlinks::Never);
    let too_long = std::ffi::CString::new(vec![b'a'; 300]).expect("no NUL");
    for name in [c"nothing", c"nothing/file", c"file/", c"file/below"] {
        assert_eq!(open(&root, name), Err(OpenError::NotFound), "{name:?}");
    }
    assert_eq!(open(&root, &too_long), Err(OpenError::NotFound));
}

#[test]
fn a_root_must_be_a_directory() {
    let tree = Tree::new();
    let file = tree.dir.path().join("secret");
    assert!(Root::open(&file, Symlinks::Never).is_err());
    assert!(Root::open(&tree.dir.path().join("nothing"), Symlinks::Never).is_err());
}

#[test]
fn a_link_that_flips_between_inside_and_outside_never_leads_outside() {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    let tree = Tree::new();
    let root = tree.root(Symlinks::InsideRoot);
    let flipped = tree.dir.path().join("root/flipped");
    let fresh = tree.dir.path().join("root/fresh");
    symlink("file", &flipped).expect("a link");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["../secret", "sub/../file"].iter().cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                symlink(target, &fresh).expect("a link");
                fs::rename(&fresh, &flipped).expect("it replaces the other");
            }
        });
        let mut inside = 0;
        let mut opens = 0;
        // On a busy machine the other thread may rest with the link outside for many opens.
        let end = Instant::now() + Duration::from_secs(10);
        while opens < 5_000 || (inside == 0 && Instant::now() < end) {
            opens += 1;
            match root.open_blocking(c"flipped") {
                // "inside" is the content of the file, and its length is its own: the secret's is equal.
                Ok(opened) => {
                    let mut bytes = [0; 8];
                    let read = rustix::io::pread(&opened.fd, &mut bytes, 0).expect("readable");
                    assert_eq!(&bytes[..read], b"inside");
                    inside += 1;
                }
                Err(error) => {
                    let busy = OpenError::Io(Errno::AGAIN);
                    assert!(error == OpenError::Escapes || error == busy, "{error:?}");
                }
            }
        }
        stop.store(true, Relaxed);
        assert!(inside > 0, "the link led inside at least once");
    });
}
