//! Why the queues are bound as they are, for the log, where `bind = "auto"` left the choice.
//!
//! The choice itself is the kernel's: zero copy is asked for where it can be had, and binding has the last word
//! (Documentation/networking/af_xdp.rst, XDP_COPY and XDP_ZEROCOPY).

use super::InterfaceFacts;

/// One clause: why a queue of this interface has zero copy, or why the kernel copies. `is_native`: the program runs in the
/// driver.
#[must_use]
pub fn why_bound(link: &InterfaceFacts, is_native: bool, zero_copy: bool) -> String {
    let driver = link.driver();
    if zero_copy {
        return format!("{driver} reads and writes the memory of packets itself");
    }
    match link.features {
        Some(features) if !features.zero_copy => {
            format!("{driver} has no zero copy in this kernel")
        }
        _ if !is_native => {
            "the program runs behind the driver, where zero copy does not reach".to_owned()
        }
        Some(features) if !link.fits_zero_copy() => format!(
            "a packet of MTU {} needs more buffers than {driver} takes for one with zero copy ({})",
            link.mtu, features.zero_copy_segments
        ),
        _ => format!("{driver} refused zero copy"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::good_link;
    use super::*;

    #[test]
    fn what_keeps_a_queue_from_zero_copy_is_named() {
        let mut link = good_link();
        let features = link.features.expect("a kernel that tells");
        assert!(why_bound(&link, true, true).contains("ice reads and writes"));
        assert!(why_bound(&link, true, false).contains("ice refused"));
        assert!(why_bound(&link, false, false).contains("behind the driver"));
        link.mtu = 9000;
        link.features.as_mut().expect("the same").zero_copy_segments = 1;
        let jumbo = why_bound(&link, true, false);
        assert!(
            jumbo.contains("MTU 9000") && jumbo.ends_with("(1)"),
            "{jumbo}"
        );
        link.features = Some(super::super::XdpFeatures {
            zero_copy: false,
            ..features
        });
        assert!(why_bound(&link, true, false).contains("ice has no zero copy"));
        link.features = None;
        assert!(why_bound(&link, true, false).contains("ice refused"));
    }
}
