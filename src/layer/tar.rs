//! Reads tar archives as they come: ustar, pax, GNU long names and sparse files.
//!
//! Extended headers are read up to a size; nothing else is kept.
//!
//! Source: POSIX.1-2017 pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format" and
//! "Storing Sparse Files".

use super::{Error, Fault};
use std::io::{self, Read};

const BLOCK: usize = 512;
/// Most bytes of extended headers and long names in front of one entry.
const MAX_EXTENDED: u64 = 1 << 20;
/// Most bytes of global headers: what they say is copied for every entry.
const MAX_GLOBAL: u64 = 16 << 10;
/// Most extended attributes of one entry.
const MAX_XATTRS: usize = 1024;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 16;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    File,
    /// Another name of an entry before.
    HardLink(Vec<u8>),
    /// A symbolic link.
    SymbolicLink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device.
    Character(u32, u32),
    /// A block device.
    Block(u32, u32),
    /// A pipe with a name.
    Fifo,
}

/// One entry, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The lower twelve bits of the mode.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Bytes of the file, holes included.
    pub size: u64,
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive that is being read.
pub struct Reader<R> {
    inner: R,
    /// Bytes that were read.
    at: u64,
    /// Stored bytes of the current entry that were not read.
    stored: u64,
    /// Zeros behind them.
    padding: u64,
    /// What of the current file comes next.
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Piece>,
    globals: Extended,
    /// Bytes of holes in the files so far.
    holes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Data(u64),
    Hole(u64),
}

/// What extended headers say about the next entry.
#[derive(Clone, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

#[derive(Clone, Default)]
struct Sparse {
    version: Option<(u8, u8)>,
    major: Option<u8>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Option<Vec<(u64, u64)>>,
}

