//! Memory of the caller that is written where it lies.

use super::*;
use crate::Loan;

#[derive(Debug)]
struct Lent(Vec<Vec<u8>>);

impl Loan for Lent {
    fn piece(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).map(Vec::as_slice)
    }
}

/// A loan of `bytes` in pieces of 1,000.
fn loan_of(bytes: &[u8]) -> Box<dyn Loan> {
    Box::new(Lent(bytes.chunks(1000).map(<[u8]>::to_vec).collect()))
}

fn rig(loans: usize) -> Rig {
    rig_with(16, UploadLimits { loans, ..LIMITS })
}

/// Loans until `count` are back.
fn wait_for_loans(rig: &mut Rig, count: usize) {
    let mut back = 0;
    while back < count {
        match rig.disk.take_loan() {
            Some(_) => back += 1,
            None => rig.wait(),
        }
    }
    assert!(rig.disk.take_loan().is_none());
}

#[test]
fn loans_and_blocks_are_one_file_and_the_loans_come_back() {
    let mut rig = rig(4);
    let bytes = content(3, 3 * BLOCK_BYTES + 12_345);
    let upload = rig
        .begin("mixed", &UploadOptions::default())
        .expect("a slot");
    let (first, rest) = bytes.split_at(BLOCK_BYTES);
    let (second, third) = rest.split_at(40_000);
    rig.send(&upload, first, 0);
    let at = BLOCK_BYTES_U64;
    assert!(rig.disk.submit_loan(&upload, loan_of(second), at).is_ok());
    rig.send(&upload, &third[30_000..], at + 70_000);
    let last = loan_of(&third[..30_000]);
    assert!(rig.disk.submit_loan(&upload, last, at + 40_000).is_ok());
    rig.finish(upload, bytes.len() as u64).expect("published");
    wait_for_loans(&mut rig, 2);
    let stored = fs::read(rig.dir.path().join("mixed")).expect("a file");
    assert!(stored == bytes);
    assert_eq!(rig.disk.counters().bytes_uploaded, bytes.len() as u64);
}

#[test]
fn loans_of_an_upload_that_ends_come_back_unwritten() {
    let mut rig = rig(4);
    rig.disk.helpers.gate().set_closed(true);
    let upload = rig
        .begin("gone", &UploadOptions::default())
        .expect("a slot");
    for n in 0..3 {
        let loan = loan_of(&[7; 5000]);
        assert!(rig.disk.submit_loan(&upload, loan, n * 5000).is_ok());
    }
    rig.disk.end_upload(upload);
    wait_for_loans(&mut rig, 3);
    assert_eq!(rig.disk.ledger().uploads, 1, "its file is being made");
    rig.disk.helpers.gate().set_closed(false);
    rig.poll_until("the slot is free", |rig| rig.disk.ledger().uploads == 0);
}

#[test]
fn uploads_have_equal_shares_of_the_loans() {
    let mut rig = rig(4);
    rig.disk.helpers.gate().set_closed(true);
    let options = UploadOptions::default();
    let first = rig.begin("first", &options).expect("a slot");
    let second = rig.begin("second", &options).expect("a slot");
    for n in 0..2 {
        assert!(rig.disk.takes_loan(&first));
        let loan = loan_of(&[1; 10]);
        assert!(rig.disk.submit_loan(&first, loan, n * 10).is_ok());
    }
    assert!(!rig.disk.takes_loan(&first) && rig.disk.takes_loan(&second));
    assert!(rig.disk.submit_loan(&first, loan_of(b"x"), 20).is_err());
    rig.disk.helpers.gate().set_closed(false);
    wait_for_loans(&mut rig, 2);
    assert!(rig.disk.takes_loan(&first));
    rig.disk.end_upload(first);
    rig.disk.end_upload(second);
    rig.poll_until("the slots are free", |rig| rig.disk.ledger().uploads == 0);
}

#[test]
fn a_loan_of_nothing_or_of_too_many_pieces_is_not_taken() {
    let mut rig = rig(4);
    let upload = rig.begin("a", &UploadOptions::default()).expect("a slot");
    assert!(rig.disk.submit_loan(&upload, loan_of(b""), 0).is_err());
    let most = loan_of(&vec![0; 288_000]);
    let more = loan_of(&vec![0; 288_001]);
    assert!(rig.disk.submit_loan(&upload, more, 0).is_err());
    assert!(rig.disk.submit_loan(&upload, most, 0).is_ok());
    rig.finish(upload, 288_000).expect("published");
    wait_for_loans(&mut rig, 1);
}

/// An upload of which ten bytes are written already.
fn under_way(rig: &mut Rig) -> UploadHandle {
    let upload = rig
        .begin("file", &UploadOptions::default())
        .expect("a slot");
    rig.send(&upload, &[1; 10], 0);
    while rig.disk.upload_blocks(&upload) > 0 {
        rig.wait();
    }
    upload
}

/// Ends a turn that others follow at once, and takes the loan that is written because of it.
fn comes_back_of_a_busy_turn(rig: &mut Rig) {
    rig.disk.end_turn(true);
    assert!(rig.is_awake(PATIENCE), "it waits for more");
    rig.disk.poll();
    assert!(rig.disk.take_loan().is_some());
}

#[test]
fn an_upload_with_all_its_loans_does_not_wait_for_more_of_them() {
    let mut rig = rig(1);
    let upload = under_way(&mut rig);
    assert!(rig.disk.submit_loan(&upload, loan_of(&[2; 20]), 10).is_ok());
    comes_back_of_a_busy_turn(&mut rig);
    rig.finish(upload, 30).expect("published");
}

#[test]
fn an_upload_that_waits_for_its_blocks_does_not_wait_for_longer_writes() {
    let mut rig = rig(4);
    let upload = under_way(&mut rig);
    assert!(rig.disk.submit_loan(&upload, loan_of(&[2; 20]), 10).is_ok());
    rig.disk.end_turn(true);
    assert!(!rig.disk.poll(), "a few pieces wait for more");
    rig.disk.hurry_uploads();
    comes_back_of_a_busy_turn(&mut rig);
    rig.finish(upload, 30).expect("published");
}
