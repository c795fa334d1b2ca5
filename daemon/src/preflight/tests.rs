//! Verdicts over facts that were made up, with the exact texts operators see; `machine` looks at a real veth.

mod addresses;
mod decisions;
mod interface;
mod kernel;
mod machine;
mod mtu;
mod ports;
mod privileges;
mod queues;
mod rendering;
mod root;
mod uploads;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::config::Overrides;

/// A configuration with these lines under `[xdp]`.
pub(super) fn config(xdp: &str) -> Config {
    let overrides = Overrides {
        root: Some("/srv/files".into()),
        ..Overrides::default()
    };
    let text = format!("[xdp]\ninterface = \"eth1\"\n{xdp}\n");
    Config::parse("f.toml", &text, &overrides).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A physical interface that can do everything.
pub(super) fn good_link() -> InterfaceFacts {
    InterfaceFacts {
        name: "eth1".to_owned(),
        index: 3,
        up: true,
        carrier: true,
        loopback: false,
        mtu: 1500,
        mac: Some(sluice_wire::MacAddr([2, 0, 0, 0, 0, 1])),
        kind: None,
        programs: Vec::new(),
        device: Some(DeviceFacts {
            driver: Some("ice".to_owned()),
            rx_queues: 2,
            tx_queues: 2,
        }),
        features: Some(XdpFeatures {
            native: true,
            zero_copy: true,
            multi_buffer: true,
            zero_copy_segments: 8,
            tx_checksum: false,
        }),
        addresses: vec![address("192.0.2.10")],
        addresses_elsewhere: vec![address("127.0.0.1")],
    }
}

/// A machine on which everything works.
fn good(config: &Config) -> Facts {
    let free = |addresses: &[IpAddr]| {
        let endpoints = config.endpoints(addresses).into_iter();
        endpoints.map(|endpoint| (endpoint, Ok(()))).collect()
    };
    Facts {
        kernel_release: "6.18.44".to_owned(),
        af_xdp: true,
        privileges: Privileges {
            uid: 998,
            net_admin: true,
            net_raw: true,
            bpf: true,
            ipc_lock: true,
            initial_user_namespace: true,
            memlock: Some(8 << 20),
            descriptors: Some(1 << 20),
            file_size: None,
        },
        interface: Some(Ok(good_link())),
        xdp_ports: free(&[address("192.0.2.10")]),
        kernel_ports: free(&config.kernel_addresses()),
        listening: BTreeSet::new(),
        roots: vec![Ok(())],
        uploads: Vec::new(),
        cpus: vec![0, 1, 2, 3],
    }
}

/// Judges the good machine after a change to it, or to its interface.
fn judged(xdp: &str, change: impl FnOnce(&mut Facts)) -> Preflight {
    let config = config(xdp);
    let mut facts = good(&config);
    change(&mut facts);
    judge(&config, &facts)
}

fn judged_link(xdp: &str, change: impl FnOnce(&mut InterfaceFacts)) -> Preflight {
    judged(xdp, |facts| {
        if let Some(Ok(link)) = &mut facts.interface {
            change(link);
        }
    })
}

/// The failures, as start-up prints them.
fn failures(preflight: &Preflight) -> Vec<String> {
    let failures = preflight.checks.iter().filter_map(Check::failure);
    failures.map(Problem::to_string).collect()
}

fn warnings(preflight: &Preflight) -> Vec<String> {
    let warnings = preflight.warnings(ActiveBackend::Xdp);
    warnings.map(Problem::to_string).collect()
}

fn serves(preflight: &Preflight) -> Option<ActiveBackend> {
    match preflight.decide() {
        Decision::Serve { backend, .. } => Some(backend),
        Decision::Refuse(_) => None,
    }
}
