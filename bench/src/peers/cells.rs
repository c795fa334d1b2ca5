//! The links of the scenario: each is bad in one way, the last in all of them.

/// A link.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// How the table calls it.
    pub name: &'static str,
    /// Impairment from server to client, as `sluice-bench link` reads it.
    pub to_client: &'static str,
    /// Impairment from client to server.
    pub to_server: &'static str,
}

/// All of them. 100 Mbit/s, 20 ms and a buffer of one bandwidth-delay product, where nothing else is said.
pub static CELLS: [Cell; 20] = [
    Cell {
        name: "clean",
        to_client: "rate=100mbit,buffer=256k,delay=10ms",
        to_server: "delay=10ms",
    },
    Cell {
        name: "loss 0.1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,loss=0.1%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "loss 1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,loss=1%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "loss 3 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,loss=3%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "loss 10 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,loss=10%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "lost acks 3 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms",
        to_server: "delay=10ms,loss=3%",
    },
    Cell {
        name: "lost acks 30 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms",
        to_server: "delay=10ms,loss=30%",
    },
    Cell {
        name: "short bursts",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,burst=0.2%/50%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "long bursts",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,burst=0.1%/10%/80%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "reorder 1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,reorder=1%/3ms",
        to_server: "delay=10ms",
    },
    Cell {
        name: "reorder 10 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,reorder=10%/2ms",
        to_server: "delay=10ms",
    },
    Cell {
        name: "reorder far",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,reorder=1%/30ms",
        to_server: "delay=10ms",
    },
    Cell {
        name: "duplicate 1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,duplicate=1%",
        to_server: "delay=10ms",
    },
    Cell {
        name: "duplicate 10 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,duplicate=10%",
        to_server: "delay=10ms,duplicate=10%",
    },
    Cell {
        name: "corrupt 0.1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,corrupt=0.1%",
        to_server: "delay=10ms,corrupt=0.1%",
    },
    Cell {
        name: "corrupt 1 %",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,corrupt=1%",
        to_server: "delay=10ms,corrupt=1%",
    },
    Cell {
        name: "jitter",
        to_client: "rate=100mbit,buffer=256k,delay=10ms,jitter=5ms",
        to_server: "delay=10ms,jitter=5ms",
    },
    Cell {
        name: "long way",
        to_client: "rate=100mbit,buffer=2m,delay=100ms",
        to_server: "delay=100ms",
    },
    Cell {
        name: "small buffer",
        to_client: "rate=100mbit,buffer=16k,delay=10ms",
        to_server: "delay=10ms",
    },
    Cell {
        name: "everything",
        to_client: "rate=20mbit,buffer=128k,delay=10ms,jitter=2ms,loss=1%,reorder=2%/5ms,duplicate=1%,corrupt=0.1%",
        to_server: "delay=10ms,jitter=2ms,loss=1%",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::model::Impairment;

    #[test]
    fn the_link_understands_all_of_them() {
        for cell in CELLS {
            for spec in [cell.to_client, cell.to_server] {
                let impairment: Result<Impairment, _> = spec.parse();
                assert!(impairment.is_ok(), "{}: {impairment:?}", cell.name);
            }
        }
    }
}
