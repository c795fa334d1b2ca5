//! Roots that cannot be read.

use rustix::io::Errno;

use super::*;

#[test]
fn a_root_that_cannot_be_read() {
    let denied = |errno| {
        judged("", move |facts| {
            facts.roots = vec![Err(("/srv".into(), errno))];
        })
    };
    assert_eq!(
        failures(&denied(Errno::ACCESS)),
        [
            "root /srv/files is unreadable: uid 998 may not read or enter /srv -> `chmod o+rx /srv`, \
          or `setfacl -m u:998:rx /srv`; check ProtectHome= of the unit"
        ]
    );
    assert_eq!(
        failures(&denied(Errno::NOENT)),
        [
            "root /srv/files is unreadable: /srv does not exist -> create it, or correct site.root or --root"
        ]
    );
}
