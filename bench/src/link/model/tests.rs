use super::*;

const FRAME: Arrival = Arrival {
    bytes: 1514,
    ecn_capable: true,
};

fn model(impairment: Impairment) -> Model {
    Model::new(impairment, Dice::new(42, 0))
}

/// The fates of packets that arrive `gap` apart.
fn fates(impairment: Impairment, seed: u64, count: u32, gap: Duration) -> Vec<Fate> {
    let mut model = Model::new(impairment, Dice::new(seed, 0));
    (0..count)
        .map(|number| model.admit(gap * number, FRAME))
        .collect()
}

fn losses(fates: &[Fate]) -> Vec<bool> {
    fates
        .iter()
        .map(|fate| matches!(fate, Fate::Dropped(_)))
        .collect()
}

fn release(fate: Fate) -> Duration {
    match fate {
        Fate::Delivered(delivery) => delivery.release,
        Fate::Dropped(cause) => panic!("dropped: {cause:?}"),
    }
}

/// Everything at once.
fn rough() -> Impairment {
    Impairment {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(3),
        loss: 0.02,
        burst: Some(Burst {
            enter: 0.01,
            leave: 0.25,
            loss: 0.8,
        }),
        reorder: Some(Reorder {
            share: 0.05,
            by: Duration::from_millis(4),
        }),
        duplicate: 0.03,
        corrupt: 0.03,
        hop: Hop {
            rate: Some(50_000_000),
            buffer: Some(64 << 10),
            mark: Some(16 << 10),
        },
        black_hole: Some(Span {
            from: Duration::from_secs(1),
            lasts: Duration::from_millis(100),
        }),
        black_hole_above: None,
    }
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let gap = Duration::from_micros(200);
    let first = fates(rough(), 7, 20_000, gap);
    assert_eq!(first, fates(rough(), 7, 20_000, gap));
    assert_ne!(first, fates(rough(), 8, 20_000, gap));
}

#[test]
fn the_same_packets_are_lost_whenever_they_come() {
    let impairment = Impairment {
        loss: 0.05,
        burst: rough().burst,
        ..Impairment::default()
    };
    let fast = losses(&fates(impairment.clone(), 3, 20_000, Duration::ZERO));
    let slow = losses(&fates(
        impairment.clone(),
        3,
        20_000,
        Duration::from_millis(9),
    ));
    assert_eq!(fast, slow);
    // A queue that drops others does not move the losses of the wire either.
    let queued = Impairment {
        hop: Hop {
            rate: Some(10_000_000),
            buffer: Some(30_000),
            mark: None,
        },
        ..impairment
    };
    let queued = fates(queued, 3, 20_000, Duration::from_micros(900));
    for (lost, fate) in fast.iter().zip(&queued) {
        match fate {
            Fate::Dropped(Cause::Overflow) => {}
            fate => assert_eq!(*lost, matches!(fate, Fate::Dropped(_))),
        }
    }
}

#[test]
fn a_link_without_impairment_delivers_at_once() {
    let mut model = model(Impairment::default());
    for number in 0..1000 {
        let now = Duration::from_nanos(number * 17);
        assert_eq!(
            model.admit(now, FRAME),
            Fate::Delivered(Delivery {
                release: now,
                mark: false,
                corrupt: None,
                duplicate: false,
            })
        );
    }
}

#[test]
fn the_delay_is_exact() {
    let mut model = model(Impairment {
        delay: Duration::from_millis(20),
        ..Impairment::default()
    });
    for number in 0..1000u32 {
        let now = Duration::from_micros(u64::from(number) * 13);
        assert_eq!(
            release(model.admit(now, FRAME)),
            now + Duration::from_millis(20)
        );
    }
}

#[test]
fn the_rate_is_exact_and_the_delay_comes_on_top() {
    let mut model = model(Impairment {
        delay: Duration::from_millis(5),
        hop: Hop {
            rate: Some(100_000_000),
            ..Hop::default()
        },
        ..Impairment::default()
    });
    // 1,514 bytes at 100 Mbit/s: 121.12 us.
    for number in 1..=10_000u64 {
        let expected = Duration::from_nanos(number * 121_120) + Duration::from_millis(5);
        assert_eq!(release(model.admit(Duration::ZERO, FRAME)), expected);
    }
}

#[test]
fn random_loss_is_within_its_confidence_bounds() {
    const COUNT: u32 = 200_000;
    for seed in 0..20 {
        for loss in [0.001, 0.01, 0.03, 0.5] {
            let impairment = Impairment {
                loss,
                ..Impairment::default()
            };
            let fates = fates(impairment, seed, COUNT, Duration::from_micros(10));
            let lost = losses(&fates).iter().filter(|lost| **lost).count();
            let lost = f64::from(u32::try_from(lost).unwrap());
            let mean = loss * f64::from(COUNT);
            // Five standard deviations of a binomial: once in 1.7 million.
            let bound = 5.0 * (mean * (1.0 - loss)).sqrt();
            assert!((lost - mean).abs() < bound, "seed {seed}: {lost} of {mean}");
        }
    }
}

