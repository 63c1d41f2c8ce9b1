//! What may be shared between threads, and what happens when it is.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use crate::support;

use scanlib::{
    CancelToken, Engine, EngineBuilder, EngineInfo, EngineScan, Library, Limits, LoadError,
    Payload, Request, ScanError, ScanOptions,
};
use support::{MARKER, MARKER_NAME, builder, zip};

// ---------------------------------------------------------------------------------------------
// The table: a change of any of these is a change of the interface.

/// Compiles only if exactly one of the two traits below applies, that is if the type is not `Sync`.
macro_rules! assert_not_sync {
    ($type:ty) => {
        const _: fn() = || {
            trait AmbiguousIfSync<A> {
                fn some_item() {}
            }
            impl<T: ?Sized> AmbiguousIfSync<()> for T {}
            #[allow(dead_code)]
            struct Sync;
            impl<T: ?Sized + std::marker::Sync> AmbiguousIfSync<Sync> for T {}
            let _ = <$type as AmbiguousIfSync<_>>::some_item;
        };
    };
}

const fn assert_send<T: Send + 'static>() {}
const fn assert_send_sync<T: Send + Sync + 'static>() {}
const fn assert_clone<T: Clone>() {}
const fn assert_copy<T: Copy>() {}

const _: () = {
    assert_copy::<Library>();
    assert_send_sync::<Library>();
    assert_send::<EngineBuilder>();
    assert_clone::<Engine>();
    assert_send_sync::<Engine>();
    assert_send_sync::<EngineInfo>();
    assert_send_sync::<EngineScan>();
    assert_copy::<Limits>();
    assert_send_sync::<Limits>();
    assert_copy::<ScanOptions>();
    assert_send_sync::<ScanOptions>();
    assert_clone::<CancelToken>();
    assert_send_sync::<CancelToken>();
    assert_copy::<Request<'static>>();
    assert_send_sync::<Request<'static>>();
    assert_copy::<Payload<'static>>();
    assert_send_sync::<Payload<'static>>();
    assert_send_sync::<LoadError>();
    assert_send_sync::<ScanError>();
};
assert_not_sync!(EngineBuilder);

// ---------------------------------------------------------------------------------------------

#[test]
fn the_library_is_initialised_once_by_whoever_comes_first() {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(Library::init)).collect();
        for thread in threads {
            let version = thread.join().unwrap().unwrap().version();
            assert!(version.functionality_level > 0 && !version.text.is_empty());
        }
    });
}

#[test]
fn many_threads_share_one_engine_and_each_gets_its_own_answer() {
    for cache in [None, Some(1000)] {
        let (builder, _database) = builder();
        let engine = builder.clean_cache(cache).compile().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let engine = engine.clone();
                scope.spawn(move || {
                    for n in 0..150 {
                        // The number keeps the cache from answering; the archive uses temporary files.
                        let text = format!("thread {thread}, line {n}, ");
                        let clean = text.clone().into_bytes();
                        let infected = [text.as_bytes(), MARKER].concat();
                        let archive =
                            zip([("a".to_owned(), clean.as_slice()), ("b".to_owned(), MARKER)]);
                        let (data, names) = match n % 3 {
                            0 => (clean, vec![]),
                            1 => (infected, vec![MARKER_NAME.to_owned()]),
                            _ => (archive, vec![MARKER_NAME.to_owned()]),
                        };
                        let scan = engine.scan(Payload::Bytes(&data), &Request::new()).unwrap();
                        assert_eq!((scan.names, scan.incomplete), (names, None), "{thread} {n}");
                    }
                });
            }
        });
    }
}

#[test]
fn engines_are_built_and_dropped_while_others_scan() {
    let (first, _database) = builder();
    let engine = first.compile().unwrap();
    std::thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            for _ in 0..500 {
                let scan = engine
                    .scan(Payload::Bytes(MARKER), &Request::new())
                    .unwrap();
                assert_eq!(scan.names, [MARKER_NAME]);
            }
        });
        while !scanning.is_finished() {
            let (other, _database) = builder();
            let other = other.compile().unwrap();
            assert_eq!(
                other
                    .scan(Payload::Bytes(MARKER), &Request::new())
                    .unwrap()
                    .names,
                [MARKER_NAME]
            );
        }
    });
}

/// The last clone decides, wherever it is.
#[test]
fn the_private_directory_goes_with_the_last_clone() {
    let (builder, _database) = builder();
    let engine = builder.compile().unwrap();
    let tmp = engine.info().tmp_dir.clone();
    let clone = engine.clone();
    drop(engine);
    assert!(tmp.is_dir());
    std::thread::spawn(move || drop(clone)).join().unwrap();
    assert!(!tmp.exists());
}
