//! Threaded NAPI: the kernel's part of receiving in threads of the interface, beside the workers, while we serve.
//!
//! The setting belongs to the interface and survives us, so what it was is written down before it is changed: in
//! [`RECORDS`], which is gone after a boot, as the setting is. Who serves holds a lock on its record. An orderly end puts
//! the setting back; after a crash [`restore_all`] does (`sluiced --restore`, for `ExecStopPost=`), or the next start if the
//! record is left: systemd removes a `RuntimeDirectory=` behind `ExecStopPost=`, unless `RuntimeDirectoryPreserve=yes`.
//! Nothing here keeps a service from starting: what does not work is a warning.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::placement::Plan;
use crate::preflight::{InterfaceFacts, Napi, Problem, napis};

/// Where records are.
const RECORDS: &str = "/run/sluice";
/// Interfaces of the network namespace, if sysfs was mounted in it.
const SYSFS: &str = "/sys/class/net";
/// What the file `threaded` of an interface is set to.
const THREADED: &str = "1";

/// An interface whose setting is ours until this is dropped.
pub(super) struct ThreadedNapi {
    /// The file `threaded` in sysfs.
    setting: PathBuf,
    record: Record,
    /// CPU of each thread, as far as they are pinned.
    pub cpus: Vec<u32>,
}

/// What a setting was, on disk and locked.
struct Record {
    path: PathBuf,
    before: String,
    _locked: File,
}

impl ThreadedNapi {
    /// Lets the NAPI instances of `link` run in threads, away from the workers of `plan` or on `cores`.
    ///
    /// # Errors
    /// The setting cannot be changed. A thread that cannot be pinned is a warning among the second results.
    pub(super) fn set(
        link: &InterfaceFacts,
        plan: &Plan,
        allowed: &[u32],
        cores: Option<&[u32]>,
    ) -> Result<(ThreadedNapi, Vec<Problem>), Problem> {
        let setting = setting_of(Path::new(SYSFS), &link.name, link.index);
        let cannot = |error: &io::Error| {
            Problem::new(
                format!("{} cannot receive in kernel threads", link.name),
                error.to_string(),
                "writable /sys of this network namespace (no ProtectKernelTunables=) and /run/sluice, or napi = \"keep\"",
            )
        };
        let setting = setting.map_err(|error| cannot(&error))?;
        let record =
            Record::make(&setting, &link.name, link.index).map_err(|error| cannot(&error))?;
        // From here on dropping it puts the setting back.
        let mut threaded = ThreadedNapi {
            setting,
            record,
            cpus: Vec::new(),
        };
        fs::write(&threaded.setting, THREADED).map_err(|error| cannot(&error))?;
        let workers: Vec<(u32, u32)> = plan
            .seats
            .iter()
            .map(|seat| (seat.queue, seat.cpu))
            .collect();
        let warnings = threaded.pin(link, &workers, allowed, cores);
        Ok((threaded, warnings))
    }

    fn pin(
        &mut self,
        link: &InterfaceFacts,
        workers: &[(u32, u32)],
        allowed: &[u32],
        cores: Option<&[u32]>,
    ) -> Vec<Problem> {
        let unpinned = |why: String| {
            Problem::new(
                format!("the receiving threads of {} are not pinned", link.name),
                why,
                "`taskset -pc CPU PID` for those that `ps -e | grep napi/` lists, or napi = \"keep\"",
            )
        };
        let found = match napis(link.index) {
            Ok(found) => found,
            Err(error) => return vec![unpinned(error.to_string())],
        };
        if found.is_empty() {
            let why = "generic XDP on a veth, for one, receives without";
            return vec![Problem::new(
                format!("{} has no NAPI instance", link.name),
                why,
                "attach = \"native\", or napi = \"keep\"",
            )];
        }
        let mut warnings = Vec::new();
        for (thread, cpu) in assign(&found, &beside(workers, allowed, cores)) {
            match pin_thread(thread, cpu) {
                Ok(()) => self.cpus.push(cpu),
                Err(error) => warnings.push(unpinned(format!("CPU {cpu}: {error}"))),
            }
        }
        warnings
    }
}

impl Drop for ThreadedNapi {
    fn drop(&mut self) {
        match put_back(&self.setting, &self.record.before) {
            Ok(()) => self.record.remove(),
            // The record stays for whoever may.
            Err(error) => super::log(&format!(
                "warning: {} is not as it was ({}): {error}",
                self.setting.display(),
                self.record.before
            )),
        }
    }
}

impl Record {
    /// Writes down what a setting is, unless a daemon that died did so before: then it is that.
    fn make(setting: &Path, name: &str, index: u32) -> io::Result<Record> {
        let path = Path::new(RECORDS).join(record_name(name, index)?);
        Record::make_at(path, setting)
    }

