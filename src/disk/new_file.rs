//! A large file that gets its name when it is whole.
//!
//! Where the file system allows it the file has no name at all before, so that nothing is left of
//! it however the program ends. Elsewhere (NFS) it has a name: a signal that ends the program
//! removes it, and after a kill the next one of its kind sweeps it away.

use super::errno_text;
use super::map::Doomed;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// An open file, for those who must not open one.
pub type Handle = File;

/// Names of files that are not whole.
const TEMPORARY: &str = ".sigsif-pull-";
/// Mode less the umask: the originals make images executable.
const MODE: u32 = 0o755;

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has the name already.
    #[error("Image file already exists: {0:?} - will not overwrite")]
    Exists(PathBuf),
    /// What has the name is no file.
    #[error("{0:?} is not a regular file")]
    NotAFile(PathBuf),
    /// The system's refusal.
    #[error("{what} {}: {}", path.display(), errno_text(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A file without its name.
pub struct NewFile {
    path: PathBuf,
    overwrite: bool,
    file: File,
    /// Its other name, where there has to be one.
    named: Option<TempPath>,
    /// Removes that name at a signal.
    doomed: Option<Doomed>,
}

impl NewFile {
    /// Begins a file beside the name that it gets.
    ///
    /// # Errors
    /// [`Error::Exists`] unless `overwrite`, or as [`Error`] says.
    pub fn begin(path: &Path, overwrite: bool) -> Result<Self, Error> {
        check(path, overwrite)?;
        let folder = folder_of(path);
        sweep(folder);
        let fail = |source| Error::System {
            what: "open",
            path: path.to_owned(),
            source,
        };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let nameless = rustix::fs::open(folder, flags, Mode::from_raw_mode(MODE)).map(File::from);
        let (file, named) = match nameless {
            Ok(file) if name_in_proc(&file).exists() => (file, None),
            Ok(_) | Err(_) => {
                let named = tempfile::Builder::new()
                    .prefix(TEMPORARY)
                    .permissions(PermissionsExt::from_mode(MODE))
                    .tempfile_in(folder)
                    .map_err(|error| fail(plain(error)))?;
                let (file, named) = NamedTempFile::into_parts(named);
                (file, Some(named))
            }
        };
        let doomed = named.as_deref().and_then(Doomed::new);
        // Whoever sweeps leaves it alone as long as we live.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(Self {
            path: path.to_owned(),
            overwrite,
            file,
            named,
            doomed,
        })
    }

    /// A path that leads to the file while it does not have its name: to this very file, whatever
    /// others do in the folder.
    pub fn path_now(&self) -> PathBuf {
        let own = name_in_proc(&self.file);
        match &self.named {
            Some(named) if !own.exists() => named.to_path_buf(),
            _ => own,
        }
    }

    /// The file, to be written at any position.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes sure that there is room for `len` bytes, where the file system can say that.
    ///
    /// # Errors
    /// The disk is full.
    pub fn reserve(&self, len: u64) -> Result<(), Error> {
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, 0, len) {
            Err(full @ rustix::io::Errno::NOSPC) => Err(self.failed("write", full.into())),
            _ => Ok(()),
        }
    }

    /// An error about writing to it.
    pub fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::System {
            what,
            path: self.path.clone(),
            source,
        }
    }

    /// Ends the file behind its last byte: reserved room and leftovers go.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn set_len(&self, len: u64) -> Result<(), Error> {
        self.file
            .set_len(len)
            .map_err(|error| self.failed("write", error))
    }

    /// Gives the file its name, in one step and for good.
    ///
    /// # Errors
    /// [`Error::Exists`] if somebody else was faster, or the system's refusal; then what had the
    /// name still has it.
    pub fn publish(self) -> Result<(), Error> {
        let fail = |source| Error::System {
            what: "write",
            path: self.path.clone(),
            source,
        };
        self.file.sync_all().map_err(fail)?;
        check(&self.path, self.overwrite)?;
        let taken = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(self.path.clone()),
            _ => fail(source),
        };
        let folder = folder_of(&self.path);
        match (self.named, self.overwrite) {
            (None, false) => link(&self.file, &self.path).map_err(taken)?,
            (None, true) => {
                let beside = folder.join(format!(
                    "{TEMPORARY}{}-{}",
                    std::process::id(),
                    self.file.as_raw_fd()
                ));
                // One of a dead process with our number.
                let _ = std::fs::remove_file(&beside);
                link(&self.file, &beside).map_err(fail)?;
                let temporary = TempPath::try_from_path(&beside).map_err(fail)?;
                temporary
                    .persist(&self.path)
                    .map_err(|error| fail(error.error))?;
            }
            (Some(named), true) => named
                .persist(&self.path)
                .map_err(|error| fail(error.error))?,
            (Some(named), false) => named
                .persist_noclobber(&self.path)
                .map_err(|error| taken(error.error))?,
        }
        // The name is the right one now.
        drop(self.doomed);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fail)
    }
}

