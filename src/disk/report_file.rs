//! A report of one line per image, which grows while the images are judged.

use super::errno_text;
use rustix::fs::FlockOperation;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Longest line of a report, in bytes: the coverage of an image of many objects is long.
pub const MAX_LINE: u64 = 1 << 28;

/// Permissions of a new report, less the umask.
const MODE: u32 = 0o644;

/// A report that this program alone writes to.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
}

/// Why a report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{what} report '{}': {}", path.display(), errno_text(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// The report.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It has lines already.
    #[error("report '{}' exists and is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Another program writes to it.
    #[error("report '{}' is being written by another program", .0.display())]
    Busy(PathBuf),
    /// A line cannot be used.
    #[error("report '{}', line {number}: {reason}", path.display())]
    Line {
        /// The report.
        path: PathBuf,
        /// Which line, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
}

impl ReportFile {
    /// Begins a report.
    ///
    /// # Errors
    /// [`Error`]; one with lines is not touched.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let this = Self::open(path)?;
        match this.file.metadata() {
            Ok(facts) if facts.len() > 0 => Err(Error::NotEmpty(path.to_owned())),
            Ok(_) => Ok(this),
            Err(source) => Err(this.system("stat", source)),
        }
    }

    /// Goes on with a report, which gets those of its lines that `keep` wants, and only these. A
    /// last line without an end was cut off and goes.
    ///
    /// # Errors
    /// [`Error`], the reason of `keep` included; then the report is as it was.
    pub fn resume(
        path: &Path,
        keep: &mut dyn FnMut(&str) -> Result<bool, String>,
    ) -> Result<Self, Error> {
        let old = Self::open(path)?;
        let path = &old.place()?;
        let system = |what| move |source| old_error(path, what, source);
        let mut new = tempfile::Builder::new()
            .prefix(".sigsif-report-")
            .permissions(PermissionsExt::from_mode(MODE))
            .tempfile_in(folder_of(path))
            .map_err(system("writing"))?;
        let mut out = BufWriter::new(new.as_file_mut());
        let mut failed = None;
        lines(path, &mut |line| {
            if keep(line)? {
                let written = out.write_all(line.as_bytes());
                if let Err(error) = written.and_then(|()| out.write_all(b"\n")) {
                    failed = Some(error);
                    return Err("cannot be copied".to_owned());
                }
            }
            Ok(())
        })
        .map_err(|error| match failed.take() {
            Some(source) => old_error(path, "writing", source),
            None => error,
        })?;
        out.flush().map_err(system("writing"))?;
        drop(out);
        new.as_file().sync_all().map_err(system("writing"))?;
        // Locked before it has the name, so that no other program gets in between.
        lock(new.as_file(), path)?;
        let kept = old.file.metadata().map(|facts| facts.permissions());
        if let Ok(mode) = kept {
            new.as_file()
                .set_permissions(mode)
                .map_err(system("writing"))?;
        }
        let file = new
            .persist(path)
            .map_err(|error| old_error(path, "writing", error.error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Where it lies, links resolved.
    fn place(&self) -> Result<PathBuf, Error> {
        std::fs::canonicalize(&self.path).map_err(|source| self.system("open", source))
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let system = |what| move |source| old_error(path, what, source);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)
                .map_err(system("open"))?;
            let facts = file.metadata().map_err(system("stat"))?;
            if !facts.is_file() {
                let source = io::Error::other("not a regular file");
                return Err(old_error(path, "open", source));
            }
            lock(&file, path)?;
            // Meanwhile it may have got a successor.
            let there = std::fs::metadata(path).map_err(system("stat"))?;
            if (facts.dev(), facts.ino()) == (there.dev(), there.ino()) {
                return Ok(Self {
                    path: path.to_owned(),
                    file,
                });
            }
        }
    }

    /// Adds a line, which must not have an end of line in it; it is in the file when this returns.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn add(&mut self, line: &str) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(line.len().saturating_add(1));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes);
        written.map_err(|source| self.system("writing", source))
    }

    /// Brings it to the disk.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn finish(self) -> Result<(), Error> {
        let synced = self.file.sync_all();
        synced.map_err(|source| self.system("writing", source))
    }

    fn system(&self, what: &'static str, source: io::Error) -> Error {
        old_error(&self.path, what, source)
    }
}

fn old_error(path: &Path, what: &'static str, source: io::Error) -> Error {
    Error::System {
        what,
        path: path.to_owned(),
        source,
    }
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    let operation = FlockOperation::NonBlockingLockExclusive;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(path.to_owned())),
        Err(error) => Err(old_error(path, "lock", error.into())),
    }
}

/// Reads a report line by line; a last line without an end was cut off and is not read.
///
/// # Errors
/// [`Error::System`]; [`Error::Line`] with the reason of `each`, or if a line is too long or no
/// text.
pub fn lines(path: &Path, each: &mut dyn FnMut(&str) -> Result<(), String>) -> Result<(), Error> {
    let file = File::open(path).map_err(|source| old_error(path, "open", source))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(|source| old_error(path, "reading", source))?;
        let fail = |reason| Error::Line {
            path: path.to_owned(),
            number,
            reason,
        };
        if line.pop() != Some(b'\n') {
            return match u64::try_from(line.len()).is_ok_and(|len| len >= MAX_LINE - 1) {
                true => Err(fail(format!("longer than {MAX_LINE} bytes"))),
                false => Ok(()),
            };
        }
        let text = std::str::from_utf8(&line).map_err(|error| fail(error.to_string()))?;
        each(text).map_err(fail)?;
    }
    Ok(())
}

/// Writes a new report in the place of an old one, whole or not at all.
///
/// # Errors
/// [`Error::System`], or what `fill` says; then the old one is as it was.
pub fn write_whole<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn FnMut(&str) -> Result<(), Error>) -> Result<(), E>,
) -> Result<(), E> {
    // A link is followed.
    let place = std::fs::canonicalize(path);
    let path = place.as_deref().unwrap_or(path);
    let system = |source| old_error(path, "writing", source);
    let mut new = tempfile::Builder::new()
        .prefix(".sigsif-report-")
        .permissions(PermissionsExt::from_mode(MODE))
        .tempfile_in(folder_of(path))
        .map_err(system)?;
    let mut out = BufWriter::new(new.as_file_mut());
    fill(&mut |line| {
        let written = out.write_all(line.as_bytes());
        written.and_then(|()| out.write_all(b"\n")).map_err(system)
    })?;
    out.flush().map_err(system)?;
    drop(out);
    new.as_file().sync_all().map_err(system)?;
    new.persist(path).map_err(|error| system(error.error))?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
