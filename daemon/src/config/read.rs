//! From the text of the file and the flags to a [`Config`]: every key, its type, its range.
//!
//! The file alone may lack what only the flags give, so it is first read into a [`Draft`]; the flags are laid
//! over that, and what is then still missing or contradictory is an error.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::error::Diagnostics;
use super::table::{
    self, Read, Rejection, Section, Value, address, boolean, choice, describe, duration, expected,
    integer, list, size, string,
};
use super::{
    Attach, Backend, Bind, Config, ConfigErrors, Disk, ENDPOINTS_MAX, Limits, Listen, Overrides,
    Queues, Site, Symlinks, Tcp, Upload, Xdp,
};

/// The version of the file format that this program reads.
const SCHEMA_VERSION: u64 = 1;

/// `IFNAMSIZ` less the terminating NUL, `linux/if.h`.
const INTERFACE_NAME_BYTES: usize = 15;

/// Below it too few frames remain for the rings; above it one queue would need more than any NIC can fill.
const UMEM_BYTES: RangeInclusive<u64> = (4 << 20)..=(16 << 30);

/// Ids that a queue or a CPU can have: `CONFIG_NR_CPUS` and channel counts stay below it in practice.
const IDS: RangeInclusive<u64> = 0..=1023;

/// From the default MSS of IPv4 (RFC 9293 section 3.7.1) to what fits a 65,535-byte packet.
const MSS: RangeInclusive<u64> = 536..=65_495;
/// One file block to the largest window there is (RFC 7323 section 2.3).
const SEND_BUFFER: RangeInclusive<u64> = (64 << 10)..=(1 << 30);

/// The floor of the RTO. No peer is asked to acknowledge a lone segment in less than the first: it may wait for company
/// (Linux for 40 ms, RFC 9293 section 3.8.6.3 allows 500 ms), and timers of a sleeping machine are late by milliseconds.
/// The second is what RFC 6298 section 5.7 takes for a path of which it knows the worst; a tail that is lost waits so long.
const RTO_MIN: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3);

/// Below the first number honest clients would notice; above the second no queue delivers so many frames.
const SYN_RATE: RangeInclusive<u64> = 100..=10_000_000;
const SYN_RATE_PER_SOURCE: RangeInclusive<u64> = 10..=10_000_000;

/// One file block, of which a read past the page cache is made, to more than any file system of today holds.
const DIRECT_ABOVE: RangeInclusive<u64> = (64 << 10)..=(1 << 50);

/// Up to what `off_t` can say.
const FILE_BYTES: RangeInclusive<u64> = 1..=i64::MAX.unsigned_abs();

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A configuration of which flags may still supply parts.
struct Draft {
    xdp: Xdp,
    listen: Vec<Listen>,
    root: Option<PathBuf>,
    symlinks: Symlinks,
    tcp: Tcp,
    disk: Disk,
    upload: Upload,
    limits: Limits,
}

/// Reads a file (or nothing) and lays the flags over it.
pub(super) fn config(
    file: Option<&str>,
    text: &str,
    overrides: &Overrides,
) -> Result<Config, ConfigErrors> {
    let mut diagnostics = Diagnostics::new(file, text);
    let document = DeTable::parse(text).map_err(|error| {
        // Alone: whatever else could be said would follow from the text not having been understood.
        let message = format!("not valid TOML: {}", error.message());
        Diagnostics::new(file, text).only(error.span(), message)
    })?;
    let draft = draft(document.get_ref(), &mut diagnostics);
    let config = complete(draft, overrides, &mut diagnostics);
    diagnostics.finish(config)
}

fn draft(document: &DeTable<'_>, diagnostics: &mut Diagnostics<'_>) -> Draft {
    let mut top = Section::new("", Some(document));
    top.read("schema_version", diagnostics, schema_version);
    let xdp = xdp(top.table("xdp", diagnostics), diagnostics);
    let listen = listen(&mut top, diagnostics);
    let (root, symlinks) = site(&mut top, diagnostics);
    let tcp = tcp(top.table("tcp", diagnostics), diagnostics);
    let disk = disk(top.table("disk", diagnostics), diagnostics);
    let upload = upload(top.table("upload", diagnostics), diagnostics);
    let limits = limits(top.table("limits", diagnostics), diagnostics);
    top.finish(diagnostics);
    Draft {
        xdp,
        listen,
        root,
        symlinks,
        tcp,
        disk,
        upload,
        limits,
    }
}

