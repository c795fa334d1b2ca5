//! The queue and its twin on a thread each.

use sluice_afxdp::{Queue, RxBatch};

use crate::bed::{assert_settled, pair, pattern, send};

#[test]
fn queue_and_nic_work_from_two_threads() {
    const PACKETS: usize = 20_000;
    let (mut queue, mut nic) = pair();
    let kernel = std::thread::spawn(move || {
        let (mut injected, mut echoed) = (0, 0);
        while echoed < PACKETS {
            if injected < PACKETS && nic.inject(&pattern(injected, 100 + injected % 5000)) {
                injected += 1;
            }
            nic.transmit(8, |pieces, _| {
                assert_eq!(pieces.concat(), pattern(echoed, 100 + echoed % 5000));
                echoed += 1;
            });
        }
        nic
    });
    let mut batch = RxBatch::with_capacity(32);
    while !kernel.is_finished() {
        queue.reap();
        // Room for everything the batch may hold, so that nothing has to wait.
        if queue.tx_slots() == 32 && queue.receive(&mut batch) > 0 {
            echo(&mut queue, &batch);
            queue.recycle(&mut batch);
        }
        let _ = queue.kick();
    }
    let nic = kernel
        .join()
        .expect("every packet comes back as it was sent");
    assert_settled(queue, nic);
}

fn echo(queue: &mut Queue, batch: &RxBatch) {
    for packet in batch.packets() {
        for piece in packet.frames() {
            assert!(send(queue, piece.bytes(), !piece.is_last()));
        }
    }
}
