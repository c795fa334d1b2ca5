//! What is gathered from the machine the tests run on: a veth, and no interface at all.

use std::process::Command;

use super::*;

/// A veth pair that is gone at the end of the test, however it ends.
struct Veth(String);

impl Veth {
    fn new() -> Option<Self> {
        let name = format!("slp{}", std::process::id());
        let peer = format!("{name}p");
        let arguments = format!(
            "link add {name} mtu 3000 numrxqueues 2 numtxqueues 1 type veth peer name {peer}"
        );
        let status = Command::new("ip")
            .args(arguments.split(' '))
            .output()
            .ok()?
            .status;
        status.success().then_some(Self(name))
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

#[test]
fn a_veth_is_seen_as_it_is() {
    let Some(veth) = Veth::new() else {
        skip::skip("preflight", "creating a veth needs root and ip(8)");
        return;
    };
    let mut config = config("");
    config.xdp.interface = Some(veth.0.clone());
    let (facts, preflight) = run(&config);
    let link = facts.interface.unwrap().unwrap();
    assert!(link.has_software_peer() && link.mac.is_some());
    assert_eq!(link.driver(), "veth");
    assert_eq!((link.up, link.mtu), (false, 3000));
    assert_eq!(link.programs, []);
    assert!(
        link.features
            .is_some_and(|features| features.native && !features.zero_copy)
    );
    assert_eq!(
        link.device
            .map(|device| (device.rx_queues, device.tx_queues)),
        Some((2, 1))
    );
    assert!(
        failures(&preflight)
            .iter()
            .any(|text| text.contains("is down"))
    );
}

#[test]
fn this_machine_can_be_judged_without_an_interface() {
    let mut config = config("");
    config.xdp.interface = None;
    config.sites[0].root = std::env::temp_dir();
    config.listen_addresses = vec![address("127.0.0.1")];
    // A port nobody else uses in a test: what the kernel gives.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.listen[0].port = free.local_addr().unwrap().port();
    drop(free);
    let (_, preflight) = run(&config);
    assert_eq!(
        serves(&preflight),
        Some(ActiveBackend::Kernel),
        "{}",
        preflight.render()
    );
}
