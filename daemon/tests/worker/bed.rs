//! One worker on a bench: in-memory rings, a directory to serve, and a clock that only the test moves.
//!
//! A *round* is what a round trip is on a link: the clients' frames go in, the worker takes one turn, what it
//! sends reaches the clients. The clock moves only in rounds in which frames moved, so no timer of the worker
//! can rescue a test from a lost wake-up unless the test lets time [`pass`](Bed::pass) itself. The only
//! thing ever waited for is a helper thread of the disk.
//!
//! After every turn each frame of the UMEM must have exactly one owner.

use core::net::IpAddr;
use core::time::Duration;
use std::thread;

use sluice_afxdp::testing::MemoryNic;
use sluice_afxdp::{GsoSocket, GsoTwin, HugePages, Queue, QueueConfig, Umem, UmemConfig};
use sluice_disk::{BLOCK_BYTES, Disk, DiskConfig, Root, Symlinks, UploadLimits};
use sluice_http::UploadRules;
use sluice_tcp::clock::Instant;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::{Autotune, StackConfig};
use sluice_wire::ChecksumPolicy;
use sluiced::exchange::INPUT_BYTES;
use sluiced::services::{Services, ServicesConfig, UploadConfig};
use sluiced::worker::{Handoff, Poll, Worker, WorkerConfig, WorkerReport};

use crate::client::{Client, Response};
use crate::frames::{self, SERVER, SERVER_MAC, SERVER6};
use crate::site::Site;

/// The wall clock of every test: a second in November 1994.
pub const UNIX_SECONDS: i64 = 784_111_777;

/// One way there, one turn, one way back.
const ROUND: Duration = Duration::from_micros(50);
/// Rounds without a frame, each some 100 us long, before a test is given up as hanging.
const QUIET_ROUNDS_MAX: u32 = 50_000;

/// What a worker is built with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Bytes of one IP packet.
    pub mtu: u16,
    /// The device completes checksums.
    pub offload: bool,
    /// Entries of the TX, fill and completion ring.
    pub ring: u32,
    /// Entries of the RX ring.
    pub rx_ring: u32,
    /// Frames of the UMEM.
    pub frames: u32,
    /// File blocks of 64 KiB.
    pub blocks: usize,
    pub connections: u32,
    pub time_wait: u32,
    pub checksum_rx: ChecksumPolicy,
    pub owned: Vec<IpAddr>,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub min_rate: Option<u64>,
    /// As in the daemon. Round trips here are too short for it, unless a test stretches them.
    pub pacing: bool,
    /// Packets may span frames.
    pub multi_buffer: bool,
    /// The fill ring is kept full, so that a round may bring any number of frames after rounds with few.
    pub zero_copy: bool,
    /// With the TSO lane.
    pub gso: bool,
    pub uploads: UploadLimits,
    /// Files of so many bytes are read past the page cache.
    pub direct_above: Option<u64>,
    /// With the gather lane.
    pub gather: bool,
    /// Pieces that the device takes of a packet, at most 18.
    pub packet_frames: usize,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            mtu: 1500,
            offload: true,
            ring: 1024,
            rx_ring: 1024,
            frames: 4096,
            blocks: 64,
            connections: 512,
            time_wait: 512,
            checksum_rx: ChecksumPolicy::Verify,
            owned: Vec::new(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            min_rate: None,
            pacing: true,
            multi_buffer: true,
            zero_copy: false,
            gso: false,
            uploads: UploadLimits::NONE,
            direct_above: None,
            gather: false,
            packet_frames: 18,
        }
    }
}

pub struct Bed {
    pub worker: Worker,
    pub nic: MemoryNic,
    /// The kernel's side of the TSO lane.
    pub gso: Option<GsoTwin>,
    pub now: Instant,
    /// The most frames of one packet that the worker sent.
    pub longest_chain: usize,
    /// Packets whose checksum the worker left to the device, and others.
    pub offloaded: u64,
    pub sealed: u64,
    next_port: u16,
}

impl Bed {
    pub fn new(site: &Site) -> Bed {
        Bed::with(site, &Setup::default())
    }

    pub fn with(site: &Site, setup: &Setup) -> Bed {
        Bed::with_handoff(site, setup, None)
    }

    pub fn with_handoff(site: &Site, setup: &Setup, handoff: Option<Handoff>) -> Bed {
        let now = Instant::from_nanos(1_000_000_000_000);
        let (queue, nic, disk) = memory(setup);
        let root = Root::open(site.root(), Symlinks::Never).expect("the site can be read");
        let services_config = ServicesConfig {
            connections: setup.connections as usize,
            header_timeout: setup.header_timeout,
            idle_timeout: setup.idle_timeout,
            min_rate: setup.min_rate,
            uploads: (setup.uploads.uploads > 0).then_some(UploadConfig {
                rules: UploadRules { max_size: 1 << 30 },
                limits: setup.uploads,
            }),
            ..ServicesConfig::default()
        };
        let services = Services::new(disk, root, &services_config);
        let mut worker = Worker::new(worker_config(setup), queue, services, handoff, now);
        let mut gso = None;
        if setup.gso {
            let (socket, twin) = GsoSocket::in_memory();
            worker = worker.with_gso(socket);
            gso = Some(twin);
        }
        if setup.gather {
            worker = worker.with_gather();
        }
        Bed {
            worker,
            nic,
            gso,
            now,
            longest_chain: 0,
            offloaded: 0,
            sealed: 0,
            next_port: 40_000,
        }
    }

