//! What a TCP of our own has to know of an interface, asked of the kernel: index, addresses, MTU, queues, neighbours.
//!
//! By getifaddrs(3), /sys/class/net and /proc/net/arp: a namespace entered by `ip netns exec` has its own of all three.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use sluice_wire::MacAddr;

use crate::error::Error;

/// How long a neighbour may take to answer: ARP asks three times, a second apart.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of the interface, and of the neighbour.
const LISTS: &str = "getifaddrs";
/// A port that nobody listens on (RFC 863).
const DISCARD: u16 = 9;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its link address.
    pub link_address: MacAddr,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
}

impl Interface {
    /// By name.
    pub fn named(name: &str) -> Result<Interface, Error> {
        let mut found = Interface {
            name: name.to_owned(),
            index: 0,
            link_address: MacAddr([0; 6]),
            addresses: Vec::new(),
        };
        for one in getifaddrs().map_err(|error| Error::io(LISTS)(error.into()))? {
            let Some(address) = one.address.filter(|_| one.interface_name == name) else {
                continue;
            };
            if let Some(link) = address.as_link_addr() {
                found.index = u32::try_from(link.ifindex()).unwrap_or(0);
                found.link_address = MacAddr(link.addr().unwrap_or_default());
            }
            if let Some(address) = address.as_sockaddr_in() {
                found.addresses.push(address.ip());
            }
        }
        if found.index == 0 {
            let missing = io::Error::new(io::ErrorKind::NotFound, "no such interface");
            return Err(Error::io(format!("interface {name}"))(missing));
        }
        Ok(found)
    }

    /// The one that the kernel takes to this server.
    pub fn towards(server: SocketAddrV4) -> Result<Interface, Error> {
        let own = own_address(server).map_err(Error::io(format!("the way to {server}")))?;
        let holds = |one: &nix::ifaddrs::InterfaceAddress| {
            let address = one.address.as_ref();
            address.is_some_and(|address| {
                address
                    .as_sockaddr_in()
                    .is_some_and(|address| address.ip() == own)
            })
        };
        let mut list = getifaddrs().map_err(|error| Error::io(LISTS)(error.into()))?;
        let found = list.find(holds).map(|one| one.interface_name);
        let missing = || io::Error::other(format!("no interface has {own}"));
        let name = found.ok_or_else(|| Error::io(LISTS)(missing()))?;
        Interface::named(&name)
    }

    /// Bytes of its longest IP packet.
    pub fn mtu(&self) -> Result<u16, Error> {
        let file = format!("/sys/class/net/{}/mtu", self.name);
        let text = fs::read_to_string(&file).map_err(Error::io(file.clone()))?;
        text.trim()
            .parse()
            .map_err(|error| Error::io(file)(io::Error::other(error)))
    }

    /// Its receive queues.
    pub fn receive_queues(&self) -> Result<u32, Error> {
        let folder = format!("/sys/class/net/{}/queues", self.name);
        let entries = fs::read_dir(&folder).map_err(Error::io(folder))?;
        let is_receiving = |entry: &io::Result<fs::DirEntry>| {
            let name = entry.as_ref().map(fs::DirEntry::file_name);
            name.is_ok_and(|name| name.to_string_lossy().starts_with("rx-"))
        };
        let count = entries.filter(is_receiving).count();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// The address that the kernel would use.
fn own_address(server: SocketAddrV4) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    match socket.local_addr()? {
        SocketAddr::V4(own) => Ok(*own.ip()),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

/// The link address of a host on the same link. The kernel is made to ask for it, and then for what it knows.
pub fn link_address_of(host: Ipv4Addr, interface: &str) -> Result<MacAddr, Error> {
    const TABLE: &str = "/proc/net/arp";
    let patience = Instant::now() + PATIENCE;
    loop {
        let asked = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.send_to(&[0], (IpAddr::V4(host), DISCARD)));
        // Nobody has to take it: an error comes back for the one before.
        drop(asked);
        let table = fs::read_to_string(TABLE).map_err(Error::io(TABLE))?;
        if let Some(found) = neighbour(&table, host, interface) {
            return Ok(found);
        }
        if Instant::now() > patience {
            let silent = format!("{host} does not answer ARP on {interface}: is it on this link?");
            return Err(Error::io(TABLE)(io::Error::other(silent)));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// From proc_pid_net(5): address, hardware type, flags, link address, mask, device.
fn neighbour(table: &str, host: Ipv4Addr, interface: &str) -> Option<MacAddr> {
    let host = host.to_string();
    let mut entries = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    entries.find_map(|entry| match entry[..] {
        // The flag 2 (ATF_COM) says that it is known.
        [address, _, flags, link, _, device] if address == host && device == interface => {
            let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
            (flags & 2 != 0).then(|| link_address(link).ok()).flatten()
        }
        _ => None,
    })
}

/// Reads `02:00:00:00:00:01`.
pub fn link_address(text: &str) -> Result<MacAddr, String> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet = parts
            .next()
            .and_then(|part| u8::from_str_radix(part, 16).ok())
            .ok_or_else(|| format!("{text} is no link address"))?;
    }
    match parts.next() {
        None => Ok(MacAddr(octets)),
        Some(_) => Err(format!("{text} is too long for a link address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
         192.0.2.9        0x1         0x0         00:00:00:00:00:00     *        eth1\n\
         192.0.2.1        0x1         0x2         02:00:00:00:00:01     *        eth0\n\
         192.0.2.1        0x1         0x2         02:00:00:00:00:11     *        eth1\n";

    #[test]
    fn a_neighbour_is_known_by_address_and_interface() {
        let of = |host: [u8; 4], interface| neighbour(TABLE, host.into(), interface);
        assert_eq!(
            of([192, 0, 2, 1], "eth1"),
            Some(MacAddr([2, 0, 0, 0, 0, 0x11]))
        );
        assert_eq!(of([192, 0, 2, 9], "eth1"), None, "it was asked for");
        assert_eq!(of([192, 0, 2, 1], "eth2"), None);
    }

    #[test]
    fn a_link_address_is_six_octets() {
        let address = link_address("02:00:00:00:0a:ff");
        assert_eq!(address, Ok(MacAddr([2, 0, 0, 0, 10, 255])));
        for wrong in ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "0g:0:0:0:0:0"] {
            assert!(link_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_way_to_this_host_is_the_loopback() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let interface = Interface::towards(server).unwrap();
        assert_eq!(interface.name, "lo");
        assert_eq!(interface.addresses, [Ipv4Addr::LOCALHOST]);
        assert!(interface.index > 0);
        assert!(Interface::named("no-such-link").is_err());
    }
}
