//! Segments, ranges and events as the scripts write them, for messages and comparisons.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::record::ConnectionRecord;
use sluice_tcp::{Cause, EcnView, Events, Repeat};
use sluice_wire::{AccEcnOption, AccEcnOrder, TcpFlags, TcpHeader};

use crate::script::FLAG_LETTERS;

/// A segment from us: SEQ counts from `iss`, ACK and SACK from `irs`, TSval from `clock`.
pub fn leaving(header: &TcpHeader, len: u32, irs: u32, iss: u32, clock: u32) -> String {
    segment(header, len, (iss, irs), |value, _| {
        format!("{}", value.wrapping_sub(clock).cast_signed())
    })
}

/// A segment from the peer, the other way round.
pub fn arriving(header: &TcpHeader, len: u32, irs: u32, iss: u32, clock: u32) -> String {
    segment(header, len, (irs, iss), |value, _| {
        format!("{}", value.wrapping_sub(clock).cast_signed())
    })
}

fn segment(
    header: &TcpHeader,
    len: u32,
    (seq_base, ack_base): (u32, u32),
    stamp: impl Fn(u32, u32) -> String,
) -> String {
    let offset = |raw: u32, base: u32| raw.wrapping_sub(base).cast_signed();
    let mut text = format!("{} {}", flags(header.flags), offset(header.seq, seq_base));
    if len > 0 {
        text += &format!("+{len}");
    }
    if header.flags.contains(TcpFlags::ACK) {
        text += &format!(" ack {}", offset(header.ack, ack_base));
    }
    text += &format!(" win {}", header.window);
    let options = &header.options;
    if let Some(mss) = options.mss {
        text += &format!(" mss={mss}");
    }
    if options.sack_permitted {
        text += " sackok";
    }
    if let Some(stamps) = options.timestamps {
        text += &format!(
            " ts={}:raw {}",
            stamp(stamps.value, stamps.echo),
            stamps.echo
        );
    }
    if let Some(shift) = options.window_scale {
        text += &format!(" ws={shift}");
    }
    let blocks: Vec<String> = options
        .sack
        .iter()
        .map(|b| format!("{}-{}", offset(b.start, ack_base), offset(b.end, ack_base)))
        .collect();
    if !blocks.is_empty() {
        text += &format!(" sack={}", blocks.join(","));
    }
    if let Some(accecn) = &options.accecn {
        text += &self::accecn(accecn);
    }
    text
}

fn accecn(option: &AccEcnOption) -> String {
    let (name, values) = match option.order() {
        AccEcnOrder::Ect0First => ("acc0", [option.ect0(), option.ce(), option.ect1()]),
        AccEcnOrder::Ect1First => ("acc1", [option.ect1(), option.ce(), option.ect0()]),
    };
    let values: Vec<String> = values.iter().flatten().map(u32::to_string).collect();
    format!(" {name}={}", values.join(","))
}

fn flags(flags: TcpFlags) -> String {
    let set: String = FLAG_LETTERS
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags.bits() & (1 << bit) != 0)
        .map(|(_, letter)| *letter)
        .collect();
    if set.is_empty() { "-".to_owned() } else { set }
}

/// `off`, `classic` or `accurate`; `mute` if our data is not ECN-capable; with AccECN the marked packets and bytes
/// that arrived, and those that the peer has reported.
pub fn ecn(view: EcnView) -> String {
    let mut text = match (view.negotiated, view.accurate) {
        (false, _) => return "off".to_owned(),
        (true, false) => "classic".to_owned(),
        (true, true) => "accurate".to_owned(),
    };
    if !view.sending {
        text += " mute";
    }
    if view.accurate {
        text += &format!(
            " in {} {} out {} {}",
            view.ce_packets_received,
            view.ce_bytes_received,
            view.ce_packets_reported,
            view.ce_bytes_reported
        );
    }
    text
}

/// What a connection did with its time, if `key` asks for that. Times are in units of 10 ms.
pub fn of_record(key: &str, values: &[String], record: &ConnectionRecord) -> Option<String> {
    let tens = |time: Duration| format!("{}ms", (time.as_millis() + 5) / 10 * 10);
    let name = values.first()?.as_str();
    let cause = || Cause::ALL.iter().find(|cause| cause.name() == name);
    Some(match key {
        "paused" => tens(record.pauses[cause()?.index()].total),
        "pauses" => record.pauses[cause()?.index()].times.to_string(),
        "busy" => tens(record.busy()),
        "sent_again" => {
            let repeat = Repeat::ALL.iter().find(|repeat| repeat.name() == name)?;
            record.sent_again[repeat.index()].to_string()
        }
        "recoveries" => record.recoveries.to_string(),
        "time_outs" => record.time_outs.to_string(),
        "trail" => {
            let events = record.events().map(|event| {
                let detail = ConnectionRecord::detail(&event);
                let detail = detail.map_or(String::new(), |detail| format!(":{detail}"));
                format!("{}{detail}", event.kind.name())
            });
            let events: Vec<String> = events.collect();
            if events.is_empty() {
                "none".to_owned()
            } else {
                events.join(" ")
            }
        }
        _ => return None,
    })
}

/// `none`, or `0-100 200-300`.
pub fn ranges(ranges: &[Range<u64>]) -> String {
    if ranges.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(|range| format!("{}-{}", range.start, range.end))
        .collect();
    texts.join(" ")
}

/// `none`, or whole microseconds with their unit, milliseconds if nothing is lost by it.
pub fn optional_duration(duration: Option<Duration>) -> String {
    match duration {
        None => "none".to_owned(),
        Some(time) if time.subsec_nanos() % 1_000_000 == 0 => format!("{}ms", time.as_millis()),
        Some(time) => format!("{}us", time.as_micros()),
    }
}

/// `none`, or the names of the events in the order of their fields; `closed` is asked for separately.
pub fn events(events: Events) -> String {
    let names = [
        ("established", events.established),
        ("readable", events.readable),
        ("acknowledged", events.acknowledged),
        ("peer_finished", events.peer_finished),
        ("deadline", events.deadline),
    ];
    let set: Vec<&str> = names
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    if set.is_empty() {
        "none".to_owned()
    } else {
        set.join(" ")
    }
}
