//! smoltcp as the sender: one socket per connection, each with a send buffer as large as the client's window.
//!
//! Set up in its favour where there was a choice: `Medium::Ip` (no link header, no neighbour cache), no congestion
//! control, no fragmentation or other sockets compiled in, a buffer that is a multiple of the segment size, and its
//! parts are called one by one (ingress, application, egress) instead of polling everything twice.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet,
};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::Checksums;
use super::client::{MSS, PORT, SERVER};
use super::nic::{ETHERNET_BYTES, Inbox, Nic, Outbox, Server};
use super::pattern::Pattern;

/// smoltcp asks a plain function for timestamps, so the clock has to be somewhere it can reach.
static CLOCK_MS: AtomicU32 = AtomicU32::new(0);

/// The client sends nothing but acknowledgements.
const RECEIVE_BUFFER: usize = 4096;

/// The server.
pub struct Smoltcp {
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Each with the stream offset that its application has written up to.
    written: Vec<(SocketHandle, u64)>,
    pattern: Pattern,
    checksums: Checksums,
}

impl Smoltcp {
    /// A server for that many connections with `segments` in flight.
    pub fn new(
        connections: u16,
        segments: u16,
        checksums: Checksums,
        pattern: Pattern,
        nic: &mut Nic,
    ) -> Smoltcp {
        let mut device = Port { nic, checksums };
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(SERVER.into(), 24))
                .expect("an interface has room for one address");
        });
        let send_buffer = usize::from(segments) * MSS as usize;
        let mut sockets = SocketSet::new(Vec::with_capacity(usize::from(connections)));
        let written = (0..connections)
            .map(|_| {
                let mut socket = Socket::new(
                    SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
                    SocketBuffer::new(vec![0; send_buffer]),
                );
                socket.set_tsval_generator(Some(|| CLOCK_MS.load(Ordering::Relaxed)));
                socket.listen(PORT).expect("a fresh socket can listen");
                (sockets.add(socket), 0)
            })
            .collect();
        Smoltcp {
            interface,
            sockets,
            written,
            pattern,
            checksums,
        }
    }

    fn fill(&mut self) {
        for (handle, written) in &mut self.written {
            let socket = self.sockets.get_mut::<Socket>(*handle);
            while socket.can_send() {
                let room = socket.send_capacity() - socket.send_queue();
                let bytes = self.pattern.at(*written, room);
                let Ok(count @ 1..) = socket.send_slice(bytes) else {
                    break;
                };
                *written += count as u64;
            }
        }
    }
}

impl Server for Smoltcp {
    // As in `sluice`.
    #[inline(never)]
    fn turn(&mut self, now: Duration, nic: &mut Nic) {
        let ms = u32::try_from(now.as_millis()).unwrap_or(u32::MAX);
        CLOCK_MS.store(ms, Ordering::Relaxed);
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        let mut device = Port {
            nic,
            checksums: self.checksums,
        };
        self.interface.poll_maintenance(now);
        while self
            .interface
            .poll_ingress_single(now, &mut device, &mut self.sockets)
            != PollIngressSingleResult::None
        {}
        self.fill();
        while self
            .interface
            .poll_egress(now, &mut device, &mut self.sockets)
            != PollResult::None
        {}
    }
}

/// The wire as smoltcp wants it.
struct Port<'a> {
    nic: &'a mut Nic,
    checksums: Checksums,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a>(&'a mut Outbox);

impl Device for Port<'_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let Nic { inbox, outbox } = &mut *self.nic;
        let frame = Inbox::receive(inbox)?;
        Some((Rx(&frame[ETHERNET_BYTES..]), Tx(outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.nic.outbox))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        if self.checksums == Checksums::Offload {
            // Not that of the IP header: no device is asked for it.
            capabilities.checksum.tcp = Checksum::None;
        }
        capabilities
    }
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut result = None;
        self.0.send(|frame| {
            result = Some(f(&mut frame[ETHERNET_BYTES..ETHERNET_BYTES + len]));
            ETHERNET_BYTES + len
        });
        result.expect("the outbox calls back once")
    }
}