    fn make_at(path: PathBuf, setting: &Path) -> io::Result<Record> {
        let is_now = fs::read_to_string(setting)?.trim().to_owned();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let left = fs::read_to_string(&path)?.trim().to_owned();
        if left.is_empty() {
            file.write_all(is_now.as_bytes())?;
        }
        Ok(Record {
            path,
            before: if left.is_empty() { is_now } else { left },
            _locked: file,
        })
    }

    fn remove(&self) {
        // One that stays is a record of what is.
        let _ = fs::remove_file(&self.path);
    }
}

/// Puts back what daemons that died left changed in this network namespace. Returns a line for each interface.
///
/// # Errors
/// The first setting that could not be put back.
pub fn restore_all() -> Result<Vec<String>, Problem> {
    let problem = |error: io::Error| {
        Problem::new(
            "what a sluiced changed cannot be put back",
            error.to_string(),
            "run it as the user of the service, in its network namespace",
        )
    };
    restore_from(Path::new(RECORDS), Path::new(SYSFS)).map_err(problem)
}

fn restore_from(records: &Path, sysfs: &Path) -> io::Result<Vec<String>> {
    let mut done = Vec::new();
    let Ok(interfaces) = fs::read_dir(sysfs) else {
        return Ok(done);
    };
    for interface in interfaces.filter_map(Result::ok) {
        let name = interface.file_name().to_string_lossy().into_owned();
        let index = fs::read_to_string(interface.path().join("ifindex")).unwrap_or_default();
        let Ok(index) = index.trim().parse() else {
            continue;
        };
        let path = records.join(record_name(&name, index)?);
        if !path.exists() {
            continue;
        }
        let setting = interface.path().join("threaded");
        let record = match Record::make_at(path, &setting) {
            Ok(record) => record,
            // Its owner lives.
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => continue,
            Err(error) => return Err(error),
        };
        let before = &record.before;
        done.push(match put_back(&setting, before) {
            Ok(()) => {
                record.remove();
                format!("{name}: threaded NAPI is {before} again")
            }
            // A veth without a program: the setting has no effect until it has NAPI instances again.
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                format!("{name}: without NAPI instances threaded NAPI cannot be {before}; the next start does it")
            }
            Err(error) => return Err(error),
        });
    }
    Ok(done)
}

/// The same for one interface, before it is used: a setting that nobody owns.
pub(super) fn recover(link: &InterfaceFacts) {
    let is_left = |path: PathBuf| path.exists();
    let name = record_name(&link.name, link.index).map(|name| Path::new(RECORDS).join(name));
    if !name.is_ok_and(is_left) {
        return;
    }
    match restore_all() {
        Ok(lines) => lines.iter().for_each(|line| super::log(line)),
        Err(problem) => super::log(&format!("warning: {problem}")),
    }
}

/// Sets what it was. An interface that is gone took its setting along.
fn put_back(setting: &Path, before: &str) -> io::Result<()> {
    match File::options().write(true).open(setting) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened?.write_all(before.as_bytes()),
    }
}

/// Names the network namespace too: records of several are in one place, and indices repeat. So do numbers of namespaces,
/// therefore the name.
fn record_name(interface: &str, index: u32) -> io::Result<String> {
    let namespace = fs::metadata("/proc/self/ns/net")?.ino();
    Ok(format!("napi-{namespace}-{index}-{interface}"))
}

/// The file of the setting, if sysfs speaks about this interface.
fn setting_of(sysfs: &Path, name: &str, index: u32) -> io::Result<PathBuf> {
    let directory = sysfs.join(name);
    let seen = fs::read_to_string(directory.join("ifindex"))?;
    if seen.trim().parse() == Ok(index) {
        return Ok(directory.join("threaded"));
    }
    Err(io::Error::other(
        "/sys is that of another network namespace",
    ))
}

/// The CPU for the NAPI of each queue of `workers` (queue and CPU): those of `cores`, else CPUs without a worker, else
/// that of the next worker; empty where all of it would be the worker's own.
fn beside(workers: &[(u32, u32)], allowed: &[u32], cores: Option<&[u32]>) -> Vec<(u32, u32)> {
    let has_worker = |cpu: &u32| workers.iter().any(|(_, worker)| worker == cpu);
    let spare: Vec<u32> = allowed
        .iter()
        .copied()
        .filter(|cpu| !has_worker(cpu))
        .collect();
    let queues = workers.iter().map(|(queue, _)| *queue);
    let from = match cores {
        Some(cores) if !cores.is_empty() => cores.to_vec(),
        _ if !spare.is_empty() => spare,
        _ => {
            let of_workers = || workers.iter().map(|(_, cpu)| *cpu);
            let others: Vec<u32> = of_workers().skip(1).chain(of_workers().take(1)).collect();
            if of_workers().eq(others.iter().copied()) {
                return Vec::new();
            }
            others
        }
    };
    queues.zip(from.into_iter().cycle()).collect()
}

