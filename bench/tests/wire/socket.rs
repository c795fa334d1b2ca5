//! The driver's calls as calls on a kernel socket, and what can be seen of one.
//!
//! What a script calls the stream offset `until` is here what was written or read so far. States, counts and what is
//! not acknowledged come from `/proc/net/tcp`, which also shows what no file descriptor stands for any more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::TcpStreamExt;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{
    Linger, RcvBufForce, ReuseAddr, SndBufForce, TcpCongestion, TcpNoDelay,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, send, setsockopt,
    socket,
};

use crate::place;

/// The kernel takes twice that, half of it for the window, rounds it down to 65,700 bytes, which are 45 segments, and
/// says 65,535 in the SYN-ACK as ours does (tcp_select_initial_window in net/ipv4/tcp_output.c). With more it would
/// accept more than it says.
const RECEIVE_BUFFER: usize = 66_000;
/// Whatever a script supplies at once.
const SEND_BUFFER: usize = 4 << 20;

/// A connection as `/proc/net/tcp` shows it.
#[derive(Clone, Copy, Debug)]
struct Row {
    state: &'static str,
    /// Bytes written and not acknowledged, and one for a FIN.
    unacknowledged: u64,
    /// Bytes that arrived and were not read, and one for a FIN.
    unread: u64,
    remote_port: u16,
}

/// What a script has done with one connection.
#[derive(Debug, Default)]
struct Connection {
    /// `None` after an abort.
    stream: Option<TcpStream>,
    supplied: u64,
    consumed: u64,
    finished: bool,
    error: Option<io::Error>,
    /// By connect(2), and the handshake is not over as far as is known.
    is_opening: bool,
}

/// A port of Linux and the connections that came to it.
#[derive(Debug)]
pub struct Driver {
    ipv6: bool,
    port: u16,
    congestion: String,
    listener: Option<TcpListener>,
    connections: BTreeMap<u16, Connection>,
}

impl Driver {
    /// Listens, unless the script wants the port closed or opens from it. `congestion` is the name of the kernel's
    /// module.
    pub fn new(ipv6: bool, port: u16, listens: bool, congestion: &str) -> Driver {
        let address = if ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let listener = listens.then(|| {
            let listener = TcpListener::bind(SocketAddr::new(address, port));
            let listener = listener.expect("the port is free");
            prepare(&listener, congestion);
            listener.set_nonblocking(true).expect("a socket");
            delaying_acknowledgements(listener)
        });
        Driver {
            ipv6,
            port,
            congestion: congestion.to_owned(),
            listener,
            connections: BTreeMap::new(),
        }
    }

    /// A connection from this port of the peer; an error if there was never one.
    fn connection(&mut self, remote: u16) -> Result<&mut Connection, String> {
        while let Some(listener) = &self.listener {
            let Ok((stream, from)) = listener.accept() else {
                break;
            };
            stream.set_nonblocking(true).expect("a socket");
            let connection = Connection {
                stream: Some(stream),
                ..Connection::default()
            };
            self.connections.insert(from.port(), connection);
        }
        let found = self.connections.get_mut(&remote);
        found.ok_or_else(|| "no socket on this port".to_owned())
    }