impl<R: Read> Reader<R> {
    /// Begins at the start of an archive.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            at: 0,
            stored: 0,
            padding: 0,
            pieces: Vec::new().into_iter(),
            current: None,
            globals: Extended::default(),
            holes: 0,
        }
    }

    /// Bytes of holes in the sparse files so far: they are in no archive, and become zeros.
    pub fn holes(&self) -> u64 {
        self.holes
    }

    /// Goes on to the next entry; nothing at the end of the archive.
    ///
    /// # Errors
    /// [`Error::Tar`], [`Error::Entry`], [`Error::Io`].
    pub fn entry(&mut self) -> Result<Option<Entry>, Error> {
        self.skip_rest()?;
        let mut extended = self.globals.clone();
        let mut room = MAX_EXTENDED;
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = number(field(&header, 124, 12)).ok_or_else(|| self.malformed("size"))?;
            let kind = header.get(156).copied().unwrap_or_default();
            if matches!(kind, b'x' | b'g' | b'L' | b'K') {
                // An empty header costs something as well.
                let cost = size.max(length(BLOCK));
                let most = if kind == b'g' { MAX_GLOBAL } else { room };
                room = match room.checked_sub(cost) {
                    Some(left) if size <= most => left,
                    _ => return Err(self.malformed("extended header is too large")),
                };
            }
            match kind {
                b'x' => self.extended(size, &mut extended)?,
                b'g' => {
                    let mut globals = std::mem::take(&mut self.globals);
                    self.extended(size, &mut globals)?;
                    // One by one they can grow as well.
                    if globals.text() > MAX_GLOBAL {
                        return Err(self.malformed("extended header is too large"));
                    }
                    self.globals = globals.clone();
                    extended = globals;
                }
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                _ => return self.finish(&header, kind, size, extended).map(Some),
            }
        }
    }

    /// Reads the next bytes of the current file, holes as zeros; 0 at its end.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Tar`] if the archive ends.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let piece = match self.current.take().or_else(|| self.pieces.next()) {
                Some(Piece::Data(0) | Piece::Hole(0)) => continue,
                Some(piece) => piece,
                None => return Ok(0),
            };
            let (Piece::Data(left) | Piece::Hole(left)) = piece;
            let room = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let part = buffer.get_mut(..room).unwrap_or_default();
            let count = match piece {
                Piece::Hole(_) => {
                    part.fill(0);
                    room
                }
                Piece::Data(_) => {
                    let count = read_some(&mut self.inner, part)?;
                    if count == 0 && room > 0 {
                        return Err(self.malformed("ends within a file"));
                    }
                    self.moved(count);
                    self.stored = self.stored.saturating_sub(length(count));
                    count
                }
            };
            let rest = left.saturating_sub(length(count));
            self.current = Some(match piece {
                Piece::Data(_) => Piece::Data(rest),
                Piece::Hole(_) => Piece::Hole(rest),
            });
            return Ok(count);
        }
    }

    fn finish(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extended: Extended,
    ) -> Result<Entry, Error> {
        let size = extended.size.unwrap_or(size);
        let path = extended.sparse.name.clone().or(extended.path);
        let path = path.unwrap_or_else(|| header_path(header));
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let fail = |fault| Error::Entry {
            path: shown(),
            fault,
        };
        let id = |given: Option<u64>, at: usize, what| {
            given
                .or_else(|| number(field(header, at, 8)))
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| fail(Fault::Number(what)))
        };
        let uid = id(extended.uid, 108, "owner")?;
        let gid = id(extended.gid, 116, "group")?;
        let device = |at| {
            number(field(header, at, 8))
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| fail(Fault::Number("device number")))
        };
        let link = || {
            let link = extended.link.clone();
            link.unwrap_or_else(|| text(field(header, 157, 100)).to_vec())
        };
        let is_folder = path.ends_with(b"/");
        let kind = match kind {
            b'0' | b'\0' if is_folder => Kind::Directory,
            b'0' | b'\0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::SymbolicLink(link()),
            b'3' => Kind::Character(device(329)?, device(337)?),
            b'4' => Kind::Block(device(329)?, device(337)?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(fail(Fault::Kind(char::from(other)))),
        };
        let mode = number(field(header, 100, 8)).ok_or_else(|| fail(Fault::Number("mode")))?;
        let mtime = match extended.mtime {
            Some(time) => time,
            None => {
                signed_number(field(header, 136, 12)).ok_or_else(|| fail(Fault::Number("time")))?
            }
        };
        // Only files have data, whatever the size of others says; so does Go.
        self.stored = if kind == Kind::File { size } else { 0 };
        self.padding = padding(self.stored);
        let mut real = self.stored;
        let mut pieces = vec![Piece::Data(self.stored)];
        if kind == Kind::File {
            let map = self.sparse_map(header, &extended.sparse)?;
            if let Some((map, whole)) = map {
                pieces = self.sparse_pieces(&map, whole)?;
                self.holes = self.holes.saturating_add(whole.saturating_sub(self.stored));
                real = whole;
            }
        } else {
            pieces = Vec::new();
        }
        self.pieces = pieces.into_iter();
        self.current = None;
        Ok(Entry {
            mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
            size: if kind == Kind::File { real } else { 0 },
            path,
            kind,
            uid,
            gid,
            mtime,
            xattrs: extended.xattrs,
        })
    }

    /// The pieces of a sparse file with data, and its whole length.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn sparse_map(
        &mut self,
        header: &[u8; BLOCK],
        sparse: &Sparse,
    ) -> Result<Option<(Vec<(u64, u64)>, u64)>, Error> {
        let fault = "map of a sparse file";
        if header.get(156) == Some(&b'S') {
            let mut map = Vec::new();
            push_pieces(&mut map, field(header, 386, 96)).ok_or_else(|| self.malformed(fault))?;
            let whole = number(field(header, 483, 12)).ok_or_else(|| self.malformed(fault))?;
            let mut more = header.get(482) == Some(&1);
            while more {
                let mut block = [0; BLOCK];
                self.fill(&mut block)?;
                push_pieces(&mut map, field(&block, 0, 504))
                    .filter(|()| map.len() <= MAX_PIECES)
                    .ok_or_else(|| self.malformed(fault))?;
                more = block.get(504) == Some(&1);
            }
            return Ok(Some((map, whole)));
        }
        let Some(whole) = sparse.real_size else {
            return Ok(None);
        };
        if let Some(map) = &sparse.map {
            return Ok(Some((map.clone(), whole)));
        }
        if sparse.version != Some((1, 0)) {
            return Err(self.malformed("sparse file of an old format"));
        }
        // Format 1.0: decimal lines in front of the data.
        let mut count = None;
        let mut numbers = Vec::new();
        let mut digits = 0_u64;
        let mut block = [0; BLOCK];
        loop {
            if self.stored < length(BLOCK) {
                return Err(self.malformed(fault));
            }
            self.fill(&mut block)?;
            self.stored = self.stored.saturating_sub(length(BLOCK));
            for byte in block {
                match (byte, count) {
                    (b'0'..=b'9', _) => {
                        digits = digits
                            .checked_mul(10)
                            .and_then(|n| n.checked_add(u64::from(byte.wrapping_sub(b'0'))))
                            .ok_or_else(|| self.malformed(fault))?;
                        continue;
                    }
                    (b'\n', None) => {
                        let pairs = usize::try_from(digits).unwrap_or(usize::MAX);
                        if pairs > MAX_PIECES {
                            return Err(self.malformed(fault));
                        }
                        count = Some(pairs.saturating_mul(2));
                    }
                    (b'\n', Some(_)) => numbers.push(digits),
                    _ => return Err(self.malformed(fault)),
                }
                digits = 0;
                if count.is_some_and(|count| numbers.len() == count) {
                    let pairs = numbers.chunks_exact(2);
                    let map = pairs.filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
                    return Ok(Some((map.collect(), whole)));
                }
            }
        }
    }

    fn sparse_pieces(&self, map: &[(u64, u64)], whole: u64) -> Result<Vec<Piece>, Error> {
        let fault = || self.malformed("map of a sparse file");
        let mut pieces = Vec::new();
        let mut at = 0_u64;
        let mut data = 0_u64;
        for (offset, len) in map {
            let hole = offset.checked_sub(at).ok_or_else(fault)?;
            pieces.push(Piece::Hole(hole));
            pieces.push(Piece::Data(*len));
            at = offset.checked_add(*len).ok_or_else(fault)?;
            data = data.checked_add(*len).ok_or_else(fault)?;
        }
        pieces.push(Piece::Hole(whole.checked_sub(at).ok_or_else(fault)?));
        if data != self.stored {
            return Err(fault());
        }
        Ok(pieces)
    }

    /// The next header; nothing at two blocks of zeros or at the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            // As Go: what would stand behind a single one could be hidden there.
            return match self.block()? {
                Some(next) if next.iter().any(|byte| *byte != 0) => {
                    Err(self.malformed("a block of zeros before the end"))
                }
                _ => Ok(None),
            };
        }
        let sums = checksums(&block);
        let said = number(field(&block, 148, 8));
        if said.is_none_or(|said| said != sums.0 && i64::try_from(said) != Ok(sums.1)) {
            return Err(self.malformed("wrong checksum of a header"));
        }
        Ok(Some(block))
    }

    /// The next block; nothing at the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let part = block.get_mut(filled..).unwrap_or_default();
            match read_some(&mut self.inner, part)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.malformed("ends within a header")),
                count => {
                    self.moved(count);
                    filled = filled.saturating_add(count);
                }
            }
        }
        Ok(Some(block))
    }

    fn extended(&mut self, size: u64, out: &mut Extended) -> Result<(), Error> {
        let bytes = self.small(size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let record = next_record(&mut rest).ok_or_else(|| self.malformed("extended header"))?;
            out.set(record.0, record.1)
                .ok_or_else(|| self.malformed("value of an extended header"))?;
        }
        Ok(())
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.small(size)?;
        Ok(text(&bytes).to_vec())
    }

    /// Reads the whole data of an extended header, whose size was looked at.
    fn small(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.fill(&mut bytes)?;
        self.stored = 0;
        self.padding = padding(size);
        self.skip_rest()?;
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let part = buffer.get_mut(filled..).unwrap_or_default();
            match read_some(&mut self.inner, part)? {
                0 => return Err(self.malformed("ends within an entry")),
                count => {
                    self.moved(count);
                    filled = filled.saturating_add(count);
                }
            }
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 16 << 10];
        let mut left = self.stored.saturating_add(self.padding);
        self.stored = 0;
        self.padding = 0;
        self.pieces = Vec::new().into_iter();
        self.current = None;
        while left > 0 {
            let room = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            self.fill(buffer.get_mut(..room).unwrap_or_default())?;
            left = left.saturating_sub(length(room));
        }
        Ok(())
    }

    fn moved(&mut self, count: usize) {
        self.at = self.at.saturating_add(length(count));
    }

    fn malformed(&self, fault: &'static str) -> Error {
        Error::Tar { at: self.at, fault }
    }
}

