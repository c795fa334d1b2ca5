//! The configuration as operators meet it: exact error texts, defaults, the shipped file, the documentation.

use super::*;

/// Reads a file that lacks nothing but what is tested.
fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("f.toml", text, &with_root())
}

fn with_root() -> Overrides {
    Overrides {
        root: Some("/srv/files".into()),
        ..Overrides::default()
    }
}

/// All mistakes of a file, as they are printed.
fn mistakes(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// What nothing but a root gives.
fn defaults() -> Config {
    Config {
        xdp: Xdp::default(),
        listen: vec![Listen::default()],
        sites: vec![Site {
            root: "/srv/files".into(),
            symlinks: Symlinks::InsideRoot,
        }],
        tcp: Tcp::default(),
        disk: Disk::default(),
        upload: Upload::default(),
        limits: Limits::default(),
        listen_addresses: Vec::new(),
    }
}

/// Another value than the default for every key.
fn everything() -> Config {
    Config {
        xdp: Xdp {
            backend: Backend::Xdp,
            interface: Some("eth1".to_owned()),
            addresses: Some(vec!["192.0.2.10".parse().unwrap()]),
            owned_addresses: vec!["2001:db8::10".parse().unwrap()],
            queues: Queues::List(vec![0, 2]),
            attach: Attach::Native,
            bind: Bind::ZeroCopy,
            umem_bytes: 128 << 20,
            checksum_rx: ChecksumRx::Verify,
            poll: Poll::Busy,
            napi: Napi::Threaded,
            napi_cores: Some(vec![1]),
            vlan: true,
            cores: Some(vec![3, 5]),
            huge_pages: HugePages::Off,
            syn_gate: SynGate::Off,
            tx_lane: TxLane::Copy,
        },
        listen: vec![
            Listen {
                port: 80,
                congestion: Some(Congestion::NewReno),
            },
            Listen {
                port: 8080,
                congestion: None,
            },
        ],
        sites: vec![Site {
            root: "/srv/a \"b\" \\ \u{7f}".into(),
            symlinks: Symlinks::Never,
        }],
        tcp: Tcp {
            congestion: Congestion::Bbr,
            ecn: Ecn::Classic,
            mss: Some(1400),
            send_buffer_max: 4 << 20,
            rto_min: Duration::from_millis(40),
            keepalive: Some(Duration::from_secs(7200)),
            user_timeout: Some(Duration::from_secs(90)),
        },
        disk: Disk {
            threads: 8,
            direct_above: Some(3 << 30),
        },
        upload: Upload {
            enabled: true,
            max_size: 5 << 30,
        },
        limits: Limits {
            connections: 100,
            header_bytes: 8192,
            header_timeout: Duration::from_millis(2500),
            idle_timeout: Duration::from_secs(5),
            drain_timeout: Duration::ZERO,
            min_rate: None,
            syn_rate: 1_000_000,
            syn_rate_per_source: 50,
        },
        listen_addresses: vec!["127.0.0.1".parse().unwrap()],
    }
}

mod defaults {
    use super::*;

    #[test]
    fn a_root_is_enough() {
        assert_eq!(Config::load(None, &with_root()), Ok(defaults()));
        assert_eq!(parse(""), Ok(defaults()));
    }

    #[test]
    fn the_shipped_file_says_exactly_the_defaults() {
        assert_eq!(parse(DEFAULT_FILE), Ok(defaults()));
    }

    #[test]
    fn the_shipped_file_shows_every_key_under_its_table() {
        for key in read::keys() {
            let table = table_text(DEFAULT_FILE, key.table);
            let shown = table.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.starts_with(&format!("{} = ", key.name))
            });
            // A table at the top level is shown by its heading.
            let heading = key.table.is_empty()
                && DEFAULT_FILE
                    .lines()
                    .any(|line| line.trim_matches(['[', ']']) == key.name);
            assert!(shown || heading, "{key:?} is missing in deploy/sluice.toml");
        }
    }

    #[test]
    fn the_examples_in_the_shipped_file_are_valid() {
        let uncommented: String = DEFAULT_FILE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(example) if example.split(' ').nth(1) == Some("=") => format!("{example}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = Config::parse("sluice.toml", &uncommented, &Overrides::default()).unwrap();
        assert_eq!(config.xdp.interface.as_deref(), Some("eth1"));
        assert_eq!(config.sites[0].root, PathBuf::from("/srv/files"));
        assert_eq!(config.tcp.mss, Some(1400));
    }

    /// The lines of a file that belong to a table.
    fn table_text(file: &str, table: &str) -> String {
        let mut current = "";
        let mut text = String::new();
        for line in file.lines() {
            if line.starts_with('[') {
                current = line.trim_matches(['[', ']']);
            } else if current == table {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

mod documentation {
    use super::*;

    const CONFIG_MD: &str = include_str!("../../../docs/CONFIG.md");

    /// `(table, key)` of every row of the key tables in the document.
    fn documented() -> Vec<(String, String)> {
        let mut table = String::new();
        let mut rows = Vec::new();
        for line in CONFIG_MD.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                heading
                    .trim_matches('`')
                    .trim_matches(['[', ']'])
                    .clone_into(&mut table);
                if table == "Top level" {
                    table.clear();
                }
            } else if let Some(key) = line
                .strip_prefix("| `")
                .and_then(|row| row.split_once('`'))
                .map(|(key, _)| key)
            {
                rows.push((table.clone(), key.to_owned()));
            }
        }
        rows
    }

    #[test]
    fn every_key_has_its_row_and_every_row_its_key() {
        let mut documented: Vec<_> = documented()
            .into_iter()
            .filter(|(_, key)| !key.starts_with("--"))
            .collect();
        let mut known: Vec<_> = read::keys()
            .into_iter()
            .map(|key| (key.table.to_owned(), key.name.to_owned()))
            // Tables have a heading instead of a row.
            .filter(|(table, name)| !table.is_empty() || name == "schema_version")
            .collect();
        documented.sort();
        known.sort();
        assert_eq!(documented, known);
    }

    #[test]
    fn every_word_of_every_choice_is_documented() {
        fn check<T: Choice>() {
            for (word, _) in T::ALL {
                assert!(
                    CONFIG_MD.contains(&format!("`\"{word}\"`")),
                    "{word:?} is missing in docs/CONFIG.md"
                );
            }
        }
        check::<Backend>();
        check::<Attach>();
        check::<Bind>();
        check::<ChecksumRx>();
        check::<TxLane>();
        check::<Poll>();
        check::<HugePages>();
        check::<Symlinks>();
        check::<Congestion>();
    }

    #[test]
    fn every_flag_is_documented() {
        let command = <crate::args::Args as clap::CommandFactory>::command();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(
                CONFIG_MD.contains(&format!("`--{flag}")),
                "--{flag} is missing in docs/CONFIG.md"
            );
        }
    }
}

mod round_trip {
    use super::*;

    #[test]
    fn the_effective_configuration_reads_back() {
        let mut expected = everything();
        let printed = expected.to_toml();
        // The only setting without a key is shown as a comment.
        expected.listen_addresses.clear();
        assert_eq!(
            Config::parse("f.toml", &printed, &Overrides::default()),
            Ok(expected)
        );
        assert!(printed.contains("# --listen-address (kernel backend): 127.0.0.1\n"));
    }

    #[test]
    fn the_default_configuration_reads_back() {
        assert_eq!(parse(&defaults().to_toml()), Ok(defaults()));
    }

    #[test]
    fn the_effective_configuration_names_every_key() {
        let printed = defaults().to_toml();
        for key in read::keys() {
            assert!(
                printed.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{} =", key.name))
                        || line.starts_with(&format!("{}:", key.name))
                        || line.trim_matches(['[', ']']) == key.name
                }),
                "{key:?} is missing"
            );
        }
    }
}

