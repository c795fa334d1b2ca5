//! Uploads: bodies in every cut, what ends them early, and that nothing of those is left.

mod chance;
mod chunks;
mod endings;
mod holding;
mod lending;
#[path = "../../../tests/names/mod.rs"]
mod names;
mod refusals;
mod sharing;
mod storing;

use super::*;
use crate::services::UploadConfig;
use names::names;
use sluice_disk::UploadLimits;
use sluice_http::UploadRules;

const MAX_SIZE: u64 = 4 << 20;

/// A site that takes uploads into half of `blocks`.
fn site(blocks: usize) -> Site {
    site_with_loans(blocks, 0)
}

/// The same, where uploads may lend so many pieces of the transport's memory.
fn site_with_loans(blocks: usize, loans: usize) -> Site {
    let config = ServicesConfig {
        uploads: Some(UploadConfig {
            rules: UploadRules { max_size: MAX_SIZE },
            limits: UploadLimits {
                uploads: 4,
                threads: 2,
                blocks: blocks / 2,
                blocks_each: (blocks / 2).max(1),
                loans,
            },
        }),
        ..ServicesConfig::default()
    };
    Site::with(blocks, &config)
}

fn put_head(path: &str, fields: &str) -> String {
    format!("PUT {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}

fn with_length(path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = put_head(path, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

/// The body in chunks of `size` bytes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn with_chunks(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = put_head(path, "Transfer-Encoding: chunked\r\n").into_bytes();
    request.extend_from_slice(&chunked(body, size));
    request
}

fn stored(site: &Site, name: &str) -> Vec<u8> {
    fs::read(site.directory.path().join(name)).expect("a stored file")
}

impl Peer {
    /// Sends as a transport does: never beyond the window, in pieces of `piece` bytes.
    fn send_within_window(&mut self, mut bytes: &[u8], piece: usize, site: &mut Site) {
        for _ in 0..TURNS_MAX {
            if bytes.is_empty() || self.last.abort || self.last.finish {
                return;
            }
            let room = self.window_room(site);
            let len = bytes.len().min(piece).min(room);
            if len > 0 {
                self.send(&bytes[..len], site);
                bytes = &bytes[len..];
            }
            self.turn(site);
            if len == 0 {
                site.wait_for_disk();
            }
        }
        panic!("the window stays closed with {} bytes left", bytes.len());
    }

    /// Bytes that its window still lets out, as a stack with our own TCP says it.
    fn window_room(&mut self, site: &Site) -> usize {
        let edge = match self.exchange.promise(&site.services) {
            Some(edge) => edge,
            None => self.exchange.consumed() + as_u64(site.services.input_bytes()),
        };
        usize::try_from(edge.saturating_sub(self.sent)).expect("small")
    }

    /// Its only upload comes to its end as the file `name`, and nothing else is left of it.
    fn end_stored(mut self, name: &str, body: &[u8], site: &mut Site) {
        self.run(site);
        assert_eq!(self.statuses(), ["201"]);
        assert_eq!(stored(site, name), body);
        self.end(site);
        site.assert_at_rest();
    }

    fn statuses(&self) -> Vec<String> {
        let responses = self.responses();
        responses
            .iter()
            .map(|(head, _)| status(head).to_owned())
            .collect()
    }
}

/// An upload of which this much has come at once, and been looked at.
fn begun(request: impl AsRef<[u8]>, site: &mut Site) -> Peer {
    let mut peer = Peer::new(site);
    peer.send(request, site);
    peer.run(site);
    peer
}

fn uploaded(site: &mut Site, request: &[u8], piece: usize) -> Peer {
    let mut peer = Peer::new(site);
    peer.send_within_window(request, piece, site);
    peer.run(site);
    peer
}
