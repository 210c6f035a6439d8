//! Writes squashfs 4.0 with gzip, in one pass over the data of the files.
//!
//! Data blocks go out while files come in; only what the tables need is kept: four bytes per
//! block of 128 KiB and a few dozen per file. The same tree gives the same bytes.
//!
//! Source: Linux Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.

use super::tree::{Attributes, Content, Directory, Id, Tree};
use super::{Error, tree};
use flate2::{Compress, Compression, FlushCompress, Status};
use std::collections::{HashMap, VecDeque};
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

const MAGIC: u32 = 0x7371_7368;
/// Bytes of a data block.
pub const BLOCK: usize = 128 << 10;
const BLOCK_LOG: u16 = 17;
/// Bytes of a metadata block, expanded.
const META: usize = 8 << 10;
const SUPERBLOCK: u64 = 96;
/// The file system is filled up to a multiple of this, as `mksquashfs` does.
const PADDING: u64 = 4096;
const NOWHERE: u64 = u64::MAX;
const NONE: u32 = u32::MAX;
/// Set in the size of a data block that is not compressed.
const STORED: u32 = 1 << 24;
/// Set in the size of a metadata block that is not compressed.
const META_STORED: u16 = 1 << 15;
/// Level of gzip: what `mksquashfs` takes costs three times as much for one percent.
const LEVEL: u32 = 6;
const NO_FRAGMENTS: u16 = 0x0010;
const NO_XATTRS: u16 = 0x0200;
/// Directory entries under one header.
const RUN: usize = 256;

/// A file system that is being written.
pub struct Writer<W> {
    out: W,
    /// Where the file system begins in `out`.
    base: u64,
    /// Bytes from there.
    at: u64,
    pool: Pool,
    /// What comes back from the pool, in order.
    pending: VecDeque<(mpsc::Receiver<Block>, Target)>,
    files: HashMap<Id, FileData>,
    fragment: Vec<u8>,
    fragments: Vec<(u64, u32)>,
}

/// Where the data of a file is.
#[derive(Default)]
struct FileData {
    start: u64,
    size: u64,
    sparse: u64,
    blocks: Vec<u32>,
    /// Fragment block and offset in it.
    fragment: Option<(u32, u32)>,
}

#[derive(Clone, Copy)]
enum Target {
    File(Id),
    Fragment,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file system at the current position of `out`; `threads` compress.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(mut out: W, threads: usize) -> Result<Self, Error> {
        let base = out.stream_position()?;
        out.write_all(&[0; 96])?;
        Ok(Self {
            out,
            base,
            at: SUPERBLOCK,
            pool: Pool::new(threads.max(1)),
            pending: VecDeque::new(),
            files: HashMap::new(),
            fragment: Vec::new(),
            fragments: Vec::new(),
        })
    }

