//! OCI image layouts: a folder with `oci-layout`, `index.json` and
//! `blobs/sha256`.
//!
//! No symbolic link is followed below the folder, and names come from digests
//! that were parsed, so nothing outside it is read.
//!
//! Source: OCI image spec 1.1, `image-layout.md`.

mod scan;

use super::errno_text;
use super::sif_file::SifFile;
use crate::digest::{Digest, HashAlgorithm};
use crate::sif::Backing as _;
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest index, manifest or config, in bytes.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The one file that tells a layout from other folders.
const MARK: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const MARK_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const ALGORITHM: &str = "sha256";
const WINDOW: usize = 1 << 20;

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{what} {}: {}", path.display(), errno_text(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pipe, socket or device instead of a file.
    #[error("open {}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// A file that is larger than what is read at once.
    #[error("{} is larger than {MAX_DOCUMENT} bytes", .0.display())]
    TooLarge(PathBuf),
    /// `oci-layout` does not name version 1.0.0.
    #[error("{}: not an OCI image layout of version 1.0.0", .0.display())]
    Mark(PathBuf),
    /// A digest that is not SHA-256.
    #[error("unsupported digest {0}")]
    Algorithm(Digest),
    /// The bytes are not those that the name promises.
    #[error("{}: blob digest mismatch: expected \"{expected}\", found \"{found}\"", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What its name says.
        expected: Digest,
        /// What its bytes say.
        found: Digest,
    },
    /// A blob that is named and not there.
    #[error("{digest}: open {}: no such file or directory", path.display())]
    Missing {
        /// The blob.
        digest: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// A blob whose length is not the one that was named.
    #[error("{}: {found} bytes, {expected} are named", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that a document names.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A blob that is larger than what is read at once.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes that are read.
        limit: u64,
    },
    /// A folder with more blobs than are looked at.
    #[error("{}: too many blobs", .0.display())]
    TooMany(PathBuf),
    /// The folder has something in it.
    #[error("{}: folder is not empty, will not overwrite", .0.display())]
    NotEmpty(PathBuf),
}

/// A layout that is read.
pub struct Layout {
    folder: PathBuf,
    root: OwnedFd,
    blobs: OwnedFd,
}

impl Layout {
    /// Opens a folder and looks whether it is a layout.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let open = |at: &OwnedFd, name: &str, path: &Path| {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            rustix::fs::openat(at, name, flags, Mode::empty()).map_err(system("open", path))
        };
        // The folder itself may be a link: the user named it.
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let root = rustix::fs::openat(CWD, folder, flags, Mode::empty())
            .map_err(system("open", folder))?;
        let path = folder.join("blobs");
        let blobs = open(&root, "blobs", &path)?;
        let blobs = open(&blobs, ALGORITHM, &path.join(ALGORITHM))?;
        let this = Self {
            folder: folder.to_owned(),
            root,
            blobs,
        };
        let mark = this.document(&this.root, MARK_FILE)?;
        let mark: Option<Value> = serde_json::from_slice(&mark).ok();
        let version = mark
            .as_ref()
            .and_then(|mark| mark["imageLayoutVersion"].as_str());
        if version != Some("1.0.0") {
            return Err(Error::Mark(this.folder.join(MARK_FILE)));
        }
        Ok(this)
    }

    /// The bytes of `index.json`.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn index(&self) -> Result<Vec<u8>, Error> {
        self.document(&self.root, INDEX_FILE)
    }

    /// Path of a blob, for messages.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let blobs = self.folder.join("blobs").join(ALGORITHM);
        blobs.join(hex::encode(digest.bytes()))
    }

    /// A manifest, index or config, with the digest checked; nothing if it is missing.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn small_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let path = self.path(digest);
        let bytes = read_document(file, &path)?;
        let found = HashAlgorithm::Sha256.digest(&bytes);
        if found != *digest {
            return Err(Error::Mismatch {
                path,
                expected: digest.clone(),
                found,
            });
        }
        Ok(Some(bytes))
    }

    /// Opens a blob, whose digest is not checked; nothing if it is missing.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>, Error> {
        if digest.algorithm() != HashAlgorithm::Sha256 {
            return Err(Error::Algorithm(digest.clone()));
        }
        let name = hex::encode(digest.bytes());
        match open_regular(&self.blobs, &name, &self.path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Digests of all files in `blobs/sha256` whose names are digests, sorted.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn digests(&self) -> Result<Vec<Digest>, Error> {
        let path = self.folder.join("blobs").join(ALGORITHM);
        let failed = |error: rustix::io::Errno| system("read", &path)(error);
        let mut digests = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.blobs).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            let digest = Digest::parse(&format!("{ALGORITHM}:{name}")).ok();
            // Not in capital letters, for that is another file.
            digests.extend(digest.filter(|d| hex::encode(d.bytes()) == name));
        }
        digests.sort_by(|a, b| a.bytes().cmp(b.bytes()));
        Ok(digests)
    }

    fn document(&self, at: &OwnedFd, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(name);
        read_document(open_regular(at, name, &path)?, &path)
    }
}

