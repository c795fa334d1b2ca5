//! What is steered: the endpoints, the owned addresses and the shape of the interface, checked before the kernel sees them.
//!
//! [`SteerConfig::local_entries`] turns them into the entries of `sluice_local`: one per served pair, and one per distinct
//! address (port 0), which tells the program whose packet it has when no port can be read.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::error::LoadError;

/// Served address and port pairs at most (`SLUICE_ENDPOINTS_MAX`).
pub const ENDPOINTS_MAX: usize = 64;
/// Owned addresses at most (`SLUICE_OWNED_MAX`).
pub const OWNED_MAX: usize = 64;

/// Bytes of `struct sluice_local_key`: address, port in network order, family in host order.
const LOCAL_KEY_BYTES: usize = 20;
/// `SLUICE_LOCAL_SERVED`: the pair or address is served.
const LOCAL_SERVED: u32 = 1;
/// `SLUICE_LOCAL_OWNED`: Sluice answers ARP, NDP and ICMP echo for the address.
const LOCAL_OWNED: u32 = 2;

/// A local TCP endpoint whose segments go to user space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Endpoint {
    /// A unicast address; not unspecified, and an IPv4 one not in its IPv6-mapped form.
    pub address: IpAddr,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// Settings of the program, fixed when it is loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SteerConfig {
    /// The served pairs, 1 to [`ENDPOINTS_MAX`]. The program's cost per frame does not depend on their number.
    pub endpoints: Vec<Endpoint>,
    /// Addresses for which ARP, NDP, ICMP and ICMPv6 are redirected too, at most [`OWNED_MAX`]: those that Sluice has in
    /// place of the kernel. Serving TCP on one takes an endpoint as well.
    pub owned: Vec<IpAddr>,
    /// Whether up to two VLAN tags (802.1Q, 802.1ad) are accepted. If not, tagged frames for an endpoint are dropped: the
    /// kernel would take priority-tagged ones for untagged and answer them.
    pub vlan: bool,
    /// Receive queues of the interface, at least 1: the size of `sluice_xsks`. Frames of a queue beyond it count as
    /// having no socket.
    pub queues: u32,
    /// Directory on a mounted bpffs, one per daemon, where the maps are pinned under their names for
    /// `bpftool map dump pinned …`; created if absent. Pins of a process that died are replaced, ours go when the
    /// [`Steer`](crate::Steer) is dropped.
    pub pin: Option<PathBuf>,
    /// Key of the hash by which the SYN gate finds source networks and the SYNs that it dropped: random, or a sender can
    /// choose whose place he takes.
    pub hash_key: [u64; 2],
}

impl SteerConfig {
    /// Checks every limit that the kernel would only answer with an errno.
    pub(crate) fn validate(&self) -> Result<(), LoadError> {
        if self.endpoints.is_empty() {
            return Err(LoadError::NoEndpoint);
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(LoadError::TooManyEndpoints {
                given: self.endpoints.len(),
            });
        }
        if self.owned.len() > OWNED_MAX {
            return Err(LoadError::TooManyOwned {
                given: self.owned.len(),
            });
        }
        if self.queues == 0 {
            return Err(LoadError::NoQueue);
        }
        for &endpoint in &self.endpoints {
            if endpoint.port == 0 {
                return Err(LoadError::PortZero { endpoint });
            }
        }
        for address in self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address)
            .chain(self.owned.iter().copied())
        {
            if let Some(why) = unusable(address) {
                return Err(LoadError::Address { address, why });
            }
        }
        Ok(())
    }

    /// The entries of `sluice_local`, each key once.
    pub(crate) fn local_entries(&self) -> BTreeMap<[u8; LOCAL_KEY_BYTES], u32> {
        let mut entries = BTreeMap::new();
        let mut add =
            |address, port, bits| *entries.entry(local_key(address, port)).or_insert(0) |= bits;
        for endpoint in &self.endpoints {
            add(endpoint.address, endpoint.port, LOCAL_SERVED);
            add(endpoint.address, 0, LOCAL_SERVED);
        }
        for &address in &self.owned {
            add(address, 0, LOCAL_OWNED);
        }
        entries
    }
}

/// Why no unicast segment can ever be addressed to `address`, if so.
fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("it stands for every address; name each one"),
        _ if address.is_multicast() => Some("it is a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("it is the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("it is an IPv4 address in disguise; write it as IPv4")
        }
        _ => None,
    }
}