    /// Takes the data of a file, `size` bytes.
    ///
    /// # Errors
    /// What `read` says, or [`Error::Squashfs`] if it gives less.
    pub fn file(
        &mut self,
        id: Id,
        size: u64,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        self.files.insert(
            id,
            FileData {
                size,
                ..FileData::default()
            },
        );
        let mut left = size;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
            let mut block = vec![0; room];
            let mut filled = 0;
            while filled < room {
                match read(block.get_mut(filled..).unwrap_or_default())? {
                    0 => return Err(Error::Squashfs("a file is shorter than its header says")),
                    count => filled = filled.saturating_add(count),
                }
            }
            left = left.saturating_sub(length(room));
            if size < length(BLOCK) {
                return self.tail(id, &block);
            }
            if block.iter().all(|byte| *byte == 0) {
                // A hole takes its place in the list of sizes at the right moment.
                let (answer, hole) = mpsc::channel();
                let _ = answer.send(Block::Hole(length(room)));
                self.queue(hole, Target::File(id))?;
            } else {
                let answer = self.pool.compress(block);
                self.queue(answer, Target::File(id))?;
            }
        }
        Ok(())
    }

    /// Puts a small file into the common block.
    fn tail(&mut self, id: Id, bytes: &[u8]) -> Result<(), Error> {
        if self.fragment.len().saturating_add(bytes.len()) > BLOCK {
            self.flush_fragment()?;
        }
        let waiting = self
            .pending
            .iter()
            .filter(|(_, target)| matches!(target, Target::Fragment))
            .count();
        let number = self.fragments.len().saturating_add(waiting);
        let place = (
            u32::try_from(number).map_err(|_| Error::Squashfs("too many fragments"))?,
            u32::try_from(self.fragment.len()).unwrap_or_default(),
        );
        self.fragment.extend_from_slice(bytes);
        if let Some(file) = self.files.get_mut(&id) {
            file.fragment = Some(place);
        }
        Ok(())
    }

    fn flush_fragment(&mut self) -> Result<(), Error> {
        if self.fragment.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.fragment);
        let answer = self.pool.compress(block);
        self.queue(answer, Target::Fragment)
    }

    fn queue(&mut self, answer: mpsc::Receiver<Block>, target: Target) -> Result<(), Error> {
        self.pending.push_back((answer, target));
        while self.pending.len() > self.pool.room {
            self.take_one()?;
        }
        Ok(())
    }

    /// Writes the block that was queued first.
    fn take_one(&mut self) -> Result<(), Error> {
        let Some((answer, target)) = self.pending.pop_front() else {
            return Ok(());
        };
        let lost = Error::Squashfs("a thread that compresses went away");
        let block = answer.recv().map_err(|_| lost)?;
        let start = self.at;
        let (bytes, flag, hole) = match &block {
            Block::Compressed(bytes) => (bytes.as_slice(), 0, 0),
            Block::Stored(bytes) => (bytes.as_slice(), STORED, 0),
            Block::Hole(len) => (&[][..], 0, *len),
        };
        self.out.write_all(bytes)?;
        self.at = self.at.saturating_add(length(bytes.len()));
        let size = u32::try_from(bytes.len()).unwrap_or_default() | flag;
        match target {
            Target::Fragment => self.fragments.push((start, size)),
            Target::File(id) => {
                if let Some(file) = self.files.get_mut(&id) {
                    if file.blocks.is_empty() {
                        file.start = start;
                    }
                    file.sparse = file.sparse.saturating_add(hole);
                    file.blocks.push(size);
                }
            }
        }
        Ok(())
    }

    /// Writes the tables and the superblock; returns the length of the file system.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Squashfs`] for more than the format can hold.
    pub fn finish(mut self, tree: &Tree) -> Result<u64, Error> {
        self.flush_fragment()?;
        while !self.pending.is_empty() {
            self.take_one()?;
        }
        let files = std::mem::take(&mut self.files);
        let mut tables = Tables::new(tree, &files)?;
        tables.write_inodes()?;
        let mut superblock = Superblock {
            inodes: tables.count,
            fragments: u32::try_from(self.fragments.len())
                .map_err(|_| Error::Squashfs("too many fragments"))?,
            root: tables.reference(Tree::ROOT)?,
            ..Superblock::default()
        };
        superblock.inode_table = self.at;
        let inodes = std::mem::take(&mut tables.inodes).finish()?;
        self.put(&inodes)?;
        superblock.directory_table = self.at;
        let directories = std::mem::take(&mut tables.directories).finish()?;
        self.put(&directories)?;
        superblock.fragment_table = if self.fragments.is_empty() {
            superblock.flags |= NO_FRAGMENTS;
            NOWHERE
        } else {
            let fragments = std::mem::take(&mut self.fragments);
            let bytes = fragments.iter().flat_map(|(start, size)| {
                let mut entry = Vec::with_capacity(16);
                entry.extend_from_slice(&start.to_le_bytes());
                entry.extend_from_slice(&size.to_le_bytes());
                entry.extend_from_slice(&[0; 4]);
                entry
            });
            self.table(&bytes.collect::<Vec<u8>>())?
        };
        superblock.ids = u16::try_from(tables.ids.list.len())
            .map_err(|_| Error::Squashfs("more than 65535 owners and groups"))?;
        let ids = tables.ids.list.iter().flat_map(|id| id.to_le_bytes());
        superblock.id_table = self.table(&ids.collect::<Vec<u8>>())?;
        superblock.xattr_table = match tables.xattrs.take()? {
            None => {
                superblock.flags |= NO_XATTRS;
                NOWHERE
            }
            Some([pairs, lookup]) => self.xattrs(&pairs, &lookup)?,
        };
        superblock.bytes = self.at;
        let rest = self.at.checked_rem(PADDING).unwrap_or_default();
        if rest != 0 {
            let zeros = usize::try_from(PADDING.saturating_sub(rest)).unwrap_or_default();
            self.put(&vec![0; zeros])?;
        }
        self.out.seek(SeekFrom::Start(self.base))?;
        self.out.write_all(&superblock.to_bytes())?;
        let end = self.base.saturating_add(self.at);
        self.out.seek(SeekFrom::Start(end))?;
        self.out.flush()?;
        Ok(self.at)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.at = self.at.saturating_add(length(bytes.len()));
        Ok(())
    }

    /// Writes metadata blocks and the list of where they are; returns where the list is.
    fn table(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let mut list = Vec::new();
        for chunk in bytes.chunks(META) {
            list.extend_from_slice(&self.at.to_le_bytes());
            let block = meta_block(chunk)?;
            self.put(&block)?;
        }
        let start = self.at;
        self.put(&list)?;
        Ok(start)
    }

    fn xattrs(&mut self, pairs: &[u8], lookup: &[u8]) -> Result<u64, Error> {
        let start = self.at;
        self.put(pairs)?;
        let mut list = Vec::new();
        for chunk in lookup.chunks(META) {
            list.extend_from_slice(&self.at.to_le_bytes());
            let block = meta_block(chunk)?;
            self.put(&block)?;
        }
        let table = self.at;
        let count = lookup.len().checked_div(16).unwrap_or_default();
        let mut head = start.to_le_bytes().to_vec();
        head.extend_from_slice(&u32::try_from(count).unwrap_or_default().to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        self.put(&head)?;
        self.put(&list)?;
        Ok(table)
    }
}

