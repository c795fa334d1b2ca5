//! Addresses the host does not have, those it should not have, too many and none.

use super::*;

#[test]
fn an_address_the_host_does_not_have() {
    assert_eq!(
        failures(&judged("addresses = [\"192.0.2.11\"]", |_| ())),
        [
            "192.0.2.11 is not an address of this host: the kernel would not answer ARP or NDP for it \
          -> `ip addr add 192.0.2.11/32 dev eth1`, or put it in owned_addresses"
        ]
    );
}

#[test]
fn an_address_on_another_interface_is_an_anycast_address() {
    let preflight = judged_link("addresses = [\"203.0.113.1\"]", |link| {
        link.addresses_elsewhere.push(address("203.0.113.1"));
    });
    assert_eq!(failures(&preflight), [""; 0]);
}

#[test]
fn an_owned_address_must_not_be_the_kernels() {
    assert_eq!(
        warnings(&judged("owned_addresses = [\"192.0.2.10\"]", |_| ())),
        [
            "192.0.2.10 of owned_addresses is an address of the kernel too: both would answer ARP, NDP and \
          ping -> move it to addresses, or remove it from the kernel (`ip addr del`)"
        ]
    );
}

#[test]
fn no_address_at_all() {
    assert_eq!(
        failures(&judged_link("", |link| link.addresses.clear())),
        [
            "eth1 has no global-scope address: there is nothing to serve on it \
          -> `ip addr add ADDRESS/PREFIX dev eth1`, or owned_addresses in [xdp]"
        ]
    );
}

#[test]
fn more_addresses_than_the_program_has_room_for() {
    let preflight = judged_link("", |link| {
        link.addresses = (1..=65)
            .map(|host| IpAddr::from([192, 0, 2, host]))
            .collect();
    });
    assert_eq!(
        failures(&preflight),
        [
            "65 addresses of eth1 with 1 ports are 65 endpoints: the XDP program has room for 64 \
          -> list fewer in addresses in [xdp]"
        ]
    );
}
