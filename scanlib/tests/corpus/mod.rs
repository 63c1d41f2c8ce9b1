//! Log messages published by others, where they are at hand.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;

/// The messages of a file of the corpus; `None`, said loudly, if it cannot be had.
pub(crate) fn messages(name: &str) -> Option<Vec<Vec<u8>>> {
    let root = std::env::var_os("SCANNER_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join("logs").join(name);
    if !path.exists() {
        eprintln!("left out: {} is not there", path.display());
        return None;
    }
    let output = match Command::new("zstd").arg("-dc").arg(&path).output() {
        Ok(output) if output.status.success() => output.stdout,
        other => {
            eprintln!("left out: zstd cannot unpack {}: {other:?}", path.display());
            return None;
        }
    };
    let lines = output
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty());
    Some(if name.contains(".jsonl") {
        lines.map(unwrap).collect()
    } else {
        lines.map(<[u8]>::to_vec).collect()
    })
}

/// The message in `{"src": …, "msg": …}`, or in base64 as `b64`.
fn unwrap(line: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_slice(line).expect("the corpus is valid JSON");
    match (value["msg"].as_str(), value["b64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("the corpus is valid base64"),
        (None, None) => panic!("neither msg nor b64"),
    }
}
