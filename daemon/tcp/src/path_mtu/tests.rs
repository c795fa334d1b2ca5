use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

fn after(seconds: u64) -> Instant {
    START + Duration::from_secs(seconds)
}

/// A search over a path that carries `passes` bytes, from `mtu`: the sizes that were probed.
fn search(path: &mut PathMtu, passes: u16) -> Vec<u16> {
    let mut probed = Vec::new();
    for second in 601..700 {
        let now = after(second);
        let Some(size) = path.next_probe(now) else {
            continue;
        };
        probed.push(size);
        path.on_probe_sent(size);
        assert_eq!(path.next_probe(now), None, "one at a time");
        let fate = match size <= passes {
            true => Probed::Delivered,
            false => Probed::Refused,
        };
        path.on_probed(fate, now);
    }
    probed.dedup();
    probed
}

#[test]
fn nothing_is_probed_while_the_path_takes_what_the_handshake_allows() {
    let path = PathMtu::new(1500, false);
    assert_eq!(path.next_probe(after(1_000_000)), None);
}

#[test]
fn a_search_ends_at_the_largest_usual_size_that_passes() {
    // RFC 8899 section 5.3.2.
    for (passes, found, tried) in [
        (1500, 1500, vec![1500]),
        (1492, 1492, vec![1500, 1492]),
        (1420, 1420, vec![1500, 1492, 1480, 1450, 1420]),
        (1399, 1280, vec![1500, 1492, 1480, 1450, 1420, 1400, 1280]),
        (
            1100,
            1024,
            vec![1500, 1492, 1480, 1450, 1420, 1400, 1280, 1024],
        ),
    ] {
        let mut path = PathMtu::new(1500, false);
        assert_eq!(path.on_told(552, false, START), Told::Lowered);
        assert_eq!(search(&mut path, passes), tried, "{passes}");
        assert_eq!(path.mtu(), found);
    }
}

#[test]
fn a_search_that_found_less_than_the_ceiling_begins_anew_after_ten_minutes() {
    // RFC 8899 section 5.2: SEARCH_COMPLETE.
    let mut path = PathMtu::new(1500, true);
    assert_eq!(path.on_told(1400, false, START), Told::Lowered);
    assert_eq!(search(&mut path, 1450), [1500, 1492, 1480, 1450]);
    assert_eq!(path.next_probe(after(1200)), None);
    assert_eq!(path.next_probe(after(1320)), Some(1500));
}

#[test]
fn the_next_step_is_below_what_vanished() {
    // RFC 8899 section 4.3.
    for (size, mtu) in [
        (1500, 1400),
        (1400, 1280),
        (1341, 1280),
        (1280, 1024),
        (600, 552),
    ] {
        let mut path = PathMtu::new(1500, false);
        assert!(!path.on_vanished(size, START));
        assert!(path.on_vanished(size, START));
        assert_eq!(path.mtu(), mtu, "{size}");
    }
    let mut path = PathMtu::new(1500, false);
    for _ in 0..20 {
        assert!(!path.on_vanished(552, START));
    }
}

#[test]
fn after_a_black_hole_the_way_up_begins_in_ten_minutes_too() {
    // RFC 8899 section 5.2.
    let mut path = PathMtu::new(1500, false);
    assert!(!path.on_vanished(path.mtu(), START) && path.on_vanished(path.mtu(), START));
    assert_eq!(path.next_probe(after(600)), None);
    assert_eq!(search(&mut path, 1500), [1500]);
    assert_eq!(path.mtu(), 1500);
}

#[test]
fn a_size_is_refused_after_three_probes_and_not_two() {
    // RFC 8899 section 5.1.2: MAX_PROBES.
    let mut path = PathMtu::new(1500, false);
    assert_eq!(path.on_told(1400, false, START), Told::Lowered);
    for second in [601, 604, 607] {
        assert_eq!(path.next_probe(after(second)), Some(1500));
        path.on_probe_sent(1500);
        path.on_probed(Probed::Refused, after(second));
        assert_eq!(path.next_probe(after(second)), None);
    }
    assert_eq!(path.next_probe(after(610)), Some(1492));
}

