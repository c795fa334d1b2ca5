//! An independent TCP as the peer: smoltcp opens against our stack, and ours against smoltcp, in memory, over good and
//! bad paths. Packets are real bytes with real checksums, and every byte of every stream is compared.

#[path = "smoltcp_peer/bed.rs"]
mod bed;
#[path = "simulation/chance.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod chance;
#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "simulation/link.rs"]
mod link;

use core::time::Duration;

use bed::{Outcome, Setup, transfer};
use link::Conditions;
use sluice_tcp::CloseReason;
use sluice_tcp::congestion::Algorithm;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const PERCENT: u32 = chance::PARTS / 100;

fn delay() -> Conditions {
    Conditions {
        delay: Duration::from_millis(5),
        ..Conditions::default()
    }
}

fn lossy() -> Conditions {
    Conditions {
        loss: 3 * PERCENT,
        ..delay()
    }
}

fn everything() -> Conditions {
    Conditions {
        loss: PERCENT,
        reorder: (5 * PERCENT, Duration::from_millis(10)),
        duplicate: 5 * PERCENT,
        corrupt: PERCENT / 2,
        jitter: Duration::from_millis(2),
        rate: 12_500_000,
        buffer: 60_000,
        ..delay()
    }
}

fn finished(setup: Setup) -> Outcome {
    let outcome = transfer(setup);
    assert_eq!(outcome.closed, Some(CloseReason::Finished), "{setup:?}");
    outcome
}

#[test]
fn a_small_exchange_ends_in_order() {
    let outcome = finished(Setup::default());
    assert_eq!(outcome.sent_again, 0);
}

#[test]
fn an_empty_exchange_ends_in_order() {
    finished(Setup {
        request: 0,
        response: 0,
        ..Setup::default()
    });
}

#[test]
fn a_bulk_download_over_a_clean_path_sends_nothing_again() {
    let outcome = finished(Setup {
        response: 4 * MIB,
        ..Setup::default()
    });
    assert_eq!(outcome.sent_again, 0);
}

#[test]
fn a_bulk_upload_over_a_clean_path_arrives() {
    finished(Setup {
        request: 4 * MIB,
        receive_buffer: 1 << 20,
        ..Setup::default()
    });
}

#[test]
fn both_directions_at_once_over_a_clean_path_send_nothing_again() {
    let outcome = finished(Setup {
        request: MIB,
        response: MIB,
        both_at_once: true,
        ..Setup::default()
    });
    assert_eq!(outcome.sent_again, 0);
}

#[test]
fn downloads_survive_loss() {
    for seed in 0..10 {
        for congestion in [Algorithm::Cubic, Algorithm::NewReno] {
            let outcome = finished(Setup {
                seed,
                congestion,
                path: lossy(),
                response: 512 * KIB,
                ..Setup::default()
            });
            assert!(outcome.sent_again > 0);
        }
    }
}

#[test]
fn downloads_without_timestamps_survive_loss() {
    for seed in 0..10 {
        finished(Setup {
            seed,
            path: lossy(),
            response: 512 * KIB,
            timestamps: false,
            ..Setup::default()
        });
    }
}

#[test]
fn uploads_survive_loss() {
    for seed in 0..10 {
        finished(Setup {
            seed,
            path: lossy(),
            request: 256 * KIB,
            ..Setup::default()
        });
    }
}

#[test]
fn everything_at_once_ends_with_equal_bytes() {
    for seed in 0..20 {
        finished(Setup {
            seed,
            path: everything(),
            request: 128 * KIB,
            response: 256 * KIB,
            both_at_once: seed % 2 == 0,
            timestamps: seed % 3 == 0,
            ..Setup::default()
        });
    }
}

#[test]
fn small_windows_on_both_sides_keep_moving() {
    for path in [delay(), lossy()] {
        finished(Setup {
            path,
            request: 20_000,
            response: 20_000,
            client_buffer: 700,
            receive_buffer: 900,
            ..Setup::default()
        });
    }
}