/// Thread and CPU of each NAPI of a queue in `cpus`. Where the driver does not tell the queue, instances are taken to be in
/// the order of the queues, as veth and most drivers make them.
fn assign(napis: &[Napi], cpus: &[(u32, u32)]) -> Vec<(u32, u32)> {
    (0..)
        .zip(napis)
        .filter_map(|(place, napi)| {
            let queue = napi.rx_queue.unwrap_or(place);
            let (_, cpu) = cpus.iter().find(|(of, _)| *of == queue)?;
            Some((napi.thread?, *cpu))
        })
        .collect()
}

/// Pins a kernel thread, once it is certain that the number is that of one: in a process namespace it would be another's.
fn pin_thread(thread: u32, cpu: u32) -> io::Result<()> {
    let name = fs::read_to_string(format!("/proc/{thread}/comm"))?;
    if !name.starts_with("napi/") {
        return Err(io::Error::other("the thread is not to be seen from here"));
    }
    let pid = i32::try_from(thread).ok().and_then(Pid::from_raw);
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize);
    Ok(sched_setaffinity(pid, &cpus)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_go_where_no_worker_is() {
        assert_eq!(beside(&[(0, 1)], &[0, 1], None), [(0, 0)]);
        assert_eq!(
            beside(&[(0, 2), (1, 3)], &[0, 1, 2, 3], None),
            [(0, 0), (1, 1)]
        );
        assert_eq!(
            beside(&[(0, 1), (1, 2)], &[0, 1, 2], None),
            [(0, 0), (1, 0)]
        );
    }

    #[test]
    fn where_every_cpu_has_a_worker_a_thread_goes_to_that_of_another() {
        assert_eq!(beside(&[(4, 0), (5, 1)], &[0, 1], None), [(4, 1), (5, 0)]);
        assert_eq!(beside(&[(0, 0)], &[0], None), []);
    }

    #[test]
    fn configured_cpus_are_taken_as_they_are() {
        assert_eq!(
            beside(&[(0, 1), (1, 2)], &[0, 1, 2], Some(&[1])),
            [(0, 1), (1, 1)]
        );
    }

    #[test]
    fn instances_are_told_by_their_queue_or_else_by_their_order() {
        let napi = |id, rx_queue| Napi {
            id,
            thread: Some(id * 10),
            rx_queue,
        };
        let cpus = [(0, 7), (1, 8)];
        let told = [napi(1, Some(1)), napi(2, Some(0)), napi(3, Some(9))];
        assert_eq!(assign(&told, &cpus), [(10, 8), (20, 7)]);
        let silent = [napi(1, None), napi(2, None), napi(3, None)];
        assert_eq!(assign(&silent, &cpus), [(10, 7), (20, 8)]);
    }

    /// An interface in a directory, with a setting.
    fn interface(root: &Path, threaded: &str) -> PathBuf {
        let directory = root.join("veth9");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("ifindex"), "9\n").unwrap();
        let setting = directory.join("threaded");
        fs::write(&setting, threaded).unwrap();
        setting
    }

    #[test]
    fn what_a_daemon_that_died_wrote_down_is_put_back_once() {
        let (sysfs, records) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let setting = interface(sysfs.path(), "0\n");
        let path = records.path().join(record_name("veth9", 9).unwrap());
        drop(Record::make_at(path.clone(), &setting).unwrap());
        fs::write(&setting, THREADED).unwrap();
        // A start in between finds what was before, not what is.
        let again = Record::make_at(path.clone(), &setting).unwrap();
        assert_eq!(again.before, "0");
        assert_eq!(
            restore_from(records.path(), sysfs.path()).unwrap(),
            Vec::<String>::new(),
            "its owner lives"
        );
        drop(again);
        let lines = restore_from(records.path(), sysfs.path()).unwrap();
        assert_eq!(lines, ["veth9: threaded NAPI is 0 again"]);
        assert!(fs::read_to_string(&setting).unwrap().starts_with('0'));
        assert!(!path.exists());
        assert!(
            restore_from(records.path(), sysfs.path())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_setting_of_another_namespace_is_not_touched() {
        let sysfs = tempfile::tempdir().unwrap();
        interface(sysfs.path(), "0");
        assert!(setting_of(sysfs.path(), "veth9", 9).is_ok());
        assert!(setting_of(sysfs.path(), "veth9", 8).is_err());
    }
}