fn open_regular(at: &OwnedFd, name: &str, path: &Path) -> Result<File, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::RDONLY;
    let file =
        rustix::fs::openat(at.as_fd(), name, flags, Mode::empty()).map_err(system("open", path))?;
    let file = File::from(file);
    let data = file.metadata().map_err(system("stat", path))?;
    match data.is_file() {
        true => Ok(file),
        false => Err(Error::NotRegular(path.to_owned())),
    }
}

fn read_document(file: File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(system("read", path))?;
    match u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_DOCUMENT) {
        true => Ok(bytes),
        false => Err(Error::TooLarge(path.to_owned())),
    }
}

fn system<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl Fn(E) -> Error + use<E> {
    let path = path.to_owned();
    move |source| Error::System {
        what,
        path: path.clone(),
        source: source.into(),
    }
}

/// Makes a layout of ranges of an image file: the whole folder or nothing.
///
/// The folder must be new or empty. Every blob is hashed on its way.
///
/// # Errors
/// As [`Error`] says; then there is no folder, or the empty one.
pub fn write(
    folder: &Path,
    index: &[u8],
    image: &SifFile,
    blobs: &[(Digest, Range<usize>)],
) -> Result<(), Error> {
    let there = match std::fs::read_dir(folder) {
        Ok(entries) => entries.count(),
        Err(source) if source.kind() == io::ErrorKind::NotFound => 0,
        Err(source) => return Err(system("open", folder)(source)),
    };
    if there > 0 {
        return Err(Error::NotEmpty(folder.to_owned()));
    }
    let parent = match folder.parent() {
        Some(parent) if parent != OsStr::new("") => parent,
        _ => Path::new("."),
    };
    let new = tempfile::Builder::new()
        .prefix(".sigsif-new-")
        .permissions(PermissionsExt::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(system("mkdir", parent))?;
    let blob_folder = new.path().join("blobs").join(ALGORITHM);
    std::fs::create_dir_all(&blob_folder).map_err(system("mkdir", folder))?;
    for (digest, range) in blobs {
        let name = hex::encode(digest.bytes());
        let path = folder.join("blobs").join(ALGORITHM).join(&name);
        let found = copy(image, range, &blob_folder.join(&name)).map_err(system("write", &path))?;
        if found != *digest {
            return Err(Error::Mismatch {
                path,
                expected: digest.clone(),
                found,
            });
        }
    }
    for (name, bytes) in [(MARK_FILE, MARK.as_bytes()), (INDEX_FILE, index)] {
        let write = || {
            let mut file = create(&new.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(system("write", &folder.join(name)))?;
    }
    let blobs = new.path().join("blobs");
    for path in [&blob_folder, &blobs, &new.path().to_owned()] {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(system("sync", folder))?;
    }
    std::fs::rename(new.path(), folder).map_err(system("rename", folder))?;
    // Its name is another one now: nothing to remove.
    let _ = new.keep();
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(system("sync", parent))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Copies a range window by window, so that memory stays small.
fn copy(image: &SifFile, range: &Range<usize>, to: &Path) -> io::Result<Digest> {
    let lost = || io::Error::other("the image was cut while it was read");
    let mut file = create(to)?;
    let mut hasher = HashAlgorithm::Sha256.hasher();
    let mut start = range.start;
    while start < range.end {
        let window = start..start.saturating_add(WINDOW).min(range.end);
        let bytes = image.bytes().get(window.clone()).ok_or_else(lost)?;
        hasher.update(bytes);
        file.write_all(bytes)?;
        start = window.end;
        image.release(window);
        if image.lost() {
            return Err(lost());
        }
    }
    file.sync_all()?;
    Ok(hasher.finish())
}
