//! `Content-Type` from the name of a file.
//!
//! By the last extension alone, case ignored. So `a.tar.gz` is a gzip file and goes out as the bytes it
//! is: this server never sends `Content-Encoding`, which would make clients unpack what they were asked
//! to store. No character set is claimed for text, since nobody has looked inside.

/// What is said of a file whose name says nothing (RFC 9110 8.3).
const UNKNOWN: &str = "application/octet-stream";

/// The media type of the file at `path`, for a `Content-Type` field.
pub fn content_type(path: &[u8]) -> &'static str {
    extension(path)
        .and_then(|extension| mime_guess::from_ext(extension).first_raw())
        .unwrap_or(UNKNOWN)
}

/// What follows the last dot of the last component.
fn extension(path: &[u8]) -> Option<&str> {
    let name = path.rsplit(|&byte| byte == b'/').next()?;
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    str::from_utf8(&name[dot + 1..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_decides_without_case() {
        assert_eq!(content_type(b"a.html"), "text/html");
        assert_eq!(content_type(b"dir/A.PNG"), "image/png");
        assert_eq!(content_type(b"a.json"), "application/json");
    }

    #[test]
    fn only_the_last_extension_counts() {
        assert_eq!(content_type(b"a.tar.gz"), "application/gzip");
        assert_eq!(content_type(b"a.html.unknown"), UNKNOWN);
    }

    #[test]
    fn a_dot_in_a_directory_is_no_extension() {
        assert_eq!(content_type(b"site.html/readme"), UNKNOWN);
    }

    #[test]
    fn names_that_say_nothing_are_octets() {
        for path in [&b""[..], b"a", b"a.", b"a.\xff", b"a.safetensors", b"dir/"] {
            assert_eq!(content_type(path), UNKNOWN, "{path:?}");
        }
    }
}
