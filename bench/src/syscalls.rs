//! System calls of a server, counted by the kernel: the tracepoint at the entry of every call, through perf-stat(1).
//!
//! Counting costs each call some hundred nanoseconds, so it is never done in a run whose speed is measured. It is the same
//! for every server, asks nothing of it, and covers all of its threads, those that it starts later too. perf attaches
//! with the counters off; they run between [`Counter::begin`] and [`Counter::end`].

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::error::Error;
use crate::lab::spawning;

const PERF: &str = "perf";
/// Every call; with a filter by number, every call of a kind. One tracepoint for all: each other one that perf attaches to
/// costs it 40 ms to leave.
const EVENT: &str = "raw_syscalls:sys_enter";

/// Names and numbers of calls.
macro_rules! calls {
    ($($number:ident)*) => { &[$((stringify!($number), nix::libc::$number)),*] };
}

/// The calls that data servers make.
const KINDS: &[(&str, nix::libc::c_long)] = calls![
    SYS_sendto SYS_sendmsg SYS_sendmmsg SYS_recvfrom SYS_recvmsg SYS_sendfile SYS_splice SYS_write SYS_writev
    SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readv SYS_pread64 SYS_preadv2 SYS_openat SYS_openat2 SYS_close
    SYS_fstat SYS_newfstatat SYS_statx SYS_fdatasync SYS_fsync SYS_fallocate SYS_ftruncate SYS_linkat SYS_unlinkat
    SYS_renameat2 SYS_ppoll SYS_epoll_pwait SYS_epoll_pwait2 SYS_epoll_ctl SYS_accept4 SYS_setsockopt SYS_fcntl
    SYS_shutdown SYS_io_uring_enter SYS_sched_yield SYS_futex
];
/// Those that only older architectures have.
#[cfg(target_arch = "x86_64")]
const OLD_KINDS: &[(&str, nix::libc::c_long)] =
    calls![SYS_poll SYS_epoll_wait SYS_unlink SYS_rename];
#[cfg(not(target_arch = "x86_64"))]
const OLD_KINDS: &[(&str, nix::libc::c_long)] = &[];
/// What precedes the name of a call.
const PREFIX: &str = "SYS_";
/// What is none of them. No call of any kernel is called so.
const OTHER: &str = "other";
const EVENTS: &str = "/sys/kernel/tracing/events";
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls between two moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All of them.
    pub total: u64,
    /// Those of a kind, the most frequent first, with what is no kind as `other`; kinds that did not occur are missing.
    pub by_kind: Vec<(String, u64)>,
}

/// Counts the calls of one process.
pub struct Counter {
    perf: Child,
    control: File,
    answers: File,
    output: PathBuf,
    /// What perf wrote to stderr.
    said: PathBuf,
}

/// Why calls cannot be counted here, if they cannot.
pub fn missing() -> Option<&'static str> {
    if !Path::new(EVENTS).join(EVENT.replace(':', "/")).exists() {
        return Some("the kernel has no tracepoint of system calls, or tracefs is not mounted");
    }
    let perf = Command::new(PERF)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    (!perf.is_ok_and(|status| status.success()))
        .then_some("perf is not installed: apt-get install linux-perf")
}

impl Counter {
    /// Attaches to a process; its files are in `scratch`.
    pub fn attach(pid: u32, scratch: &Path) -> Result<Counter, Error> {
        let [control, answers] = ["perf-control", "perf-answers"].map(|name| scratch.join(name));
        for path in [&control, &answers] {
            let _ = fs::remove_file(path);
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|error| Error::io(path.display().to_string())(error.into()))?;
        }
        let (output, said) = (scratch.join("perf-counts"), scratch.join("perf-said"));
        let stderr = File::create(&said).map_err(Error::io(said.display().to_string()))?;
        let perf = Command::new(PERF)
            .args(["stat", "-x", ",", "-D", "-1", "-e", EVENT])
            .args(filters())
            .args(["-p", &pid.to_string(), "--control"])
            .arg(format!("fifo:{},{}", control.display(), answers.display()))
            .arg("-o")
            .arg(&output)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(spawning(PERF))?;
        // For both directions, so that opening waits for nobody.
        let open = |path: &Path| {
            let file = File::options().read(true).write(true).open(path);
            file.map_err(Error::io(path.display().to_string()))
        };
        Ok(Counter {
            perf,
            control: open(&control)?,
            answers: open(&answers)?,
            output,
            said,
        })
    }

    /// Counts from now on.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.tell("enable\n")
    }

    /// Counts no more.
    pub fn end(&mut self) -> Result<(), Error> {
        self.tell("disable\n")
    }

    /// Ends perf and takes what it counted.
    pub fn finish(mut self) -> Result<Calls, Error> {
        let pid = Pid::from_raw(i32::try_from(self.perf.id()).unwrap_or(i32::MAX));
        kill(pid, Signal::SIGINT).map_err(|error| Error::io(PERF)(error.into()))?;
        self.perf.wait().map_err(Error::io(PERF))?;
        let text = fs::read_to_string(&self.output).map_err(Error::io(PERF))?;
        read_counts(&text).ok_or_else(|| self.failure())
    }

    /// Gives a command and waits until it was obeyed.
    fn tell(&mut self, command: &str) -> Result<(), Error> {
        self.control
            .write_all(command.as_bytes())
            .map_err(Error::io(PERF))?;
        // It answers "ack" and a newline, in older versions a zero after it.
        let end = Instant::now() + PATIENCE;
        let mut byte = [0];
        while byte != *b"\n" {
            self.wait_for_answer(end)?;
            self.answers
                .read_exact(&mut byte)
                .map_err(Error::io(PERF))?;
        }
        Ok(())
    }

    fn wait_for_answer(&mut self, end: Instant) -> Result<(), Error> {
        use std::os::fd::AsFd;
        loop {
            let fd = PollFd::new(self.answers.as_fd(), PollFlags::POLLIN);
            let readable = poll(&mut [fd], PollTimeout::from(100u8));
            if readable.is_ok_and(|count| count > 0) {
                return Ok(());
            }
            if Instant::now() > end || self.perf.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Err(self.failure());
            }
        }
    }
}

