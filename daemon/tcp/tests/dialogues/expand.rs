//! What the lines of a script stand for, whoever runs it: the lines of prologues, the segments of a line, numbers
//! and option bytes.

use sluice_wire::AccEcnOrder;

use crate::script::{self, Action, Dialogue, Number, Pattern, Step};

/// The lines of a dialogue with those of its prologues in their places; or what is wrong, ready to be printed.
pub fn with_prologues(dialogue: &Dialogue, prologues: &[Dialogue]) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for step in &dialogue.steps {
        let Action::Use(name) = &step.action else {
            steps.push(step.clone());
            continue;
        };
        let found = prologues.iter().find(|prologue| prologue.name == *name);
        let prologue = found.ok_or_else(|| at(&step.at, "no such prologue"))?;
        steps.extend(with_prologues(prologue, prologues)?);
    }
    Ok(steps)
}

/// Where something is wrong, and what.
pub fn at(place: &script::Place, what: &str) -> String {
    format!("{}:{}: {}\n  {what}", place.file, place.line, place.text)
}

/// The segments of a line: several with `in`, of which only the last has PSH and FIN.
pub fn pieces(pattern: &Pattern) -> Vec<Pattern> {
    let (Some(size), Number::Relative(start)) = (pattern.pieces_of, pattern.seq) else {
        return vec![pattern.clone()];
    };
    let count = pattern.len.div_ceil(size).max(1);
    (0..count)
        .map(|index| {
            let mut piece = pattern.clone();
            piece.seq = Number::Relative(start + i64::from(index * size));
            piece.len = size.min(pattern.len - index * size);
            if index + 1 < count {
                piece.flags &= !script::FLAGS_AT_THE_END;
            }
            piece
        })
        .collect()
}

/// The number in the header.
pub fn resolve(base: u32, number: Number) -> u32 {
    match number {
        Number::Relative(offset) => relative(base, offset),
        Number::Absolute(raw) => raw,
    }
}

/// A number that counts from `base`.
pub fn relative(base: u32, offset: i64) -> u32 {
    let low = u32::try_from(offset.rem_euclid(1 << 32)).expect("below 2^32");
    base.wrapping_add(low)
}

/// The options of a segment from the peer, with its timestamps as they stand in the header.
pub fn option_bytes(pattern: &Pattern, stamps: Option<(u32, u32)>, iss: u32) -> Vec<u8> {
    let mut bytes = pattern.raw.clone();
    if let Some(mss) = pattern.mss {
        bytes.extend([2, 4]);
        bytes.extend(mss.to_be_bytes());
    }
    if pattern.sack_permitted {
        bytes.extend([4, 2]);
    }
    if let Some((value, echo)) = stamps {
        bytes.extend([8, 10]);
        bytes.extend(value.to_be_bytes());
        bytes.extend(echo.to_be_bytes());
    }
    if let Some(shift) = pattern.window_scale {
        bytes.extend([3, 3, shift]);
    }
    if let Some(accecn) = &pattern.accecn {
        let (kind, values) = match accecn.order() {
            AccEcnOrder::Ect0First => (172, [accecn.ect0(), accecn.ce(), accecn.ect1()]),
            AccEcnOrder::Ect1First => (174, [accecn.ect1(), accecn.ce(), accecn.ect0()]),
        };
        bytes.extend([kind, 2 + 3 * accecn.fields()]);
        for value in values.iter().flatten() {
            bytes.extend(&value.to_be_bytes()[1..]);
        }
    }
    if !pattern.sack.is_empty() {
        let len = u8::try_from(2 + 8 * pattern.sack.len()).expect("at most four blocks");
        bytes.extend([5, len]);
        for (start, end) in &pattern.sack {
            bytes.extend(relative(iss, *start).to_be_bytes());
            bytes.extend(relative(iss, *end).to_be_bytes());
        }
    }
    bytes
}
