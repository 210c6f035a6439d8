//! The one way to an image on disk: open, map, change.

use super::errno_text;
use super::map::Map;
use crate::sif::edit::Patch;
use crate::sif::{self, Backing, Image};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Writes inside one page are whole or not at all, also under SIGKILL.
const PAGE: u64 = 4096;

/// An open image file and its map.
pub struct SifFile {
    path: PathBuf,
    file: File,
    map: Map,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look at it.
    Read,
    /// To see whether it could be changed.
    Write,
    /// To change it: waits for the advisory lock of the file first.
    Locked,
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
        let file = OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| Error::Open {
                path: path.to_owned(),
                source,
            })?;
        let system = |what| {
            move |source: io::Error| Error::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let kind = file.metadata().map_err(system("stat"))?.file_type();
        if kind.is_dir() {
            return Err(Error::Directory(path.to_owned()));
        }
        if !kind.is_file() {
            return Err(Error::NotRegular(path.to_owned()));
        }
        if access == Access::Locked {
            rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
                .map_err(|error| system("lock")(error.into()))?;
        }
        let len = file.metadata().map_err(system("stat"))?.len();
        let len = usize::try_from(len)
            .map_err(|_| system("map")(io::Error::other("file does not fit in memory space")))?;
        let map = Map::new(&file, len).map_err(system("map"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            map,
        })
    }

    /// Whether the file has another length than when it was mapped.
    ///
    /// A signer appends its data before its descriptors become visible. So if
    /// this is false after [`SifFile::image`], the table that was read names
    /// nothing behind the map; if it is true, open the file again.
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

    /// Writes a patch such that every crash leaves the old or the new image.
    ///
    /// Order: space is reserved; data goes behind everything in use, then it
    /// is synced; descriptors are written as free slots, synced; the used
    /// bytes are set, those of one page in one write, synced; last the header,
    /// whose counts no reader depends on.
    ///
    /// # Errors
    /// As [`Error`] says. Before the used bytes are set, the file is put back
    /// as it was.
    pub fn apply(self, patch: &Patch) -> Result<(), Error> {
        self.require_unchanged(patch)?;
        let Self { path, file, map } = self;
        drop(map);
        let old_len = file
            .metadata()
            .map_err(|source| Error::System {
                what: "stat",
                path: path.clone(),
                source,
            })?
            .len();
        let failed = |source| Error::System {
            what: "write",
            path,
            source,
        };
        let undo = match Undo::take(&file, patch, old_len) {
            Ok(undo) => undo,
            Err(source) => return Err(failed(source)),
        };
        let mut committed = false;
        let written = prepare(&file, patch).and_then(|()| commit(&file, patch, &mut committed));
        if written.is_err() && !committed {
            undo.restore(&file);
        }
        written.map_err(failed)
    }

    /// Another program may not know our lock.
    fn require_unchanged(&self, patch: &Patch) -> Result<(), Error> {
        let bytes = self.bytes();
        let same_header = bytes.starts_with(&patch.old_header);
        let free = patch.slots.iter().all(|(at, _)| {
            usize::try_from(*at)
                .ok()
                .and_then(|at| bytes.get(at.saturating_add(4)))
                == Some(&0)
        });
        if same_header && free && !self.lost() {
            Ok(())
        } else {
            Err(Error::Changed(self.path.clone()))
        }
    }
}

/// Bytes that are overwritten before the commit, for a way back.
struct Undo {
    len: u64,
    old: Vec<(u64, Vec<u8>)>,
}

impl Undo {
    fn take(file: &File, patch: &Patch, len: u64) -> io::Result<Self> {
        let data = patch.data.iter().map(|(at, bytes)| (*at, bytes.len()));
        let slots = patch.slots.iter().map(|(at, raw)| (*at, raw.len()));
        let mut old = Vec::new();
        for (at, size) in data.chain(slots) {
            let there = usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; size.min(there)];
            file.read_exact_at(&mut bytes, at)?;
            old.push((at, bytes));
        }
        Ok(Self { len, old })
    }

    /// Best effort: what cannot be put back lies in free slots or behind the data.
    fn restore(self, file: &File) {
        for (at, bytes) in self.old {
            let _ = file.write_all_at(&bytes, at);
        }
        let _ = file.set_len(self.len);
        let _ = file.sync_all();
    }
}

fn prepare(file: &File, patch: &Patch) -> io::Result<()> {
    for (at, bytes) in &patch.data {
        let len = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let reserved = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(file, FallocateFlags::empty(), *at, len.max(1))
        });
        match reserved {
            // The file system cannot reserve: the write itself will tell.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (at, bytes) in &patch.data {
        file.write_all_at(bytes, *at)?;
    }
    file.sync_data()?;
    for (at, raw) in &patch.slots {
        let mut free = *raw;
        free[4] = 0;
        file.write_all_at(&free, *at)?;
    }
    file.sync_data()
}

/// Sets the used bytes, then the header; `committed` tells whether the new
/// image began to be visible.
fn commit(file: &File, patch: &Patch, committed: &mut bool) -> io::Result<()> {
    // From the last page to the first: until the first write of several is
    // done, an image that had no signature is refused as before.
    for page in used_bytes_by_page(patch).into_iter().rev() {
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            continue;
        };
        let len = usize::try_from(last.saturating_sub(*first)).map_err(io::Error::other)?;
        let mut bytes = vec![0; len.saturating_add(1)];
        file.read_exact_at(&mut bytes, *first)?;
        for at in &page {
            let index = usize::try_from(at.saturating_sub(*first)).map_err(io::Error::other)?;
            if let Some(used) = bytes.get_mut(index) {
                *used = 1;
            }
        }
        file.write_all_at(&bytes, *first)?;
        *committed = true;
        file.sync_data()?;
    }
    file.write_all_at(&patch.header, 0)?;
    file.sync_all()
}

fn used_bytes_by_page(patch: &Patch) -> Vec<Vec<u64>> {
    let mut pages: Vec<Vec<u64>> = Vec::new();
    for at in patch.slots.iter().map(|(at, _)| at.saturating_add(4)) {
        match pages.last_mut() {
            Some(page) if page.last().is_some_and(|last| last / PAGE == at / PAGE) => {
                page.push(at);
            }
            _ => pages.push(vec![at]),
        }
    }
    pages
}
