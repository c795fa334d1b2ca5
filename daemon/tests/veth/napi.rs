//! Threaded NAPI: set up while the daemon serves, away from its worker, and put back whatever ends it.

use crate::client::Client;
use crate::daemon::{Daemon, Settings};
use crate::lab::Lab;
use crate::site::{MIB, Site};

const THREADED: Settings = &[
    ("xdp.attach", "\"native\""),
    ("xdp.napi", "\"threaded\""),
    ("xdp.cores", "[1]"),
];

/// The setting of the served interface.
fn setting(lab: &Lab) -> String {
    let file = format!("/sys/class/net/{}/threaded", lab.server.link);
    lab.server.run("cat", &[&file]).trim().to_owned()
}

/// The CPUs that each receiving thread of the served interface may use.
fn allowed_cpus(lab: &Lab) -> Vec<String> {
    let name = format!("napi/{}-", lab.server.link);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .expect("proc is mounted")
        .flatten()
    {
        let read =
            |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").starts_with(&name) {
            let status = read("status");
            let list = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            found.extend(list.map(|list| list.trim().to_owned()));
        }
    }
    found
}

fn has_two_cpus() -> bool {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        crate::skip::skip("veth", "receiving threads need a CPU beside the worker's");
    }
    cpus >= 2
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn receiving_threads_run_beside_the_worker_and_are_gone_afterwards() {
    if !has_two_cpus() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 8 * MIB);
    assert_eq!(setting(&lab), "0");
    let daemon = Daemon::start(&lab, site.root(), THREADED);
    assert!(daemon.ready_line().contains("napi=threaded on CPUs [0]"));
    assert_eq!(setting(&lab), "1");
    assert_eq!(allowed_cpus(&lab), ["0"], "and the worker has CPU 1");
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    daemon.finish();
    assert_eq!(setting(&lab), "0");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn after_a_crash_restore_puts_the_interface_back() {
    if !has_two_cpus() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    Daemon::start(&lab, site.root(), THREADED).kill();
    assert_eq!(setting(&lab), "1", "nobody was there to put it back");
    let restore = || {
        lab.server
            .run(env!("CARGO_BIN_EXE_sluiced"), &["--restore"])
    };
    // The program went with the daemon, and with it the NAPI instances of a veth: only with some can it be changed.
    assert!(restore().contains("without NAPI instances"));
    lab.server
        .run("ethtool", &["-K", &lab.server.link, "gro", "on"]);
    assert!(restore().contains("threaded NAPI is 0 again"));
    assert_eq!(setting(&lab), "0");
    assert_eq!(restore(), "", "there is nothing left to do");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn after_a_crash_the_next_start_puts_the_interface_back() {
    if !has_two_cpus() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    Daemon::start(&lab, site.root(), THREADED).kill();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    assert_eq!(setting(&lab), "0");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn restore_leaves_an_interface_alone_that_is_served() {
    if !has_two_cpus() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let daemon = Daemon::start(&lab, site.root(), THREADED);
    let said = lab
        .server
        .run(env!("CARGO_BIN_EXE_sluiced"), &["--restore"]);
    assert_eq!((said.as_str(), setting(&lab).as_str()), ("", "1"));
    daemon.finish();
    assert_eq!(setting(&lab), "0");
}
