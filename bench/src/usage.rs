//! What a run costs: CPU time, memory and packets, as the kernel counts them.
//!
//! The CPU that a server is pinned to is counted as a whole, with the softirqs that work for it: a kernel TCP that
//! works in softirqs is charged as one that works in a thread. A kernel thread that receives for the server (threaded NAPI)
//! is the server's wherever it runs.

use std::fs;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::error::Error;
use crate::seat::Seat;

/// Ticks per second of /proc/stat: USER_HZ is 100 on every Linux.
const HZ: f64 = 100.0;
/// What two differences of counters in ticks cannot tell from nothing: in a run of 50 ms this is a lot.
const BLUR_S: f64 = 2.0 / HZ;

/// Caches of the kernel that a TCP socket over IPv4 has an object in, and no other thing but sockets.
const SOCKET_CACHES: [&str; 2] = ["TCP", "sock_inode_cache"];

/// Ticks of a CPU since boot, from proc_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    /// Of tasks: not of interrupts.
    tasks: u64,
    stolen: u64,
}

/// A thread that receives for the server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receiver {
    pid: u32,
    /// CPU seconds so far.
    seconds: f64,
    /// Where it ran last.
    pub cpu: u32,
}

/// Counters at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    at: Instant,
    server_cpu: u32,
    receivers: Vec<Receiver>,
    /// Seconds of the server's threads.
    process_s: f64,
    server: Ticks,
    client: Ticks,
    packets: u64,
    resident: u64,
    sockets: Option<u64>,
    throttled: Option<u64>,
}

/// What lies between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Length.
    pub seconds: f64,
    /// Seconds that the server's CPU worked, for whomever.
    pub server_s: f64,
    /// User and system seconds of the server's threads, wherever they ran.
    pub process_s: f64,
    /// Seconds of it in other tasks than the server and what receives for it, less what ticks cannot tell; softirqs are
    /// nobody's.
    pub others_s: f64,
    /// Seconds of the threads that receive for the server on another CPU.
    pub elsewhere_s: f64,
    /// Seconds that the client's CPU worked.
    pub client_s: f64,
    /// Seconds that the hypervisor took of both.
    pub stolen_s: f64,
    /// Packets that the client's link sent and received; a super-packet is one.
    pub packets: u64,
    /// Bytes of the server's resident memory at the end.
    pub resident: u64,
    /// Bytes that the kernel had for TCP sockets at the end, of everybody; `None` if it does not say.
    pub sockets: Option<u64>,
    /// How often heat slowed one of both CPUs down; `None` if they do not count it.
    pub throttled: Option<u64>,
}

impl Usage {
    /// Seconds that serving took: the server's CPU, and what receives for it elsewhere.
    pub fn serving_s(&self) -> f64 {
        self.server_s + self.elsewhere_s
    }
}

impl Receiver {
    /// Whether it worked for a tick at least: one that did not may show the CPU it was made on.
    pub fn has_run(&self) -> bool {
        self.seconds > 0.0
    }

    /// Looks at the threads with these process ids. One that is gone is left out.
    pub fn all(pids: &[u32]) -> Vec<Receiver> {
        let look = |pid: &u32| {
            let stat = read(&format!("/proc/{pid}/stat")).ok()?;
            Some(Receiver {
                pid: *pid,
                seconds: process(&stat)?,
                cpu: last_cpu(&stat)?,
            })
        };
        pids.iter().filter_map(look).collect()
    }
}

impl Snapshot {
    /// Looks at the CPUs and at the server's process, and at a link as another process sees it that is in its namespace.
    /// `receivers` are the process ids of threads that receive for the server.
    pub fn take(
        seat: &Seat,
        server: u32,
        receivers: &[u32],
        link: Option<(u32, &str)>,
    ) -> Result<Self, Error> {
        let process_s = process_seconds(server)?;
        let stat = read("/proc/stat")?;
        let of = |cpu| ticks(&stat, cpu).unwrap_or_default();
        let packets = link.map(|(pid, name)| {
            let devices = read(&format!("/proc/{pid}/net/dev"))?;
            Ok(packets(&devices, name).unwrap_or(0))
        });
        let at = Instant::now();
        Ok(Snapshot {
            at,
            server_cpu: seat.server_cpu,
            receivers: Receiver::all(receivers),
            process_s,
            server: of(seat.server_cpu),
            client: of(seat.client_cpu),
            packets: packets.transpose()?.unwrap_or(0),
            resident: resident_bytes(server)?,
            sockets: fs::read_to_string("/proc/slabinfo")
                .ok()
                .and_then(|slabs| sockets(&slabs)),
            throttled: throttled(seat.server_cpu)
                .zip(throttled(seat.client_cpu))
                .map(|(server, client)| server + client),
        })
    }

