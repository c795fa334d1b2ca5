//! The gather lane over a real socket: the kernel checks every descriptor, and reads payload from the file blocks. A veth
//! has no zero copy, so this is right and slow; whoever asks for `auto` gets another lane there.

use crate::client::Client;
use crate::daemon::{Daemon, Settings};
use crate::lab::{Lab, Shape};
use crate::report::Report;
use crate::site::{KIB, MIB, Site};

const GATHER: Settings = &[("xdp.tx_lane", "\"gather\"")];

/// Sizes around segments, chunks and blocks.
const SIZES: [usize; 9] = [
    0,
    1,
    1449,
    4 * KIB + 1,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    MIB + 3,
    24 * MIB + 12_345,
];

/// What the lane did, and that the kernel took every descriptor.
fn assert_gathered(report: &Report, at_least: u64) {
    let bytes = report.get("gather_bytes");
    assert!(bytes > at_least, "{bytes} bytes: {}", report.text());
    for name in ["xsk_tx_invalid_descs", "completions_invalid", "tx_refused"] {
        assert_eq!(report.get(name), 0, "{name}: {}", report.text());
    }
}

/// Downloads files of every size over both IP versions and checks the sums.
fn every_size_arrives(mtu: u32) {
    let shape = Shape {
        mtu,
        ..Shape::default()
    };
    let Some(lab) = Lab::shaped(shape) else {
        return;
    };
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), GATHER);
    assert!(daemon.ready_line().contains("tx_lane=gather"));
    for server in [lab.server.ipv4, lab.server.ipv6] {
        let client = Client::new(&lab.client, server);
        for size in SIZES {
            let name = format!("{size}.bin");
            site.file(&name, size);
            client.download(&site, &name);
        }
    }
    assert_gathered(&daemon.finish(), 40 * MIB as u64);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_leaves_from_the_blocks_at_mtu_1500() {
    every_size_arrives(1500);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_leaves_from_the_blocks_at_mtu_9000() {
    every_size_arrives(9000);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn what_is_lost_leaves_again_from_the_blocks() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::with("file.bin", 16 * MIB);
    let daemon = Daemon::start(&lab, site.root(), GATHER);
    lab.lose(20, false);
    for address in [lab.server.ipv4, lab.server.ipv6] {
        Client::new(&lab.client, address).download(&site, "file.bin");
    }
    assert!(lab.lost() > 100, "only {} frames were lost", lab.lost());
    let report = daemon.finish();
    assert!(report.get("tcp_retransmitted_fast") > 100);
    assert_gathered(&report, 30 * MIB as u64);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn many_flows_leave_from_blocks_that_are_used_again_and_again() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let names: Vec<String> = (0..40).map(|number| format!("{number}.bin")).collect();
    for name in &names {
        site.file(name, 3 * MIB);
    }
    // Some 30 blocks of 64 KiB for 40 transfers of 48 each.
    let settings = &[("xdp.tx_lane", "\"gather\""), ("xdp.umem", "\"4MiB\"")];
    let daemon = Daemon::start(&lab, site.root(), settings);
    let client = Client::new(&lab.client, lab.server.ipv4);
    client.download_all(&site, &names, 40);
    assert_gathered(&daemon.finish(), 100 * MIB as u64);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn auto_takes_another_lane_on_a_veth_and_says_why() {
    let Some(lab) = Lab::new() else { return };
    let site = Site::new();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    assert!(daemon.ready_line().contains("tx_lane=tso"));
    let log = daemon.log();
    assert!(
        log.contains("tx_lane = \"auto\" took tso on") && log.contains("\"gather\" would save no"),
        "{log}"
    );
    assert_eq!(daemon.finish().get("gather_packets"), 0);
}
