//! The files of an image, put together from the headers of its layers.
//!
//! Source: OCI image specification, "Image Layer Filesystem Changeset", whiteouts; Linux
//! Documentation/filesystems/overlayfs.rst.

use super::tar::{Entry, Kind, Reader};
use super::{ATTRIBUTE, Error, Fault, Limits};
use std::collections::BTreeMap;
use std::io::Read;

/// Prefix of a file that hides another one in the layers below.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// Prefix of files with a meaning to AUFS only.
const AUFS: &[u8] = b".wh..wh.";
/// The file that hides everything of its directory in the layers below.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Longest path and longest name on Linux, in bytes.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// Index of an inode of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(usize);

impl Id {
    /// Position among all inodes, removed ones included.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A file, whatever its names.
#[derive(Debug)]
pub struct Inode {
    /// What it is.
    pub content: Content,
    /// Attributes.
    pub attributes: Attributes,
}

/// What every file has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The lower twelve bits of the mode.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted.
    pub xattrs: Vec<Xattr>,
}

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What a file is.
#[derive(Debug)]
pub enum Content {
    /// A directory.
    Directory(Directory),
    /// A file: which entry of which layer has its data, counted from 0, and its length.
    File {
        /// Layer.
        layer: usize,
        /// Entry of the layer.
        entry: usize,
        /// Bytes.
        size: u64,
    },
    /// A symbolic link.
    SymbolicLink(Vec<u8>),
    /// A character device.
    Character(u32, u32),
    /// A pipe with a name.
    Fifo,
    /// Hides a name of the layers below: overlayfs writes a character device 0:0.
    Whiteout,
}

/// Names in a directory.
#[derive(Debug, Default)]
pub struct Directory {
    names: BTreeMap<Vec<u8>, Name>,
    opaque: bool,
    /// The layer for which it was cleared of what layers before put there: that takes long, and
    /// a layer can ask for it again and again.
    purged: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    id: Id,
    /// Layer that put it there last.
    layer: usize,
}

impl Directory {
    /// Names in the order of their bytes.
    pub fn names(&self) -> impl ExactSizeIterator<Item = (&[u8], Id)> + DoubleEndedIterator {
        self.names
            .iter()
            .map(|(name, entry)| (name.as_slice(), entry.id))
    }

    /// Whether it hides the directory of that name in the layers below.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }
}

/// How whiteouts are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// They remove what layers before have.
    Apply,
    /// They stay, in the form of overlayfs.
    Keep,
}

/// A tree that grows layer by layer.
#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    whiteouts: Whiteouts,
    limits: Limits,
    text: usize,
    /// Further names of files.
    links: usize,
    holes: u64,
    layers: usize,
}

impl Tree {
    /// The root directory of inodes.
    pub const ROOT: Id = Id(0);

    /// An empty root directory.
    pub fn new(whiteouts: Whiteouts, limits: Limits) -> Self {
        let root = Inode {
            content: Content::Directory(Directory::default()),
            attributes: Attributes {
                mode: 0o755,
                ..Attributes::default()
            },
        };
        Self {
            inodes: vec![root],
            whiteouts,
            limits,
            text: 0,
            links: 0,
            holes: 0,
            layers: 0,
        }
    }

    /// An inode; the root for a foreign number.
    pub fn inode(&self, id: Id) -> Option<&Inode> {
        self.inodes.get(id.0)
    }

    /// How many inodes there are, removed ones included.
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Whether nothing but the root is there.
    pub fn is_empty(&self) -> bool {
        self.inodes.len() <= 1
    }

    /// Every inode that has a name, once, directories before what is in them; with the directory
    /// of its first name.
    pub fn reachable(&self) -> Vec<(Id, Id)> {
        let mut seen = vec![false; self.inodes.len()];
        let mut out = Vec::new();
        let mut left = vec![(Self::ROOT, Self::ROOT)];
        while let Some((id, parent)) = left.pop() {
            match seen.get_mut(id.0) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            out.push((id, parent));
            if let Some(Content::Directory(folder)) = self.content(id) {
                let names = folder.names.values().rev();
                left.extend(names.map(|name| (name.id, id)));
            }
        }
        out
    }

