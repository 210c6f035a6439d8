//! Reads squashfs 4.0 with gzip or zstd, piece by piece.
//!
//! Of the tables only what is in use is kept: a few blocks, the owners, and which directories were
//! seen. Every place and length that an image names is checked before it is used, and what has to
//! be expanded to read it all is limited.
//!
//! Source: Linux Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h.

use super::tree::{Attributes, Xattr};
use super::{ATTRIBUTE, Error, Limits};
use flate2::{Decompress, FlushDecompress, Status};
use std::collections::{HashSet, VecDeque};
use std::io;
use std::rc::Rc;

const MAGIC: u32 = 0x7371_7368;
const SUPERBLOCK: usize = 96;
/// Most bytes of a metadata block, expanded.
const META: usize = 8 << 10;
const NOWHERE: u64 = u64::MAX;
const NONE: u32 = u32::MAX;
/// Set in the size of a data block that is not compressed.
const STORED: u32 = 1 << 24;
/// Set in the size of a metadata block that is not compressed.
const META_STORED: u16 = 1 << 15;
/// Set in the kind of an attribute whose value is elsewhere.
const ELSEWHERE: u16 = 0x100;
/// Metadata blocks and bytes of fragments that are kept.
const KEPT_META: usize = 64;
const KEPT_FRAGMENTS: usize = 8 << 20;
/// As Linux: longest name, path or link target, value of an attribute; and for one file in all.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4095;
const MAX_VALUE: usize = 64 << 10;
const MAX_VALUES: usize = 1 << 20;
const MAX_XATTRS: u32 = 1024;
/// Metadata and fragments may be expanded again; so many times the limit for files.
const AGAIN: u64 = 4;

/// Reads bytes at a position, all or none.
pub type ReadAt<'a> = Box<dyn Fn(u64, &mut [u8]) -> io::Result<()> + 'a>;

/// A file system.
pub struct FileSystem<'a> {
    read: ReadAt<'a>,
    /// Bytes.
    len: u64,
    method: Method,
    /// Bytes of a data block.
    block: usize,
    root: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    fragment_count: u32,
    /// Where attributes are: their pairs, the list of sets, number of sets.
    xattrs: Option<(u64, u64, u32)>,
    owners: Vec<u32>,
    metas: VecDeque<(u64, Rc<Vec<u8>>, u64)>,
    kept_fragments: VecDeque<(u32, Rc<Vec<u8>>)>,
    /// Bytes that may be expanded.
    room: u64,
    limits: Limits,
}

/// How blocks are compressed.
#[derive(Clone, Copy)]
enum Method {
    Gzip,
    Zstd,
}

/// A file, whatever its names.
#[derive(Debug)]
pub struct Inode {
    /// Where it is: two names with the same place are the same file.
    pub place: u64,
    /// How many names it should have.
    pub links: u32,
    /// What it is.
    pub shape: Shape,
    /// Attributes.
    pub attributes: Attributes,
}

/// What a file is.
#[derive(Debug)]
pub enum Shape {
    /// A directory.
    Directory(Listing),
    /// A file with data.
    File(Data),
    /// A symbolic link.
    SymbolicLink(Vec<u8>),
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A pipe with a name.
    Fifo,
    /// A socket.
    Socket,
}

/// Where the data of a file are.
#[derive(Clone, Debug)]
pub struct Data {
    /// Bytes.
    pub size: u64,
    start: u64,
    fragment: Option<(u32, u32)>,
    sizes: Cursor,
}

/// Where the rest of a directory is.
#[derive(Clone, Debug)]
pub struct Listing {
    cursor: Cursor,
    left: u32,
    /// Entries under the current header, and the block of their inodes.
    run: u32,
    block: u32,
    last: Vec<u8>,
}

/// A position in a list of metadata blocks.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    block: u64,
    offset: usize,
}

