//! The bare ends: frames out of an AF_XDP socket as fast as it takes them, and frames counted at the other end.
//!
//! No TCP, no checksum, nothing copied: the sender writes an Ethernet header once per frame and kicks, the receiver counts
//! and gives the frame back, or the XDP program drops it. What they reach is what a path carries frame by frame.

use std::io::{self, Write};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use sluice_afxdp::{Kick, Queue, RxBatch};
use sluice_wire::MacAddr;
use sluice_xdp_prog::{Catch, Catcher, Fate};

use crate::error::Error;
use crate::xsk::{Attach, Interface, Xsk, link_address, open_queue, sleep};

/// IEEE Std 802, local experimental EtherType 1.
const ETHER_TYPE: NonZeroU16 = NonZeroU16::new(0x88b5).unwrap();
/// Frames between two kicks, and between two looks at the clock: as the daemon sends and receives.
const BATCH: usize = 256;
/// How long a receiver waits for the first frame.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it spins before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// Between two looks at the counter of a program that drops.
const LOOK: Duration = Duration::from_millis(1);

/// One end.
#[derive(Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Send frames as fast as the socket takes them
    Send(Send),
    /// Count frames, from so long after the first
    Receive(Receive),
}

/// Flags of the sender.
#[derive(Args, Debug)]
struct Send {
    /// Where they leave
    #[arg(long)]
    interface: String,

    /// Link address of the receiver
    #[arg(long, value_name = "MAC", value_parser = link_address)]
    to: MacAddr,

    /// Length of a frame with its Ethernet header
    #[arg(long, default_value_t = 1514, value_parser = clap::value_parser!(u32).range(60..=3840))]
    bytes: u32,

    /// For how long
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Flags of the receiver.
#[derive(Args, Debug)]
struct Receive {
    /// Where they arrive
    #[arg(long)]
    interface: String,

    /// Where the program runs
    #[arg(long, value_enum, default_value_t)]
    attach: Attach,

    /// The program drops them, no socket gets any
    #[arg(long)]
    drop: bool,

    /// How long after the first frame counting begins
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,