#[derive(Default)]
struct Superblock {
    inodes: u32,
    fragments: u32,
    flags: u16,
    ids: u16,
    root: u64,
    bytes: u64,
    id_table: u64,
    xattr_table: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
}

impl Superblock {
    /// The time is zero: the same tree gives the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&self.inodes.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u32::try_from(BLOCK).unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&self.fragments.to_le_bytes());
        let gzip = 1_u16;
        for short in [gzip, BLOCK_LOG, self.flags, self.ids, 4, 0] {
            out.extend_from_slice(&short.to_le_bytes());
        }
        for long in [
            self.root,
            self.bytes,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            NOWHERE,
        ] {
            out.extend_from_slice(&long.to_le_bytes());
        }
        out
    }
}

/// The inode and the directory table while they grow.
struct Tables<'a> {
    tree: &'a Tree,
    files: &'a HashMap<Id, FileData>,
    /// Number of inodes.
    count: u32,
    /// By index of the inode: its number, names that lead to it, place in the table.
    known: Vec<Known>,
    order: Vec<(Id, Id)>,
    inodes: Meta,
    directories: Meta,
    ids: Ids,
    xattrs: Xattrs,
}

#[derive(Clone, Copy, Default)]
struct Known {
    number: u32,
    links: u32,
    place: Option<(u32, u16)>,
}