impl<'a> FileSystem<'a> {
    /// Reads the superblock of an image of `len` bytes.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] for what is no such file system.
    pub fn open(read: ReadAt<'a>, len: u64, limits: Limits) -> Result<Self, Error> {
        let mut head = [0; SUPERBLOCK];
        if len < length(SUPERBLOCK) {
            return Err(Error::Malformed("too short"));
        }
        read(0, &mut head)?;
        let word = |at| u32_at(&head, at);
        let long = |at| u64_at(&head, at);
        if word(0) != MAGIC {
            return Err(Error::Malformed("it does not begin as one"));
        }
        if (u16_at(&head, 28), u16_at(&head, 30)) != (4, 0) {
            return Err(Error::Malformed("version other than 4.0"));
        }
        let method = match u16_at(&head, 20) {
            1 => Method::Gzip,
            6 => Method::Zstd,
            other => return Err(Error::Compressor(other)),
        };
        let block = word(12);
        let log = u32::from(u16_at(&head, 22));
        if !(12..=20).contains(&log) || 1_u32.checked_shl(log) != Some(block) {
            return Err(Error::Malformed("size of a block"));
        }
        let used = long(40);
        if used > len || used < length(SUPERBLOCK) {
            return Err(Error::Malformed("it is longer than its layer"));
        }
        let mut this = Self {
            read,
            len: used,
            method,
            block: usize::try_from(block).unwrap_or(usize::MAX),
            root: long(32),
            inodes: long(64),
            directories: long(72),
            fragments: long(80),
            fragment_count: word(16),
            xattrs: None,
            owners: Vec::new(),
            metas: VecDeque::new(),
            kept_fragments: VecDeque::new(),
            room: limits.expanded(len).saturating_mul(AGAIN),
            limits,
        };
        this.read_owners(u16_at(&head, 26), long(48))?;
        this.read_xattrs(long(56))?;
        Ok(this)
    }

    /// The root directory.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Io`].
    pub fn root(&mut self) -> Result<Inode, Error> {
        let root = self.inode(self.root)?;
        match root.shape {
            Shape::Directory(_) => Ok(root),
            _ => Err(Error::Malformed("the root is no directory")),
        }
    }

