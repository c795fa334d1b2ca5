//! The labs of a scenario: one for all runs of an MTU, or one for each run where every request has a connection of its own.
//!
//! What closes first keeps a connection in TIME-WAIT for a minute, in the tables of the kernel's TCP: some ten thousand of
//! a run, which kernel sockets and nginx would have in the next one and a fresh sluiced, with a table of its own, would not.
//! They go with their namespace.

use std::cell::RefCell;
use std::path::Path;

use super::trial::Bed;
use crate::error::Error;
use crate::lab::{End, Lab};
use crate::offloads::{receive_on_own_cpus, threaded_napi};
use crate::scenario::{Case, Direction, Scenario};
use crate::seat::Seat;
use crate::site::Objects;

/// Connections to one port from one address: some ports are still closing.
const PORTS_PER_ADDRESS: u32 = 50_000;

/// See the module documentation.
pub struct Beds<'a> {
    scenario: &'a Scenario,
    binary: &'a Path,
    seat: &'a Seat,
    mtu: u16,
    /// Connections of the case that has most.
    most_connections: u32,
    /// Whether the client comes before everything else on its CPU.
    real_time: bool,
    /// That of all runs, if there is one.
    shared: Option<(Lab, Objects)>,
}

impl<'a> Beds<'a> {
    /// For the cases of this MTU.
    pub fn new(
        scenario: &'a Scenario,
        binary: &'a Path,
        seat: &'a Seat,
        mtu: u16,
        real_time: bool,
    ) -> Result<Beds<'a>, Error> {
        let cases = scenario.cases();
        let mut beds = Beds {
            scenario,
            binary,
            seat,
            mtu,
            most_connections: cases.iter().map(Case::open_connections).max().unwrap_or(0),
            real_time,
            shared: None,
        };
        if scenario.load.keep_alive {
            beds.shared = Some(beds.build()?);
        }
        Ok(beds)
    }

    /// Does something in a lab that is as the case wants it.
    pub fn with<T>(
        &self,
        case: &Case,
        work: impl FnOnce(&Bed<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fresh = match self.shared {
            Some(_) => None,
            None => Some(self.build()?),
        };
        let (lab, objects) = self.shared.as_ref().or(fresh.as_ref()).ok_or(Error::Lab)?;
        case.offloads.apply(lab, self.scenario.load.direction)?;
        work(&Bed {
            lab,
            binary: self.binary,
            objects,
            seat: self.seat,
            load: &self.scenario.load,
            calls: RefCell::default(),
            link: &self.scenario.link,
            receivers: RefCell::default(),
            most_connections: self.most_connections,
            real_time: self.real_time,
        })
    }

    fn build(&self) -> Result<(Lab, Objects), Error> {
        let Scenario { link, load, .. } = self.scenario;
        let lab = match load.direction {
            Direction::Down => Lab::new(self.mtu)?,
            Direction::Up => {
                Lab::check_memory(self.scenario.uploaded_bytes())?;
                Lab::in_memory(self.mtu)?
            }
        };
        // A new connection for every request uses up the ports that are there by default.
        let ports = "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range";
        lab.run(End::Client, "sh", &["-c", ports])?;
        if link.threaded_napi {
            threaded_napi(&lab, self.seat.client_cpu)?;
        }
        if link.own_cpus {
            receive_on_own_cpus(&lab, self.seat)?;
        }
        lab.add_client_addresses(self.most_connections / PORTS_PER_ADDRESS)?;
        let objects = Objects::create(&lab)?;
        Ok((lab, objects))
    }
}