impl<'a> Tables<'a> {
    fn new(tree: &'a Tree, files: &'a HashMap<Id, FileData>) -> Result<Self, Error> {
        let order = tree.reachable();
        let mut known = vec![Known::default(); tree.len()];
        let mut count = 0_u32;
        for (id, _) in &order {
            count = count
                .checked_add(1)
                .ok_or(Error::Squashfs("too many files"))?;
            if let Some(known) = known.get_mut(id.index()) {
                known.number = count;
            }
            let Some(Content::Directory(folder)) = tree.inode(*id).map(|inode| &inode.content)
            else {
                continue;
            };
            for (_, child) in folder.names() {
                if let Some(known) = known.get_mut(child.index()) {
                    known.links = known.links.saturating_add(1);
                }
            }
        }
        Ok(Self {
            tree,
            files,
            count,
            known,
            order,
            inodes: Meta::default(),
            directories: Meta::default(),
            ids: Ids::default(),
            xattrs: Xattrs::default(),
        })
    }

    /// Writes every inode, those in a directory before it.
    fn write_inodes(&mut self) -> Result<(), Error> {
        let order = std::mem::take(&mut self.order);
        let tree = self.tree;
        let is_folder = |(id, _): &&(Id, Id)| {
            let inode = tree.inode(*id);
            inode.is_some_and(|inode| matches!(inode.content, Content::Directory(_)))
        };
        // What has several names comes before all its directories; these backwards, so that one
        // comes behind all that is in it.
        let files = order.iter().filter(|item| !is_folder(item));
        let folders = order.iter().rev().filter(is_folder);
        for (id, parent) in files.chain(folders) {
            let Some(inode) = tree.inode(*id) else {
                continue;
            };
            let place = self.inodes.position()?;
            let known = self.known.get(id.index()).copied().unwrap_or_default();
            let xattr = self.xattrs.index(inode)?;
            match &inode.content {
                Content::Directory(folder) => {
                    let parent = if *id == Tree::ROOT {
                        self.count.saturating_add(1)
                    } else {
                        self.known
                            .get(parent.index())
                            .map_or(0, |known| known.number)
                    };
                    self.directory(folder, &inode.attributes, known, parent, xattr)?;
                }
                Content::File { .. } => {
                    self.file(*id, &inode.attributes, known, xattr)?;
                }
                Content::SymbolicLink(target) => {
                    self.head(3, 10, &inode.attributes, known, xattr)?;
                    self.inodes.u32(known.links)?;
                    let len = u32::try_from(target.len()).unwrap_or_default();
                    self.inodes.u32(len)?;
                    self.inodes.bytes(target)?;
                    self.xattr(xattr)?;
                }
                Content::Character(major, minor) => {
                    self.device(&inode.attributes, known, xattr, (*major, *minor))?;
                }
                Content::Whiteout => self.device(&inode.attributes, known, xattr, (0, 0))?,
                Content::Fifo => {
                    self.head(6, 13, &inode.attributes, known, xattr)?;
                    self.inodes.u32(known.links)?;
                    self.xattr(xattr)?;
                }
            }
            if let Some(known) = self.known.get_mut(id.index()) {
                known.place = Some(place);
            }
        }
        Ok(())
    }

    fn head(
        &mut self,
        basic: u16,
        extended: u16,
        attributes: &Attributes,
        known: Known,
        xattr: u32,
    ) -> Result<(), Error> {
        let kind = if xattr == NONE { basic } else { extended };
        let owner = self.ids.index(attributes.uid)?;
        let group = self.ids.index(attributes.gid)?;
        for short in [kind, attributes.mode, owner, group] {
            self.inodes.bytes(&short.to_le_bytes())?;
        }
        let time = attributes.mtime.clamp(0, i64::from(u32::MAX));
        self.inodes.u32(u32::try_from(time).unwrap_or_default())?;
        self.inodes.u32(known.number)
    }

    fn xattr(&mut self, xattr: u32) -> Result<(), Error> {
        if xattr == NONE {
            return Ok(());
        }
        self.inodes.u32(xattr)
    }

