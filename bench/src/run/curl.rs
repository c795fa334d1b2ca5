//! curl over kernel TCP, pinned to the client's CPU.

use std::path::Path;

use crate::error::Error;
use crate::lab::{End, Lab};
use crate::site::{Objects, first_word, url};

/// Downloads a file `flows` times at once: bytes of all, and seconds until the last was complete, as curl counts them.
pub fn fetch(lab: &Lab, name: &str, flows: u32, cpu: u32) -> Result<(u64, f64), Error> {
    let url = url(name);
    let transfer = ["--output", "/dev/null", &url];
    let transfers: Vec<&str> = (0..flows).flat_map(|_| transfer).collect();
    at_once(lab, "%{size_download}", &transfers, flows, cpu)
}

/// Uploads a file under each of the names at once: bytes of all, and seconds until the last was stored.
pub fn store(lab: &Lab, from: &Path, names: &[String], cpu: u32) -> Result<(u64, f64), Error> {
    let from = from.display().to_string();
    let urls: Vec<String> = names.iter().map(|name| url(name)).collect();
    let transfers: Vec<&str> = urls
        .iter()
        .flat_map(|url| ["--output", "/dev/null", "--upload-file", &from, url])
        .collect();
    let flows = u32::try_from(names.len()).unwrap_or(u32::MAX);
    at_once(lab, "%{size_upload}", &transfers, flows, cpu)
}

/// Runs so many transfers at the same time; `size` is what curl calls their bytes.
fn at_once(
    lab: &Lab,
    size: &str,
    transfers: &[&str],
    flows: u32,
    cpu: u32,
) -> Result<(u64, f64), Error> {
    let (cpu, most) = (cpu.to_string(), flows.to_string());
    let counts = format!("{size} %{{time_total}}\n");
    let mut args = vec!["-c", &cpu, "curl", "--silent", "--show-error", "--fail"];
    args.extend([
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        &most,
    ]);
    args.extend(["--write-out", &counts]);
    args.extend(transfers);
    let said = lab.run(End::Client, "taskset", &args)?;
    totals(&said).ok_or_else(|| Error::Failed {
        program: "curl".to_owned(),
        said,
    })
}

/// Downloads a file once and compares its SHA-256.
pub fn verify(lab: &Lab, objects: &Objects, name: &str, server: &'static str) -> Result<(), Error> {
    let pipe = format!(
        "set -o pipefail; curl --silent --show-error --fail {} | sha256sum",
        url(name)
    );
    let sum = first_word(&lab.run(End::Client, "bash", &["-c", &pipe])?);
    let served = objects.sha256(name)?;
    if sum == served {
        return Ok(());
    }
    Err(Error::WrongBytes {
        backend: server,
        what: format!("SHA-256 {sum} instead of {served}"),
    })
}

/// The sum of the sizes and the longest time.
fn totals(said: &str) -> Option<(u64, f64)> {
    let mut sum = (0, 0.0_f64);
    for line in said.lines() {
        let (bytes, seconds) = line.split_once(' ')?;
        sum.0 += bytes.parse::<u64>().ok()?;
        sum.1 = sum.1.max(seconds.parse().ok()?);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_of_the_sizes_and_the_longest_time() {
        assert_eq!(totals("10 0.5\n20 0.25\n"), Some((30, 0.5)));
        assert_eq!(totals("curl: (7)\n"), None);
    }
}
