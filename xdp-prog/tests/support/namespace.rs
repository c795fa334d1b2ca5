//! A network namespace for one closure, on one thread: nothing has a name outside it, and it is gone with the thread,
//! also when the test panics.

use std::ffi::CString;
use std::io::{self, Write};
use std::panic;
use std::process::Command;
use std::thread;

/// Says loudly that a test did not run: straight to stderr, which the test harness does not capture.
pub fn skip(why: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("test");
    writeln!(io::stderr(), "\nSKIP {test}: {why}").expect("stderr can be written");
}

/// Runs `test` on a thread in a fresh network namespace. Without the privilege for one the test is skipped, with a word.
pub fn in_namespace(test: impl FnOnce() + Send) {
    let name = thread::current().name().unwrap_or("test").to_owned();
    thread::scope(|scope| {
        let inside = thread::Builder::new().name(name).spawn_scoped(scope, || {
            // SAFETY: unshare(2) takes a flag word and touches no memory of ours; CLONE_NEWNET moves this thread alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            if result != 0 {
                let error = io::Error::last_os_error();
                return skip(&format!(
                    "a network namespace takes root (CAP_SYS_ADMIN): {error}"
                ));
            }
            test();
        });
        if let Err(panic) = inside.expect("a thread can be started").join() {
            panic::resume_unwind(panic);
        }
    });
}

/// Makes the mounts of this thread its own, so that what it mounts is gone with it.
pub fn private_mounts() {
    // SAFETY: unshare(2) takes a flag word; CLONE_NEWNS moves this thread alone and gives it its own fs_struct.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(
        result,
        0,
        "unshare(CLONE_NEWNS): {}",
        io::Error::last_os_error()
    );
    command(&["mount", "--make-rprivate", "/"]);
}

/// Runs a command in the namespaces of this thread and returns what it printed.
pub fn command(words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("tools print UTF-8")
}

/// A pair of veth ends, both up, with [`QUEUES`](super::QUEUES) queues each. Returns their indices: ours, the peer's.
pub fn veth() -> (u32, u32) {
    let queues = super::QUEUES.to_string();
    let shape = [
        "numrxqueues",
        queues.as_str(),
        "numtxqueues",
        queues.as_str(),
    ];
    let add = [
        &["ip", "link", "add", "ours"],
        &shape[..],
        &["type", "veth", "peer", "name", "theirs"],
        &shape[..],
    ];
    command(&add.concat());
    for end in ["ours", "theirs"] {
        command(&["ip", "link", "set", "dev", end, "up"]);
    }
    (interface("ours"), interface("theirs"))
}

/// The index of an interface of this namespace.
pub fn interface(name: &str) -> u32 {
    let name = CString::new(name).expect("interface names hold no NUL");
    // SAFETY: the argument is a NUL-terminated string that lives through the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{name:?}: {}", io::Error::last_os_error());
    index
}

/// What `ip link` says of the interface about XDP.
pub fn has_program(interface: &str) -> bool {
    command(&["ip", "-details", "link", "show", "dev", interface]).contains("prog/xdp")
}
