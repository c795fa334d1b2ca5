//! The other end of a worker's wire: connections that ask for one file again and again and acknowledge every second
//! segment.
//!
//! It knows that nothing is lost on a wire in memory, and panics where something else than the next segment comes: a
//! server that does so is not to be measured. It does not look at content, which the tests of the worker compare.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_afxdp::testing::MemoryNic;
use sluice_wire::{
    Ecn, LinkHeader, MacAddr, Packet, ParseConfig, TcpEmit, TcpFlags, TcpHeader, TcpOptions,
    Timestamps, VlanTags, checksum, parse,
};

/// Where the service listens.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
/// Its link address.
pub const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const LINK: LinkHeader = LinkHeader {
    dst: SERVER_MAC,
    src: MacAddr([2, 0, 0, 0, 0, 2]),
    vlan: VlanTags::NONE,
};
const FIRST_PORT: u16 = 1024;
const ISS: u32 = u32::MAX - 1;
/// Of the window field.
const SCALE: u8 = 7;
/// Room for a request and all headers.
const FRAME_BYTES: usize = 256;

/// One connection.
#[derive(Clone, Copy, Default)]
struct Connection {
    rcv_nxt: u32,
    snd_nxt: u32,
    /// TSval of the first segment that the next acknowledgement covers (RFC 7323 section 4.3).
    ts_recent: u32,
    unacknowledged: u32,
    /// Bytes of the response that are still to come; `None` before its head.
    left: Option<u64>,
}

/// What a connection has to say.
#[derive(Clone, Copy)]
enum Due {
    Syn(u16),
    Ack(u16),
    Request(u16),
}

/// All connections to one worker.
pub struct Peer {
    connections: Vec<Connection>,
    /// Window field.
    window: u16,
    request: Vec<u8>,
    due: Vec<Due>,
    /// Of `due`: said already.
    said: usize,
    /// Connections with an odd segment.
    odd: Vec<u16>,
    now_ms: u32,
    bytes: u64,
    responses: u64,
}

impl Peer {
    /// `connections` that open at the first [`Self::speak`], with a window of so many bytes each, and ask for `path`.
    pub fn new(connections: u16, window: u32, path: &str) -> Peer {
        Peer {
            connections: vec![Connection::default(); usize::from(connections)],
            window: u16::try_from(window >> SCALE).expect("a window of at most 8 MiB"),
            request: format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\n\r\n").into_bytes(),
            due: (0..connections).map(Due::Syn).collect(),
            said: 0,
            odd: Vec::with_capacity(usize::from(connections)),
            now_ms: 1,
            bytes: 0,
            responses: 0,
        }
    }

    /// Body bytes and responses since the last look.
    pub fn take_received(&mut self) -> (u64, u64) {
        let bytes = core::mem::take(&mut self.bytes);
        (bytes, core::mem::take(&mut self.responses))
    }

    /// Says what is due, as far as the rings have room.
    pub fn speak(&mut self, nic: &mut MemoryNic, now_ms: u32) {
        self.now_ms = now_ms;
        if self.due.len() == self.said {
            self.due.clear();
            self.said = 0;
            self.delayed();
        }
        while let Some(due) = self.due.get(self.said) {
            let (frame, len) = self.frame(*due);
            if !nic.inject(&frame[..len]) {
                return;
            }
            if let Due::Request(number) = *due {
                let connection = &mut self.connections[usize::from(number)];
                let asked = u32::try_from(self.request.len()).expect("a short request");
                connection.snd_nxt = connection.snd_nxt.wrapping_add(asked);
            }
            self.said += 1;
        }
    }

