//! How many uploads there are at once, how many blocks they hold, and who hears of one that comes back.

use super::*;

#[test]
fn more_uploads_than_slots_are_refused_until_one_ends() {
    let mut rig = rig_with(4, LIMITS);
    let options = UploadOptions::default();
    let uploads: Vec<UploadHandle> = (0..3)
        .map(|number| rig.begin(&number.to_string(), &options).expect("begun"))
        .collect();
    assert_eq!(rig.begin("more", &options), Err(UploadError::TooMany));
    for upload in uploads {
        rig.disk.end_upload(upload);
    }
    rig.poll_until("the slots are free", |rig| rig.disk.ledger().uploads == 0);
    rig.put("more", b"x").expect("published");
    let mut rig = rig_with(4, UploadLimits::NONE);
    assert_eq!(rig.begin("more", &options), Err(UploadError::TooMany));
}

#[test]
fn uploads_hold_no_more_blocks_than_their_share() {
    let mut rig = rig_with(10, LIMITS);
    let options = UploadOptions::default();
    let uploads: Vec<UploadHandle> = (0..3)
        .map(|number| rig.begin(&number.to_string(), &options).expect("begun"))
        .collect();
    let mut blocks = Vec::new();
    for upload in &uploads {
        while let TakeBlock::Taken(block) = rig.disk.upload_block(upload) {
            blocks.push(block);
        }
    }
    // Four for the first, and half of ten for all.
    let ledger = rig.disk.ledger();
    assert_eq!((blocks.len(), ledger.uploading), (5, 5));
    assert!(ledger.balanced());
    assert_eq!(rig.disk.counters().upload_no_block, 3);
    for block in blocks {
        rig.disk.return_block(block);
    }
    for upload in uploads {
        rig.disk.end_upload(upload);
    }
}

#[test]
fn whoever_got_no_block_hears_of_every_way_one_comes_back() {
    let one_each = UploadLimits {
        blocks_each: 1,
        loans: 0,
        ..LIMITS
    };
    let mut rig = rig_with(2, one_each);
    rig.write("file", 1, 2 * BLOCK_BYTES);
    let upload = rig.begin("new", &UploadOptions::default()).expect("begun");
    rig.state_after(&upload, UploadState::Opening);
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("all are free");
    };
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    assert!(!rig.disk.poll(), "nothing has changed");
    // Written, returned, and released by a reader.
    rig.disk.submit(block, 0, 10);
    rig.wait();
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("it was written");
    };
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    rig.disk.return_block(block);
    rig.wait();
    let file = rig.open("file");
    let readers = [rig.fetch(&file, 0), rig.fetch(&file, 1)];
    assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::NoBlock));
    for block in readers {
        rig.disk.release(block);
    }
    rig.wait();
    // And the other way round: a reader hears of a block that an upload returns.
    let TakeBlock::Taken(block) = rig.disk.upload_block(&upload) else {
        panic!("both are cached only");
    };
    let reader = rig.fetch(&file, 1);
    assert!(matches!(rig.disk.fetch(&file, 0), Fetch::NoBlock));
    rig.disk.return_block(block);
    rig.wait();
    let other = rig.fetch(&file, 0);
    rig.disk.release(other);
    rig.disk.release(reader);
    rig.disk.close(file);
    rig.disk.end_upload(upload);
}

#[test]
fn sizes_of_uploads_of_zero_are_refused() {
    for bad in [
        UploadLimits {
            threads: 0,
            ..LIMITS
        },
        UploadLimits {
            blocks: 0,
            ..LIMITS
        },
        UploadLimits {
            blocks_each: 0,
            loans: 0,
            ..LIMITS
        },
    ] {
        let config = DiskConfig {
            uploads: bad,
            ..config_of_one()
        };
        let error = Disk::anonymous(BLOCK_BYTES, &config).expect_err("not a usable size");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
    }
}
