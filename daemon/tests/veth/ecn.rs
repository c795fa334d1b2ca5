//! Linux as the other end of ECN: what it asks for is agreed on, and marks that the client's end of the link sets on
//! data of either direction are reported and answered.

use crate::client::Client;
use crate::daemon::{Daemon, Settings};
use crate::lab::{Lab, Side};
use crate::report::Report;
use crate::site::{MIB, Site};
use crate::skip::skip;

/// `net.ipv4.tcp_ecn`: ECN and AccECN on outgoing and incoming connections (Documentation/networking/ip-sysctl.rst).
const CLASSIC: u8 = 1;
const ACCURATE: u8 = 3;

/// Has connections of this namespace ask for ECN; false if the kernel does not know the level.
fn ask_for(side: &Side, level: u8) -> bool {
    let setting = format!("net.ipv4.tcp_ecn={level}");
    let status = side.command("sysctl").args(["-qw", &setting]).status();
    status.expect("ip runs").success()
}

/// Marks every 20th packet that is ECN-capable, both ways, at the client's end of the link.
fn mark(side: &Side) {
    let rule = "ip ecn { ect0, ect1 } numgen random mod 20 == 0 counter ip ecn set ce";
    let chain = |hook: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} device \"{}\" priority 0; policy accept;\n{rule}\n}}\n",
            side.link
        )
    };
    let table = format!(
        "table netdev marks {{\n{}{}}}",
        chain("ingress"),
        chain("egress")
    );
    side.run("nft", &[&table]);
}

/// The value of a counter of the kernel, such as `TcpExtTCPDeliveredCE`.
fn kernel_counter(side: &Side, name: &str) -> u64 {
    let listing = side.run("nstat", &["-asz", name]);
    let line = listing.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    value
        .and_then(|value| value.parse().ok())
        .expect("nstat knows it")
}

/// Downloads over a marking link, and sends requests of several segments, with the kernel asking for `level`.
fn transfer(level: u8, settings: Settings) -> Option<(Report, u64)> {
    let lab = Lab::new()?;
    if !ask_for(&lab.client, level) {
        // 6.18 has the machinery and the sysctls of its options, and does not let anybody ask for it.
        let levels = "(3, AccECN: Linux 7.0 and later; make test-accecn boots one)";
        skip(
            "veth",
            &format!("this kernel cannot ask for ECN of level {level} {levels}"),
        );
        return None;
    }
    mark(&lab.client);
    let site = Site::with("file.bin", 24 * MIB);
    let daemon = Daemon::start(&lab, site.root(), settings);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let marked_before = kernel_counter(&lab.client, "IpExtInCEPkts");
    client.download(&site, "file.bin");
    // Heads of several segments, on one connection: what the client sends is marked too.
    let header = format!("X-Padding: {}", "x".repeat(6000));
    let url = client.url("file.bin");
    let mut args = vec![
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "60",
        "--head",
    ];
    args.extend(["--header", &header]);
    for _ in 0..100 {
        args.extend(["--output", "/dev/null", &url]);
    }
    let output = client.curl(&args);
    assert!(output.status.success(), "{output:?}");
    let marked = kernel_counter(&lab.client, "IpExtInCEPkts") - marked_before;
    Some((daemon.finish(), marked))
}

/// What IP counted came back to us. A packet that was merged counts as so many with IP and with TCP (`gso_segs`), but TCP
/// counts only what an established socket takes (`tcp_ecn_received_counters`): not what its backlog refuses, and nothing
/// once it has closed, for which neither `tcp_rcv_state_process` nor TIME-WAIT counts. So there may be a few less.
fn assert_all_reported(report: &Report, marked: u64) {
    assert!(marked > 10, "the link marked {marked}");
    let reported = report.get("tcp_ecn_marks_reported");
    assert!(
        reported * 100 >= marked * 98,
        "{reported} of {marked}\n{}",
        report.text()
    );
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn linux_and_the_daemon_count_marks_by_accurate_ecn() {
    let Some((report, marked)) = transfer(ACCURATE, &[]) else {
        return;
    };
    assert_eq!(report.get("tcp_accecn_negotiated"), 2, "{}", report.text());
    assert_all_reported(&report, marked);
    assert!(report.get("tcp_ecn_reductions") > 0);
    assert!(
        report.get("tcp_ecn_marks_received") > 0,
        "{}",
        report.text()
    );
    assert_eq!(report.get("tcp_ecn_mangled"), 0);
    assert_eq!(report.get("tcp_ecn_fallbacks"), 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn dctcp_hears_of_marks_by_accurate_ecn() {
    let settings = [("tcp.congestion", "\"dctcp\"")];
    let Some((report, marked)) = transfer(ACCURATE, &settings) else {
        return;
    };
    assert_eq!(report.get("tcp_accecn_negotiated"), 2, "{}", report.text());
    assert_all_reported(&report, marked);
    assert_eq!(report.get("tcp_ecn_mangled"), 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn linux_and_the_daemon_use_classic_ecn() {
    let Some((report, marked)) = transfer(CLASSIC, &[]) else {
        return;
    };
    assert_eq!(report.get("tcp_ecn_negotiated"), 2, "{}", report.text());
    assert_eq!(report.get("tcp_accecn_negotiated"), 0);
    assert!(marked > 10, "the link marked {marked}");
    assert!(report.get("tcp_ecn_reductions") > 0);
    assert!(report.get("tcp_ecn_marks_received") > 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_kernel_that_asks_for_accurate_ecn_gets_what_is_configured() {
    let classic = [("tcp.ecn", "\"classic\"")];
    if let Some((report, marked)) = transfer(ACCURATE, &classic) {
        assert_eq!(report.get("tcp_ecn_negotiated"), 2, "{}", report.text());
        assert_eq!(report.get("tcp_accecn_negotiated"), 0);
        assert!(marked > 10 && report.get("tcp_ecn_reductions") > 0);
    }
    let off = [("tcp.ecn", "\"off\"")];
    if let Some((report, marked)) = transfer(ACCURATE, &off) {
        assert_eq!((report.get("tcp_ecn_negotiated"), marked), (0, 0));
    }
}
