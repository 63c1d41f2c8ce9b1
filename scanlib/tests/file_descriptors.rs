//! A process without file descriptors. One test, because it takes them from the whole process.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::os::fd::AsRawFd;

use scanlib::report::Incomplete;
use scanlib::{Payload, Request};
use support::{MARKER, MARKER_NAME, builder, mail, zip};

fn limit_descriptors(limits: libc::rlimit) {
    // SAFETY: a pointer to a living struct.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) }, 0);
}

/// libclamav then unpacks nothing, returns "clean", and says so in its log alone.
#[test]
fn an_object_that_could_not_be_unpacked_for_want_of_descriptors_is_never_clean() {
    let mail = mail();
    let archive = zip([("mail".to_owned(), mail.as_slice())]);
    let mut usual = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: room for the answer.
    let code = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut usual) };
    assert_eq!(code, 0);

    for cache in [None, Some(1000)] {
        let (builder, _database) = builder();
        let engine = builder.clean_cache(cache).compile().unwrap();
        let look = |data| engine.scan(Payload::Bytes(data), &Request::new()).unwrap();
        let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;

        let mut errors = 0;
        for spare in 0..6 {
            limit_descriptors(libc::rlimit {
                rlim_cur: next + spare,
                ..usual
            });
            let scans = [look(&mail), look(&archive)];
            limit_descriptors(usual);
            for scan in scans {
                match scan.incomplete {
                    None => assert_eq!(scan.names, [MARKER_NAME], "{spare} spare"),
                    Some(Incomplete::EngineError { .. }) => errors += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(
            errors >= 2,
            "neither could be unpacked without a descriptor"
        );
        assert_eq!(look(MARKER).names, [MARKER_NAME]);
    }
}
