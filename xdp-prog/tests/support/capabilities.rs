//! Capabilities of the calling thread: Linux keeps them per thread, so a test can drop its own and no other.

use std::io;

/// Number of `CAP_NET_ADMIN` (`linux/capability.h`).
pub const NET_ADMIN: u32 = 12;
/// Number of `CAP_BPF`.
pub const BPF: u32 = 39;

/// `_LINUX_CAPABILITY_VERSION_3`: two words for each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves this thread with exactly these capabilities, for the rest of its life.
pub fn keep_only(capabilities: &[u32]) {
    let mask = capabilities
        .iter()
        .fold(0u64, |mask, number| mask | 1 << number);
    let words = [mask & u64::from(u32::MAX), mask >> 32].map(|word| u32::try_from(word).unwrap());
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let sets = words.map(|word| Sets {
        effective: word,
        permitted: word,
        inheritable: 0,
    });
    // SAFETY: capset(2) reads a header and, for this version, two sets; both are locals with the kernel's layout that live
    // through the call. Pid 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    assert_eq!(result, 0, "capset: {}", io::Error::last_os_error());
}
