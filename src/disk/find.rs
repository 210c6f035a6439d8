//! The images that a user means: paths, folders, lists, patterns.
//!
//! What is named is in the listing whatever it is; whoever opens it says what is wrong with it.
//! Below a folder an image is a file whose name ends in `.sif`, or which begins as one. Whatever
//! hides images, such as a folder that cannot be read, is in the listing with its reason.

use super::errno_text;
use super::files::Patient;
use crate::digest::HashAlgorithm;
use crate::sif::{MAGIC, MAGIC_OFFSET};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Most images of one listing.
pub const MAX_IMAGES: usize = 10_000_000;
/// Longest path of a list, in bytes.
const MAX_PATH: u64 = 1 << 16;

/// An image, or what should be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it was named, or below the folder that was.
    pub path: PathBuf,
    /// Size in bytes; 0 if that is not known.
    pub size: u64,
    /// Why it cannot be looked at, if that is known.
    pub problem: Option<String>,
}

/// One part of a listing, of several that are judged apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 1.
    pub number: u64,
    /// How many there are; not 0.
    pub of: u64,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// A part of a pattern, between slashes.
enum Part {
    /// A name as it is.
    Literal(String),
    /// Names that it fits.
    Name(glob::Pattern),
    /// `**`: this folder and all below.
    Folders,
}

/// Why there is no listing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_IMAGES`].
    #[error("more than {MAX_IMAGES} images: split the list, for example by --shard")]
    TooMany,
    /// The list cannot be read.
    #[error("reading list '{}': {reason}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No pattern.
    #[error("pattern '{pattern}': {reason}")]
    Pattern {
        /// As it was given.
        pattern: String,
        /// Why.
        reason: String,
    },
}

/// What was found so far.
#[derive(Debug)]
pub struct Listing {
    shard: Option<Shard>,
    seen: HashSet<[u8; 16]>,
    /// The images of the shard, each path once.
    pub images: Vec<Found>,
    /// How many images there are in all shards.
    pub total: usize,
    /// Files below folders that are no images.
    pub others: usize,
    /// Links to folders below folders, which were not followed.
    pub links: Vec<PathBuf>,
}

impl Listing {
    /// An empty listing.
    pub fn new(shard: Option<Shard>) -> Self {
        Self {
            shard,
            seen: HashSet::new(),
            images: Vec::new(),
            total: 0,
            others: 0,
            links: Vec::new(),
        }
    }