/// A file without a name for what is needed only meanwhile, in `folder` or beside `path`.
///
/// # Errors
/// The system's refusal.
pub fn scratch(folder: Option<&Path>, path: &Path) -> Result<File, Error> {
    let folder = folder.unwrap_or_else(|| folder_of(path));
    tempfile::tempfile_in(folder).map_err(|source| Error::System {
        what: "open",
        path: folder.to_owned(),
        source: plain(source),
    })
}

/// Reads `len` bytes of a file from a position on, whatever else is done with the file.
///
/// # Errors
/// The system's refusal.
pub fn reader(file: &File, at: u64, len: u64) -> io::Result<impl io::Read + Send + use<>> {
    Ok(Part {
        file: file.try_clone()?,
        at,
        end: at.saturating_add(len),
    })
}

struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl io::Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let count = self
            .file
            .read_at(buffer.get_mut(..room).unwrap_or_default(), self.at)?;
        self.at = self
            .at
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// Whether a file may be made under that name.
///
/// # Errors
/// [`Error::Exists`], [`Error::NotAFile`].
pub fn check(path: &Path, overwrite: bool) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(_) if !overwrite => Err(Error::Exists(path.to_owned())),
        Ok(data) if data.is_file() || data.is_symlink() => Ok(()),
        Ok(_) => Err(Error::NotAFile(path.to_owned())),
    }
}

/// Removes what killed programs left; what a living one writes is locked.
fn sweep(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // NFS locks only what is open for writing.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty()).map(File::from) else {
            continue;
        };
        let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let known = file.metadata().map(|data| (data.dev(), data.ino())).ok();
        let there = entry.metadata().map(|data| (data.dev(), data.ino())).ok();
        if free && known == there {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let from = name_in_proc(file);
    rustix::fs::linkat(CWD, &from, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
}

fn name_in_proc(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The system's error without the path of the temporary file in it.
fn plain(error: io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or(error, io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let begun = NewFile::begin(&path, false).unwrap();
        begun.file().write_all(b"whole and more").unwrap();
        assert!(!path.exists());
        begun.set_len(5).unwrap();
        begun.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(folder.path()), ["image"]);
        assert!(matches!(
            NewFile::begin(&path, false),
            Err(Error::Exists(_))
        ));
        let begun = NewFile::begin(&path, true).unwrap();
        begun.file().write_all(b"other").unwrap();
        drop(begun);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        let begun = NewFile::begin(&path, true).unwrap();
        begun.file().write_all(b"other").unwrap();
        begun.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
        assert_eq!(names(folder.path()), ["image"]);
    }

    #[test]
    fn of_two_that_must_not_overwrite_one_gets_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let one = NewFile::begin(&path, false).unwrap();
        let two = NewFile::begin(&path, false).unwrap();
        one.file().write_all(b"1").unwrap();
        two.file().write_all(b"2").unwrap();
        two.publish().unwrap();
        assert!(matches!(one.publish(), Err(Error::Exists(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(names(folder.path()), ["image"]);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join(".sigsif-pull-dead");
        let living = folder.path().join(".sigsif-pull-living");
        for path in [&dead, &living] {
            std::fs::write(path, b"x").unwrap();
        }
        std::fs::write(folder.path().join("other"), b"x").unwrap();
        let held = File::open(&living).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        NewFile::begin(&folder.path().join("image"), false).unwrap();
        assert_eq!(names(folder.path()), [".sigsif-pull-living", "other"]);
    }
}