    /// Lets time go by. The worker notices at its next turn.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// One turn of the worker, and what leaves the device after it.
    pub fn turn(&mut self) -> Vec<Vec<u8>> {
        let now = self.now;
        self.worker.turn(|| now, UNIX_SECONDS);
        let ledger = self.worker.queue().ledger();
        assert!(ledger.balanced(), "{ledger:?}");
        self.collect()
    }

    /// What leaves the device now, cut and with the checksums it completes: first what the TSO lane handed over
    /// during the turn, then what waits in the ring.
    pub fn collect(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for (cut, whole) in self.gso.iter().flat_map(GsoTwin::take) {
            sent.extend(frames::cut(&whole, &cut));
        }
        let mut longest = self.longest_chain;
        self.nic.transmit(u32::MAX, |pieces, checksum| {
            let mut frame = pieces.concat();
            match checksum {
                Some(request) => {
                    self.offloaded += 1;
                    frames::complete(&mut frame, request);
                }
                None => self.sealed += 1,
            }
            longest = longest.max(pieces.len());
            sent.push(frame);
        });
        self.longest_chain = longest;
        sent
    }

    /// Puts what the client wants to say into the RX ring. Returns how many frames.
    pub fn inject_from(&mut self, client: &mut Client) -> usize {
        let frames = core::mem::take(&mut client.out);
        for frame in &frames {
            assert!(self.nic.inject(frame), "the rings have room for a round");
        }
        frames.len()
    }

    /// One round. Returns how many frames moved, in either direction.
    pub fn round(&mut self, clients: &mut [Client]) -> usize {
        let mut moved = 0;
        for client in clients.iter_mut() {
            moved += self.inject_from(client);
        }
        let sent = self.turn();
        moved += sent.len();
        for frame in &sent {
            deliver(frame, clients, self.now);
        }
        moved
    }

    /// Rounds until `done`.
    pub fn run(&mut self, clients: &mut [Client], mut done: impl FnMut(&[Client]) -> bool) {
        let mut quiet = 0;
        while !done(clients) {
            if self.round(clients) > 0 {
                self.pass(ROUND);
                quiet = 0;
                continue;
            }
            quiet += 1;
            assert!(
                quiet < QUIET_ROUNDS_MAX,
                "nothing moves any more: {:?}",
                clients
                    .iter()
                    .find(|client| !done(core::slice::from_ref(client)))
                    .map(|client| (client.local, client.received.len(), client.reset))
            );
            wait_for_helpers();
        }
    }

    /// Rounds with one client until `done`.
    pub fn run_one(&mut self, client: &mut Client, mut done: impl FnMut(&Client) -> bool) {
        self.run(core::slice::from_mut(client), |clients| done(&clients[0]));
    }

    /// Rounds until no frame moves.
    pub fn settle(&mut self, clients: &mut [Client]) {
        while self.round(clients) > 0 {
            self.pass(ROUND);
        }
    }

    /// Rounds with one client until no frame moves.
    pub fn settle_one(&mut self, client: &mut Client) {
        self.settle(core::slice::from_mut(client));
    }

    /// Downloads the files of [`Site::files`] at once, each on a connection of its own, and compares them.
    pub fn download_at_once(&mut self, contents: &[Vec<u8>]) {
        let mut clients: Vec<Client> = contents.iter().map(|_| self.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.write(get(&format!("/file{index}")));
        }
        self.run(&mut clients, |clients| {
            clients.iter().all(Client::has_response)
        });
        for (client, content) in clients.iter_mut().zip(contents) {
            let answer = client.take_response();
            assert!(answer.is_some_and(|answer| answer.body == *content));
        }
        self.settle(&mut clients);
        for client in clients {
            self.close(client);
        }
        self.assert_at_rest();
    }

    /// A new connection from a port of its own.
    pub fn connect(&mut self) -> Client {
        let mut client = Client::connect(self.take_port());
        self.run_one(&mut client, Client::is_established);
        self.settle_one(&mut client);
        client
    }

    pub fn take_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// GET, and the whole answer.
    pub fn get(&mut self, client: &mut Client, path: &str) -> Response {
        client.write(get(path));
        self.response(client)
    }

    /// The next answer, whole.
    pub fn response(&mut self, client: &mut Client) -> Response {
        self.run_one(client, Client::has_response);
        client
            .take_response()
            .expect("run until there was a response")
    }

    /// Ends a connection from the client's side.
    pub fn close(&mut self, mut client: Client) {
        client.finish();
        self.run_one(&mut client, Client::is_closed);
        self.settle_one(&mut client);
    }

