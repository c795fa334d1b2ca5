//! The loaded program as a function: bytes in, verdict and counter out (`BPF_PROG_TEST_RUN`).

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;
use sluice_xdp_prog::{Reason, Steer, SteerConfig, Verdict};

use super::{QUEUES, namespace};

/// A program with the interface its frames are said to come from.
pub struct Rig {
    pub steer: Steer,
    pub ifindex: u32,
    sockets: Vec<OwnedFd>,
}

impl Rig {
    /// Loads the program, with a socket in no slot, and not enabled.
    pub fn bare(config: &SteerConfig) -> Self {
        let (ifindex, _) = namespace::veth();
        let steer = Steer::load(config).unwrap_or_else(|error| panic!("{error}"));
        Self {
            steer,
            ifindex,
            sockets: Vec::new(),
        }
    }

    /// As in service: a socket in every slot, enabled.
    pub fn serving(config: &SteerConfig) -> Self {
        let mut rig = Self::bare(config);
        for queue in 0..QUEUES {
            rig.insert_socket(queue);
        }
        rig.steer.set_enabled(true).unwrap();
        rig
    }

    /// An AF_XDP socket for a slot. Test runs stop at the verdict, so it needs neither UMEM nor binding.
    pub fn insert_socket(&mut self, queue: u32) {
        let socket = xdp_socket();
        self.steer.insert_socket(queue, socket.as_fd()).unwrap();
        self.sockets.push(socket);
    }

    /// Closes every socket, as a crash of a worker would.
    pub fn close_sockets(&mut self) {
        self.sockets.clear();
    }

    /// Runs a frame of queue 0 and returns the reason whose counter rose, checked against the verdict.
    pub fn reason(&self, frame: &[u8]) -> Reason {
        self.reason_on_queue(frame, 0)
    }

    /// Runs a frame of this queue and returns the reason whose counter rose, checked against the verdict.
    pub fn reason_on_queue(&self, frame: &[u8], queue: u32) -> Reason {
        let before = self.steer.counters().unwrap();
        let verdict = self.verdict(frame, queue);
        let after = self.steer.counters().unwrap();
        let risen: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|((_, before), (_, after))| before != after)
            .map(|((reason, before), (_, after))| (*reason, after - before))
            .collect();
        match risen[..] {
            [(reason, 1)] => {
                assert_eq!(verdict, reason.verdict(), "counted as {reason}");
                reason
            }
            _ => panic!("one frame, verdict {verdict}, counters that rose: {risen:?}"),
        }
    }

    /// Checks each (name, frame, reason) and reports all that differ.
    pub fn check(&self, cases: &[(&str, Vec<u8>, Reason)]) {
        let wrong: Vec<_> = cases
            .iter()
            .map(|(name, frame, expected)| (name, *expected, self.reason(frame)))
            .filter(|(_, expected, got)| expected != got)
            .map(|(name, expected, got)| format!("{name}: expected {expected}, got {got}"))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Runs a frame and returns what became of it.
    pub fn verdict(&self, frame: &[u8], queue: u32) -> Verdict {
        self.run(frame, queue, 1).0
    }

    /// Nanoseconds that the program takes for this frame: the mean of `runs` in a row, as the kernel measured it.
    pub fn cost_ns(&self, frame: &[u8], runs: u32) -> u32 {
        self.run(frame, 0, runs).1
    }

    fn run(&self, frame: &[u8], queue: u32, runs: u32) -> (Verdict, u32) {
        run(self.steer.as_fd(), self.ifindex, frame, queue, runs)
    }
}

/// What a program says to a frame of this queue of the interface, and the mean time of `runs` in nanoseconds.
pub fn run(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
    queue: u32,
    runs: u32,
) -> (Verdict, u32) {
    let length = u32::try_from(frame.len()).unwrap();
    let context = libbpf_sys::xdp_md {
        data_end: length,
        ingress_ifindex: ifindex,
        rx_queue_index: queue,
        ..Default::default()
    };
    let mut options = libbpf_sys::bpf_test_run_opts::default();
    options.sz = size_of_val(&options) as libbpf_sys::size_t;
    options.data_in = frame.as_ptr().cast();
    options.data_size_in = length;
    options.ctx_in = (&raw const context).cast();
    options.ctx_size_in = u32::try_from(size_of_val(&context)).unwrap();
    options.repeat = i32::try_from(runs).unwrap();
    // SAFETY: `options` is a local whose `sz` is its own size; its two input pointers are the frame and the context,
    // which outlive the call, each with its length; it has no output pointers.
    let result =
        unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    assert_eq!(
        result,
        0,
        "test run of {length} bytes: {}",
        io::Error::from_raw_os_error(-result)
    );
    let verdict = match options.retval {
        libbpf_sys::XDP_PASS => Verdict::Pass,
        libbpf_sys::XDP_DROP => Verdict::Drop,
        libbpf_sys::XDP_REDIRECT => Verdict::Redirect,
        action => panic!("XDP action {action}"),
    };
    (verdict, options.duration)
}

/// An unbound AF_XDP socket.
pub fn xdp_socket() -> OwnedFd {
    // SAFETY: socket(2) takes three integers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "socket(AF_XDP): {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
