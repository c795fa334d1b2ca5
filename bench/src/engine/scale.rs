//! Two queues on two cores: what a second worker adds to the first (`--workers 2`).
//!
//! A worker here is a thread with a stack, a client and a wire of its own on a CPU of its own. One of them and all of
//! them take turns, so that a ratio is of neighbours in time. All are busy until the last has its time, or the last would
//! be measured alone. Beside them, in the same turns, loops that touch nothing but registers: what the machine gives to
//! two threads that cannot be in each other's way, which no server can surpass. The cost in CPU time is given too, because
//! it tells on a busy machine what the time on the wall does not: whether workers are in each other's way.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::nic::Nic;
use super::pattern::Pattern;
use super::{Case, Options, pin};
use crate::error::Error;
use crate::report::{self, Conditions, Contender, Measure, Report, Row};
use crate::usage::thread_time;

/// Of `--workers`: how many times the throughput of one two must have.
const GOAL_OF_TWO: f64 = 1.8;
/// Steps of the loop in registers between two looks at the clock.
const STEPS: u32 = 100_000;
/// How long the loop in registers runs.
const REGISTERS_TIME: Duration = Duration::from_millis(200);

/// Name of the measure by CPU time.
const BY_CPU_TIME: &str = "by CPU time";
/// Name of the row that no server can surpass.
const MACHINE: &str = "registers only";

/// What some workers do together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pace {
    /// The sum of what each sends per second of its server's time, 10^9 bits of payload.
    server: f64,
    /// The sum of what each sends per second, its client included.
    whole: f64,
    /// The sum of what each sends per second of its thread's CPU time: others on the machine do not take part in it.
    cpu: f64,
}

/// Runs the scenario with so many workers and prints its report.
pub fn run(workers: u16, options: &Options) -> Result<(), Error> {
    let cpus = thread::available_parallelism().map_err(Error::io("number of CPUs"))?;
    check(workers, cpus.get())?;
    let conditions = Conditions::gather()?;
    let pattern = Pattern::new();
    let names = ["one worker".to_owned(), format!("{workers} workers")];
    let goal = (workers == 2).then_some(GOAL_OF_TWO);
    let mut rows = vec![machine(workers, options, &names)?];
    for &connections in &options.connections {
        let mut paces = [Vec::new(), Vec::new()];
        for round in 1..=options.rounds {
            for (paces, count) in paces.iter_mut().zip([1, workers]) {
                let pace = together(count, connections, options, &pattern)?;
                eprintln!(
                    "{connections:6} connections, round {round} of {}: {count} at {:6.1} Gbit/s, with the client {:6.1}",
                    options.rounds, pace.server, pace.whole
                );
                paces.push(pace);
            }
        }
        rows.push(row(connections, &paces, &names, goal));
    }
    let mut report = Report::new(
        "engine-scale",
        format!("{workers} workers in memory, each on a core of its own"),
        conditions,
    );
    report.notes = options.notes();
    report.notes.push(format!(
        "every worker has connections, stack and client of its own; one on CPU 0 and {workers} on CPUs 0 to {} take turns",
        workers - 1
    ));
    report.notes.push(format!(
        "\"{MACHINE}\": loops without memory, the most that the machine gives"
    ));
    report.rows = rows;
    report::publish(vec![report.finish()], &options.output)
}

/// Before anything runs: a worker that finds no CPU would be found after all others had run.
fn check(workers: u16, cpus: usize) -> Result<(), Error> {
    if usize::from(workers) <= cpus {
        return Ok(());
    }
    let fix = match cpus {
        0 | 1 => "a machine with two CPUs, or taskset(1) with more of them".to_owned(),
        most => format!("at most --workers {most}"),
    };
    Err(Error::Workers {
        asked: workers,
        most: cpus,
        fix,
    })
}

fn row(connections: u16, paces: &[Vec<Pace>; 2], names: &[String; 2], goal: Option<f64>) -> Row {
    let plural = if connections == 1 { "" } else { "s" };
    let mut row =
        Row::new(format!("{connections} connection{plural} each")).with("connections", connections);
    for (name, paces) in names.iter().zip(paces) {
        let of = |value: fn(&Pace) -> f64| paces.iter().map(value).collect();
        row.push(
            Contender::new(name)
                .with(Measure::more("goodput", "Gbit/s"), of(|pace| pace.server))
                .with(
                    Measure::more("with the client", "Gbit/s"),
                    of(|pace| pace.whole),
                )
                .with(Measure::more(BY_CPU_TIME, "Gbit/s"), of(|pace| pace.cpu)),
        );
    }
    let [one, all] = names;
    row.compare_by("goodput", all, one, goal);
    row.compare_by("with the client", all, one, None);
    row.compare_by(BY_CPU_TIME, all, one, goal);
    row
}

/// The yardstick: loops in registers, one and all in turn.
fn machine(workers: u16, options: &Options, names: &[String; 2]) -> Result<Row, Error> {
    let mut row = Row::new(MACHINE).with("connections", 0);
    let mut contenders = names.each_ref().map(Contender::new);
    for _ in 0..options.rounds {
        for (contender, count) in contenders.iter_mut().zip([1, workers]) {
            let steps = on_cpus(count, |start, _| {
                start();
                registers()
            })?;
            let sum = |of: fn(&[f64; 2]) -> f64| steps.iter().map(of).sum();
            contender.push_run([
                (Measure::more("steps", "1/ns"), sum(|[wall, _]| *wall)),
                (Measure::more(BY_CPU_TIME, "1/ns"), sum(|[_, cpu]| *cpu)),
            ]);
        }
    }
    contenders.into_iter().for_each(|one| row.push(one));
    row.compare_by("steps", &names[1], &names[0], None);
    row.compare_by(BY_CPU_TIME, &names[1], &names[0], None);
    Ok(row)
}

