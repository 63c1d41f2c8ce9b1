//! What the tests of libclamav share: samples, directories on tmpfs, and engines.
#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::unwrap_used
)]

pub mod raw;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use scanlib::{EngineBuilder, Library};
use tempfile::TempDir;

/// Test data too large for the repository: below `$SCANNER_TEST_DATA`, else `../shared/data` beside the workspace. `None`, which has
/// been said: whatever needs it is left out.
pub fn data(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SCANNER_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "left out: what needs {} (set SCANNER_TEST_DATA)",
        path.display()
    );
    None
}

/// The EICAR test string, put together at run time so that no scanner mistakes this program for it.
pub fn eicar() -> Vec<u8> {
    [
        "X5O!P%@AP[4\\PZX54(P^)7CC)7}$",
        "EICAR-STANDARD-ANTIVIRUS-TEST-FILE",
        "!$H+H*",
    ]
    .concat()
    .into_bytes()
}

/// What the signatures of [`signatures`] look for.
pub const MARKER: &[u8] = b"a-marker-that-occurs-nowhere-else";
pub const OTHER_MARKER: &[u8] = b"another-marker-that-occurs-nowhere-else";
/// Their names, as libclamav gives them.
pub const MARKER_NAME: &str = "Test.Marker.UNOFFICIAL";
pub const OTHER_MARKER_NAME: &str = "Test.OtherMarker.UNOFFICIAL";

/// Two signatures at any offset of any type.
pub fn signatures() -> String {
    format!(
        "Test.Marker:0:*:{}\nTest.OtherMarker:0:*:{}\n",
        hex(MARKER),
        hex(OTHER_MARKER)
    )
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A directory in memory, where there is one.
pub fn memory_dir() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        TempDir::new_in(shared)
    } else {
        TempDir::new()
    }
    .unwrap()
}

/// A builder with our two signatures; keep the directory until it is compiled.
pub fn builder() -> (EngineBuilder, TempDir) {
    let dir = memory_dir();
    fs::write(dir.path().join("test.ndb"), signatures()).unwrap();
    let builder = EngineBuilder::new(Library::init().unwrap())
        .unwrap()
        .database(dir.path())
        .unwrap();
    (builder, dir)
}

/// A zip archive of stored members.
pub fn zip<'m>(members: impl IntoIterator<Item = (String, &'m [u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut directory = Vec::new();
    let mut count = 0u16;
    for (name, data) in members {
        let offset = body.len() as u32;
        // Version, flags, method (stored), time, date, checksum, both lengths, lengths of name and extra field.
        let mut header = Vec::new();
        for field in [20u16, 0, 0, 0, 0x21] {
            header.extend(field.to_le_bytes());
        }
        header.extend(crc32(data).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend(0u16.to_le_bytes());

        body.extend(b"PK\x03\x04");
        body.extend(&header);
        body.extend(name.as_bytes());
        body.extend(data);

        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&header);
        // Comment length, disk, internal and external attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
        count += 1;
    }
    let start = body.len() as u32;
    let length = directory.len() as u32;
    body.extend(directory);
    body.extend(b"PK\x05\x06\0\0\0\0");
    body.extend(count.to_le_bytes());
    body.extend(count.to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(start.to_le_bytes());
    body.extend([0, 0]);
    body
}

/// A mail whose attachment is infected, which libclamav unpacks to a temporary file.
pub fn mail() -> Vec<u8> {
    let encoded = "YS1tYXJrZXItdGhhdC1vY2N1cnMtbm93aGVyZS1lbHNl";
    format!(
        "From: a\nTo: b\nSubject: c\nMIME-Version: 1.0\nContent-Type: application/octet-stream\n\
         Content-Transfer-Encoding: base64\n\n{encoded}\n"
    )
    .into_bytes()
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A file system in memory of our own, unmounted on drop.
pub struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// `None`, said loudly, where this process may not mount.
    pub fn tmpfs(options: &str) -> Option<Mounted> {
        let dir = memory_dir();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Mounted { dir }),
            Ok(output) => {
                eprintln!(
                    "left out: mount: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("left out: mount: {error}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Leaves not a byte.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut size = 1 << 20;
        let mut content = Vec::new();
        while size > 0 {
            content.resize(content.len() + size, b'x');
            if fs::write(&path, &content).is_err() {
                content.truncate(content.len() - size);
                size /= 2;
            }
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.path().display()
        );
    }
}
