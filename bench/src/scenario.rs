//! A scenario file: which servers, over which links, under which load. docs/BENCH.md lists every key.
//!
//! Every list multiplies: a scenario is all combinations of its MTUs, offloads, objects, connections, connections at rest,
//! flows beside and arrivals, a row each. Whatever is not understood is an error before anything runs.

mod goal;

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::contestant::Contestant;
use crate::error::Error;
use crate::offloads::OffloadSet;
use crate::xsk::Attach;
pub use goal::{Goal, Over, Quantity};

/// Connections at rest at most: of the client over AF_XDP, and of that over kernel TCP, which has the ports of one address.
const RESTING_MAX: [u32; 2] = [1_000_000, 50_000];
/// From this size on, what counts is bytes per second and not requests.
const BULK_BYTES: u64 = 1 << 20;

/// One file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// As reports call it.
    pub name: String,
    /// What it does, one line.
    pub about: String,
    /// Who takes turns; the first is compared with each of the others.
    pub servers: Vec<Contestant>,
    /// Runs of each server in a row.
    pub rounds: u32,
    /// What lies between.
    #[serde(default)]
    pub link: Link,
    /// What is asked for.
    pub load: Load,
    /// What it is held to.
    #[serde(default, rename = "goal")]
    pub goals: Vec<Goal>,
}

/// The veth pair.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Bytes of an IP packet at most.
    pub mtu: Vec<u16>,
    /// Of both ends.
    pub offloads: Vec<OffloadSet>,
    /// Whether the client receives in a kernel thread on its own CPU.
    pub threaded_napi: bool,
    /// Whether each end receives on its own CPU.
    pub own_cpus: bool,
}

/// The client.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Who asks.
    #[serde(default)]
    pub client: Client,
    /// Which way the objects go.
    #[serde(default)]
    pub direction: Direction,
    /// Where the program of the client over AF_XDP runs.
    #[serde(default)]
    pub attach: Attach,
    /// Size of what is asked for.
    pub object: Vec<Size>,
    /// How many ask at the same time.
    pub connections: Vec<u32>,
    /// When.
    #[serde(default = "closed")]
    pub arrivals: Vec<Arrivals>,
    /// Whose rate in the closed loop the percentages of `arrivals` are of.
    #[serde(default)]
    pub capacity_of: Option<Contestant>,
    /// Whether a connection serves more than one request.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// Connections that ask once before anything is measured, and then stay open.
    #[serde(default = "alone")]
    pub resting: Vec<u32>,
    /// Bulk downloads by another client at the same time.
    #[serde(default = "alone")]
    pub beside: Vec<u32>,
    /// Whether the client comes before everything else on its CPU.
    #[serde(default)]
    pub real_time: bool,
    /// What is measured of a run. Not for curl, which ends with the file.
    #[serde(default = "two_seconds")]
    pub seconds: f64,
    /// What comes before.
    #[serde(default = "half_a_second")]
    pub warm_up_seconds: f64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Our own, over kernel TCP: `sluice-bench load`.
    #[default]
    Loader,
    /// The same over our own TCP and AF_XDP: `sluice-bench load --client afxdp`.
    Afxdp,
    /// curl: each connection downloads one object.
    Curl,
    /// Our own: each connection asks once and then rests.
    Idle,
}

/// Which way objects go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// GET: from the server.
    #[default]
    Down,
    /// PUT: to the server, which stores each as a file of its own.
    Up,
}

/// When requests begin.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Arrivals {
    /// The next when the one before is answered.
    Closed,
    /// So many per second, whatever happens.
    Rate(f64),
    /// So many percent of a capacity, whatever happens.
    Percent(f64),
}

/// Bytes, written as a number and B, KiB, MiB or GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

/// One row: one combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// See [`Link::mtu`].
    pub mtu: u16,
    /// See [`Link::offloads`].
    pub offloads: OffloadSet,
    /// See [`Load::object`].
    pub object: Size,
    /// See [`Load::connections`].
    pub connections: u32,
    /// See [`Load::resting`].
    pub resting: u32,
    /// See [`Load::beside`].
    pub beside: u32,
    /// See [`Load::arrivals`].
    pub arrivals: Arrivals,
}

