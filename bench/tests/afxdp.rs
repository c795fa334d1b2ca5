//! The client over AF_XDP and the bare transmitter, for a moment each, with the daemon beside them: `make test-veth`.

mod harness;

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The first report.
fn report(name: &str, args: &[&str]) -> Option<Value> {
    harness::reports(name, args).map(|mut reports| reports[0].take())
}

/// The last run of a measure.
fn value(contender: &Value, measure: &str) -> f64 {
    let series = contender["series"].as_array().expect("series");
    let series = series.iter().find(|one| one["measure"]["name"] == measure);
    let runs = series.unwrap_or_else(|| panic!("no {measure} in {contender:#}"))["runs"].as_array();
    runs.and_then(|runs| runs.last()?.as_f64()).expect("a run")
}

#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn our_tcp_as_the_client_gets_answers_from_our_tcp_and_from_the_kernels() {
    let scenario = Path::new(env!("CARGO_TARGET_TMPDIR")).join("afxdp.toml");
    for (attach, own_cpus, keep_alive) in [
        ("native", false, true),
        ("generic", false, true),
        ("native", true, false),
    ] {
        let text = format!(
            "name = \"afxdp\"\nabout = \"\"\nservers = [\"xdp\", \"kernel\"]\nrounds = 1\n\
             [link]\noffloads = [\"full\"]\nown_cpus = {own_cpus}\n\
             [load]\nclient = \"afxdp\"\nattach = \"{attach}\"\nobject = [\"16KiB\"]\nconnections = [64]\n\
             keep_alive = {keep_alive}\nseconds = 0.4\nwarm_up_seconds = 0.1\n"
        );
        fs::write(&scenario, text).expect("a scenario");
        let Some(report) = report("afxdp", &["run", scenario.to_str().expect("UTF-8")]) else {
            return;
        };
        assert_eq!(report["not_run"].as_array().map(Vec::len), Some(0));
        let contenders = report["rows"][0]["contenders"].as_array().expect("servers");
        assert_eq!(contenders.len(), 2);
        for contender in contenders {
            assert!(value(contender, "requests") > 100.0, "{contender:#}");
            assert_eq!(value(contender, "failed"), 0.0, "{contender:#}");
            // Whoever receives on a CPU of its own, the account of the server's CPU is complete.
            assert!(value(contender, "others") < 100.0, "{contender:#}");
        }
    }
}

#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn connections_at_rest_stay_open_and_cost_memory() {
    let scenario = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resting.toml");
    let text = "name = \"resting\"\nabout = \"\"\nservers = [\"xdp\", \"kernel\"]\nrounds = 1\n\
                [load]\nclient = \"afxdp\"\nobject = [\"4KiB\"]\nconnections = [4]\narrivals = [\"500/s\"]\n\
                resting = [0, 3000]\nseconds = 0.4\nwarm_up_seconds = 0.1\n";
    fs::write(&scenario, text).expect("a scenario");
    let Some(report) = report("resting", &["run", scenario.to_str().expect("UTF-8")]) else {
        return;
    };
    assert_eq!(report["not_run"].as_array().map(Vec::len), Some(0));
    let findings = report["findings"].to_string();
    for server in ["xdp", "kernel"] {
        let slower = format!("{server}: p50 beside 3000 connections at rest is ");
        assert!(findings.contains(&slower), "{findings}");
    }
    // A socket and its inode have more than 2 KiB.
    let sockets = |row: usize| value(&report["rows"][row]["contenders"][1], "kernel's sockets");
    assert!(sockets(1) - sockets(0) > 6.0 * 0.9, "{findings}");
}

#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn small_uploads_are_stored_and_timed() {
    let scenario = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uploads.toml");
    let text = "name = \"uploads\"\nabout = \"\"\nservers = [\"xdp\", \"kernel\"]\nrounds = 1\n\
                [load]\ndirection = \"up\"\nobject = [\"16KiB\"]\nconnections = [4]\n\
                arrivals = [\"closed\", \"100/s\"]\nseconds = 0.4\nwarm_up_seconds = 0.1\n";
    fs::write(&scenario, text).expect("a scenario");
    let Some(report) = report("uploads", &["run", scenario.to_str().expect("UTF-8")]) else {
        return;
    };
    assert_eq!(report["not_run"].as_array().map(Vec::len), Some(0));
    for row in 0..2 {
        for contender in report["rows"][row]["contenders"].as_array().expect("two") {
            assert_eq!(value(contender, "failed"), 0.0, "{contender:#}");
            assert!(
                contender["latency"]["count"].as_u64() > Some(20),
                "{contender:#}"
            );
        }
    }
}

#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn frames_of_the_bare_transmitter_arrive_at_a_socket_and_at_a_program_that_drops_them() {
    let args = [
        "limit",
        "--rounds=1",
        "--seconds=0.3",
        "--frame=64,1514",
        "--attach=native",
    ];
    let Some(report) = report("limit", &args) else {
        return;
    };
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 4, "two lengths, with and without a thread");
    for row in rows {
        let contenders = row["contenders"].as_array().expect("contenders");
        let is_full = row["parameters"]["frame_bytes"] == 1514;
        assert_eq!(contenders.len(), if is_full { 3 } else { 2 });
        for contender in contenders {
            assert!(value(contender, "frames") > 1000.0, "{contender:#}");
            // What the daemon sends is not counted.
            if contender["name"] != "copy lane" {
                assert!(value(contender, "sent") > 1000.0, "{contender:#}");
            }
        }
    }
}