    /// Reads all headers of a layer; `archive` is expanded.
    ///
    /// # Errors
    /// [`Error`]: what an image must not have.
    pub fn add_layer(&mut self, archive: impl Read) -> Result<(), Error> {
        let layer = self.layers;
        self.layers = self.layers.saturating_add(1);
        let mut reader = Reader::new(archive);
        let mut number = 0_usize;
        while let Some(entry) = reader.entry()? {
            if self.holes.saturating_add(reader.holes()) > self.limits.holes {
                return Err(Error::TooManyHoles(self.limits.holes));
            }
            self.add(layer, number, entry)?;
            number = number.saturating_add(1);
        }
        self.holes = self.holes.saturating_add(reader.holes());
        Ok(())
    }

    fn add(&mut self, layer: usize, number: usize, mut entry: Entry) -> Result<(), Error> {
        let path = std::mem::take(&mut entry.path);
        let fail = |fault| Error::Entry {
            path: String::from_utf8_lossy(&path).into_owned(),
            fault,
        };
        let parts = split(&path).map_err(fail)?;
        // Also of what is not kept: it had to be read.
        self.count_text(text_of(&entry.xattrs))?;
        let Some((name, folders)) = parts.split_last() else {
            // The root itself: only its attributes.
            if entry.kind == Kind::Directory
                && let Some(root) = self.inodes.first_mut()
            {
                root.attributes = attributes(entry);
            }
            return Ok(());
        };
        if folders.iter().any(|part| part.starts_with(AUFS)) {
            return Ok(());
        }
        let folder = self.folder(layer, folders, &fail)?;
        if name.starts_with(WHITEOUT) {
            return self.whiteout(layer, folder, name);
        }
        let id = match &entry.kind {
            Kind::HardLink(target) => {
                let id = self.target(target).map_err(fail)?;
                self.links = self.links.saturating_add(1);
                self.require_room()?;
                id
            }
            Kind::Directory => {
                let known = self.child(folder, name);
                if let Some((id, before)) = known {
                    let was_whiteout =
                        before == layer && matches!(self.content(id), Some(Content::Whiteout));
                    if let Some(Inode {
                        content: Content::Directory(_),
                        attributes: old,
                    }) = self.inodes.get_mut(id.0)
                    {
                        *old = attributes(entry);
                        self.name(folder, name, id, layer)?;
                        return Ok(());
                    }
                    let id = self.push(
                        Content::Directory(Directory {
                            opaque: was_whiteout,
                            ..Directory::default()
                        }),
                        attributes(entry),
                    )?;
                    return self.name(folder, name, id, layer);
                }
                self.push(Content::Directory(Directory::default()), attributes(entry))?
            }
            _ => {
                let content = match &entry.kind {
                    Kind::File => Content::File {
                        layer,
                        entry: number,
                        size: entry.size,
                    },
                    Kind::SymbolicLink(target) => {
                        if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
                            return Err(fail(Fault::Path));
                        }
                        self.count_text(target.len())?;
                        Content::SymbolicLink(target.clone())
                    }
                    Kind::Character(major, minor) if is_harmless(*major, *minor) => {
                        Content::Character(*major, *minor)
                    }
                    Kind::Character(major, minor) => {
                        return Err(fail(Fault::Device {
                            kind: "character",
                            major: *major,
                            minor: *minor,
                        }));
                    }
                    Kind::Block(major, minor) => {
                        return Err(fail(Fault::Device {
                            kind: "block",
                            major: *major,
                            minor: *minor,
                        }));
                    }
                    Kind::Fifo | Kind::Directory | Kind::HardLink(_) => Content::Fifo,
                };
                self.push(content, attributes(entry))?
            }
        };
        self.name(folder, name, id, layer)
    }

    /// The directory behind these names; missing ones are made.
    fn folder(
        &mut self,
        layer: usize,
        parts: &[&[u8]],
        fail: &dyn Fn(Fault) -> Error,
    ) -> Result<Id, Error> {
        let mut at = Self::ROOT;
        for part in parts {
            let shown = || String::from_utf8_lossy(part).into_owned();
            let next = self.child(at, part);
            let is_old_whiteout =
                |this: &Self, id| matches!(this.content(id), Some(Content::Whiteout));
            at = match next {
                Some((id, _)) if is_old_whiteout(self, id) => {
                    // Hidden and there: a directory of its own.
                    self.make_folder(layer, at, part, true)?
                }
                Some((id, _)) => match self.content(id) {
                    Some(Content::Directory(_)) => id,
                    Some(Content::SymbolicLink(_)) => {
                        return Err(fail(Fault::ThroughLink(shown())));
                    }
                    _ => return Err(fail(Fault::ThroughFile(shown()))),
                },
                None => self.make_folder(layer, at, part, false)?,
            };
        }
        Ok(at)
    }

    fn make_folder(
        &mut self,
        layer: usize,
        parent: Id,
        name: &[u8],
        opaque: bool,
    ) -> Result<Id, Error> {
        let content = Content::Directory(Directory {
            opaque,
            ..Directory::default()
        });
        let attributes = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        let id = self.push(content, attributes)?;
        self.name(parent, name, id, layer)?;
        Ok(id)
    }

    /// What a hard link leads to.
    fn target(&self, path: &[u8]) -> Result<Id, Fault> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let parts = split(path)?;
        let mut at = Self::ROOT;
        for part in parts {
            if let Some(Content::SymbolicLink(_)) = self.content(at) {
                return Err(Fault::ThroughLink(shown()));
            }
            at = match self.child(at, part) {
                Some((id, _)) => id,
                None => return Err(Fault::NoTarget(shown())),
            };
        }
        match self.content(at) {
            Some(Content::Directory(_)) => Err(Fault::DirectoryTarget(shown())),
            None | Some(Content::Whiteout) => Err(Fault::NoTarget(shown())),
            Some(_) => Ok(at),
        }
    }

    fn whiteout(&mut self, layer: usize, folder: Id, name: &[u8]) -> Result<(), Error> {
        if name == OPAQUE {
            match self.whiteouts {
                Whiteouts::Apply => {
                    self.purge(folder, layer);
                }
                Whiteouts::Keep => self.mark_opaque(folder),
            }
            return Ok(());
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = name.get(WHITEOUT.len()..).unwrap_or_default();
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Ok(());
        }
        let known = self.child(folder, hidden);
        match (self.whiteouts, known) {
            (Whiteouts::Apply, Some((id, before))) => {
                let keeps = self.purge(id, layer);
                if before < layer && !keeps {
                    self.forget(folder, hidden);
                }
                Ok(())
            }
            (Whiteouts::Apply, None) => Ok(()),
            (Whiteouts::Keep, Some((id, _))) => {
                self.mark_opaque(id);
                Ok(())
            }
            (Whiteouts::Keep, None) => {
                let id = self.push(Content::Whiteout, Attributes::default())?;
                self.name(folder, hidden, id, layer)
            }
        }
    }

    /// Removes from a directory what layers before `layer` put there; whether anything stays.
    fn purge(&mut self, id: Id, layer: usize) -> bool {
        let Some(Inode {
            content: Content::Directory(folder),
            ..
        }) = self.inodes.get_mut(id.0)
        else {
            return false;
        };
        // What came since then is of this layer.
        if folder.purged.replace(layer) == Some(layer) {
            return !folder.names.is_empty();
        }
        let names: Vec<_> = folder
            .names
            .iter()
            .map(|(name, entry)| (name.clone(), *entry))
            .collect();
        let mut stays = false;
        for (name, entry) in names {
            let keeps = self.purge(entry.id, layer);
            if entry.layer < layer && !keeps {
                self.forget(id, &name);
            } else {
                stays = true;
            }
        }
        stays
    }

    fn mark_opaque(&mut self, id: Id) {
        if let Some(Inode {
            content: Content::Directory(folder),
            ..
        }) = self.inodes.get_mut(id.0)
        {
            folder.opaque = true;
        }
    }

    fn content(&self, id: Id) -> Option<&Content> {
        self.inodes.get(id.0).map(|inode| &inode.content)
    }

    fn child(&self, folder: Id, name: &[u8]) -> Option<(Id, usize)> {
        match self.content(folder)? {
            Content::Directory(folder) => {
                let entry = folder.names.get(name)?;
                Some((entry.id, entry.layer))
            }
            _ => None,
        }
    }

    fn name(&mut self, folder: Id, name: &[u8], id: Id, layer: usize) -> Result<(), Error> {
        self.count_text(name.len())?;
        if let Some(Inode {
            content: Content::Directory(folder),
            ..
        }) = self.inodes.get_mut(folder.0)
        {
            folder.names.insert(name.to_vec(), Name { id, layer });
        }
        Ok(())
    }

    fn forget(&mut self, folder: Id, name: &[u8]) {
        if let Some(Inode {
            content: Content::Directory(folder),
            ..
        }) = self.inodes.get_mut(folder.0)
        {
            folder.names.remove(name);
        }
    }

    fn push(&mut self, content: Content, attributes: Attributes) -> Result<Id, Error> {
        self.require_room()?;
        let id = Id(self.inodes.len());
        self.inodes.push(Inode {
            content,
            attributes,
        });
        Ok(id)
    }

    /// Whether one more entry may come.
    fn require_room(&self) -> Result<(), Error> {
        match self.inodes.len().saturating_add(self.links) < self.limits.entries {
            true => Ok(()),
            false => Err(Error::TooManyEntries(self.limits.entries)),
        }
    }

    fn count_text(&mut self, len: usize) -> Result<(), Error> {
        self.text = self.text.saturating_add(len);
        if self.text > self.limits.text {
            return Err(Error::TooMuchText(self.limits.text));
        }
        Ok(())
    }
}

