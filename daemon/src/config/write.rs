//! From a [`Config`] back to a file: what `--print-config effective` shows.

use std::fmt::Write;
use std::net::IpAddr;

use super::units::{format_duration, format_size};
use super::{Config, Queues};

/// Every key with the value in effect; a key whose absence means something is left out, as a comment.
pub(super) fn to_toml(config: &Config) -> String {
    let mut file = File(String::new());
    file.set("schema_version", 1);
    xdp(&mut file, config);
    for listen in &config.listen {
        file.table("[[listen]]");
        file.set("port", listen.port);
        file.set_or("congestion", listen.congestion.map(quoted), "as in [tcp]");
    }
    for site in &config.sites {
        file.table("[[site]]");
        file.set("root", quoted(site.root.display()));
        file.set("symlinks", quoted(site.symlinks));
    }
    file.table("[tcp]");
    file.set("congestion", quoted(config.tcp.congestion));
    file.set("ecn", quoted(config.tcp.ecn));
    file.set_or("mss", config.tcp.mss, "from the MTU");
    file.set(
        "send_buffer_max",
        quoted(format_size(config.tcp.send_buffer_max.into())),
    );
    file.set("rto_min", quoted(format_duration(config.tcp.rto_min)));
    let keepalive = config.tcp.keepalive;
    file.set(
        "keepalive",
        quoted(keepalive.map_or_else(|| "off".to_owned(), format_duration)),
    );
    let user_timeout = config.tcp.user_timeout;
    file.set(
        "user_timeout",
        quoted(user_timeout.map_or_else(|| "off".to_owned(), format_duration)),
    );
    file.table("[disk]");
    file.set("threads", config.disk.threads);
    let direct_above = config.disk.direct_above;
    file.set(
        "direct_above",
        quoted(direct_above.map_or_else(|| "off".to_owned(), format_size)),
    );
    file.table("[upload]");
    file.set("enabled", config.upload.enabled);
    file.set("max_size", quoted(format_size(config.upload.max_size)));
    file.table("[limits]");
    let limits = &config.limits;
    file.set("connections", limits.connections);
    file.set(
        "header_bytes",
        quoted(format_size(limits.header_bytes.into())),
    );
    file.set(
        "header_timeout",
        quoted(format_duration(limits.header_timeout)),
    );
    file.set("idle_timeout", quoted(format_duration(limits.idle_timeout)));
    file.set(
        "drain_timeout",
        quoted(format_duration(limits.drain_timeout)),
    );
    file.set(
        "min_rate",
        quoted(
            limits
                .min_rate
                .map_or_else(|| "off".to_owned(), format_size),
        ),
    );
    file.set("syn_rate", limits.syn_rate);
    file.set("syn_rate_per_source", limits.syn_rate_per_source);
    if !config.listen_addresses.is_empty() {
        file.line("");
        let flags = joined(config.listen_addresses.iter(), " ");
        file.line(&format!("# --listen-address (kernel backend): {flags}"));
    }
    file.0
}

fn xdp(file: &mut File, config: &Config) {
    let xdp = &config.xdp;
    file.table("[xdp]");
    file.set("backend", quoted(xdp.backend));
    file.set_or(
        "interface",
        xdp.interface.as_ref().map(quoted),
        "none: kernel backend only",
    );
    file.set_or(
        "addresses",
        xdp.addresses.as_deref().map(addresses),
        "all global-scope addresses of the interface",
    );
    file.set("owned_addresses", addresses(&xdp.owned_addresses));
    file.set(
        "queues",
        match &xdp.queues {
            Queues::All => quoted("all"),
            Queues::List(queues) => format!("[{}]", joined(queues, ", ")),
        },
    );
    file.set("attach", quoted(xdp.attach));
    file.set("bind", quoted(xdp.bind));
    file.set("umem", quoted(format_size(xdp.umem_bytes)));
    file.set("checksum_rx", quoted(xdp.checksum_rx));
    file.set("poll", quoted(xdp.poll));
    file.set("napi", quoted(xdp.napi));
    let cpus = |cores: &Vec<u32>| format!("[{}]", joined(cores, ", "));
    let napi_cores = xdp.napi_cores.as_ref().map(cpus);
    file.set_or("napi_cores", napi_cores, "chosen at start");
    file.set("vlan", xdp.vlan);
    file.set_or("cores", xdp.cores.as_ref().map(cpus), "chosen at start");
    file.set("huge_pages", quoted(xdp.huge_pages));
    file.set("syn_gate", quoted(xdp.syn_gate));
    file.set("tx_lane", quoted(xdp.tx_lane));
}

/// The text so far.
struct File(String);

impl File {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn table(&mut self, heading: &str) {
        self.line("");
        self.line(heading);
    }

    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(&format!("{key} = {value}"));
    }

    fn set_or(&mut self, key: &str, value: Option<impl std::fmt::Display>, absent: &str) {
        match value {
            Some(value) => self.set(key, value),
            None => self.line(&format!("# {key}: {absent}")),
        }
    }
}

fn addresses(addresses: &[IpAddr]) -> String {
    format!("[{}]", joined(addresses.iter().map(quoted), ", "))
}

fn joined(items: impl IntoIterator<Item = impl std::fmt::Display>, separator: &str) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(separator)
}

/// A TOML basic string (<https://toml.io/en/v1.1.0#string>).
fn quoted(text: impl std::fmt::Display) -> String {
    let mut out = String::from("\"");
    for character in text.to_string().chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
