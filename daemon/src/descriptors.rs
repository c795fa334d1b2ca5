//! Room for descriptors, made before there are threads.
//!
//! The kernel's table of them grows when an open needs it, and in a process with threads that open then waits until every
//! processor has passed a quiet moment (`synchronize_rcu` in `expand_fdtable`, fs/file.c): milliseconds, in which a
//! worker's packets lie. The table never shrinks: a descriptor with a high number, closed at once, makes it large for ever.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// Makes the table of this process as large as `count` descriptors need, as far as its limit allows; 8 bytes for each.
///
/// Fails silently: then the table grows when it has to.
pub fn make_room(count: u64) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let Ok(highest) = i32::try_from(count.min(limit).saturating_sub(1)) else {
        return;
    };
    if let Ok(any) = eventfd(0, EventfdFlags::CLOEXEC) {
        drop(fcntl_dupfd_cloexec(any, highest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Descriptors for which the table has room.
    fn room() -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        let count = line.and_then(|count| count.trim().parse().ok());
        count.expect("proc_pid_status(5)")
    }

    #[test]
    fn the_table_grows_at_once() {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let wanted = (room() + 1).min(limit);
        make_room(wanted);
        assert!(room() >= wanted, "{} of {wanted}", room());
    }
}
