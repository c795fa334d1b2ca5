//! What HTTP clients see.

use crate::bed::{Bed, get};
use crate::client::Client;
use crate::site::{KIB, MIB, Site};

#[test]
fn a_small_file_is_served_whole() {
    let site = Site::new();
    let content = site.file("small.txt", 1234);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let response = bed.get(&mut client, "/small.txt");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Content-Length"), Some("1234"));
    assert!(response.body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn an_empty_file_is_a_response_without_body() {
    let site = Site::new();
    site.file("empty", 0);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let response = bed.get(&mut client, "/empty");
    assert_eq!((response.status, response.body.len()), (200, 0));
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn head_names_the_length_and_sends_no_byte_of_the_file() {
    let site = Site::new();
    site.file("image", 3 * MIB);
    let content = site.file("next", 100);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("HEAD /image HTTP/1.1\r\nHost: sluice.test\r\n\r\n");
    bed.run_one(&mut client, |client| !client.received.is_empty());
    bed.settle_one(&mut client);
    let head = client.take_head().expect("the head came whole");
    assert_eq!(head.status, 200);
    assert_eq!(head.field("Content-Length"), Some("3145728"));
    assert_eq!(client.unparsed(), b"");
    assert!(bed.get(&mut client, "/next").body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn ten_mebibytes_arrive_byte_for_byte_through_four_mebibytes_of_blocks() {
    let site = Site::new();
    let content = site.file("big", 10 * MIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let response = bed.get(&mut client, "/big");
    assert_eq!(response.status, 200);
    assert!(response.body == content);
    let tcp = *bed.worker.stack().counters();
    assert_eq!((tcp.retransmitted_fast, tcp.timeouts), (0, 0));
    assert_eq!(client.duplicates, 0);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_range_across_blocks_is_answered_with_exactly_its_bytes() {
    let site = Site::new();
    let content = site.file("big", 300 * KIB);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("GET /big HTTP/1.1\r\nHost: sluice.test\r\nRange: bytes=65000-200000\r\n\r\n");
    let response = bed.response(&mut client);
    assert_eq!(response.status, 206);
    assert_eq!(
        response.field("Content-Range"),
        Some("bytes 65000-200000/307200")
    );
    assert!(response.body == content[65_000..=200_000]);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_kept_connection_serves_one_request_after_another() {
    let site = Site::new();
    let contents: Vec<Vec<u8>> = (0..5)
        .map(|n| site.file(&format!("f{n}"), n * 70_000 + 1))
        .collect();
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    for round in 0..20 {
        let n = round % contents.len();
        let response = bed.get(&mut client, &format!("/f{n}"));
        assert!(response.body == contents[n], "round {round}");
    }
    assert_eq!(bed.worker.stack().counters().accepted, 1);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn more_pipelined_requests_than_are_queued_are_all_answered_in_order() {
    let site = Site::new();
    let contents: Vec<Vec<u8>> = (0..50)
        .map(|n| site.file(&format!("f{n}"), 1 + n * 997))
        .collect();
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let requests: String = (0..50).map(|n| get(&format!("/f{n}"))).collect();
    client.write(requests);
    for (n, content) in contents.iter().enumerate() {
        assert!(
            bed.response(&mut client).body == *content,
            "response {n} is out of order or wrong"
        );
    }
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn pipelined_requests_beyond_the_window_wait_at_the_client() {
    let site = Site::new();
    let content = site.file("f", 10);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let filler = "x".repeat(2000);
    let request = format!("GET /f HTTP/1.1\r\nHost: sluice.test\r\nX-Filler: {filler}\r\n\r\n");
    // 60 KiB of requests through a window of 16 KiB.
    client.write(request.repeat(30));
    assert!(!client.is_heard());
    for _ in 0..30 {
        assert!(bed.response(&mut client).body == content);
    }
    assert!(client.is_heard());
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_request_in_segments_out_of_order_is_put_together() {
    let site = Site::new();
    let content = site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    let request = get("/small");
    client.hold_back(&request);
    // As many holes as the worker keeps: the last piece first, the first piece last.
    let cuts: Vec<usize> = (0..=8).map(|n| n * request.len() / 8).collect();
    for range in cuts.windows(2).rev() {
        assert!(
            client.received.is_empty(),
            "not answered before it is whole"
        );
        let frame = client.segment(range[0]..range[1]);
        client.out.push(frame);
        bed.round(core::slice::from_mut(&mut client));
    }
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let site = Site::new();
    let content = site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    for byte in get("/small").bytes() {
        client.write([byte]);
        bed.settle_one(&mut client);
    }
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn a_request_on_the_heels_of_the_handshake_is_answered() {
    // RFC 9293 section 3.10.7.4: data may come before the ACK that would complete the handshake was seen.
    let site = Site::new();
    let content = site.file("small", 5000);
    let mut bed = Bed::new(&site);
    let mut client = Client::connect(bed.take_port());
    bed.round(core::slice::from_mut(&mut client));
    client.out.clear();
    client.write(get("/small"));
    assert!(bed.response(&mut client).body == content);
    bed.close(client);
    bed.assert_at_rest();
}

#[test]
fn two_hundred_clients_share_the_blocks_of_one_file() {
    let site = Site::new();
    let content = site.file("shared", 400 * KIB);
    let mut bed = Bed::new(&site);
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(bed.take_port())).collect();
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::is_established)
    });
    for client in &mut clients {
        client.write(get("/shared"));
    }
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::has_response)
    });
    for client in &mut clients {
        assert!(client.take_response().is_some_and(|r| r.body == content));
        client.finish();
    }
    bed.run(&mut clients, |clients| {
        clients.iter().all(Client::is_closed)
    });
    bed.settle(&mut clients);
    bed.assert_at_rest();
}

#[test]
fn a_missing_file_is_404_and_the_connection_goes_on() {
    let site = Site::new();
    let content = site.file("there", 10);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    assert_eq!(bed.get(&mut client, "/nowhere").status, 404);
    assert!(bed.get(&mut client, "/there").body == content);
    bed.close(client);
}

#[test]
fn a_method_that_files_do_not_have_is_405() {
    let site = Site::new();
    site.file("there", 10);
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("DELETE /there HTTP/1.1\r\nHost: sluice.test\r\n\r\n");
    let response = bed.response(&mut client);
    assert_eq!(response.status, 405);
    assert_eq!(response.field("Allow"), Some("GET, HEAD"));
}

#[test]
fn a_request_against_the_grammar_is_400_and_ends_the_connection() {
    let site = Site::new();
    let mut bed = Bed::new(&site);
    let mut client = bed.connect();
    client.write("GET nonsense\r\n\r\n");
    let response = bed.response(&mut client);
    assert_eq!(response.status, 400);
    assert_eq!(response.field("Connection"), Some("close"));
    bed.run_one(&mut client, |client| client.finished);
    bed.close(client);
    assert_eq!(bed.worker.stack().len(), 0);
}

/// One request of each client, all in one turn of the worker, and the bodies.
fn ask_together(bed: &mut Bed, clients: &mut [Client], path: &str) -> Vec<Vec<u8>> {
    for client in clients.iter_mut() {
        client.write(get(path));
    }
    bed.run(clients, |clients| clients.iter().all(Client::has_response));
    let bodies = clients.iter_mut().map(|client| {
        let response = client.take_response().expect("every client has one");
        response.body
    });
    bodies.collect()
}

#[test]
fn requests_that_arrive_together_open_their_file_once_and_those_after_them_see_what_replaced_it() {
    let site = Site::new();
    let old = site.file("object", KIB);
    let mut bed = Bed::new(&site);
    let mut clients: Vec<Client> = (0..20).map(|_| bed.connect()).collect();
    for (round, content) in [old, vec![7; KIB]].into_iter().enumerate() {
        if round == 1 {
            std::fs::write(site.root().join("fresh"), &content).expect("a new version");
            std::fs::rename(site.root().join("fresh"), site.root().join("object"))
                .expect("it replaces the old one");
        }
        let before = bed.report().service.reads;
        let bodies = ask_together(&mut bed, &mut clients, "/object");
        assert!(bodies.iter().all(|body| *body == content), "round {round}");
        let after = bed.report().service.reads;
        assert_eq!(after.opens_inline - before.opens_inline, 1);
        assert_eq!(after.opens_recent - before.opens_recent, 19);
    }
    for client in clients {
        bed.close(client);
    }
    bed.assert_at_rest();
}

#[test]
fn the_first_answers_of_a_turn_leave_before_the_last_are_built() {
    let site = Site::new();
    site.file("object", KIB);
    let mut bed = Bed::new(&site);
    let mut clients: Vec<Client> = (0..40).map(|_| bed.connect()).collect();
    let before = bed.report().queue.kicks;
    for client in &mut clients {
        client.write(get("/object"));
        bed.inject_from(client);
    }
    assert_eq!(bed.turn().len(), 40);
    // After 32, and at the end.
    assert_eq!(bed.report().queue.kicks - before, 2);
}
