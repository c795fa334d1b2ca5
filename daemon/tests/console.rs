//! Whoever reads what the daemon prints may go away at any time: `sluiced | head` must not end a service.

#[expect(dead_code, reason = "the test of file sizes uses more of it")]
mod local;

use std::process::{Command, Stdio};
use std::time::Duration;

use local::Daemon;
use rustix::process::Signal;

#[test]
fn a_report_that_nobody_reads_does_not_end_the_service() {
    let mut daemon = Daemon::start("");
    drop(daemon.child.stdout.take());
    drop(daemon.child.stderr.take());
    // The signal is handled before the next one, and a request after it finds the service alive or gone.
    daemon.signal(Signal::USR1);
    daemon.signal(Signal::USR1);
    for _ in 0..20 {
        assert!(daemon.serves());
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon.signal(Signal::TERM);
    let status = daemon.child.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_configuration_that_nobody_reads_is_no_failure() {
    for arguments in [
        &["--print-config", "default"][..],
        &["--print-config", "effective", "--root", "/"],
        &["--doctor", "--root", "/", "--backend", "kernel"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluiced"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sluiced runs");
        drop(child.stdout.take());
        drop(child.stderr.take());
        let status = child.wait().expect("a child of ours");
        // 101 is a panic; what the doctor finds depends on the machine.
        assert!(
            matches!(status.code(), Some(0 | 1)),
            "{arguments:?}: {status}"
        );
    }
}
