//! Where the XDP program runs on an interface, and why: one decision for start-up and `sluice doctor`.
//!
//! Native, in the driver, takes or drops a frame before the kernel has spent anything on it, and zero copy needs it. Generic,
//! behind the driver, receives what GRO or the TSO of a peer on the same machine made: packets of up to 64 KiB in one chain
//! of frames instead of one per segment. What a server of downloads receives is acknowledgements and requests, which are
//! small either way, and downloads were as fast in both; uploads were up to twice as fast in generic mode (docs/PERFORMANCE.md,
//! "Uploads"). So `auto` takes generic where uploads are enabled and the driver has no zero copy, which nothing makes up
//! for, and native everywhere else.

use sluice_xdp_prog::AttachMode;

use super::interface::NATIVE_LINEAR_MTU;
use super::kernel::{MULTI_BUFFER, Release};
use super::link::InterfaceFacts;
use crate::config::{Attach, Bind, Config, Napi};

/// A mode to attach in and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachChoice {
    /// What is asked of the kernel.
    pub mode: AttachMode,
    /// One clause, for log and report.
    pub why: String,
}

/// The choice for an interface on a kernel of this release. It is that of the configuration if that names one.
#[must_use]
pub fn attach_choice(
    config: &Config,
    link: &InterfaceFacts,
    kernel: Option<Release>,
) -> AttachChoice {
    let choice = |mode, why: String| AttachChoice { mode, why };
    match config.xdp.attach {
        Attach::Native => choice(AttachMode::Native, "as configured".to_owned()),
        Attach::Generic => choice(AttachMode::Generic, "as configured".to_owned()),
        Attach::Auto => automatic(config, link, kernel),
    }
}

fn automatic(config: &Config, link: &InterfaceFacts, kernel: Option<Release>) -> AttachChoice {
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
    let zero_copy = features.zero_copy && config.xdp.bind != Bind::Copy && link.fits_zero_copy();
    let obstacle = match zero_copy {
        true => Some(ZERO_COPY),
        false => obstacle(config, kernel),
    };
    match obstacle {
        Some(obstacle) => AttachChoice {
            mode: AttachMode::Auto,
            why: format!("{driver} can, and drops in it cost least{obstacle}"),
        },
        None => AttachChoice {
            mode: AttachMode::Generic,
            why: format!(
                "uploads are enabled and there is no zero copy with {driver} here: behind it packets of up to 64 KiB arrive whole"
            ),
        },
    }
}

const ZERO_COPY: &str = ", zero copy needs it";

/// Why uploads do not decide for generic, where the driver has no zero copy. The end of a sentence.
fn obstacle(config: &Config, kernel: Option<Release>) -> Option<&'static str> {
    if !config.upload.enabled {
        Some("; downloads are as fast either way, and no uploads are enabled")
    } else if kernel.is_none_or(|kernel| kernel < MULTI_BUFFER) {
        Some(
            "; this kernel has no packets of several frames over AF_XDP, which uploads would gain from",
        )
    } else if config.xdp.bind == Bind::ZeroCopy {
        Some(ZERO_COPY)
    } else if config.xdp.napi == Napi::Threaded {
        // A veth behind its driver has no NAPI instance.
        Some(", napi = \"threaded\" needs it")
    } else {
        None
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
        let config = config(&format!("attach = \"{attach}\""));
        attach_choice(&config, &link, Some(MULTI_BUFFER))
    }

    /// On a veth, with uploads enabled and more to say in `[xdp]`.
    fn chosen_for_uploads(xdp: &str, kernel: Release, zero_copy: bool) -> AttachChoice {
        let mut link = good_link();
        (link.kind, link.device) = (Some("veth".to_owned()), None);
        if let Some(features) = &mut link.features {
            features.zero_copy = zero_copy;
        }
        let config = config(&format!("{xdp}\n[upload]\nenabled = true"));
        attach_choice(&config, &link, Some(kernel))
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
    fn auto_is_native_without_zero_copy_where_nothing_is_uploaded() {
        let choice = chosen("auto", |link| {
            (link.kind, link.device) = (Some("veth".to_owned()), None);
            if let Some(features) = &mut link.features {
                features.zero_copy = false;
            }
        });
        assert_eq!(choice.name(), "native");
        assert!(choice.why.starts_with("veth can"), "{}", choice.why);
        assert!(choice.why.contains("no uploads"), "{}", choice.why);
    }

    #[test]
    fn auto_is_generic_for_uploads_and_says_so() {
        let choice = chosen_for_uploads("", MULTI_BUFFER, false);
        assert_eq!(choice.mode, AttachMode::Generic);
        assert!(choice.why.contains("uploads are enabled"), "{}", choice.why);
        let unused = chosen_for_uploads("bind = \"copy\"", MULTI_BUFFER, true);
        assert_eq!(unused.mode, AttachMode::Generic, "zero copy is not used");
        let configured = chosen_for_uploads("attach = \"native\"", MULTI_BUFFER, false);
        assert_eq!(configured.mode, AttachMode::Native);
    }

    #[test]
    fn uploads_do_not_cost_zero_copy_nor_packets_nor_threads() {
        let cases = [
            (chosen_for_uploads("", MULTI_BUFFER, true), "zero copy"),
            (
                chosen_for_uploads("", Release(6, 5), false),
                "several frames",
            ),
            (
                chosen_for_uploads("napi = \"threaded\"", MULTI_BUFFER, false),
                "threaded",
            ),
            (
                chosen_for_uploads("bind = \"zerocopy\"", MULTI_BUFFER, false),
                "zero copy",
            ),
        ];
        for (choice, why) in cases {
            assert_eq!(choice.mode, AttachMode::Auto, "{why}");
            assert!(choice.why.contains(why), "{}", choice.why);
        }
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
