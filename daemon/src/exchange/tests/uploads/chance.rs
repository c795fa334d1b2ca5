//! Random pipelines of uploads and downloads.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Uploads of both kinds and downloads in one pipeline, cut anywhere, on few blocks.
    #[test]
    fn any_pipeline_in_any_cut_is_answered_in_order(
        steps in proptest::collection::vec((0_usize..90_000, 0_usize..3, 1_usize..30_000), 1..5),
        piece in 1_usize..20_000,
    ) {
        let mut site = site(6);
        let mut request = Vec::new();
        let mut expected = Vec::new();
        for (n, (size, kind, chunk)) in steps.into_iter().enumerate() {
            let (path, body) = (format!("/f{n}"), content(&n.to_string(), size));
            match kind {
                0 => request.extend_from_slice(&with_length(&path, &body)),
                1 => request.extend_from_slice(&with_chunks(&path, &body, chunk)),
                _ => request.extend_from_slice(&with_chunks(&path, &body, 1 + chunk % 100)),
            }
            request.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
            expected.push(body);
        }
        let peer = uploaded(&mut site, &request, piece);
        let responses = peer.responses();
        for (n, (head, body)) in responses.iter().enumerate() {
            if n % 2 == 0 {
                prop_assert_eq!(status(head), "201");
                if field(head, "Connection").is_some() {
                    // What follows a long chunked body is not promised an answer.
                    break;
                }
            } else {
                prop_assert!(*body == expected[n / 2], "body {}", n / 2);
            }
        }
        let closed = responses.last().is_some_and(|(head, _)| field(head, "Connection").is_some());
        prop_assert!(closed || responses.len() == 2 * expected.len());
        peer.end(&mut site);
        site.assert_at_rest();
    }
}
