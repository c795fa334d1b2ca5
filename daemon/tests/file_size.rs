//! A file beyond the limit of the process ends an upload, never the service.

mod local;

use local::Daemon;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

#[test]
fn an_upload_beyond_the_limit_of_the_process_is_413_and_the_service_goes_on() {
    let mut daemon = Daemon::start("[upload]\nenabled = true\n");
    let limit = Rlimit {
        current: Some(4096),
        maximum: Some(4096),
    };
    prlimit(Some(daemon.pid()), Resource::Fsize, limit).expect("a child of ours");
    for size in [5000, 4096] {
        let head = format!(
            "PUT /{size} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        );
        let answer = daemon.ask(&[head.as_bytes(), &vec![7; size]].concat());
        let expected = if size > 4096 { "413" } else { "201" };
        let answer = answer.expect("the daemon ended");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{answer}"
        );
        assert_eq!(
            daemon.root.path().join(size.to_string()).exists(),
            size == 4096
        );
    }
    assert!(daemon.serves());
    daemon.signal(Signal::TERM);
    let status = daemon.child.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(0));
}
