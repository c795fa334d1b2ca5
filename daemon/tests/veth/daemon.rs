//! `sluiced` as a child in the server namespace: its configuration, what it prints, how it ends.
//!
//! Every test ends with [`Daemon::finish`], which waits until the service is idle and then holds the ledgers
//! against each other twice, alive and after the drain: a drain would tidy away what a live daemon leaks.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::lab::{Lab, eventually};
use crate::report::Report;

pub const PORT: u16 = 8080;

/// Start-up, an answer to a signal, an idle service: all of these take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the line begins with that says that it serves, and how.
const READY: &str = "sluiced: ready:";

/// What differs from the defaults: `("xdp.umem", "\"8MiB\"")`.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A configuration file and the process that will read it.
pub struct Launch {
    command: Command,
    folder: TempDir,
}

impl Launch {
    /// Serves `root` on AF_XDP at the server end of the lab, unless `settings` say otherwise.
    pub fn new(lab: &Lab, root: &Path, settings: Settings) -> Launch {
        Launch::wrapped(lab, root, settings, &[])
    }

    /// The same behind another program, such as `setpriv`.
    pub fn wrapped(lab: &Lab, root: &Path, settings: Settings, wrapper: &[&str]) -> Launch {
        let folder = tempfile::tempdir_in(&lab.scratch).expect("a temporary directory");
        let file = folder.path().join("sluice.toml");
        fs::write(&file, configuration(lab, root, settings)).expect("the directory is writable");
        // Some tests run the daemon as another user.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_sluiced"));
        let mut command = lab.server.command(words[0]);
        command
            .args(&words[1..])
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Launch { command, folder }
    }

    /// Starts it and waits until it serves.
    pub fn start(mut self) -> Daemon {
        let mut child = self.command.spawn().expect("sluiced runs");
        let daemon = Daemon {
            stdout: Captured::of(child.stdout.take()),
            stderr: Captured::of(child.stderr.take()),
            child,
            _folder: self.folder,
        };
        eventually("sluiced says ready, or ends", PATIENCE, || {
            let said = daemon.log();
            assert!(daemon.is_running(), "sluiced ended at start:\n{said}");
            said.contains(READY).then_some(())
        });
        daemon
    }

    /// Starts it where it must refuse to: the exit status and what it said.
    pub fn refusal(mut self) -> (ExitStatus, String) {
        let mut child = self.command.spawn().expect("sluiced runs");
        let said = Captured::of(child.stderr.take());
        let status = eventually("sluiced refuses to start", PATIENCE, || {
            if said.text().contains(READY) {
                let _ = child.kill();
                panic!("sluiced started:\n{}", said.text());
            }
            child.try_wait().expect("a child can be waited for")
        });
        (status, said.complete())
    }
}

/// The file: what every test needs, with `settings` over it.
fn configuration(lab: &Lab, root: &Path, settings: Settings) -> String {
    let root = format!("{root:?}");
    let interface = format!("{:?}", lab.server.link);
    let mut xdp = vec![
        ("backend", "\"xdp\""),
        ("interface", interface.as_str()),
        // Labs are built one after the other; a small UMEM starts faster and makes blocks scarce.
        ("umem", "\"32MiB\""),
    ];
    let (mut tcp, mut limits, mut upload) = (Vec::new(), Vec::new(), Vec::new());
    let mut disk = Vec::new();
    for &(key, value) in settings {
        let (table, name) = key.split_once('.').expect("table.key");
        let table = match table {
            "xdp" => &mut xdp,
            "tcp" => &mut tcp,
            "limits" => &mut limits,
            "upload" => &mut upload,
            "disk" => &mut disk,
            other => panic!("no table {other} here"),
        };
        table.retain(|(known, _)| *known != name);
        table.push((name, value));
    }
    let lines = |table: &[(&str, &str)]| -> String {
        table
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    };
    format!(
        "[xdp]\n{}\n[[listen]]\nport = {PORT}\n\n[[site]]\nroot = {root}\n\n[tcp]\n{}\n[limits]\n{}\n[upload]\n{}\n[disk]\n{}",
        lines(&xdp),
        lines(&tcp),
        lines(&limits),
        lines(&upload),
        lines(&disk)
    )
}

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    child: Child,
    stdout: Captured,
    stderr: Captured,
    /// Holds the configuration file.
    _folder: TempDir,
}

impl Daemon {
    /// Starts one with `settings` and waits until it serves.
    pub fn start(lab: &Lab, root: &Path, settings: Settings) -> Daemon {
        Launch::new(lab, root, settings).start()
    }