    fn device(
        &mut self,
        attributes: &Attributes,
        known: Known,
        xattr: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), Error> {
        self.head(5, 12, attributes, known, xattr)?;
        self.inodes.u32(known.links)?;
        // As the kernel's new_encode_dev.
        let number = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12);
        self.inodes.u32(number)?;
        self.xattr(xattr)
    }

    fn file(
        &mut self,
        id: Id,
        attributes: &Attributes,
        known: Known,
        xattr: u32,
    ) -> Result<(), Error> {
        let nothing = FileData::default();
        let data = self.files.get(&id).unwrap_or(&nothing);
        let (fragment, offset) = data.fragment.unwrap_or((NONE, 0));
        let start = u32::try_from(data.start).ok();
        let size = u32::try_from(data.size).ok();
        let is_plain = known.links == 1 && xattr == NONE && data.sparse == 0;
        match (start, size) {
            (Some(start), Some(size)) if is_plain => {
                self.head(2, 2, attributes, known, xattr)?;
                for word in [start, fragment, offset, size] {
                    self.inodes.u32(word)?;
                }
            }
            _ => {
                self.head(9, 9, attributes, known, xattr)?;
                // A file of holes alone would be longer than the sum of its blocks.
                let sparse = data.sparse.min(data.size.saturating_sub(1));
                for long in [data.start, data.size, sparse] {
                    self.inodes.bytes(&long.to_le_bytes())?;
                }
                for word in [known.links, fragment, offset, xattr] {
                    self.inodes.u32(word)?;
                }
            }
        }
        for block in &data.blocks {
            self.inodes.u32(*block)?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        folder: &Directory,
        attributes: &Attributes,
        known: Known,
        parent: u32,
        xattr: u32,
    ) -> Result<(), Error> {
        let (block, offset) = self.directories.position()?;
        let (len, folders) = self.listing(folder)?;
        // `.` and `..` count as three bytes in the size.
        let size = len
            .checked_add(3)
            .ok_or(Error::Squashfs("a directory is too large"))?;
        let links = folders.saturating_add(2);
        match u16::try_from(size) {
            Ok(size) if xattr == NONE => {
                self.head(1, 1, attributes, known, xattr)?;
                self.inodes.u32(block)?;
                self.inodes.u32(links)?;
                self.inodes.bytes(&size.to_le_bytes())?;
                self.inodes.bytes(&offset.to_le_bytes())?;
                self.inodes.u32(parent)
            }
            _ => {
                self.head(8, 8, attributes, known, xattr)?;
                for word in [links, size, block, parent] {
                    self.inodes.u32(word)?;
                }
                // No index: a search reads the listing from its beginning.
                self.inodes.bytes(&[0, 0])?;
                self.inodes.bytes(&offset.to_le_bytes())?;
                self.inodes.u32(xattr)
            }
        }
    }

    /// Writes the entries of a directory; returns their length and how many are directories.
    fn listing(&mut self, folder: &Directory) -> Result<(u32, u32), Error> {
        let mut entries = folder.names().peekable();
        let mut len = 0_usize;
        let mut folders = 0_u32;
        while entries.peek().is_some() {
            let mut run = Vec::new();
            let mut base: Option<(u32, u32)> = None;
            while let Some((name, id)) = entries.peek().copied() {
                let known = self.known.get(id.index()).copied().unwrap_or_default();
                let (block, offset) = known.place.ok_or(Error::Squashfs("a file has no inode"))?;
                let (base_block, base_number) = *base.get_or_insert((block, known.number));
                let distance = i64::from(known.number).saturating_sub(i64::from(base_number));
                let Ok(distance) = i16::try_from(distance) else {
                    break;
                };
                if block != base_block || run.len() == RUN {
                    break;
                }
                let (kind, is_folder) = self.kind(id);
                folders = folders.saturating_add(u32::from(is_folder));
                run.push((offset, distance, kind, name));
                entries.next();
            }
            let (block, number) = base.unwrap_or_default();
            let count = u32::try_from(run.len()).unwrap_or_default();
            for word in [count.saturating_sub(1), block, number] {
                self.directories.u32(word)?;
            }
            len = len.saturating_add(12);
            for (offset, distance, kind, name) in run {
                self.directories.bytes(&offset.to_le_bytes())?;
                self.directories.bytes(&distance.to_le_bytes())?;
                self.directories.bytes(&kind.to_le_bytes())?;
                let last = u16::try_from(name.len().saturating_sub(1)).unwrap_or_default();
                self.directories.bytes(&last.to_le_bytes())?;
                self.directories.bytes(name)?;
                len = len.saturating_add(8).saturating_add(name.len());
            }
        }
        let len = u32::try_from(len).map_err(|_| Error::Squashfs("a directory is too large"))?;
        Ok((len, folders))
    }

    fn kind(&self, id: Id) -> (u16, bool) {
        match self.tree.inode(id).map(|inode| &inode.content) {
            Some(Content::Directory(_)) => (1, true),
            Some(Content::File { .. }) | None => (2, false),
            Some(Content::SymbolicLink(_)) => (3, false),
            Some(Content::Character(..) | Content::Whiteout) => (5, false),
            Some(Content::Fifo) => (6, false),
        }
    }

    /// Where an inode is: block and offset in one number.
    fn reference(&self, id: Id) -> Result<u64, Error> {
        let place = self.known.get(id.index()).and_then(|known| known.place);
        let (block, offset) = place.ok_or(Error::Squashfs("a file has no inode"))?;
        Ok((u64::from(block) << 16) | u64::from(offset))
    }
}