#[test]
fn a_probe_that_says_nothing_is_repeated_and_not_counted() {
    // RFC 4821 section 7.6.3.
    let mut path = PathMtu::new(1500, false);
    assert_eq!(path.on_told(1400, false, START), Told::Lowered);
    for round in 0..10 {
        let now = after(601 + 3 * round);
        assert_eq!(path.next_probe(now), Some(1500));
        path.on_probe_sent(1500);
        path.on_probed(Probed::Unclear, now);
    }
}

#[test]
fn the_plateaus_are_taken_one_by_one() {
    // RFC 1191 section 7.
    let mut path = PathMtu::new(65_535, false);
    let mut sizes = Vec::new();
    while path.on_told(0, false, START) == Told::Lowered {
        sizes.push(path.mtu());
    }
    assert_eq!(
        sizes,
        [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, FLOOR_V4]
    );
}

#[test]
fn ipv6_has_no_plateaus_and_a_higher_floor() {
    // RFC 8201 section 4.
    let mut path = PathMtu::new(1500, true);
    assert_eq!(path.on_told(0, false, START), Told::TooSmall);
    assert_eq!(path.on_told(1279, false, START), Told::TooSmall);
    assert_eq!(path.on_told(u32::MAX, false, START), Told::NotSmaller);
    assert_eq!(path.on_told(1280, false, START), Told::Lowered);
}

#[test]
fn a_handshake_below_the_floor_is_left_alone() {
    let mut path = PathMtu::new(256, false);
    assert_eq!(path.on_told(0, false, START), Told::NotSmaller);
    assert_eq!(path.on_told(255, false, START), Told::TooSmall);
    for _ in 0..20 {
        assert!(!path.on_vanished(256, START));
    }
    assert_eq!(path.mtu(), 256);
}

#[test]
fn what_was_no_black_hole_is_undone_until_a_full_segment_passed() {
    let mut path = PathMtu::new(1500, false);
    assert!(!path.on_vanished(path.mtu(), START));
    assert!(path.on_vanished(path.mtu(), START));
    assert!(path.on_vanished(path.mtu(), START));
    assert_eq!(path.mtu(), 1280);
    path.on_spurious();
    assert_eq!(path.mtu(), 1500);
    assert!(!path.on_vanished(path.mtu(), START), "counted anew");
    assert!(path.on_vanished(path.mtu(), START));
    path.on_passed();
    path.on_spurious();
    assert_eq!(path.mtu(), 1400);
}

/// SplitMix64, so that a seed is all there is to a case.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn whatever_happens_the_size_stays_between_floor_and_ceiling() {
    for seed in 0..2000_u64 {
        let mut state = seed;
        let ipv6 = next(&mut state).is_multiple_of(2);
        let ceiling = u16::try_from(256 + next(&mut state) % 9000).expect("small");
        let mut path = PathMtu::new(ceiling, ipv6);
        let lowest = ceiling.min(if ipv6 { FLOOR_V6 } else { FLOOR_V4 });
        let mut second = 0;
        for step in 0..200 {
            second += next(&mut state) % 400;
            let now = after(second);
            match next(&mut state) % 6 {
                0 => {
                    let mtu = u32::try_from(next(&mut state) % 10_000).expect("small");
                    let before = path.mtu();
                    let told = path.on_told(mtu, next(&mut state).is_multiple_of(2), now);
                    assert_eq!(
                        path.mtu() < before,
                        told == Told::Lowered,
                        "seed {seed} step {step}"
                    );
                }
                1 => {
                    path.on_vanished(path.mtu(), now);
                }
                2 => path.on_passed(),
                3 => {
                    path.on_spurious();
                }
                _ => {
                    if let Some(size) = path.next_probe(now) {
                        assert!(
                            size > path.mtu() && size <= ceiling,
                            "seed {seed} step {step}: {size}"
                        );
                        path.on_probe_sent(size);
                    }
                    let fates = [Probed::Delivered, Probed::Refused, Probed::Unclear];
                    let fate = usize::try_from(next(&mut state) % 4).expect("small");
                    if let Some(fate) = fates.get(fate) {
                        path.on_probed(*fate, now);
                    }
                }
            }
            let mtu = path.mtu();
            assert!(
                (lowest..=ceiling).contains(&mtu),
                "seed {seed} step {step}: {mtu}"
            );
        }
    }
}
