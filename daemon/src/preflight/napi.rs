//! The NAPI instances of an interface and the kernel threads that run them, from the `netdev` family
//! (`Documentation/netlink/specs/netdev.yaml`; threads are told from kernel 6.8 on).

use std::io;

use super::link::netdev_family;
use super::netlink::{GENERIC, Request, attributes, u32_at};

// linux/netdev.h
const NETDEV_CMD_QUEUE_GET: u8 = 10;
const NETDEV_CMD_NAPI_GET: u8 = 11;
const NETDEV_A_QUEUE_ID: u16 = 1;
const NETDEV_A_QUEUE_IFINDEX: u16 = 2;
const NETDEV_A_QUEUE_TYPE: u16 = 3;
const NETDEV_A_QUEUE_NAPI_ID: u16 = 4;
const NETDEV_QUEUE_TYPE_RX: u32 = 0;
const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_ID: u16 = 2;
const NETDEV_A_NAPI_PID: u16 = 4;
const GENLMSGHDR_BYTES: usize = 4;

/// One NAPI instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Napi {
    /// Its number, unique in the kernel.
    pub id: u32,
    /// Its kernel thread, if it has one and the kernel tells.
    pub thread: Option<u32>,
    /// The receive queue that it serves, if the driver tells.
    pub rx_queue: Option<u32>,
}

/// The NAPI instances of an interface in the order in which the driver made them, which is that of the queues.
///
/// # Errors
/// Those of netlink; `EOPNOTSUPP` before kernel 6.8.
pub fn napis(interface: u32) -> io::Result<Vec<Napi>> {
    let Some(family) = netdev_family()? else {
        return Ok(Vec::new());
    };
    let ask = |command, attribute| {
        Request::new(family, true, &[command, 1, 0, 0])
            .attribute(attribute, &interface.to_ne_bytes())
            .send(GENERIC)
    };
    let napis = ask(NETDEV_CMD_NAPI_GET, NETDEV_A_NAPI_IFINDEX)?;
    let queues = ask(NETDEV_CMD_QUEUE_GET, NETDEV_A_QUEUE_IFINDEX)?;
    Ok(join(&napis, &queues))
}

/// Answers to both questions as one.
fn join(napis: &[Vec<u8>], queues: &[Vec<u8>]) -> Vec<Napi> {
    let served: Vec<(u32, u32)> = queues
        .iter()
        .filter_map(|answer| {
            let field = |kind| field(answer, kind);
            (field(NETDEV_A_QUEUE_TYPE)? == NETDEV_QUEUE_TYPE_RX)
                .then_some((field(NETDEV_A_QUEUE_NAPI_ID)?, field(NETDEV_A_QUEUE_ID)?))
        })
        .collect();
    let mut found: Vec<Napi> = napis
        .iter()
        .filter_map(|answer| {
            let id = field(answer, NETDEV_A_NAPI_ID)?;
            let queue = served.iter().find(|(napi, _)| *napi == id);
            Some(Napi {
                id,
                thread: field(answer, NETDEV_A_NAPI_PID),
                rx_queue: queue.map(|(_, queue)| *queue),
            })
        })
        .collect();
    found.sort_by_key(|napi| napi.id);
    found
}

fn field(answer: &[u8], kind: u16) -> Option<u32> {
    let mut attributes = attributes(answer.get(GENLMSGHDR_BYTES..)?);
    let (_, value) = attributes.find(|(found, _)| *found == kind)?;
    u32_at(value, 0)
}

#[cfg(test)]
mod tests {
    use super::super::skip::skip;
    use super::*;

    fn answer(fields: &[(u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; GENLMSGHDR_BYTES];
        for (kind, value) in fields {
            bytes.extend_from_slice(&8u16.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn instances_come_in_the_order_of_their_numbers_with_what_is_known_of_them() {
        let napis = [
            answer(&[(NETDEV_A_NAPI_ID, 9), (NETDEV_A_NAPI_PID, 70)]),
            answer(&[(NETDEV_A_NAPI_ID, 8)]),
        ];
        let queues = [
            answer(&[
                (NETDEV_A_QUEUE_ID, 5),
                (NETDEV_A_QUEUE_TYPE, 1),
                (NETDEV_A_QUEUE_NAPI_ID, 8),
            ]),
            answer(&[
                (NETDEV_A_QUEUE_ID, 1),
                (NETDEV_A_QUEUE_TYPE, 0),
                (NETDEV_A_QUEUE_NAPI_ID, 9),
            ]),
            answer(&[(NETDEV_A_QUEUE_ID, 0), (NETDEV_A_QUEUE_TYPE, 0)]),
        ];
        let napi = |id, thread, rx_queue| Napi {
            id,
            thread,
            rx_queue,
        };
        assert_eq!(
            join(&napis, &queues),
            [napi(8, None, None), napi(9, Some(70), Some(1))]
        );
    }

    #[test]
    fn the_loopback_interface_has_none() {
        match napis(1) {
            Ok(found) => assert_eq!(found, []),
            Err(error) => skip("preflight", &format!("the kernel does not tell: {error}")),
        }
    }
}
