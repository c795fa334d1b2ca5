//! MTUs that are too large for a packet of AF_XDP.

use super::*;

#[test]
fn mtu_too_large_for_a_chain() {
    let preflight = judged_link("", |link| link.mtu = 70_000);
    assert_eq!(
        failures(&preflight),
        [
            "eth1 has MTU 70000, too large: a packet has at most 18 frames: at most 69098 \
          -> ip link set dev eth1 mtu 69098"
        ]
    );
}

#[test]
fn mtu_too_large_for_an_old_kernel() {
    let preflight = judged("", |facts| {
        facts.kernel_release = "6.1.0".to_owned();
        if let Some(Ok(link)) = &mut facts.interface {
            link.mtu = 9000;
        }
    });
    assert_eq!(
        failures(&preflight),
        [
            "eth1 has MTU 9000, too large: this kernel has no multi-buffer AF_XDP: at most 3818 \
          -> ip link set dev eth1 mtu 3818"
        ]
    );
}

#[test]
fn mtu_too_large_for_native_mode_without_fragments() {
    let without = |link: &mut InterfaceFacts| {
        link.mtu = 9000;
        link.features.as_mut().unwrap().multi_buffer = false;
    };
    let preflight = judged_link("attach = \"native\"", without);
    assert_eq!(
        failures(&preflight),
        [
            "eth1 has MTU 9000, too large: the driver (ice) takes no fragments in native mode: at most 3506 \
          -> ip link set dev eth1 mtu 3506, or attach = \"generic\""
        ]
    );
    assert_eq!(failures(&judged_link("", without)), [""; 0]);
}

#[test]
fn mtu_too_large_for_zero_copy() {
    let one_segment = |link: &mut InterfaceFacts| {
        link.mtu = 9000;
        link.features.as_mut().unwrap().zero_copy_segments = 1;
    };
    let preflight = judged_link("bind = \"zerocopy\"", one_segment);
    assert_eq!(
        failures(&preflight),
        [
            "eth1 has MTU 9000, too large: the driver (ice) takes 1 zero-copy buffers per packet: at most 3434 \
          -> ip link set dev eth1 mtu 3434, or bind = \"copy\""
        ]
    );
    assert_eq!(failures(&judged_link("", one_segment)), [""; 0]);
}
