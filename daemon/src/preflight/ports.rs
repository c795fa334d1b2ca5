//! Ports: is a kernel socket in the way.
//!
//! While AF_XDP serves an endpoint, a kernel socket that is bound but does not listen holds it, so that no
//! other program can start to serve it unnoticed and answer when we are gone ([`reserve`]). Preflight makes
//! the same attempt and lets go again.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::{Check, Facts, Problem, Scope};
use crate::config::Config;

/// Reserves an endpoint in the kernel for as long as the descriptor lives.
///
/// `SO_REUSEADDR` is set while binding, because connections of an earlier server in TIME-WAIT must not keep us
/// out, and cleared afterwards, because with it set on both sides another program could still listen.
///
/// # Errors
/// `EADDRINUSE` (somebody listens), `EADDRNOTAVAIL` (not an address of this host), `EACCES` (privileged port),
/// and those of `socket(2)`.
pub fn reserve(endpoint: SocketAddr) -> io::Result<OwnedFd> {
    Ok(try_reserve(endpoint)?)
}

fn try_reserve(endpoint: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match endpoint {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if endpoint.is_ipv6() {
        // Else "::" would claim the port of every IPv4 address too.
        set_ipv6_v6only(&socket, true)?;
    }
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &endpoint)?;
    set_socket_reuseaddr(&socket, false)?;
    Ok(socket)
}

/// The outcome of reserving each endpoint, each released at once.
pub(super) fn probe(endpoints: &[SocketAddr]) -> Vec<(SocketAddr, Result<(), Errno>)> {
    endpoints
        .iter()
        .map(|endpoint| (*endpoint, try_reserve(*endpoint).map(drop)))
        .collect()
}

pub(super) fn checks(config: &Config, facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    // A privileged port is one problem, on however many addresses it is served.
    let mut report = |scope, problem: Problem| {
        let check = Check::fail(scope, problem);
        if checks.iter().all(|other| other.outcome != check.outcome) {
            checks.push(check);
        }
    };
    for (endpoint, outcome) in &facts.xdp_ports {
        match outcome {
            // The reservation of the sluiced that serves here, which is reported with its program.
            Err(Errno::ADDRINUSE) if reserved_by_sluiced(facts, *endpoint) => {}
            // Reported as an address, not as a port.
            Ok(()) | Err(Errno::ADDRNOTAVAIL) => {}
            Err(error) => report(Scope::Service, refusal(*endpoint, *error)),
        }
    }
    if facts.kernel_ports.is_empty() {
        let problem = Problem::new(
            "no address for kernel sockets",
            "owned_addresses are unknown to the kernel",
            "add an address to addresses in [xdp], or pass --listen-address",
        );
        report(Scope::Kernel, problem);
    }
    let usable = facts
        .kernel_ports
        .iter()
        .any(|(_, outcome)| outcome.is_ok());
    for (endpoint, outcome) in &facts.kernel_ports {
        match outcome {
            Ok(()) => {}
            // "::" by default on a host without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if usable && unspecified_v6(endpoint) => {
            }
            Err(error) => report(Scope::Kernel, refusal(*endpoint, *error)),
        }
    }
    if checks.is_empty() {
        let ports: Vec<_> = config.ports().map(|port| port.to_string()).collect();
        checks.push(Check::pass(
            Scope::Service,
            format!("ports free: {}", ports.join(", ")),
        ));
    }
    checks
}

/// Whether a port that is in use is one that the sluiced on the same interface holds without listening.
fn reserved_by_sluiced(facts: &Facts, endpoint: SocketAddr) -> bool {
    let serving = facts
        .interface
        .as_ref()
        .and_then(|link| link.as_ref().ok()?.serving_sluiced());
    serving.is_some() && !facts.listening.contains(&endpoint.port())
}

/// Ports on which a kernel socket of this network namespace listens (proc_pid_net(5)). Sockets that are bound and do
/// not listen are not in these files.
pub(super) fn listening() -> BTreeSet<u16> {
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|table| table.lines().filter_map(listening_port).collect::<Vec<_>>())
        .collect()
}

