//! What a queue is asked to be.

use crate::frame::Frames;
use crate::uapi::MIN_TX_BUDGET;
use crate::umem::Umem;

/// The largest ring: at 16 bytes an entry, 1 MiB.
const MAX_RING: u32 = 1 << 16;
/// The smallest ring holds a whole packet and the smallest budget.
const MIN_RING: u32 = 32;

/// How to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Zero copy if the driver can, else copy. The kernel falls back silently; [`Bound`](crate::Bound) tells.
    Auto,
    /// The kernel copies every packet. Works with every driver.
    Copy,
    /// Zero copy or an error.
    ZeroCopy,
}

/// What a queue is asked to be. Every ring size is a power of two from 32 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Interface index, in the network namespace of the thread that opens the queue.
    pub ifindex: u32,
    /// Queue of the interface, from 0.
    pub queue: u32,
    /// How to bind.
    pub bind: Bind,
    /// Entries of the RX ring (16 bytes each).
    pub rx_ring: u32,
    /// Entries of the TX ring (16 bytes each).
    pub tx_ring: u32,
    /// Entries of the fill ring (8 bytes each): the most frames that wait for packets. Best as large as the RX ring. In
    /// copy mode fewer wait while bursts are short: [`Queue::fill_depth`](crate::Queue::fill_depth).
    pub fill_ring: u32,
    /// Entries of the completion ring (8 bytes each): the most frames in flight.
    pub completion_ring: u32,
    /// Let packets span frames in both directions (`XDP_USE_SG`), where kernel and driver can:
    /// [`Bound::multi_buffer`](crate::Bound::multi_buffer) tells. Needed above 3,840 bytes. Kernels have it from 6.6 on,
    /// few drivers together with zero copy, which then goes without: where packets need it, ask for [`Bind::Copy`].
    pub multi_buffer: bool,
    /// Frames that one copy-mode kick may send; brought into 32 to `tx_ring`, what the kernel takes.
    pub tx_budget: u32,
    /// Socket buffer in bytes, which limits what is in flight in copy mode; 0 keeps the kernel's default, which stalls
    /// at about 92 full frames. More than `net.core.wmem_max` needs `CAP_NET_ADMIN`.
    pub send_buffer: usize,
}

impl QueueConfig {
    /// A queue with rings of 2,048 entries, multi-buffer, a budget of 1,024 and a 16 MiB socket buffer.
    #[must_use]
    pub fn new(ifindex: u32, queue: u32) -> Self {
        Self {
            ifindex,
            queue,
            bind: Bind::Auto,
            rx_ring: 2048,
            tx_ring: 2048,
            fill_ring: 2048,
            completion_ring: 2048,
            multi_buffer: true,
            tx_budget: 1024,
            send_buffer: 16 << 20,
        }
    }

    /// The first value out of range, as a sentence.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let rings = [
            (
                self.rx_ring,
                "rx_ring must be a power of two from 32 to 65536",
            ),
            (
                self.tx_ring,
                "tx_ring must be a power of two from 32 to 65536",
            ),
            (
                self.fill_ring,
                "fill_ring must be a power of two from 32 to 65536",
            ),
            (
                self.completion_ring,
                "completion_ring must be a power of two from 32 to 65536",
            ),
        ];
        for (entries, what) in rings {
            if !entries.is_power_of_two() || !(MIN_RING..=MAX_RING).contains(&entries) {
                return Err(what);
            }
        }
        if libc::c_int::try_from(self.send_buffer).is_err() {
            return Err("send_buffer must be below 2 GiB");
        }
        Ok(())
    }

    /// The budget within what the kernel takes.
    pub(crate) fn tx_budget(&self) -> u32 {
        self.tx_budget.clamp(MIN_TX_BUDGET, self.tx_ring)
    }

    /// Frames that receiving must leave for transmission: what the TX ring holds, but at most half of all, so that a
    /// receiver that keeps frames for long cannot silence the sender, nor the other way round.
    pub(crate) fn tx_reserve(&self, umem: &Umem) -> u32 {
        self.tx_ring.min(umem.frames() / 2)
    }

    /// The ownership of all frames of `umem`.
    pub(crate) fn frames(umem: &Umem) -> Frames {
        Frames::new(umem.frame_memory(), umem.tx_headroom())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_is_valid() {
        assert_eq!(QueueConfig::new(1, 0).check(), Ok(()));
    }

    #[test]
    fn ring_sizes_outside_the_range_are_named() {
        let good = QueueConfig::new(1, 0);
        for entries in [0, 16, 33, 1 << 17] {
            let bad = QueueConfig {
                fill_ring: entries,
                ..good
            };
            assert!(
                bad.check().is_err_and(|what| what.starts_with("fill_ring")),
                "{entries}"
            );
        }
    }

    #[test]
    fn the_budget_is_brought_into_the_range_of_the_kernel() {
        let config = QueueConfig {
            tx_ring: 64,
            ..QueueConfig::new(1, 0)
        };
        assert_eq!(
            QueueConfig {
                tx_budget: 0,
                ..config
            }
            .tx_budget(),
            32
        );
        assert_eq!(
            QueueConfig {
                tx_budget: 1000,
                ..config
            }
            .tx_budget(),
            64
        );
    }
}
