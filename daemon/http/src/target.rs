//! Request target to a relative path below the served root.
//!
//! Decodes once, then resolves `.` and `..` as RFC 3986 5.2.4 does, on the decoded bytes, so that
//! `%2e%2e` is no way around. The result names something inside the root or nothing: no `..` component,
//! no NUL, no empty component, nothing hidden. The kernel checks again when the file is opened (openat2
//! with RESOLVE_BENEATH); that one knows symlinks, this one keeps the answer to an attack independent
//! of what is on the disk.

use crate::status::Status;

/// Longest name of a file on Linux (NAME_MAX, `limits.h`). A longer one cannot exist: 404, not the
/// ENAMETOOLONG of an open.
const NAME_MAX: usize = 255;

/// Longest path given out: PATH_MAX (4096 with the NUL at the end) less room for a caller to append the
/// name of an index file.
const PATH_BYTES_MAX: usize = 4096 - 1 - NAME_MAX;

/// What a target asks for, by its form alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// No slash at the end. It may still turn out to be a directory, see
    /// [`plan_redirect`](crate::plan_redirect).
    File,
    /// A slash (or a resolved `.` or `..`) at the end, or the root itself.
    Directory,
}

/// Decodes the path of `raw` ([`Request::target`](crate::Request)), whose query is ignored, into `out`.
///
/// `out` is cleared first and then holds a path relative to the root, without a slash at the start. For
/// [`TargetKind::Directory`] it is empty (the root) or ends with a slash, so the name of an index file
/// can be appended as it is. Repeated slashes count as one. It never grows beyond the length of `raw`.
///
/// # Errors
///
/// 400 if the path does not start with a slash, has a `%` without two hex digits, an encoded NUL or
/// slash, or leaves the root; 404 if it cannot exist (too long) or is not to be seen (a component that
/// starts with a dot). `out` is then empty.
pub fn decode_target(raw: &[u8], out: &mut Vec<u8>) -> Result<TargetKind, Status> {
    out.clear();
    let result = decode(raw, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<TargetKind, Status> {
    let path = raw.split(|&byte| byte == b'?').next().unwrap_or_default();
    let path = path.strip_prefix(b"/").ok_or(Status::BadRequest)?;
    let mut kind = TargetKind::Directory;
    for segment in path.split(|&byte| byte == b'/') {
        // Every component before this one ended with a slash.
        if kind == TargetKind::File {
            out.push(b'/');
        }
        kind = push_segment(segment, out)?;
    }
    if out.len() > PATH_BYTES_MAX {
        return Err(Status::NotFound);
    }
    // Only now: `/.a/../b` names `b`, and `..` itself starts with a dot.
    if out
        .split(|&byte| byte == b'/')
        .any(|component| component.starts_with(b"."))
    {
        return Err(Status::NotFound);
    }
    Ok(kind)
}

/// Decodes one segment and applies it to `out`, which is empty or ends with a slash. `File` if a
/// component was added.
fn push_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<TargetKind, Status> {
    let start = out.len();
    if segment.contains(&b'%') {
        check_escapes(segment)?;
        out.extend(percent_encoding::percent_decode(segment));
    } else {
        out.extend_from_slice(segment);
    }
    let component = &out[start..];
    if component.contains(&b'/') || component.contains(&0) {
        return Err(Status::BadRequest);
    }
    match component {
        b"" => Ok(TargetKind::Directory),
        b"." => {
            out.truncate(start);
            Ok(TargetKind::Directory)
        }
        b".." => {
            let parent = out[..start].strip_suffix(b"/").ok_or(Status::BadRequest)?;
            let keep = parent.iter().rposition(|&byte| byte == b'/');
            out.truncate(keep.map_or(0, |slash| slash + 1));
            Ok(TargetKind::Directory)
        }
        _ if component.len() > NAME_MAX => Err(Status::NotFound),
        _ => Ok(TargetKind::File),
    }
}

/// percent-encoding passes a `%` that starts no escape through; then `%2` and `%252` would name one
/// file, so it is refused instead.
fn check_escapes(segment: &[u8]) -> Result<(), Status> {
    let mut rest = segment;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = &rest[at + 3..];
            }
            _ => return Err(Status::BadRequest),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(raw: &str) -> Result<(TargetKind, String), Status> {
        let mut out = b"left over".to_vec();
        let kind = decode_target(raw.as_bytes(), &mut out)?;
        Ok((kind, String::from_utf8(out).expect("text in the tables")))
    }

    fn file(path: &str) -> Result<(TargetKind, String), Status> {
        Ok((TargetKind::File, path.to_owned()))
    }

    fn directory(path: &str) -> Result<(TargetKind, String), Status> {
        Ok((TargetKind::Directory, path.to_owned()))
    }

    #[test]
    fn paths_become_relative() {
        assert_eq!(decoded("/a"), file("a"));
        assert_eq!(decoded("/a/b.txt"), file("a/b.txt"));
        assert_eq!(decoded("/a/b/"), directory("a/b/"));
        assert_eq!(decoded("/"), directory(""));
    }

    #[test]
    fn the_query_is_ignored_whatever_is_in_it() {
        assert_eq!(decoded("/a?b=/../c%00%"), file("a"));
        assert_eq!(decoded("/?"), directory(""));
        assert_eq!(decoded("/a%3Fb"), file("a?b"));
    }

    #[test]
    fn escapes_are_decoded_exactly_once() {
        assert_eq!(decoded("/a%20b%2B%c3%A4"), file("a b+ä"));
        assert_eq!(decoded("/a+b"), file("a+b"));
        assert_eq!(decoded("/%2541"), file("%41"));
        assert_eq!(decoded("/%252e%252e/a"), file("%2e%2e/a"));
        assert_eq!(decoded("/%252fa"), file("%2fa"));
    }

    #[test]
    fn broken_escapes_are_400() {
        for raw in ["/%", "/%2", "/%2/a", "/%zz", "/a%4", "/%%41", "/%+1"] {
            assert_eq!(decoded(raw), Err(Status::BadRequest), "{raw}");
        }
    }

    #[test]
    fn encoded_slash_and_nul_are_400() {
        for raw in [
            "/a%2fb",
            "/a%2Fb",
            "/%2f",
            "/..%2f..%2fetc",
            "/a%00",
            "/a%00.txt",
        ] {
            assert_eq!(decoded(raw), Err(Status::BadRequest), "{raw}");
        }
    }

    #[test]
    fn dot_segments_are_resolved_encoded_or_not() {
        assert_eq!(decoded("/a/../b"), file("b"));
        assert_eq!(decoded("/a/%2e%2E/b"), file("b"));
        assert_eq!(decoded("/a/./b"), file("a/b"));
        assert_eq!(decoded("/a/b/.."), directory("a/"));
        assert_eq!(decoded("/a/b/../.."), directory(""));
        assert_eq!(decoded("/a/."), directory("a/"));
        assert_eq!(decoded("/."), directory(""));
    }

    #[test]
    fn leaving_the_root_is_400_even_if_the_path_comes_back() {
        for raw in ["/..", "/../a", "/a/../../a", "/%2e%2e/a", "/./..", "//../a"] {
            assert_eq!(decoded(raw), Err(Status::BadRequest), "{raw}");
        }
    }

    #[test]
    fn repeated_slashes_are_one() {
        assert_eq!(decoded("//a///b//"), directory("a/b/"));
        assert_eq!(decoded("//a//../b"), file("b"));
    }

    #[test]
    fn hidden_names_are_404() {
        for raw in ["/.env", "/.git/config", "/a/.b", "/%2egit/", "/...", "/..a"] {
            assert_eq!(decoded(raw), Err(Status::NotFound), "{raw}");
        }
        assert_eq!(decoded("/.git/../a"), file("a"));
        assert_eq!(decoded("/a.b/c."), file("a.b/c."));
    }

    #[test]
    fn a_target_without_a_slash_at_the_start_is_400() {
        for raw in ["", "*", "a", "?/a", "%2fa"] {
            assert_eq!(decoded(raw), Err(Status::BadRequest), "{raw}");
        }
    }

    #[test]
    fn what_linux_cannot_name_is_404() {
        let name = "n".repeat(NAME_MAX);
        assert_eq!(decoded(&format!("/{name}")), file(&name));
        assert_eq!(decoded(&format!("/{name}n")), Err(Status::NotFound));
        let long = format!("/{}", "n/".repeat(PATH_BYTES_MAX / 2 + 1));
        assert_eq!(decoded(&long), Err(Status::NotFound));
    }

    #[test]
    fn nothing_is_left_in_the_buffer_after_an_error() {
        let mut out = Vec::new();
        assert!(decode_target(b"/a/%00", &mut out).is_err());
        assert!(out.is_empty());
    }

    /// Targets made of the pieces that matter, far denser in trouble than random bytes.
    fn troublesome() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"/", b"..", b".", b"%2e", b"%2F", b"%00", b"%", b"%25", b"a", b"\\", b"?", b"\xff",
        ];
        let piece = prop::sample::select(pieces);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| {
            let mut raw = b"/".to_vec();
            raw.extend(pieces.concat());
            raw
        })
    }

    proptest! {
        #[test]
        fn a_decoded_path_stays_below_the_root(
            raw in prop_oneof![troublesome(), prop::collection::vec(any::<u8>(), 0..64)],
        ) {
            let mut out = Vec::new();
            let Ok(kind) = decode_target(&raw, &mut out) else {
                prop_assert!(out.is_empty());
                return Ok(());
            };
            prop_assert!(out.len() <= raw.len());
            prop_assert!(!out.starts_with(b"/"));
            prop_assert!(!out.contains(&0));
            prop_assert_eq!(kind == TargetKind::File, !out.is_empty() && !out.ends_with(b"/"));
            let path = out.strip_suffix(b"/").unwrap_or(&out);
            for component in path.split(|&byte| byte == b'/') {
                prop_assert!(!component.starts_with(b"."));
                prop_assert!(!component.is_empty() || path.is_empty());
            }
        }

        /// A path of plain names comes back from any escaping of it.
        #[test]
        fn escaping_any_of_its_bytes_names_the_same_file(
            names in prop::collection::vec("[a-zA-Z0-9_~-][a-zA-Z0-9._~ä-]{0,8}", 1..5),
            escape in prop::collection::vec(any::<bool>(), 256),
        ) {
            let path = names.join("/");
            let mut raw = b"/".to_vec();
            for (byte, escape) in path.bytes().zip(escape) {
                if escape && byte != b'/' {
                    raw.extend(format!("%{byte:02X}").bytes());
                } else {
                    raw.push(byte);
                }
            }
            let mut out = Vec::new();
            prop_assert_eq!(decode_target(&raw, &mut out), Ok(TargetKind::File));
            prop_assert_eq!(out, path.into_bytes());
        }
    }
}
