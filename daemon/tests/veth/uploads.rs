//! Files that clients store arrive whole and unchanged, and those that are cut off leave nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::{Client, PATIENCE};
use crate::daemon::{Daemon, Settings};
use crate::lab::{Lab, Shape, eventually};
use crate::names::names;
use crate::site::{KIB, MIB, Site, assert_same};

const ON: (&str, &str) = ("upload.enabled", "true");
const KERNEL: (&str, &str) = ("xdp.backend", "\"kernel\"");

/// Sizes around every border on the way: empty, one segment, the request buffer, one block, many with a rest.
const SIZES: [usize; 10] = [
    0,
    1,
    1448,
    16 * KIB - 1,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    MIB + 3,
    10 * MIB,
    48 * MIB + 12_345,
];

impl Client<'_> {
    /// Uploads a file of the client's own as curl does, which expects 100 for all but the smallest, and compares.
    fn upload(&self, local: &Site, site: &Site, name: &str, args: &[&str]) -> String {
        let from = local.path(name);
        let from = from.to_str().expect("names are ASCII");
        let url = self.url(name);
        let mut words = vec!["--fail", "--write-out", "%{http_code} %{num_connects}"];
        words.extend(args);
        words.extend(["--upload-file", from, &url]);
        let said = self.curl_text(&words);
        assert_same(&local.path(name), &site.path(name));
        said
    }
}