    /// For how long
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// What an end says at its end, as one line of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Frames.
    pub frames: u64,
    /// In this time.
    pub seconds: f64,
}

impl Count {
    /// Frames per second.
    #[expect(clippy::cast_precision_loss, reason = "frame counts are below 2^52")]
    pub fn rate(&self) -> f64 {
        self.frames as f64 / self.seconds
    }
}

/// Runs one end. A receiver says `ready` before.
pub fn run(options: &Options) -> Result<(), Error> {
    let count = match &options.role {
        Role::Send(options) => send(options)?,
        Role::Receive(options) => receive(options)?,
    };
    let line = serde_json::to_string(&count).map_err(|error| Error::io("JSON")(error.into()))?;
    say(&line)
}

fn say(word: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{word}")
        .and_then(|()| stdout.flush())
        .map_err(Error::io("stdout"))
}

fn send(options: &Send) -> Result<Count, Error> {
    let interface = Interface::named(&options.interface)?;
    let failed = |said: String| Error::Xdp {
        interface: options.interface.clone(),
        said,
    };
    let mut queue = open_queue(interface.index).map_err(failed)?;
    let mut header = [0; 14];
    header[..6].copy_from_slice(&options.to.0);
    header[6..12].copy_from_slice(&interface.link_address.0);
    header[12..].copy_from_slice(&ETHER_TYPE.get().to_be_bytes());
    let begin = Instant::now();
    let lasts = Duration::from_secs_f64(options.seconds);
    while begin.elapsed() < lasts {
        fill(&mut queue, &header, options.bytes);
        match queue.kick() {
            Kick::Gone => return Err(failed("the interface is gone".to_owned())),
            Kick::Wedged(errno) => {
                return Err(failed(io::Error::from_raw_os_error(errno).to_string()));
            }
            // What is left is kicked again; what was lost is not counted.
            _ => {}
        }
        queue.reap();
    }
    let counters = queue.counters();
    let taken = counters.tx_packets - u64::from(queue.tx_queued());
    Ok(Count {
        frames: taken - counters.kicks_frame_lost,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// Queues a batch, as far as there is room.
fn fill(queue: &mut Queue, header: &[u8], bytes: u32) {
    for _ in 0..BATCH {
        if queue.tx_slots() == 0 {
            return;
        }
        let Some(mut frame) = queue.tx_frame() else {
            return;
        };
        if let Some(room) = frame.bytes_mut().get_mut(..header.len()) {
            room.copy_from_slice(header);
        }
        if let Err(frame) = queue.send(frame, bytes, false, None) {
            queue.unused(frame);
            return;
        }
    }
}

fn receive(options: &Receive) -> Result<Count, Error> {
    let interface = Interface::named(&options.interface)?;
    let fate = if options.drop {
        Fate::Dropped
    } else {
        Fate::ToSocket
    };
    let mut xsk = Xsk::open(
        &interface,
        Catch::EtherType(ETHER_TYPE),
        fate,
        options.attach,
    )?;
    say("ready")?;
    let mut window = Window::new(options.warm_up, options.seconds);
    if options.drop {
        count_dropped(&xsk.catcher, &mut window)
    } else {
        count_received(&mut xsk.queue, &mut window)
    }
    .map_err(Error::io(format!("frames on {}", options.interface)))
}

fn count_received(queue: &mut Queue, window: &mut Window) -> io::Result<Count> {
    let mut batch = RxBatch::with_capacity(BATCH);
    let (mut total, mut busy_at) = (0, Instant::now());
    loop {
        let frames = queue.receive(&mut batch);
        queue.recycle(&mut batch);
        total += frames as u64;
        let now = Instant::now();
        if let Some(count) = window.look(total, now)? {
            return Ok(count);
        }
        if frames > 0 {
            busy_at = now;
        } else if now - busy_at > SPIN {
            sleep(queue, LOOK);
        }
    }
}

fn count_dropped(catcher: &Catcher, window: &mut Window) -> io::Result<Count> {
    loop {
        let total = catcher.caught().map_err(io::Error::other)?;
        if let Some(count) = window.look(total, Instant::now())? {
            return Ok(count);
        }
        std::thread::sleep(LOOK);
    }
}

/// The time in which frames count.
#[derive(Debug)]
struct Window {
    opened: Instant,
    warm_up: Duration,
    lasts: Duration,
    /// When the first frame was there.
    first: Option<Instant>,
    /// When counting began, and how many were there.
    begin: Option<(Instant, u64)>,
}

impl Window {
    fn new(warm_up: f64, seconds: f64) -> Window {
        Window {
            opened: Instant::now(),
            warm_up: Duration::from_secs_f64(warm_up),
            lasts: Duration::from_secs_f64(seconds),
            first: None,
            begin: None,
        }
    }

    /// So many frames came until now. The count when the time is over.
    ///
    /// # Errors
    /// None came for too long.
    fn look(&mut self, total: u64, now: Instant) -> io::Result<Option<Count>> {
        if total == 0 {
            return if now - self.opened < PATIENCE {
                Ok(None)
            } else {
                Err(io::ErrorKind::TimedOut.into())
            };
        }
        let first = *self.first.get_or_insert(now);
        if now - first < self.warm_up {
            return Ok(None);
        }
        let (begin, before) = *self.begin.get_or_insert((now, total));
        let elapsed = now - begin;
        Ok((elapsed >= self.lasts).then(|| Count {
            frames: total - before,
            seconds: elapsed.as_secs_f64(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_after_the_warm_up_count() {
        let mut window = Window::new(0.1, 0.2);
        let at = |ms| window.opened + Duration::from_millis(ms);
        let times = [at(0), at(50), at(149), at(150), at(349), at(360)];
        let totals = [0, 10, 90, 100, 290, 310];
        let looks: Vec<_> = times
            .into_iter()
            .zip(totals)
            .map(|(now, total)| window.look(total, now).unwrap())
            .collect();
        assert_eq!(looks[..5], [None; 5]);
        let count = looks[5].unwrap();
        assert_eq!((count.frames, count.seconds), (210, 0.21));
        assert!((count.rate() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn a_receiver_that_gets_nothing_gives_up() {
        let mut window = Window::new(0.1, 0.2);
        let late = window.opened + PATIENCE;
        assert_eq!(window.look(0, window.opened).unwrap(), None);
        assert!(window.look(0, late).is_err());
    }
}
