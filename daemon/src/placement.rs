//! Which worker runs on which CPU: a pure plan over the CPUs that the process may use.
//!
//! One worker per queue, each on a CPU of its own while there are enough. The first CPU is left alone as long
//! as others suffice, because timers, unbound interrupts and everything unpinned prefer it. CPUs without a
//! worker are listed as spare, for helper threads. Reading the affinity of the process is the only system call
//! here, in [`allowed_cpus`].

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity};

/// A worker and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Index of the worker, from 0.
    pub worker: u32,
    /// The receive queue it serves; with the kernel backend the same as `worker`.
    pub queue: u32,
    /// The CPU it is pinned to.
    pub cpu: u32,
}

/// Where everything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One per worker, in the order of the queues.
    pub seats: Vec<Seat>,
    /// Allowed CPUs without a worker, ascending; may be empty.
    pub spare: Vec<u32>,
    /// Whether some CPU has more than one worker, which costs latency.
    pub crowded: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The process may use no CPU, or there is no queue.
    #[error("no CPU or no queue to place")]
    Nothing,
    /// `xdp.cores` does not match the number of queues.
    #[error("xdp.cores lists {cores} CPUs for {queues} queues")]
    Count {
        /// CPUs listed.
        cores: usize,
        /// Workers to place.
        queues: usize,
    },
    /// `xdp.cores` names a CPU that the process may not use.
    #[error("CPU {cpu} of xdp.cores is not available to the process")]
    NotAllowed {
        /// The CPU.
        cpu: u32,
    },
}

/// Places one worker per queue.
///
/// # Errors
/// [`PlacementError`], if `cores` does not fit the queues or the allowed CPUs.
pub fn plan(
    allowed: &[u32],
    queues: &[u32],
    cores: Option<&[u32]>,
) -> Result<Plan, PlacementError> {
    let mut allowed = allowed.to_vec();
    allowed.sort_unstable();
    allowed.dedup();
    if allowed.is_empty() || queues.is_empty() {
        return Err(PlacementError::Nothing);
    }
    let cpus = match cores {
        Some(cores) => chosen(&allowed, queues.len(), cores)?,
        None => spread(&allowed, queues.len()),
    };
    let seats: Vec<Seat> = (0..)
        .zip(queues.iter().zip(&cpus))
        .map(|(worker, (&queue, &cpu))| Seat { worker, queue, cpu })
        .collect();
    let spare = allowed
        .iter()
        .copied()
        .filter(|cpu| !cpus.contains(cpu))
        .collect();
    let crowded = (1..cpus.len()).any(|index| cpus[..index].contains(&cpus[index]));
    Ok(Plan {
        seats,
        spare,
        crowded,
    })
}

/// The operator's list, checked.
fn chosen(allowed: &[u32], queues: usize, cores: &[u32]) -> Result<Vec<u32>, PlacementError> {
    if cores.len() != queues {
        return Err(PlacementError::Count {
            cores: cores.len(),
            queues,
        });
    }
    match cores.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(PlacementError::NotAllowed { cpu }),
        None => Ok(cores.to_vec()),
    }
}

/// The CPUs in order, from the second on if that suffices, again from the start if there are too few.
fn spread(allowed: &[u32], workers: usize) -> Vec<u32> {
    let skip = usize::from(allowed.len() > workers);
    allowed
        .iter()
        .copied()
        .cycle()
        .skip(skip)
        .take(workers)
        .collect()
}

/// Workers of the kernel backend: one per CPU that was chosen or is allowed.
#[must_use]
pub fn kernel_queues(allowed: &[u32], cores: Option<&[u32]>) -> Vec<u32> {
    let workers = cores.unwrap_or(allowed).len().max(1);
    (0..).take(workers).collect()
}

/// The CPUs this process may use (affinity mask, which cgroup cpusets are part of), ascending.
///
/// # Errors
/// `sched_getaffinity(2)`: only on kernels with more CPUs than the mask has bits (1024).
pub fn allowed_cpus() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    Ok((0..)
        .zip(0..CpuSet::MAX_CPU)
        .filter(|(_, index)| set.is_set(*index))
        .map(|(cpu, _)| cpu)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(plan: &Plan) -> Vec<u32> {
        plan.seats.iter().map(|seat| seat.cpu).collect()
    }

    #[test]
    fn the_first_cpu_is_left_alone_while_others_suffice() {
        let plan = plan(&[0, 1, 2, 3], &[0, 1], None).unwrap();
        assert_eq!(cpus(&plan), [1, 2]);
        assert_eq!(plan.spare, [0, 3]);
        assert!(!plan.crowded);
    }

    #[test]
    fn as_many_workers_as_cpus_use_all() {
        let plan = plan(&[0, 1], &[0, 1], None).unwrap();
        assert_eq!(cpus(&plan), [0, 1]);
        assert_eq!(plan.spare, [0; 0]);
        assert!(!plan.crowded);
    }

    #[test]
    fn more_workers_than_cpus_share_and_say_so() {
        let plan = plan(&[4, 6], &[0, 1, 2], None).unwrap();
        assert_eq!(cpus(&plan), [4, 6, 4]);
        assert!(plan.crowded);
    }

    #[test]
    fn only_allowed_cpus_are_used() {
        assert_eq!(cpus(&plan(&[9, 5, 7, 5], &[3], None).unwrap()), [7]);
    }

    #[test]
    fn seats_keep_queue_numbers() {
        let seats = plan(&[0, 1, 2], &[2, 5], None).unwrap().seats;
        assert_eq!(
            seats[1],
            Seat {
                worker: 1,
                queue: 5,
                cpu: 2
            }
        );
    }

    #[test]
    fn chosen_cores_are_taken_as_they_are() {
        assert_eq!(
            cpus(&plan(&[0, 1, 2, 3], &[0, 1], Some(&[3, 0])).unwrap()),
            [3, 0]
        );
    }

    #[test]
    fn chosen_cores_must_match_the_queues() {
        assert_eq!(
            plan(&[0, 1], &[0, 1], Some(&[1])).unwrap_err().to_string(),
            "xdp.cores lists 1 CPUs for 2 queues"
        );
    }

    #[test]
    fn chosen_cores_must_be_allowed() {
        assert_eq!(
            plan(&[0, 1], &[0], Some(&[7])).unwrap_err().to_string(),
            "CPU 7 of xdp.cores is not available to the process"
        );
    }

    #[test]
    fn nothing_to_place_is_an_error() {
        assert_eq!(plan(&[], &[0], None), Err(PlacementError::Nothing));
        assert_eq!(plan(&[0], &[], None), Err(PlacementError::Nothing));
    }

    #[test]
    fn the_kernel_backend_has_a_worker_per_cpu() {
        assert_eq!(kernel_queues(&[0, 3], None), [0, 1]);
        assert_eq!(kernel_queues(&[0, 1, 2], Some(&[2])), [0]);
    }

    #[test]
    fn this_process_may_use_some_cpu() {
        assert!(!allowed_cpus().unwrap().is_empty());
    }
}