    /// Since an earlier one.
    pub fn since(&self, earlier: &Snapshot) -> Usage {
        let counted = |of: fn(&Ticks) -> u64, now: &Ticks, then: &Ticks| {
            seconds(of(now).saturating_sub(of(then)))
        };
        let server = |of| counted(of, &self.server, &earlier.server);
        let client = |of| counted(of, &self.client, &earlier.client);
        let process_s = self.process_s - earlier.process_s;
        let (here_s, elsewhere_s) = self.received_since(earlier);
        Usage {
            seconds: (self.at - earlier.at).as_secs_f64(),
            server_s: server(|ticks| ticks.busy),
            process_s,
            others_s: (server(|ticks| ticks.tasks) - process_s - here_s - BLUR_S).max(0.0),
            elsewhere_s,
            client_s: client(|ticks| ticks.busy),
            stolen_s: server(|ticks| ticks.stolen) + client(|ticks| ticks.stolen),
            packets: self.packets.saturating_sub(earlier.packets),
            resident: self.resident,
            sockets: self.sockets,
            throttled: self
                .throttled
                .zip(earlier.throttled)
                .map(|(now, then)| now.saturating_sub(then)),
        }
    }

    /// Seconds of the threads that receive, on the server's CPU and elsewhere. They are pinned: where one is now it was.
    fn received_since(&self, earlier: &Snapshot) -> (f64, f64) {
        let (mut here, mut elsewhere) = (0.0, 0.0);
        for now in &self.receivers {
            let before = earlier.receivers.iter().find(|then| then.pid == now.pid);
            let seconds = now.seconds - before.map_or(now.seconds, |then| then.seconds);
            match now.cpu == self.server_cpu {
                true => here += seconds,
                false => elsewhere += seconds,
            }
        }
        (here, elsewhere)
    }
}

/// CPU time of this thread so far.
pub fn thread_time() -> nix::Result<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from)
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64, Error> {
    Ok(resident(&read(&format!("/proc/{pid}/status"))?).unwrap_or(0))
}

/// User and system seconds of all threads of a process.
fn process_seconds(pid: u32) -> Result<f64, Error> {
    Ok(process(&read(&format!("/proc/{pid}/stat"))?).unwrap_or(0.0))
}

/// How often heat slowed a CPU down since boot. Virtual CPUs and those of some makers do not say.
pub fn throttled(cpu: u32) -> Option<u64> {
    let file = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count");
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io(path))
}

#[expect(clippy::cast_precision_loss, reason = "ticks of years are below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / HZ
}

/// user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str, cpu: u32) -> Option<Ticks> {
    let name = format!("cpu{cpu}");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else {
        return None;
    };
    Some(Ticks {
        busy: user + nice + system + irq + softirq,
        tasks: user + nice + system,
        stolen: steal,
    })
}

