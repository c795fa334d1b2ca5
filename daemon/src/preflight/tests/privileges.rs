//! Capabilities, locked memory and descriptors that are missing.

use super::*;

#[test]
fn every_missing_capability_is_named() {
    let preflight = judged("", |facts| {
        facts.privileges.net_admin = false;
        facts.privileges.bpf = false;
    });
    assert_eq!(
        failures(&preflight),
        [
            "missing CAP_NET_ADMIN, CAP_BPF: uid 998 may not use AF_XDP -> run as root, or \
          AmbientCapabilities=CAP_NET_ADMIN CAP_BPF in the unit, or `setcap cap_net_admin,cap_bpf+ep` \
          on the binary"
        ]
    );
}

#[test]
fn root_of_a_user_namespace_is_not_enough() {
    let preflight = judged("", |facts| facts.privileges.initial_user_namespace = false);
    assert_eq!(
        failures(&preflight)[0],
        "capabilities are those of a user namespace: BPF programs and locked memory need them in the \
         initial one -> run outside of the user namespace (no userns remapping, no PrivateUsers=)"
    );
}

#[test]
fn memlock_too_small_for_the_umem() {
    let preflight = judged("", |facts| facts.privileges.ipc_lock = false);
    assert_eq!(
        failures(&preflight),
        ["memlock 8MiB < 128MiB UMEM and no CAP_IPC_LOCK \
          -> LimitMEMLOCK=infinity or AmbientCapabilities=CAP_IPC_LOCK or umem = \"4MiB\""]
    );
}

#[test]
fn memlock_that_suffices_passes_without_the_capability() {
    for limit in [Some(1 << 30), None] {
        let preflight = judged("", |facts| {
            facts.privileges.ipc_lock = false;
            facts.privileges.memlock = limit;
        });
        assert_eq!(failures(&preflight), [""; 0]);
    }
}

#[test]
fn the_fix_for_memlock_offers_no_umem_that_is_too_small() {
    let preflight = judged("", |facts| {
        facts.privileges.ipc_lock = false;
        facts.privileges.memlock = Some(7 << 20);
    });
    assert!(failures(&preflight)[0].ends_with("AmbientCapabilities=CAP_IPC_LOCK"));
}

#[test]
fn few_descriptors_are_a_warning_of_the_kernel_backend() {
    let preflight = judged("backend = \"kernel\"", |facts| {
        facts.privileges.descriptors = Some(1024);
        facts.cpus = vec![0];
    });
    let warnings: Vec<_> = preflight.warnings(ActiveBackend::Kernel).collect();
    assert_eq!(
        warnings[0].to_string(),
        "1024 descriptors allowed, 69776 wanted: the kernel backend serves 660 connections instead of \
         65536 -> LimitNOFILE=69776 or fewer limits.connections"
    );
}
