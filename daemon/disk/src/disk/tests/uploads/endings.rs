//! Uploads that end before they are published, and leave nothing.

use super::*;

#[test]
fn an_upload_given_up_leaves_nothing_whatever_it_was_doing() {
    on_both(|rig| {
        let old = rig.write("file", 1, 10);
        // Not opened yet, written to, with a block with the caller, and told to finish but not done.
        for moment in 0..4 {
            rig.disk.helpers.gate().set_closed(moment != 1);
            let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
            if moment == 1 {
                rig.state_after(&upload, UploadState::Opening);
                rig.disk.helpers.gate().set_closed(true);
            }
            let held = (moment >= 2).then(|| rig.disk.upload_block(&upload));
            if moment > 0 {
                rig.send(&upload, &content(2, 2 * BLOCK_BYTES), 0);
            }
            if moment == 3 {
                rig.disk.finish_upload(&upload, 5);
            }
            rig.disk.end_upload(upload);
            assert_eq!(
                rig.disk.ledger().uploads,
                1,
                "not before its helper is done"
            );
            rig.disk.helpers.gate().set_closed(false);
            if let Some(TakeBlock::Taken(block)) = held {
                rig.disk.return_block(block);
            }
            rig.poll_until("the upload is cleared away", |rig| {
                rig.disk.ledger().at_rest()
            });
            assert_eq!(fs::read(rig.path("file")).expect("the file"), old);
            assert_eq!(rig.temporary_names(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_disk_that_goes_takes_its_uploads_along() {
    for closed in [true, false] {
        let mut rig = rig_with(16, LIMITS);
        rig.disk.uploads.without_tmpfile();
        let uploads: Vec<UploadHandle> = (0..3)
            .map(|_| rig.begin("file", &UploadOptions::default()).expect("begun"))
            .collect();
        rig.state_after(&uploads[0], UploadState::Opening);
        rig.disk.helpers.gate().set_closed(closed);
        for upload in uploads {
            rig.send(&upload, &content(1, BLOCK_BYTES), 0);
            let _lost = rig.disk.upload_block(&upload);
        }
        let gate_opener = std::thread::scope(|scope| {
            let disk = std::mem::replace(
                &mut rig.disk,
                Disk::anonymous(BLOCK_BYTES, &config_of_one()).expect("a disk"),
            );
            disk.helpers.gate().set_closed(false);
            scope.spawn(move || drop(disk)).join()
        });
        gate_opener.expect("it goes");
        assert_eq!(rig.temporary_names(), Vec::<String>::new());
    }
}

#[test]
fn a_failed_write_ends_the_upload_and_takes_no_further_blocks() {
    on_both(|rig| {
        let upload = rig.begin("file", &UploadOptions::default()).expect("begun");
        let held = rig.disk.upload_block(&upload);
        rig.send(&upload, b"x", u64::MAX);
        let error = UploadError::TooLarge;
        while rig.disk.upload_state(&upload) != UploadState::Failed(error) {
            rig.wait();
        }
        if let TakeBlock::Taken(block) = held {
            rig.disk.submit(block, 0, 1);
        }
        assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::Closed));
        assert_eq!(rig.disk.ledger().uploading, 0);
        assert_eq!(rig.finish(upload, 1), Err(error));
        assert!(!rig.path("file").exists());
    });
}