    /// Adds what a path names; of a folder, if `recursive`, what is in it.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn path(&mut self, path: PathBuf, recursive: bool) -> Result<(), Error> {
        match std::fs::metadata(&path) {
            Ok(facts) if recursive && facts.is_dir() => self.folder(path),
            Ok(facts) if facts.is_dir() => {
                let problem = format!(
                    "open {}: is a folder; --recursive verifies what is in it",
                    path.display()
                );
                self.add(path, 0, Some(problem))
            }
            Ok(facts) => self.add(path, facts.len(), None),
            Err(_) => self.add(path, 0, None),
        }
    }

    /// Adds what a list names, one path per line or, with `null`, per zero byte; `-` is standard
    /// input. Empty lines name nothing.
    ///
    /// # Errors
    /// [`Error::List`], [`Error::TooMany`].
    pub fn list(&mut self, list: &Path, null: bool, recursive: bool) -> Result<(), Error> {
        let fail = |reason: String| Error::List {
            path: list.to_owned(),
            reason,
        };
        let end = if null { 0 } else { b'\n' };
        let opened = match list.as_os_str() == "-" {
            // Not by its path: that would open a file anew, from its beginning, and no socket.
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => File::open(list),
        };
        let opened = opened.map_err(|error| fail(errno_text(&error)))?;
        let mut reader = BufReader::new(Patient(opened));
        loop {
            let mut line = Vec::new();
            let read = reader.by_ref().take(MAX_PATH).read_until(end, &mut line);
            if read.map_err(|error| fail(errno_text(&error)))? == 0 {
                return Ok(());
            }
            match line.last() {
                Some(last) if *last == end => {
                    line.pop();
                }
                _ if u64::try_from(line.len()).is_ok_and(|len| len == MAX_PATH) => {
                    let reason = format!(
                        "a path is longer than {MAX_PATH} bytes{}",
                        if null {
                            ""
                        } else {
                            "; --null if zeros end them"
                        }
                    );
                    return Err(fail(reason));
                }
                _ => {}
            }
            if !null && line.contains(&0) {
                return Err(fail(
                    "a line has a zero byte; --null if zeros end paths".to_owned(),
                ));
            }
            if !line.is_empty() {
                let path = PathBuf::from(std::ffi::OsString::from_vec(line));
                self.path(path, recursive)?;
            }
        }
    }

    /// Adds what a pattern fits: `*`, `?`, `[...]`, and `**` for any folders below, links to
    /// folders not followed.
    ///
    /// # Errors
    /// [`Error::Pattern`], also if nothing fits; [`Error::TooMany`].
    pub fn glob(&mut self, pattern: &str, recursive: bool) -> Result<(), Error> {
        let fail = |reason: &str| Error::Pattern {
            pattern: pattern.to_owned(),
            reason: reason.to_owned(),
        };
        let mut parts = Vec::new();
        for text in pattern.split('/').filter(|text| !text.is_empty()) {
            parts.push(match text {
                "**" if parts
                    .last()
                    .is_some_and(|part| matches!(part, Part::Folders)) =>
                {
                    continue;
                }
                "**" => Part::Folders,
                text if text.contains(['*', '?', '[']) => {
                    Part::Name(glob::Pattern::new(text).map_err(|error| fail(error.msg))?)
                }
                text => Part::Literal(text.to_owned()),
            });
        }
        let root = PathBuf::from(if pattern.starts_with('/') { "/" } else { "" });
        let mut any = false;
        let mut todo = vec![(root, parts.as_slice())];
        while let Some((path, parts)) = todo.pop() {
            match parts.split_first() {
                None => {
                    any = true;
                    self.path(path, recursive)?;
                }
                Some((part, rest)) => any |= self.expand(path, part, rest, parts, &mut todo)?,
            }
        }
        match any {
            true => Ok(()),
            false => Err(fail("fits nothing")),
        }
    }

    /// One part of a pattern: what it fits in a folder is still to be done. Whether something came
    /// of it already.
    fn expand<'p>(
        &mut self,
        folder: PathBuf,
        part: &Part,
        rest: &'p [Part],
        all: &'p [Part],
        todo: &mut Vec<(PathBuf, &'p [Part])>,
    ) -> Result<bool, Error> {
        if let Part::Literal(name) = part {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                todo.push((path, rest));
            }
            return Ok(false);
        }
        // A file in the middle of a path fits nothing.
        let shown = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => &folder,
        };
        if !shown.is_dir() {
            return Ok(false);
        }
        let mut any = false;
        let mut entries = Vec::new();
        let read = std::fs::read_dir(shown).and_then(|all| {
            for entry in all {
                let entry = entry?;
                entries.push((entry.file_name(), entry.file_type()?.is_dir()));
            }
            Ok(())
        });
        if let Err(error) = read {
            any = true;
            self.problem(shown.to_owned(), "open", &errno_text(&error))?;
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        for (name, is_folder) in entries {
            let path = folder.join(&name);
            match part {
                Part::Folders if is_folder => todo.push((path, all)),
                Part::Name(pattern) if pattern.matches(&name.to_string_lossy()) => {
                    todo.push((path, rest));
                }
                _ => {}
            }
        }
        if matches!(part, Part::Folders) {
            match rest.is_empty() {
                // `**` at the end is everything below.
                true => {
                    any = true;
                    self.folder(folder)?;
                }
                false => todo.push((folder, rest)),
            }
        }
        Ok(any)
    }

    /// Walks through a folder in the order of names. Links to folders are not followed: a loop
    /// would have no end, and a link can lead anywhere.
    fn folder(&mut self, folder: PathBuf) -> Result<(), Error> {
        let mut todo = vec![(folder, true)];
        while let Some((path, is_folder)) = todo.pop() {
            if !is_folder {
                self.below(path)?;
                continue;
            }
            let mut entries = Vec::new();
            let read = std::fs::read_dir(&path).and_then(|all| {
                for entry in all {
                    let entry = entry?;
                    entries.push((entry.path(), entry.file_type()?.is_dir()));
                }
                Ok(())
            });
            if let Err(error) = read {
                self.problem(path, "open", &errno_text(&error))?;
            }
            entries.sort_unstable_by(|a, b| b.cmp(a));
            todo.append(&mut entries);
        }
        Ok(())
    }

    /// Adds what is no folder and lies below one.
    fn below(&mut self, path: PathBuf) -> Result<(), Error> {
        let named = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("sif"));
        match std::fs::metadata(&path) {
            Ok(facts) if facts.is_dir() => {
                self.links.push(path);
                Ok(())
            }
            Ok(facts) if named => self.add(path, facts.len(), None),
            Ok(facts) if facts.is_file() => match begins_as_image(&path) {
                Ok(true) => self.add(path, facts.len(), None),
                Ok(false) => self.other(),
                // It may be an image; nobody can tell.
                Err(error) => self.problem(path, "open", &errno_text(&error)),
            },
            Err(_) if named => self.add(path, 0, None),
            _ => self.other(),
        }
    }

    fn other(&mut self) -> Result<(), Error> {
        self.others = self.others.saturating_add(1);
        Ok(())
    }

    fn problem(&mut self, path: PathBuf, what: &str, reason: &str) -> Result<(), Error> {
        let problem = format!("{what} {}: {reason}", path.display());
        self.add(path, 0, Some(problem))
    }

    fn add(&mut self, path: PathBuf, size: u64, problem: Option<String>) -> Result<(), Error> {
        let hash = hash(&path);
        if !self.seen.insert(hash) {
            return Ok(());
        }
        if self.seen.len() > MAX_IMAGES {
            return Err(Error::TooMany);
        }
        self.total = self.total.saturating_add(1);
        if self.shard.is_none_or(|shard| shard.has(&hash)) {
            self.images.push(Found {
                path,
                size,
                problem,
            });
        }
        Ok(())
    }
}

