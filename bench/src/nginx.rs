//! nginx in the lab: one process on a given CPU, sendfile, no log, from a configuration made here.
//!
//! One process and not a master with a worker: all of its CPU time is then the server's. `sendfile_max_chunk` is the
//! default of nginx, 2 MiB. What goes up it writes to a file of the scratch directory and renames, without fsync(2).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestant::Demand;
use crate::error::Error;
use crate::lab::{End, Lab, SERVER, spawning};
use crate::scenario::Direction;
use crate::server::PORT;

const PROGRAM: &str = "nginx";
const PATIENCE: Duration = Duration::from_secs(10);

/// A running nginx. Dropping it kills it.
pub struct Nginx {
    child: Child,
    /// Its version and what it was told.
    pub ready: String,
}

/// The version of nginx, if it is installed.
pub fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("-v").output().ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    Some(said.trim().rsplit("version: ").next()?.to_owned())
}

impl Nginx {
    /// Starts it on `cpu` and waits until it serves `root`.
    pub fn start(lab: &Lab, root: &Path, cpu: u32, demand: &Demand) -> Result<Nginx, Error> {
        let version = version().ok_or(Error::NoNginx)?;
        let scratch = lab.scratch();
        let (config, pid) = (scratch.join("nginx.conf"), scratch.join("nginx.pid"));
        // What it says before it has read where its log is.
        let said = scratch.join("nginx.stderr");
        let stderr = fs::File::create(&said).map_err(Error::io(said.display().to_string()))?;
        // What an earlier one left would look as if this one were ready.
        let _ = fs::remove_file(&pid);
        fs::write(&config, configuration(scratch, &pid, root, demand))
            .map_err(Error::io(config.display().to_string()))?;
        let child = lab
            .command(End::Server, "taskset")
            .args(["-c", &cpu.to_string(), PROGRAM, "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(spawning(PROGRAM))?;
        let mut nginx = Nginx {
            child,
            ready: match demand.direction {
                Direction::Down => format!("{version}, one process, sendfile"),
                Direction::Up => format!("{version}, one process, dav_methods PUT"),
            },
        };
        nginx.wait_ready(&pid, [&said, &scratch.join("nginx.log")])?;
        Ok(nginx)
    }

    /// nginx writes its process id once it listens.
    fn wait_ready(&mut self, pid: &Path, says: [&Path; 2]) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while fs::read_to_string(pid).is_ok_and(|text| text.is_empty()) || !pid.exists() {
            let ended = self.child.try_wait().map_err(Error::io(PROGRAM))?.is_some();
            if ended || Instant::now() > end {
                return Err(Error::Failed {
                    program: PROGRAM.to_owned(),
                    said: lines(&says.map(|file| fs::read_to_string(file).unwrap_or_default())),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of some files, each once: nginx says most mistakes in two places.
fn lines(texts: &[String]) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn configuration(scratch: &Path, pid: &Path, root: &Path, demand: &Demand) -> String {
    let log = scratch.join("nginx.log");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {scratch:?};\n"))
        .collect();
    // Of any size.
    let uploads = match demand.direction {
        Direction::Down => "",
        Direction::Up => {
            "  client_max_body_size 0;\n  dav_methods PUT;\n  create_full_put_path on;\n"
        }
    };
    // `worker_rlimit_nofile` would be of a worker, which there is none of: the limit of files is that of this process.
    let connections = demand.most_connections.saturating_add(64).max(8192);
    format!(
        "daemon off;\nmaster_process off;\npid {pid:?};\nerror_log {log:?};\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 1000000;\n  keepalive_timeout 1h;\n\
         {temporary}{uploads}  server {{ listen {SERVER}:{PORT}; root {root:?}; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_says_in_two_places_is_said_once() {
        let texts = ["a\nb\n", "b\nc\n"].map(str::to_owned);
        assert_eq!(lines(&texts), "a\nb\nc");
    }

    #[test]
    fn nothing_is_written_outside_of_the_scratch_directory() {
        let text = configuration(
            Path::new("/s"),
            Path::new("/s/pid"),
            Path::new("/r"),
            &Demand {
                direction: Direction::Up,
                connections: 1,
                most_connections: 10_000,
            },
        );
        let paths = text.split('"').skip(1).step_by(2);
        for path in paths {
            assert!(path.starts_with("/s") || path == "/r", "{path}");
        }
        assert!(text.contains("dav_methods PUT;"), "{text}");
        assert!(text.contains("worker_connections 10064;"), "{text}");
        assert!(text.contains("listen 192.0.2.1:8080; root \"/r\";"));
    }
}
