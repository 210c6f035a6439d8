//! Brings the data of new objects to its place, behind all that is in use.

use super::super::files::Patient;
use super::in_place::reserve;
use super::{Error, SifFile};
use crate::digest::{Digest, HashAlgorithm, Hasher};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Bytes of one step of copying.
const STEP: u64 = 16 << 20;

/// Bytes that are read at one time from a stream.
const BLOCK: usize = 1 << 20;

/// File systems share whole blocks of two files at best.
const PAGE: u64 = 4096;

/// Where the data of a new object comes from.
pub struct Source {
    path: PathBuf,
    file: File,
    /// Position and number of bytes of a regular file.
    range: Option<(u64, u64)>,
}

/// Data that lies at its place.
#[derive(Clone, Debug)]
pub struct Spooled {
    /// Number of bytes.
    pub len: u64,
    /// SHA-256 of the data, if it was asked for.
    pub digest: Option<Digest>,
}

impl Source {
    /// Opens a file, a pipe or a device.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::System`] for a folder.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path);
        Self::new(path, file)
    }

    /// A file that is open already; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn from_file(path: &Path, file: File) -> Result<Self, Error> {
        Self::new(path, Ok(file))
    }

    /// Standard input.
    ///
    /// # Errors
    /// [`Error::Open`] if it is closed.
    pub fn stdin() -> Result<Self, Error> {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        Self::new(Path::new("-"), file)
    }

    fn new(path: &Path, file: io::Result<File>) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let mut file = file.map_err(failed)?;
        let data = file.metadata().map_err(failed)?;
        if data.is_dir() {
            return Err(Error::System {
                what: "read",
                path: path.to_owned(),
                source: io::Error::from_raw_os_error(libc::EISDIR),
            });
        }
        let range = if data.is_file() {
            let start = file.stream_position().map_err(failed)?;
            Some((start, data.len().saturating_sub(start)))
        } else {
            None
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            range,
        })
    }

    /// Number of bytes, if the source is a regular file.
    pub fn len(&self) -> Option<u64> {
        self.range.map(|(_, len)| len)
    }

    /// Whether the source is a regular file without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl SifFile {
    /// Copies data to where a new object is to have it, see
    /// [`crate::sif::edit::Edit::next_offset`].
    ///
    /// Nothing in the image names that place before the patch is applied. A
    /// source of unknown length goes there directly as well, not to memory.
    ///
    /// # Errors
    /// As [`Error`] says; then the file is put back as it was.
    pub fn spool(
        &self,
        at: u64,
        source: &mut Source,
        digest: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Spooled, Error> {
        let same = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        if same(&source.file).ok() == same(&self.file).ok() {
            return Err(Error::Itself(source.path.clone()));
        }
        let mut undo = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        let spooled = undo
            .keep(&self.file, at, source.len().unwrap_or(u64::MAX))
            .map_err(|source| self.system("read", source))
            .and_then(|()| self.bring(at, source, digest, progress));
        match &spooled {
            Ok(_) => undo.spooled = true,
            Err(_) => undo.restore(&self.file),
        }
        spooled
    }

    fn bring(
        &self,
        at: u64,
        source: &mut Source,
        digest: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Spooled, Error> {
        let write = |error| self.system("write", error);
        let read = |path: &Path, error| Error::System {
            what: "read",
            path: path.to_owned(),
            source: error,
        };
        if let Some((start, len)) = source.range {
            if len > 0 && !is_sparse(&source.file) {
                reserve(&self.file, at, len).map_err(write)?;
            }
            if !digest {
                return match copy_range(&source.file, start, &self.file, at, len, progress) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Err(Error::SourceChanged(source.path.clone()))
                    }
                    Err(error) => Err(write(error)),
                    Ok(()) => Ok(Spooled { len, digest: None }),
                };
            }
        }
        let mut hasher = digest.then(|| HashAlgorithm::Sha256.hasher());
        let mut block = vec![0; BLOCK];
        let mut len: u64 = 0;
        let mut reader = Patient(&source.file);
        loop {
            let count = match reader.read(&mut block) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count.map_err(|error| read(&source.path, error))?,
            };
            let part = block.get(..count).unwrap_or_default();
            let to = at.checked_add(len).ok_or_else(|| write(too_large()))?;
            self.file.write_all_at(part, to).map_err(write)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(part);
            }
            let count = u64::try_from(count).unwrap_or_default();
            len = len.checked_add(count).ok_or_else(|| write(too_large()))?;
            progress(count);
        }
        if source.len().is_some_and(|known| known != len) {
            return Err(Error::SourceChanged(source.path.clone()));
        }
        let digest = hasher.map(Hasher::finish);
        Ok(Spooled { len, digest })
    }
}

fn too_large() -> io::Error {
    io::Error::from(Errno::FBIG)
}

fn is_sparse(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|data| data.blocks().saturating_mul(512) < data.len())
}

/// Copies bytes from one file to another.
///
/// Holes stay holes: the target must be zero there. The system may have both
/// files share their blocks.
pub(super) fn copy_range(
    from: &File,
    start: u64,
    to: &File,
    target: u64,
    len: u64,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let end = start.checked_add(len).ok_or_else(too_large)?;
    if from.metadata()?.len() < end {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut at = start;
    while at < end {
        let data = next(from, SeekFrom::Data(at), at)?.unwrap_or(end).min(end);
        progress(data.saturating_sub(at));
        let hole = next(from, SeekFrom::Hole(data), end)?
            .unwrap_or(end)
            .min(end);
        at = data;
        while at < hole {
            // Whole pages can be shared, so the first step ends at one.
            let page = at.saturating_add(1).next_multiple_of(PAGE);
            let step = match at.is_multiple_of(PAGE) {
                true => hole.min(at.saturating_add(STEP)),
                false => hole.min(page),
            };
            let there = target.saturating_add(at.saturating_sub(start));
            copy_data(from, at, to, there, step.saturating_sub(at))?;
            progress(step.saturating_sub(at));
            at = step;
        }
    }
    Ok(())
}

/// Position of the next data or hole; `None` if there is no more, `known` if nobody can tell.
fn next(file: &File, what: SeekFrom, known: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, what) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(known)),
        Err(error) => Err(error.into()),
    }
}

fn copy_data(from: &File, start: u64, to: &File, target: u64, len: u64) -> io::Result<()> {
    let mut done: u64 = 0;
    while done < len {
        let (mut off_in, mut off_out) = (start.saturating_add(done), target.saturating_add(done));
        let left = usize::try_from(len.saturating_sub(done)).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut off_in), to, Some(&mut off_out), left);
        match copied {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done = done.saturating_add(u64::try_from(count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_hand(
                    from,
                    start.saturating_add(done),
                    to,
                    target.saturating_add(done),
                    len.saturating_sub(done),
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, start: u64, to: &File, target: u64, len: u64) -> io::Result<()> {
    let mut block = vec![0; usize::try_from(len).unwrap_or(BLOCK).min(BLOCK)];
    let mut done: u64 = 0;
    while done < len {
        let left = usize::try_from(len.saturating_sub(done)).unwrap_or(BLOCK);
        let part = match block.len() > left {
            true => block.get_mut(..left).unwrap_or_default(),
            false => block.as_mut_slice(),
        };
        from.read_exact_at(part, start.saturating_add(done))?;
        to.write_all_at(part, target.saturating_add(done))?;
        done = done.saturating_add(u64::try_from(part.len()).unwrap_or_default());
    }
    Ok(())
}
