//! Where the XDP program runs on an interface, and why: one decision for start-up and `sluice doctor`.
//!
//! Native, in the driver, takes or drops a frame before the kernel has spent anything on it, and zero copy needs it. Generic,
//! behind the driver, receives what GRO or the TSO of a peer on the same machine made: packets of up to 64 KiB in one chain
//! of frames instead of one per segment. What a server of downloads receives is acknowledgements and requests, which are
//! small either way; downloads were as fast in both (docs/PERFORMANCE.md). So `auto` takes native wherever it can be had.

use sluice_xdp_prog::AttachMode;

use super::interface::NATIVE_LINEAR_MTU;
use super::link::InterfaceFacts;
use crate::config::{Attach, Config};

/// A mode to attach in and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachChoice {
    /// What is asked of the kernel.
    pub mode: AttachMode,
    /// One clause, for log and report.
    pub why: String,
}

/// The choice for an interface. It is that of the configuration if that names one.
#[must_use]
pub fn attach_choice(config: &Config, link: &InterfaceFacts) -> AttachChoice {
    let choice = |mode, why: String| AttachChoice { mode, why };
    match config.xdp.attach {
        Attach::Native => choice(AttachMode::Native, "as configured".to_owned()),
        Attach::Generic => choice(AttachMode::Generic, "as configured".to_owned()),
        Attach::Auto => automatic(link),
    }
}

fn automatic(link: &InterfaceFacts) -> AttachChoice {
    let driver = link.driver();
    let Some(features) = link.features else {
        return AttachChoice {
            mode: AttachMode::Auto,
            why: format!("this kernel does not tell what {driver} can: native is tried first"),
        };
    };
    if !features.native {
        // Not asked of the driver: it would only say the same, in a second warning.
        return AttachChoice {
            mode: AttachMode::Generic,
            why: format!("{driver} cannot redirect in the driver"),
        };
    }
    if link.mtu > NATIVE_LINEAR_MTU && !features.multi_buffer {
        return AttachChoice {
            mode: AttachMode::Generic,
            why: format!(
                "{driver} takes no fragments in native mode, and MTU {} needs them",
                link.mtu
            ),
        };
    }
    let zero_copy = match features.zero_copy {
        true => ", zero copy needs it",
        false => "",
    };
    let mut why = format!("{driver} can, and drops in it cost least{zero_copy}");
    if link.has_software_peer() {
        why += "; with \"generic\" downloads are as fast, and packets of up to 64 KiB arrive whole";
    }
    AttachChoice {
        mode: AttachMode::Auto,
        why,
    }
}

impl AttachChoice {
    /// The word of the mode that is tried first.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.mode {
            AttachMode::Auto | AttachMode::Native => "native",
            AttachMode::Generic => "generic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, good_link};
    use super::*;

    fn chosen(attach: &str, change: impl FnOnce(&mut InterfaceFacts)) -> AttachChoice {
        let mut link = good_link();
        change(&mut link);
        attach_choice(&config(&format!("attach = \"{attach}\"")), &link)
    }

    #[test]
    fn auto_is_native_where_the_driver_can_and_says_what_for() {
        let choice = chosen("auto", |_| ());
        assert_eq!(choice.mode, AttachMode::Auto);
        assert!(choice.why.contains("zero copy needs it"), "{}", choice.why);
        assert!(
            !choice.why.contains("64 KiB"),
            "a wire has no packets of 64 KiB"
        );
    }

    #[test]
    fn auto_says_what_a_veth_would_gain_from_generic() {
        let choice = chosen("auto", |link| {
            link.kind = Some("veth".to_owned());
            link.device = None;
        });
        assert_eq!(choice.name(), "native");
        assert!(choice.why.starts_with("veth can"), "{}", choice.why);
        assert!(choice.why.contains("with \"generic\""), "{}", choice.why);
    }

    #[test]
    fn auto_is_generic_where_the_driver_cannot_redirect_or_has_no_fragments_for_the_mtu() {
        let features = |link: &mut InterfaceFacts, native, multi_buffer| {
            if let Some(features) = &mut link.features {
                (features.native, features.multi_buffer) = (native, multi_buffer);
            }
        };
        let unable = chosen("auto", |link| features(link, false, false));
        assert_eq!(unable.mode, AttachMode::Generic);
        assert_eq!(unable.why, "ice cannot redirect in the driver");
        let jumbo = chosen("auto", |link| {
            features(link, true, false);
            link.mtu = 9000;
        });
        assert_eq!(jumbo.mode, AttachMode::Generic);
        assert!(jumbo.why.contains("MTU 9000"), "{}", jumbo.why);
    }

    #[test]
    fn what_is_configured_is_not_discussed() {
        assert_eq!(chosen("native", |_| ()).mode, AttachMode::Native);
        assert_eq!(chosen("generic", |_| ()).mode, AttachMode::Generic);
        assert_eq!(chosen("generic", |_| ()).why, "as configured");
    }

    #[test]
    fn a_kernel_that_does_not_tell_is_asked_by_trying() {
        let choice = chosen("auto", |link| link.features = None);
        assert_eq!(choice.mode, AttachMode::Auto);
        assert!(choice.why.contains("tried first"));
    }
}
