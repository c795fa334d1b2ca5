//! Which dialogues go over the wire, and all of them at once: most of the time is waiting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::expand::with_prologues;
use crate::library;
use crate::place::Place;
use crate::runner;
use crate::script::{self, Action, Call, Dialogue, Step, Turn};
use crate::table::Table;

/// A dialogue that lasts longer waits for another day.
const LONGEST: Duration = Duration::from_secs(20);
/// Without options; the scripts have shorter segments where they have some.
const PAYLOAD_MAX: u32 = 1460;
/// Dialogues at once: more threads than that answer late on two cores.
const AT_ONCE: usize = 40;
/// A machine that is busy answers late: what is not as expected is asked again, in less company.
const ATTEMPTS: usize = 4;

/// Where Linux and a script part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The line of the script.
    pub line: String,
    /// What Linux did instead.
    pub did: String,
}

/// `None` if Linux went by the script.
pub type Outcome = Option<Disagreement>;

/// A dialogue that makes sense on a wire, with its prologues.
#[derive(Debug)]
struct Stop {
    title: String,
    steps: Vec<Step>,
    lasts: Duration,
    /// Linux offers and accepts ECN.
    has_ecn: bool,
}

/// The selection.
#[derive(Debug)]
pub struct Tour {
    stops: Vec<Stop>,
    /// What does not make sense on a wire, and why not.
    pub off_wire: BTreeMap<String, String>,
    /// Expectations that no socket can answer, in those that do.
    pub unasked: usize,
}

impl Tour {
    /// Reads the scripts and selects.
    pub fn of(directory: &Path, wanted: &str) -> Tour {
        let prologues = library::prologues(directory);
        let mut tour = Tour {
            stops: Vec::new(),
            off_wire: BTreeMap::new(),
            unasked: 0,
        };
        for file in library::scripts(directory) {
            let dialogues = script::dialogues(&file, &library::read(directory, &file));
            for dialogue in dialogues.expect("the dialogues are tested in virtual time first") {
                if file.contains(wanted) || dialogue.name.contains(wanted) {
                    tour.add(&file, &dialogue, &prologues);
                }
            }
        }
        // The longest first, or they would be waited for at the end.
        tour.stops.sort_by_key(|stop| std::cmp::Reverse(stop.lasts));
        tour
    }

    fn add(&mut self, file: &str, dialogue: &Dialogue, prologues: &[Dialogue]) {
        let title = format!("{file}: {}", dialogue.name);
        let steps = with_prologues(dialogue, prologues).expect("the prologues are there");
        let reason = dialogue.off_wire.clone();
        match reason.or_else(|| off_wire(&steps).map(str::to_owned)) {
            Some(reason) => {
                self.off_wire.insert(title, reason);
            }
            None => {
                let unasked = steps.iter().filter(|step| is_inside(&step.action)).count();
                self.unasked += unasked;
                let lasts = steps.iter().map(|step| step.after).sum();
                self.stops.push(Stop {
                    title,
                    has_ecn: is_set(&steps, "ecn", "classic"),
                    steps,
                    lasts,
                });
            }
        }
    }

    /// Whether a dialogue is selected.
    pub fn has(&self, title: &str) -> bool {
        self.stops.iter().any(|stop| stop.title == title)
    }

    /// Runs all of them and gives what came of each. Whatever is not as the table says is tried again.
    pub fn run(&self, place: &Place, table: &Table) -> BTreeMap<String, Outcome> {
        let mut ran = BTreeMap::new();
        // Whether there is ECN is told to a whole network.
        for has_ecn in [false, true] {
            place.set_ecn(has_ecn);
            let stops = self.stops.iter();
            let mut left: Vec<&Stop> = stops.filter(|stop| stop.has_ecn == has_ecn).collect();
            for attempt in 0..ATTEMPTS {
                let at_once = (AT_ONCE >> (2 * attempt)).max(1);
                ran.extend(together(place, &left, at_once));
                left.retain(|stop| !table.expects(&stop.title, &ran[&stop.title]));
            }
        }
        ran
    }
}

fn together(place: &Place, stops: &[&Stop], at_once: usize) -> BTreeMap<String, Outcome> {
    let queue = Mutex::new(stops.iter());
    let ran = Mutex::new(BTreeMap::new());
    let next = || queue.lock().expect("nobody panics with it").next();
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                place.enter();
                while let Some(stop) = next() {
                    let outcome = runner::run(place, &stop.steps).err();
                    let mut ran = ran.lock().expect("nobody panics with it");
                    ran.insert(stop.title.clone(), outcome);
                }
            });
        }
    });
    ran.into_inner().expect("nobody panicked with it")
}

/// Why a dialogue makes no sense on a wire, as far as its lines tell.
fn off_wire(steps: &[Step]) -> Option<&'static str> {
    let lasts: Duration = steps.iter().map(|step| step.after).sum();
    let known = ["ip", "port", "congestion", "ecn"];
    let is_ours = |(key, _): &(String, String)| !known.contains(&key.as_str());
    let is_driver = |step: &Step| {
        matches!(
            &step.action,
            Action::Do(
                Call::Room(..)
                    | Call::Deadline(_)
                    | Call::Accepting(_)
                    | Call::CloseReceive
                    | Call::WaitsFor(_)
                    | Call::UserTimeout(_),
                _
            )
        )
    };
    let is_icmp = |step: &Step| matches!(step.action, Action::Icmp(_));
    let shows = |step: &Step| match &step.action {
        Action::Leave(_) | Action::Silence => true,
        Action::Expect(..) => !is_inside(&step.action),
        _ => false,
    };
    let is_long = |step: &Step| match &step.action {
        Action::Arrive(pattern) => pattern.pieces_of.unwrap_or(pattern.len) > PAYLOAD_MAX,
        _ => false,
    };
    if settings(steps).any(is_ours) {
        Some("the configuration of our stack")
    } else if is_set(steps, "ecn", "accurate") {
        Some("AccECN, which the kernel of the table does not have")
    } else if lasts > LONGEST {
        Some("more than 20 s")
    } else if steps.iter().any(is_driver) {
        Some("a call of our driver")
    } else if steps.iter().any(|step| step.turn != Turn::Whole) {
        Some("a turn of our driver")
    } else if steps.iter().any(is_icmp) {
        Some("an error from a router")
    } else if steps.iter().any(is_long) {
        Some("a segment longer than the MTU")
    } else if !steps.iter().any(shows) {
        Some("nothing that shows outside")
    } else {
        None
    }
}

fn settings(steps: &[Step]) -> impl Iterator<Item = &(String, String)> {
    let settings = steps.iter().filter_map(|step| match &step.action {
        Action::Config(settings) => Some(settings),
        _ => None,
    });
    settings.flatten()
}

fn is_set(steps: &[Step], key: &str, value: &str) -> bool {
    settings(steps).any(|(set, to)| set == key && to == value)
}

/// Expectations about what only our stack can tell.
pub fn is_inside(action: &Action) -> bool {
    let Action::Expect(key, ..) = action else {
        return false;
    };
    let asked = [
        "state",
        "closed",
        "delivered",
        "acknowledged",
        "live",
        "half_open",
        "time_wait",
    ];
    !asked.contains(&key.as_str())
}
