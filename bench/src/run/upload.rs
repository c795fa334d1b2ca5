//! Uploads by curl: each connection stores one object under a name of its own.
//!
//! One object goes up before the measured ones and is compared byte by byte; of the others the length is. All of it is in
//! memory (tmpfs), so that no disk decides who wins: the daemon's fdatasync(2) costs nothing there, and nginx has none.

use super::curl;
use super::trial::{Bed, Done};
use crate::contestant::{Contestant, Running};
use crate::error::Error;
use crate::scenario::Case;
use crate::site::Inbox;

/// What is compared.
const FIRST: &str = "first.bin";

impl Bed<'_> {
    /// Stores the object `name` in the inbox, as often as the case has connections.
    pub(super) fn upload(
        &self,
        running: &Running,
        case: &Case,
        name: &str,
        inbox: &Inbox,
        server: Contestant,
        done: &mut Done,
    ) -> Result<(), Error> {
        let cpu = self.seat.client_cpu;
        let from = self.objects.root.join(name);
        let wrong = |what| Error::WrongBytes {
            backend: server.name(),
            what,
        };
        self.place()?;
        curl::store(self.lab, &from, &[FIRST.to_owned()], cpu)?;
        inbox
            .take(FIRST, &from)
            .map_err(|error| wrong(error.to_string()))?;
        let names: Vec<String> = (0..case.connections)
            .map(|flow| format!("{flow}.bin"))
            .collect();
        let (moved, usage) = self.moving(running, || curl::store(self.lab, &from, &names, cpu))?;
        self.bulk(case, moved, &usage, done)?;
        Ok(())
    }
}