#[test]
fn a_client_that_does_not_read_for_a_while_is_probed_and_then_served() {
    let deaf_for = Duration::from_secs(20);
    let outcome = finished(Setup {
        response: 300 * KIB,
        client_buffer: 16_000,
        deaf_for,
        ..Setup::default()
    });
    assert!(outcome.window_probes > 0);
    assert!(outcome.took > deaf_for && outcome.took < deaf_for * 2);
}

#[test]
fn a_client_that_reads_again_is_served_although_its_window_update_is_lost() {
    for seed in 0..10 {
        finished(Setup {
            seed,
            path: Conditions {
                loss: 30 * PERCENT,
                ..delay()
            },
            response: 40 * KIB,
            client_buffer: 8000,
            deaf_for: Duration::from_secs(5),
            ..Setup::default()
        });
    }
}

#[test]
fn a_response_after_a_half_close_arrives_whole() {
    for path in [delay(), lossy()] {
        finished(Setup {
            path,
            request: 5000,
            response: 300 * KIB,
            half_close: true,
            ..Setup::default()
        });
    }
}

#[test]
fn a_client_that_aborts_leaves_nothing_behind() {
    let outcome = transfer(Setup {
        response: MIB,
        abort_at: Some(100_000),
        ..Setup::default()
    });
    assert_eq!(outcome.closed, Some(CloseReason::PeerReset));
}

#[test]
fn a_slow_path_with_a_short_queue_is_filled() {
    let rate = 1_250_000;
    let response = MIB;
    let outcome = finished(Setup {
        path: Conditions {
            rate,
            buffer: 30_000,
            delay: Duration::from_millis(10),
            ..Conditions::default()
        },
        response,
        ..Setup::default()
    });
    // At 10 Mbit/s the bytes alone take 0.84 s.
    let least = Duration::from_millis(response * 1000 / rate);
    assert!(outcome.took < least * 2, "{outcome:?}");
}

/// What our stack opens.
fn opened() -> Setup {
    Setup {
        we_open: true,
        ..Setup::default()
    }
}

#[test]
fn our_active_open_against_smoltcp_ends_in_order() {
    for timestamps in [true, false] {
        let outcome = finished(Setup {
            timestamps,
            ..opened()
        });
        assert_eq!(outcome.sent_again, 0);
    }
}

#[test]
fn an_empty_exchange_that_we_open_ends_in_order() {
    finished(Setup {
        request: 0,
        response: 0,
        ..opened()
    });
}

#[test]
fn bulk_both_ways_over_a_connection_that_we_opened_sends_nothing_again() {
    let outcome = finished(Setup {
        request: MIB,
        response: MIB,
        both_at_once: true,
        ..opened()
    });
    assert_eq!(outcome.sent_again, 0);
}

#[test]
fn connections_that_we_open_survive_loss_in_either_direction() {
    for seed in 0..10 {
        for (request, response) in [(256 * KIB, 100), (100, 512 * KIB)] {
            finished(Setup {
                seed,
                path: lossy(),
                request,
                response,
                ..opened()
            });
        }
    }
}

#[test]
fn connections_that_we_open_survive_everything_at_once() {
    for seed in 0..20 {
        finished(Setup {
            seed,
            path: everything(),
            request: 128 * KIB,
            response: 256 * KIB,
            both_at_once: seed % 2 == 0,
            timestamps: seed % 3 == 0,
            ..opened()
        });
    }
}

#[test]
fn our_syn_is_repeated_until_smoltcp_hears_it() {
    for seed in 0..20 {
        finished(Setup {
            seed,
            path: Conditions {
                loss: 30 * PERCENT,
                ..delay()
            },
            ..opened()
        });
    }
}

#[test]
fn the_half_close_of_who_was_opened_does_not_end_our_half() {
    for path in [delay(), lossy()] {
        finished(Setup {
            path,
            request: 5000,
            response: 300 * KIB,
            half_close: true,
            ..opened()
        });
    }
}

#[test]
fn a_listener_that_aborts_leaves_nothing_behind() {
    let outcome = transfer(Setup {
        response: MIB,
        abort_at: Some(100_000),
        ..opened()
    });
    assert_eq!(outcome.closed, Some(CloseReason::PeerReset));
}
