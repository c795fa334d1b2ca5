//! What `netlab.sh` leaves behind when it is killed, and who removes that: `make test-veth`.

mod harness;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A lab as the harness holds it.
struct Lab {
    name: String,
    holder: Child,
    scratch: PathBuf,
}

impl Lab {
    fn hold(suffix: char) -> Lab {
        let name = format!("slt{}{suffix}", std::process::id());
        let mut holder = Command::new("bash")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/netlab.sh"))
            .args(["hold", &name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        let _ = BufReader::new(stdout).read_line(&mut said);
        let scratch = said.trim().strip_prefix("ready ").expect("ready").into();
        Lab {
            name,
            holder,
            scratch,
        }
    }

    /// With everything that could clean up after it.
    fn kill(&mut self) {
        let group = Pid::from_raw(self.holder.id().cast_signed());
        killpg(group, Signal::SIGKILL).expect("its group");
        let _ = self.holder.wait();
    }

    fn exists(&self) -> [bool; 2] {
        let namespaces = PathBuf::from(format!("/run/netns/{}-srv", self.name));
        [namespaces.exists(), self.scratch.exists()]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[test]
#[ignore = "needs root: make test-veth"]
fn a_lab_that_was_killed_is_removed_by_the_next_and_one_that_lives_is_not() {
    if !harness::is_root("lab") {
        return;
    }
    let (living, mut dead) = (Lab::hold('a'), Lab::hold('b'));
    dead.kill();
    assert_eq!(
        dead.exists(),
        [true; 2],
        "nobody is left who would remove it"
    );
    let next = Lab::hold('c');
    assert_eq!(dead.exists(), [false; 2]);
    assert_eq!([living.exists(), next.exists()], [[true; 2]; 2]);
    drop(next);
    assert_eq!(living.exists(), [true; 2]);
}
