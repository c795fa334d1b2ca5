//! What a second worker on a second core adds to the first: `cargo bench -p sluiced --bench scale`.
//!
//! Whole turns over in-memory rings (ingress, TCP, HTTP, disk, transmission), every worker with rings, stack, blocks and
//! peer of its own on a CPU of its own; two are joined by the ring of parcels, as in the daemon. One and two take turns,
//! so that a ratio is of neighbours in time. All are busy until the last has its time.
//!
//! The first row is no worker but a loop in registers: what the machine gives to threads that share nothing. By CPU time
//! everything is given a second time: of a machine that is busy with other things, that is what tells whether workers are
//! in each other's way. Without `--bench`, as in a run of all targets, everything runs once and shortly.

mod seat;

use core::fmt;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use rustix::thread::{CpuSet, sched_setaffinity};
use sluiced::worker::handoff_ring;

use seat::{MIB, Seat, SeatConfig};

/// That of the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The goal for two workers over one.
const GOAL: f64 = 1.8;
const WORKERS: usize = 2;
/// Connections of a worker.
const CONNECTIONS: u16 = 64;

/// What is asked for.
struct Case {
    name: &'static str,
    seat: SeatConfig,
}

const CASES: [Case; 4] = [
    Case {
        name: "8 MiB from file blocks, checksums offloaded",
        seat: SeatConfig {
            bytes: 8 * MIB,
            blocks: 512,
            offload: true,
            connections: CONNECTIONS,
        },
    },
    Case {
        name: "8 MiB from file blocks, summed in software",
        seat: SeatConfig {
            bytes: 8 * MIB,
            blocks: 512,
            offload: false,
            connections: CONNECTIONS,
        },
    },
    Case {
        name: "64 MiB from the page cache",
        seat: SeatConfig {
            bytes: 64 * MIB,
            blocks: 192,
            offload: true,
            connections: CONNECTIONS,
        },
    },
    Case {
        name: "1 KiB objects",
        seat: SeatConfig {
            bytes: 1024,
            blocks: 64,
            offload: true,
            connections: CONNECTIONS,
        },
    },
];

/// What a worker did in its time.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Body bytes per nanosecond of turns.
    turns: f64,
    /// Body bytes per nanosecond, the peer included.
    whole: f64,
    /// The same per nanosecond of the thread's CPU time, which others on the machine do not take part in.
    cpu: f64,
}

fn main() {
    let is_bench = std::env::args().any(|word| word == "--bench");
    let (rounds, time) = match is_bench {
        true => (9, Duration::from_millis(300)),
        false => (1, Duration::from_millis(5)),
    };
    let site = tempfile::tempdir().expect("a temporary directory");
    println!("medians of {rounds} pairs (least, most); goal {GOAL}");
    println!(
        "{:44} {:>18} {:>18} {:>18}   one worker",
        "two over one", "turns", "with peer", "by CPU time"
    );
    let mut ratios = Ratios::default();
    for _ in 0..rounds {
        ratios
            .push([1, WORKERS].map(|count| all(&on_cpus(count, |_, gate| registers(gate, time)))));
    }
    println!("{:44} {ratios}", "a loop in registers");
    for case in &CASES {
        let content: Vec<u8> = (0..case.seat.bytes).map(|at| at.to_le_bytes()[0]).collect();
        std::fs::write(site.path().join("file"), content).expect("the directory is writable");
        measure(case, site.path(), rounds, time);
    }
}

fn measure(case: &Case, site: &Path, rounds: u32, time: Duration) {
    let (mut one_gbit, mut ratios) = (Vec::new(), Ratios::default());
    for _ in 0..rounds {
        let paces = [1, WORKERS].map(|count| together(case, site, count, time));
        one_gbit.push(8.0 * paces[0].turns);
        ratios.push(paces);
    }
    println!("{:44} {ratios}   {} Gbit/s", case.name, spread(&one_gbit));
}

/// Two over one, run by run.
#[derive(Default)]
struct Ratios {
    turns: Vec<f64>,
    whole: Vec<f64>,
    cpu: Vec<f64>,
}