impl Case {
    /// At the same time, bulk beside included.
    pub fn open_connections(&self) -> u32 {
        self.connections + self.resting + self.beside
    }

    /// The same with nothing beside.
    pub fn alone(&self) -> Case {
        Case {
            resting: 0,
            beside: 0,
            ..self.clone()
        }
    }
}

fn closed() -> Vec<Arrivals> {
    vec![Arrivals::Closed]
}

fn yes() -> bool {
    true
}

fn alone() -> Vec<u32> {
    vec![0]
}

fn two_seconds() -> f64 {
    2.0
}

fn half_a_second() -> f64 {
    0.5
}

impl Load {
    /// With the defaults of everything that has one.
    pub fn of(object: Size, connections: u32) -> Load {
        Load {
            client: Client::default(),
            direction: Direction::default(),
            attach: Attach::default(),
            object: vec![object],
            connections: vec![connections],
            arrivals: closed(),
            capacity_of: None,
            keep_alive: yes(),
            resting: alone(),
            beside: alone(),
            real_time: false,
            seconds: two_seconds(),
            warm_up_seconds: half_a_second(),
        }
    }
}

impl Default for Link {
    fn default() -> Link {
        Link {
            mtu: vec![1500],
            offloads: vec![OffloadSet::Wire],
            threaded_napi: false,
            own_cpus: false,
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Size, String> {
        let digits = text.trim_end_matches(|char: char| !char.is_ascii_digit());
        let shift = match text[digits.len()..].trim() {
            "B" => Some(0),
            "KiB" => Some(10),
            "MiB" => Some(20),
            "GiB" => Some(30),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(shift);
        bytes
            .and_then(|(count, shift)| count.checked_mul(1 << shift))
            .filter(|bytes| (1..=64 << 30).contains(bytes))
            .map(Size)
            .ok_or_else(|| format!("\"{text}\" is no size, write it as \"16KiB\" (B, KiB, MiB, GiB; at most 64 GiB)"))
    }
}

impl Size {
    /// As people write it.
    pub fn text(self) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = units
            .iter()
            .find(|(shift, _)| self.0.trailing_zeros() >= *shift);
        whole.map_or_else(
            || format!("{} B", self.0),
            |(shift, unit)| format!("{} {unit}", self.0 >> shift),
        )
    }

    /// Whether bytes per second count and not requests.
    pub fn is_bulk(self) -> bool {
        self.0 >= BULK_BYTES
    }
}

impl TryFrom<String> for Arrivals {
    type Error = String;

    fn try_from(text: String) -> Result<Arrivals, String> {
        let number = |text: &str| {
            let number = text.trim().parse::<f64>().ok();
            number.filter(|number| (0.1..=1e7).contains(number))
        };
        let percent = text
            .strip_suffix('%')
            .and_then(number)
            .map(Arrivals::Percent);
        let rate = || text.strip_suffix("/s").and_then(number).map(Arrivals::Rate);
        let closed = || (text == "closed").then_some(Arrivals::Closed);
        percent.or_else(rate).or_else(closed).ok_or_else(|| {
            format!("\"{text}\" is no arrival, write \"closed\", \"5000/s\" or \"50%\"")
        })
    }
}

impl Arrivals {
    /// As people write it.
    pub fn text(self) -> String {
        match self {
            Arrivals::Closed => "closed".to_owned(),
            Arrivals::Rate(rate) => format!("{rate}/s"),
            Arrivals::Percent(percent) => format!("{percent} %"),
        }
    }
}

impl Scenario {
    /// Bytes of all files that an upload keeps at the same time: the objects, and of the largest case what every connection
    /// stores.
    pub fn uploaded_bytes(&self) -> u64 {
        let mut sizes: Vec<u64> = self.load.object.iter().map(|size| size.0).collect();
        let stored = sizes.iter().copied().max().unwrap_or(0);
        let connections = self.load.connections.iter().copied().max().unwrap_or(0);
        sizes.sort_unstable();
        sizes.dedup();
        sizes.iter().sum::<u64>() + stored * u64::from(connections.max(1))
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Scenario, Error> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(Error::io(name.clone()))?;
        Scenario::parse(&text).map_err(|what| Error::Scenario { file: name, what })
    }

    /// The scenario, or what is wrong with it and how to write it.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        scenario.check()?;
        for (number, goal) in (1..).zip(&scenario.goals) {
            goal.check(&scenario)
                .map_err(|what| format!("goal {number}: {what}"))?;
        }
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let Scenario { link, load, .. } = self;
        let must = |holds: bool, otherwise: &str| match holds {
            true => Ok(()),
            false => Err(otherwise.to_owned()),
        };
        must(
            (1..=1000).contains(&self.rounds),
            "rounds: write a number from 1 to 1000",
        )?;
        let has_servers = !self.servers.is_empty();
        must(
            has_servers,
            "servers: name at least one, such as [\"xdp\", \"nginx\"]",
        )?;
        let empty = [
            ("link.mtu", link.mtu.is_empty()),
            ("link.offloads", link.offloads.is_empty()),
            ("load.object", load.object.is_empty()),
            ("load.connections", load.connections.is_empty()),
            ("load.arrivals", load.arrivals.is_empty()),
            ("load.resting", load.resting.is_empty()),
            ("load.beside", load.beside.is_empty()),
        ];
        if let Some((key, _)) = empty.iter().find(|(_, is_empty)| *is_empty) {
            return Err(format!(
                "{key}: the list is empty; leave the key out for its default, or name a value"
            ));
        }
        let twice =
            (1..self.servers.len()).any(|at| self.servers[..at].contains(&self.servers[at]));
        must(!twice, "servers: one is named twice")?;
        let fits = link.mtu.iter().all(|mtu| (1280..=9000).contains(mtu));
        must(fits, "link.mtu: write numbers from 1280 to 9000")?;
        let idle = load.client == Client::Idle;
        let fits = load
            .connections
            .iter()
            .all(|count| (u32::from(!idle)..=60_000).contains(count));
        must(
            fits,
            "load.connections: write numbers from 1 to 60000 (0 only for client = \"idle\")",
        )?;
        let fits = load.beside.iter().all(|count| *count <= 1000);
        must(fits, "load.beside: write numbers from 0 to 1000")?;
        let fits =
            (0.1..=600.0).contains(&load.seconds) && (0.0..=600.0).contains(&load.warm_up_seconds);
        must(
            fits,
            "load.seconds: write 0.1 to 600; load.warm_up_seconds: 0 to 600",
        )?;
        let loader = matches!(load.client, Client::Loader | Client::Afxdp);
        must(
            loader || (load.arrivals == closed() && load.keep_alive),
            "load: arrivals and keep_alive need client = \"loader\" or \"afxdp\"",
        )?;
        // The client over AF_XDP takes everything that comes from the server, also what others asked for.
        must(
            load.client == Client::Loader || load.beside == alone(),
            "load.beside: needs client = \"loader\"",
        )?;
        must(
            load.client == Client::Afxdp || load.attach == Attach::default(),
            "load.attach: needs client = \"afxdp\"",
        )?;
        let uploads =
            matches!(load.client, Client::Curl | Client::Loader) && load.beside == alone();
        must(
            load.direction == Direction::Down || uploads,
            "load.direction: \"up\" needs client = \"curl\" or \"loader\", and nothing beside",
        )?;
        must(
            loader || !load.real_time,
            "load.real_time: needs client = \"loader\" or \"afxdp\"",
        )?;
        self.check_resting()?;
        must(
            !(link.threaded_napi && link.own_cpus),
            "link.own_cpus: has threaded_napi in it; leave that out",
        )?;
        self.check_capacity()
    }

    /// Connections at rest need a client that keeps them, and ports.
    fn check_resting(&self) -> Result<(), String> {
        let load = &self.load;
        if load.resting == alone() {
            return Ok(());
        }
        let [over_afxdp, over_kernel] = RESTING_MAX;
        let most = match load.client {
            Client::Afxdp => over_afxdp,
            Client::Loader if load.direction == Direction::Down => over_kernel,
            _ => 0,
        };
        if load.keep_alive && load.resting.iter().all(|count| *count <= most) {
            return Ok(());
        }
        Err(format!(
            "load.resting: write numbers up to {over_kernel}, or to {over_afxdp} for client = \"afxdp\", without keep_alive = false or direction = \"up\""
        ))
    }

    /// A percentage needs something that it is of, measured before.
    fn check_capacity(&self) -> Result<(), String> {
        let load = &self.load;
        let is_percent = |arrivals: &Arrivals| matches!(arrivals, Arrivals::Percent(_));
        if !load.arrivals.iter().any(is_percent) {
            return Ok(());
        }
        if load.arrivals.first() != Some(&Arrivals::Closed) {
            return Err("load.arrivals: percentages need \"closed\" as the first, which measures what they are of".to_owned());
        }
        match load.capacity_of {
            Some(server) if self.servers.contains(&server) => Ok(()),
            _ => Err("load.capacity_of: name the server whose rate the percentages of arrivals are of, one of servers".to_owned()),
        }
    }

    /// All combinations; the arrivals of one follow each other.
    pub fn cases(&self) -> Vec<Case> {
        let Scenario { link, load, .. } = self;
        let mut cases = Vec::new();
        for &mtu in &link.mtu {
            for &offloads in &link.offloads {
                for &object in &load.object {
                    for &connections in &load.connections {
                        for &resting in &load.resting {
                            for &beside in &load.beside {
                                cases.extend(load.arrivals.iter().map(|&arrivals| Case {
                                    mtu,
                                    offloads,
                                    object,
                                    connections,
                                    resting,
                                    beside,
                                    arrivals,
                                }));
                            }
                        }
                    }
                }
            }
        }
        cases
    }

    /// What tells a case from the others.
    pub fn row_name(&self, case: &Case) -> String {
        let Scenario { link, load, .. } = self;
        let mut words = vec![case.object.text()];
        words.push(match case.connections {
            1 => "1 connection".to_owned(),
            count => format!("{count} connections"),
        });
        if link.mtu.len() > 1 {
            words.push(format!("MTU {}", case.mtu));
        }
        if link.offloads.len() > 1 {
            words.push(case.offloads.name().to_owned());
        }
        if load.resting != alone() {
            words.push(format!("{} at rest", case.resting));
        }
        match case.beside {
            0 if load.beside.len() > 1 => words.push("alone".to_owned()),
            0 => {}
            flows => words.push(format!("beside {flows} bulk flows")),
        }
        let of = load.capacity_of.map_or("", Contestant::name);
        match case.arrivals {
            Arrivals::Closed if load.arrivals.len() > 1 => words.push("closed loop".to_owned()),
            Arrivals::Closed => {}
            Arrivals::Rate(rate) => words.push(format!("{rate}/s")),
            Arrivals::Percent(percent) => words.push(format!("{percent} % of {of}")),
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "small"
        about = "Small objects"
        servers = ["xdp", "nginx"]
        rounds = 3
        [load]
        object = ["1KiB", "16KiB"]
        connections = [1, 64]
        arrivals = ["closed", "50%"]
        capacity_of = "nginx"
    "#;

    fn refused(from: &str, to: &str) -> String {
        assert!(SMALL.contains(from), "{from}");
        Scenario::parse(&SMALL.replace(from, to)).unwrap_err()
    }

    #[test]
    fn an_upload_needs_room_for_every_object_and_for_what_is_stored() {
        let scenario = Scenario::parse(include_str!("../scenarios/upload.toml")).unwrap();
        assert_eq!(scenario.uploaded_bytes(), (64 + 64 * 64) << 20);
    }

    #[test]
    fn every_list_multiplies() {
        let scenario = Scenario::parse(SMALL).unwrap();
        let names: Vec<String> = scenario
            .cases()
            .iter()
            .map(|case| scenario.row_name(case))
            .collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], "1 KiB, 1 connection, closed loop");
        assert_eq!(names[7], "16 KiB, 64 connections, 50 % of nginx");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert_eq!(scenario.link, Link::default());
        assert!(scenario.load.keep_alive && scenario.load.seconds == 2.0);
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_its_fix() {
        for (from, to, said) in [
            ("connections", "conections", "unknown field `conections`"),
            (
                "\"nginx\"]",
                "\"apache\"]",
                "unknown variant `apache`, expected one of `xdp`",
            ),
            ("16KiB", "16KB", "write it as \"16KiB\""),
            ("50%", "half", "write \"closed\", \"5000/s\" or \"50%\""),
            ("rounds = 3", "rounds = 0", "from 1 to 1000"),
            ("[1, 64]", "[]", "load.connections: the list is empty"),
            ("[1, 64]", "[0]", "only for client = \"idle\""),
            ("\"closed\", ", "", "need \"closed\" as the first"),
            (
                "capacity_of = \"nginx\"",
                "",
                "load.capacity_of: name the server",
            ),
            (
                "capacity_of = \"nginx\"",
                "capacity_of = \"kernel\"",
                "one of servers",
            ),
            (
                "[load]",
                "[load]\nclient = \"curl\"",
                "need client = \"loader\"",
            ),
            (
                "[load]",
                "[load]\nclient = \"afxdp\"\nbeside = [0, 4]",
                "load.beside: needs client",
            ),
            (
                "[load]",
                "[load]\nattach = \"generic\"",
                "load.attach: needs client",
            ),
            (
                "[load]",
                "[load]\ndirection = \"up\"\nbeside = [1]",
                "load.direction: \"up\" needs",
            ),
            (
                "[load]",
                "[load]\nresting = [100000]",
                "load.resting: write numbers up to 50000",
            ),
            (
                "[load]",
                "[load]\nclient = \"afxdp\"\nresting = [9]\nkeep_alive = false",
                "without keep_alive = false",
            ),
            ("[load]", "[link]\nmtu = [65000]\n[load]", "1280 to 9000"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(said), "{to}: {error}");
        }
        assert!(
            refused("connections", "conections").contains("line 8"),
            "the place"
        );
    }

    #[test]
    fn the_scenarios_that_are_shipped_are_understood() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let scenario = Scenario::read(&path).unwrap();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            assert_eq!(scenario.name, stem, "a file is called as its scenario");
            count += 1;
        }
        assert!(count >= 6, "{count}");
    }