/// Numbers of owners and groups.
#[derive(Default)]
struct Ids {
    list: Vec<u32>,
    known: HashMap<u32, u16>,
}

impl Ids {
    fn index(&mut self, id: u32) -> Result<u16, Error> {
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let index = u16::try_from(self.list.len())
            .ok()
            .filter(|index| *index < u16::MAX)
            .ok_or(Error::Squashfs("more than 65535 owners and groups"))?;
        self.list.push(id);
        self.known.insert(id, index);
        Ok(index)
    }
}

/// Sets of extended attributes; equal ones are written once.
#[derive(Default)]
struct Xattrs {
    pairs: Meta,
    lookup: Vec<u8>,
    known: HashMap<Vec<tree::Xattr>, u32>,
}

impl Xattrs {
    fn index(&mut self, inode: &tree::Inode) -> Result<u32, Error> {
        let mut set = inode.attributes.xattrs.clone();
        if let Content::Directory(folder) = &inode.content
            && folder.is_opaque()
        {
            set.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
        }
        // The format has these name spaces and no other.
        let prefix = |name: &[u8]| {
            let spaces: [(u16, &[u8]); 3] = [(0, b"user."), (1, b"trusted."), (2, b"security.")];
            let mut spaces = spaces.into_iter();
            spaces.find_map(|(kind, space)| Some((kind, name.strip_prefix(space)?.to_vec())))
        };
        set.retain(|(name, _)| prefix(name).is_some_and(|(_, rest)| !rest.is_empty()));
        if set.is_empty() {
            return Ok(NONE);
        }
        if let Some(known) = self.known.get(&set) {
            return Ok(*known);
        }
        let (block, offset) = self.pairs.position()?;
        let mut len = 0_u32;
        for (name, value) in &set {
            let Some((kind, rest)) = prefix(name) else {
                continue;
            };
            let too_long = Error::Squashfs("an extended attribute is too long");
            let name_len = u16::try_from(rest.len()).map_err(|_| too_long)?;
            let too_long = Error::Squashfs("an extended attribute is too long");
            let value_len = u32::try_from(value.len()).map_err(|_| too_long)?;
            self.pairs.bytes(&kind.to_le_bytes())?;
            self.pairs.bytes(&name_len.to_le_bytes())?;
            self.pairs.bytes(&rest)?;
            self.pairs.u32(value_len)?;
            self.pairs.bytes(value)?;
            // As mksquashfs counts: names with their prefix and an end, and values.
            let counted = name.len().saturating_add(value.len()).saturating_add(1);
            len = len.saturating_add(u32::try_from(counted).unwrap_or_default());
        }
        let index = u32::try_from(self.known.len()).unwrap_or(NONE);
        let reference = (u64::from(block) << 16) | u64::from(offset);
        self.lookup.extend_from_slice(&reference.to_le_bytes());
        let count = u32::try_from(set.len()).unwrap_or_default();
        self.lookup.extend_from_slice(&count.to_le_bytes());
        self.lookup.extend_from_slice(&len.to_le_bytes());
        self.known.insert(set, index);
        Ok(index)
    }