    /// A frame of the worker.
    pub fn hear(&mut self, frame: &[u8]) {
        let Ok(Packet::Tcp(packet)) = parse(frame, frame.len(), &ParseConfig::default()) else {
            panic!("a frame that is no segment");
        };
        let header = &packet.header;
        assert!(
            !header.flags.contains(TcpFlags::RST),
            "the worker resets nobody"
        );
        let number = header.dst_port - FIRST_PORT;
        let connection = &mut self.connections[usize::from(number)];
        let ts_value = header.options.timestamps.map_or(0, |stamps| stamps.value);
        if header.flags.contains(TcpFlags::SYN) {
            *connection = Connection {
                rcv_nxt: header.seq.wrapping_add(1),
                snd_nxt: ISS.wrapping_add(1),
                ts_recent: ts_value,
                ..Connection::default()
            };
            self.due.push(Due::Request(number));
            return;
        }
        let payload = &frame[packet.payload()];
        if payload.is_empty() {
            return;
        }
        assert_eq!(header.seq, connection.rcv_nxt, "nothing is lost in memory");
        let len = u32::try_from(payload.len()).expect("a segment");
        connection.rcv_nxt = connection.rcv_nxt.wrapping_add(len);
        if connection.unacknowledged == 0 {
            connection.ts_recent = ts_value;
        }
        connection.unacknowledged += 1;
        let (body, left) = match connection.left {
            Some(left) => (payload.len() as u64, left),
            None => {
                let (head, length) = read_head(payload);
                ((payload.len() - head) as u64, length)
            }
        };
        let left = left
            .checked_sub(body)
            .expect("nothing follows a response unasked");
        self.bytes += body;
        connection.left = (left > 0).then_some(left);
        if left == 0 {
            self.responses += 1;
            connection.unacknowledged = 0;
            self.due.push(Due::Request(number));
        } else if connection.unacknowledged == 2 {
            connection.unacknowledged = 0;
            self.due.push(Due::Ack(number));
        } else {
            self.odd.push(number);
        }
    }

    /// Acknowledges single segments, as a timer would.
    fn delayed(&mut self) {
        for number in self.odd.drain(..) {
            let connection = &mut self.connections[usize::from(number)];
            if connection.unacknowledged > 0 {
                connection.unacknowledged = 0;
                self.due.push(Due::Ack(number));
            }
        }
    }

    fn frame(&self, due: Due) -> ([u8; FRAME_BYTES], usize) {
        let (number, payload) = match due {
            Due::Syn(number) | Due::Ack(number) => (number, &[][..]),
            Due::Request(number) => (number, &self.request[..]),
        };
        let connection = &self.connections[usize::from(number)];
        let timestamps = Some(Timestamps {
            value: self.now_ms,
            echo: connection.ts_recent,
        });
        let base = TcpHeader {
            src_port: FIRST_PORT + number,
            dst_port: SERVER.port(),
            window: self.window,
            ..TcpHeader::default()
        };
        let header = match due {
            Due::Syn(_) => TcpHeader {
                seq: ISS,
                flags: TcpFlags::SYN,
                options: TcpOptions {
                    mss: Some(1460),
                    window_scale: Some(SCALE),
                    sack_permitted: true,
                    timestamps,
                    ..TcpOptions::default()
                },
                ..base
            },
            Due::Ack(_) | Due::Request(_) => TcpHeader {
                seq: connection.snd_nxt,
                ack: connection.rcv_nxt,
                flags: TcpFlags::ACK,
                options: TcpOptions {
                    timestamps,
                    ..TcpOptions::default()
                },
                ..base
            },
        };
        let mut frame = [0; FRAME_BYTES];
        let emit = TcpEmit {
            link: &LINK,
            src: CLIENT,
            dst: SERVER.ip(),
            ecn: Ecn::NotEct,
            header: &header,
            payload_len: payload.len(),
        };
        let unsealed = emit.emit(&mut frame).expect("headers fit");
        let from = unsealed.headers_len();
        let end = from + payload.len();
        let sum = checksum::copy_and_sum(&mut frame[from..end], payload);
        unsealed.seal_full(&mut frame, sum);
        (frame, end)
    }
}

/// Length of the head at the front of a segment, and of the body it announces.
fn read_head(payload: &[u8]) -> (usize, u64) {
    const LENGTH: &[u8] = b"content-length: ";
    let end = payload
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head fits a segment");
    let lower = payload[..end].to_ascii_lowercase();
    let at = lower
        .windows(LENGTH.len())
        .position(|words| words == LENGTH)
        .expect("a length is given");
    let digits = lower[at + LENGTH.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
    (end + 4, length)
}
