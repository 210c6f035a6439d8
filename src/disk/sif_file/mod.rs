//! The one way to an image on disk: open, map, change.

mod create;
mod in_place;
mod lock;
mod rewrite;
mod spool;

pub use create::{create, create_filled};
pub use spool::{Source, Spooled};

use super::errno_text;
use super::map::Map;
use crate::sif::edit::{Method, Patch};
use crate::sif::{self, Backing, Image};
use in_place::Undo;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An open image file and its map.
pub struct SifFile {
    /// As the user named it.
    path: PathBuf,
    /// Without symbolic links, where it matters.
    place: PathBuf,
    file: File,
    map: Map,
    undo: Mutex<Undo>,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at it.
    Read,
    /// To see whether it could be changed.
    Write,
}

/// What to do while another program holds the lock of an image.
pub enum Wait<'w> {
    /// Wait.
    Silently,
    /// Wait; after a second, tell.
    Telling(&'w mut dyn FnMut()),
    /// Do not wait.
    No,
}

/// What a user should know about a change that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The old file has other names, under which it is still the old image.
    OtherNames(u64),
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherNames(count) => write!(
                f,
                "the file had {count} other name(s) (hard links): they still name the old image, since a new file was written"
            ),
        }
    }
}

/// Why an image file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses to open it.
    #[error("open {}: {}", path.display(), errno_text(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A folder instead of a file.
    #[error("reading global header: read {}: is a directory", .0.display())]
    Directory(PathBuf),
    /// A pipe, socket or device.
    #[error("open {}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file cannot be mapped or locked.
    #[error("{what} {}: {}", path.display(), errno_text(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another program holds the lock.
    #[error("{}: another program is changing the image", .0.display())]
    Busy(PathBuf),
    /// The image itself as the data of an object.
    #[error("{}: an image cannot be added to itself", .0.display())]
    Itself(PathBuf),
    /// A source ended before or behind the length that it had.
    #[error("read {}: file changed while it was read", .0.display())]
    SourceChanged(PathBuf),
    /// A new file cannot keep the owner of the old one.
    #[error("{}: the image has to be written to a new file, which cannot keep its owner: {}", path.display(), errno_text(source))]
    Owner {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file changed between reading and writing.
    #[error("{}: image was changed by another program meanwhile, nothing was written", .0.display())]
    Changed(PathBuf),
}

impl Backing for SifFile {
    fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    fn prepare(&self, range: Range<usize>) {
        self.map.prepare(range);
    }

    fn release(&self, range: Range<usize>) {
        self.map.release(range);
    }

    fn lost(&self) -> bool {
        self.map.lost()
    }
}

impl SifFile {
    /// Opens and maps a regular file; never blocks on a pipe.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let file = open_regular(path, access == Access::Write)?;
        Self::new(path, path.to_owned(), file)
    }

    /// Opens a file to change it, once nobody else does.
    ///
    /// The advisory lock of the file (`flock`) is held until the value is
    /// dropped, also while another file takes the place of this one. A
    /// symbolic link is followed: the file that it leads to is changed.
    ///
    /// # Errors
    /// As [`Error`] says; [`Error::Busy`] with [`Wait::No`].
    pub fn lock(path: &Path, mut wait: Wait<'_>) -> Result<Self, Error> {
        loop {
            let file = open_regular(path, true)?;
            lock::exclusive(&file, path, &mut wait)?;
            let system = |what, source| Error::System {
                what,
                path: path.to_owned(),
                source,
            };
            // Meanwhile the file may have got a successor.
            let place = std::fs::canonicalize(path).map_err(|source| system("open", source))?;
            if lock::is_same(&file, &place).map_err(|source| system("stat", source))? {
                let this = Self::new(path, place, file)?;
                this.sweep();
                return Ok(this);
            }
        }
    }

    fn new(path: &Path, place: PathBuf, file: File) -> Result<Self, Error> {
        let system = |what| {
            move |source: io::Error| Error::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let len = file.metadata().map_err(system("stat"))?.len();
        let map_len = usize::try_from(len)
            .map_err(|_| system("map")(io::Error::other("file does not fit in memory space")))?;
        let map = Map::new(&file, map_len).map_err(system("map"))?;
        Ok(Self {
            path: path.to_owned(),
            place,
            file,
            map,
            undo: Mutex::new(Undo::new(len)),
        })
    }

    /// Whether the file has another length than when it was mapped.
    ///
    /// A writer lengthens the file before its table names the new bytes, and
    /// shortens it after. So a table that names bytes behind the map is no
    /// fault of the image if this is true: open the file again.
    pub fn was_resized(&self) -> bool {
        let now = self.file.metadata().map(|data| data.len());
        now.map_or(true, |len| {
            usize::try_from(len) != Ok(self.map.bytes().len())
        })
    }

    /// The parsed image, borrowed from this file.
    ///
    /// # Errors
    /// Structural faults, [`sif::Error`].
    pub fn image(&self) -> Result<Image<'_>, sif::Error> {
        Image::parse(self)
    }

    /// Reads bytes of the file without its map, so that they cost no memory.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn reader(&self, at: u64, len: u64) -> io::Result<impl io::Read + Send + use<>> {
        super::new_file::reader(&self.file, at, len)
    }

    /// Reads bytes of the file at a position, all or none.
    ///
    /// # Errors
    /// The system's refusal, or the end of the file.
    pub fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, at)
    }

    /// Length of the file in bytes when it was opened.
    pub fn len(&self) -> u64 {
        u64::try_from(self.map.bytes().len()).unwrap_or(u64::MAX)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.map.bytes().is_empty()
    }

    /// Carries out a patch such that every crash leaves the old or the new image.
    ///
    /// `progress` is told the number of bytes of each step of copying.
    ///
    /// # Errors
    /// As [`Error`] says. Before the commit, the file is put back as it was;
    /// after it the new image is there in spite of the error.
    pub fn apply(self, patch: &Patch, progress: &mut dyn FnMut(u64)) -> Result<Vec<Note>, Error> {
        if !patch.before.matches(self.bytes()) || self.lost() {
            return Err(Error::Changed(self.path.clone()));
        }
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        match &patch.method {
            Method::InPlace(plan) => {
                let mut committed = false;
                let written = in_place::write(&self.file, plan, &mut undo, &mut committed);
                undo.spooled = false;
                if written.is_err() && !committed {
                    undo.restore(&self.file);
                }
                written
                    .map(|()| Vec::new())
                    .map_err(|source| self.system("write", source))
            }
            Method::Rewrite(new) => {
                let written = self.rewrite(new, progress);
                undo.spooled = false;
                // What was brought to the end of the old file is nobody's now.
                if !written.as_ref().is_ok_and(Vec::is_empty) {
                    undo.restore(&self.file);
                }
                written
            }
        }
    }

    fn system(&self, what: &'static str, source: io::Error) -> Error {
        Error::System {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

/// Data that was brought to its place but got no descriptor goes.
impl Drop for SifFile {
    fn drop(&mut self) {
        let undo = self.undo.get_mut().unwrap_or_else(PoisonError::into_inner);
        if undo.spooled {
            undo.restore(&self.file);
        }
    }
}

/// Opens a file that is neither folder nor pipe nor device.
fn open_regular(path: &Path, write: bool) -> Result<File, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
    let kind = file.metadata().map_err(|source| Error::System {
        what: "stat",
        path: path.to_owned(),
        source,
    })?;
    let kind = kind.file_type();
    if kind.is_dir() {
        return Err(Error::Directory(path.to_owned()));
    }
    if !kind.is_file() {
        return Err(Error::NotRegular(path.to_owned()));
    }
    Ok(file)
}
