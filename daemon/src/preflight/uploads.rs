//! Where uploads are on: can files be stored, and as large as is allowed?

use super::{Check, Facts, Problem, Scope};
use crate::config::Config;
use crate::config::units::format_size;

pub(super) fn checks(config: &Config, facts: &Facts) -> Vec<Check> {
    if !config.upload.enabled {
        return Vec::new();
    }
    file_size(config, facts).into_iter().collect()
}

/// Beyond RLIMIT_FSIZE a write fails (EFBIG), however much was announced and sent before.
fn file_size(config: &Config, facts: &Facts) -> Option<Check> {
    let limit = facts.privileges.file_size?;
    let max_size = config.upload.max_size;
    if limit >= max_size {
        return None;
    }
    let limit = format_size(limit);
    Some(Check::warn(
        Scope::Service,
        Problem::new(
            format!(
                "upload.max_size is {}, but RLIMIT_FSIZE is {limit}",
                format_size(max_size)
            ),
            "longer uploads are answered 413 when they get there",
            format!("LimitFSIZE=infinity in the unit, or max_size = \"{limit}\""),
        ),
    ))
}
