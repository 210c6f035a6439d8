//! The advisory lock of an image file.

use super::{Error, Wait};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time without a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock.
pub(super) fn exclusive(file: &File, path: &Path, wait: &mut Wait<'_>) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let operation = match wait {
            Wait::Silently => FlockOperation::LockExclusive,
            _ => FlockOperation::NonBlockingLockExclusive,
        };
        let tried = rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation));
        match (tried, &mut *wait) {
            (Ok(()), _) => return Ok(()),
            (Err(Errno::WOULDBLOCK), Wait::No) => return Err(Error::Busy(path.to_owned())),
            (Err(Errno::WOULDBLOCK), Wait::Telling(tell)) => {
                if begin.elapsed() < PATIENCE {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                tell();
                *wait = Wait::Silently;
            }
            (Err(error), _) => {
                return Err(Error::System {
                    what: "lock",
                    path: path.to_owned(),
                    source: error.into(),
                });
            }
        }
    }
}

/// Whether a path names this file.
pub(super) fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let there = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    let here = file.metadata()?;
    Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
}