fn every_size_is_stored(shape: Shape, settings: Settings) {
    let Some(lab) = Lab::shaped(shape) else {
        return;
    };
    let (local, site) = (Site::new(), Site::new());
    let daemon = Daemon::start(&lab, site.root(), settings);
    for (server, expected) in [(lab.server.ipv4, "201 1"), (lab.server.ipv6, "204 1")] {
        let client = Client::new(&lab.client, server);
        for size in SIZES {
            let name = format!("{size}.bin");
            if expected == "201 1" {
                local.file(&name, size);
            } else {
                // Of the same length, so that only its bytes tell it from what is there.
                local.replace(&name, size);
            }
            let said = client.upload(&local, &site, &name, &["--expect100-timeout", "30"]);
            assert_eq!(said, expected, "{name}");
        }
    }
    let report = daemon.finish();
    assert_eq!(report.get("uploads"), 2 * SIZES.len() as u64);
    assert_eq!(report.get("uploads discarded"), 0);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_is_stored_at_mtu_1500() {
    every_size_is_stored(Shape::default(), &[ON]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_is_stored_at_mtu_9000() {
    let shape = Shape {
        mtu: 9000,
        ..Shape::default()
    };
    every_size_is_stored(shape, &[ON]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_is_stored_with_a_generic_attach() {
    every_size_is_stored(Shape::default(), &[ON, ("xdp.attach", "\"generic\"")]);
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn every_size_is_stored_by_the_kernel_backend() {
    every_size_is_stored(Shape::default(), &[ON, KERNEL]);
}

/// Both backends in turn.
fn on_both(test: impl Fn(&Lab, &[(&str, &str)])) {
    for settings in [&[ON][..], &[ON, KERNEL]] {
        let Some(lab) = Lab::new() else {
            return;
        };
        test(&lab, settings);
    }
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn chunks_from_a_pipe_are_stored() {
    on_both(|lab, settings| {
        let (local, site) = (Site::with("a.bin", 20 * MIB + 7), Site::new());
        let daemon = Daemon::start(lab, site.root(), settings);
        let client = Client::new(&lab.client, lab.server.ipv4);
        let mut command = lab.client.command("curl");
        command.args([
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "60",
            "-T",
            "-",
        ]);
        command.arg(client.url("a.bin"));
        let file = fs::File::open(local.path("a.bin")).expect("it is there");
        let output = command.stdin(Stdio::from(file)).output().expect("ip runs");
        assert!(output.status.success(), "{output:?}");
        assert_same(&local.path("a.bin"), &site.path("a.bin"));
        daemon.finish();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn uploads_and_downloads_share_a_connection() {
    on_both(|lab, settings| {
        let (local, site) = (Site::new(), Site::new());
        let daemon = Daemon::start(lab, site.root(), settings);
        let client = Client::new(&lab.client, lab.server.ipv4);
        let (mut args, mut paths) = (Vec::new(), Vec::new());
        for n in 0..5 {
            let name = format!("{n}.bin");
            local.file(&name, 300 * KIB + n);
            paths.push((
                local.path(&name).display().to_string(),
                client.url(&name),
                name,
            ));
        }
        for (from, url, name) in &paths {
            args.extend([
                "--fail",
                "-w",
                "%{num_connects}\\n",
                "-T",
                from,
                url,
                "--next",
            ]);
            args.extend([
                "--fail",
                "-w",
                "%{num_connects}\\n",
                "-o",
                name,
                url,
                "--next",
            ]);
        }
        args.pop();
        let said = client.curl_text(&args);
        let connections: u64 = said
            .lines()
            .map(|line| line.parse::<u64>().expect("a number"))
            .sum();
        assert_eq!(connections, 1, "{said}");
        for (_, _, name) in &paths {
            assert_same(&local.path(name), &client.path(name));
        }
        daemon.finish();
    });
}

/// Begins an upload of `announced` bytes, sends `bytes` of them and gives the connection.
fn begun(lab: &Lab, announced: usize, bytes: usize) -> TcpStream {
    let client = Client::new(&lab.client, lab.server.ipv4);
    let mut stream = client.connect().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = format!("PUT /cut.bin HTTP/1.1\r\nHost: a\r\nContent-Length: {announced}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it is read");
    stream.write_all(&vec![7; bytes]).expect("it is read");
    stream
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn an_upload_that_is_cut_off_leaves_nothing() {
    on_both(|lab, settings| {
        let site = Site::with("there.bin", 1000);
        let daemon = Daemon::start(lab, site.root(), settings);
        // By a reset, by a FIN, and with the daemon's own file in sight.
        let stream = begun(lab, 10 * MIB, 5 * MIB);
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
        drop(stream);
        let mut stream = begun(lab, 10 * MIB, 5 * MIB);
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("a socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let report = eventually("both are given up", PATIENCE, || {
            let report = daemon.report();
            (report.get("uploads discarded") == 2).then_some(report)
        });
        assert_eq!(report.get("uploads"), 0);
        daemon.finish();
        assert_eq!(names(site.root()), ["there.bin"]);
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_refused_upload_is_answered_although_its_body_comes() {
    on_both(|lab, settings| {
        let (local, site) = (Site::with("a.bin", 8 * MIB), Site::new());
        let mut settings = settings.to_vec();
        settings.push(("upload.max_size", "\"1MiB\""));
        let daemon = Daemon::start(lab, site.root(), &settings);
        let client = Client::new(&lab.client, lab.server.ipv4);
        // Below the limit, and more than a window: what refuses it is found when its body comes already.
        local.file("b.bin", MIB - 1);
        for (from, name, expected) in [
            ("a.bin", "a.bin", "413"),
            ("a.bin", "none/a.bin", "413"),
            ("a.bin", ".hidden", "403"),
            ("b.bin", "none/b.bin", "409"),
        ] {
            let from = local.path(from).display().to_string();
            let url = client.url(name);
            // Without Expect: the body is on its way when the answer comes.
            let args = [
                "-H",
                "Expect:",
                "-w",
                "%{http_code}",
                "-o",
                "out",
                "-T",
                &from,
                &url,
            ];
            let output = client.curl(&args);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said, expected, "{name}: {output:?}");
        }
        daemon.finish();
        assert_eq!(names(site.root()), Vec::<String>::new());
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn a_slow_client_and_many_fast_ones_are_all_stored() {
    on_both(|lab, settings| {
        let (local, site) = (Site::new(), Site::new());
        let mut settings = settings.to_vec();
        settings.push(("xdp.umem", "\"8MiB\""));
        let daemon = Daemon::start(lab, site.root(), &settings);
        let client = Client::new(&lab.client, lab.server.ipv4);
        local.file("slow.bin", 2 * MIB);
        let mut children = vec![];
        for n in 0..12 {
            let name = format!("{n}.bin");
            local.file(&name, 4 * MIB + n);
            children.push((name, None));
        }
        children.push(("slow.bin".to_owned(), Some("500k")));
        let children: Vec<_> = children
            .into_iter()
            .map(|(name, rate)| {
                let mut command: Command = lab.client.command("curl");
                command.args(["--silent", "--show-error", "--fail", "--max-time", "60"]);
                command.args(rate.iter().flat_map(|rate| ["--limit-rate", rate]));
                command
                    .arg("-T")
                    .arg(local.path(&name))
                    .arg(client.url(&name));
                (name, command.spawn().expect("ip runs"))
            })
            .collect();
        for (name, mut child) in children {
            let status = child.wait().expect("a child");
            assert!(status.success(), "{name}: {status}");
            assert_same(&local.path(&name), &site.path(&name));
        }
        daemon.finish();
    });
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn python_requests_stores_with_a_length_and_with_chunks() {
    const SCRIPT: &str = "
import sys, requests
url, path = sys.argv[1], sys.argv[2]
session = requests.Session()
body = open(path, 'rb').read()
def pieces():
    for at in range(0, len(body), 100_000):
        yield body[at:at + 100_000]
for n in range(3):
    assert session.put(url + '/l%d' % n, data=open(path, 'rb')).status_code == 201
    assert session.put(url + '/c%d' % n, data=pieces()).status_code == 201
    assert session.get(url + '/c%d' % n).content == body
answer = session.put(url + '/l0', data=body, headers={'If-None-Match': '*'})
assert answer.status_code == 412, answer.status_code
tag = session.put(url + '/l0', data=body).headers['ETag']
assert session.put(url + '/l0', data=b'x', headers={'If-Match': tag}).status_code == 204
assert session.put(url + '/l0', data=b'x', headers={'If-Match': tag}).status_code == 412
";
    let known = Command::new("python3")
        .args(["-c", "import requests"])
        .output();
    if !known.is_ok_and(|output| output.status.success()) {
        crate::skip::skip("veth", "python3 with requests is not there");
        return;
    }
    on_both(|lab, settings| {
        let (local, site) = (Site::with("a.bin", 3 * MIB + 5), Site::new());
        let daemon = Daemon::start(lab, site.root(), settings);
        let client = Client::new(&lab.client, lab.server.ipv4);
        let url = client.url("");
        let output = lab
            .client
            .command("python3")
            .args(["-c", SCRIPT, url.trim_end_matches('/')])
            .arg(local.path("a.bin"))
            .output()
            .expect("ip runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for name in ["l1", "l2", "c0", "c1", "c2"] {
            assert_same(&local.path("a.bin"), &site.path(name));
        }
        daemon.finish();
    });
}
