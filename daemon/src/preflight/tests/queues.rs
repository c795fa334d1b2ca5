//! Queues that are missing or left out, and the CPUs of their workers.

use super::*;

#[test]
fn a_queue_that_does_not_exist() {
    let preflight = judged("queues = [0, 2]", |_| ());
    assert_eq!(
        failures(&preflight),
        ["eth1 has no receive queue 2: it has 2, numbered from 0 \
          -> queues = \"all\", or `ethtool -L eth1 combined 3`"]
    );
    assert_eq!(serves(&preflight), None);
}

#[test]
fn a_queue_that_cannot_send() {
    let preflight = judged_link("", |link| link.device.as_mut().unwrap().tx_queues = 1);
    assert_eq!(
        failures(&preflight),
        [
            "eth1 has no transmit queue 1: it has 1 for 2 receive queues, and a socket sends on the queue \
          it receives on -> `ethtool -L eth1 tx 2`"
        ]
    );
}

#[test]
fn queues_left_out_are_warned_about() {
    assert_eq!(
        warnings(&judged("queues = [0]", |_| ())),
        [
            "1 of 2 receive queues of eth1 are served: connections that land on another one fail \
          -> queues = \"all\", or `ethtool -L eth1 combined 1` (veth: rx 1)"
        ]
    );
}

#[test]
fn more_workers_than_cpus_are_warned_about() {
    assert_eq!(
        warnings(&judged("", |facts| facts.cpus = vec![0])),
        [
            "2 workers for 1 CPUs: workers that share a CPU wait for each other -> `ethtool -L eth1 combined 1`"
        ]
    );
}

#[test]
fn a_core_that_may_not_be_used() {
    assert_eq!(
        failures(&judged("cores = [1, 9]", |_| ())),
        [
            "CPU 9 of xdp.cores is not available to the process: the process may use CPUs [0, 1, 2, 3] \
          -> correct xdp.cores (one CPU per queue), or leave it out"
        ]
    );
}
