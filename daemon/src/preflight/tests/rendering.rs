//! The report of `sluice doctor`.

use super::*;

#[test]
fn a_good_machine_reads_like_this() {
    assert_eq!(
        judged("", |_| ()).render(),
        "\
PASS kernel 6.18.44: AF_XDP, multi-buffer, TX checksum requests
PASS capabilities NET_ADMIN NET_RAW BPF
PASS memlock: 128MiB UMEM, CAP_IPC_LOCK held
PASS eth1: up, ice, MTU 1500
PASS MTU 1500 fits
PASS no XDP program on eth1
PASS eth1 (ice): native XDP yes, zero copy yes; attach native: ice can, and drops in it cost least, zero copy needs it
PASS eth1: 2 receive queues
PASS TX lane gather: ice reads the memory itself and takes 8 pieces of a packet, so payload leaves from the file blocks
INFO receive checksums: verified
PASS addresses 192.0.2.10
PASS ports free: 8080
PASS root /srv/files is readable
0 FAIL, 0 WARN: AF_XDP starts
"
    );
}

#[test]
fn problems_stand_with_their_fix() {
    let text = judged("queues = [0]", |facts| facts.privileges.ipc_lock = false).render();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[2],
        "FAIL memlock 8MiB < 64MiB UMEM and no CAP_IPC_LOCK      \
         -> LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK or umem = \"8MiB\""
    );
    assert_eq!(
        lines.last().copied(),
        Some(
            "1 FAIL, 1 WARN: AF_XDP would not start; backend = \"auto\" falls back to kernel sockets"
        )
    );
}
