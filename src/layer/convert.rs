//! From tar layers to one squashfs layer, and back.

use super::squashfs::Writer;
use super::tar::{Entry, Kind, Reader};
use super::tree::{Attributes, Content, OPAQUE, Tree, WHITEOUT};
use super::unsquash::{FileSystem, Inode, Listing, Seen, Shape};
use super::{Error, Fault, Limits, archive};
use std::collections::HashMap;
use std::io::{Read, Seek, Write};

/// Writes a tree as squashfs; `archive` opens a layer of it again, expanded.
///
/// Returns the number of bytes that were written.
///
/// # Errors
/// [`Error`]; what was written then is no file system.
pub fn write<'a, W: Write + Seek>(
    tree: &Tree,
    layers: usize,
    archive: impl Fn(usize) -> Result<Box<dyn Read + 'a>, Error>,
    out: W,
    threads: usize,
) -> Result<u64, Error> {
    let mut writer = Writer::new(out, threads)?;
    // Only files that are still there, by the entry with their data.
    let mut wanted: Vec<HashMap<usize, _>> = Vec::new();
    wanted.resize_with(layers, HashMap::new);
    for (id, _) in tree.reachable() {
        if let Some(Content::File { layer, entry, .. }) = tree.inode(id).map(|inode| &inode.content)
            && let Some(list) = wanted.get_mut(*layer)
        {
            list.insert(*entry, id);
        }
    }
    for (number, list) in wanted.iter().enumerate() {
        if list.is_empty() {
            continue;
        }
        let mut reader = Reader::new(archive(number)?);
        let mut at = 0_usize;
        let mut left = list.len();
        while left > 0 {
            let Some(entry) = reader.entry()? else { break };
            if let Some(id) = list.get(&at) {
                left = left.saturating_sub(1);
                writer.file(*id, entry.size, &mut |buffer| reader.read(buffer))?;
            }
            at = at.saturating_add(1);
        }
    }
    writer.finish(tree)
}

/// A squashfs layer that was written as tar.
pub struct Unpacked<W> {
    /// Where it was written to.
    pub out: W,
    /// Sockets, which no archive can have.
    pub left_out: usize,
}

/// Writes a squashfs layer of `len` bytes as a tar layer, with whiteouts as OCI has them.
///
/// Nothing lies below the `lowest` layer: there a name like that of a whiteout does no harm, and it
/// came from a tar layer that had it.
///
/// # Errors
/// [`Error`]; what was written then is no archive.
pub fn to_tar<W: Write>(
    image: &mut FileSystem<'_>,
    len: u64,
    lowest: bool,
    limits: &Limits,
    out: W,
) -> Result<Unpacked<W>, Error> {
    let root = image.root()?;
    let mut unpack = Unpack {
        image,
        out: archive::Writer::new(out),
        most: limits.expanded(len),
        len,
        entries: limits.entries,
        text: limits.text,
        limits,
        lowest,
        links: HashMap::new(),
        left_out: 0,
    };
    unpack.run(root)?;
    Ok(Unpacked {
        left_out: unpack.left_out,
        out: unpack.out.finish()?,
    })
}

/// Longest path on Linux, in bytes.
const MAX_PATH: usize = 4095;

struct Unpack<'u, 'a, W> {
    image: &'u mut FileSystem<'a>,
    out: archive::Writer<W>,
    /// Bytes that the archive may have.
    most: u64,
    len: u64,
    /// Entries and bytes of remembered names that may come.
    entries: usize,
    text: usize,
    limits: &'u Limits,
    lowest: bool,
    /// Names of files that have more than one.
    links: HashMap<u64, Vec<u8>>,
    left_out: usize,
}

impl<W: Write> Unpack<'_, '_, W> {
    fn run(&mut self, root: Inode) -> Result<(), Error> {
        let mut seen = Seen::default();
        seen.enter(&root)?;
        let Shape::Directory(listing) = root.shape else {
            return Ok(());
        };
        let plain = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        let marks = self.marks(b"./", root.attributes)?;
        // A root of which nothing is said needs no entry.
        if marks.0 != plain {
            self.put(b"./", Kind::Directory, 0, &marks.0)?;
        }
        if marks.1 {
            self.opaque(b"", &marks.0)?;
        }
        let mut path = Vec::new();
        let mut open: Vec<(Listing, usize)> = vec![(listing, 0)];
        while let Some((listing, front)) = open.last_mut() {
            path.truncate(*front);
            let Some((name, inode)) = self.image.next(listing)? else {
                open.pop();
                continue;
            };
            let left = self.entries.checked_sub(1);
            self.entries = left.ok_or(Error::TooManyEntries(self.limits.entries))?;
            path.extend_from_slice(&name);
            if path.len() > MAX_PATH {
                return Err(fault(&path, Fault::Path));
            }
            if matches!(inode.shape, Shape::Directory(_)) {
                seen.enter(&inode)?;
            }
            if let Some(below) = self.file(&path, &name, inode)? {
                path.push(b'/');
                open.push((below, path.len()));
            }
        }
        Ok(())
    }

