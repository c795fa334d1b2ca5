//! Two queues, two workers: flows spread, and a flow that moves while it lives is found again.

use std::time::Duration;

use crate::client::Client;
use crate::daemon::Daemon;
use crate::lab::{Lab, Shape, eventually};
use crate::site::{MIB, Site, assert_same};

const TWO_QUEUES: Shape = Shape {
    mtu: 1500,
    queues: 2,
    narrow: None,
};

/// Makes the client send everything through one of its two queues, which is our receive queue of the same
/// number: transmit packet steering maps all CPUs to it and none to the other.
fn send_through(lab: &Lab, queue: usize) {
    let link = &lab.client.link;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let every_cpu = format!("{:x}", (1u64 << cpus.min(32)) - 1);
    for (number, cpus) in [(queue, every_cpu.as_str()), (1 - queue, "0")] {
        let file = format!("/sys/class/net/{link}/queues/tx-{number}/xps_cpus");
        lab.client
            .run("sh", &["-c", &format!("echo {cpus} >{file}")]);
    }
}

fn a_moving_flow_survives(settings: crate::daemon::Settings) {
    let Some(lab) = Lab::shaped(TWO_QUEUES) else {
        return;
    };
    let site = Site::with("file.bin", 48 * MIB);
    let daemon = Daemon::start(&lab, site.root(), settings);
    let client = Client::new(&lab.client, lab.server.ipv4);
    send_through(&lab, 0);
    let mut download = client.begin("file.bin", "24M");
    let mut queue = 0;
    while !download.has_ended() {
        queue = 1 - queue;
        let before = daemon.report().sum("misrouted_");
        send_through(&lab, queue);
        // Acknowledgements go on arriving, every second time at the worker that does not know the flow.
        if queue == 1 {
            eventually(
                "a frame takes the other queue",
                Duration::from_secs(10),
                || {
                    (download.has_ended() || daemon.report().sum("misrouted_") > before)
                        .then_some(())
                },
            );
        }
    }
    download.succeeded();
    assert_same(&site.path("file.bin"), &client.path("file.bin"));
    let report = daemon.finish();
    assert!(report.get("misrouted_passed_on") > 0, "{}", report.text());
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_flow_that_moves_to_another_queue_survives() {
    a_moving_flow_survives(&[]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_flow_that_moves_wakes_a_worker_that_sleeps() {
    a_moving_flow_survives(&[("xdp.poll", "\"interrupt\"")]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_segment_that_nobody_knows_is_answered_with_a_reset_once() {
    let Some(lab) = Lab::shaped(TWO_QUEUES) else {
        return;
    };
    let site = Site::with("file.bin", 8 * MIB);
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let client = Client::new(&lab.client, lab.server.ipv4);
    let stream = client.ask("file.bin");
    // A second daemon knows nothing of the connections of the first.
    daemon.kill();
    let daemon = Daemon::start(&lab, site.root(), &[]);
    let mut stream = stream;
    let error = std::io::Read::read_to_end(&mut stream, &mut Vec::new())
        .expect_err("the rest of the file cannot come");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    client.download(&site, "file.bin");
    daemon.finish();
}
