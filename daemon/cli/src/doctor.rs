//! `sluice doctor`: runs the daemon's own preflight, so that the two always agree.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;

/// Exit status when the daemon could not be run at all, apart from what it says itself.
const NO_DAEMON: u8 = 3;

/// Flags are those of `sluiced`: --config, --root, --interface and so on.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Flags for sluiced, such as --config FILE or --interface NAME --root DIR
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

impl Doctor {
    pub(crate) fn run(&self) -> ExitCode {
        let daemon = beside_us().unwrap_or_else(|| PathBuf::from("sluiced"));
        match Command::new(&daemon)
            .arg("--doctor")
            .args(&self.flags)
            .status()
        {
            Ok(status) => status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .map_or(ExitCode::FAILURE, ExitCode::from),
            Err(error) => {
                // Without a reader of stderr the exit status has to do.
                let _ = writeln!(
                    io::stderr(),
                    "sluice: cannot run {}: {error}; install sluiced beside sluice or in PATH",
                    daemon.display()
                );
                ExitCode::from(NO_DAEMON)
            }
        }
    }
}

/// The daemon of the same installation, if there is one: another version would judge by other rules.
fn beside_us() -> Option<PathBuf> {
    let daemon = env::current_exe().ok()?.with_file_name("sluiced");
    daemon.is_file().then_some(daemon)
}