impl Shard {
    /// Whether a path is in this one: the first eight bytes of the SHA-256 of the path, as it is
    /// named, as a number (big endian), modulo the number of shards.
    fn has(&self, hash: &[u8; 16]) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *hash;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        number.checked_rem(self.of) == self.number.checked_sub(1)
    }
}

fn hash(path: &Path) -> [u8; 16] {
    let digest = HashAlgorithm::Sha256.digest(path.as_os_str().as_bytes());
    digest.bytes().first_chunk().copied().unwrap_or_default()
}

/// Whether the first bytes are those of an image.
fn begins_as_image(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let mut start = [0; MAGIC_OFFSET + MAGIC.len()];
    match file.read_exact_at(&mut start, 0) {
        Ok(()) => Ok(start.ends_with(MAGIC)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file at one moment: another state is another content, as far as a file system can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    place: (u64, u64),
    /// Size in bytes.
    pub size: u64,
    /// When it was changed last: seconds since 1970, nine digits after the point. The time of the
    /// inode, which nobody can set.
    pub changed: String,
}

/// The state of a file now; nothing if it cannot be looked at.
pub fn state(path: &Path) -> Option<State> {
    let facts = std::fs::metadata(path).ok()?;
    Some(State {
        place: (facts.dev(), facts.ino()),
        size: facts.len(),
        changed: format!("{}.{:09}", facts.ctime(), facts.ctime_nsec()),
    })
}