    /// What it wrote to stderr so far.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    /// The line that says how it serves.
    pub fn ready_line(&self) -> String {
        let log = self.log();
        log.lines()
            .find(|line| line.starts_with(READY))
            .unwrap_or_else(|| panic!("no ready line:\n{log}"))
            .to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the daemon is a child of ours");
    }

    /// Its report of now, by SIGUSR1.
    pub fn report(&self) -> Report {
        let seen = self.stdout.text().len();
        self.signal(Signal::USR1);
        eventually("SIGUSR1 prints a report", PATIENCE, || {
            assert!(self.is_running(), "sluiced ended:\n{}", self.log());
            Report::complete(&self.stdout.text()[seen..])
        })
    }

    /// Waits until nobody is served any more and nothing is on its way, and checks that nothing was left behind.
    pub fn settle(&self) -> Report {
        let end = Instant::now() + PATIENCE;
        loop {
            let report = self.report();
            let Some(what) = report.leftovers() else {
                return report;
            };
            assert!(
                Instant::now() < end,
                "left behind {PATIENCE:?} after the last client: {what}\n{}",
                report.text()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of a test: idle, SIGTERM, exit status 0, and nothing left behind before and after.
    pub fn finish(self) -> Report {
        self.settle();
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for the end that SIGTERM asked for and checks the last report.
    pub fn ended(mut self) -> Report {
        let status = eventually("sluiced ends", PATIENCE, || {
            self.child.try_wait().expect("a child can be waited for")
        });
        let said = self.stdout.complete();
        assert!(
            status.success(),
            "sluiced: {status}:\n{}\n{said}",
            self.log()
        );
        let report = Report::last(&said);
        if let Some(what) = report.leftovers() {
            panic!("left behind at exit: {what}\n{said}");
        }
        report
    }

    /// Ends it with SIGKILL: no drain, no clean-up of its own.
    pub fn kill(mut self) {
        self.child.kill().expect("the daemon is a child of ours");
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(9));
    }

    pub fn is_running(&self) -> bool {
        // A zombie counts as ended; `try_wait` would need `&mut`.
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        !matches!(state_and_times(&stat), None | Some(('Z' | 'X', _)))
    }

    /// User and system time it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).expect("the daemon runs");
        let (_, ticks) = state_and_times(&stat).expect("proc_pid_stat(5)");
        // USER_HZ is 100 on every Linux that anybody runs this on.
        Duration::from_millis(10 * ticks)
    }

    /// The names of its threads, sorted.
    pub fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(self.proc("task")).expect("the daemon runs");
        let mut names: Vec<String> = tasks
            .filter_map(Result::ok)
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
            .collect();
        names.sort();
        names
    }

    /// Waits for an end that nobody asked for: the status and what it said.
    pub fn gave_up(mut self) -> (ExitStatus, String) {
        let status = eventually("sluiced gives up", Duration::from_secs(5), || {
            self.child.try_wait().expect("a child can be waited for")
        });
        (status, self.stderr.complete())
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd"))
            .expect("the daemon runs")
            .count()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("proc_pid_status(5)") << 10
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            // What the daemon said belongs to the failure; cargo shows it with the panic.
            println!("--- sluiced stderr\n{}", self.stderr.text());
            let printed = self.stdout.text();
            println!("--- the last report\n{}", Report::last_text(&printed));
        }
    }
}

/// State letter and ticks of user plus system time from `/proc/PID/stat` (proc_pid_stat(5), fields 3, 14, 15).
fn state_and_times(stat: &str) -> Option<(char, u64)> {
    // The name in brackets may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((fields[0].chars().next()?, ticks(11)? + ticks(12)?))
}

/// What a child writes to a pipe, read by a thread so that the child never waits for us.
struct Captured {
    text: Arc<Mutex<String>>,
    reader: thread::JoinHandle<()>,
}

impl Captured {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Captured {
        let pipe = pipe.expect("the stream is piped");
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|len| len > 0) {
                sink.lock().expect("no writer panics").push_str(&line);
                line.clear();
            }
        });
        Captured { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().expect("no writer panics").clone()
    }

    /// Everything, once the child has ended.
    fn complete(&self) -> String {
        eventually("the child closes its output", PATIENCE, || {
            self.reader.is_finished().then(|| self.text())
        })
    }
}

/// Where clients find the service.
pub fn endpoint(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}
