//! tmp
use scanlib::*;
#[test]
fn eicar() {
    let e = EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .builtin_signatures()
        .unwrap()
        .compile()
        .unwrap();
    eprintln!("{:?}", e.info());
    let eicar: String = [
        "X5O!P%@AP[4\\PZX54(P^)7CC)7}$",
        "EICAR-STANDARD-ANTIVIRUS-TEST-FILE",
        "!$H+H*",
    ]
    .concat();
    let line = format!("<13>Oct 11 22:14:15 host app: {eicar}");
    eprintln!(
        "{:?}",
        e.scan(Payload::Bytes(line.as_bytes()), &Request::new())
    );
    eprintln!(
        "{:?}",
        e.scan(
            Payload::Bytes(b"hello world"),
            &Request::new().name(&"x".repeat(300))
        )
    );
    eprintln!(
        "{:?}",
        e.scan(Payload::Bytes(b"ID3 hello world"), &Request::new())
    );
    eprintln!(
        "{:?}",
        e.scan(
            Payload::Path(std::path::Path::new("/proc/self/status")),
            &Request::new()
        )
    );
    eprintln!(
        "{:?}",
        e.scan(
            Payload::Path(std::path::Path::new("/bin/ls")),
            &Request::new()
        )
    );
    std::fs::remove_dir_all(&e.info().tmp_dir).unwrap();
    eprintln!(
        "{:?}",
        e.scan(Payload::Bytes(line.as_bytes()), &Request::new())
    );
}
