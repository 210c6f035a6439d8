//! WHERE: file system layers of OCI images, as tar and as squashfs.
//!
//! A layer is looked at twice: [`tree`] reads its headers and decides what the image has in the
//! end, then [`convert`] takes the data of those files. Only names and attributes are kept in
//! memory, and nothing is ever written to a path that a layer names.
//!
//! Source: OCI image specification, "Image Layer Filesystem Changeset"; spec/oci-sif-cosign.md 5.4.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod archive;
pub mod convert;
pub mod squashfs;
pub mod tar;
pub mod tree;
pub mod unsquash;

use std::io::{self, Read};

/// What a layer may need at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries, of all layers together.
    pub entries: usize,
    /// Bytes of names, link targets and attributes.
    pub text: usize,
    /// Bytes of holes in sparse files, of all layers together.
    pub holes: u64,
    /// A layer may always expand to so many bytes.
    pub free: u64,
    /// Beyond that only to so many times its size.
    pub ratio: u64,
}

impl Limits {
    /// To how many bytes a layer of that size may expand.
    pub fn expanded(&self, size: u64) -> u64 {
        self.free.max(size.saturating_mul(self.ratio))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1 << 20,
            text: 128 << 20,
            holes: 16 << 30,
            free: 1 << 30,
            ratio: 200,
        }
    }
}

/// Why a layer cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or the result cannot be written.
    #[error("{}", io_text(.0))]
    Io(#[from] io::Error),
    /// It is no tar archive.
    #[error("malformed tar archive at byte {at}: {fault}")]
    Tar {
        /// Position in the archive.
        at: u64,
        /// What is wrong.
        fault: &'static str,
    },
    /// An entry that an image must not have.
    #[error("tar entry {path:?}: {fault}")]
    Entry {
        /// Its name.
        path: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// More than the limits allow.
    #[error("layer has more than {0} entries")]
    TooManyEntries(usize),
    /// More than the limits allow.
    #[error("layer has more than {0} bytes of names and attributes")]
    TooMuchText(usize),
    /// More than the limits allow.
    #[error("sparse files of the layers have more than {0} bytes of holes")]
    TooManyHoles(u64),
    /// A small file that becomes a huge one.
    #[error("layer of {compressed} bytes expands to more than {limit} bytes")]
    Bomb {
        /// Its length.
        compressed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A file system that is not what was asked for.
    #[error("{path:?} has other {what} than wanted")]
    Differs {
        /// Name of the file.
        path: String,
        /// What is other.
        what: &'static str,
    },
    /// It is no squashfs, or one that makes no sense.
    #[error("malformed squashfs: {0}")]
    Malformed(&'static str),
    /// A squashfs with a compression that is not read.
    #[error("squashfs is compressed with {}, only gzip and zstd are read", compressor(*.0))]
    Compressor(u16),
    /// The result would be beyond what squashfs can express.
    #[error("squashfs: {0}")]
    Squashfs(&'static str),
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `..`
    #[error("path leads out of the image")]
    Outside,
    /// Begins with a slash.
    #[error("path is absolute")]
    Absolute,
    /// A zero byte, or longer than Linux allows.
    #[error("path is no path of Linux")]
    Path,
    /// `link/file`, where `link` is a symbolic link.
    #[error("path leads through the symbolic link {0:?}")]
    ThroughLink(String),
    /// `file/name`.
    #[error("path leads through {0:?}, which is no directory")]
    ThroughFile(String),
    /// A hard link to what is not there.
    #[error("hard link to {0:?}, which is not in the image")]
    NoTarget(String),
    /// A hard link to a directory.
    #[error("hard link to the directory {0:?}")]
    DirectoryTarget(String),
    /// A device that every container must not have.
    #[error("{kind} device {major}:{minor} is not taken into an image")]
    Device {
        /// `block` or `character`.
        kind: &'static str,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An extension of tar that nobody uses in layers.
    #[error("entry type {0:?} is not supported")]
    Kind(char),
    /// An attribute that tar cannot express.
    #[error("extended attribute {0:?} has no form in tar")]
    Attribute(String),
    /// A name that would hide another file of the layers below.
    #[error("name of a file would become a whiteout")]
    Whiteout,
    /// What overlayfs notes about a file whose content is elsewhere.
    #[error("{0:?} makes it a part of a file of the layers below")]
    Elsewhere(String),
    /// A number outside its range.
    #[error("{0} is out of range")]
    Number(&'static str),
}

fn compressor(number: u16) -> String {
    match number {
        2 => "lzma".to_owned(),
        3 => "lzo".to_owned(),
        4 => "xz".to_owned(),
        5 => "lz4".to_owned(),
        other => format!("method {other}"),
    }
}

fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text.to_owned(),
    }
}

/// What an extended attribute costs besides its bytes, in memory and work.
const ATTRIBUTE: usize = 64;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// Logarithm of the largest window of a zstd stream, in bytes: 128 MiB, what the program `zstd`
/// writes at its highest level and reads without being asked for more.
const WINDOW_LOG: u32 = 27;

/// Expands a layer and stops where it becomes too large.
///
/// # Errors
/// There is no memory for the state of the expansion.
pub fn expand<'a>(
    layer: impl Read + 'a,
    compression: Compression,
    compressed: u64,
    limits: &Limits,
) -> io::Result<Box<dyn Read + 'a>> {
    let inner: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(layer),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(
            io::BufReader::with_capacity(64 << 10, layer),
        )),
        Compression::Zstd => {
            let mut expanded = zstd::stream::read::Decoder::new(layer)?;
            expanded.window_log_max(WINDOW_LOG)?;
            Box::new(expanded)
        }
    };
    let limit = match compression {
        Compression::None => u64::MAX,
        Compression::Gzip | Compression::Zstd => limits.expanded(compressed),
    };
    Ok(Box::new(Bounded {
        inner,
        passed: 0,
        compressed,
        limit,
    }))
}

/// Ends with an error where a layer becomes too large.
struct Bounded<R> {
    inner: R,
    passed: u64,
    compressed: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.passed = self
            .passed
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if self.passed > self.limit {
            return Err(io::Error::other(Error::Bomb {
                compressed: self.compressed,
                limit: self.limit,
            }));
        }
        Ok(count)
    }
}