    /// The metadata blocks of the pairs and the lookup table, if there is any.
    fn take(&mut self) -> Result<Option<[Vec<u8>; 2]>, Error> {
        if self.known.is_empty() {
            return Ok(None);
        }
        let pairs = std::mem::take(&mut self.pairs).finish()?;
        Ok(Some([pairs, std::mem::take(&mut self.lookup)]))
    }
}

/// A stream of metadata blocks.
#[derive(Default)]
struct Meta {
    /// Blocks that are ready, with their headers.
    done: Vec<u8>,
    /// The block that grows.
    open: Vec<u8>,
}

impl Meta {
    /// Where the next byte goes: start of its block from the start of the table, offset in it.
    fn position(&self) -> Result<(u32, u16), Error> {
        let block = u32::try_from(self.done.len())
            .map_err(|_| Error::Squashfs("a table is longer than 4 GiB"))?;
        Ok((block, u16::try_from(self.open.len()).unwrap_or_default()))
    }

    fn u32(&mut self, word: u32) -> Result<(), Error> {
        self.bytes(&word.to_le_bytes())
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = META.saturating_sub(self.open.len()).min(bytes.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.open.extend_from_slice(now);
            bytes = later;
            // Full blocks go at once, so that a position is always inside of one.
            if self.open.len() == META {
                self.done.extend_from_slice(&meta_block(&self.open)?);
                self.open.clear();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        if !self.open.is_empty() {
            self.done.extend_from_slice(&meta_block(&self.open)?);
        }
        Ok(self.done)
    }
}

/// A metadata block with its header.
fn meta_block(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (body, flag) = match deflate(bytes)? {
        Some(compressed) => (compressed, 0),
        None => (bytes.to_vec(), META_STORED),
    };
    let size = u16::try_from(body.len()).unwrap_or_default() | flag;
    let mut out = size.to_le_bytes().to_vec();
    out.extend_from_slice(&body);
    Ok(out)
}

/// Compresses, if that makes it smaller.
fn deflate(bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut compress = Compress::new(Compression::new(LEVEL), true);
    let status = compress
        .compress_vec(bytes, &mut out, FlushCompress::Finish)
        .map_err(|_| Error::Squashfs("gzip failed"))?;
    let fits = status == Status::StreamEnd && out.len() < bytes.len();
    Ok(fits.then_some(out))
}

/// A data block as it is written.
enum Block {
    Compressed(Vec<u8>),
    Stored(Vec<u8>),
    /// So many zeros, which are not written.
    Hole(u64),
}

/// Threads that compress.
struct Pool {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Blocks that may be under way.
    room: usize,
}

type Job = (Vec<u8>, mpsc::Sender<Block>);

impl Pool {
    fn new(threads: usize) -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    loop {
                        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((block, answer)) = job else { return };
                        let done = match deflate(&block) {
                            Ok(Some(compressed)) => Block::Compressed(compressed),
                            _ => Block::Stored(block),
                        };
                        // Nobody waits any more if the writer failed.
                        let _ = answer.send(done);
                    }
                })
            })
            .collect();
        Self {
            jobs: Some(jobs),
            room: threads.len().saturating_mul(4),
            threads,
        }
    }

    fn compress(&self, block: Vec<u8>) -> mpsc::Receiver<Block> {
        let (answer, receiver) = mpsc::channel();
        if let Some(jobs) = &self.jobs {
            // A receiver without a sender tells that the threads are gone.
            let _ = jobs.send((block, answer));
        }
        receiver
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
