//! A frame onto a real link, by a packet socket at the other end of the veth pair.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sends `frame` out of this interface.
pub fn send(ifindex: u32, frame: &[u8]) {
    // SAFETY: socket(2) takes three integers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "socket(AF_PACKET): {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has its number.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().unwrap(),
        sll_protocol: 0,
        sll_ifindex: ifindex.try_into().unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the frame and the address are valid for the lengths given and live through the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>().try_into().unwrap(),
        )
    };
    assert_eq!(
        usize::try_from(sent).ok(),
        Some(frame.len()),
        "sendto: {}",
        io::Error::last_os_error()
    );
}
