//! From tar layers to one squashfs layer, and back.

use super::squashfs::Writer;
use super::tar::{Entry, Kind, Reader};
use super::tree::{self, Attributes, Content, Directory, Id, OPAQUE, Tree, WHITEOUT, Xattr};
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

/// Writes a tree as one tar archive, whiteouts in the form of overlayfs; `archive` opens a layer
/// again, expanded.
///
/// Directories come first, then files in the order of their layers, then further names of files.
///
/// # Errors
/// [`Error`]; what was written then is no archive.
pub fn write_tar<'a, W: Write>(
    tree: &Tree,
    layers: usize,
    archive: impl Fn(usize) -> Result<Box<dyn Read + 'a>, Error>,
    out: W,
) -> Result<W, Error> {
    let mut names = Names::default();
    let mut out = archive::Writer::new(out);
    let mut wanted: Vec<HashMap<usize, Id>> = Vec::new();
    wanted.resize_with(layers, HashMap::new);
    let mut left = vec![Tree::ROOT];
    while let Some(id) = left.pop() {
        let Some(inode) = tree.inode(id) else {
            continue;
        };
        let kind = match &inode.content {
            Content::Directory(folder) => {
                for (name, child) in folder.names().rev() {
                    if names.add(child, id, name) {
                        left.push(child);
                    }
                }
                Kind::Directory
            }
            Content::File { layer, entry, .. } => {
                if let Some(list) = wanted.get_mut(*layer) {
                    list.insert(*entry, id);
                }
                continue;
            }
            Content::SymbolicLink(target) => Kind::SymbolicLink(target.clone()),
            Content::Character(major, minor) => Kind::Character(*major, *minor),
            Content::Whiteout => Kind::Character(0, 0),
            Content::Fifo => Kind::Fifo,
        };
        out.entry(&entry_of(names.path(id), kind, 0, inode))?;
    }
    for (number, list) in wanted.iter().enumerate() {
        if list.is_empty() {
            continue;
        }
        let mut reader = Reader::new(archive(number)?);
        let mut at = 0_usize;
        let mut left = list.len();
        let mut chunk = vec![0; 128 << 10];
        while left > 0 {
            let Some(entry) = reader.entry()? else { break };
            if let Some((id, inode)) = list.get(&at).and_then(|id| Some((*id, tree.inode(*id)?))) {
                left = left.saturating_sub(1);
                out.entry(&entry_of(names.path(id), Kind::File, entry.size, inode))?;
                loop {
                    match reader.read(&mut chunk)? {
                        0 => break,
                        count => out.data(chunk.get(..count).unwrap_or_default())?,
                    }
                }
            }
            at = at.saturating_add(1);
        }
    }
    for (id, folder, name) in &names.more {
        if let Some(inode) = tree.inode(*id) {
            let kind = Kind::HardLink(names.path(*id));
            let path = [names.front(*folder).as_slice(), name].concat();
            out.entry(&entry_of(path, kind, 0, inode))?;
        }
    }
    out.finish()
}

/// Where the inodes of a tree are.
#[derive(Default)]
struct Names<'t> {
    /// Directory and name in it that come first.
    first: HashMap<Id, (Id, &'t [u8])>,
    /// Further names.
    more: Vec<(Id, Id, &'t [u8])>,
}

impl<'t> Names<'t> {
    /// Whether it is the first name.
    fn add(&mut self, id: Id, folder: Id, name: &'t [u8]) -> bool {
        if self.first.contains_key(&id) {
            self.more.push((id, folder, name));
            return false;
        }
        self.first.insert(id, (folder, name));
        true
    }

    fn path(&self, id: Id) -> Vec<u8> {
        match self.first.get(&id) {
            Some((folder, name)) => [self.front(*folder).as_slice(), name].concat(),
            None => b"./".to_vec(),
        }
    }

    /// What stands in front of names in a directory.
    fn front(&self, folder: Id) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = folder;
        while let Some((above, name)) = self.first.get(&at) {
            parts.push(*name);
            at = *above;
        }
        let mut out = Vec::new();
        for part in parts.iter().rev() {
            out.extend_from_slice(part);
            out.push(b'/');
        }
        out
    }
}

fn entry_of(path: Vec<u8>, kind: Kind, size: u64, inode: &tree::Inode) -> Entry {
    let of = &inode.attributes;
    Entry {
        path,
        kind,
        mode: of.mode,
        uid: of.uid,
        gid: of.gid,
        mtime: of.mtime.clamp(0, i64::from(u32::MAX)),
        size,
        xattrs: wanted_xattrs(inode),
    }
}

