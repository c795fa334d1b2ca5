//! Kernels without AF_XDP, and those that have a part of it.

use super::*;

#[test]
fn no_af_xdp_in_the_kernel() {
    let preflight = judged("", |facts| facts.af_xdp = false);
    assert_eq!(
        failures(&preflight),
        [
            "kernel 6.18.44 has no AF_XDP: socket(AF_XDP) says EAFNOSUPPORT \
          -> use a kernel built with CONFIG_XDP_SOCKETS=y, or backend = \"kernel\""
        ]
    );
}

#[test]
fn old_kernels_fail_or_warn() {
    let judged_on = |release: &str| judged("", |facts| facts.kernel_release = release.to_owned());
    assert_eq!(
        serves(&judged_on("5.4.0-150-generic")),
        Some(ActiveBackend::Kernel)
    );
    assert_eq!(serves(&judged_on("5.15.0")), Some(ActiveBackend::Kernel));
    assert_eq!(
        serves(&judged_on("6.1.0-28-amd64")),
        Some(ActiveBackend::Xdp)
    );
    assert!(warnings(&judged_on("6.1.0-28-amd64"))[0].contains("no multi-buffer AF_XDP"));
    assert_eq!(warnings(&judged_on("6.6.0")), [""; 0]);
    assert_eq!(failures(&judged_on("strange")), [""; 0]);
}

#[test]
fn checksums_are_not_asked_of_kernels_that_forget_the_request() {
    let hears = |release: Option<(u32, u32)>, driver| {
        hears_tx_metadata(release.map(|(major, minor)| Release(major, minor)), driver)
    };
    assert!(!hears(Some((6, 12)), "virtio_net"));
    assert!(!hears(None, "virtio_net"));
    assert!(hears(Some((6, 18)), "virtio_net"));
    assert!(hears(Some((6, 12)), "igb"));
    assert!(hears(Some((6, 12)), "veth"));
}