    #[test]
    fn sizes_are_written_as_they_were_read() {
        for text in ["1 KiB", "256 MiB", "1000 B", "1 GiB"] {
            let size = Size::try_from(text.to_owned()).unwrap();
            assert_eq!(size.text(), text);
        }
    }

    #[test]
    fn every_key_is_documented() {
        let docs = include_str!("../../docs/BENCH.md");
        let goal = "[[goal]]\nmeasure = \"p50\"\nof = \"xdp\"\nbelow = 9\nwhen = { resting = [0] }";
        for (table, from) in [
            ("", "name ="),
            ("load.", "object ="),
            ("link.", "mtu ="),
            ("goal.", "measure ="),
            ("goal.when.", "resting ="),
        ] {
            let text = SMALL.replace("[load]", "[link]\nmtu = [1500]\n[load]");
            let text = format!("{text}\n{goal}");
            assert!(Scenario::parse(&text).is_ok(), "{table}");
            let error = Scenario::parse(&text.replace(from, "unheard_of =")).unwrap_err();
            let (_, known) = error.split_once("expected one of ").unwrap();
            for key in known.split('`').skip(1).step_by(2) {
                let is_table = matches!(key, "link" | "load" | "goal" | "when");
                assert!(
                    is_table || docs.contains(&format!("`{table}{key}`")),
                    "{table}{key}"
                );
            }
        }
    }
}
