//! Kicks and what the kernel answers to them; completions that are late or never come.

use sluice_afxdp::Kick;

use crate::bed::{assert_settled, pair, send};

#[test]
fn every_answer_to_a_kick_is_counted_by_its_kind() {
    let (mut queue, mut nic) = pair();
    assert!(send(&mut queue, &[1; 60], false));
    let answers = [
        (libc::EAGAIN, Kick::Again),
        (libc::EBUSY, Kick::FrameLost),
        (libc::ENOBUFS, Kick::NoMemory),
        (libc::ENETDOWN, Kick::Down),
        (libc::ENXIO, Kick::Gone),
        (libc::EINVAL, Kick::Wedged(libc::EINVAL)),
    ];
    for (errno, kick) in answers {
        nic.fail_next_kick(errno);
        assert_eq!(queue.kick(), kick);
    }
    nic.stall(true);
    assert_eq!(queue.kick(), Kick::Again);
    nic.stall(false);
    assert_eq!(queue.kick(), Kick::Done);
    let counters = *queue.counters();
    assert_eq!(counters.kicks, 8);
    assert_eq!(counters.kicks_again, 2);
    assert_eq!(counters.kicks_frame_lost, 1);
    assert_eq!(counters.kicks_no_memory, 1);
    assert_eq!(counters.kicks_down, 2);
    assert_eq!(counters.kicks_wedged, 1);
    assert_settled(queue, nic);
}

#[test]
fn a_nic_that_polls_needs_no_kick() {
    let (mut queue, mut nic) = pair();
    nic.need_wakeup(false);
    assert!(send(&mut queue, &[1; 60], false));
    assert_eq!(queue.kick(), Kick::Done);
    assert_eq!(nic.kicks(), 0);
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 1);
    assert_settled(queue, nic);
}

#[test]
fn a_lost_completion_stays_in_the_ledger_as_in_flight() {
    let (mut queue, mut nic) = pair();
    nic.drop_completions(1);
    assert!(send(&mut queue, &[1; 60], false));
    assert!(send(&mut queue, &[1; 60], false));
    let _ = queue.kick();
    nic.transmit(u32::MAX, |_, _| {});
    assert_eq!(queue.reap(), 1);
    let ledger = queue.ledger();
    assert_eq!(ledger.tx_in_flight, 1);
    assert!(ledger.balanced() && !ledger.at_rest());
}

#[test]
fn held_completions_come_back_in_order_when_the_hardware_is_done() {
    let (mut queue, mut nic) = pair();
    nic.hold_completions(true);
    for _ in 0..4 {
        assert!(send(&mut queue, &[1; 60], false));
    }
    let _ = queue.kick();
    assert_eq!(nic.transmit(u32::MAX, |_, _| {}), 4);
    assert_eq!(queue.reap(), 0);
    assert_eq!(nic.complete(3), 3);
    assert_eq!(queue.reap(), 3);
    assert_eq!(queue.ledger().tx_in_flight, 1);
    assert_settled(queue, nic);
}
