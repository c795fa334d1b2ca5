//! Typed access to one TOML table, with the position of everything.
//!
//! Reading a key is also what declares it: [`Section::finish`] reports each key of the file that nobody asked
//! for, so there is no list of known keys that could differ from the code. The `read_*` functions turn one
//! value into a typed one and say what is allowed when they cannot.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Choice;
use super::error::{Diagnostics, Key};
use super::suggest::nearest;
use super::units::{
    DURATION_HELP, SIZE_HELP, format_duration, format_size, parse_duration, parse_size,
};

/// One value of the file and where it stands.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// Why a value is refused, and the part of it that is to blame (`None`: all of it).
pub(super) struct Rejection {
    message: String,
    span: Option<Range<usize>>,
}

impl Rejection {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: None,
        }
    }

    fn at(mut self, value: &Value<'_>) -> Self {
        self.span.get_or_insert_with(|| value.span());
        self
    }
}

/// The outcome of reading one value.
pub(super) type Read<T> = Result<T, Rejection>;

/// A table of the file, or its absence (every key then has its default).
pub(super) struct Section<'a> {
    /// `""` for the top level, else the name in the brackets.
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: &'static str, table: Option<&'a DeTable<'a>>) -> Self {
        Self {
            name,
            table,
            asked: Vec::new(),
        }
    }

    /// The value of a key, `None` if the file does not have it.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value<'a>> {
        self.asked.push(key);
        self.table?
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(_, value)| value)
    }

    /// The typed value of a key; a refused one is reported and then counts as absent.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics<'_>,
        read: impl FnOnce(&Value<'_>) -> Read<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match read(value) {
            Ok(read) => Some(read),
            Err(Rejection { message, span }) => {
                let path = self.path(key);
                diagnostics.at(
                    &span.unwrap_or_else(|| value.span()),
                    format!("{path}: {message}"),
                );
                None
            }
        }
    }

    /// As [`Self::read`], into a variable that holds the default.
    pub(super) fn set<T>(
        &mut self,
        target: &mut T,
        key: &'static str,
        diagnostics: &mut Diagnostics<'_>,
        read: impl FnOnce(&Value<'_>) -> Read<T>,
    ) {
        if let Some(value) = self.read(key, diagnostics, read) {
            *target = value;
        }
    }

    /// The table behind a key (`[key]`).
    pub(super) fn table(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Section<'a> {
        let table = self.value(key).and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                diagnostics.at(
                    &value.span(),
                    format!(
                        "{key}: expected a table, written [{key}], found {}",
                        describe(value)
                    ),
                );
            }
            table
        });
        Section::new(key, table)
    }

    /// The tables behind a key (`[[key]]`), each with its place in the file.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics<'_>,
    ) -> Vec<(Range<usize>, Section<'a>)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let entries: Option<Vec<_>> = value.get_ref().as_array().and_then(|array| {
            array
                .iter()
                .map(|entry| {
                    let table = entry.get_ref().as_table()?;
                    Some((entry.span(), Section::new(key, Some(table))))
                })
                .collect()
        });
        entries.unwrap_or_else(|| {
            diagnostics.at(
                &value.span(),
                format!(
                    "{key}: expected one or more tables, each written [[{key}]], found {}",
                    describe(value)
                ),
            );
            Vec::new()
        })
    }

    /// `section.key`.
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// Declares the keys that were asked for and reports all others.
    pub(super) fn finish(self, diagnostics: &mut Diagnostics<'_>) {
        for name in &self.asked {
            diagnostics.know(Key {
                table: self.name,
                name,
            });
        }
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                diagnostics.stray(key.span(), self.name, name);
            }
        }
    }
}