/// The attributes that squashfs can hold, sorted, with the mark of a directory that hides others.
fn wanted_xattrs(inode: &tree::Inode) -> Vec<Xattr> {
    let mut all = inode.attributes.xattrs.clone();
    if let Content::Directory(folder) = &inode.content
        && folder.is_opaque()
    {
        all.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
    }
    let spaces: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    all.retain(|(name, _)| {
        let mut spaces = spaces.iter();
        spaces.any(|space| name.starts_with(space) && name.len() > space.len())
    });
    all.sort();
    all
}

/// Checks that a file system, which another program made, is what a tree wants: every name, kind,
/// attribute and length; not the data.
///
/// # Errors
/// [`Error::Differs`], or what is wrong with the file system.
pub fn compare(tree: &Tree, image: &mut FileSystem<'_>) -> Result<(), Error> {
    let mut seen = Seen::default();
    // The names of one file are names of one file there.
    let mut places: HashMap<Id, u64> = HashMap::new();
    let mut path = Vec::new();
    let root = image.root()?;
    let mut open = Vec::new();
    if let Some((folder, listing)) = matched(tree, Tree::ROOT, root, &mut places, &path)? {
        open.push((folder.names(), listing, 0));
    }
    while let Some((names, listing, front)) = open.last_mut() {
        path.truncate(*front);
        let (name, child, found) = match (names.next(), image.next(listing)?) {
            (Some((name, child)), Some((other, found))) if other == name => (name, child, found),
            (None, None) => {
                open.pop();
                continue;
            }
            _ => return Err(differs(&path, "names")),
        };
        path.extend_from_slice(name);
        if matches!(found.shape, Shape::Directory(_)) {
            seen.enter(&found)?;
        }
        if let Some((folder, listing)) = matched(tree, child, found, &mut places, &path)? {
            path.push(b'/');
            open.push((folder.names(), listing, path.len()));
        }
    }
    Ok(())
}

fn differs(path: &[u8], what: &'static str) -> Error {
    let path = String::from_utf8_lossy(path);
    Error::Differs {
        path: format!("/{}", path.trim_end_matches('/')),
        what,
    }
}

/// Compares one file; what is in a directory is still to be compared.
fn matched<'t>(
    tree: &'t Tree,
    id: Id,
    found: Inode,
    places: &mut HashMap<Id, u64>,
    path: &[u8],
) -> Result<Option<(&'t Directory, Listing)>, Error> {
    let differs = |what| Err(differs(path, what));
    let Some(inode) = tree.inode(id) else {
        return differs("names");
    };
    if *places.entry(id).or_insert(found.place) != found.place {
        return differs("hard links");
    }
    let (of, got) = (&inode.attributes, &found.attributes);
    // Linux has no mode of a symbolic link.
    let has_mode = !matches!(inode.content, Content::SymbolicLink(_));
    // mksquashfs 4.5 takes the present for the root, whatever it is told.
    let has_time = id != Tree::ROOT;
    for (what, same) in [
        ("mode", of.mode == got.mode || !has_mode),
        ("owner", of.uid == got.uid),
        ("group", of.gid == got.gid),
        (
            "time",
            of.mtime.clamp(0, i64::from(u32::MAX)) == got.mtime || !has_time,
        ),
        ("extended attributes", wanted_xattrs(inode) == got.xattrs),
    ] {
        if !same {
            return differs(what);
        }
    }
    match (&inode.content, found.shape) {
        (Content::Directory(folder), Shape::Directory(listing)) => {
            return Ok(Some((folder, listing)));
        }
        (Content::File { size, .. }, Shape::File(data)) if *size == data.size => {}
        (Content::File { .. }, Shape::File(_)) => return differs("length"),
        (Content::SymbolicLink(target), Shape::SymbolicLink(other)) if *target == other => {}
        (Content::Character(major, minor), Shape::Character(other_major, other_minor))
            if (*major, *minor) == (other_major, other_minor) => {}
        (Content::Whiteout, Shape::Character(0, 0)) | (Content::Fifo, Shape::Fifo) => {}
        _ => return differs("kind"),
    }
    Ok(None)
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
        let named = name.starts_with(WHITEOUT);
        if matches!(inode.shape, Shape::Character(0, 0)) {
            // Of a name that begins so, the whiteout would have another meaning.
            if named {
                return Err(fault(path, Fault::Whiteout));
            }
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
        if named && !self.lowest {
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
