//! Served addresses: those the kernel has, and those only we have.

use std::net::IpAddr;

use super::link::InterfaceFacts;
use super::{Check, Problem, Scope};
use crate::config::{Config, ENDPOINTS_MAX};

/// Every address that is served: the configured ones, or all of the interface, and the owned ones.
#[must_use]
pub fn served_addresses(config: &Config, link: &InterfaceFacts) -> Vec<IpAddr> {
    let mut addresses = kernel_owned(config, link);
    addresses.extend(&config.xdp.owned_addresses);
    addresses
}

/// The part of them that the kernel has too.
pub(super) fn kernel_owned(config: &Config, link: &InterfaceFacts) -> Vec<IpAddr> {
    match &config.xdp.addresses {
        Some(addresses) => addresses.clone(),
        None => link
            .addresses
            .iter()
            .copied()
            .filter(|address| !config.xdp.owned_addresses.contains(address))
            .collect(),
    }
}

pub(super) fn checks(config: &Config, link: &InterfaceFacts) -> Vec<Check> {
    let name = &link.name;
    let mut checks = Vec::new();
    let on_host = |address: &IpAddr| {
        link.addresses.contains(address) || link.addresses_elsewhere.contains(address)
    };
    for address in config
        .xdp
        .addresses
        .iter()
        .flatten()
        .filter(|a| !on_host(a))
    {
        checks.push(Check::fail(
            Scope::Named,
            Problem::new(
                format!("{address} is not an address of this host"),
                "the kernel would not answer ARP or NDP for it",
                format!(
                    "`ip addr add {address}/{} dev {name}`, or put it in owned_addresses",
                    if address.is_ipv4() { 32 } else { 128 }
                ),
            ),
        ));
    }
    for address in config.xdp.owned_addresses.iter().filter(|a| on_host(a)) {
        checks.push(Check::warn(
            Scope::Xdp,
            Problem::new(
                format!("{address} of owned_addresses is an address of the kernel too"),
                "both would answer ARP, NDP and ping",
                "move it to addresses, or remove it from the kernel (`ip addr del`)",
            ),
        ));
    }
    let served = served_addresses(config, link);
    let endpoints = served.len() * config.listen.len();
    if served.is_empty() {
        checks.push(Check::fail(
            Scope::Named,
            Problem::new(
                format!("{name} has no global-scope address"),
                "there is nothing to serve on it",
                format!("`ip addr add ADDRESS/PREFIX dev {name}`, or owned_addresses in [xdp]"),
            ),
        ));
    } else if endpoints > ENDPOINTS_MAX {
        checks.push(Check::fail(
            Scope::Named,
            Problem::new(
                format!(
                    "{} addresses of {name} with {} ports are {endpoints} endpoints",
                    served.len(),
                    config.listen.len()
                ),
                format!("the XDP program has room for {ENDPOINTS_MAX}"),
                "list fewer in addresses in [xdp]",
            ),
        ));
    } else if checks.is_empty() {
        let listed: Vec<_> = served.iter().map(IpAddr::to_string).collect();
        checks.push(Check::pass(
            Scope::Named,
            format!("addresses {}", listed.join(", ")),
        ));
    }
    checks
}
