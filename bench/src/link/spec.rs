//! Impairments as an operator writes them: `delay=20ms,loss=1%,rate=50mbit,buffer=256k`.
//!
//! | key | value | example |
//! |---|---|---|
//! | `delay`, `jitter` | time | `delay=20ms,jitter=500us` |
//! | `loss`, `duplicate`, `corrupt` | share of packets | `loss=0.1%` |
//! | `burst` | enter / leave [/ loss inside] per packet, Gilbert-Elliott | `burst=0.5%/25%`, `burst=0.5%/25%/80%` |
//! | `reorder` | share / how much later | `reorder=1%/5ms` |
//! | `rate` | bits per second of frames | `rate=100mbit` |
//! | `buffer`, `mark` | bytes at the bottleneck: tail drop, CE mark | `buffer=1m,mark=64k` |
//! | `blackhole` | time since the start + length | `blackhole=2s+500ms` |
//! | `blackhole-above` | bytes of an IP packet | `blackhole-above=1400` |

use std::str::FromStr;
use std::time::Duration;

use super::model::{Burst, Impairment, Reorder, Span};

/// Why a specification was not understood, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Not `key=value`.
    #[error("{0:?} is not key=value")]
    NotAPair(String),
    /// No such key.
    #[error("there is no key {0:?}")]
    UnknownKey(String),
    /// The value does not fit.
    #[error("{value:?} is not {expected}")]
    BadValue {
        /// What was written.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A key that does nothing without another.
    #[error("{0} needs a rate")]
    NeedsRate(&'static str),
}

const TIME: &str = "a time such as 200us, 20ms or 2s";
const SHARE: &str = "a share such as 0.1 %, written 0.1%, from 0% to 100%";
const RATE: &str = "a rate such as 500kbit, 100mbit or 1gbit";
const BYTES: &str = "a number of bytes such as 1400, 256k or 4m";

impl FromStr for Impairment {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Impairment, SpecError> {
        let mut impairment = Impairment::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| SpecError::NotAPair(pair.to_owned()))?;
            set(&mut impairment, key.trim(), value.trim())?;
        }
        let hop = &impairment.hop;
        match (hop.rate, hop.buffer, hop.mark) {
            (None, Some(_), _) => Err(SpecError::NeedsRate("buffer")),
            (None, _, Some(_)) => Err(SpecError::NeedsRate("mark")),
            _ => Ok(impairment),
        }
    }
}

fn set(impairment: &mut Impairment, key: &str, value: &str) -> Result<(), SpecError> {
    match key {
        "delay" => impairment.delay = time(value)?,
        "jitter" => impairment.jitter = time(value)?,
        "loss" => impairment.loss = share(value)?,
        "duplicate" => impairment.duplicate = share(value)?,
        "corrupt" => impairment.corrupt = share(value)?,
        "burst" => impairment.burst = Some(burst(value)?),
        "reorder" => {
            let (share_, by) = split(value, '/', "a share and a time such as 1%/5ms")?;
            impairment.reorder = Some(Reorder {
                share: share(share_)?,
                by: time(by)?,
            });
        }
        "rate" => impairment.hop.rate = Some(rate(value)?),
        "buffer" => impairment.hop.buffer = Some(bytes(value)?),
        "mark" => impairment.hop.mark = Some(bytes(value)?),
        "blackhole" => {
            let (from, lasts) = split(value, '+', "a start and a length such as 2s+500ms")?;
            impairment.black_hole = Some(Span {
                from: time(from)?,
                lasts: time(lasts)?,
            });
        }
        "blackhole-above" => impairment.black_hole_above = Some(bytes(value)?),
        _ => return Err(SpecError::UnknownKey(key.to_owned())),
    }
    Ok(())
}

fn burst(value: &str) -> Result<Burst, SpecError> {
    let (enter, rest) = split(value, '/', "two or three shares such as 0.5%/25%/80%")?;
    let (leave, loss) = rest.split_once('/').unwrap_or((rest, "100%"));
    Ok(Burst {
        enter: share(enter)?,
        leave: share(leave)?,
        loss: share(loss)?,
    })
}