    /// Writes one file; what is in a directory comes next.
    fn file(&mut self, path: &[u8], name: &[u8], inode: Inode) -> Result<Option<Listing>, Error> {
        if matches!(inode.shape, Shape::Character(0, 0)) {
            let front = path.len().saturating_sub(name.len());
            let (folder, name) = path.split_at_checked(front).unwrap_or_default();
            let hidden = [folder, WHITEOUT, name].concat();
            let attributes = Attributes {
                mode: 0o600,
                xattrs: Vec::new(),
                ..inode.attributes
            };
            self.put(&hidden, Kind::File, 0, &attributes)?;
            return Ok(None);
        }
        if name.starts_with(WHITEOUT) && !self.lowest {
            return Err(fault(path, Fault::Whiteout));
        }
        let (attributes, opaque) = self.marks(path, inode.attributes)?;
        let is_folder = matches!(inode.shape, Shape::Directory(_));
        if inode.links > 1 && !is_folder && !matches!(inode.shape, Shape::Socket) {
            if let Some(first) = self.links.get(&inode.place) {
                let kind = Kind::HardLink(first.clone());
                self.put(path, kind, 0, &attributes)?;
                return Ok(None);
            }
            let left = self.text.checked_sub(path.len());
            self.text = left.ok_or(Error::TooMuchText(self.limits.text))?;
            self.links.insert(inode.place, path.to_vec());
        }
        match inode.shape {
            Shape::Directory(listing) => {
                self.put(path, Kind::Directory, 0, &attributes)?;
                if opaque {
                    self.opaque(&[path, b"/"].concat(), &attributes)?;
                }
                return Ok(Some(listing));
            }
            Shape::File(data) => {
                self.put(path, Kind::File, data.size, &attributes)?;
                let out = &mut self.out;
                self.image.data(&data, &mut |bytes| out.data(bytes))?;
            }
            Shape::SymbolicLink(target) => {
                self.put(path, Kind::SymbolicLink(target), 0, &attributes)?;
            }
            Shape::Character(major, minor) => {
                self.put(path, Kind::Character(major, minor), 0, &attributes)?;
            }
            Shape::Block(major, minor) => {
                self.put(path, Kind::Block(major, minor), 0, &attributes)?;
            }
            Shape::Fifo => self.put(path, Kind::Fifo, 0, &attributes)?,
            Shape::Socket => self.left_out = self.left_out.saturating_add(1),
        }
        Ok(None)
    }

    /// Takes out what overlayfs notes in attributes; whether the directory hides the one below.
    fn marks(&self, path: &[u8], mut all: Attributes) -> Result<(Attributes, bool), Error> {
        let mut opaque = false;
        let mut elsewhere = None;
        all.xattrs.retain(|(name, value)| {
            let spaces: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
            let mut spaces = spaces.into_iter();
            match spaces.find_map(|space| name.strip_prefix(space)) {
                None => true,
                Some(b"opaque") => {
                    opaque |= value == b"y";
                    false
                }
                Some(b"redirect" | b"metacopy") => {
                    elsewhere = Some(String::from_utf8_lossy(name).into_owned());
                    false
                }
                // Notes about the folder where it was written.
                Some(_) => false,
            }
        });
        match elsewhere {
            Some(name) => Err(fault(path, Fault::Elsewhere(name))),
            None => Ok((all, opaque)),
        }
    }

    fn opaque(&mut self, folder: &[u8], of: &Attributes) -> Result<(), Error> {
        let attributes = Attributes {
            mode: 0o600,
            xattrs: Vec::new(),
            ..of.clone()
        };
        self.put(&[folder, OPAQUE].concat(), Kind::File, 0, &attributes)
    }

    fn put(&mut self, path: &[u8], kind: Kind, size: u64, of: &Attributes) -> Result<(), Error> {
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: of.mode,
            uid: of.uid,
            gid: of.gid,
            mtime: of.mtime,
            size,
            xattrs: of.xattrs.clone(),
        };
        // Before anything of a file that is too large is read.
        if self.out.written().saturating_add(size) > self.most {
            return Err(Error::Bomb {
                compressed: self.len,
                limit: self.most,
            });
        }
        self.out.entry(&entry)
    }
}

fn fault(path: &[u8], fault: Fault) -> Error {
    Error::Entry {
        path: String::from_utf8_lossy(path).into_owned(),
        fault,
    }
}
