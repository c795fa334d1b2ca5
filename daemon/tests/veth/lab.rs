//! The network of a test: two namespaces, a veth pair between them, gone when the value is.
//!
//! `bench/netlab.sh` builds it, the same for tests, demo and benchmark. The script runs as a child in a process
//! group of its own and removes the lab when its stdin ends: on drop, after a panic, on Ctrl-C and when the test
//! process is killed.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::skip::skip;

const SCRIPT: &str = include_str!("../../../bench/netlab.sh");

/// Makes the names of this process unique; the process id makes them unique among processes.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Shape of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub mtu: u32,
    /// RX and TX queues of both ends.
    pub queues: u32,
    /// A router between the ends sends the client no IP packet longer than this.
    pub narrow: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            mtu: 1500,
            queues: 1,
            narrow: None,
        }
    }
}

/// Two namespaces and what joins them.
pub struct Lab {
    pub server: Side,
    pub client: Side,
    /// Between them in a narrow lab; its link is that to the client.
    pub router: Option<Side>,
    /// A directory that goes with the lab, however the test process ends.
    pub scratch: PathBuf,
    holder: Child,
}

/// One end.
pub struct Side {
    pub namespace: String,
    pub link: String,
    pub ipv4: IpAddr,
    pub ipv6: IpAddr,
}

impl Lab {
    /// MTU 1500, one queue. `None`, reported as a skip, if this process may not build it.
    pub fn new() -> Option<Lab> {
        Lab::shaped(Shape::default())
    }

    /// A lab of another shape.
    pub fn shaped(shape: Shape) -> Option<Lab> {
        if !rustix::process::geteuid().is_root() {
            skip(
                "veth",
                "needs root for network namespaces: sudo make test-veth",
            );
            return None;
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sl{}n{number}", std::process::id());
        let mut builder = Command::new("bash");
        builder
            .args(["-c", SCRIPT, "netlab", "hold", &name])
            .args(["--mtu", &shape.mtu.to_string()])
            .args(["--queues", &shape.queues.to_string()]);
        if let Some(narrow) = shape.narrow {
            builder.args(["--narrow", &narrow.to_string()]);
        }
        let mut holder = builder
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C must not reach it: it has to clean up.
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let said = BufReader::new(holder.stdout.take().expect("stdout is piped"))
            .lines()
            .next();
        let scratch = match &said {
            Some(Ok(line)) => line.strip_prefix("ready ").map(PathBuf::from),
            _ => None,
        };
        let lab = Lab {
            server: Side::new(&name, "srv", "s", "192.0.2.1", "2001:db8::1"),
            client: match shape.narrow {
                None => Side::new(&name, "cli", "c", "192.0.2.2", "2001:db8::2"),
                Some(_) => Side::new(&name, "cli", "c", "198.51.100.2", "2001:db8:1::2"),
            },
            router: shape
                .narrow
                .map(|_| Side::new(&name, "mid", "y", "198.51.100.254", "2001:db8:1::fe")),
            scratch: scratch.clone().unwrap_or_default(),
            holder,
        };
        let scratch =
            scratch.unwrap_or_else(|| panic!("the lab {name} could not be built: see above"));
        // Some tests run the daemon as another user.
        fs::set_permissions(scratch, Permissions::from_mode(0o755)).expect("it is ours");
        Some(lab)
    }

    /// Drops frames at random at the client, in `per_mille` of 1000 cases: what it receives and, if
    /// `both_ways`, what it sends. AF_XDP frames bypass the hooks of their own interface, so the client end is
    /// the only place (kernel-side filters at the server see none of them). The server's kernel cuts its
    /// super-segments, so that a loss is a packet's as on a wire.
    pub fn lose(&self, per_mille: u32, both_ways: bool) {
        self.server.offloads(&["tso", "off", "gso", "off"]);
        let mut rules = String::from("table netdev loss {\n");
        for hook in ["ingress", "egress"]
            .iter()
            .take(if both_ways { 2 } else { 1 })
        {
            let _ = writeln!(
                rules,
                "chain {hook} {{ type filter hook {hook} device \"{}\" priority 0; policy accept;\n\
                 numgen random mod 1000 < {per_mille} counter drop\n}}",
                self.client.link
            );
        }
        rules.push('}');
        self.client.run("nft", &[rules.as_str()]);
    }

    /// Frames dropped by [`Lab::lose`].
    pub fn lost(&self) -> u64 {
        let listing = self.client.run("nft", &["list", "table", "netdev", "loss"]);
        let mut words = listing.split_whitespace();
        let mut lost = 0;
        while words.any(|word| word == "packets") {
            lost += words
                .next()
                .and_then(|count| count.parse::<u64>().ok())
                .expect("nft counts packets");
        }
        lost
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

impl Side {
    fn new(name: &str, suffix: &str, end: &str, ipv4: &str, ipv6: &str) -> Side {
        Side {
            namespace: format!("{name}-{suffix}"),
            link: format!("{name}{end}"),
            ipv4: ipv4.parse().expect("an address"),
            ipv6: ipv6.parse().expect("an address"),
        }
    }

    /// A command that will run in this namespace, with the `/sys` of it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Runs a command in this namespace and returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output();
        succeeded(program, output.expect("ip runs"))
    }

    /// Runs `work` on a thread inside this namespace. Sockets made there stay in it.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let namespace = File::open(PathBuf::from("/run/netns").join(&self.namespace))
            .expect("the namespace exists");
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                        .expect("root may enter a namespace");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether an XDP program is attached to the link.
    pub fn has_xdp_program(&self) -> bool {
        self.xdp_program().is_some()
    }

    /// The id of the XDP program that is attached to the link.
    pub fn xdp_program(&self) -> Option<String> {
        let shown = self.run("ip", &["-d", "link", "show", "dev", &self.link]);
        let (_, program) = shown.split_once("prog/xdp id ")?;
        Some(program.split_whitespace().next()?.to_owned())
    }

    /// Switches offloads with `ethtool -K`, such as `["tx", "off"]`.
    pub fn offloads(&self, settings: &[&str]) {
        let mut args = vec!["-K", self.link.as_str()];
        args.extend(settings);
        self.run("ethtool", &args);
    }
}

fn succeeded(what: &str, output: Output) -> String {
    assert!(
        output.status.success(),
        "{what}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program outside of the lab and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    succeeded(
        program,
        output.unwrap_or_else(|error| panic!("{program}: {error}")),
    )
}

/// Polls until `condition` gives a value, and panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
