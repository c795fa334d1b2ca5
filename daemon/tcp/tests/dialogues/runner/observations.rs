//! What a script may ask of the stack and its driver.

use sluice_tcp::{ConnId, ControlView, SendView};

use super::Runner;
use crate::text;

impl Runner {
    /// What a `?` line asks for, as text.
    pub(super) fn observe(
        &mut self,
        key: &str,
        values: &[String],
        port: u16,
    ) -> Result<String, String> {
        let counters = self.stack.counters();
        match key {
            "live" => return Ok(self.stack.len().to_string()),
            "half_open" => return Ok(self.stack.half_open().to_string()),
            "time_wait" => return Ok(self.stack.time_wait().to_string()),
            "timers" => return Ok(self.stack.timers().to_string()),
            "drop" => return Ok(self.arrived.drop.clone()),
            "icmp" => return Ok(self.arrived.icmp.clone()),
            "trusted" => return Ok(self.arrived.trusted.to_string()),
            "new" => return Ok(text::ranges(&self.arrived.new)),
            "rtt" => return Ok(text::optional_duration(self.arrived.rtt)),
            "counter" => {
                let name = values.first().ok_or("which counter?")?;
                let row = counters.rows().find(|(row, _)| row == name);
                let (_, value) = row.ok_or(format!("no counter {name}"))?;
                return Ok(value.to_string());
            }
            _ => {}
        }
        let peer = self.peers.get_mut(&port).ok_or("nothing on this port")?;
        if key == "events" {
            return Ok(text::events(core::mem::take(&mut peer.events)));
        }
        if key == "closed" {
            return Ok(peer
                .closed
                .map_or("no".to_owned(), |why| format!("{why:?}")));
        }
        let conn = peer.conn.ok_or("no connection on this port")?;
        let record = self.stack.record(conn).or(peer.record);
        if let Some(record) = record
            && let Some(told) = text::of_record(key, values, &record)
        {
            return Ok(told);
        }
        let view = self.stack.send_view(conn);
        let view_of = |side: fn(&SendView) -> u64| {
            view.as_ref()
                .map_or("gone".to_owned(), |view| side(view).to_string())
        };
        Ok(match key {
            "state" => self
                .stack
                .state(conn)
                .map_or("CLOSED".to_owned(), |state| state.name().to_owned()),
            "delivered" => self.stack.delivered(conn).to_string(),
            "acknowledged" => view_of(|view| view.acknowledged),
            "sent" => view_of(|view| view.sent),
            "horizon" => view_of(|view| view.horizon),
            "ecn" => self
                .stack
                .ecn_view(conn)
                .map_or("gone".to_owned(), text::ecn),
            "mtu" => self.control(conn, |view| view.path_mtu.into()),
            "cwnd" => self.control(conn, |view| view.cwnd.into()),
            _ => return Err(format!("unknown expectation '{key}'")),
        })
    }

    fn control(&self, conn: ConnId, side: fn(&ControlView) -> u64) -> String {
        let view = self.stack.control_view(conn);
        view.map_or("gone".to_owned(), |view| side(&view).to_string())
    }
}
