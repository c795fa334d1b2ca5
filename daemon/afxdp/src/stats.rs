//! What a queue reports: how it is bound, what it counted, and what the kernel counted.

use crate::kick::Kick;

/// How a queue ended up, as read back after binding: not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The driver works on the UMEM directly. Otherwise the kernel copies every packet.
    pub zero_copy: bool,
    /// A checksum given to [`Queue::send`](crate::Queue::send) is filled in by kernel or NIC. False in zero-copy mode
    /// when the driver does not advertise it: several accept the request and ignore it.
    pub tx_checksum: bool,
    /// Packets may span several frames, in both directions.
    pub multi_buffer: bool,
    /// The most frames of one packet to send.
    pub max_packet_frames: usize,
    /// The whole UMEM lies on huge pages.
    pub huge_pages: bool,
    /// Frames one copy-mode kick may send; None if the kernel has no such option (32 then).
    pub tx_budget: Option<u32>,
    /// The kernel says when a kick is needed.
    pub need_wakeup: bool,
    /// Bytes of socket buffer that limit what is in flight in copy mode, as the kernel accounts them.
    pub send_buffer: usize,
}

/// What the kernel counted for this socket (`XDP_STATISTICS`), since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpStatistics {
    /// Packets dropped for other reasons than a full ring: no buffer, or too long for one frame without multi-buffer.
    pub rx_dropped: u64,
    /// Fill-ring entries the kernel refused.
    pub rx_invalid_descs: u64,
    /// TX entries the kernel refused. Stays 0; otherwise their frames never complete.
    pub tx_invalid_descs: u64,
    /// Packets dropped because the RX ring was full: the worker is too slow.
    pub rx_ring_full: u64,
    /// Times the kernel found the fill ring empty. Also counts where only transmission happens.
    pub rx_fill_ring_empty_descs: u64,
    /// Times the kernel found the TX ring empty.
    pub tx_ring_empty_descs: u64,
}

/// What the queue counted. All since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Whole packets received.
    pub rx_packets: u64,
    /// Frames of those packets.
    pub rx_frames: u64,
    /// RX entries that named a frame the kernel did not have. Stays 0.
    pub rx_invalid: u64,
    /// Packets thrown away because they had more than [`MAX_PACKET_FRAMES`](crate::MAX_PACKET_FRAMES) pieces or an
    /// invalid one.
    pub rx_broken_packets: u64,
    /// Whole packets put into the TX ring.
    pub tx_packets: u64,
    /// Frames of those packets, and slices of blocks.
    pub tx_frames: u64,
    /// Slices of blocks put into the TX ring.
    pub tx_slices: u64,
    /// Frames and slices not sent because the kernel would have refused them. Stays 0: a mistake of the caller.
    pub tx_refused: u64,
    /// Completed frames and slices taken back.
    pub completions: u64,
    /// Completions of what was not in flight. Stays 0.
    pub completions_invalid: u64,
    /// System calls to wake the transmit side.
    pub kicks: u64,
    /// Kicks answered "again": budget, completion ring, socket buffer or driver queue full. Nothing lost.
    pub kicks_again: u64,
    /// Kicks that returned success with packets left in the ring (copy mode).
    pub kicks_unfinished: u64,
    /// Kicks during which the driver or device dropped one frame.
    pub kicks_frame_lost: u64,
    /// Kicks that failed for want of memory. Nothing lost.
    pub kicks_no_memory: u64,
    /// Kicks while the interface was down or gone.
    pub kicks_down: u64,
    /// Kicks that failed for a reason that will not go away.
    pub kicks_wedged: u64,
    /// System calls to wake the receive side (zero copy).
    pub fill_wakeups: u64,
}

impl QueueCounters {
    /// Counts one kick; `success` is what the system call said.
    pub(crate) fn count_kick(&mut self, kick: Kick, success: bool) {
        self.kicks += 1;
        match kick {
            Kick::Idle | Kick::Done => {}
            Kick::Again if success => self.kicks_unfinished += 1,
            Kick::Again => self.kicks_again += 1,
            Kick::FrameLost => self.kicks_frame_lost += 1,
            Kick::NoMemory => self.kicks_no_memory += 1,
            Kick::Down | Kick::Gone => self.kicks_down += 1,
            Kick::Wedged(_) => self.kicks_wedged += 1,
        }
    }
}