/// Lays the flags over the draft and reports what is missing.
fn complete(draft: Draft, overrides: &Overrides, diagnostics: &mut Diagnostics<'_>) -> Config {
    let mut xdp = draft.xdp;
    if let Some(backend) = overrides.backend {
        xdp.backend = backend;
    }
    if let Some(name) = &overrides.interface {
        if let Err(problem) = interface_name(name) {
            diagnostics.anywhere(format!("--interface: {problem}"));
        }
        xdp.interface = Some(name.clone());
    }
    let listen = match overrides.port {
        Some(port) => vec![Listen {
            port,
            congestion: None,
        }],
        None => draft.listen,
    };
    if xdp.backend == Backend::Xdp && xdp.interface.is_none() {
        diagnostics.anywhere(
            "backend \"xdp\" needs an interface: write interface = \"eth1\" in [xdp] or pass \
             --interface NAME (`ip -br link` lists them)"
                .to_owned(),
        );
    }
    let root = overrides.root.clone().or(draft.root).unwrap_or_else(|| {
        diagnostics.anywhere(
            "no directory to serve: write root = \"/srv/files\" in [[site]] or pass --root DIR"
                .to_owned(),
        );
        PathBuf::new()
    });
    let served = xdp.owned_addresses.len() + xdp.addresses.as_ref().map_or(0, Vec::len);
    let endpoints = served * listen.len();
    if endpoints > ENDPOINTS_MAX {
        diagnostics.anywhere(format!(
            "{served} addresses with {} ports are {endpoints} endpoints (allowed: {ENDPOINTS_MAX}): \
             serve fewer addresses or ports",
            listen.len()
        ));
    }
    Config {
        xdp,
        listen,
        sites: vec![Site {
            root,
            symlinks: draft.symlinks,
        }],
        tcp: draft.tcp,
        disk: draft.disk,
        upload: draft.upload,
        limits: draft.limits,
        listen_addresses: overrides.listen_addresses.clone(),
    }
}

