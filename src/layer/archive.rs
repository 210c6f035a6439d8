//! Writes tar archives: POSIX headers, with extended ones where those have no room.
//!
//! The same entries give the same bytes.
//!
//! Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Interchange Format".

use super::tar::{Entry, Kind};
use super::{Error, Fault};
use std::io::Write;

const BLOCK: usize = 512;
/// Room for a name and for the target of a link.
const NAME: usize = 100;
/// Largest numbers of seven and of eleven octal digits.
const SEVEN: u64 = 0o777_7777;
const ELEVEN: u64 = 0o777_7777_7777;

/// An archive that is being written.
pub struct Writer<W> {
    out: W,
    /// Bytes of the current file that have to come.
    left: u64,
    padding: usize,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            left: 0,
            padding: 0,
            written: 0,
        }
    }

    /// Bytes that were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the headers of an entry; `size` bytes of [`Writer::data`] have to follow a file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Entry`] for an attribute that tar cannot express.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.end_file()?;
        let mut extended = Vec::new();
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let link: &[u8] = match &entry.kind {
            Kind::HardLink(target) | Kind::SymbolicLink(target) => target,
            _ => &[],
        };
        let size = match entry.kind {
            Kind::File => entry.size,
            _ => 0,
        };
        let mtime = u64::try_from(entry.mtime)
            .ok()
            .filter(|time| *time <= ELEVEN);
        if path.len() > NAME {
            record(&mut extended, b"path", &path);
        }
        if link.len() > NAME {
            record(&mut extended, b"linkpath", link);
        }
        for (name, number, most) in [
            (&b"size"[..], size, ELEVEN),
            (b"uid", u64::from(entry.uid), SEVEN),
            (b"gid", u64::from(entry.gid), SEVEN),
        ] {
            if number > most {
                record(&mut extended, name, number.to_string().as_bytes());
            }
        }
        if mtime.is_none() {
            record(&mut extended, b"mtime", entry.mtime.to_string().as_bytes());
        }
        for (name, value) in &entry.xattrs {
            if name.contains(&b'=') || name.contains(&0) {
                return Err(Error::Entry {
                    path: String::from_utf8_lossy(&entry.path).into_owned(),
                    fault: Fault::Attribute(String::from_utf8_lossy(name).into_owned()),
                });
            }
            record(
                &mut extended,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
        if !extended.is_empty() {
            let mut header = Header::new(b'x');
            header.text(0, NAME, b"././@PaxHeader");
            header.number(100, 8, 0o644);
            header.number(124, 12, length(extended.len()));
            self.put(&header.finish())?;
            self.put(&extended)?;
            self.zeros(padding(length(extended.len())))?;
        }
        let (kind, device) = match &entry.kind {
            Kind::File => (b'0', None),
            Kind::HardLink(_) => (b'1', None),
            Kind::SymbolicLink(_) => (b'2', None),
            Kind::Character(major, minor) => (b'3', Some((*major, *minor))),
            Kind::Block(major, minor) => (b'4', Some((*major, *minor))),
            Kind::Directory => (b'5', None),
            Kind::Fifo => (b'6', None),
        };
        let mut header = Header::new(kind);
        header.text(0, NAME, &path);
        header.number(100, 8, u64::from(entry.mode));
        let fits = |number: u64, most| if number > most { 0 } else { number };
        header.number(108, 8, fits(u64::from(entry.uid), SEVEN));
        header.number(116, 8, fits(u64::from(entry.gid), SEVEN));
        header.number(124, 12, fits(size, ELEVEN));
        header.number(136, 12, mtime.unwrap_or(0));
        header.text(157, NAME, link);
        let (major, minor) = device.unwrap_or_default();
        header.number(329, 8, u64::from(major));
        header.number(337, 8, u64::from(minor));
        self.put(&header.finish())?;
        self.left = size;
        self.padding = padding(size);
        Ok(())
    }

    /// Writes bytes of the current file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Squashfs`] for more than was announced.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.left = self
            .left
            .checked_sub(length(bytes.len()))
            .ok_or(Error::Squashfs("a file is longer than its header says"))?;
        self.put(bytes)
    }

    /// Ends the archive and gives back where it was written to.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Squashfs`] if bytes of the last file are missing.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end_file()?;
        self.zeros(BLOCK.saturating_mul(2))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_file(&mut self) -> Result<(), Error> {
        if self.left > 0 {
            return Err(Error::Squashfs("a file is shorter than its header says"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.zeros(padding)
    }

    fn zeros(&mut self, count: usize) -> Result<(), Error> {
        let zeros = [0; BLOCK * 2];
        self.put(zeros.get(..count).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.written = self.written.saturating_add(length(bytes.len()));
        Ok(())
    }
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.text(156, 1, &[kind]);
        header.text(257, 8, b"ustar\x0000");
        header
    }

    /// As much as fits.
    fn text(&mut self, at: usize, room: usize, text: &[u8]) {
        let field = self.0.get_mut(at..at.saturating_add(room));
        for (byte, new) in field.unwrap_or_default().iter_mut().zip(text) {
            *byte = *new;
        }
    }

    /// Octal digits, with a zero byte behind.
    fn number(&mut self, at: usize, room: usize, number: u64) {
        let digits = room.saturating_sub(1);
        self.text(at, digits, format!("{number:0digits$o}").as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.text(148, 8, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// `27 mtime=1350244992.023960\n`; the number counts itself.
fn record(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // A blank, an equals sign, a line end.
    let rest = name.len().saturating_add(value.len()).saturating_add(3);
    let mut len = rest;
    loop {
        let whole = rest.saturating_add(len.to_string().len());
        if whole == len {
            break;
        }
        len = whole;
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(name);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn padding(size: u64) -> usize {
    let over = size.checked_rem(length(BLOCK)).unwrap_or_default();
    match usize::try_from(over).unwrap_or_default() {
        0 => 0,
        over => BLOCK.saturating_sub(over),
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tar::Reader;

    #[test]
    fn what_is_written_is_read_again() {
        let long = vec![b'n'; 150];
        let entry = |path: &[u8], kind, size| Entry {
            path: path.to_vec(),
            kind,
            mode: 0o4755,
            uid: 1000,
            gid: 5_000_000,
            mtime: 1_700_000_000,
            size,
            xattrs: Vec::new(),
        };
        let mut entries = vec![
            entry(b"d/", Kind::Directory, 0),
            entry(&[b"d/".as_slice(), &long].concat(), Kind::File, 700),
            entry(
                b"hard",
                Kind::HardLink([b"d/".as_slice(), &long].concat()),
                0,
            ),
            entry(b"soft", Kind::SymbolicLink(b"/where/ever".to_vec()), 0),
            entry(b"tty", Kind::Character(5, 1 << 18), 0),
            entry(b"disk", Kind::Block(259, 3), 0),
            entry(b"pipe", Kind::Fifo, 0),
        ];
        // Lengths around those where the number of digits changes.
        for len in 60..120 {
            let mut noted = entry(b"noted", Kind::File, 0);
            noted.mtime = -5;
            noted.xattrs = vec![(b"user.note".to_vec(), vec![0xff; len])];
            entries.push(noted);
        }
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            let data = vec![7; usize::try_from(entry.size).unwrap()];
            writer.data(&data).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        for entry in &entries {
            assert_eq!(reader.entry().unwrap().as_ref(), Some(entry));
        }
        assert_eq!(reader.entry().unwrap(), None);
    }

    #[test]
    fn a_file_has_the_length_that_was_announced() {
        let entry = Entry {
            path: b"f".to_vec(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 3,
            xattrs: Vec::new(),
        };
        let mut writer = Writer::new(Vec::new());
        writer.entry(&entry).unwrap();
        assert!(writer.data(b"four").is_err());
        let mut writer = Writer::new(Vec::new());
        writer.entry(&entry).unwrap();
        writer.data(b"2s").unwrap();
        assert!(writer.entry(&entry).is_err());
        let mut named = entry.clone();
        named.size = 0;
        named.xattrs = vec![(b"user.a=b".to_vec(), Vec::new())];
        let error = Writer::new(Vec::new()).entry(&named).unwrap_err();
        assert!(error.to_string().contains("user.a=b"), "{error}");
    }
}
