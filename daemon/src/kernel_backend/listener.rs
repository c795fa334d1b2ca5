//! Listening kernel sockets, one set per worker.
//!
//! SO_REUSEPORT gives every worker its own accept queue on the same address, so that nothing is shared and the kernel
//! spreads connections by their tuple. Options that every connection should have are set here once: Linux copies
//! TCP_NODELAY, TCP_USER_TIMEOUT and TCP_CONGESTION from the listener to what it accepts. Buffer sizes and ECN are
//! the system's.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, listen,
    socket_with, sockopt,
};

/// Handshakes and accepted connections that may wait; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A peer that acknowledges nothing, or keeps its window closed, for so long is reset by the kernel
/// (TCP_USER_TIMEOUT, tcp(7)).
const NO_PROGRESS: Duration = Duration::from_secs(30);

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
}

/// An address that cannot be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindError {
    /// What was asked for.
    pub address: SocketAddr,
    /// Why not.
    pub errno: Errno,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { address, errno } = self;
        write!(f, "cannot listen on {address}: {errno}")?;
        match *errno {
            Errno::ADDRINUSE => {
                write!(f, "; `ss -ltnp 'sport = {}'` shows by whom", address.port())
            }
            Errno::ACCESS => write!(
                f,
                "; a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE"
            ),
            Errno::ADDRNOTAVAIL => write!(f, "; `ip address` shows the addresses of this machine"),
            Errno::AFNOSUPPORT => write!(f, "; the kernel runs without IPv6"),
            _ => Ok(()),
        }
    }
}

impl core::error::Error for BindError {}

/// What [`Listener::accept`] found.
#[derive(Debug)]
pub(super) enum Accepted {
    Connection(OwnedFd, Option<IpAddr>),
    /// The queue is empty.
    Nothing,
    /// A connection died while it waited, or was interrupted: ask again.
    Gone,
    /// No descriptor or memory is left for the connection, which keeps waiting.
    NoDescriptor,
}

impl Listener {
    /// Listens on `address`; port 0 lets the kernel choose, see [`Self::address`]. Several listeners of one user may
    /// have the same address. An IPv6 listener takes no IPv4 connections.
    ///
    /// # Errors
    /// [`BindError`] with the errno of the call that failed, mostly bind(2).
    pub fn bind(address: SocketAddr) -> Result<Listener, BindError> {
        open(address).map_err(|errno| BindError { address, errno })
    }

    /// Has accepted connections use this congestion control of the kernel (TCP_CONGESTION, tcp(7)).
    ///
    /// # Errors
    /// ENOENT if the kernel has none of this name, EPERM if it is not in `net.ipv4.tcp_allowed_congestion_control`
    /// and we may not use others. The listener goes on with the system's.
    pub fn set_congestion(&self, name: &str) -> Result<(), Errno> {
        sockopt::set_tcp_congestion(&self.socket, name)
    }

    /// The address, with the port that the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn accept(&self) -> Accepted {
        match acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                Accepted::Connection(socket, peer.map(|peer| peer.ip()))
            }
            Err(Errno::AGAIN) => Accepted::Nothing,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                Accepted::NoDescriptor
            }
            // accept(2): network errors of the new connection are reported here and are not ours.
            Err(_) => Accepted::Gone,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(address: SocketAddr) -> Result<Listener, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    let no_progress_ms = u32::try_from(NO_PROGRESS.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, no_progress_ms)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let address = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(Listener { socket, address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn accept(listener: &Listener) -> OwnedFd {
        for _ in 0..1000 {
            if let Accepted::Connection(socket, _) = listener.accept() {
                return socket;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no connection came");
    }

    #[test]
    fn accepted_connections_use_the_congestion_control_of_the_listener() {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("address")).expect("bind");
        // Every kernel has it.
        listener.set_congestion("reno").expect("setsockopt");
        let _peer = TcpStream::connect(listener.address()).expect("connect");
        let socket = accept(&listener);
        assert_eq!(
            sockopt::tcp_congestion(&socket).expect("getsockopt"),
            "reno"
        );
        assert_eq!(listener.set_congestion("no-such"), Err(Errno::NOENT));
    }

    #[test]
    fn accepted_connections_inherit_the_options_of_the_listener() {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("address")).expect("bind");
        let _peer = TcpStream::connect(listener.address()).expect("connect");
        let socket = accept(&listener);
        assert!(sockopt::tcp_nodelay(&socket).expect("getsockopt"));
        assert_eq!(
            sockopt::tcp_user_timeout(&socket).expect("getsockopt"),
            30_000
        );
    }

    #[test]
    fn two_workers_share_one_address() {
        let first = Listener::bind("127.0.0.1:0".parse().expect("address")).expect("bind");
        let second = Listener::bind(first.address()).expect("the same address again");
        assert_eq!(first.address(), second.address());
    }

    #[test]
    fn ipv6_leaves_the_port_to_ipv4() {
        let six = Listener::bind("[::1]:0".parse().expect("address")).expect("bind");
        let any = SocketAddr::new("0.0.0.0".parse().expect("address"), six.address().port());
        assert!(Listener::bind(any).is_ok());
    }

    #[test]
    fn a_foreign_listener_is_named_with_the_command_that_finds_it() {
        let foreign = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = foreign.local_addr().expect("address");
        let error = Listener::bind(address).expect_err("in use");
        assert_eq!(error.errno, Errno::ADDRINUSE);
        assert!(error.to_string().contains("ss -ltnp"), "{error}");
    }
}