/// Packets that a link received and sent, from proc_pid_net(5).
pub fn packets(devices: &str, link: &str) -> Option<u64> {
    let line = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(link)?.strip_prefix(':'))?;
    let field = |at| line.split_whitespace().nth(at)?.parse::<u64>().ok();
    Some(field(1)? + field(9)?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Bytes of the objects of the caches that every TCP socket has one of, from slabinfo(5): name, active objects, all
/// objects, bytes of one.
fn sockets(slabs: &str) -> Option<u64> {
    let bytes = |name: &str| {
        let of = |line: &&str| line.split_whitespace().next() == Some(name);
        let line = slabs.lines().find(of)?;
        let field = |at| line.split_whitespace().nth(at)?.parse::<u64>().ok();
        Some(field(1)? * field(3)?)
    };
    SOCKET_CACHES.iter().map(|name| bytes(name)).sum()
}

/// Fields 14 and 15 of proc_pid_stat(5).
fn process(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(seconds(user + system))
}

/// Field 39 of proc_pid_stat(5).
fn last_cpu(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(36)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_cpu_is_busy_with_everything_but_waiting() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 4 1000 500 8 16 7 0 0\ncpu11 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(
            ticks(stat, 1),
            Some(Ticks {
                busy: 31,
                tasks: 7,
                stolen: 7
            })
        );
        assert_eq!(ticks(stat, 2), None);
    }

    #[test]
    fn memory_of_sockets_is_that_of_their_objects() {
        let slabs = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                     TCPv6  7 26 2496 13 8 : tunables\nTCP   10 104 2000 13 8 : tunables\n\
                     sock_inode_cache    20    304    800   19    4\n";
        assert_eq!(sockets(slabs), Some(36_000));
        assert_eq!(sockets("TCP 1 2 3\n"), None, "the other is not there");
    }

    #[test]
    fn packets_are_those_of_both_directions() {
        let devices = "Inter-| x\n lo: 1 2 0 0 0 0 0 0 1 2 0 0 0 0 0 0\nslb1c: 900 30 0 0 0 0 0 0 500 12 0 0 0 0 0 0\n";
        assert_eq!(packets(devices, "slb1c"), Some(42));
        assert_eq!(packets(devices, "slb"), None);
    }

    #[test]
    fn a_process_has_memory_and_time_whatever_it_is_called() {
        assert_eq!(resident("Name: x\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 90 0 0 0 120 34 0 0 20 0 3 0 55 0 0";
        assert_eq!(process(stat), Some(1.54));
        assert_eq!(process("7 (x) S 1"), None);
    }

    #[test]
    fn a_thread_ran_last_where_the_kernel_says() {
        let own = Receiver::all(&[std::process::id(), u32::MAX]);
        assert_eq!(own.len(), 1, "one of them exists: {own:?}");
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 120 34 0 0 20 0 3 0 55 0 0 5 6 7 8 9 10 11 12 13 14 15 16 17 18 3 0\n";
        assert_eq!(last_cpu(stat), Some(3));
    }

    #[test]
    fn a_tick_more_than_the_server_used_is_nobody_s() {
        let at = Instant::now();
        let before = Snapshot {
            at,
            server_cpu: 0,
            receivers: Vec::new(),
            process_s: 1.0,
            server: Ticks::default(),
            client: Ticks::default(),
            packets: 0,
            resident: 0,
            sockets: None,
            throttled: None,
        };
        let mut after = before.clone();
        after.at += Duration::from_millis(8);
        after.server.tasks = 1;
        assert_eq!(after.since(&before).others_s, 0.0);
    }

    #[test]
    fn what_receives_for_the_server_is_its_own_wherever_it_runs() {
        let busy = |tasks| Ticks {
            busy: tasks,
            tasks,
            stolen: 0,
        };
        let snapshot = |at, tasks, process_s, receivers: [(u32, f64, u32); 2]| Snapshot {
            at,
            server_cpu: 0,
            receivers: receivers
                .map(|(pid, seconds, cpu)| Receiver { pid, seconds, cpu })
                .to_vec(),
            process_s,
            server: busy(tasks),
            client: busy(0),
            packets: 0,
            resident: 0,
            sockets: None,
            throttled: None,
        };
        let begin = Instant::now();
        let before = snapshot(begin, 100, 1.0, [(7, 5.0, 0), (8, 2.0, 1)]);
        let end = begin + Duration::from_secs(1);
        let after = snapshot(end, 190, 1.5, [(7, 5.25, 0), (8, 2.5, 1)]);
        let usage = after.since(&before);
        assert!((usage.others_s - 0.13).abs() < 1e-9, "{usage:?}");
        assert!((usage.serving_s() - 1.4).abs() < 1e-9, "{usage:?}");
    }

    #[test]
    fn a_sleep_is_no_cpu_time_and_a_loop_is() {
        let own = std::process::id();
        let before = process_seconds(own).unwrap();
        let end = Instant::now() + Duration::from_millis(150);
        while Instant::now() < end {}
        let used = process_seconds(own).unwrap() - before;
        assert!(used >= 0.03, "{used}");
    }
}