/// `sl local_address rem_address st ...` with the port in hexadecimal behind the last colon of the address.
fn listening_port(line: &str) -> Option<u16> {
    const TCP_LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    (state == TCP_LISTEN).then(|| u16::from_str_radix(port, 16).ok())?
}

fn unspecified_v6(endpoint: &SocketAddr) -> bool {
    matches!(endpoint.ip(), IpAddr::V6(address) if address.is_unspecified())
}

fn refusal(endpoint: SocketAddr, error: Errno) -> Problem {
    let port = endpoint.port();
    match error {
        Errno::ADDRINUSE => Problem::new(
            format!("port in use: {endpoint}"),
            "a kernel socket has it",
            format!(
                "stop its owner: `ss -ltnp 'sport = :{port}'` names who listens; if nobody does, another sluiced \
                 holds the port for its interface; or serve another port"
            ),
        ),
        Errno::ACCESS => Problem::new(
            format!("port {port} is privileged"),
            "no CAP_NET_BIND_SERVICE",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE, or a port from 1024 on \
             (net.ipv4.ip_unprivileged_port_start)",
        ),
        Errno::ADDRNOTAVAIL => Problem::new(
            format!("{} is not an address of this host", endpoint.ip()),
            "",
            "correct --listen-address or addresses in [xdp]; `ip -br addr` lists them",
        ),
        Errno::AFNOSUPPORT => Problem::new(
            format!("{} cannot be served", endpoint.ip()),
            "this kernel has no such address family",
            "enable IPv6, or serve IPv4 addresses only",
        ),
        other => Problem::new(
            format!("{endpoint} cannot be reserved"),
            other.to_string(),
            "see bind(2) for this error",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn any_port() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[test]
    fn a_listener_is_in_the_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap();
        assert_eq!(try_reserve(endpoint).map(drop), Err(Errno::ADDRINUSE));
    }

    #[test]
    fn who_listens_is_known_and_who_only_holds_a_port_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listens = listener.local_addr().unwrap().port();
        let held = any_port();
        let _reserved = reserve(held).unwrap();
        let listening = listening();
        assert!(listening.contains(&listens));
        assert!(!listening.contains(&held.port()));
    }

    #[test]
    fn a_wildcard_listener_is_in_the_way_of_one_address() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let endpoint =
            SocketAddr::new([127, 0, 0, 1].into(), listener.local_addr().unwrap().port());
        assert_eq!(try_reserve(endpoint).map(drop), Err(Errno::ADDRINUSE));
    }

    #[test]
    fn nobody_can_listen_on_a_reserved_endpoint() {
        let endpoint = any_port();
        let _reserved = reserve(endpoint).unwrap();
        // std sets SO_REUSEADDR, as servers do.
        assert!(TcpListener::bind(endpoint).is_err());
        assert!(TcpListener::bind(("0.0.0.0", endpoint.port())).is_err());
    }

    #[test]
    fn a_reserved_endpoint_refuses_connections() {
        let endpoint = any_port();
        let _reserved = reserve(endpoint).unwrap();
        assert!(TcpStream::connect(endpoint).is_err());
    }

    #[test]
    fn connections_in_time_wait_are_not_in_the_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap();
        let client = TcpStream::connect(endpoint).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first keeps the port in TIME-WAIT.
        drop(server);
        drop(client);
        drop(listener);
        assert!(reserve(endpoint).is_ok());
    }

    #[test]
    fn the_ipv6_wildcard_leaves_ipv4_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let outcome = try_reserve(SocketAddr::new(
            std::net::Ipv6Addr::UNSPECIFIED.into(),
            port,
        ));
        assert_ne!(outcome.map(drop), Err(Errno::ADDRINUSE));
    }

    #[test]
    fn a_foreign_address_is_not_available() {
        let endpoint = "198.51.100.77:9".parse().unwrap();
        assert_eq!(try_reserve(endpoint).map(drop), Err(Errno::ADDRNOTAVAIL));
    }
}
