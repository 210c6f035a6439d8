//! Files of the administrator, and paths without links.

use super::errno_text;
use super::files;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A file, and who may change it.
pub struct Read {
    /// Content.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Number of its owner.
    pub owner: u32,
    /// Whether it is an ordinary file.
    pub regular: bool,
    /// Whether its group or everybody may write to it.
    pub open_to_others: bool,
}

/// Reads a file of at most `cap` bytes, with facts about the very file that was read.
///
/// # Errors
/// The system's refusal, or a file above the cap; without `follow` `too many levels of symbolic
/// links` for a link as last element.
pub fn read(path: &Path, cap: u64, follow: bool) -> io::Result<Read> {
    let no_follow = if follow { 0 } else { libc::O_NOFOLLOW };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow | libc::O_NONBLOCK)
        .open(path)?;
    let facts = file.metadata()?;
    Ok(Read {
        owner: facts.uid(),
        regular: facts.is_file(),
        open_to_others: facts.mode() & 0o022 != 0,
        bytes: files::read_all(file, cap)?,
    })
}

/// Why what a file holds need not be this user's or the administrator's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// A pipe or a device: anybody may be at its other end.
    #[error("is no ordinary file")]
    NoOrdinaryFile,
    /// Another user owns it, or may write to it.
    #[error("can be changed by other users")]
    OpenToOthers,
}

/// Reads a file that nobody but this user and root can change; the very file that is looked at is
/// read. A folder is an error of the system.
///
/// # Errors
/// The system's refusal, or a file above the cap; `too many levels of symbolic links` for a link
/// as last element.
pub fn read_own(path: &Path, cap: u64) -> io::Result<Result<Zeroizing<Vec<u8>>, Distrust>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() && !facts.is_dir() {
        return Ok(Err(Distrust::NoOrdinaryFile));
    }
    let user = rustix::process::geteuid().as_raw();
    if facts.is_file() && (![0, user].contains(&facts.uid()) || facts.mode() & 0o022 != 0) {
        return Ok(Err(Distrust::OpenToOthers));
    }
    files::read_all(file, cap).map(Ok)
}

/// Makes a path absolute and free of links and of `.` and `..`.
///
/// # Errors
/// The system's sentence about the first element that cannot be looked at.
pub fn resolve(path: &Path) -> Result<PathBuf, String> {
    let error = match std::fs::canonicalize(path) {
        Ok(resolved) => return Ok(resolved),
        Err(error) => error,
    };
    let mut so_far = PathBuf::new();
    let mut elements = path.components();
    let first = elements.find_map(|element| {
        so_far.push(element);
        let missing = std::fs::metadata(&so_far).is_err();
        missing.then(|| so_far.clone())
    });
    let at = first.unwrap_or_else(|| path.to_owned());
    Err(format!("lstat {}: {}", at.display(), errno_text(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_go_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        for path in ["real", "link", "real/", "./real/../link"] {
            assert_eq!(resolve(&root.join(path)), Ok(root.join("real")), "{path}");
        }
        let gone = root.join("link/gone");
        let told = format!("lstat {}: no such file or directory", gone.display());
        assert_eq!(resolve(&gone.join("below")), Err(told));
    }

    #[test]
    fn facts_are_those_of_the_file_that_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"text").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&file, mode).unwrap();
            read(&file, 9, false).unwrap().open_to_others
        };
        assert_eq!(
            [0o644, 0o664, 0o602, 0o444].map(mode),
            [false, true, true, false]
        );
        assert!(read(&link, 9, false).is_err());
        assert_eq!(&*read(&link, 9, true).unwrap().bytes, b"text");
        assert!(read(&file, 3, false).is_err());
    }
}
