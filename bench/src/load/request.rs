//! What a connection sends: the head of a request and, for uploads, the body that all of them share.

use std::ops::Range;
use std::rc::Rc;

use super::Options;

/// One request, to be sent again and again.
#[derive(Clone, Debug)]
pub struct Request {
    head: Vec<u8>,
    body: Rc<[u8]>,
}

impl Request {
    /// GET of the path of the options.
    pub fn get(options: &Options) -> Request {
        Request::new("GET", &options.path, "", Rc::new([]), options)
    }

    /// PUT of `body` under the path of the options with a word behind it, so that no two connections replace each other's
    /// file.
    pub fn put(options: &Options, word: &str, body: Rc<[u8]>) -> Request {
        let length = format!("Content-Length: {}\r\n", body.len());
        Request::new("PUT", &stored(&options.path, word), &length, body, options)
    }

    fn new(verb: &str, path: &str, headers: &str, body: Rc<[u8]>, options: &Options) -> Request {
        let close = if options.close {
            "Connection: close\r\n"
        } else {
            ""
        };
        let server = options.server;
        let head = format!("{verb} {path} HTTP/1.1\r\nHost: {server}\r\n{headers}{close}\r\n");
        Request {
            head: head.into_bytes(),
            body,
        }
    }

    /// Everything before the body.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes of all of it.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether something is stored by it.
    pub fn is_upload(&self) -> bool {
        !self.body.is_empty()
    }

    /// What follows the first `from` bytes, of the head and of the body.
    pub fn rest(&self, from: usize) -> [&[u8]; 2] {
        let head = self.head.get(from..).unwrap_or(&[]);
        let body = self.body.get(from.saturating_sub(self.head.len())..);
        [head, body.unwrap_or(&[])]
    }

    /// How many of these bytes are of the body.
    pub fn body_bytes(&self, part: Range<usize>) -> usize {
        part.end.saturating_sub(self.head.len()) - part.start.saturating_sub(self.head.len())
    }
}

/// Where an upload goes.
pub fn stored(path: &str, word: &str) -> String {
    format!("{path}.{word}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::options;

    #[test]
    fn an_upload_is_a_head_and_a_body_however_it_is_cut() {
        let request = Request::put(&options(), "7", b"twelve bytes".as_slice().into());
        let text = String::from_utf8(request.rest(0).concat()).unwrap();
        assert!(text.starts_with("PUT /x.7 HTTP/1.1\r\n"), "{text}");
        assert!(
            text.ends_with("Content-Length: 12\r\n\r\ntwelve bytes"),
            "{text}"
        );
        for at in 0..=request.len() {
            assert_eq!(request.rest(at).concat(), text.as_bytes()[at..]);
            let parts = [0..at, at..request.len()].map(|part| request.body_bytes(part));
            assert_eq!(parts.iter().sum::<usize>(), 12, "{at}");
        }
    }

    #[test]
    fn a_download_has_no_body() {
        let request = Request::get(&options());
        assert!(!request.is_upload() && request.head().starts_with(b"GET /x HTTP/1.1\r\n"));
        assert_eq!(request.body_bytes(0..request.len()), 0);
    }
}
