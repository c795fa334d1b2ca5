//! Where the processes of a scenario sit, and which daemon is measured: what every scenario with a lab asks for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::error::Error;
use crate::lab::output;

/// Flags that such scenarios share.
#[derive(Args, Debug)]
pub struct Seat {
    /// CPU of the server's worker
    #[arg(long, default_value_t = 0)]
    pub server_cpu: u32,

    /// CPU of everything else
    #[arg(long, default_value_t = 1)]
    pub client_cpu: u32,

    /// The daemon [default: sluiced beside this program]
    #[arg(long, value_name = "FILE")]
    sluiced: Option<PathBuf>,
}

impl Seat {
    /// The daemon that was named, or the one beside this program.
    ///
    /// # Errors
    /// There is none, or this is not root, without which no scenario gets far.
    pub fn daemon(&self) -> Result<PathBuf, Error> {
        let beside = || {
            let own = std::env::current_exe().unwrap_or_default();
            own.with_file_name("sluiced")
        };
        let path = self.sluiced.clone().unwrap_or_else(beside);
        // The lab runs it by name in another namespace: relative names are looked up in PATH there.
        let path = fs::canonicalize(&path).map_err(|_| Error::NoDaemon(path))?;
        if output("id", Command::new("id").arg("-u"))?.trim() == "0" {
            Ok(path)
        } else {
            Err(Error::NotRoot)
        }
    }
}
