//! Any text as a configuration file: read, or explained; and what is printed reads back as the same.

use std::path::PathBuf;

use sluiced::config::units::{format_duration, format_size, parse_duration, parse_size};
use sluiced::config::{Config, Overrides};

/// Runs the configuration reader on a text.
pub fn config(data: &[u8]) {
    let Some((&options, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let mut overrides = Overrides::default();
    if options & 1 != 0 {
        overrides.root = Some(PathBuf::from("/srv/files"));
    }
    if options & 2 != 0 {
        overrides.interface = Some("eth1".to_owned());
    }
    if options & 4 != 0 {
        overrides.port = Some(8443);
    }
    match Config::parse("fuzz.toml", &text, &overrides) {
        Ok(config) => check_prints_back(&config),
        Err(errors) => assert!(!errors.to_string().trim().is_empty()),
    }
    check_units(&text);
}

fn check_prints_back(config: &Config) {
    let printed = config.to_toml();
    match Config::parse("printed.toml", &printed, &Overrides::default()) {
        Ok(read) => assert_eq!(&read, config, "{printed}"),
        Err(errors) => panic!("{errors}\n{printed}"),
    }
}

/// Each word of the text as a size and as a duration.
fn check_units(text: &str) {
    for word in text.split_whitespace().take(8) {
        if let Ok(bytes) = parse_size(word) {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        if let Ok(duration) = parse_duration(word) {
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