/// Steps of a chain of multiplications per nanosecond, and per nanosecond of CPU time.
fn registers() -> Result<[f64; 2], Error> {
    let (begin, cpu) = (Instant::now(), cpu_time()?);
    let (mut value, mut rounds) = (1u64, 0u32);
    while begin.elapsed() < REGISTERS_TIME {
        for _ in 0..STEPS {
            value = black_box(value.wrapping_mul(0x5851_f42d_4c95_7f2d) | 1);
        }
        rounds += 1;
    }
    let steps = f64::from(rounds) * f64::from(STEPS);
    let times = [begin.elapsed(), cpu_time()?.saturating_sub(cpu)];
    Ok(times.map(|time| steps / (time.as_secs_f64() * 1e9)))
}

/// Of this thread.
fn cpu_time() -> Result<Duration, Error> {
    thread_time().map_err(|error| Error::io("CPU time")(error.into()))
}

/// So many workers at once.
fn together(
    workers: u16,
    connections: u16,
    options: &Options,
    pattern: &Pattern,
) -> Result<Pace, Error> {
    let case = Case {
        connections,
        options,
        pattern,
    };
    let paces = on_cpus(workers, |start, all_done| {
        let mut nic = Nic::new(Client::new(connections, options.window));
        let mut server = case.sluice();
        let warm = case.warm_up("sluice", &mut server, &mut nic);
        // Whoever failed, too: the others wait for all.
        start();
        let now = warm?;
        let (begin, cpu) = (Instant::now(), cpu_time()?);
        let measured = case.timed("sluice", &mut server, &mut nic, now);
        let (elapsed, cpu) = (begin.elapsed(), cpu_time()?.saturating_sub(cpu));
        let (run, mut now) = measured?;
        while !all_done() {
            nic.round(now, options.batch, &mut server);
            now += super::ROUND;
        }
        let over = |time: Duration| run.gbit_per_s * run.seconds / time.as_secs_f64();
        Ok(Pace {
            server: run.gbit_per_s,
            whole: over(elapsed),
            cpu: over(cpu),
        })
    })?;
    Ok(paces.iter().fold(Pace::default(), |sum, pace| Pace {
        server: sum.server + pace.server,
        whole: sum.whole + pace.whole,
        cpu: sum.cpu + pace.cpu,
    }))
}

/// Runs `work` on the first `count` CPUs at once. It is given a function that waits for all to be ready, which it has to
/// call once, and one that tells whether all have their result.
///
/// "All have it" counts whoever asks for it or has returned.
fn on_cpus<T: Send>(
    count: u16,
    work: impl Fn(&dyn Fn(), &dyn Fn() -> bool) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let count = usize::from(count);
    let (ready, done) = (Barrier::new(count), AtomicUsize::new(0));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|cpu| {
                let (ready, done, work) = (&ready, &done, &work);
                scope.spawn(move || {
                    let pinned = pin(cpu);
                    let asked = std::cell::Cell::new(false);
                    let all_done = || {
                        if !asked.replace(true) {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        done.load(Ordering::Relaxed) == count
                    };
                    let start = || {
                        ready.wait();
                    };
                    let result = work(&start, &all_done);
                    all_done();
                    pinned.and(result)
                })
            })
            .collect();
        // A panic of a worker is one of the harness.
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a worker does not panic"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::tests::options;
    use super::*;
    use crate::engine::Checksums;
    use crate::skip::skip;

    #[test]
    fn workers_are_busy_until_the_last_has_its_time() {
        if thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
            return skip("engine", "needs two CPUs");
        }
        let (tickets, slow_is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let seen = on_cpus(2, |start, all_done| {
            start();
            if tickets.fetch_add(1, Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(20));
                slow_is_done.store(true, Ordering::SeqCst);
                return Ok(true);
            }
            while !all_done() {
                thread::yield_now();
            }
            Ok(slow_is_done.load(Ordering::SeqCst))
        });
        assert_eq!(seen.ok(), Some(vec![true, true]));
    }

    #[test]
    fn what_workers_do_is_measured_with_and_without_their_clients() {
        let options = options(Checksums::Software);
        let pace = together(1, 3, &options, &Pattern::new()).unwrap();
        assert!(pace.server > pace.whole && pace.whole > 0.0, "{pace:?}");
    }

    #[test]
    fn more_workers_than_cpus_are_refused_with_the_most_there_can_be() {
        assert!(check(2, 2).is_ok());
        let said = check(64, 2).unwrap_err().to_string();
        assert!(said.ends_with("-> at most --workers 2"), "{said}");
        let said = check(2, 1).unwrap_err().to_string();
        assert!(!said.contains("at most"), "{said}");
    }

    #[test]
    fn the_goal_is_that_of_two() {
        let paces = |gbit: f64| {
            vec![Pace {
                server: gbit,
                whole: gbit / 2.0,
                cpu: gbit / 2.0,
            }]
        };
        let names = ["one worker".to_owned(), "2 workers".to_owned()];
        let row = row(64, &[paces(50.0), paces(91.0)], &names, Some(GOAL_OF_TWO));
        assert_eq!(row.comparisons[0].is_met(), Some(true));
        assert_eq!(row.comparisons[1].goal, None);
    }
}
