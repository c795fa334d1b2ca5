//! Uploads that count only if the name is free, taken, or still the version that was read.

use super::*;
use crate::upload::Precondition;

fn given(precondition: Precondition) -> UploadOptions {
    UploadOptions {
        precondition,
        ..UploadOptions::default()
    }
}

#[test]
fn a_new_file_is_not_made_over_one_that_appeared_meanwhile() {
    on_both(|rig| {
        let create = given(Precondition::Absent);
        let upload = rig.begin("file", &create).expect("begun");
        let state = rig.state_after(&upload, UploadState::Opening);
        assert_eq!(state, UploadState::Writing);
        rig.write("file", 1, 10);
        rig.send(&upload, b"new", 0);
        assert_eq!(rig.finish(upload, 3), Err(UploadError::Exists));
        assert_eq!(
            fs::read(rig.path("file")).expect("the file"),
            content(1, 10)
        );
        // And where it is there from the start, one need not send.
        let upload = rig.begin("file", &create).expect("begun");
        let state = rig.state_after(&upload, UploadState::Opening);
        assert_eq!(state, UploadState::Failed(UploadError::Exists));
        assert!(matches!(rig.disk.upload_block(&upload), TakeBlock::Closed));
        rig.disk.end_upload(upload);
        assert_eq!(
            rig.put_as("new", b"new", &create).map(|new| new.created),
            Ok(true)
        );
        assert_eq!(rig.disk.counters().uploads_failed, 2);
    });
}

#[test]
fn only_the_expected_version_is_replaced() {
    on_both(|rig| {
        let first = rig.put("file", b"one").expect("published").meta;
        let replace_first = given(Precondition::Version(first));
        let late = rig.begin("file", &replace_first).expect("begun");
        rig.state_after(&late, UploadState::Opening);
        let second = rig.put_as("file", b"two", &replace_first);
        assert_eq!(second.map(|second| second.created), Ok(false));
        assert_eq!(rig.finish(late, 0), Err(UploadError::Changed));
        let too_late = rig.put_as("file", b"six", &replace_first);
        assert_eq!(too_late, Err(UploadError::Changed));
        assert_eq!(fs::read(rig.path("file")).expect("the file"), b"two");
    });
}

#[test]
fn a_file_that_must_be_there_is_not_created() {
    on_both(|rig| {
        let present = given(Precondition::Present);
        assert_eq!(
            rig.put_as("file", b"x", &present),
            Err(UploadError::Changed)
        );
        rig.write("file", 1, 10);
        let replaced = rig.put_as("file", b"x", &present);
        assert_eq!(replaced.map(|replaced| replaced.created), Ok(false));
        let upload = rig.begin("file", &present).expect("begun");
        rig.state_after(&upload, UploadState::Opening);
        fs::remove_file(rig.path("file")).expect("removed");
        assert_eq!(rig.finish(upload, 0), Err(UploadError::Changed));
    });
}