mod flags {
    use super::*;

    #[test]
    fn flags_stand_above_the_file() {
        let text = "[xdp]\nbackend = \"kernel\"\ninterface = \"eth1\"\n\
                    [[listen]]\nport = 80\n[[listen]]\nport = 81\n\
                    [[site]]\nroot = \"/srv/a\"\nsymlinks = \"never\"\n";
        let overrides = Overrides {
            root: Some("b".into()),
            port: Some(8080),
            interface: Some("eth2".to_owned()),
            backend: Some(Backend::Xdp),
            listen_addresses: Vec::new(),
        };
        let config = Config::parse("f.toml", text, &overrides).unwrap();
        assert_eq!(config.xdp.backend, Backend::Xdp);
        assert_eq!(config.xdp.interface.as_deref(), Some("eth2"));
        assert_eq!(config.listen, [Listen::default()]);
        assert_eq!(config.sites[0].root, PathBuf::from("b"));
        assert_eq!(config.sites[0].symlinks, Symlinks::Never);
    }

    #[test]
    fn a_flag_cannot_name_an_impossible_interface() {
        let overrides = Overrides {
            interface: Some("a/b".to_owned()),
            ..with_root()
        };
        assert_eq!(
            Config::load(None, &overrides).unwrap_err().to_string(),
            "--interface: \"a/b\" cannot be an interface name \
             (allowed: 1 to 15 bytes without space, \"/\" and \":\")"
        );
    }