fn xdp(mut section: Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Xdp {
    let mut xdp = Xdp::default();
    section.set(&mut xdp.backend, "backend", diagnostics, choice);
    section.set(&mut xdp.interface, "interface", diagnostics, |value| {
        let name = string(value)?;
        interface_name(name).map_err(Rejection::new)?;
        Ok(Some(name.to_owned()))
    });
    section.set(&mut xdp.addresses, "addresses", diagnostics, |value| {
        addresses(value).map(Some)
    });
    section.set(
        &mut xdp.owned_addresses,
        "owned_addresses",
        diagnostics,
        addresses,
    );
    section.set(&mut xdp.queues, "queues", diagnostics, queues);
    section.set(&mut xdp.attach, "attach", diagnostics, choice);
    section.set(&mut xdp.bind, "bind", diagnostics, choice);
    section.set(&mut xdp.umem_bytes, "umem", diagnostics, |value| {
        size(value, UMEM_BYTES)
    });
    section.set(&mut xdp.checksum_rx, "checksum_rx", diagnostics, choice);
    section.set(&mut xdp.poll, "poll", diagnostics, choice);
    section.set(&mut xdp.napi, "napi", diagnostics, choice);
    section.set(&mut xdp.napi_cores, "napi_cores", diagnostics, |value| {
        ids(value, "a list of CPU numbers such as [0, 1]").map(Some)
    });
    section.set(&mut xdp.vlan, "vlan", diagnostics, boolean);
    section.set(&mut xdp.cores, "cores", diagnostics, |value| {
        ids(value, "a list of CPU numbers such as [2, 3]").map(Some)
    });
    section.set(&mut xdp.huge_pages, "huge_pages", diagnostics, choice);
    section.set(&mut xdp.syn_gate, "syn_gate", diagnostics, choice);
    section.set(&mut xdp.tx_lane, "tx_lane", diagnostics, choice);
    contradictions(&xdp, &mut section, diagnostics);
    section.finish(diagnostics);
    xdp
}

/// Keys of `[xdp]` that are right alone and wrong together; each is blamed at the key that says more.
fn contradictions(xdp: &Xdp, section: &mut Section<'_>, diagnostics: &mut Diagnostics<'_>) {
    let mut blame = |key, message: String| {
        if let Some(value) = section.value(key) {
            diagnostics.at(&value.span(), format!("xdp.{key}: {message}"));
        }
    };
    if xdp.bind == Bind::ZeroCopy && xdp.attach == Attach::Generic {
        blame(
            "bind",
            "\"zerocopy\" needs the program in the driver, but attach = \"generic\" (allowed: \"copy\")"
                .to_owned(),
        );
    }
    if let (Some(cores), Queues::List(queues)) = (&xdp.cores, &xdp.queues)
        && cores.len() != queues.len()
    {
        blame(
            "cores",
            format!(
                "{} CPUs for {} queues (allowed: one CPU per queue, in the same order)",
                cores.len(),
                queues.len()
            ),
        );
    }
    let shared = |address: &&IpAddr| {
        xdp.addresses
            .iter()
            .flatten()
            .any(|other| other == *address)
    };
    if let Some(both) = xdp.owned_addresses.iter().find(shared) {
        blame(
            "owned_addresses",
            format!(
                "{both} stands in addresses too (allowed: addresses if the kernel has it, owned_addresses if not)"
            ),
        );
    }
    if xdp.addresses.as_ref().is_some_and(Vec::is_empty) && xdp.owned_addresses.is_empty() {
        blame(
            "addresses",
            "the list is empty, nothing would be served (leave the key out for all addresses of the interface)"
                .to_owned(),
        );
    }
}

fn listen(top: &mut Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Vec<Listen> {
    let mut entries = top.tables("listen", diagnostics);
    if entries.is_empty() {
        // Declares the keys, and gives the default.
        entries.push((0..0, Section::new("listen", None)));
    }
    let mut listen: Vec<Listen> = Vec::with_capacity(entries.len());
    for (span, mut section) in entries {
        let written = section.value("port").map(toml::Spanned::span);
        let read = section.read("port", diagnostics, |value| integer(value, 1..=65_535));
        let congestion = section.read("congestion", diagnostics, choice);
        section.finish(diagnostics);
        let port = match (read, written.is_some()) {
            (Some(port), _) => port,
            (None, false) => Listen::default().port,
            // Refused and reported.
            (None, true) => continue,
        };
        let entry = Listen { port, congestion };
        if listen.iter().any(|other| other.port == port) {
            let place = written.unwrap_or(span);
            diagnostics.at(&place, format!("listen.port: {port} is served already"));
        }
        listen.push(entry);
    }
    listen
}

fn site(top: &mut Section<'_>, diagnostics: &mut Diagnostics<'_>) -> (Option<PathBuf>, Symlinks) {
    let mut entries = top.tables("site", diagnostics).into_iter();
    let mut section = entries
        .next()
        .map_or_else(|| Section::new("site", None), |(_, section)| section);
    let mut symlinks = Symlinks::InsideRoot;
    let root = section.read("root", diagnostics, root);
    section.set(&mut symlinks, "symlinks", diagnostics, choice);
    section.finish(diagnostics);
    if let Some((span, _)) = entries.next() {
        diagnostics.at(&span, "a second [[site]] (allowed: one)".to_owned());
    }
    (root, symlinks)
}

fn tcp(mut section: Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Tcp {
    let mut tcp = Tcp::default();
    section.set(&mut tcp.congestion, "congestion", diagnostics, choice);
    section.set(&mut tcp.ecn, "ecn", diagnostics, choice);
    section.set(&mut tcp.mss, "mss", diagnostics, |value| {
        integer(value, MSS).map(Some)
    });
    section.set(
        &mut tcp.send_buffer_max,
        "send_buffer_max",
        diagnostics,
        |value| {
            let bytes = size(value, SEND_BUFFER)?;
            u32::try_from(bytes).map_err(|_| Rejection::new("is too large"))
        },
    );
    section.set(&mut tcp.rto_min, "rto_min", diagnostics, |value| {
        duration(value, RTO_MIN)
    });
    section.set(&mut tcp.keepalive, "keepalive", diagnostics, |value| {
        if value.get_ref().as_str() == Some("off") {
            return Ok(None);
        }
        duration(value, 10 * SECOND..=DAY).map(Some)
    });
    section.set(
        &mut tcp.user_timeout,
        "user_timeout",
        diagnostics,
        |value| {
            if value.get_ref().as_str() == Some("off") {
                return Ok(None);
            }
            duration(value, SECOND..=DAY).map(Some)
        },
    );
    section.finish(diagnostics);
    tcp
}

fn disk(mut section: Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Disk {
    let mut disk = Disk::default();
    section.set(&mut disk.threads, "threads", diagnostics, |value| {
        integer(value, 1..=64)
    });
    section.set(
        &mut disk.direct_above,
        "direct_above",
        diagnostics,
        direct_above,
    );
    section.finish(diagnostics);
    disk
}

/// From which size on files are read past the page cache.
fn direct_above(value: &Value<'_>) -> Read<Option<u64>> {
    const HELP: &str = "\"off\" or a size such as \"1GiB\"";
    match value.get_ref().as_str() {
        Some("off") => Ok(None),
        Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
            size(value, DIRECT_ABOVE).map(Some)
        }
        Some(text) => Err(Rejection::new(format!(
            "{text:?} is not allowed (allowed: {HELP})"
        ))),
        None => Err(expected(HELP, value)),
    }
}

fn upload(mut section: Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Upload {
    let mut upload = Upload::default();
    section.set(&mut upload.enabled, "enabled", diagnostics, boolean);
    section.set(&mut upload.max_size, "max_size", diagnostics, |value| {
        size(value, FILE_BYTES)
    });
    section.finish(diagnostics);
    upload
}

fn limits(mut section: Section<'_>, diagnostics: &mut Diagnostics<'_>) -> Limits {
    let mut limits = Limits::default();
    section.set(
        &mut limits.connections,
        "connections",
        diagnostics,
        |value| integer(value, 1..=4_194_304),
    );
    section.set(
        &mut limits.header_bytes,
        "header_bytes",
        diagnostics,
        |value| {
            let bytes = size(value, (1 << 10)..=(64 << 10))?;
            u32::try_from(bytes).map_err(|_| Rejection::new("is too large"))
        },
    );
    section.set(
        &mut limits.header_timeout,
        "header_timeout",
        diagnostics,
        |value| duration(value, SECOND..=HOUR),
    );
    section.set(
        &mut limits.idle_timeout,
        "idle_timeout",
        diagnostics,
        |value| duration(value, SECOND..=DAY),
    );
    section.set(
        &mut limits.drain_timeout,
        "drain_timeout",
        diagnostics,
        |value| duration(value, Duration::ZERO..=DAY),
    );
    section.set(&mut limits.min_rate, "min_rate", diagnostics, |value| {
        if value.get_ref().as_str() == Some("off") {
            return Ok(None);
        }
        size(value, 1..=(1 << 30)).map(Some)
    });
    section.set(&mut limits.syn_rate, "syn_rate", diagnostics, |value| {
        integer(value, SYN_RATE)
    });
    section.set(
        &mut limits.syn_rate_per_source,
        "syn_rate_per_source",
        diagnostics,
        |value| integer(value, SYN_RATE_PER_SOURCE),
    );
    section.finish(diagnostics);
    limits
}

fn schema_version(value: &Value<'_>) -> Read<()> {
    let number: u64 = integer(value, 0..=u64::MAX)?;
    if number == SCHEMA_VERSION {
        return Ok(());
    }
    Err(Rejection::new(format!(
        "this sluiced reads version {SCHEMA_VERSION}, the file says {number}"
    )))
}

fn addresses(value: &Value<'_>) -> Read<Vec<IpAddr>> {
    list(
        value,
        "a list of addresses such as [\"192.0.2.10\"]",
        address,
    )
}

fn ids(value: &Value<'_>, what: &str) -> Read<Vec<u32>> {
    let ids = list(value, what, |item| integer(item, IDS))?;
    if ids.is_empty() {
        return Err(Rejection::new(format!(
            "the list is empty (allowed: {what})"
        )));
    }
    Ok(ids)
}

fn queues(value: &Value<'_>) -> Read<Queues> {
    const HELP: &str = "\"all\" or a list of queue numbers such as [0, 1]";
    if value.get_ref().is_array() {
        return ids(value, HELP).map(Queues::List);
    }
    match value.get_ref().as_str() {
        Some("all") => Ok(Queues::All),
        Some(_) => Err(Rejection::new(format!(
            "{} is not allowed (allowed: {HELP})",
            describe(value)
        ))),
        None => Err(expected(HELP, value)),
    }
}

/// A served directory: absolute, because the working directory of a service is nobody's choice.
fn root(value: &Value<'_>) -> Read<PathBuf> {
    let path = table::path(value)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Rejection::new(format!(
        "{:?} is relative (allowed: an absolute path such as \"/srv/files\")",
        path.display().to_string()
    )))
}

/// What `dev_valid_name` of the kernel accepts.
fn interface_name(name: &str) -> Result<(), String> {
    let valid = !name.is_empty()
        && name.len() <= INTERFACE_NAME_BYTES
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if valid {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be an interface name (allowed: 1 to {INTERFACE_NAME_BYTES} bytes without space, \"/\" and \":\")"
    ))
}

/// Every key of the configuration file.
#[cfg(test)]
pub(super) fn keys() -> Vec<super::error::Key> {
    let mut diagnostics = Diagnostics::new(None, "");
    draft(&DeTable::new(), &mut diagnostics);
    diagnostics.known().to_vec()
}