    /// Opens to this port of the peer, from the port of the script, and does not wait for the answer.
    pub fn connect(&mut self, remote: u16) -> Result<(), String> {
        let family = if self.ipv6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None).expect("a socket");
        prepare(&socket, &self.congestion);
        // All connections of a script have this port.
        setsockopt(&socket, ReuseAddr, &true).expect("a socket");
        let here = SocketAddr::new(place::linux(self.ipv6), self.port);
        let there = SocketAddr::new(place::peer(self.ipv6), remote);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(here)).expect("the port is free");
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(there)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(format!("connect says {error}")),
        }
        let connection = Connection {
            stream: Some(TcpStream::from(socket)),
            is_opening: true,
            ..Connection::default()
        };
        self.connections.insert(remote, connection);
        Ok(())
    }

    /// Delayed acknowledgements from the first segment on, as for who is accepted, on what has opened meanwhile. Not
    /// earlier: the ACK of the SYN-ACK would be delayed as well.
    pub fn delay_acknowledgements(&mut self) {
        for connection in self.connections.values_mut() {
            if let Some(stream) = &connection.stream
                && connection.is_opening
                && stream.peer_addr().is_ok()
            {
                stream.set_quickack(false).expect("a socket");
                connection.is_opening = false;
            }
        }
    }

    /// Writes up to `until` of the stream. Before the connection is open that waits, as send(2) does on a socket that
    /// may.
    pub fn supply(&mut self, remote: u16, until: u64, more: bool) -> Result<(), String> {
        let connection = self.connection(remote)?;
        let Some(stream) = &connection.stream else {
            return Ok(());
        };
        let count = until.saturating_sub(connection.supplied);
        let bytes = vec![0x5a; usize::try_from(count).expect("a script's worth")];
        let mut flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        if more {
            flags |= MsgFlags::from_bits_retain(libc::MSG_MORE);
        }
        match send(stream.as_raw_fd(), &bytes, flags) {
            Ok(sent) if sent != bytes.len() => {
                return Err(format!("the send buffer took {sent} of {count} bytes"));
            }
            Ok(_) => connection.supplied = until,
            Err(Errno::EAGAIN) => {
                write_once_open(stream, bytes, flags & !MsgFlags::MSG_DONTWAIT);
                connection.supplied = until;
            }
            // After a close nothing can be written, which is what scripts that try it are about.
            Err(_) => {}
        }
        Ok(())
    }

    /// Reads up to `until` of the stream.
    pub fn consume(&mut self, remote: u16, until: u64) -> Result<(), String> {
        let connection = self.connection(remote)?;
        let Some(stream) = &mut connection.stream else {
            return Ok(());
        };
        let count = until.saturating_sub(connection.consumed);
        let mut bytes = vec![0; usize::try_from(count).expect("a script's worth")];
        connection.consumed += stream.read(&mut bytes).unwrap_or(0) as u64;
        Ok(())
    }

    /// Our half is over. In SYN-SENT there are no halves yet: the socket is closed.
    pub fn close(&mut self, remote: u16) -> Result<(), String> {
        let state = self.state(remote);
        let connection = self.connection(remote)?;
        let unopened = connection.stream.take_if(|_| state == "SYN-SENT");
        if let Some(stream) = unopened {
            // Whoever waits to write has it open as well.
            let _ = stream.shutdown(Shutdown::Both);
            return Ok(());
        }
        connection.finished = true;
        if let Some(stream) = &mut connection.stream {
            // On a connection that is gone it does nothing, as in the script.
            let _ = stream.flush();
            let _ = stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Closes with SO_LINGER of zero.
    pub fn abort(&mut self, remote: u16) -> Result<(), String> {
        abort(self.connection(remote)?);
        Ok(())
    }

    /// The state as a script names it.
    pub fn state(&mut self, remote: u16) -> String {
        let rows = self.rows();
        let mut rows = rows.iter().filter(|row| row.remote_port == remote);
        // TIME-WAIT is asked for by itself.
        let live = rows.find(|row| row.state != "TIME-WAIT");
        live.map_or("CLOSED", |row| row.state).to_owned()
    }

    /// Connections in a state.
    pub fn count(&self, state: &str) -> usize {
        self.rows().iter().filter(|row| row.state == state).count()
    }

    /// Connections in any state but TIME-WAIT.
    pub fn live(&self) -> usize {
        let rows = self.rows();
        rows.iter().filter(|row| row.state != "TIME-WAIT").count()
    }

    /// Bytes that can be read or were. Not what a call would return: one ends at urgent data.
    pub fn delivered(&mut self, remote: u16) -> Result<u64, String> {
        let rows = self.rows();
        let row = rows.iter().find(|row| row.remote_port == remote);
        let has_fin = |row: &&Row| {
            matches!(
                row.state,
                "CLOSE-WAIT" | "LAST-ACK" | "CLOSING" | "TIME-WAIT"
            )
        };
        let fin = u64::from(row.filter(has_fin).is_some());
        let unread = row.map(|row| row.unread.saturating_sub(fin));
        let connection = self.connection(remote)?;
        let left = match (unread, &connection.stream) {
            (Some(unread), _) => unread,
            // No table shows a connection that is gone.
            (None, Some(stream)) => stream.peek(&mut [0; RECEIVE_BUFFER]).unwrap_or(0) as u64,
            (None, None) => 0,
        };
        Ok(connection.consumed + left)
    }

    /// Bytes written that the peer has acknowledged.
    pub fn acknowledged(&mut self, remote: u16) -> Result<u64, String> {
        let rows = self.rows();
        let row = rows.iter().find(|row| row.remote_port == remote);
        let open = row.map_or(0, |row| row.unacknowledged);
        let connection = self.connection(remote)?;
        let written = connection.supplied + u64::from(connection.finished);
        Ok((written - open.min(written)).min(connection.supplied))
    }

    /// How the connection ended, in the words of the scripts.
    pub fn closed(&mut self, remote: u16) -> String {
        let state = self.state(remote);
        let Ok(connection) = self.connection(remote) else {
            return "no".to_owned();
        };
        let Some(stream) = &connection.stream else {
            return "Aborted".to_owned();
        };
        if let Ok(Some(error)) = stream.take_error() {
            connection.error = Some(error);
        }
        match &connection.error {
            // To who writes after a FIN the kernel says EPIPE instead (tcp_reset).
            Some(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                "PeerReset".to_owned()
            }
            Some(error) if error.kind() == ErrorKind::ConnectionRefused => "Refused".to_owned(),
            Some(error) => format!("{:?}", error.kind()),
            None if state == "CLOSED" => "Finished".to_owned(),
            None => "no".to_owned(),
        }
    }

    /// This port in the tables of the namespace.
    fn rows(&self) -> Vec<Row> {
        let table = if self.ipv6 { "tcp6" } else { "tcp" };
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        let text = text.expect("procfs is there");
        let rows = text.lines().skip(1).filter_map(row);
        rows.filter(|(local, _)| *local == self.port)
            .map(|(_, row)| row)
            .filter(|row| row.state != "LISTEN")
            .collect()
    }
}

/// What is left goes without a word to anybody who listens.
impl Drop for Driver {
    fn drop(&mut self) {
        for connection in self.connections.values_mut() {
            abort(connection);
        }
    }
}

fn abort(connection: &mut Connection) {
    if let Some(stream) = connection.stream.take() {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, Linger, &linger).expect("a socket");
    }
}

