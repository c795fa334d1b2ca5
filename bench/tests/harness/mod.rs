//! The harness as its users run it, for the tests that need root: runs it and reads its report.

#[path = "../../../daemon/tests/skip.rs"]
mod skip;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use skip::skip;

/// Whether this is root; if not, reported as a skip of this test.
pub fn is_root(name: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip(
            name,
            "needs root for network namespaces and AF_XDP: sudo make test-veth",
        );
    }
    is_root
}

/// Runs the harness with the daemon beside it and gives its reports, or `None`, reported as a skip, if it cannot run here.
#[allow(dead_code, reason = "one test needs nothing but the rest")]
pub fn reports(name: &str, args: &[&str]) -> Option<Value> {
    let bench = Path::new(env!("CARGO_BIN_EXE_sluice-bench"));
    if !is_root(name) {
        return None;
    }
    if !bench.with_file_name("sluiced").exists() {
        skip(name, "sluiced is not built: make build");
        return None;
    }
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    let output = Command::new(bench)
        .args(args)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    let text = fs::read_to_string(&json).expect("a report");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    Some(document["reports"].take())
}
