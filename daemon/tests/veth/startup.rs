//! A start that cannot succeed says what is wrong, why, and what to do, and ends with a status that is not 0.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sluice_afxdp::{HugePages, OpenError, Queue, QueueConfig, Umem, UmemConfig};

use crate::client::Client;
use crate::daemon::{Daemon, Launch, PORT, Settings};
use crate::lab::{Lab, Shape, eventually, run};
use crate::site::{MIB, Site};

/// Starts and expects a refusal whose message has every one of `words` and names a fix.
fn refuses(launch: Launch, words: &[&str]) {
    let (status, said) = launch.refusal();
    assert_eq!(status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is missing: {said}");
    }
    let (_, fix) = said
        .split_once("-> ")
        .unwrap_or_else(|| panic!("no fix: {said}"));
    assert!(fix.trim().len() > 10, "no fix: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_interface_that_does_not_exist_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    for backend in ["\"xdp\"", "\"auto\""] {
        let settings = [("xdp.interface", "\"nosuch0\""), ("xdp.backend", backend)];
        refuses(Launch::new(&lab, site.root(), &settings), &["nosuch0"]);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_port_that_a_kernel_listener_has_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let listener = lab
        .server
        .inside(|| TcpListener::bind((lab.server.ipv4, PORT)))
        .expect("the port is free");
    refuses(
        Launch::new(&lab, site.root(), &[]),
        &["192.0.2.1:8080", "in use"],
    );
    assert!(!lab.server.has_xdp_program());
    drop(listener);
    Daemon::start(&lab, site.root(), &[]).finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_root_that_does_not_exist_is_named() {
    let Some(lab) = Lab::new() else { return };
    refuses(
        Launch::new(&lab, Path::new("/nonexistent/files"), &[]),
        &["/nonexistent"],
    );
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_root_that_is_a_file_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 1);
    refuses(
        Launch::new(&lab, &site.path("file.bin"), &[]),
        &["file.bin"],
    );
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_root_that_may_not_be_read_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let secret = site.path("secret");
    fs::create_dir(&secret).expect("the directory is writable");
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).expect("it is ours");
    // root may read everything, except without the capability to (capabilities(7)).
    let wrapper = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-all",
    ];
    let launch = Launch::wrapped(&lab, &secret, &[], &wrapper);
    refuses(launch, &["secret is unreadable"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_link_that_is_down_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let link = &lab.server.link;
    lab.server.run("ip", &["link", "set", "dev", link, "down"]);
    let words = [link, "is down", "up"];
    refuses(Launch::new(&lab, site.root(), &[]), &words);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_memlock_limit_below_the_umem_is_named() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    fs::set_permissions(site.root(), Permissions::from_mode(0o755)).expect("it is ours");
    let wrapper = [
        "prlimit",
        "--memlock=8388608",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_admin,+net_raw,+bpf",
        "--ambient-caps=-all,+net_admin,+net_raw,+bpf",
        "--bounding-set=-all,+net_admin,+net_raw,+bpf",
    ];
    let launch = Launch::wrapped(&lab, site.root(), &[], &wrapper);
    refuses(launch, &["memlock 8MiB < 32MiB UMEM", "CAP_IPC_LOCK"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_program_of_somebody_else_stays_attached() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let source = site.path("pass.c");
    let object = site.path("pass.o");
    fs::write(
        &source,
        "__attribute__((section(\"xdp\"), used)) int pass(void *frame) { return 2; }\n",
    )
    .expect("the directory is writable");
    let (source, object) = (source.display().to_string(), object.display().to_string());
    run(
        "clang",
        &["-O2", "-target", "bpf", "-c", &source, "-o", &object],
    );
    let link = &lab.server.link;
    lab.server.run(
        "ip",
        &[
            "link", "set", "dev", link, "xdp", "obj", &object, "sec", "xdp",
        ],
    );
    // Named, with the command that takes it off: one attached without a link goes with ip(8).
    let fix = format!("ip link set dev {link} xdpdrv off");
    let words = [link, "XDP program", "\"pass\"", fix.as_str()];
    refuses(Launch::new(&lab, site.root(), &[]), &words);
    assert!(lab.server.has_xdp_program());
    lab.server
        .run("ip", &fix.split(' ').skip(1).collect::<Vec<_>>());
    Daemon::start(&lab, site.root(), &[]).finish();
}

/// An AF_XDP socket of somebody else on a queue of the server's end.
fn take_queue(lab: &Lab, queue: u32) -> Result<Queue, OpenError> {
    let link = &lab.server.link;
    let file = format!("/sys/class/net/{link}/ifindex");
    let ifindex = lab.server.run("cat", &[&file]);
    let ifindex = ifindex.trim().parse().expect("a number");
    let umem = Umem::new(&UmemConfig {
        frames: 512,
        block_bytes: 0,
        huge_pages: HugePages::Off,
        tx_metadata: true,
    })
    .expect("there is memory");
    let config = QueueConfig {
        rx_ring: 64,
        tx_ring: 64,
        fill_ring: 64,
        completion_ring: 64,
        ..QueueConfig::new(ifindex, queue)
    };
    lab.server.inside(|| Queue::open(umem, &config))
}

const TWO_QUEUES: Shape = Shape {
    mtu: 1500,
    queues: 2,
    narrow: None,
};

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_queue_that_somebody_else_has_is_named() {
    let Some(lab) = Lab::shaped(TWO_QUEUES) else {
        return;
    };
    let site = Site::new();
    let taken = take_queue(&lab, 1).expect("the queue is free");
    let words = [&lab.server.link, "queue 1", "another AF_XDP socket"];
    refuses(Launch::new(&lab, site.root(), &[]), &words);
    assert!(!lab.server.has_xdp_program());
    drop(taken);
    Daemon::start(&lab, site.root(), &[]).finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_start_that_fails_halfway_leaves_nothing_of_itself_to_the_fallback() {
    let Some(lab) = Lab::shaped(TWO_QUEUES) else {
        return;
    };
    let site = Site::with("file.bin", MIB);
    let kernel = Daemon::start(&lab, site.root(), &[("xdp.backend", "\"kernel\"")]);
    let (threads, descriptors) = (kernel.threads(), kernel.descriptors());
    kernel.finish();

    let _taken = take_queue(&lab, 1).expect("the queue is free");
    let daemon = Daemon::start(&lab, site.root(), &[("xdp.backend", "\"auto\"")]);
    let log = daemon.log();
    assert_eq!(log.matches("warning:").count(), 1, "{log}");
    assert!(log.contains("queue 1"), "{log}");
    assert!(daemon.ready_line().contains("backend=kernel"), "{log}");
    // The first queue was open before the second failed.
    assert_eq!(daemon.threads(), threads);
    assert_eq!(daemon.descriptors(), descriptors);
    drop(take_queue(&lab, 0).expect("the queue is free again"));
    assert!(!lab.server.has_xdp_program());
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn generic_mode_is_warned_about_once() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let ip = |words: &str| lab.server.run("ip", &words.split(' ').collect::<Vec<_>>());
    ip("link add bridge type bridge");
    ip(&format!("link set dev {} master bridge", lab.server.link));
    ip("addr add 198.51.100.1/32 dev bridge");
    ip("link set dev bridge up");
    eventually("the bridge has carrier", Duration::from_secs(20), || {
        ip("link show dev bridge")
            .contains("LOWER_UP")
            .then_some(())
    });
    let daemon = Daemon::start(&lab, site.root(), &[("xdp.interface", "\"bridge\"")]);
    let log = daemon.log();
    assert_eq!(log.matches("warning:").count(), 1, "{log}");
    assert!(daemon.ready_line().contains("attach=generic"), "{log}");
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_doctor_finds_no_fault_with_a_host_that_serves() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let doctor = || {
        let output = lab
            .server
            .command(env!("CARGO_BIN_EXE_sluiced"))
            .args(["--doctor", "--backend", "xdp", "--port", "8080"])
            .args(["--interface", &lab.server.link, "--root"])
            .arg(site.root())
            .output()
            .expect("ip runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let (code, said) = doctor();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a sluiced already serves on"), "{said}");
    assert!(said.contains("0 FAIL"), "{said}");
    daemon.finish();
    let (code, said) = doctor();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("AF_XDP starts"), "{said}");
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_second_daemon_on_the_same_interface_is_refused_and_the_first_goes_on() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let first = Daemon::start(&lab, site.root(), &[]);
    let words = ["a sluiced already serves on", "\"sluice_steer\""];
    refuses(Launch::new(&lab, site.root(), &[]), &words);
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    first.finish();
}

/// `backend = "auto"` where AF_XDP may not run: one warning, then kernel sockets.
fn auto_falls_back_with_one_warning(settings: Settings, wrapper: &[&str]) {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    let daemon = Launch::wrapped(&lab, site.root(), settings, wrapper).start();
    let log = daemon.log();
    // Another is about cubic, on hosts that do not let everybody use it (net.ipv4.tcp_allowed_congestion_control).
    let warnings = log
        .lines()
        .filter(|line| line.contains("warning:") && !line.contains("congestion control"));
    assert_eq!(warnings.count(), 1, "{log}");
    assert!(daemon.ready_line().contains("backend=kernel"), "{log}");
    for address in [lab.server.ipv4, lab.server.ipv6] {
        Client::new(&lab.client, address).download(&site, "file.bin");
    }
    daemon.finish();
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn auto_without_capabilities_falls_back_with_one_warning() {
    let settings = [("xdp.backend", "\"auto\"")];
    let wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    auto_falls_back_with_one_warning(&settings, &wrapper);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn xdp_without_capabilities_does_not_start() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let wrapper = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    refuses(Launch::wrapped(&lab, site.root(), &[], &wrapper), &["CAP_"]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn the_capabilities_of_the_unit_file_suffice() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", MIB);
    fs::set_permissions(site.root(), Permissions::from_mode(0o755)).expect("it is ours");
    // As systemd would start it: not root, four ambient capabilities.
    let wrapper = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_admin,+net_raw,+bpf,+ipc_lock",
        "--ambient-caps=-all,+net_admin,+net_raw,+bpf,+ipc_lock",
        "--bounding-set=-all,+net_admin,+net_raw,+bpf,+ipc_lock",
    ];
    let daemon = Launch::wrapped(&lab, site.root(), &[], &wrapper).start();
    Client::new(&lab.client, lab.server.ipv4).download(&site, "file.bin");
    daemon.finish();
}