/// What is the same for all, and what an accepted socket inherits.
fn prepare(socket: &impl AsFd, congestion: &str) {
    setsockopt(socket, RcvBufForce, &RECEIVE_BUFFER).expect("a socket");
    setsockopt(socket, SndBufForce, &SEND_BUFFER).expect("a socket");
    setsockopt(socket, TcpNoDelay, &true).expect("a socket");
    setsockopt(socket, TcpCongestion, &congestion.into()).expect("the kernel has it");
}

/// Delayed acknowledgements from the first segment on, as ours, for who is accepted: Linux would acknowledge the first
/// sixteen at once ("quick ACK mode").
fn delaying_acknowledgements(listener: TcpListener) -> TcpListener {
    // The standard library has the option only for streams.
    let stream = TcpStream::from(OwnedFd::from(listener));
    stream.set_quickack(false).expect("a socket");
    TcpListener::from(OwnedFd::from(stream))
}

/// A thread that waits for the end of the handshake and writes then. The ACK of the SYN-ACK leaves with these bytes, as
/// the kernel knows that somebody waits (sk_write_pending).
fn write_once_open(stream: &TcpStream, bytes: Vec<u8>, flags: MsgFlags) {
    let stream = stream.try_clone().expect("a socket");
    stream.set_nonblocking(false).expect("a socket");
    thread::spawn(move || {
        // It fails if the connection never opens, which the script will notice.
        let _ = send(stream.as_raw_fd(), &bytes, flags);
        let _ = stream.set_nonblocking(true);
    });
}

/// A line of `/proc/net/tcp` or `tcp6`: the local port and the rest.
fn row(line: &str) -> Option<(u16, Row)> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (words.next()?, words.next()?);
    let state = state(words.next()?)?;
    let (unacknowledged, unread) = words.next()?.split_once(':')?;
    let bytes = |text| u64::from_str_radix(text, 16).ok();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let row = Row {
        state,
        unacknowledged: bytes(unacknowledged)?,
        unread: bytes(unread)?,
        remote_port: port(remote)?,
    };
    Some((port(local)?, row))
}

/// `include/net/tcp_states.h`.
fn state(number: &str) -> Option<&'static str> {
    Some(match number {
        "01" => "ESTABLISHED",
        "02" => "SYN-SENT",
        "03" | "0C" => "SYN-RECEIVED",
        "04" => "FIN-WAIT-1",
        "05" => "FIN-WAIT-2",
        "06" => "TIME-WAIT",
        "07" => "CLOSED",
        "08" => "CLOSE-WAIT",
        "09" => "LAST-ACK",
        "0A" => "LISTEN",
        "0B" => "CLOSING",
        _ => return None,
    })
}