/// A value in the words of an error message.
pub(super) fn describe(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The refusal of a value of the wrong type.
pub(super) fn expected(what: &str, value: &Value<'_>) -> Rejection {
    Rejection::new(format!("expected {what}, found {}", describe(value)))
}

/// The words of a choice, quoted.
fn words<T: Choice>() -> String {
    let words: Vec<_> = T::ALL
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    words.join(", ")
}

/// One word of a closed set.
pub(super) fn choice<T: Choice>(value: &Value<'_>) -> Read<T> {
    let allowed = words::<T>();
    let text = value
        .get_ref()
        .as_str()
        .ok_or_else(|| expected(&format!("one of {allowed}"), value))?;
    T::from_name(text).ok_or_else(|| {
        let meant = nearest(text, T::ALL.iter().map(|(word, _)| *word))
            .map(|near| format!(", did you mean \"{near}\"?"))
            .unwrap_or_default();
        Rejection::new(format!(
            "{text:?} is not allowed{meant} (allowed: {allowed})"
        ))
    })
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Read<bool> {
    value
        .get_ref()
        .as_bool()
        .ok_or_else(|| expected("true or false", value))
}

/// A whole number within a range.
pub(super) fn integer<T: TryFrom<u64>>(value: &Value<'_>, range: RangeInclusive<u64>) -> Read<T> {
    let (low, high) = (*range.start(), *range.end());
    let allowed = format!("a whole number from {low} to {high}");
    let number = value
        .get_ref()
        .as_integer()
        .ok_or_else(|| expected(&allowed, value))?;
    u64::from_str_radix(number.as_str(), number.radix())
        .ok()
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            Rejection::new(format!(
                "{number} is out of range (allowed: {low} to {high})"
            ))
        })
}

/// Text.
pub(super) fn string<'v>(value: &'v Value<'_>) -> Read<&'v str> {
    value
        .get_ref()
        .as_str()
        .ok_or_else(|| expected("a string", value))
}

/// The name of a directory.
pub(super) fn path(value: &Value<'_>) -> Read<PathBuf> {
    match string(value)? {
        "" => Err(Rejection::new("the path is empty")),
        text if text.contains('\0') => Err(Rejection::new("the path holds a NUL character")),
        text => Ok(PathBuf::from(text)),
    }
}

/// A size in bytes within a range.
pub(super) fn size(value: &Value<'_>, range: RangeInclusive<u64>) -> Read<u64> {
    let text = value
        .get_ref()
        .as_str()
        .ok_or_else(|| expected(SIZE_HELP, value))?;
    let bytes = parse_size(text).map_err(|problem| quantity(text, &problem, SIZE_HELP))?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    let (low, high) = (format_size(*range.start()), format_size(*range.end()));
    Err(Rejection::new(format!(
        "{text:?} is out of range (allowed: {low} to {high})"
    )))
}

/// A duration within a range.
pub(super) fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Read<Duration> {
    let text = value
        .get_ref()
        .as_str()
        .ok_or_else(|| expected(DURATION_HELP, value))?;
    let time = parse_duration(text).map_err(|problem| quantity(text, &problem, DURATION_HELP))?;
    if range.contains(&time) {
        return Ok(time);
    }
    let (low, high) = (
        format_duration(*range.start()),
        format_duration(*range.end()),
    );
    Err(Rejection::new(format!(
        "{text:?} is out of range (allowed: {low} to {high})"
    )))
}

fn quantity(text: &str, problem: &str, help: &str) -> Rejection {
    Rejection::new(format!("{text:?}: {problem} (allowed: {help})"))
}

/// A list without repetitions; a refused entry is blamed at its own place.
pub(super) fn list<T: PartialEq>(
    value: &Value<'_>,
    what: &str,
    entry: impl Fn(&Value<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    let array = value
        .get_ref()
        .as_array()
        .ok_or_else(|| expected(what, value))?;
    let mut entries = Vec::with_capacity(array.len());
    for item in array.iter() {
        let read = entry(item).map_err(|rejection| rejection.at(item))?;
        if entries.contains(&read) {
            return Err(Rejection::new("the same entry stands here twice").at(item));
        }
        entries.push(read);
    }
    Ok(entries)
}

/// One unicast address, alone or with the prefix length of a single address (`/32`, `/128`).
pub(super) fn address(value: &Value<'_>) -> Read<IpAddr> {
    const HELP: &str =
        "allowed: one unicast address such as \"192.0.2.10\" or \"2001:db8::10/128\"";
    let text = string(value)?;
    let (bare, prefix) = text
        .split_once('/')
        .map_or((text, None), |(bare, prefix)| (bare, Some(prefix)));
    let address: IpAddr = bare
        .parse()
        .map_err(|_| Rejection::new(format!("{text:?} is not an IP address ({HELP})")))?;
    let single = if address.is_ipv4() { "32" } else { "128" };
    if prefix.is_some_and(|prefix| prefix != single) {
        return Err(Rejection::new(format!(
            "{text:?} is a network; Sluice serves single addresses, write {bare} or {bare}/{single}"
        )));
    }
    match refused_kind(address) {
        Some(kind) => Err(Rejection::new(format!("{text:?} is {kind} ({HELP})"))),
        None => Ok(address),
    }
}

/// Why an address cannot be one that clients connect to from another machine.
fn refused_kind(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        _ => None,
    }
}