impl Counter {
    /// With all that perf wrote.
    fn failure(&self) -> Error {
        let files = [&self.said, &self.output];
        let texts = files.map(|file| fs::read_to_string(file).unwrap_or_default());
        Error::Failed {
            program: format!("{PERF} stat"),
            said: texts.join("\n").trim().to_owned(),
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

/// The kinds in the order in which perf counts them.
fn kinds() -> impl Iterator<Item = &'static (&'static str, nix::libc::c_long)> {
    KINDS.iter().chain(OLD_KINDS)
}

/// What perf is asked to count beside all calls.
fn filters() -> Vec<String> {
    kinds()
        .flat_map(|(_, number)| {
            ["-e", EVENT, "--filter", &format!("id=={number}")].map(str::to_owned)
        })
        .collect()
}

/// Of the lines of `perf stat -x,`: value, unit, event, and more, in the order of the events: the total, then the kinds.
/// None without a total.
fn read_counts(text: &str) -> Option<Calls> {
    let mut counts = text.lines().filter_map(|line| {
        let mut fields = line.split(',');
        let value = fields.next()?;
        (fields.nth(1)? == EVENT).then(|| value.parse::<u64>().ok())
    });
    let total = counts.next()??;
    let mut by_kind: Vec<(String, u64)> = kinds()
        .zip(counts)
        .filter_map(|(&(name, _), count)| {
            let name = name.strip_prefix(PREFIX).unwrap_or(name);
            Some((name.to_owned(), count.filter(|count| *count > 0)?))
        })
        .collect();
    let known: u64 = by_kind.iter().map(|(_, count)| count).sum();
    // The counters are not read in one moment: a few calls may be in a kind and not in the total.
    let other = total.saturating_sub(known);
    if other > 0 {
        by_kind.push((OTHER.to_owned(), other));
    }
    by_kind.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Some(Calls { total, by_kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::skip;

    /// Whether perf lacks a permission, in the words of its several messages.
    fn is_forbidden(error: &Error) -> bool {
        let said = error.to_string().to_lowercase();
        ["permission", "not permitted", "operations is limited"]
            .iter()
            .any(|words| said.contains(words))
    }

    /// What perf prints of a total and of the first kinds.
    fn printed(counts: &[&str]) -> String {
        let line = |count: &&str| format!("{count},,{EVENT},115,100.00,,\n");
        let lines: String = counts.iter().map(line).collect();
        format!("# started on Sun\n\n{lines}")
    }

    #[test]
    fn counts_are_read_by_their_places() {
        let calls = read_counts(&printed(&["41", "30", "<not counted>", "0", "7"])).unwrap();
        assert_eq!(calls.total, 41);
        assert_eq!(
            calls.by_kind,
            [
                ("sendto".into(), 30),
                ("recvfrom".into(), 7),
                ("other".into(), 4)
            ]
        );
    }

    #[test]
    fn kinds_that_add_up_to_more_than_the_total_leave_nothing_for_others() {
        let calls = read_counts(&printed(&["2", "3"])).unwrap();
        assert_eq!(calls.by_kind, [("sendto".into(), 3)]);
    }

    #[test]
    fn no_kind_is_named_twice() {
        for (at, (name, number)) in kinds().enumerate() {
            assert!(kinds().take(at).all(|(_, other)| other != number), "{name}");
        }
    }

    #[test]
    fn without_a_total_there_are_no_counts() {
        assert_eq!(read_counts(&printed(&["<not counted>"])), None);
        assert_eq!(read_counts("# started on Sun\n"), None);
    }

    #[test]
    fn calls_count_between_begin_and_end_only() {
        if let Some(why) = missing() {
            return skip("syscalls", why);
        }
        let scratch = std::env::temp_dir().join(format!("syscalls-{}", std::process::id()));
        fs::create_dir_all(&scratch).unwrap();
        let counted = |calls: u32| {
            let mut counter = Counter::attach(std::process::id(), &scratch)?;
            let files = |count: u32| (0..count).for_each(|_| drop(fs::metadata("/")));
            files(1000);
            counter.begin()?;
            files(calls);
            counter.end()?;
            files(1000);
            counter.finish()
        };
        let result = counted(300);
        let _ = fs::remove_dir_all(&scratch);
        let calls = match result {
            Ok(calls) => calls,
            Err(error) if is_forbidden(&error) => {
                return skip("syscalls", "perf may not count here: run as root");
            }
            Err(error) => panic!("{error}"),
        };
        // Other tests of this process call too, but none in a loop like this.
        let stats = calls.by_kind.iter().find(|(kind, _)| kind == "statx");
        let count = stats.map_or(0, |(_, count)| *count);
        assert!((300..600).contains(&count), "{calls:?}");
    }
}
