//! A finished plan: which bytes are written where, and in which order.

use crate::sif::Snapshot;
use crate::sif::types::ObjectId;

/// A planned change, complete before the first byte is written.
#[derive(Debug)]
pub struct Patch {
    /// What the plan was made for; the file must still be so.
    pub before: Snapshot,
    /// Ids of the new objects, in the order of the request.
    pub ids: Vec<ObjectId>,
    /// How the change is carried out.
    pub method: Method,
}

/// How a change is carried out.
#[derive(Debug)]
pub enum Method {
    /// The file is changed where it is.
    InPlace(InPlace),
    /// A new file takes its place.
    Rewrite(Rewrite),
}

/// Writes to the file itself.
///
/// Whatever part of a phase reached the disk, the image reads as before up to
/// and without the phase [`InPlace::commit`], and as after once that is
/// written. The commit is one write inside one sector of a disk.
#[derive(Debug)]
pub struct InPlace {
    /// Written one after the other, each synced before the next one.
    pub phases: Vec<Vec<Write>>,
    /// Index of the phase that makes the change visible.
    pub commit: usize,
    /// Length of the file in the end, in bytes; what is cut is used by nobody.
    pub len: u64,
}

/// Content of a new file that takes the place of the old one.
///
/// What is neither written nor copied is zero.
#[derive(Debug)]
pub struct Rewrite {
    /// Header, table and new data.
    pub writes: Vec<Write>,
    /// Data that comes from the old file.
    pub copies: Vec<Copy>,
    /// Length of the new file in bytes.
    pub len: u64,
    /// Capacity of its table.
    pub capacity: usize,
}

/// Bytes for a position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Byte position from the start of the file.
    pub at: u64,
    /// What is written there.
    pub bytes: Bytes,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// These bytes.
    Data(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
}

/// A range of the old file and its place in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// First byte in the old file.
    pub from: u64,
    /// First byte in the new file.
    pub to: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Patch {
    /// Capacity of the table if the file has to be written anew.
    pub fn new_capacity(&self) -> Option<usize> {
        match &self.method {
            Method::InPlace(_) => None,
            Method::Rewrite(new) => Some(new.capacity),
        }
    }
}

impl Patch {
    /// The image that the patch makes of one in memory.
    ///
    /// Data that was brought to its place before must be in `old`.
    pub fn applied(&self, old: &[u8]) -> Vec<u8> {
        match &self.method {
            Method::InPlace(plan) => {
                let mut bytes = old.to_vec();
                plan.phases
                    .iter()
                    .flatten()
                    .for_each(|write| write.put(&mut bytes));
                bytes.resize(index(plan.len), 0);
                bytes
            }
            Method::Rewrite(new) => {
                let mut bytes = vec![0; index(new.len)];
                for copy in &new.copies {
                    let from = index(copy.from)..index(copy.from.saturating_add(copy.len));
                    let data = old.get(from).unwrap_or_default().to_vec();
                    Write::data(copy.to, data).put(&mut bytes);
                }
                new.writes.iter().for_each(|write| write.put(&mut bytes));
                bytes
            }
        }
    }
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

impl Write {
    /// Does this to bytes in memory.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        let (start, end) = (index(self.at), index(self.at.saturating_add(self.len())));
        bytes.resize(bytes.len().max(end), 0);
        match (&self.bytes, bytes.get_mut(start..end)) {
            (Bytes::Data(new), Some(place)) => place.copy_from_slice(new),
            (Bytes::Zeros(_), Some(place)) => place.fill(0),
            (_, None) => {}
        }
    }

    /// Bytes of memory at a position.
    pub(super) fn data(at: u64, bytes: Vec<u8>) -> Self {
        let bytes = Bytes::Data(bytes);
        Self { at, bytes }
    }

    /// Zeros from `start` up to `end`.
    pub(super) fn zeros(start: u64, end: u64) -> Self {
        let bytes = Bytes::Zeros(end.saturating_sub(start));
        Self { at: start, bytes }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match &self.bytes {
            Bytes::Data(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Bytes::Zeros(len) => *len,
        }
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