/// `struct sluice_local_key` in bytes.
fn local_key(address: IpAddr, port: u16) -> [u8; LOCAL_KEY_BYTES] {
    let mut key = [0; LOCAL_KEY_BYTES];
    let family: u16 = match address {
        IpAddr::V4(v4) => {
            key[..4].copy_from_slice(&v4.octets());
            4
        }
        IpAddr::V6(v6) => {
            key[..16].copy_from_slice(&v6.octets());
            6
        }
    };
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key[18..].copy_from_slice(&family.to_ne_bytes());
    key
}

/// The value of `#define name <number>` in `shared.h`.
#[cfg(test)]
pub(crate) fn header_constant(name: &str) -> usize {
    include_str!("shared.h")
        .lines()
        .find_map(|line| {
            line.strip_prefix("#define ")?
                .strip_prefix(name)?
                .strip_prefix(' ')?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| panic!("{name} is not a number in shared.h"))
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::skeleton::types::sluice_local_key;

    fn config(endpoints: &[(&str, u16)]) -> SteerConfig {
        SteerConfig {
            endpoints: endpoints
                .iter()
                .map(|&(address, port)| Endpoint {
                    address: address.parse().unwrap(),
                    port,
                })
                .collect(),
            owned: Vec::new(),
            vlan: false,
            queues: 1,
            pin: None,
            hash_key: [0; 2],
        }
    }

    #[test]
    fn key_has_the_layout_that_the_c_compiler_gave_it() {
        assert_eq!(size_of::<sluice_local_key>(), LOCAL_KEY_BYTES);
        assert_eq!(offset_of!(sluice_local_key, address), 0);
        assert_eq!(offset_of!(sluice_local_key, port), 16);
        assert_eq!(offset_of!(sluice_local_key, family), 18);
    }

    #[test]
    fn limits_and_bits_are_those_of_the_shared_header() {
        assert_eq!(header_constant("SLUICE_ENDPOINTS_MAX"), ENDPOINTS_MAX);
        assert_eq!(header_constant("SLUICE_OWNED_MAX"), OWNED_MAX);
        assert_eq!(
            header_constant("SLUICE_LOCAL_SERVED"),
            LOCAL_SERVED as usize
        );
        assert_eq!(header_constant("SLUICE_LOCAL_OWNED"), LOCAL_OWNED as usize);
    }

    #[test]
    fn two_ports_of_an_address_share_its_address_entry() {
        let entries = config(&[("192.0.2.1", 80), ("192.0.2.1", 443)]).local_entries();
        assert_eq!(entries.len(), 3);
        assert_eq!(
            entries[&local_key(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0)],
            LOCAL_SERVED
        );
    }

    #[test]
    fn an_address_can_be_served_and_owned() {
        let mut config = config(&[("192.0.2.1", 80)]);
        config.owned = vec![config.endpoints[0].address];
        assert_eq!(
            config.local_entries()[&local_key(config.owned[0], 0)],
            LOCAL_SERVED | LOCAL_OWNED
        );
    }

    #[test]
    fn an_ipv4_key_is_not_the_key_of_any_ipv6_address() {
        let v4 = local_key(IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)), 80);
        let v6 = local_key(
            IpAddr::V6(Ipv6Addr::new(0x0102, 0x0304, 0, 0, 0, 0, 0, 0)),
            80,
        );
        assert_eq!(v4[..18], v6[..18]);
        assert_ne!(v4, v6);
    }

    #[test]
    fn sixty_four_endpoints_are_accepted_and_one_more_is_not() {
        let mut config = config(&[]);
        config.endpoints = (1..=64)
            .map(|port| Endpoint {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                port,
            })
            .collect();
        assert!(config.validate().is_ok());
        config.endpoints.push(Endpoint {
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            port: 65,
        });
        assert!(matches!(
            config.validate(),
            Err(LoadError::TooManyEndpoints { given: 65 })
        ));
    }

    #[test]
    fn no_endpoint_and_no_queue_are_refused() {
        assert!(matches!(config(&[]).validate(), Err(LoadError::NoEndpoint)));
        let mut config = config(&[("192.0.2.1", 80)]);
        config.queues = 0;
        assert!(matches!(config.validate(), Err(LoadError::NoQueue)));
    }

    #[test]
    fn port_zero_is_refused_by_name() {
        let error = config(&[("192.0.2.1", 0)]).validate().unwrap_err();
        assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
    }

    #[test]
    fn addresses_that_no_segment_can_have_are_refused_by_name() {
        for address in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:192.0.2.1",
        ] {
            let error = config(&[(address, 80)]).validate().unwrap_err();
            assert!(error.to_string().contains(address), "{error}");
        }
    }
}