    #[test]
    fn the_kernel_backend_listens_everywhere_by_default() {
        assert_eq!(
            defaults().endpoints(&defaults().kernel_addresses()),
            [
                "0.0.0.0:8080".parse().unwrap(),
                "[::]:8080".parse().unwrap()
            ]
        );
    }

    #[test]
    fn a_fallback_listens_on_no_more_than_the_written_addresses() {
        let mut config = everything();
        config.listen_addresses.clear();
        assert_eq!(
            config.kernel_addresses(),
            ["192.0.2.10".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn listen_addresses_win() {
        assert_eq!(
            everything().kernel_addresses(),
            ["127.0.0.1".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn partial_checksums_follow_the_interface_unless_written_down() {
        assert!(ChecksumRx::Auto.accepts_partial(true));
        assert!(!ChecksumRx::Auto.accepts_partial(false));
        assert!(!ChecksumRx::Verify.accepts_partial(true));
        assert!(ChecksumRx::AcceptPartial.accepts_partial(false));
    }
}

mod missing {
    use super::*;

    #[test]
    fn a_root_has_no_default() {
        assert_eq!(
            Config::load(None, &Overrides::default())
                .unwrap_err()
                .to_string(),
            "no directory to serve: write root = \"/srv/files\" in [[site]] or pass --root DIR"
        );
        assert_eq!(
            Config::parse("f.toml", "", &Overrides::default())
                .unwrap_err()
                .to_string(),
            "f.toml: no directory to serve: write root = \"/srv/files\" in [[site]] or pass --root DIR"
        );
    }

    #[test]
    fn only_the_xdp_backend_needs_an_interface() {
        assert!(parse("[xdp]\nbackend = \"kernel\"\n").is_ok());
        assert_eq!(
            mistakes("[xdp]\nbackend = \"xdp\"\n"),
            "f.toml: backend \"xdp\" needs an interface: write interface = \"eth1\" in [xdp] or pass \
             --interface NAME (`ip -br link` lists them)"
        );
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/f.toml")), &with_root()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/nonexistent/f.toml: cannot be read: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_file_that_is_not_text_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"[xdp]\n\xff").unwrap();
        let error = Config::load(Some(file.path()), &with_root()).unwrap_err();
        assert!(
            error.to_string().ends_with(": is not UTF-8 text (byte 6)"),
            "{error}"
        );
    }
}

mod mistakes {
    use super::*;

    /// One test per text: the file and every line that is printed for it.
    macro_rules! mistake {
        ($($(#[$meta:meta])* $name:ident: $text:expr => $($line:expr),+;)+) => {
            $($(#[$meta])* #[test] fn $name() {
                assert_eq!(mistakes($text), [$($line),+].join("\n"));
            })+
        };
    }

    mistake! {
        an_unknown_table_finds_its_neighbour:
            "[[lisen]]\nport = 1\n"
            => "f.toml:1:3: unknown key \"lisen\" at the top level, did you mean \"listen\"? \
                (known: schema_version, xdp, listen, site, tcp, disk, upload, limits)";
        an_unknown_key_finds_its_neighbour:
            "[xdp]\n  bakcend = \"xdp\"\n"
            => "f.toml:2:3: unknown key \"bakcend\" in [xdp], did you mean \"backend\"? \
                (known: backend, interface, addresses, owned_addresses, queues, attach, bind, umem, \
                checksum_rx, poll, napi, napi_cores, vlan, cores, huge_pages, syn_gate, tx_lane)";
        a_key_in_the_wrong_table_is_sent_home:
            "port = 80\n"
            => "f.toml:1:1: unknown key \"port\" at the top level, it belongs in [listen] \
                (known: schema_version, xdp, listen, site, tcp, disk, upload, limits)";
        a_key_of_a_later_version_is_refused:
            "[xdp]\nbusy_poll = \"on\"\n[metrics]\naddress = \"127.0.0.1:9177\"\n"
            => "f.toml:2:1: unknown key \"busy_poll\" in [xdp] (known: backend, interface, addresses, \
                owned_addresses, queues, attach, bind, umem, checksum_rx, poll, napi, napi_cores, vlan, cores, huge_pages, syn_gate, tx_lane)",
               "f.toml:3:2: unknown key \"metrics\" at the top level \
                (known: schema_version, xdp, listen, site, tcp, disk, upload, limits)";
        unknown_keys_of_entries_are_found:
            "[[listen]]\nport = 80\ntls = \"main\"\n"
            => "f.toml:3:1: unknown key \"tls\" in [listen] (known: port, congestion)";
        a_wrong_word_lists_the_right_ones:
            "[xdp]\nbackend = \"xpd\"\n"
            => "f.toml:2:11: xdp.backend: \"xpd\" is not allowed, did you mean \"xdp\"? \
                (allowed: \"auto\", \"xdp\", \"kernel\")";
        a_foreign_word_lists_the_right_ones:
            "[tcp]\ncongestion = \"vegas\"\n"
            => "f.toml:2:14: tcp.congestion: \"vegas\" is not allowed (allowed: \"cubic\", \"reno\", \
                \"dctcp\", \"bbr\")";
        a_word_of_the_wrong_type_lists_the_right_ones:
            "[xdp]\npoll = true\n"
            => "f.toml:2:8: xdp.poll: expected one of \"adaptive\", \"interrupt\", \"busy\", found true";
        a_string_is_no_boolean:
            "[xdp]\nvlan = \"yes\"\n"
            => "f.toml:2:8: xdp.vlan: expected true or false, found the string \"yes\"";
        a_size_needs_quotes_and_a_unit:
            "[xdp]\numem = 67108864\n"
            => "f.toml:2:8: xdp.umem: expected a number and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\", \
                found the integer 67108864";
        a_decimal_size_is_ambiguous:
            "[xdp]\numem = \"64MB\"\n"
            => "f.toml:2:8: xdp.umem: \"64MB\": unit \"MB\" is ambiguous, did you mean \"MiB\"? \
                (allowed: a number and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\")";
        a_small_umem_names_the_range:
            "[xdp]\numem = \"1MiB\"\n"
            => "f.toml:2:8: xdp.umem: \"1MiB\" is out of range (allowed: 4MiB to 16GiB)";
        a_bare_time_is_refused:
            "[limits]\nidle_timeout = \"60\"\n"
            => "f.toml:2:16: limits.idle_timeout: \"60\": has no unit \
                (allowed: a number and one of ms, s, m, h, d, such as \"10s\")";
        a_long_time_names_the_range:
            "[limits]\nheader_timeout = \"2h\"\n"
            => "f.toml:2:18: limits.header_timeout: \"2h\" is out of range (allowed: 1s to 1h)";
        a_port_has_a_range:
            "[[listen]]\nport = 65536\n"
            => "f.toml:2:8: listen.port: 65536 is out of range (allowed: 1 to 65535)";
        a_negative_number_is_out_of_range:
            "[disk]\nthreads = -1\n"
            => "f.toml:2:11: disk.threads: -1 is out of range (allowed: 1 to 64)";
        what_is_neither_off_nor_a_size_names_both:
            "[disk]\ndirect_above = \"on\"\n"
            => "f.toml:2:16: disk.direct_above: \"on\" is not allowed (allowed: \"off\" or a size such as \"1GiB\")";
        a_bare_size_of_direct_reads_names_both:
            "[disk]\ndirect_above = 1073741824\n"
            => "f.toml:2:16: disk.direct_above: expected \"off\" or a size such as \"1GiB\", \
                found the integer 1073741824";
        a_size_of_direct_reads_is_at_least_a_block:
            "[disk]\ndirect_above = \"4KiB\"\n"
            => "f.toml:2:16: disk.direct_above: \"4KiB\" is out of range (allowed: 64KiB to 1024TiB)";
        a_size_of_direct_reads_has_a_binary_unit:
            "[disk]\ndirect_above = \"1GB\"\n"
            => "f.toml:2:16: disk.direct_above: \"1GB\": unit \"GB\" is ambiguous, did you mean \"GiB\"? \
                (allowed: a number and one of B, KiB, MiB, GiB, TiB, such as \"64MiB\")";
        a_port_stands_once:
            "[[listen]]\nport = 80\n[[listen]]\nport = 80\n"
            => "f.toml:4:8: listen.port: 80 is served already";
        a_default_port_counts:
            "[[listen]]\nport = 8080\n[[listen]]\n"
            => "f.toml:3:1: listen.port: 8080 is served already";
        a_table_that_must_be_a_list_says_how:
            "[listen]\nport = 80\n"
            => "f.toml:1:1: listen: expected one or more tables, each written [[listen]], found a table";
        a_value_that_must_be_a_table_says_how:
            "xdp = true\n"
            => "f.toml:1:7: xdp: expected a table, written [xdp], found true";
        a_second_site_is_refused:
            "[[site]]\nroot = \"/a\"\n[[site]]\nroot = \"/b\"\n"
            => "f.toml:3:1: a second [[site]] (allowed: one)";
        a_relative_root_is_refused:
            "[[site]]\nroot = \"files\"\n"
            => "f.toml:2:8: site.root: \"files\" is relative (allowed: an absolute path such as \"/srv/files\")";
        an_address_must_be_one:
            "[xdp]\naddresses = [\"192.0.2.10\", \"eth0\"]\n"
            => "f.toml:2:28: xdp.addresses: \"eth0\" is not an IP address (allowed: one unicast address such \
                as \"192.0.2.10\" or \"2001:db8::10/128\")";
        a_network_is_no_address:
            "[xdp]\naddresses = [\"192.0.2.0/24\"]\n"
            => "f.toml:2:14: xdp.addresses: \"192.0.2.0/24\" is a network; Sluice serves single addresses, \
                write 192.0.2.0 or 192.0.2.0/32";
        loopback_is_not_served:
            "[xdp]\naddresses = [\"127.0.0.1\"]\n"
            => "f.toml:2:14: xdp.addresses: \"127.0.0.1\" is a loopback address (allowed: one unicast address \
                such as \"192.0.2.10\" or \"2001:db8::10/128\")";
        an_address_stands_once:
            "[xdp]\naddresses = [\"192.0.2.1\", \"192.0.2.1/32\"]\n"
            => "f.toml:2:27: xdp.addresses: the same entry stands here twice";
        an_address_is_the_kernels_or_ours:
            "[xdp]\naddresses = [\"192.0.2.1\"]\nowned_addresses = [\"192.0.2.1\"]\n"
            => "f.toml:3:19: xdp.owned_addresses: 192.0.2.1 stands in addresses too \
                (allowed: addresses if the kernel has it, owned_addresses if not)";
        no_address_at_all_is_refused:
            "[xdp]\naddresses = []\n"
            => "f.toml:2:13: xdp.addresses: the list is empty, nothing would be served \
                (leave the key out for all addresses of the interface)";
        queues_are_all_or_a_list:
            "[xdp]\nqueues = \"some\"\n"
            => "f.toml:2:10: xdp.queues: the string \"some\" is not allowed \
                (allowed: \"all\" or a list of queue numbers such as [0, 1])";
        an_empty_queue_list_is_refused:
            "[xdp]\nqueues = []\n"
            => "f.toml:2:10: xdp.queues: the list is empty \
                (allowed: \"all\" or a list of queue numbers such as [0, 1])";
        cores_match_queues:
            "[xdp]\nqueues = [0, 1]\ncores = [3]\n"
            => "f.toml:3:9: xdp.cores: 1 CPUs for 2 queues (allowed: one CPU per queue, in the same order)";
        zero_copy_needs_the_driver:
            "[xdp]\nattach = \"generic\"\nbind = \"zerocopy\"\n"
            => "f.toml:3:8: xdp.bind: \"zerocopy\" needs the program in the driver, \
                but attach = \"generic\" (allowed: \"copy\")";
        an_interface_name_is_short:
            "[xdp]\ninterface = \"a-very-long-name\"\n"
            => "f.toml:2:13: xdp.interface: \"a-very-long-name\" cannot be an interface name \
                (allowed: 1 to 15 bytes without space, \"/\" and \":\")";
        a_send_buffer_holds_a_block_at_least:
            "[tcp]\nsend_buffer_max = \"1KiB\"\n"
            => "f.toml:2:19: tcp.send_buffer_max: \"1KiB\" is out of range (allowed: 64KiB to 1GiB)";
        a_floor_of_the_time_out_that_no_peer_can_meet_is_refused:
            "[tcp]\nrto_min = \"5ms\"\n"
            => "f.toml:2:11: tcp.rto_min: \"5ms\" is out of range (allowed: 10ms to 3s)";
        a_floor_of_the_time_out_has_a_unit:
            "[tcp]\nrto_min = 200\n"
            => "f.toml:2:11: tcp.rto_min: expected a number and one of ms, s, m, h, d, such as \"10s\", \
                found the integer 200";
        keepalive_is_off_or_a_time:
            "[tcp]\nkeepalive = \"1s\"\n"
            => "f.toml:2:13: tcp.keepalive: \"1s\" is out of range (allowed: 10s to 1d)";
        a_user_timeout_is_off_or_a_time:
            "[tcp]\nuser_timeout = \"10ms\"\n"
            => "f.toml:2:16: tcp.user_timeout: \"10ms\" is out of range (allowed: 1s to 1d)";
        another_schema_is_refused:
            "schema_version = 2\n"
            => "f.toml:1:18: schema_version: this sluiced reads version 1, the file says 2";
        broken_toml_is_reported_alone:
            "[xdp]\nbakcend = \n"
            => "f.toml:2:11: not valid TOML: string values must be quoted, expected literal string";
        a_doubled_key_is_found:
            "[xdp]\nvlan = true\nvlan = false\n"
            => "f.toml:3:1: not valid TOML: duplicate key";
        all_mistakes_come_at_once_in_file_order:
            "[limits]\nconnections = 0\n[xdp]\nvlan = 1\nnope = 2\n"
            => "f.toml:2:15: limits.connections: 0 is out of range (allowed: 1 to 4194304)",
               "f.toml:4:8: xdp.vlan: expected true or false, found the integer 1",
               "f.toml:5:1: unknown key \"nope\" in [xdp] (known: backend, interface, addresses, \
                owned_addresses, queues, attach, bind, umem, checksum_rx, poll, napi, napi_cores, vlan, cores, huge_pages, syn_gate, tx_lane)";
    }

    #[test]
    fn too_many_endpoints_are_counted() {
        let ports: String = (1..=33)
            .map(|port| format!("[[listen]]\nport = {port}\n"))
            .collect();
        assert_eq!(
            mistakes(&format!(
                "[xdp]\naddresses = [\"192.0.2.1\", \"192.0.2.2\"]\n{ports}"
            )),
            "f.toml: 2 addresses with 33 ports are 66 endpoints (allowed: 64): serve fewer addresses or ports"
        );
    }

    #[test]
    fn a_port_may_have_a_congestion_control_of_its_own() {
        let config = parse(
            "[tcp]\ncongestion = \"reno\"\n[[listen]]\nport = 80\ncongestion = \"bbr\"\n[[listen]]\nport = 81\n",
        )
        .unwrap();
        let of = |port| config.congestion_of(port);
        assert_eq!(of(80), Congestion::Bbr);
        assert_eq!(of(81), Congestion::NewReno);
    }

    #[test]
    fn a_port_is_served_once_whatever_else_its_blocks_say() {
        assert_eq!(
            mistakes("[[listen]]\nport = 80\n[[listen]]\nport = 80\ncongestion = \"bbr\"\n"),
            "f.toml:4:8: listen.port: 80 is served already"
        );
    }

    #[test]
    fn hexadecimal_numbers_are_numbers() {
        assert_eq!(
            parse("[[listen]]\nport = 0x50\n").unwrap().listen,
            [Listen {
                port: 80,
                congestion: None
            }]
        );
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        use proptest::prelude::*;
        proptest!(|(text in "(\\[{0,2}(xdp|listen|site|tcp)\\]{0,2}|[a-z_]{1,8} = |[\"\\[\\]{}0-9,.é\n-]){0,40}")| {
            let _ = parse(&text);
        });
    }
}