impl Extended {
    fn set(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        // Takes back what a global header said: the header itself counts.
        if value.is_empty() {
            match name {
                b"path" => self.path = None,
                b"linkpath" => self.link = None,
                b"size" => self.size = None,
                b"uid" => self.uid = None,
                b"gid" => self.gid = None,
                b"mtime" => self.mtime = None,
                _ => return self.set_xattr(name, value),
            }
            return Some(());
        }
        match name {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(text()?.parse().ok()?),
            b"uid" => self.uid = Some(text()?.parse().ok()?),
            b"gid" => self.gid = Some(text()?.parse().ok()?),
            b"mtime" => {
                // Seconds with a fraction.
                let whole = text()?.split('.').next()?;
                self.mtime = Some(whole.parse().ok()?);
            }
            b"GNU.sparse.major" => self.sparse.major = Some(text()?.parse().ok()?),
            b"GNU.sparse.minor" => {
                let minor = text()?.parse().ok()?;
                self.sparse.version = Some((self.sparse.major?, minor));
            }
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = Some(text()?.parse().ok()?);
            }
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> =
                    text()?.split(',').map(|n| n.parse().ok()).collect();
                let numbers = numbers.filter(|n| n.len() <= MAX_PIECES.saturating_mul(2))?;
                let pairs = numbers.chunks_exact(2);
                let pairs = pairs.map(|pair| Some((*pair.first()?, *pair.get(1)?)));
                self.sparse.map = Some(pairs.collect::<Option<_>>()?);
            }
            _ => return self.set_xattr(name, value),
        }
        Some(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = name.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.retain(|(known, _)| known != name);
            if self.xattrs.len() >= MAX_XATTRS {
                return None;
            }
            self.xattrs.push((name.to_vec(), value.to_vec()));
        }
        Some(())
    }

    /// Bytes of what is said.
    fn text(&self) -> u64 {
        let names = [&self.path, &self.link, &self.sparse.name];
        let names = names.into_iter().flatten().map(Vec::len);
        let xattrs = self.xattrs.iter();
        let xattrs = xattrs.map(|(name, value)| name.len().saturating_add(value.len()));
        let map = self.sparse.map.as_ref().map_or(0, Vec::len);
        let map = map.saturating_mul(size_of::<(u64, u64)>());
        length(names.chain(xattrs).fold(map, usize::saturating_add))
    }
}

