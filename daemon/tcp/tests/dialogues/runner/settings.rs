//! The settings of a dialogue: what its stack is made of, and what stands around it.

use sluice_tcp::config::KeepAlive;
use sluice_tcp::congestion::Algorithm;
use sluice_tcp::ecn_terms::{EcnConfig, EcnLevel};
use sluice_tcp::isn::Secret;
use sluice_tcp::skip::SkipConfig;
use sluice_tcp::{Autotune, StackConfig};

use super::SECRET;
use crate::script;

/// What the settings of a dialogue make.
pub(super) struct Settings {
    pub(super) config: StackConfig,
    pub(super) ipv6: bool,
    /// Nobody listens (RFC 9293 section 3.10.7.1).
    pub(super) port_closed: bool,
}

impl Settings {
    pub(super) fn read(settings: &[(String, String)]) -> Result<Settings, String> {
        let mut config = StackConfig {
            congestion: Algorithm::NewReno,
            ..StackConfig::new(64, [3; 16], Secret::new(SECRET))
        };
        let (mut ipv6, mut port_closed) = (false, false);
        for (key, value) in settings {
            match key.as_str() {
                "ip" => ipv6 = value == "6",
                "port" => port_closed = value == "closed",
                "connections" => config.connections = script::parse(value)?,
                "half_open" => config.half_open = script::parse(value)?,
                "time_wait" => config.time_wait = script::parse(value)?,
                "mtu" => config.mtu = script::parse(value)?,
                "receive_buffer" => config.receive_buffer = script::parse(value)?,
                "receive_max" => autotune(&mut config).receive_max = script::parse(value)?,
                "receive_budget" => {
                    autotune(&mut config).receive_budget = script::parse(value)?;
                }
                "send_budget" => autotune(&mut config).send_budget = script::parse(value)?,
                "user_timeout" => config.user_timeout = Some(script::duration(value)?),
                "skip" => config.skip = Some(skip(value)?),
                "send_limit" => config.send_limit = script::parse(value)?,
                "congestion" if value == "cubic" => config.congestion = Algorithm::Cubic,
                "congestion" if value == "dctcp" => config.congestion = Algorithm::Dctcp,
                "congestion" if value == "bbr" => config.congestion = Algorithm::Bbr,
                "congestion" if value == "reno" => config.congestion = Algorithm::NewReno,
                "ecn" => config.ecn = ecn(value)?,
                "keep_alive" => config.keep_alive = Some(keep_alive(value)?),
                _ => return Err(format!("unknown setting {key}={value}")),
            }
        }
        Ok(Settings {
            config,
            ipv6,
            port_closed,
        })
    }
}

fn ecn(value: &str) -> Result<EcnConfig, String> {
    let level = |level| EcnConfig {
        accept: level,
        offer: level,
    };
    Ok(match value {
        "off" => EcnConfig::OFF,
        "classic" => level(EcnLevel::Classic),
        "accurate" => level(EcnLevel::Accurate),
        _ => return Err(format!("unknown level of ECN {value}")),
    })
}

/// Autotuning is on once a setting names any of it.
fn autotune(config: &mut StackConfig) -> &mut Autotune {
    config.autotune.get_or_insert(Autotune {
        receive_max: 0,
        receive_budget: 1 << 30,
        send_budget: 1 << 30,
    })
}

/// `rate,interval`.
fn skip(value: &str) -> Result<SkipConfig, String> {
    let (rate, interval) = value.split_once(',').ok_or("write: skip=RATE,INTERVAL")?;
    Ok(SkipConfig {
        rate: script::parse(rate)?,
        interval: script::parse(interval)?,
    })
}

/// `idle,interval,probes`.
fn keep_alive(value: &str) -> Result<KeepAlive, String> {
    let parts: Vec<&str> = value.split(',').collect();
    let [idle, interval, probes] = parts[..] else {
        return Err("write: keep_alive=IDLE,INTERVAL,PROBES".to_owned());
    };
    Ok(KeepAlive {
        idle: script::duration(idle)?,
        interval: script::duration(interval)?,
        probes: script::parse(probes)?,
    })
}
