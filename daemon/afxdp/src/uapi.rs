//! Numbers and layouts of the kernel interface that the `libc` crate does not name.
//!
//! Source: `include/uapi/linux/if_xdp.h` and `Documentation/networking/af_xdp.rst` of Linux 6.18. Everything here is
//! layout; the decisions are in the modules that use it.

/// Bytes of one UMEM chunk: one page, so that a chunk never crosses one and every length fits in 16 bits.
pub const CHUNK_BYTES: usize = 4096;

/// Bytes the kernel keeps free in front of a received packet (`XDP_PACKET_HEADROOM`).
pub const RX_HEADROOM: usize = 256;

/// The most bytes of a packet that one receive frame holds; a longer packet becomes a chain of frames.
pub const RX_FRAME_BYTES: usize = CHUNK_BYTES - RX_HEADROOM;

/// Bytes in front of every transmit buffer when the UMEM was made with `tx_metadata` (flags and checksum request of
/// `struct xsk_tx_metadata`; the launch time that would follow is not used). A multiple of 8, as the kernel demands.
pub const TX_METADATA_BYTES: usize = TX_HEADROOM as usize;

/// The same as an offset in a chunk, of which every one fits in 16 bits.
pub(crate) const TX_HEADROOM: u16 = 16;

/// The most frames of one packet, in both directions: one linear part and `MAX_SKB_FRAGS` (17) fragments.
///
/// A transmitted packet of more descriptors is dropped by the kernel *without completing its frames*.
pub const MAX_PACKET_FRAMES: usize = 18;

/// The least bytes of a transmitted packet's first frame: an Ethernet header, which drivers read unchecked.
pub const MIN_TX_BYTES: u32 = 14;

/// The least value of the TX budget socket option (`TX_BATCH_SIZE` of `net/xdp/xsk.c`), and its default.
pub const MIN_TX_BUDGET: u32 = 32;

/// Socket option: frames that one copy-mode kick may send. Newer than the headers of the distribution.
pub(crate) const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Descriptor options that say more of the same packet follows, and that metadata lies in front of the packet.
pub(crate) const PKT_CONTD: u32 = libc::XDP_PKT_CONTD;
pub(crate) const TX_METADATA: u32 = libc::XDP_TX_METADATA;

/// `XDP_TXMD_FLAGS_CHECKSUM` in the 64-bit flags word that starts the metadata.
pub(crate) const TXMD_FLAGS_CHECKSUM: u64 = libc::XDP_TXMD_FLAGS_CHECKSUM as u64;

/// Bit of a ring's flags word.
pub(crate) const RING_NEED_WAKEUP: u32 = libc::XDP_RING_NEED_WAKEUP;

/// An entry of the RX and TX rings (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desc {
    /// Offset of the first byte in the UMEM.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`PKT_CONTD`], [`TX_METADATA`].
    pub options: u32,
}

const _: () = assert!(size_of::<Desc>() == size_of::<libc::xdp_desc>());