    /// The next name of a directory and its file; nothing at the end.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Io`].
    pub fn next(&mut self, listing: &mut Listing) -> Result<Option<(Vec<u8>, Inode)>, Error> {
        let short = || Error::Malformed("a directory ends within an entry");
        if listing.run == 0 {
            if listing.left == 0 {
                return Ok(None);
            }
            let head: [u8; 12] = self.array(&mut listing.cursor)?;
            listing.left = listing.left.checked_sub(12).ok_or_else(short)?;
            let last = u32_at(&head, 0);
            // Linux takes no more under one header.
            if last >= 256 {
                return Err(Error::Malformed("header of a directory"));
            }
            listing.run = last.saturating_add(1);
            listing.block = u32_at(&head, 4);
        }
        let entry: [u8; 8] = self.array(&mut listing.cursor)?;
        let size = usize::from(u16_at(&entry, 6)).saturating_add(1);
        let whole = u32::try_from(size.saturating_add(8)).unwrap_or(u32::MAX);
        listing.left = listing.left.checked_sub(whole).ok_or_else(short)?;
        listing.run = listing.run.saturating_sub(1);
        if size > MAX_NAME {
            return Err(Error::Malformed("a name is longer than 255 bytes"));
        }
        let name = self.bytes(&mut listing.cursor, size)?;
        if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(Error::Malformed("a name that no file can have"));
        }
        // In order, so that no name is there twice.
        if name <= listing.last {
            return Err(Error::Malformed("a directory is not sorted"));
        }
        listing.last.clone_from(&name);
        let place = (u64::from(listing.block) << 16) | u64::from(u16_at(&entry, 0));
        Ok(Some((name, self.inode(place)?)))
    }

    /// Gives out the data of a file.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Io`], or what `sink` says.
    pub fn data(
        &mut self,
        data: &Data,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut sizes = data.sizes;
        let mut at = data.start;
        let mut left = data.size;
        let zeros = vec![0; self.block.min(usize::try_from(left).unwrap_or(usize::MAX))];
        while left > 0 {
            let want = self.block.min(usize::try_from(left).unwrap_or(usize::MAX));
            left = left.saturating_sub(length(want));
            if let Some((number, offset)) = data.fragment.filter(|_| want < self.block) {
                let fragment = self.fragment(number)?;
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = fragment.get(from..from.saturating_add(want));
                sink(part.ok_or(Error::Malformed("a file ends behind its fragment"))?)?;
                continue;
            }
            let word: [u8; 4] = self.array(&mut sizes)?;
            let size = u32_at(&word, 0);
            if size == 0 {
                sink(zeros.get(..want).unwrap_or_default())?;
                continue;
            }
            let block = self.block(at, size)?;
            if block.len() != want {
                return Err(Error::Malformed("a block has another length than its file"));
            }
            at = at.saturating_add(u64::from(size & !STORED));
            sink(&block)?;
        }
        Ok(())
    }

    fn inode(&mut self, place: u64) -> Result<Inode, Error> {
        let mut cursor = Cursor {
            block: self.inodes.saturating_add(place >> 16),
            offset: usize::try_from(place & 0xffff).unwrap_or_default(),
        };
        let head: [u8; 16] = self.array(&mut cursor)?;
        let owner = |this: &Self, at| {
            let owner = this.owners.get(usize::from(u16_at(&head, at)));
            owner.copied().ok_or(Error::Malformed("number of an owner"))
        };
        let mut attributes = Attributes {
            mode: u16_at(&head, 2) & 0o7777,
            uid: owner(self, 4)?,
            gid: owner(self, 6)?,
            mtime: i64::from(u32_at(&head, 8)),
            xattrs: Vec::new(),
        };
        let kind = u16_at(&head, 0);
        let (shape, links, xattr) = match kind {
            1 => {
                let rest: [u8; 16] = self.array(&mut cursor)?;
                let size = u32::from(u16_at(&rest, 8));
                let listing = self.listing(u32_at(&rest, 0), u16_at(&rest, 10), size)?;
                (Shape::Directory(listing), 1, NONE)
            }
            8 => {
                let rest: [u8; 24] = self.array(&mut cursor)?;
                let listing =
                    self.listing(u32_at(&rest, 8), u16_at(&rest, 18), u32_at(&rest, 4))?;
                (Shape::Directory(listing), 1, u32_at(&rest, 20))
            }
            2 => {
                let rest: [u8; 16] = self.array(&mut cursor)?;
                let data = Data {
                    start: u64::from(u32_at(&rest, 0)),
                    fragment: place_of(u32_at(&rest, 4), u32_at(&rest, 8)),
                    size: u64::from(u32_at(&rest, 12)),
                    sizes: cursor,
                };
                (Shape::File(data), 1, NONE)
            }
            9 => {
                let rest: [u8; 40] = self.array(&mut cursor)?;
                let data = Data {
                    start: u64_at(&rest, 0),
                    size: u64_at(&rest, 8),
                    fragment: place_of(u32_at(&rest, 28), u32_at(&rest, 32)),
                    sizes: cursor,
                };
                (Shape::File(data), u32_at(&rest, 24), u32_at(&rest, 36))
            }
            3 | 10 => {
                let rest: [u8; 8] = self.array(&mut cursor)?;
                let size = usize::try_from(u32_at(&rest, 4)).unwrap_or(usize::MAX);
                if size == 0 || size > MAX_PATH {
                    return Err(Error::Malformed("length of a symbolic link"));
                }
                let target = self.bytes(&mut cursor, size)?;
                if target.contains(&0) {
                    return Err(Error::Malformed("a zero byte in a symbolic link"));
                }
                let xattr = self.xattr_of(kind, &mut cursor)?;
                (Shape::SymbolicLink(target), u32_at(&rest, 0), xattr)
            }
            4 | 5 | 11 | 12 => {
                let rest: [u8; 8] = self.array(&mut cursor)?;
                let number = u32_at(&rest, 4);
                // As the kernel's new_decode_dev.
                let major = (number >> 8) & 0xfff;
                let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
                let shape = match kind {
                    4 | 11 => Shape::Block(major, minor),
                    _ => Shape::Character(major, minor),
                };
                let xattr = self.xattr_of(kind, &mut cursor)?;
                (shape, u32_at(&rest, 0), xattr)
            }
            6 | 7 | 13 | 14 => {
                let rest: [u8; 4] = self.array(&mut cursor)?;
                let shape = match kind {
                    6 | 13 => Shape::Fifo,
                    _ => Shape::Socket,
                };
                let xattr = self.xattr_of(kind, &mut cursor)?;
                (shape, u32_at(&rest, 0), xattr)
            }
            _ => return Err(Error::Malformed("type of an inode")),
        };
        attributes.xattrs = self.xattrs(xattr)?;
        Ok(Inode {
            place,
            links,
            shape,
            attributes,
        })
    }

    /// The number of the attributes that ends an extended inode.
    fn xattr_of(&mut self, kind: u16, cursor: &mut Cursor) -> Result<u32, Error> {
        if kind < 8 {
            return Ok(NONE);
        }
        let word: [u8; 4] = self.array(cursor)?;
        Ok(u32_at(&word, 0))
    }

    fn listing(&self, block: u32, offset: u16, size: u32) -> Result<Listing, Error> {
        // `.` and `..` count as three bytes.
        let left = size.checked_sub(3);
        Ok(Listing {
            cursor: Cursor {
                block: self.directories.saturating_add(u64::from(block)),
                offset: usize::from(offset),
            },
            left: left.ok_or(Error::Malformed("size of a directory"))?,
            run: 0,
            block: 0,
            last: Vec::new(),
        })
    }

    fn xattrs(&mut self, number: u32) -> Result<Vec<Xattr>, Error> {
        if number == NONE {
            return Ok(Vec::new());
        }
        let Some((pairs, list, _)) = self.xattrs.filter(|(_, _, count)| number < *count) else {
            return Err(Error::Malformed("number of extended attributes"));
        };
        let entry = self.entry(list, number)?;
        let count = u32_at(&entry, 8);
        if count > MAX_XATTRS {
            return Err(Error::Malformed("number of extended attributes"));
        }
        let place = |word: u64| Cursor {
            block: pairs.saturating_add(word >> 16),
            offset: usize::try_from(word & 0xffff).unwrap_or_default(),
        };
        let mut cursor = place(u64_at(&entry, 0));
        let mut all = Vec::new();
        let mut room = MAX_VALUES;
        for _ in 0..count {
            let head: [u8; 4] = self.array(&mut cursor)?;
            let kind = u16_at(&head, 0);
            let space: &[u8] = match kind & 0xff {
                0 => b"user.",
                1 => b"trusted.",
                2 => b"security.",
                _ => return Err(Error::Malformed("name space of an extended attribute")),
            };
            let size = usize::from(u16_at(&head, 2));
            if size == 0 || size > MAX_NAME {
                return Err(Error::Malformed("name of an extended attribute"));
            }
            let rest = self.bytes(&mut cursor, size)?;
            let mut value = self.value(&mut cursor)?;
            if kind & ELSEWHERE != 0 {
                let word = <[u8; 8]>::try_from(value.as_slice());
                let word = word.map_err(|_| Error::Malformed("value of an extended attribute"))?;
                value = self.value(&mut place(u64::from_le_bytes(word)))?;
            }
            let size = value.len().saturating_add(rest.len());
            room = room
                .checked_sub(size)
                .ok_or(Error::Malformed("extended attributes are too large"))?;
            // Many files can have the same ones.
            self.spend(size.saturating_add(ATTRIBUTE))?;
            all.push(([space, rest.as_slice()].concat(), value));
        }
        all.sort();
        if all.windows(2).any(|two| match two {
            [one, other] => one.0 == other.0,
            _ => false,
        }) {
            return Err(Error::Malformed("an extended attribute is there twice"));
        }
        Ok(all)
    }

    fn value(&mut self, cursor: &mut Cursor) -> Result<Vec<u8>, Error> {
        let word: [u8; 4] = self.array(cursor)?;
        let size = usize::try_from(u32_at(&word, 0)).unwrap_or(usize::MAX);
        if size > MAX_VALUE {
            return Err(Error::Malformed("value of an extended attribute"));
        }
        self.bytes(cursor, size)
    }

    /// An entry of 16 bytes of a table whose list of blocks begins at `list`.
    fn entry(&mut self, list: u64, number: u32) -> Result<[u8; 16], Error> {
        let block = u64::from(number >> 9);
        let offset = usize::try_from(number & 511).unwrap_or_default();
        let mut word = [0; 8];
        self.raw(list.saturating_add(block.saturating_mul(8)), &mut word)?;
        self.array(&mut Cursor {
            block: u64::from_le_bytes(word),
            offset: offset.saturating_mul(16),
        })
    }

    fn fragment(&mut self, number: u32) -> Result<Rc<Vec<u8>>, Error> {
        let known = self.kept_fragments.iter().find(|kept| kept.0 == number);
        if let Some((_, block)) = known {
            return Ok(Rc::clone(block));
        }
        if number >= self.fragment_count || self.fragments == NOWHERE {
            return Err(Error::Malformed("number of a fragment"));
        }
        let entry = self.entry(self.fragments, number)?;
        let size = u32_at(&entry, 8);
        if size == 0 {
            return Err(Error::Malformed("size of a fragment"));
        }
        let block = Rc::new(self.block(u64_at(&entry, 0), size)?);
        let most = KEPT_FRAGMENTS.checked_div(self.block).unwrap_or(1);
        if self.kept_fragments.len() >= most {
            self.kept_fragments.pop_front();
        }
        self.kept_fragments.push_back((number, Rc::clone(&block)));
        Ok(block)
    }

    /// A data block, expanded; `size` as the format has it.
    fn block(&mut self, at: u64, size: u32) -> Result<Vec<u8>, Error> {
        let stored = size & STORED != 0;
        let size = usize::try_from(size & !STORED).unwrap_or(usize::MAX);
        if size > self.block {
            return Err(Error::Malformed("size of a block"));
        }
        let mut bytes = vec![0; size];
        self.raw(at, &mut bytes)?;
        self.expanded(bytes, stored, self.block)
    }

    fn expanded(&mut self, bytes: Vec<u8>, stored: bool, most: usize) -> Result<Vec<u8>, Error> {
        let bytes = match stored {
            true => bytes,
            false => self.method.expand(&bytes, most)?,
        };
        self.spend(bytes.len())?;
        Ok(bytes)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        let left = self.room.checked_sub(length(bytes));
        self.room = left.ok_or_else(|| Error::Bomb {
            compressed: self.len,
            limit: self.limits.expanded(self.len),
        })?;
        Ok(())
    }

    /// The metadata block at a position and where the next one is.
    fn meta(&mut self, at: u64) -> Result<(Rc<Vec<u8>>, u64), Error> {
        if let Some((_, block, next)) = self.metas.iter().find(|kept| kept.0 == at) {
            return Ok((Rc::clone(block), *next));
        }
        let mut head = [0; 2];
        self.raw(at, &mut head)?;
        let head = u16::from_le_bytes(head);
        let size = usize::from(head & !META_STORED);
        if size == 0 || size > META {
            return Err(Error::Malformed("size of a metadata block"));
        }
        let begin = at.saturating_add(2);
        let mut bytes = vec![0; size];
        self.raw(begin, &mut bytes)?;
        let block = Rc::new(self.expanded(bytes, head & META_STORED != 0, META)?);
        if block.is_empty() {
            return Err(Error::Malformed("size of a metadata block"));
        }
        let next = begin.saturating_add(length(size));
        if self.metas.len() >= KEPT_META {
            self.metas.pop_front();
        }
        self.metas.push_back((at, Rc::clone(&block), next));
        Ok((block, next))
    }

    fn array<const N: usize>(&mut self, cursor: &mut Cursor) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        self.fill(cursor, &mut out)?;
        Ok(out)
    }

    /// The next bytes; `size` was looked at.
    fn bytes(&mut self, cursor: &mut Cursor, size: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; size];
        self.fill(cursor, &mut out)?;
        Ok(out)
    }

    fn fill(&mut self, cursor: &mut Cursor, out: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < out.len() {
            let (block, next) = self.meta(cursor.block)?;
            let rest = block
                .get(cursor.offset..)
                .ok_or(Error::Malformed("a place behind its block"))?;
            if rest.is_empty() {
                *cursor = Cursor {
                    block: next,
                    offset: 0,
                };
                continue;
            }
            let room = out.get_mut(filled..).unwrap_or_default();
            let count = rest.len().min(room.len());
            for (to, from) in room.iter_mut().zip(rest) {
                *to = *from;
            }
            filled = filled.saturating_add(count);
            cursor.offset = cursor.offset.saturating_add(count);
        }
        Ok(())
    }

    fn raw(&self, at: u64, out: &mut [u8]) -> Result<(), Error> {
        let end = at.checked_add(length(out.len()));
        if end.is_none_or(|end| end > self.len) {
            return Err(Error::Malformed("a place behind its end"));
        }
        Ok((self.read)(at, out)?)
    }

    fn read_owners(&mut self, count: u16, list: u64) -> Result<(), Error> {
        let mut left = usize::from(count);
        let mut at = list;
        while left > 0 {
            let mut word = [0; 8];
            self.raw(at, &mut word)?;
            at = at.saturating_add(8);
            let mut cursor = Cursor {
                block: u64::from_le_bytes(word),
                offset: 0,
            };
            for _ in 0..left.min(META / 4) {
                let owner: [u8; 4] = self.array(&mut cursor)?;
                self.owners.push(u32::from_le_bytes(owner));
            }
            left = left.saturating_sub(META / 4);
        }
        Ok(())
    }

    fn read_xattrs(&mut self, at: u64) -> Result<(), Error> {
        if at == NOWHERE {
            return Ok(());
        }
        let mut head = [0; 16];
        self.raw(at, &mut head)?;
        self.xattrs = Some((u64_at(&head, 0), at.saturating_add(16), u32_at(&head, 8)));
        Ok(())
    }
}

/// Directories that were entered: none is entered twice.
#[derive(Default)]
pub struct Seen(HashSet<u64>);

impl Seen {
    /// Takes note of a directory.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it was entered before.
    pub fn enter(&mut self, inode: &Inode) -> Result<(), Error> {
        match self.0.insert(inode.place) {
            true => Ok(()),
            false => Err(Error::Malformed("a directory has two names")),
        }
    }
}

fn place_of(fragment: u32, offset: u32) -> Option<(u32, u32)> {
    (fragment != NONE).then_some((fragment, offset))
}

impl Method {
    /// Expands a block to at most so many bytes.
    fn expand(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, Error> {
        let out = match self {
            Self::Gzip => {
                let mut out = Vec::with_capacity(most);
                let mut inner = Decompress::new(true);
                let status = inner.decompress_vec(bytes, &mut out, FlushDecompress::Finish);
                matches!(status, Ok(Status::StreamEnd)).then_some(out)
            }
            Self::Zstd => zstd::bulk::decompress(bytes, most).ok(),
        };
        out.filter(|out| out.len() <= most)
            .ok_or(Error::Malformed("a block cannot be expanded"))
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes.get(at..at.saturating_add(N));
    field
        .and_then(|field| field.try_into().ok())
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
