//! An XDP program of somebody else, attached the old way (netlink), as other tools do.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::ptr;

use libbpf_rs::libbpf_sys::{self, bpf_insn};
use libbpf_rs::{Program, Xdp, XdpFlags};

/// Loads a program that passes everything, under this name.
pub fn load(name: &str) -> OwnedFd {
    let mut set_r0 = bpf_insn {
        code: 0xb7,
        imm: 2,
        ..Default::default()
    };
    set_r0.set_dst_reg(0);
    let exit = bpf_insn {
        code: 0x95,
        ..Default::default()
    };
    let program = [set_r0, exit];
    let name = CString::new(name).unwrap();
    // SAFETY: name and licence are NUL-terminated, `program` holds two instructions, all live through the call; null
    // options are allowed.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as libbpf_sys::size_t,
            ptr::null_mut(),
        )
    };
    assert!(
        fd >= 0,
        "bpf_prog_load: {}",
        io::Error::from_raw_os_error(-fd)
    );
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Attaches the program without a link: it stays until the interface goes. Returns its id.
pub fn attach(program: &OwnedFd, ifindex: u32, flags: XdpFlags) -> u32 {
    let ifindex = i32::try_from(ifindex).unwrap();
    Xdp::new(program.as_fd()).attach(ifindex, flags).unwrap();
    Program::id_from_fd(program.as_fd()).unwrap()
}
