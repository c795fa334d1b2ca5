//! What is wrong with a configuration, with the place it stands at.
//!
//! All mistakes of a file are reported in one go, in the order of the file: an operator fixes a file once, not
//! once per mistake. The form is `file:line:column: message`, which editors and terminals make clickable.

use std::fmt;
use std::ops::Range;

use super::suggest::nearest;

/// Line and column of a mistake, both counted from 1; columns count characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Character within the line, from 1.
    pub column: usize,
}

impl Position {
    /// The place of a byte offset in a text; an offset past the end is the end.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text
            .char_indices()
            .take_while(|(index, _)| *index < offset)
            .map(|(_, character)| character);
        let mut position = Self { line: 1, column: 1 };
        for character in before {
            if character == '\n' {
                position = Self {
                    line: position.line + 1,
                    column: 1,
                };
            } else {
                position.column += 1;
            }
        }
        position
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named to us; `None` for a mistake of the whole configuration.
    pub file: Option<String>,
    /// Where in the file; `None` if the mistake has no single place (a missing key, an unreadable file).
    pub position: Option<Position>,
    /// What is wrong and what is allowed instead, one line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            if let Some(Position { line, column }) = self.position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

/// Every mistake of a configuration, in file order; never empty. The process exits with
/// [`EXIT_CONFIG`](super::EXIT_CONFIG).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes in file order.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }

    /// A mistake that concerns a file as a whole.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        Self(vec![ConfigError {
            file: Some(file.to_owned()),
            position: None,
            message,
        }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A key, as the code knows it: the table (`""` is the top level) and the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub table: &'static str,
    pub name: &'static str,
}

/// A key of the file that nobody asked for.
struct Stray {
    span: Range<usize>,
    table: &'static str,
    name: String,
}

/// Collects mistakes, and the keys that exist, while a configuration is read.
pub(super) struct Diagnostics<'t> {
    file: Option<String>,
    text: &'t str,
    errors: Vec<ConfigError>,
    known: Vec<Key>,
    strays: Vec<Stray>,
}

impl<'t> Diagnostics<'t> {
    pub(super) fn new(file: Option<&str>, text: &'t str) -> Self {
        Self {
            file: file.map(str::to_owned),
            text,
            errors: Vec::new(),
            known: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// A mistake at a byte range of the text.
    pub(super) fn at(&mut self, span: &Range<usize>, message: String) {
        self.errors.push(ConfigError {
            file: self.file.clone(),
            position: Some(Position::of(self.text, span.start)),
            message,
        });
    }

    /// This one mistake instead of all others.
    pub(super) fn only(mut self, span: Option<Range<usize>>, message: String) -> ConfigErrors {
        self.errors.clear();
        match span {
            Some(span) => self.at(&span, message),
            None => self.anywhere(message),
        }
        ConfigErrors(self.errors)
    }

    /// A mistake without a place.
    pub(super) fn anywhere(&mut self, message: String) {
        self.errors.push(ConfigError {
            file: self.file.clone(),
            position: None,
            message,
        });
    }

    /// A key that the code reads.
    pub(super) fn know(&mut self, key: Key) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    /// A key that only the file has. What it could have meant is worked out at the end, when every table has
    /// declared its keys.
    pub(super) fn stray(&mut self, span: Range<usize>, table: &'static str, name: &str) {
        self.strays.push(Stray {
            span,
            table,
            name: name.to_owned(),
        });
    }

    /// Every key that was read, in reading order.
    #[cfg(test)]
    pub(super) fn known(&self) -> &[Key] {
        &self.known
    }

    /// The value, unless a mistake was seen. Mistakes without a place come last: they are often
    /// consequences of the others.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigErrors> {
        for stray in std::mem::take(&mut self.strays) {
            let message = self.explain(&stray);
            self.at(&stray.span, message);
        }
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors
            .sort_by_key(|error| (error.position.is_none(), error.position));
        Err(ConfigErrors(self.errors))
    }

    fn explain(&self, stray: &Stray) -> String {
        let Stray { table, name, .. } = stray;
        let here: Vec<_> = self
            .known
            .iter()
            .filter(|key| key.table == *table)
            .map(|key| key.name)
            .collect();
        let elsewhere = || self.known.iter().find(|key| key.name == name.as_str());
        let meant = if let Some(near) = nearest(name, here.iter().copied()) {
            format!(", did you mean \"{near}\"?")
        } else if let Some(key) = elsewhere() {
            format!(", it belongs {}", place(key.table))
        } else {
            String::new()
        };
        format!(
            "unknown key \"{name}\" {}{meant} (known: {})",
            place(table),
            here.join(", ")
        )
    }
}

fn place(table: &str) -> String {
    match table {
        "" => "at the top level".to_owned(),
        name => format!("in [{name}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nbé x\n";
        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 2), Position { line: 2, column: 1 });
        // "é" is two bytes but one column.
        assert_eq!(Position::of(text, 6), Position { line: 2, column: 4 });
        assert_eq!(Position::of(text, 999), Position { line: 3, column: 1 });
    }

    #[test]
    fn mistakes_come_in_file_order_and_placeless_ones_last() {
        let mut diagnostics = Diagnostics::new(Some("f.toml"), "a = 1\nb = 2\n");
        diagnostics.anywhere("nowhere".to_owned());
        diagnostics.at(&(6..7), "second".to_owned());
        diagnostics.at(&(0..1), "first".to_owned());
        assert_eq!(
            diagnostics.finish(()).unwrap_err().to_string(),
            "f.toml:1:1: first\nf.toml:2:1: second\nf.toml: nowhere"
        );
    }
}
