//! `sluiced` in the lab: one worker on a given CPU, either backend.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::Error;
use crate::lab::{End, Lab, SERVER, output, spawning};

/// Port of the service.
pub const PORT: u16 = 8080;

/// What the daemon serves by default.
const CONNECTIONS: u32 = 65_536;
/// Connections that are being closed beside those that a scenario wants.
const SPARE: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(30);

/// The stack that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// AF_XDP and the userspace TCP.
    Xdp,
    /// The same application over kernel sockets.
    Kernel,
}

impl Backend {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Xdp => "xdp",
            Backend::Kernel => "kernel",
        }
    }
}

/// Congestion control, by the names that daemon and kernel share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// CUBIC: RFC 9438 here, `tcp_cubic.c` there.
    Cubic,
    /// Reno.
    Reno,
    /// DCTCP; only here.
    Dctcp,
    /// BBR: version 3 here, version 1 there.
    Bbr,
}

impl Congestion {
    /// As configuration and routes write it.
    pub fn name(self) -> &'static str {
        match self {
            Congestion::Cubic => "cubic",
            Congestion::Reno => "reno",
            Congestion::Dctcp => "dctcp",
            Congestion::Bbr => "bbr",
        }
    }
}

/// How a daemon is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The stack.
    pub backend: Backend,
    /// CPU of its worker.
    pub cpu: u32,
    /// Congestion control of our TCP. That of the kernel's is a matter of the lab.
    pub congestion: Congestion,
    /// Before everything else on its CPUs, as the kernel's TCP is, which runs in softirqs: for scenarios that measure
    /// the protocol and not who else wants the CPU.
    pub real_time: bool,
    /// Port of the service.
    pub port: u16,
    /// What else the configuration says of `[xdp]`, as TOML.
    pub xdp: &'a str,
    /// Whether PUT stores files.
    pub uploads: bool,
    /// Connections that it must be able to serve at the same time.
    pub connections: u32,
    /// All threads on that CPU, not only the worker: for scenarios that count what the CPU does.
    pub pinned: bool,
}

impl Launch<'_> {
    /// With the defaults of the daemon.
    pub fn new(backend: Backend, cpu: u32) -> Self {
        Launch {
            backend,
            cpu,
            congestion: Congestion::Cubic,
            real_time: false,
            port: PORT,
            xdp: "",
            uploads: false,
            connections: 0,
            pinned: false,
        }
    }
}

/// A running daemon. Dropping it kills it.
pub struct Server {
    child: Child,
    backend: Backend,
    /// How it serves, in its own words.
    pub ready: String,
}

impl Server {
    /// Starts it with its worker on `cpu` and waits until it serves `root`.
    pub fn start(
        lab: &Lab,
        binary: &Path,
        root: &Path,
        backend: Backend,
        cpu: u32,
    ) -> Result<Server, Error> {
        Server::launch(lab, binary, root, &Launch::new(backend, cpu))
    }

    /// The same with more to say.
    pub fn launch(
        lab: &Lab,
        binary: &Path,
        root: &Path,
        launch: &Launch<'_>,
    ) -> Result<Server, Error> {
        let Launch {
            backend, cpu, port, ..
        } = *launch;
        let config = lab.scratch().join(format!("sluice-{port}.toml"));
        let log = lab.scratch().join(format!("sluiced-{port}.log"));
        let text = format!(
            "[xdp]\nbackend = \"{}\"\ninterface = \"{}\"\naddresses = [\"{SERVER}\"]\ncores = [{cpu}]\n{}\n\
             [tcp]\ncongestion = \"{}\"\n[upload]\nenabled = {}\n\
             [limits]\nconnections = {}\nidle_timeout = \"1h\"\n\
             [[listen]]\nport = {port}\n[[site]]\nroot = {root:?}\n",
            backend.name(),
            lab.link(End::Server),
            launch.xdp,
            launch.congestion.name(),
            launch.uploads,
            launch.connections.saturating_add(SPARE).max(CONNECTIONS),
        );
        fs::write(&config, text).map_err(Error::io(config.display().to_string()))?;
        let stderr = fs::File::create(&log).map_err(Error::io(log.display().to_string()))?;
        let binary = binary.display().to_string();
        let mut words: Vec<String> = Vec::new();
        if launch.real_time {
            words.extend(["chrt", "--fifo", "1"].map(str::to_owned));
        }
        if launch.pinned {
            words.extend(["taskset".to_owned(), "-c".to_owned(), cpu.to_string()]);
        }
        words.push(binary);
        let mut command = lab.command(End::Server, &words[0]);
        command.args(&words[1..]);
        let child = command
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(spawning("sluiced"))?;
        let mut server = Server {
            child,
            backend,
            ready: String::new(),
        };
        server.ready = server.wait_ready(&log)?;
        Ok(server)
    }

    fn wait_ready(&mut self, log: &Path) -> Result<String, Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self
                .child
                .try_wait()
                .map_err(Error::io("sluiced"))?
                .is_some();
            let said = fs::read_to_string(log).unwrap_or_default();
            let ready = said.lines().find_map(|line| line.split_once("ready: "));
            if let Some((_, how)) = ready {
                return Ok(how.to_owned());
            }
            if ended || Instant::now() > end {
                return Err(Error::Daemon {
                    backend: self.backend.name(),
                    said: said.trim().to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by SIGTERM.
    pub fn stop(mut self) -> Result<(), Error> {
        // The shell has kill built in; the program is in a package that may be missing.
        let terminate = format!("kill -TERM {}", self.child.id());
        output("sh", Command::new("sh").args(["-c", &terminate]))?;
        let status = self.child.wait().map_err(Error::io("sluiced"))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Daemon {
            backend: self.backend.name(),
            said: format!("it ended with {status}"),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