impl Ratios {
    fn push(&mut self, [one, two]: [Pace; 2]) {
        self.turns.push(two.turns / one.turns);
        self.whole.push(two.whole / one.whole);
        self.cpu.push(two.cpu / one.cpu);
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = [&self.turns, &self.whole, &self.cpu].map(|ratios| spread(ratios));
        write!(f, "{:>18} {:>18} {:>18}", of[0], of[1], of[2])
    }
}

/// What workers do together.
fn all(paces: &[Pace]) -> Pace {
    paces.iter().fold(Pace::default(), |sum, pace| Pace {
        turns: sum.turns + pace.turns,
        whole: sum.whole + pace.whole,
        cpu: sum.cpu + pace.cpu,
    })
}

/// So many workers at once.
fn together(case: &Case, site: &Path, count: usize, time: Duration) -> Pace {
    let mut handoffs = handoff_ring(count, 2048).expect("eventfd").into_iter();
    let handoffs: Vec<_> = (0..count)
        .map(|_| std::sync::Mutex::new(handoffs.next()))
        .collect();
    let paces = on_cpus(count, |index, gate| {
        let handoff = handoffs[index].lock().expect("nobody panicked").take();
        // Built where it runs, so that its memory is near.
        let mut seat = Seat::new(&case.seat, site, handoff);
        seat.warm_up();
        gate.ready.wait();
        let pace = run(&mut seat, time);
        gate.done.fetch_add(1, Ordering::Relaxed);
        while !gate.all_done() {
            seat.turn();
        }
        pace
    });
    all(&paces)
}

/// Turns until the worker alone has had so much time.
fn run(seat: &mut Seat, time: Duration) -> Pace {
    let (begin, cpu) = (std::time::Instant::now(), cpu_time());
    let mut in_turns = Duration::ZERO;
    while in_turns < time {
        in_turns += seat.turn();
    }
    let cpu = cpu_time() - cpu;
    let (bytes, responses) = seat.take_received();
    assert!(responses > 0 || bytes > 0, "the worker was not idle");
    Pace {
        turns: per_ns(bytes, in_turns),
        whole: per_ns(bytes, begin.elapsed()),
        cpu: per_ns(bytes, cpu),
    }
}

/// Where the workers of a run wait for each other.
struct Gate {
    ready: Barrier,
    /// How many have their time.
    done: AtomicUsize,
    count: usize,
}

impl Gate {
    fn all_done(&self) -> bool {
        self.done.load(Ordering::Relaxed) == self.count
    }
}

/// Runs `work` on the first `count` CPUs at once.
fn on_cpus<T: Send>(count: usize, work: impl Fn(usize, &Gate) -> T + Sync) -> Vec<T> {
    let gate = Gate {
        ready: Barrier::new(count),
        done: AtomicUsize::new(0),
        count,
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|cpu| {
                let (gate, work) = (&gate, &work);
                scope.spawn(move || {
                    let mut cpus = CpuSet::new();
                    cpus.set(cpu);
                    sched_setaffinity(None, &cpus).expect("a CPU for every worker");
                    work(cpu, gate)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no worker panics"))
            .collect()
    })
}

/// A chain of multiplications, its steps in the place of bytes.
fn registers(gate: &Gate, time: Duration) -> Pace {
    const STEPS: u64 = 10_000;
    gate.ready.wait();
    let (begin, cpu) = (std::time::Instant::now(), cpu_time());
    let (mut value, mut steps) = (1u64, 0);
    while begin.elapsed() < time {
        for _ in 0..STEPS {
            value = black_box(value.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1);
        }
        steps += STEPS;
    }
    let cpu = cpu_time() - cpu;
    let whole = per_ns(steps, begin.elapsed());
    Pace {
        turns: whole,
        whole,
        cpu: per_ns(steps, cpu),
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).expect("clocks are not negative");
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of seconds are below 2^52"
)]
fn per_ns(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / (time.as_secs_f64() * 1e9)
}

/// Median, least and most.
fn spread(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{:.2} ({least:.2}-{most:.2})", values[values.len() / 2])
}
