//! Packet dialogues: scripts of segments, driver calls and expectations, run against the stack in virtual
//! time. The scripts are `dialogues/*.pkt`, their format is described in `dialogues/README.md`.
//!
//! `DIALOGUE=text cargo test -p sluice-tcp --test dialogues` runs those whose name or file contains the text.

#[path = "dialogues/expand.rs"]
mod expand;
#[path = "dialogues/frame.rs"]
mod frame;
#[path = "dialogues/library.rs"]
mod library;
#[path = "dialogues/matrix.rs"]
mod matrix;
#[path = "dialogues/runner.rs"]
mod runner;
#[path = "dialogues/script.rs"]
mod script;
#[path = "dialogues/text.rs"]
mod text;

use std::path::Path;

use runner::Taking;

/// Dialogues that there are at least (docs/TCP.md has the number).
const ALL: usize = 1000;

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogues"))
}

fn run_text(text: &str) -> Result<(), String> {
    let dialogues = script::dialogues("inline", text).map_err(|mistake| format!("{mistake:?}"))?;
    dialogues
        .iter()
        .try_for_each(|dialogue| runner::run(dialogue, &[], Taking::Each))
}

#[test]
fn every_dialogue_goes_as_its_script_says() {
    let wanted = std::env::var("DIALOGUE").unwrap_or_default();
    let prologues = library::prologues(directory());
    let (mut count, mut failures) = (0, Vec::new());
    for file in library::scripts(directory()) {
        let dialogues = match script::dialogues(&file, &library::read(directory(), &file)) {
            Ok(dialogues) => dialogues,
            Err(mistake) => {
                let at = mistake.at;
                failures.push(format!(
                    "{}:{}: {}\n  {}",
                    at.file, at.line, at.text, mistake.what
                ));
                continue;
            }
        };
        for dialogue in dialogues {
            if !file.contains(&wanted) && !dialogue.name.contains(&wanted) {
                continue;
            }
            count += 1;
            for taking in [Taking::Each, Taking::Runs] {
                if let Err(failure) = runner::run(&dialogue, &prologues, taking) {
                    failures.push(format!(
                        "# {} [{}], {taking:?}\n{failure}",
                        dialogue.name, dialogue.clause
                    ));
                }
            }
        }
    }
    println!("{count} dialogues, {} failed", failures.len());
    assert!(failures.is_empty(), "\n\n{}\n", failures.join("\n\n"));
    // All of them, unless some were asked for: a folder that is read only in part must not pass.
    let least = if wanted.is_empty() { ALL } else { 1 };
    assert!(
        count >= least,
        "{count} dialogues with {wanted:?} in their names, fewer than {least}"
    );
}

#[test]
fn every_state_meets_every_event_where_the_table_says() {
    let (cells, mistakes) = matrix::mistakes(directory());
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(cells > 200, "{cells} cells");
}

#[test]
fn a_script_without_dialogues_is_refused() {
    assert!(run_text("// nothing\n").is_err());
}

#[test]
fn a_dialogue_without_lines_is_refused() {
    assert!(run_text("# empty [9293 3.10]\n").is_err());
}

#[test]
fn a_dialogue_that_expects_nothing_is_refused() {
    assert!(run_text("# mute [9293 3.10]\n< S 0\n").is_err());
}

#[test]
fn a_dialogue_without_a_clause_is_refused() {
    assert!(run_text("# lawless\n< S 0\n> SA 0 ack 1 mss=1460\n").is_err());
}

#[test]
fn a_segment_that_does_not_come_fails_with_its_line() {
    let failure = run_text("# late [9293 3.10]\n< R 0\n> A 0 ack 1\n").expect_err("silence");
    assert!(failure.contains("inline:3"), "{failure}");
}

#[test]
fn a_segment_that_nobody_expects_fails() {
    let failure = run_text("# loud [9293 3.10]\n< S 0\n+1ms silence\n").expect_err("a SYN-ACK");
    assert!(failure.contains("SA 0 ack 1"), "{failure}");
}

#[test]
fn a_segment_that_differs_fails_with_the_field() {
    let failure = run_text("# wrong [9293 3.10]\n< S 0\n> SA 0 ack 2 mss=1460\n");
    assert!(failure.expect_err("ack 1").contains("differs in: ack"));
}

#[test]
fn a_segment_that_leaves_too_early_fails() {
    let script = "# early [9293 3.10]\n< S 0\n+5ms > SA 0 ack 1 mss=1460\n";
    assert!(run_text(script).expect_err("at once").contains("time"));
}