fn split<'a>(
    value: &'a str,
    by: char,
    expected: &'static str,
) -> Result<(&'a str, &'a str), SpecError> {
    value.split_once(by).ok_or_else(|| bad(value, expected))
}

fn bad(value: &str, expected: &'static str) -> SpecError {
    SpecError::BadValue {
        value: value.to_owned(),
        expected,
    }
}

fn time(value: &str) -> Result<Duration, SpecError> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = with_unit(value, &units).ok_or_else(|| bad(value, TIME))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| bad(value, TIME))
}

fn share(value: &str) -> Result<f64, SpecError> {
    with_unit(value, &[("%", 0.01)])
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| bad(value, SHARE))
}

fn rate(value: &str) -> Result<u64, SpecError> {
    let units = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    with_unit(value, &units)
        .and_then(whole)
        .filter(|rate| *rate > 0)
        .ok_or_else(|| bad(value, RATE))
}

fn bytes(value: &str) -> Result<u64, SpecError> {
    let units = [("k", 1024.0), ("m", 1_048_576.0), ("", 1.0)];
    with_unit(value, &units)
        .and_then(whole)
        .ok_or_else(|| bad(value, BYTES))
}

/// A number before the first unit that fits.
fn with_unit(value: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (digits, scale) = units
        .iter()
        .find_map(|(unit, scale)| Some((value.strip_suffix(unit)?, scale)))?;
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * scale)
}

/// To the nearest whole number, below the 2^53 up to which an f64 has all of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked against the range on the line before"
)]
fn whole(number: f64) -> Option<u64> {
    let number = number.round();
    (0.0..9.0e15).contains(&number).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::bottleneck::Hop;

    fn parsed(text: &str) -> Impairment {
        text.parse().unwrap()
    }

    #[test]
    fn every_key_is_understood() {
        let text = "delay=20ms,jitter=500us,loss=1%,burst=0.5%/25%/80%,reorder=2%/5ms,duplicate=0.1%,corrupt=3%,\
                    rate=50mbit,buffer=256k,mark=64k,blackhole=2s+500ms,blackhole-above=1400";
        assert_eq!(
            parsed(text),
            Impairment {
                delay: Duration::from_millis(20),
                jitter: Duration::from_micros(500),
                loss: 0.01,
                burst: Some(Burst {
                    enter: 0.005,
                    leave: 0.25,
                    loss: 0.8,
                }),
                reorder: Some(Reorder {
                    share: 0.02,
                    by: Duration::from_millis(5),
                }),
                duplicate: 0.001,
                corrupt: 0.03,
                hop: Hop {
                    rate: Some(50_000_000),
                    buffer: Some(256 << 10),
                    mark: Some(64 << 10),
                },
                black_hole: Some(Span {
                    from: Duration::from_secs(2),
                    lasts: Duration::from_millis(500),
                }),
                black_hole_above: Some(1400),
            }
        );
    }

    #[test]
    fn nothing_written_is_nothing_impaired() {
        assert_eq!(parsed(""), Impairment::default());
    }

    #[test]
    fn a_burst_loses_everything_unless_it_says_otherwise() {
        assert_eq!(parsed("burst=1%/20%").burst.unwrap().loss, 1.0);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("delay", "\"delay\" is not key=value"),
            ("dealy=1ms", "there is no key \"dealy\""),
            ("delay=20", "\"20\" is not a time such as 200us, 20ms or 2s"),
            (
                "loss=0.01",
                "\"0.01\" is not a share such as 0.1 %, written 0.1%, from 0% to 100%",
            ),
            (
                "loss=101%",
                "\"101%\" is not a share such as 0.1 %, written 0.1%, from 0% to 100%",
            ),
            (
                "rate=0kbit",
                "\"0kbit\" is not a rate such as 500kbit, 100mbit or 1gbit",
            ),
            ("buffer=1k", "buffer needs a rate"),
            (
                "delay=-1ms",
                "\"-1ms\" is not a time such as 200us, 20ms or 2s",
            ),
            (
                "rate=infgbit",
                "\"infgbit\" is not a rate such as 500kbit, 100mbit or 1gbit",
            ),
        ] {
            let error = text.parse::<Impairment>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
