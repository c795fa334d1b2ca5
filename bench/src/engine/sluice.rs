//! Our stack as the sender, with what the worker does around it: parse, verify, emit, copy and sum.

use std::net::IpAddr;
use std::time::Duration;

use sluice_tcp::clock::Instant;
use sluice_tcp::flow_table::FlowKey;
use sluice_tcp::isn::Secret;
use sluice_tcp::pacing::PacingConfig;
use sluice_tcp::skip::SkipConfig;
use sluice_tcp::{AckRuns, Joining, Outgoing, RunLimit, Segment, Stack, StackConfig};
use sluice_wire::{
    ChecksumPolicy, Ecn, EmitError, LinkHeader, Packet, ParseConfig, RunTemplate, TcpEmit,
    TcpHeader, Unsealed, checksum, parse,
};

use super::Checksums;
use super::client::{CLIENT, LINK_TO_SERVER, SERVER};
use super::nic::{FRAME_BYTES, Nic, Server};
use super::pattern::Pattern;

/// The application has this much to send: without end.
const STREAM: u64 = 1 << 60;

/// The server.
pub struct Sluice {
    stack: Stack,
    runs: AckRuns,
    pattern: Pattern,
    checksums: Checksums,
}

impl Sluice {
    /// A server for that many connections.
    pub fn new(connections: u16, checksums: Checksums, pattern: Pattern) -> Sluice {
        let connections = u32::from(connections);
        let config = StackConfig {
            time_wait: 1,
            receive_buffer: 1 << 16,
            pacing: Some(PacingConfig::default()),
            ecn: sluice_tcp::ecn_terms::EcnConfig::ACCEPT,
            // On, at the cost that it has for every segment; but none is due in a run, because this client knows no
            // segment that is late, and counts what leaves in a round.
            skip: Some(SkipConfig {
                interval: STREAM,
                ..SkipConfig::default()
            }),
            ..StackConfig::new(
                connections,
                *b"a key for a test",
                Secret::new(*b"a secret of the bench, known all"),
            )
        };
        Sluice {
            stack: Stack::new(config, Instant::ZERO),
            runs: AckRuns::new(),
            pattern,
            checksums,
        }
    }

    /// Takes a frame. What is answered at once, such as a SYN by a cookie, is the result. An acknowledgement waits for
    /// those that follow it.
    fn receive(&mut self, now: Instant, frame: &[u8]) -> Option<TcpHeader> {
        let Ok(Packet::Tcp(packet)) = &parse(frame, frame.len(), &ParseConfig::default()) else {
            return None;
        };
        if self.checksums == Checksums::Software
            && packet
                .verify_checksum([frame], ChecksumPolicy::Verify)
                .is_err()
        {
            return None;
        }
        let (ours, theirs) = (packet.dst, packet.src);
        let header = &packet.header;
        let segment = Segment {
            ecn: Ecn::NotEct,
            key: FlowKey::new(ours, header.dst_port, theirs, header.src_port),
            header,
            payload_len: u32::try_from(packet.payload_len).unwrap_or(u32::MAX),
        };
        match self.runs.join(&segment) {
            Joining::Joined => return None,
            Joining::Ends(run) => {
                self.stack.end_run(now, &run);
            }
            Joining::Free => {}
        }
        let Some(run) = self.stack.begin_run(now, &segment) else {
            // The client sends no data and no segment of another server.
            return self.stack.on_segment(now, &segment).reply;
        };
        if let Some(oldest) = self.runs.wait(run) {
            self.stack.end_run(now, &oldest);
        }
        None
    }

    /// As the worker's copy lane: run by run, the headers of one from a template.
    fn transmit(&mut self, now: Instant, nic: &mut Nic) {
        let limit = RunLimit::segments(u32::MAX);
        // By reference: what was just written in parts is not copied.
        while let Some(run) = &self.stack.poll_transmit_run(now, limit) {
            if run.count() > 1 {
                self.send_run(run, nic);
                continue;
            }
            let len = usize::try_from(run.segment_len).unwrap_or(0);
            let payload = self.pattern.at(run.payload.start, len);
            send(nic, &run.header, payload, self.checksums);
        }
    }

    fn send_run(&self, run: &Outgoing, nic: &mut Nic) {
        let each = usize::try_from(run.segment_len).unwrap_or(0);
        let template = emit(&run.header, each, &LINK_TO_SERVER.reply(), RunTemplate::new);
        let mut at = run.payload.start;
        let mut ahead = 0;
        while at < run.payload.end {
            let left = run.payload.end - at;
            // At most an MSS.
            let len = usize::try_from(left).unwrap_or(each).min(each);
            let payload = self.pattern.at(at, len);
            nic.outbox.send(|frame| {
                let unsealed = if left > each as u64 {
                    template.emit(ahead, frame)
                } else {
                    template.emit_last(ahead, len, frame)
                };
                fill(frame, unsealed, payload, self.checksums)
            });
            at += len as u64;
            ahead += run.segment_len;
        }
    }
}

/// What `write` makes of the headers of a segment to the client.
fn emit<T>(
    header: &TcpHeader,
    payload_len: usize,
    link: &LinkHeader,
    write: impl FnOnce(&TcpEmit<'_>) -> Result<T, EmitError>,
) -> T {
    let emit = TcpEmit {
        link,
        src: IpAddr::V4(SERVER),
        dst: IpAddr::V4(CLIENT),
        ecn: Ecn::NotEct,
        header,
        payload_len,
    };
    write(&emit).expect("headers and an MSS of payload fit the MTU")
}

fn send(nic: &mut Nic, header: &TcpHeader, payload: &[u8], checksums: Checksums) {
    let link = LINK_TO_SERVER.reply();
    nic.outbox.send(|frame| {
        let unsealed = emit(header, payload.len(), &link, |emit| emit.emit(frame));
        fill(frame, Ok(unsealed), payload, checksums)
    });
}

/// Payload and checksum behind the headers; returns the length of the frame.
fn fill(
    frame: &mut [u8; FRAME_BYTES],
    headers: Result<Unsealed, EmitError>,
    payload: &[u8],
    checksums: Checksums,
) -> usize {
    let unsealed = headers.expect("headers fit the frame");
    let from = unsealed.headers_len();
    let end = from + payload.len();
    match checksums {
        Checksums::Software => {
            let sum = checksum::copy_and_sum(&mut frame[from..end], payload);
            unsealed.seal_full(frame, sum);
        }
        Checksums::Offload => {
            frame[from..end].copy_from_slice(payload);
            let _ = unsealed.seal_partial(frame);
        }
    }
    end
}

impl Server for Sluice {
    // A symbol of its own, by which a profiler can tell the server from its surroundings.
    #[inline(never)]
    fn turn(&mut self, now: Duration, nic: &mut Nic) {
        let now = Instant::ZERO + now;
        while let Some(frame) = nic.inbox.receive() {
            if let Some(answer) = self.receive(now, frame) {
                send(nic, &answer, &[], self.checksums);
            }
        }
        while let Some(run) = self.runs.end_next() {
            self.stack.end_run(now, &run);
        }
        self.stack.on_timers(now);
        while let Some((conn, events)) = self.stack.poll_event() {
            if events.established {
                self.stack.supply(conn, STREAM, true);
            }
        }
        self.transmit(now, nic);
    }
}
