//! The dialogues of `daemon/tcp/tests/dialogues` with Linux in our place: the same scripts, over a veth pair, in real
//! time, against a kernel socket. `make test-veth` runs them; `DIALOGUE=text` selects some.
//!
//! A disagreement is a bug of ours, or an entry in `linux.txt` beside the scripts that says what Linux does and why we
//! do not: exactly that has to happen, and an entry that became untrue fails too. What differs from one machine to the
//! next and says nothing about the rule is compared by relation: initial numbers, timestamps within the tolerance,
//! window fields (zero or not), the shift of the window scale.

#[expect(dead_code, reason = "the harness uses more of it")]
#[path = "../src/error.rs"]
mod error;
#[path = "../../daemon/tcp/tests/dialogues/expand.rs"]
mod expand;
#[expect(dead_code, reason = "the runner in virtual time uses more of it")]
#[path = "../../daemon/tcp/tests/dialogues/frame.rs"]
mod frame;
#[expect(dead_code, reason = "the harness uses more of it")]
#[path = "../src/lab.rs"]
mod lab;
#[path = "../../daemon/tcp/tests/dialogues/library.rs"]
mod library;
#[path = "wire/place.rs"]
mod place;
#[expect(dead_code, reason = "the flood uses more of it")]
#[path = "../src/link/port.rs"]
mod port;
#[path = "wire/runner.rs"]
mod runner;
#[expect(dead_code, reason = "the runner in virtual time uses more of it")]
#[path = "../../daemon/tcp/tests/dialogues/script.rs"]
mod script;
#[path = "../../daemon/tests/skip.rs"]
mod skip;
#[path = "wire/socket.rs"]
mod socket;
#[path = "wire/table.rs"]
mod table;
#[expect(dead_code, reason = "the runner in virtual time uses more of it")]
#[path = "../../daemon/tcp/tests/dialogues/text.rs"]
mod text;
#[path = "wire/tour.rs"]
mod tour;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use place::Place;
use table::Table;
use tour::{Outcome, Tour};

/// Fewer, and the selection has lost its meaning.
const RUN_MIN: usize = 150;

fn directory() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../daemon/tcp/tests/dialogues"
    ))
}

#[test]
#[ignore = "needs root and network namespaces: make test-veth"]
fn linux_goes_by_every_script_but_those_of_the_table() {
    let Some(place) = Place::new() else {
        return;
    };
    let wanted = std::env::var("DIALOGUE").unwrap_or_default();
    let tour = Tour::of(directory(), &wanted);
    let table = Table::read(directory());
    let began = Instant::now();
    let ran = tour.run(&place, &table);
    report(&tour, &ran, began);
    if wanted.is_empty() {
        assert!(ran.len() >= RUN_MIN, "only {} on the wire", ran.len());
    }
    let unknown = table.entries_without(&tour);
    let wrong: Vec<String> = ran
        .iter()
        .filter_map(|(title, outcome)| table.complaint(title, outcome))
        .chain(unknown.iter().filter(|_| wanted.is_empty()).cloned())
        .collect();
    let differ = format!(
        "{} differ from {}:\n\n{}",
        wrong.len(),
        table::FILE,
        wrong.join("\n")
    );
    if table.is_of_this_kernel() {
        assert!(wrong.is_empty(), "{differ}\n");
    } else {
        // Another Linux does otherwise in some of it, and what it does is no failure of ours.
        skip::skip(
            "wire",
            &format!("the table is of Linux {}: {differ}", table.kernel),
        );
        assert!(wrong.len() * 10 <= ran.len(), "{differ}\n");
    }
}

fn report(tour: &Tour, ran: &BTreeMap<String, Outcome>, began: Instant) {
    let agree = ran.values().filter(|outcome| outcome.is_none()).count();
    println!(
        "{} dialogues on the wire in {:.0} s, {agree} as the script says, {} otherwise",
        ran.len(),
        began.elapsed().as_secs_f64(),
        ran.len() - agree
    );
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in tour.off_wire.values() {
        *reasons.entry(reason).or_default() += 1;
    }
    println!("{} not applicable:", tour.off_wire.len());
    for (reason, count) in reasons {
        println!("{count:>6} {reason}");
    }
    println!(
        "{} expectations about the inside of the stack not asked for",
        tour.unasked
    );
}

#[test]
fn every_cause_of_the_table_is_in_the_ledger_with_its_count() {
    let table = Table::read(directory());
    let ledger = library::read(&directory().join("../../../../docs"), "TCP.md");
    for (cause, count) in table.causes() {
        let row = format!("| {cause} | {count} |");
        assert!(ledger.contains(&row), "docs/TCP.md has no row {row}");
    }
}
