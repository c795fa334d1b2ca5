//! What the tests on a real socket need of the system: a namespace with a veth pair, a packet socket at its far end,
//! and a five-instruction XDP program.

#![allow(clippy::cast_possible_truncation)] // sizes of structures, as the C interface wants them

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::Command;

/// EtherType for local experiments (IEEE 802): nothing else on the link uses it.
pub const ETHERTYPE: u16 = 0x88b5;
/// Bytes of the header that `PACKET_VNET_HDR` puts in front of every packet.
const VNET_HEADER: usize = 10;

/// A veth pair in a network namespace of its own, which goes away with the last socket and the thread.
pub struct Link {
    /// Our end.
    pub near: u32,
    /// The peer's.
    pub far: u32,
}

impl Link {
    pub fn set_near(&self, state: &str) {
        ip(&format!("link set near {state}")).expect("the link is ours");
    }
}

/// Runs `test` in a fresh namespace with a veth pair of two queues each way and an MTU of 9000, both ends up.
///
/// Without the privilege it prints why and returns.
pub fn on_a_link(test: impl FnOnce(&Link) + Send + 'static) {
    // A thread of its own: a namespace belongs to a thread, and the harness uses its threads again.
    let outcome = std::thread::spawn(move || match link() {
        Ok(link) => test(&link),
        // Past the harness, which hides what passing tests print.
        Err(reason) => drop(writeln!(
            io::stderr(),
            "\nSKIP: no veth pair here: {reason}"
        )),
    });
    if let Err(panic) = outcome.join() {
        std::panic::resume_unwind(panic);
    }
}

fn link() -> Result<Link, String> {
    // SAFETY: no pointer is passed; only this thread moves to the new namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
        .map_err(|error| format!("unshare(CLONE_NEWNET): {error}"))?;
    ip(
        "link add near mtu 9000 numrxqueues 2 numtxqueues 2 type veth \
        peer name far mtu 9000 numrxqueues 2 numtxqueues 2",
    )?;
    ip("link set near up")?;
    ip("link set far up")?;
    Ok(Link {
        near: index(c"near")?,
        far: index(c"far")?,
    })
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn index(name: &std::ffi::CStr) -> Result<u32, String> {
    // SAFETY: a string with its end.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(format!("if_nametoindex: {}", io::Error::last_os_error())),
        index => Ok(index),
    }
}

/// An Ethernet frame of [`ETHERTYPE`] with `payload` bytes that depend on `seed`.
pub fn frame(seed: usize, payload: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend((0..payload).map(|i| (i * 31 + seed * 17 + i / 251).to_le_bytes()[0]));
    frame
}

/// A packet as the far end sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: Vec<u8>,
    /// Start and offset, if the checksum is still to be filled in.
    pub checksum: Option<(u16, u16)>,
}

/// A packet socket that sends and receives frames of [`ETHERTYPE`] on one interface.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    pub fn open(ifindex: u32) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let protocol = ETHERTYPE.to_be();
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) })
            .expect("a packet socket");
        // SAFETY: `fd` was just returned for us alone.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.option(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1_i32);
        socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64_i32 << 20));
        let patience = libc::timeval {
            tv_sec: 5,
            tv_usec: 0,
        };
        socket.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience);
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: pointer and length describe `address`.
        let bound = unsafe {
            libc::bind(
                socket.0.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        check(bound).expect("the interface exists");
        socket
    }

    fn option<T>(&self, level: i32, name: i32, value: &T) {
        let length = size_of::<T>() as u32;
        let fd = self.0.as_raw_fd();
        // SAFETY: pointer and length describe `value`.
        let result =
            unsafe { libc::setsockopt(fd, level, name, core::ptr::from_ref(value).cast(), length) };
        check(result).expect("a known option");
    }

    pub fn send(&self, frame: &[u8]) {
        let message = [&[0; VNET_HEADER][..], frame].concat();
        // SAFETY: pointer and length describe `message`.
        let sent = unsafe {
            libc::send(
                self.0.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                0,
            )
        };
        assert_eq!(
            sent,
            message.len().cast_signed(),
            "{}",
            io::Error::last_os_error()
        );
    }

    pub fn receive(&self) -> Seen {
        let mut buffer = vec![0_u8; 1 << 17];
        // SAFETY: pointer and length describe `buffer`.
        let length = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        let length = usize::try_from(length).expect("a frame within five seconds");
        let field = |at: usize| u16::from_ne_bytes([buffer[at], buffer[at + 1]]);
        // virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; flag 1 is NEEDS_CSUM.
        let checksum = (buffer[0] & 1 != 0).then(|| (field(6), field(8)));
        Seen {
            bytes: buffer[VNET_HEADER..length].to_vec(),
            checksum,
        }
    }
}