#[test]
fn bursts_have_the_length_and_the_share_of_the_channel() {
    let impairment = Impairment {
        burst: Some(Burst {
            enter: 0.01,
            leave: 0.25,
            loss: 1.0,
        }),
        ..Impairment::default()
    };
    let lost = losses(&fates(impairment, 11, 400_000, Duration::ZERO));
    let total = lost.iter().filter(|lost| **lost).count();
    let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let [total, runs, count] =
        [total, runs, lost.len()].map(|n| f64::from(u32::try_from(n).unwrap()));
    // Stationary share of the bad state: enter / (enter + leave).
    assert!(
        (total / count - 0.01 / 0.26).abs() < 0.003,
        "{}",
        total / count
    );
    assert!((total / runs - 4.0).abs() < 0.15, "{}", total / runs);
}

#[test]
fn jitter_stays_in_its_range_and_keeps_the_order() {
    let impairment = Impairment {
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(2),
        ..Impairment::default()
    };
    let gap = Duration::from_millis(5);
    let mut seen = Vec::new();
    for (number, fate) in (0u32..).zip(fates(impairment.clone(), 5, 10_000, gap)) {
        seen.push(release(fate) - gap * number);
    }
    let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
    assert!(*least >= Duration::from_millis(8) && *least < Duration::from_micros(8010));
    assert!(*most <= Duration::from_millis(12) && *most > Duration::from_micros(11_990));
    let close: Vec<Duration> = fates(impairment, 5, 10_000, Duration::from_micros(50))
        .into_iter()
        .map(release)
        .collect();
    assert!(close.is_sorted());
}

#[test]
fn reordered_packets_arrive_later_and_the_others_in_place() {
    let impairment = Impairment {
        delay: Duration::from_millis(1),
        reorder: Some(Reorder {
            share: 0.1,
            by: Duration::from_millis(3),
        }),
        ..Impairment::default()
    };
    let mut model = model(impairment);
    let mut late = 0;
    for number in 0..10_000u32 {
        let now = Duration::from_micros(100) * number;
        let took = release(model.admit(now, FRAME)) - now;
        late += u64::from(took == Duration::from_millis(4));
        assert!(took == Duration::from_millis(1) || took == Duration::from_millis(4));
    }
    assert_eq!(model.counters().reordered, late);
    assert!((850..1150).contains(&late), "{late}");
}

#[test]
fn only_ecn_capable_packets_are_marked() {
    let mut model = model(Impairment {
        hop: Hop {
            rate: Some(8_000_000),
            buffer: None,
            mark: Some(1000),
        },
        ..Impairment::default()
    });
    let deaf = Arrival {
        ecn_capable: false,
        ..FRAME
    };
    let marks: Vec<bool> = [FRAME, FRAME, deaf, FRAME]
        .into_iter()
        .map(|arrival| match model.admit(Duration::ZERO, arrival) {
            Fate::Delivered(delivery) => delivery.mark,
            Fate::Dropped(cause) => panic!("dropped: {cause:?}"),
        })
        .collect();
    assert_eq!(marks, [false, true, false, true]);
    assert_eq!(model.counters().marked, 2);
}

#[test]
fn a_black_hole_swallows_its_span_and_nothing_else() {
    let mut model = model(Impairment {
        black_hole: Some(Span {
            from: Duration::from_secs(2),
            lasts: Duration::from_secs(1),
        }),
        ..Impairment::default()
    });
    let mut swallowed = |millis| {
        let fate = model.admit(Duration::from_millis(millis), FRAME);
        fate == Fate::Dropped(Cause::BlackHole)
    };
    assert_eq!(
        [0, 1999, 2000, 2999, 3000].map(&mut swallowed),
        [false, false, true, true, false]
    );
}

#[test]
fn a_black_hole_for_long_packets_counts_ip_bytes() {
    let mut model = model(Impairment {
        black_hole_above: Some(1400),
        ..Impairment::default()
    });
    let mut admit = |bytes| {
        let arrival = Arrival {
            bytes,
            ecn_capable: false,
        };
        model.admit(Duration::ZERO, arrival)
    };
    assert!(matches!(admit(1414), Fate::Delivered(_)));
    assert_eq!(admit(1415), Fate::Dropped(Cause::TooLong));
}

#[test]
fn every_packet_is_counted_once() {
    for seed in 0..50 {
        let mut model = Model::new(rough(), Dice::new(seed, 1));
        let (mut delivered, mut dropped) = (0, 0);
        for number in 0..10_000u32 {
            match model.admit(Duration::from_micros(220) * number, FRAME) {
                Fate::Delivered(_) => delivered += 1,
                Fate::Dropped(_) => dropped += 1,
            }
        }
        let counters = model.counters();
        assert_eq!(counters.packets, 10_000, "seed {seed}");
        assert_eq!(counters.bytes, 10_000 * FRAME.bytes, "seed {seed}");
        let causes = counters.dropped;
        let total =
            causes.loss + causes.burst + causes.overflow + causes.black_hole + causes.too_long;
        assert_eq!(total, dropped, "seed {seed}");
        assert_eq!(counters.packets, delivered + dropped, "seed {seed}");
        assert!(counters.queue_peak_bytes <= 64 << 10, "seed {seed}");
    }
}