/// `27 mtime=1350244992.023960\n`
fn next_record<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let blank = rest.iter().position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(rest.get(..blank)?).ok()?.parse().ok()?;
    let body = rest.get(blank.checked_add(1)?..len.checked_sub(1)?)?;
    if rest.get(len.checked_sub(1)?) != Some(&b'\n') {
        return None;
    }
    *rest = rest.get(len..)?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals.checked_add(1)?..)?))
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(field(header, 0, 100));
    // GNU headers have other things where POSIX has the front of the name.
    let is_posix = field(header, 257, 8) == b"ustar\x0000";
    let prefix = text(field(header, 345, 155));
    if is_posix && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

fn field(header: &[u8], at: usize, len: usize) -> &[u8] {
    header.get(at..at.saturating_add(len)).unwrap_or_default()
}

/// Up to the first zero byte.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, or a number to base 256.
fn number(field: &[u8]) -> Option<u64> {
    u64::try_from(signed_number(field)?).ok()
}

fn signed_number(field: &[u8]) -> Option<i64> {
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        let negative = *first & 0x40 != 0;
        let mut value = i64::from(*first & 0x3f);
        if negative {
            value = value.checked_sub(0x40)?;
        }
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
        }
        return Some(value);
    }
    let digits = field
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| !matches!(**byte, b' ' | 0));
    digits.into_iter().try_fold(0_i64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

/// Unsigned sum, and the signed one of old programs; the field itself counts as blanks.
fn checksums(header: &[u8; BLOCK]) -> (u64, i64) {
    let bytes = header.iter().enumerate().map(|(at, byte)| match at {
        148..156 => b' ',
        _ => *byte,
    });
    bytes.fold((0, 0), |(unsigned, signed): (u64, i64), byte| {
        let negative = i64::from(byte).saturating_sub(if byte > 127 { 256 } else { 0 });
        (
            unsigned.saturating_add(u64::from(byte)),
            signed.saturating_add(negative),
        )
    })
}

fn push_pieces(map: &mut Vec<(u64, u64)>, fields: &[u8]) -> Option<()> {
    for pair in fields.chunks_exact(24) {
        if pair.first() == Some(&0) {
            break;
        }
        map.push((number(pair.get(..12)?)?, number(pair.get(12..)?)?));
    }
    Some(())
}

fn padding(size: u64) -> u64 {
    let over = size.checked_rem(length(BLOCK)).unwrap_or_default();
    match over {
        0 => 0,
        over => length(BLOCK).saturating_sub(over),
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Error> {
    loop {
        match reader.read(buffer) {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(match error.downcast::<Error>() {
                    Ok(ours) => ours,
                    Err(error) => Error::Io(error),
                });
            }
        }
    }
}