/// Bytes of names and values, and what they cost besides.
fn text_of(xattrs: &[Xattr]) -> usize {
    let text = xattrs.iter().map(|(name, value)| {
        let bytes = name.len().saturating_add(value.len());
        bytes.saturating_add(ATTRIBUTE)
    });
    text.fold(0, usize::saturating_add)
}

fn attributes(entry: Entry) -> Attributes {
    let mut xattrs = entry.xattrs;
    // What overlayfs itself reads is not for a layer to say.
    xattrs.retain(|(name, _)| {
        !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
    });
    xattrs.sort();
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs,
    }
}

/// The names of a path; none for the root.
fn split(path: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    if path.len() > MAX_PATH || path.contains(&0) {
        return Err(Fault::Path);
    }
    let parts = path.split(|byte| *byte == b'/');
    let parts: Vec<_> = parts
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.contains(&&b".."[..]) {
        return Err(Fault::Outside);
    }
    if path.starts_with(b"/") && !parts.is_empty() {
        return Err(Fault::Absolute);
    }
    if parts.iter().any(|part| part.len() > MAX_NAME) {
        return Err(Fault::Path);
    }
    Ok(parts)
}

/// The devices that every container has: they give nothing away.
fn is_harmless(major: u32, minor: u32) -> bool {
    matches!(
        (major, minor),
        // null, zero, full, random, urandom; tty, console, ptmx; net/tun; fuse
        (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2) | (10, 200 | 229)
    )
}
