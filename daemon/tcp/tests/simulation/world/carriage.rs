//! What carries the segments: the links both ways, routers that say what they drop, liars and forgers beside them.

use core::ops::Range;
use core::time::Duration;

use sluice_tcp::flow_table::FlowKey;
use sluice_wire::{IcmpError, IcmpErrorKind, QuotedSegment, TcpFlags, TcpHeader};

use super::{Event, LOCAL_PORT, World};
use crate::chance::PARTS;
use crate::client::Said;

const HEADERS_OF_IP_AND_TCP: usize = 40;

impl World {
    pub(super) fn carry_up(&mut self, index: usize) {
        let said: Vec<Said> = self.out.drain(..).collect();
        for (header, payload) in said {
            let bytes = packet_bytes(&header, &payload);
            for at in self.up.carry(self.now, bytes).into_iter().flatten() {
                self.schedule(at, Event::ToServer(index, header, payload.clone(), false));
            }
            if self.chance.hit(self.scenario.forged) && self.flows[index].client.is_open() {
                let (header, len) = self.forge(index);
                let at = self.now + self.chance.duration(Duration::from_millis(50));
                self.schedule(at, Event::ToServer(index, header, 0..len, true));
            }
            if self.scenario.lies > 0 && self.chance.hit(self.scenario.lies) {
                let error = self.lie(index, header.ack);
                let at = self.now + self.chance.duration(Duration::from_millis(50));
                self.schedule(at, Event::Icmp(error));
            }
        }
        let flow = &mut self.flows[index];
        if let Some(at) = flow.client.next_deadline()
            && flow.timer_at.is_none_or(|known| at < known)
        {
            flow.timer_at = Some(at);
            self.schedule(at.max(self.now), Event::ClientTimer(index));
        }
    }

    /// Towards the client; with `ect` the path may mark it.
    pub(super) fn carry_down(
        &mut self,
        index: usize,
        header: &TcpHeader,
        payload: Range<u64>,
        ect: bool,
    ) {
        let round = self.flows[index].round;
        if header.flags.contains(TcpFlags::CWR) {
            self.unheard_cwrs.insert((index, round, payload.start));
        }
        let bytes = packet_bytes(header, &payload);
        let bytes = bytes
            + if self.flows[index].key.local().is_ipv6() {
                20
            } else {
                0
            };
        if self
            .down
            .is_too_big(self.now.saturating_since(self.start), bytes)
        {
            self.tell(index, header.seq);
            return;
        }
        let marked = ect && self.down.marks();
        self.marked += u64::from(marked);
        for at in self.down.carry(self.now, bytes).into_iter().flatten() {
            let event = Event::ToClient(index, round, *header, payload.clone(), marked);
            self.schedule(at, event);
        }
    }

    /// A client that hears of a reduction before it could acknowledge the byte that says so ends its echo in time.
    pub(super) fn hear_cwr(&mut self, index: usize, header: &TcpHeader, payload: &Range<u64>) {
        let flow = &self.flows[index];
        if header.flags.contains(TcpFlags::CWR) && flow.client.awaits(payload.start) {
            let said = (index, flow.round, payload.start);
            self.unheard_cwrs.remove(&said);
        }
    }

    /// The router of the narrow link may say what it drops.
    fn tell(&mut self, index: usize, seq: u32) {
        let Some(narrow) = self.scenario.down.narrow else {
            return;
        };
        if self.chance.hit(narrow.told) {
            let mtu = u32::try_from(narrow.mtu).expect("small");
            let at = self.now + self.scenario.up.delay;
            let error = too_big(&self.flows[index].key, seq, mtu);
            self.schedule(at, Event::Icmp(error));
        }
    }

    /// A liar, who in every second case knows what is in flight.
    fn lie(&mut self, index: usize, acknowledged: u32) -> IcmpError {
        let mtu = self.chance.word() % 1600;
        let seq = match self.chance.hit(PARTS / 2) {
            true => acknowledged.wrapping_add(self.chance.word() % 3000),
            false => self.chance.word(),
        };
        too_big(&self.flows[index].key, seq, mtu)
    }

    /// A segment of an attacker who knows the tuple and guesses the numbers.
    fn forge(&mut self, index: usize) -> (TcpHeader, u64) {
        let flags = self.chance.pick(&[
            TcpFlags::RST,
            TcpFlags::RST.union(TcpFlags::ACK),
            TcpFlags::SYN,
            TcpFlags::SYN.union(TcpFlags::ACK),
            TcpFlags::ACK,
            TcpFlags::FIN.union(TcpFlags::ACK),
            TcpFlags::EMPTY,
        ]);
        let header = TcpHeader {
            src_port: self.flows[index].key.remote_port(),
            dst_port: LOCAL_PORT,
            seq: self.chance.word(),
            ack: self.chance.word(),
            flags,
            window: u16::try_from(self.chance.word() >> 16).expect("16 bits"),
            ..TcpHeader::default()
        };
        (header, self.chance.pick(&[0, 0, 1, 1460]))
    }
}

fn too_big(key: &FlowKey, seq: u32, mtu: u32) -> IcmpError {
    IcmpError {
        kind: IcmpErrorKind::PacketTooBig { mtu },
        quoted: QuotedSegment {
            src: key.local(),
            dst: key.remote(),
            src_port: key.local_port(),
            dst_port: key.remote_port(),
            seq,
        },
    }
}

fn packet_bytes(header: &TcpHeader, payload: &Range<u64>) -> u64 {
    let headers = HEADERS_OF_IP_AND_TCP + header.options.encoded_len();
    u64::try_from(headers).expect("short headers") + payload.end - payload.start
}
