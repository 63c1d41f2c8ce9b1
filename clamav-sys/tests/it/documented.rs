//! The declarations that documentation is built from are those that bindgen makes.

use std::fs;
use std::path::Path;

/// All but what differs between patch versions of libclamav and between versions of bindgen.
fn declarations(text: &str) -> Vec<&str> {
    let is_same = |line: &&str| {
        !line.starts_with("/* automatically generated") && !line.contains("CLAMAV_VERSION")
    };
    text.lines().filter(is_same).collect()
}

/// `cp target/debug/build/libclamav-sys-*/out/bindings.rs clamav-sys/documented.rs` brings them up to date.
#[test]
fn the_declarations_for_documentation_are_those_of_bindgen() {
    if clamav_sys::FAMILY != (1, 4) || !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        println!(
            "left out: the declarations for documentation are those of libclamav 1.4 on x86_64"
        );
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = fs::read_to_string(root.join("documented.rs")).unwrap();
    let made = fs::read_to_string(Path::new(env!("OUT_DIR")).join("bindings.rs")).unwrap();
    let (kept, made) = (declarations(&kept), declarations(&made));
    assert!(made.len() > 100, "bindgen made {} lines", made.len());
    let differ = kept.iter().zip(&made).position(|(kept, made)| kept != made);
    assert_eq!(
        differ.map(|line| (kept[line], made[line])),
        None,
        "documented.rs (left) and bindgen (right) differ"
    );
    assert_eq!(kept.len(), made.len());
}
