//! What the tests of the loaded program share: a private network namespace, frames, and the kernel's test-run call.

// Each test binary uses its own part of it.
#![allow(dead_code)]

pub mod capabilities;
pub mod foreign;
pub mod frames;
pub mod namespace;
pub mod oracle;
pub mod run;
pub mod tables;
pub mod wire;

use std::net::IpAddr;

use sluice_xdp_prog::{Endpoint, SteerConfig};

/// The addresses of the tests: two served, one owned, for each family.
pub const SERVED_V4: [u8; 4] = [192, 0, 2, 1];
/// Served over IPv6.
pub const SERVED_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Owned over IPv4, and serves nothing.
pub const OWNED_V4: [u8; 4] = [192, 0, 2, 7];
/// Owned over IPv6, and serves nothing.
pub const OWNED_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
/// Served on each served address.
pub const PORT: u16 = 80;
/// Served on the IPv4 address only.
pub const PORT_V4_ONLY: u16 = 443;
/// Receive queues of the test interface.
pub const QUEUES: u32 = 4;

/// The usual configuration: no VLAN, nothing owned.
pub fn config() -> SteerConfig {
    let endpoint = |address: IpAddr, port| Endpoint { address, port };
    SteerConfig {
        endpoints: vec![
            endpoint(SERVED_V4.into(), PORT),
            endpoint(SERVED_V4.into(), PORT_V4_ONLY),
            endpoint(SERVED_V6.into(), PORT),
        ],
        owned: Vec::new(),
        vlan: false,
        queues: QUEUES,
        pin: None,
        hash_key: [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908],
    }
}

/// [`config`] with two owned addresses.
pub fn config_with_owned() -> SteerConfig {
    SteerConfig {
        owned: vec![OWNED_V4.into(), OWNED_V6.into()],
        ..config()
    }
}