    pub fn report(&self) -> Box<WorkerReport> {
        let mut report = Box::default();
        self.worker.fill(&mut report);
        report
    }

    /// No connection is left, and [`Self::assert_nothing_held`].
    pub fn assert_at_rest(&mut self) {
        self.assert_nothing_held();
        let stack = self.worker.stack();
        assert_eq!((stack.len(), stack.half_open()), (0, 0), "connections");
        // TIME-WAIT needs none: its entries leave in the order they came.
        assert_eq!(stack.timers(), 0, "timers");
        assert_eq!(self.report().service.active, 0, "workspaces");
    }

    /// No frame is under way, no block is pinned, no file is open, and nothing happened that must not.
    pub fn assert_nothing_held(&mut self) {
        for _ in 0..QUIET_ROUNDS_MAX {
            assert_eq!(self.turn().len(), 0, "nobody asked for more frames");
            if self.report().service.disk.at_rest() {
                break;
            }
            wait_for_helpers();
        }
        let disk = self.report().service.disk;
        assert!(disk.at_rest(), "{disk:?}");
        let frames = self.worker.queue().ledger();
        assert!(frames.at_rest(), "{frames:?}");
        assert_eq!(self.worker.queue().slices_in_flight(), 0);
        self.assert_nothing_odd();
    }

    /// What must never be counted, was not.
    pub fn assert_nothing_odd(&self) {
        let report = self.report();
        let counters = &report.worker;
        assert_eq!(
            counters.request_not_kept, 0,
            "the window is the buffer's size"
        );
        let queue = &report.queue;
        assert_eq!(
            (queue.rx_invalid, queue.rx_broken_packets, queue.tx_refused),
            (0, 0, 0)
        );
        assert_eq!(queue.completions_invalid, 0);
        assert_eq!(
            report.kernel.map(|kernel| kernel.tx_invalid_descs),
            Some(0),
            "the kernel side took every descriptor"
        );
    }
}

/// Gives a frame to the client it is for.
pub fn deliver(frame: &[u8], clients: &mut [Client], now: Instant) {
    let (packet, payload) = frames::read(frame);
    let client = clients
        .iter_mut()
        .find(|client| {
            client.local.ip() == packet.dst && client.local.port() == packet.header.dst_port
        })
        .unwrap_or_else(|| panic!("a frame for nobody: {packet:?}"));
    client.hear(&packet, payload, now);
}

/// A request.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: sluice.test\r\n\r\n")
}

/// Gives helper threads of the disk a moment: the one thing that a turn cannot bring about.
pub fn wait_for_helpers() {
    thread::sleep(Duration::from_micros(50));
}

fn memory(setup: &Setup) -> (Queue, MemoryNic, Disk) {
    let mut umem = Umem::new(&UmemConfig {
        frames: setup.frames,
        block_bytes: setup.blocks * BLOCK_BYTES,
        huge_pages: HugePages::Off,
        tx_metadata: setup.offload,
    })
    .expect("memory");
    let blocks = umem.take_blocks().expect("blocks were asked for");
    let queue_config = QueueConfig {
        rx_ring: setup.rx_ring,
        tx_ring: setup.ring,
        fill_ring: setup.ring,
        completion_ring: setup.ring,
        multi_buffer: setup.multi_buffer,
        ..QueueConfig::new(0, 0)
    };
    // Shortly before the wrap of the ring indices.
    let (queue, nic) = Queue::in_memory(umem, &queue_config, u32::MAX - 100);
    let mut queue = queue.with_packet_frames(setup.packet_frames);
    if setup.zero_copy {
        queue = queue.with_zero_copy();
    }
    let disk_config = DiskConfig {
        threads: 2,
        files: 64,
        queue_depth: 64,
        direct_above: setup.direct_above,
        uploads: setup.uploads,
    };
    let disk = Disk::new(blocks, &disk_config).expect("helper threads");
    (queue, nic, disk)
}

fn worker_config(setup: &Setup) -> WorkerConfig {
    WorkerConfig {
        endpoints: vec![SERVER, SERVER6],
        owned: setup.owned.clone(),
        mac: SERVER_MAC,
        vlan: false,
        checksum_rx: setup.checksum_rx,
        poll: Poll::Busy,
        stack: StackConfig {
            time_wait: setup.time_wait,
            mtu: setup.mtu,
            receive_buffer: u32::try_from(INPUT_BYTES).expect("16 KiB"),
            send_limit: 62 * 65_536,
            pacing: setup.pacing.then(PacingConfig::default),
            ecn: sluice_tcp::ecn_terms::EcnConfig::ACCEPT,
            autotune: (setup.uploads.uploads > 0).then_some(Autotune {
                receive_max: u32::try_from(setup.uploads.blocks_each * BLOCK_BYTES).expect("small"),
                receive_budget: 0,
                send_budget: 1 << 22,
            }),
            ..StackConfig::new(setup.connections, [7; 16], Secret::new([9; 32]))
        },
    }
}
