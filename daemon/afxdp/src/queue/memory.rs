//! A queue whose other side is in memory.

use std::sync::Arc;

use super::{BlockArea, FillDepth, Queue, QueueConfig};
use crate::port::{Port, Switchboard};
use crate::ring::{Consumer, Producer, Ring};
use crate::stats::{Bound, QueueCounters};
use crate::testing::{BlockReader, MemoryNic};
use crate::uapi::MAX_PACKET_FRAMES;
use crate::umem::Umem;

impl Queue {
    /// A queue and the kernel's side of it, over rings in ordinary memory: no interface, no privilege.
    ///
    /// All indices start at `start_index`; take a random one, or one shortly below `u32::MAX`, so that wrapping is
    /// daily bread. Interface, queue, bind mode and socket buffer of `config` are ignored. It reports copy mode.
    ///
    /// # Panics
    /// If a size in `config` is out of range, or the process has no two file descriptors left, for the event and the blocks.
    #[must_use]
    pub fn in_memory(umem: Umem, config: &QueueConfig, start_index: u32) -> (Self, MemoryNic) {
        config.check().expect("a valid configuration");
        let (rx, nic_rx) = Ring::heap(config.rx_ring, start_index);
        let (tx, nic_tx) = Ring::heap(config.tx_ring, start_index);
        let (fill, nic_fill) = Ring::heap(config.fill_ring, start_index);
        let (completion, nic_completion) = Ring::heap(config.completion_ring, start_index);
        let switchboard = Arc::new(Switchboard::new().expect("a file descriptor for the event"));
        let nic = MemoryNic::new(
            Consumer::new(nic_fill),
            Producer::new(nic_completion),
            Producer::new(nic_rx),
            Consumer::new(nic_tx),
            umem.frame_memory(),
            BlockReader::new(&umem).expect("a file descriptor for the blocks"),
            umem.tx_headroom().into(),
            config.multi_buffer,
            Arc::clone(&switchboard),
        );
        let mut queue = Self {
            rx: Consumer::new(rx),
            tx: Producer::new(tx),
            fill: Producer::new(fill),
            completion: Consumer::new(completion),
            port: Port::Memory(switchboard),
            frames: QueueConfig::frames(&umem),
            fill_depth: FillDepth::full(config.fill_ring).adapting(),
            blocks: BlockArea::of(&umem),
            bound: Bound {
                zero_copy: false,
                tx_checksum: umem.tx_headroom() > 0,
                multi_buffer: config.multi_buffer,
                max_packet_frames: if config.multi_buffer {
                    MAX_PACKET_FRAMES
                } else {
                    1
                },
                huge_pages: umem.huge_pages(),
                tx_budget: Some(config.tx_budget()),
                need_wakeup: true,
                send_buffer: config.send_buffer,
            },
            counters: QueueCounters::default(),
            completion_entries: config.completion_ring,
            tx_reserve: config.tx_reserve(&umem),
            tx_open: 0,
            rx_broken: false,
            umem,
        };
        queue.refill();
        (queue, nic)
    }

    /// Keeps the whole fill ring full, as in zero-copy mode, which it reports.
    #[must_use]
    pub fn with_zero_copy(mut self) -> Self {
        self.bound.zero_copy = true;
        self.fill_depth = FillDepth::full(self.fill_depth.ring());
        self.refill();
        self
    }

    /// Takes at most `frames` frames and slices for a packet, as with a driver of fewer segments in zero-copy mode.
    #[must_use]
    pub fn with_packet_frames(mut self, frames: usize) -> Self {
        self.bound.max_packet_frames = self.bound.max_packet_frames.min(frames).max(1);
        self
    }
}
