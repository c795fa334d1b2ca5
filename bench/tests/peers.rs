//! A short variant of `sluice-bench peers` with the daemon beside it: `make test-veth`.

#[path = "../../daemon/tests/skip.rs"]
mod skip;

use std::path::Path;
use std::process::Command;

use skip::skip;

/// Every transfer has its own daemon and its own link; the scenario fails if one byte differs or one does not end.
#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn linux_and_we_get_every_byte_through_bad_links_with_every_controller() {
    let bench = Path::new(env!("CARGO_BIN_EXE_sluice-bench"));
    if !nix::unistd::geteuid().is_root() {
        return skip(
            "peers",
            "needs root for network namespaces: sudo make test-veth",
        );
    }
    if !bench.with_file_name("sluiced").exists() {
        return skip("peers", "sluiced is not built: make build");
    }
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers.json");
    let output = Command::new(bench)
        .args(["peers", "--kib", "512", "--seed", "7"])
        .args(["--only", "loss 3 %,reorder far,everything", "--json"])
        .arg(&json)
        .output()
        .expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    let text = std::fs::read_to_string(&json).expect("a report");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (direction, contenders) in [6, 4].into_iter().enumerate() {
        let rows = document["reports"][direction]["rows"].as_array();
        let rows = rows.expect("rows");
        assert_eq!(rows.len(), 3, "a row for every link");
        for row in rows {
            assert_eq!(row["contenders"].as_array().map(Vec::len), Some(contenders));
        }
    }
}