/// How to attach the program.
#[derive(Clone, Copy, Debug)]
pub enum Attach {
    /// In the driver.
    Native,
    /// After the driver, on whatever it or GRO has made.
    Generic,
}

/// An XDP program that gives every packet to the socket of its queue. It goes away when dropped.
pub struct Redirect {
    map: OwnedFd,
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Redirect {
    pub fn attach(ifindex: u32, mode: Attach) -> Self {
        // BPF_MAP_CREATE: BPF_MAP_TYPE_XSKMAP, key and value of 4 bytes, two entries.
        let map = bpf_fd(0, Attr::default().u32(0, 17).u32(4, 4).u32(8, 4).u32(12, 2));
        let program = load(&map);
        // BPF_LINK_CREATE: program, interface, BPF_XDP, XDP_FLAGS_DRV_MODE or XDP_FLAGS_SKB_MODE.
        let flags = match mode {
            Attach::Native => 1 << 2,
            Attach::Generic => 1 << 1,
        };
        let attr = Attr::default()
            .fd(0, &program)
            .u32(4, ifindex)
            .u32(8, 37)
            .u32(12, flags);
        let link = bpf_fd(28, attr);
        Self {
            map,
            _program: program,
            _link: link,
        }
    }

    /// Puts a socket into the slot of its queue.
    pub fn insert(&self, queue: u32, socket: BorrowedFd<'_>) {
        let value = socket.as_raw_fd();
        // BPF_MAP_UPDATE_ELEM: map, pointers to key and value, BPF_ANY.
        let attr = Attr::default()
            .fd(0, &self.map)
            .u64(8, core::ptr::from_ref(&queue) as u64)
            .u64(16, core::ptr::from_ref(&value) as u64);
        bpf(2, &attr).expect("a free slot");
    }
}

/// `return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS)`
fn load(map: &OwnedFd) -> OwnedFd {
    const HAS_FRAGS: u32 = 1 << 5;
    let instructions = [
        instruction(0x61, 2, 1, 16, 0),              // r2 = *(u32 *)(r1 + 16)
        instruction(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = map, two slots
        instruction(0, 0, 0, 0, 0),
        instruction(0xb7, 3, 0, 0, 2),  // r3 = XDP_PASS
        instruction(0x85, 0, 0, 0, 51), // call bpf_redirect_map
        instruction(0x95, 0, 0, 0, 0),  // exit
    ];
    let licence = c"Dual MIT/GPL";
    // BPF_PROG_LOAD: BPF_PROG_TYPE_XDP, count, instructions, licence, ..., flags.
    let attr = Attr::default()
        .u32(0, 6)
        .u32(4, instructions.len() as u32)
        .u64(8, instructions.as_ptr() as u64)
        .u64(16, licence.as_ptr() as u64)
        .u32(44, HAS_FRAGS);
    bpf_fd(5, attr)
}

/// `struct bpf_insn`.
fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[0] = code;
    bytes[1] = src << 4 | dst;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&immediate.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// `union bpf_attr`, by offsets.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Default for Attr {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attr {
    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn fd(self, at: usize, fd: &OwnedFd) -> Self {
        self.u32(at, fd.as_raw_fd().cast_unsigned())
    }
}

fn bpf(command: i32, attr: &Attr) -> io::Result<i32> {
    // SAFETY: pointer and length describe `attr`, whose own pointers lead to live values of the callers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            core::ptr::from_ref(attr),
            size_of::<Attr>(),
        )
    };
    check(result as i32)
}

fn bpf_fd(command: i32, attr: Attr) -> OwnedFd {
    let fd = bpf(command, &attr).expect("root may use BPF");
    // SAFETY: `fd` was just returned for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn check(result: i32) -> io::Result<i32> {
    if result >= 0 {
        Ok(result)
    } else {
        Err(io::Error::last_os_error())
    }
}
