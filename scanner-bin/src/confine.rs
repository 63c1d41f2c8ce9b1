//! The rights that the service's main process gives up once its settings are read.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use scanlib::Confinement;

use crate::config::Config;

/// Lets this process write where its settings say and nowhere else, and be read by nobody. To be called before threads are started.
pub fn main_process(config: &Config) -> Confinement {
    let scan = &config.scan;
    let kept = [&scan.crash_journal, &scan.state_dir, &scan.wrong_dir];
    let kept: Vec<PathBuf> = kept.into_iter().flatten().cloned().collect();
    // What does not exist now could not be made later.
    kept.iter().for_each(|dir| make(dir));
    let temporary = match &scan.tmp_dir {
        Some(dir) => vec![dir.clone()],
        None => vec![PathBuf::from("/dev/shm"), std::env::temp_dir()],
    };
    scanlib::confine_process(
        kept.into_iter()
            .chain(temporary)
            .chain([PathBuf::from("/dev/null")]),
    )
}

/// As those make it that use it: for this user alone. They report a failure.
fn make(dir: &Path) {
    let _reported_by_its_user = DirBuilder::new().recursive(true).mode(0o700).create(dir);
}
