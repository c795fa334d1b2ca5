//! The command line of `sluiced`: what to do, and which settings stand above the configuration file.
//!
//! Only shape is checked here (clap ends the process with exit code 2 on a usage error); whether the settings
//! fit together is decided by [`config`](crate::config), in one place for flags and file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};

use crate::config::{Backend, Choice, Overrides};

/// Serve files over AF_XDP with a userspace TCP, or over kernel sockets.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "sluiced",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        sluiced --root /srv/files --port 8080          without root: kernel sockets\n  \
        sluiced --root /srv/files --interface eth1     with root: AF_XDP where it can run\n  \
        sluiced --config /etc/sluice/sluice.toml\n\n\
        Exit codes: 0 stopped or drained, 1 start-up or run failed, 2 usage or configuration error."
)]
pub struct Args {
    /// Configuration file (TOML); without one, defaults and the flags below
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Check a configuration file and exit: 0 if it is valid, 2 with every mistake if not
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "print_config"])]
    check: Option<PathBuf>,

    /// Print a configuration and exit: the one in effect, or the commented defaults
    #[arg(long, value_name = "WHICH", value_enum)]
    print_config: Option<PrintConfig>,

    /// Directory to serve
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Look at machine, interface and configuration, say what stands in the way, and exit
    #[arg(long, conflicts_with_all = ["check", "print_config"])]
    doctor: bool,

    /// Put back what a sluiced that died left changed on the host, and exit (ExecStopPost= of a unit)
    #[arg(long, conflicts_with_all = ["check", "print_config", "doctor"])]
    restore: bool,

    /// TCP port to serve
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Interface whose queues are taken
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// Network stack
    #[arg(long, value_name = "STACK", value_parser = backend_parser())]
    backend: Option<Backend>,

    /// Address the kernel backend listens on, repeatable [default: xdp.addresses, else 0.0.0.0 and ::]
    #[arg(long, value_name = "ADDRESS")]
    listen_address: Vec<IpAddr>,
}

/// Which configuration `--print-config` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrintConfig {
    /// File and flags over defaults, as a file
    Effective,
    /// The default file, with a comment for every key
    Default,
}

/// What the process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Serve until stopped.
    Serve,
    /// Check the configuration and exit.
    Check,
    /// Print a configuration and exit.
    Print(PrintConfig),
    /// Print the preflight and exit.
    Doctor,
    /// Put back settings of the host and exit.
    Restore,
}

impl Args {
    /// What to do.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match (&self.check, self.print_config) {
            (Some(_), _) => Mode::Check,
            (None, Some(which)) => Mode::Print(which),
            (None, None) if self.doctor => Mode::Doctor,
            (None, None) if self.restore => Mode::Restore,
            (None, None) => Mode::Serve,
        }
    }

    /// The configuration file to read, for every mode.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.check.as_deref().or(self.config.as_deref())
    }

    /// The settings that stand above the file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            root: self.root.clone(),
            port: self.port,
            interface: self.interface.clone(),
            backend: self.backend,
            listen_addresses: self.listen_address.clone(),
        }
    }
}

/// The words of [`Backend`], so that clap lists them in help and errors.
fn backend_parser() -> impl TypedValueParser<Value = Backend> {
    let words = Backend::ALL.iter().map(|(word, _)| *word);
    PossibleValuesParser::new(words)
        .try_map(|word| Backend::from_name(&word).ok_or("not a backend"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides() {
        let args = parse(
            "sluiced --root /srv --port 80 --interface eth1 --backend xdp \
             --listen-address 192.0.2.1 --listen-address ::1",
        )
        .unwrap();
        assert_eq!(args.mode(), Mode::Serve);
        assert_eq!(args.file(), None);
        assert_eq!(
            args.overrides(),
            Overrides {
                root: Some("/srv".into()),
                port: Some(80),
                interface: Some("eth1".to_owned()),
                backend: Some(Backend::Xdp),
                listen_addresses: vec!["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()],
            }
        );
    }

    #[test]
    fn check_names_the_file_it_checks() {
        let args = parse("sluiced --check f.toml").unwrap();
        assert_eq!(args.mode(), Mode::Check);
        assert_eq!(args.file(), Some(std::path::Path::new("f.toml")));
    }

    #[test]
    fn print_config_takes_one_of_two_words() {
        let args = parse("sluiced -c f.toml --print-config effective").unwrap();
        assert_eq!(args.mode(), Mode::Print(PrintConfig::Effective));
        assert!(parse("sluiced --print-config all").is_err());
    }

    #[test]
    fn usage_errors_exit_with_the_configuration_code() {
        for line in [
            "sluiced --port 0",
            "sluiced --port 65536",
            "sluiced --backend dpdk",
            "sluiced --listen-address localhost",
            "sluiced --check a --config b",
            "sluiced stray",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(
                error.exit_code(),
                i32::from(crate::config::EXIT_CONFIG),
                "{line}"
            );
        }
    }

    #[test]
    fn a_wrong_backend_lists_the_right_ones() {
        let text = parse("sluiced --backend dpdk").unwrap_err().to_string();
        assert!(
            text.contains("[possible values: auto, xdp, kernel]"),
            "{text}"
        );
    }
}
