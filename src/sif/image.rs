//! A parsed and checked image.
//!
//! Rules of this file:
//! - Structural faults fail [`Image::parse`] for every command; semantic
//!   faults are collected once and fail only where the image is judged or
//!   changed ([`Image::require_sound`]), so that a damaged image can be looked at.
//! - No number from the file sizes an allocation before it was compared with
//!   the length of the file.
//! - The header's count of free slots is never used; it is derived.
//!
//! Source: spec/sif.md 1.13, 1.14.

use super::descriptor::{DESCRIPTOR_LEN, Descriptor, RelativeId};
use super::header::{HEADER_LEN, Header, MAGIC};
use super::types::{DataType, GroupId};
use crate::digest::{Digest, HashAlgorithm};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Largest signature object that is read, in bytes.
pub const MAX_SIGNATURE_LEN: usize = 16 << 20;

/// Bytes hashed before their pages are given back.
const WINDOW: usize = 1 << 20;

/// Where the bytes of an image come from: a map at the edge, a `Vec` in tests.
pub trait Backing: Sync {
    /// All bytes of the file.
    fn bytes(&self) -> &[u8];

    /// Tells that these bytes are read next, as a whole.
    fn prepare(&self, _range: Range<usize>) {}

    /// Tells that these bytes are not needed again soon.
    fn release(&self, _range: Range<usize>) {}

    /// Whether the file became shorter under the map, so that zeros were read.
    fn lost(&self) -> bool {
        false
    }
}

impl Backing for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Why an image cannot be loaded or its bytes cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file ends inside the global header.
    #[error("reading global header: {}", if *.len == 0 { "EOF" } else { "unexpected EOF" })]
    HeaderCut {
        /// Length of the file in bytes.
        len: usize,
    },
    /// Bytes 32..42 are not the magic.
    #[error("invalid SIF magic")]
    Magic,
    /// Bytes 42..45 are not version 01.
    #[error("incompatible SIF version")]
    Version,
    /// A header field has a value that no image can have.
    #[error("header field '{field}' at byte {at} is {value}: {must}")]
    HeaderField {
        /// Name of the field.
        field: &'static str,
        /// Byte position of the field.
        at: usize,
        /// The stored value.
        value: i64,
        /// The rule that it breaks.
        must: &'static str,
    },
    /// The descriptor table does not lie inside the file or its own window.
    #[error("reading descriptors: {}", if *.readable == 0 { "EOF" } else { "unexpected EOF" })]
    TableCut {
        /// First byte of the table.
        start: u64,
        /// Byte behind the last descriptor.
        end: u128,
        /// Bytes of the table that can be read.
        readable: u64,
    },
    /// The data of an object cannot be read.
    #[error("{0}")]
    Object(Fault),
    /// A semantic fault of the image.
    #[error("malformed image: {0}")]
    Malformed(Fault),
    /// Another process made the file shorter while it was read.
    #[error("file was truncated by another process while it was read")]
    Lost,
    /// A signature object above [`MAX_SIGNATURE_LEN`].
    #[error("signature object {id} has {size} bytes, more than the {MAX_SIGNATURE_LEN} allowed")]
    SignatureTooLarge {
        /// Id of the object.
        id: u32,
        /// Its size in bytes.
        size: i64,
    },
}

impl Error {
    /// More about the fault than the originals' sentence tells: which bytes.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::HeaderCut { len } => Some(format!(
                "the global header is bytes 0..{HEADER_LEN}, the file ends at byte {len}"
            )),
            Self::Magic => Some("bytes 32..42 are not 'SIF_MAGIC' and a NUL".to_owned()),
            Self::Version => Some("bytes 42..45 are not '01' and a NUL".to_owned()),
            Self::TableCut {
                start,
                end,
                readable,
            } => Some(format!(
                "the descriptor table is bytes {start}..{end}, of which {readable} can be read"
            )),
            _ => None,
        }
    }
}

/// A semantic fault: the image loads, but cannot be trusted or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The free count is negative or above the capacity.
    #[error("descriptors free at byte 80 is {value}, of {total} in total")]
    FreeCount {
        /// The stored value.
        value: i64,
        /// Capacity of the table.
        total: usize,
    },
    /// Data offset or size cannot be.
    #[error("{field} at byte {at} is {value}, file length is {len}")]
    DataSection {
        /// `data offset` or `data size`.
        field: &'static str,
        /// Byte position of the field.
        at: usize,
        /// The stored value.
        value: i64,
        /// Length of the file in bytes.
        len: usize,
    },
    /// Negative offset of an object.
    #[error("object {id}: offset at byte {at} is {value}")]
    NegativeOffset {
        /// Id of the object.
        id: u32,
        /// Byte position of the field.
        at: u64,
        /// The stored value.
        value: i64,
    },
    /// Negative size of an object.
    #[error("object {id}: size at byte {at} is {value}")]
    NegativeSize {
        /// Id of the object.
        id: u32,
        /// Byte position of the field.
        at: u64,
        /// The stored value.
        value: i64,
    },
    /// Offset plus size leaves the range of a 64-bit number.
    #[error("object {id}: offset {offset} and size {size} at byte {at} overflow")]
    Overflow {
        /// Id of the object.
        id: u32,
        /// Byte position of the offset field.
        at: u64,
        /// The stored offset.
        offset: i64,
        /// The stored size.
        size: i64,
    },
    /// Data behind the end of the file.
    #[error("object {id}: data is bytes {start}..{end}, the file ends at byte {len}")]
    PastEnd {
        /// Id of the object.
        id: u32,
        /// First byte of the data.
        start: i64,
        /// Byte behind the data.
        end: i64,
        /// Length of the file in bytes.
        len: usize,
    },
    /// Data inside the header, the table or another object.
    #[error("object {id}: data at byte {start} overlaps {other}")]
    Overlap {
        /// Id of the object.
        id: u32,
        /// First byte of the data.
        start: usize,
        /// What it overlaps.
        other: String,
    },
    /// A used descriptor with id 0.
    #[error("descriptor at byte {at}: id is 0")]
    ZeroId {
        /// Byte position of the field.
        at: u64,
    },
    /// Two used descriptors with one id.
    #[error("descriptor at byte {at}: id {id} is used twice")]
    DuplicateId {
        /// The id.
        id: u32,
        /// Byte position of the second one.
        at: u64,
    },
    /// A group whose members disagree about the mask bits.
    #[error("object {id}: group field at byte {at} lacks the mask that its group has")]
    GroupMask {
        /// Id of the object.
        id: u32,
        /// Byte position of the field.
        at: u64,
    },
    /// More than one primary system partition.
    #[error("objects {first} and {second} are both primary system partitions")]
    SecondPrimary {
        /// Id of the first.
        first: u32,
        /// Id of the second.
        second: u32,
    },
}

/// Where the data of an object lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Inside the file, or empty.
    Inside(Range<usize>),
    /// Not readable, or only in part: the bytes that are there, and the fault.
    Faulty(Range<usize>, Fault),
}

/// A parsed image that borrows its bytes.
pub struct Image<'a> {
    backing: &'a dyn Backing,
    bytes: &'a [u8],
    header: Header,
    table_offset: u64,
    total: usize,
    descriptors: Vec<Descriptor>,
    lowest_in_raw_group: HashMap<u32, u32>,
    groups: BTreeMap<GroupId, Group>,
    by_id: HashMap<u32, Vec<usize>>,
    faults: Vec<Fault>,
}

/// Header and used descriptors as they were read, to see later whether they changed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    header: Header,
    table_offset: u64,
    total: usize,
    descriptors: Vec<Descriptor>,
}

impl Snapshot {
    /// Whether header and table of a file still say the same.
    ///
    /// The header is looked at first: a writer that replaces the table lets
    /// the header name another place meanwhile, so a table that was read half
    /// old and half new does not pass.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(self.header.as_bytes()) {
            return false;
        }
        let table = usize::try_from(self.table_offset)
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        let (slots, _) = table.as_chunks::<DESCRIPTOR_LEN>();
        let mut used = self.descriptors.iter();
        let same = slots
            .iter()
            .take(self.total)
            .filter(|raw| raw.get(4) != Some(&0))
            .all(|raw| used.next().is_some_and(|old| old.as_bytes() == raw));
        same && used.next().is_none()
    }
}

/// The members of one group.
#[derive(Debug, Default)]
struct Group {
    lowest: u32,
    /// Indices into the used descriptors, in table order.
    members: Vec<usize>,
}

impl<'a> Image<'a> {
    /// Parses header and table, and checks everything once.
    ///
    /// # Errors
    /// Structural faults only, [`Error`].
    pub fn parse(backing: &'a dyn Backing) -> Result<Self, Error> {
        let parsed = Self::parse_as_it_is(backing);
        // Zeros in the place of lost bytes look like another fault.
        if backing.lost() {
            return Err(Error::Lost);
        }
        parsed
    }

    fn parse_as_it_is(backing: &'a dyn Backing) -> Result<Self, Error> {
        let bytes = backing.bytes();
        let header = parse_header(bytes)?;
        let (table_offset, total) = locate_table(&header, bytes.len())?;
        let table = usize::try_from(table_offset)
            .ok()
            .and_then(|start| bytes.get(start..))
            .unwrap_or_default();
        let (slots, _) = table.as_chunks::<DESCRIPTOR_LEN>();
        let descriptors: Vec<_> = slots
            .iter()
            .take(total)
            .enumerate()
            .filter(|(_, raw)| raw.get(4) != Some(&0))
            .map(|(slot, raw)| Descriptor::from_bytes(slot, *raw))
            .collect();
        let mut lowest_in_raw_group = HashMap::new();
        let mut groups = BTreeMap::<GroupId, Group>::new();
        let mut by_id = HashMap::<u32, Vec<usize>>::new();
        for (index, object) in descriptors.iter().enumerate() {
            let id = object.raw_id();
            let lowest = lowest_in_raw_group.entry(object.raw_group()).or_insert(id);
            *lowest = id.min(*lowest);
            by_id.entry(id).or_default().push(index);
            if let Some(group) = object.group() {
                let lowest = u32::MAX;
                let members = Vec::new();
                let group = groups.entry(group).or_insert(Group { lowest, members });
                group.lowest = id.min(group.lowest);
                group.members.push(index);
            }
        }
        let mut image = Self {
            backing,
            bytes,
            header,
            table_offset,
            total,
            descriptors,
            lowest_in_raw_group,
            groups,
            by_id,
            faults: Vec::new(),
        };
        image.faults = image.find_faults();
        Ok(image)
    }

    /// The global header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Used descriptors in table order.
    pub fn objects(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// Header and table as they were read.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            header: self.header.clone(),
            table_offset: self.table_offset,
            total: self.total,
            descriptors: self.descriptors.clone(),
        }
    }

    /// Whether header and table in the file are still those that were read.
    ///
    /// Asked right after [`Image::parse`] it tells whether a writer was at
    /// work meanwhile; then the file is to be opened again.
    pub fn is_current(&self) -> bool {
        self.snapshot().matches(self.bytes)
    }

    /// Slots that are free but not zero, in table order: traces of a crash or of another writer.
    pub fn untidy_slots(&self) -> impl Iterator<Item = usize> + '_ {
        let table = usize::try_from(self.table_offset)
            .ok()
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default();
        let (slots, _) = table.as_chunks::<DESCRIPTOR_LEN>();
        slots
            .iter()
            .take(self.total)
            .enumerate()
            .filter(|(_, raw)| raw.get(4) == Some(&0) && raw.iter().any(|byte| *byte != 0))
            .map(|(slot, _)| slot)
    }

    /// Capacity of the descriptor table.
    pub fn capacity(&self) -> usize {
        self.total
    }

    /// Free slots, counted in the table.
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.descriptors.len())
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no slot is used.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Byte position of a slot of the table.
    pub fn slot_position(&self, slot: usize) -> u64 {
        let len = u64::try_from(DESCRIPTOR_LEN).unwrap_or(u64::MAX);
        let slot = u64::try_from(slot).unwrap_or(u64::MAX);
        self.table_offset.saturating_add(slot.saturating_mul(len))
    }

    /// Every semantic fault, in the order of the table.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Refuses an image with any semantic fault.
    ///
    /// # Errors
    /// The first fault as [`Error::Malformed`].
    pub fn require_sound(&self) -> Result<(), Error> {
        self.faults
            .first()
            .map_or(Ok(()), |fault| Err(Error::Malformed(fault.clone())))
    }

    /// The groups of used objects, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().copied()
    }

    /// Whether any used object is in a group.
    pub fn has_group(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// Smallest id in a group; 0 for a group that does not exist.
    pub fn lowest_id(&self, group: GroupId) -> u32 {
        self.groups.get(&group).map_or(0, |group| group.lowest)
    }

    /// Id of an object relative to the smallest id with the same raw group field.
    ///
    /// Source: sylabs/sif `pkg/sif/load.go`; spec/sif.md 1.5.
    pub fn relative_id(&self, object: &Descriptor) -> RelativeId {
        let lowest = self
            .lowest_in_raw_group
            .get(&object.raw_group())
            .copied()
            .unwrap_or_default();
        RelativeId(object.raw_id().wrapping_sub(lowest))
    }

    /// Where the data of an object lies in the file.
    pub fn place(&self, object: &Descriptor) -> Place {
        let (id, len) = (object.raw_id(), self.bytes.len());
        let (offset, size) = (object.offset(), object.size());
        let slot = self.slot_position(object.slot());
        if size < 0 {
            let at = slot.saturating_add(25);
            let value = size;
            return Place::Faulty(0..0, Fault::NegativeSize { id, at, value });
        }
        let at = slot.saturating_add(17);
        if offset < 0 {
            let value = offset;
            return Place::Faulty(0..0, Fault::NegativeOffset { id, at, value });
        }
        if size == 0 {
            return Place::Inside(0..0);
        }
        let Some(end) = offset.checked_add(size) else {
            return Place::Faulty(
                0..0,
                Fault::Overflow {
                    id,
                    at,
                    offset,
                    size,
                },
            );
        };
        let clamp = |value: i64| usize::try_from(value).unwrap_or(usize::MAX).min(len);
        let range = clamp(offset)..clamp(end);
        if usize::try_from(end).is_ok_and(|end| end <= len) {
            Place::Inside(range)
        } else {
            let start = offset;
            Place::Faulty(
                range,
                Fault::PastEnd {
                    id,
                    start,
                    end,
                    len,
                },
            )
        }
    }

    /// Borrows an object's data from the map; nothing is copied.
    ///
    /// # Errors
    /// [`Error::Object`] if the object does not lie inside the file.
    pub fn data(&self, object: &Descriptor) -> Result<&'a [u8], Error> {
        match self.place(object) {
            Place::Inside(range) => Ok(self.bytes.get(range).unwrap_or_default()),
            Place::Faulty(_, fault) => Err(Error::Object(fault)),
        }
    }

    /// Borrows what there is of an object's data, and tells whether it is whole.
    pub fn data_so_far(&self, object: &Descriptor) -> (&'a [u8], Option<Fault>) {
        let (range, fault) = match self.place(object) {
            Place::Inside(range) => (range, None),
            Place::Faulty(range, fault) => (range, Some(fault)),
        };
        (self.bytes.get(range).unwrap_or_default(), fault)
    }

    /// Borrows the data of a signature object.
    ///
    /// # Errors
    /// [`Error::Object`], or [`Error::SignatureTooLarge`].
    pub fn signature_data(&self, object: &Descriptor) -> Result<&'a [u8], Error> {
        let data = self.data(object)?;
        if data.len() > MAX_SIGNATURE_LEN {
            return Err(Error::SignatureTooLarge {
                id: object.raw_id(),
                size: object.size(),
            });
        }
        Ok(data)
    }

    /// Hashes an object where it lies, giving pages back on the way.
    ///
    /// # Errors
    /// [`Error::Object`] if it does not lie inside the file, [`Error::Lost`]
    /// if the file was truncated meanwhile.
    pub fn digest(&self, object: &Descriptor, algorithm: HashAlgorithm) -> Result<Digest, Error> {
        self.digest_all(std::slice::from_ref(&object), algorithm)
    }

    /// Hashes the data of several objects as one stream.
    ///
    /// # Errors
    /// As [`Image::digest`].
    pub fn digest_all(
        &self,
        objects: &[&Descriptor],
        algorithm: HashAlgorithm,
    ) -> Result<Digest, Error> {
        let mut hasher = algorithm.hasher();
        for object in objects {
            let range = match self.place(object) {
                Place::Inside(range) => range,
                Place::Faulty(_, fault) => return Err(Error::Object(fault)),
            };
            let mut at = range.start;
            while at < range.end {
                let next = at.saturating_add(WINDOW).min(range.end);
                self.backing.prepare(at..next);
                hasher.update(self.bytes.get(at..next).unwrap_or_default());
                self.backing.release(at..next);
                at = next;
            }
        }
        self.still_there()?;
        Ok(hasher.finish())
    }

    /// From the first to the last byte of a range that is not zero, giving pages back on the way.
    pub fn nonzero_span(&self, range: Range<usize>) -> Option<Range<usize>> {
        let mut span: Option<Range<usize>> = None;
        let mut at = range.start;
        while at < range.end {
            let next = at.saturating_add(WINDOW).min(range.end);
            self.backing.prepare(at..next);
            let window = self.bytes.get(at..next).unwrap_or_default();
            let first = window.iter().position(|byte| *byte != 0);
            let last = window.iter().rposition(|byte| *byte != 0);
            if let (Some(first), Some(last)) = (first, last) {
                let start = span.map_or(at.saturating_add(first), |span| span.start);
                span = Some(start..at.saturating_add(last).saturating_add(1));
            }
            self.backing.release(at..next);
            at = next;
        }
        span
    }

    /// Byte position of the descriptor table.
    pub fn table_position(&self) -> u64 {
        self.table_offset
    }

    /// Fails if the file was truncated under the map at any time so far.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn still_there(&self) -> Result<(), Error> {
        if self.backing.lost() {
            Err(Error::Lost)
        } else {
            Ok(())
        }
    }

    fn find_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.find_header_faults(&mut faults);
        let mut seen = HashSet::new();
        let mut primary = None;
        let mut places = Vec::new();
        for object in &self.descriptors {
            let id = object.raw_id();
            let slot = self.slot_position(object.slot());
            let at = slot.saturating_add(5);
            if id == 0 {
                faults.push(Fault::ZeroId { at });
            } else if !seen.insert(id) {
                faults.push(Fault::DuplicateId { id, at });
            }
            let crowded = |group| self.groups.get(&group).is_some_and(|g| g.members.len() > 1);
            if object.group_mask_incomplete() && object.group().is_some_and(crowded) {
                let at = slot.saturating_add(9);
                faults.push(Fault::GroupMask { id, at });
            }
            if object.is_primary_partition() {
                match primary {
                    None => primary = Some(id),
                    Some(first) => faults.push(Fault::SecondPrimary { first, second: id }),
                }
            }
            match self.place(object) {
                Place::Inside(range) if range.is_empty() => {}
                Place::Inside(range) => places.push((range, id)),
                Place::Faulty(_, fault) => faults.push(fault),
            }
        }
        self.find_overlaps(places, &mut faults);
        faults
    }

    fn find_header_faults(&self, faults: &mut Vec<Fault>) {
        let value = self.header.descriptors_free();
        if usize::try_from(value).map_or(true, |free| free > self.total) {
            let total = self.total;
            faults.push(Fault::FreeCount { value, total });
        }
        let len = self.bytes.len();
        let occupied = self.descriptors.iter().any(|object| object.size() > 0);
        let value = self.header.data_offset();
        // Old empty images have a data offset behind their end.
        if value < 0 || (occupied && usize::try_from(value).map_or(true, |at| at > len)) {
            faults.push(Fault::DataSection {
                field: "data offset",
                at: 112,
                value,
                len,
            });
        }
        let value = self.header.data_size();
        if value < 0 {
            faults.push(Fault::DataSection {
                field: "data size",
                at: 120,
                value,
                len,
            });
        }
    }

    fn find_overlaps(&self, mut places: Vec<(Range<usize>, u32)>, faults: &mut Vec<Fault>) {
        let table = usize::try_from(self.table_offset).unwrap_or(usize::MAX);
        let table_end = usize::try_from(self.slot_position(self.total)).unwrap_or(usize::MAX);
        places.sort_by_key(|(range, _)| (range.start, range.end));
        let mut reach: Option<(usize, u32)> = None;
        for (range, id) in places {
            let other = if range.start < HEADER_LEN {
                Some("the global header".to_owned())
            } else if range.start < table_end && range.end > table {
                Some("the descriptor table".to_owned())
            } else {
                reach
                    .filter(|(end, _)| *end > range.start)
                    .map(|(_, other)| format!("object {other}"))
            };
            if let Some(other) = other {
                let start = range.start;
                faults.push(Fault::Overlap { id, start, other });
            }
            if reach.is_none_or(|(end, _)| end < range.end) {
                reach = Some((range.end, id));
            }
        }
    }

    /// Finds one object by id.
    ///
    /// # Errors
    /// In the words of the originals, [`Lookup`].
    pub fn object(&self, id: u32) -> Result<&Descriptor, Lookup> {
        if self.is_empty() {
            return Err(Lookup::NoObjects);
        }
        if id == 0 {
            return Err(Lookup::InvalidObjectId);
        }
        match self.by_id.get(&id).map(Vec::as_slice) {
            None | Some([]) => Err(Lookup::NotFound),
            Some([only]) => self.descriptors.get(*only).ok_or(Lookup::NotFound),
            Some(_) => Err(Lookup::Several),
        }
    }

    /// Finds the primary system partition.
    ///
    /// # Errors
    /// In the words of the originals, [`Lookup`].
    pub fn primary_partition(&self) -> Result<&Descriptor, Lookup> {
        if self.is_empty() {
            return Err(Lookup::NoObjects);
        }
        let mut found = self.descriptors.iter().filter(|o| o.is_primary_partition());
        match (found.next(), found.next()) {
            (None, _) => Err(Lookup::NotFound),
            (Some(object), None) => Ok(object),
            (Some(_), Some(_)) => Err(Lookup::Several),
        }
    }

    /// Used objects of a group with their index in [`Image::objects`], in table order.
    pub fn group_members(&self, group: GroupId) -> impl Iterator<Item = (usize, &Descriptor)> {
        self.groups
            .get(&group)
            .into_iter()
            .flat_map(|group| &group.members)
            .filter_map(|index| Some((*index, self.descriptors.get(*index)?)))
    }

    /// Used signature objects in table order.
    pub fn signatures(&self) -> impl Iterator<Item = &Descriptor> {
        self.descriptors
            .iter()
            .filter(|object| object.data_type() == DataType::Signature)
    }
}

/// Why no single object was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lookup {
    /// The image has no used slot.
    #[error("no objects in image")]
    NoObjects,
    /// Id 0.
    #[error("invalid object ID")]
    InvalidObjectId,
    /// No match.
    #[error("object not found")]
    NotFound,
    /// More than one match.
    #[error("multiple objects found")]
    Several,
}

fn parse_header(bytes: &[u8]) -> Result<Header, Error> {
    let raw = bytes
        .first_chunk::<HEADER_LEN>()
        .ok_or(Error::HeaderCut { len: bytes.len() })?;
    let header = Header::from_bytes(*raw);
    if header.magic() != *MAGIC {
        return Err(Error::Magic);
    }
    if header.version() != *b"01\0" {
        return Err(Error::Version);
    }
    Ok(header)
}

/// Returns the byte position and the capacity of a table that lies in the file.
fn locate_table(header: &Header, len: usize) -> Result<(u64, usize), Error> {
    let non_negative = |field, at, value: i64| {
        u64::try_from(value).map_err(|_| Error::HeaderField {
            field,
            at,
            value,
            must: "must not be negative",
        })
    };
    let total = non_negative("descriptors total", 88, header.descriptors_total())?;
    let start = non_negative("descriptors offset", 96, header.descriptors_offset())?;
    let window = non_negative("descriptors size", 104, header.descriptors_size())?;
    if usize::try_from(start).map_or(true, |start| start < HEADER_LEN) {
        return Err(Error::HeaderField {
            field: "descriptors offset",
            at: 96,
            value: header.descriptors_offset(),
            must: "the table would overlap the global header",
        });
    }
    if start
        .checked_add(window)
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Error::HeaderField {
            field: "descriptors size",
            at: 104,
            value: header.descriptors_size(),
            must: "offset and size overflow",
        });
    }
    let slot = u128::try_from(DESCRIPTOR_LEN).unwrap_or(u128::MAX);
    let need = u128::from(total).saturating_mul(slot);
    let there = u64::try_from(len).unwrap_or(u64::MAX).saturating_sub(start);
    let readable = there.min(window);
    if need > u128::from(readable) {
        return Err(Error::TableCut {
            start,
            end: u128::from(start).saturating_add(need),
            readable,
        });
    }
    // `need` fits in the file, so the count fits in memory.
    Ok((start, usize::try_from(total).unwrap_or(usize::MAX)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sif::header::{field, put};
    use crate::sif::types::MAX_GROUP;

    const TABLE: usize = 4096;

    #[test]
    fn a_snapshot_knows_when_header_or_table_changed() {
        let bytes = image_of(&[(1, 1, 8776, 10), (2, 1, 8786, 4)]);
        let snapshot = Image::parse(&bytes).unwrap().snapshot();
        assert!(snapshot.matches(&bytes));
        let changed = |at: usize| {
            let mut other = bytes.clone();
            other[at] ^= 1;
            !snapshot.matches(&other)
        };
        // Header; a used descriptor; used bytes of a used and of a free slot.
        for at in [
            80,
            96,
            TABLE + 17,
            TABLE + 585 + 300,
            TABLE + 4,
            TABLE + 5 * 585 + 4,
        ] {
            assert!(changed(at), "byte {at}");
        }
        assert!(
            !changed(TABLE + 5 * 585 + 9),
            "the rest of a free slot is nobody's"
        );
        assert!(!changed(8776), "data is not part of it");
        assert!(!snapshot.matches(&bytes[..TABLE + 585]));
    }

    /// An image of generic objects: (id, group, offset, size).
    pub(crate) fn image_of(objects: &[(u32, u32, i64, i64)]) -> Vec<u8> {
        let capacity = 8;
        let start = TABLE + capacity * DESCRIPTOR_LEN;
        let mut bytes = vec![0; start];
        put(&mut bytes, 32, b"SIF_MAGIC\x0001\x0000\0");
        put(&mut bytes, 48, &[7; 16]);
        let mut end = start;
        for (slot, (id, group, offset, size)) in objects.iter().enumerate() {
            let at = TABLE + slot * DESCRIPTOR_LEN;
            put(&mut bytes, at, &0x4007_i32.to_le_bytes());
            bytes[at + 4] = 1;
            put(&mut bytes, at + 5, &id.to_le_bytes());
            put(&mut bytes, at + 9, &(group | !MAX_GROUP).to_le_bytes());
            put(&mut bytes, at + 17, &offset.to_le_bytes());
            put(&mut bytes, at + 25, &size.to_le_bytes());
            end = end.max(usize::try_from(offset + size).unwrap_or(0));
        }
        let free = i64::try_from(capacity - objects.len()).unwrap();
        let numbers = [
            free,
            8,
            4096,
            8 * 585,
            i64::try_from(start).unwrap(),
            i64::try_from(end - start).unwrap(),
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            put(&mut bytes, 80 + index * 8, &number.to_le_bytes());
        }
        bytes.resize(end.min(1 << 20), 0xdd);
        bytes
    }

    fn two() -> Vec<u8> {
        image_of(&[(1, 1, 8776, 10), (2, 1, 8786, 4)])
    }

    fn load_error(change: impl Fn(&mut Vec<u8>)) -> Error {
        let mut bytes = two();
        change(&mut bytes);
        Image::parse(&bytes).err().expect("must not load")
    }

    fn faults(change: impl Fn(&mut Vec<u8>)) -> Vec<String> {
        let mut bytes = two();
        change(&mut bytes);
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.require_sound().is_err(), !image.faults().is_empty());
        image.faults().iter().map(ToString::to_string).collect()
    }

    fn set(at: usize, value: i64) -> impl Fn(&mut Vec<u8>) {
        move |bytes| put(bytes, at, &value.to_le_bytes())
    }

    #[test]
    fn a_sound_image_has_no_fault_and_lends_its_bytes() {
        let mut bytes = two();
        put(&mut bytes, 8776, b"0123456789abcd");
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.faults(), []);
        assert_eq!((image.capacity(), image.free()), (8, 6));
        let second = image.object(2).unwrap();
        assert_eq!(image.data(second).unwrap(), b"abcd");
        assert_eq!(image.relative_id(second), RelativeId(1));
        assert_eq!(
            image.digest(second, HashAlgorithm::Sha256).unwrap(),
            HashAlgorithm::Sha256.digest(b"abcd")
        );
    }

    #[test]
    fn structural_faults_do_not_load_and_name_the_byte() {
        // Rows 3 to 9 of spec/sif.md 1.14.
        for (at, value, text) in [
            (88, -1, "'descriptors total' at byte 88 is -1"),
            (96, -5, "'descriptors offset' at byte 96 is -5"),
            (96, 127, "'descriptors offset' at byte 96 is 127"),
            (104, -1, "'descriptors size' at byte 104 is -1"),
            (104, i64::MAX, "'descriptors size' at byte 104 is"),
            (88, 1 << 60, "reading descriptors: unexpected EOF"),
            (88, 9, "reading descriptors: unexpected EOF"),
            (104, 8 * 585 - 1, "reading descriptors: unexpected EOF"),
            (104, 0, "reading descriptors: EOF"),
            (96, 1 << 40, "reading descriptors: EOF"),
        ] {
            let error = load_error(set(at, value));
            assert!(error.to_string().contains(text), "{at} {value}: {error}");
            assert!(error.detail().is_some() || error.to_string().contains("byte"));
        }
        assert_eq!(load_error(|b| b[32] = b'X'), Error::Magic);
        assert_eq!(load_error(|b| b[43] = b'2'), Error::Version);
        assert_eq!(
            load_error(|b| b.truncate(0)).to_string(),
            "reading global header: EOF"
        );
        assert_eq!(
            load_error(|b| b.truncate(127)).to_string(),
            "reading global header: unexpected EOF"
        );
    }

    #[test]
    fn details_name_the_bytes() {
        // Source: spec/sif.md 1.1; 8 descriptors of 585 bytes from byte 4096.
        let detail = |change: &dyn Fn(&mut Vec<u8>)| load_error(change).detail();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            detail(&|b| b.truncate(127)),
            some("the global header is bytes 0..128, the file ends at byte 127")
        );
        assert_eq!(
            detail(&|b| b[41] = 1),
            some("bytes 32..42 are not 'SIF_MAGIC' and a NUL")
        );
        assert_eq!(
            detail(&|b| b[44] = 1),
            some("bytes 42..45 are not '01' and a NUL")
        );
        assert_eq!(
            detail(&|b| b.truncate(4100)),
            some("the descriptor table is bytes 4096..8776, of which 4 can be read")
        );
        // The sentence has the byte.
        assert_eq!(detail(&set(88, -1)), None);
    }

    #[test]
    fn a_signature_of_16_mebibytes_is_read_and_none_above() {
        let limit = 16 * 1024 * 1024;
        for (size, fits) in [(limit, true), (limit + 1, false)] {
            let mut bytes = image_of(&[(1, 1, 8776, size)]);
            bytes.resize(8776 + usize::try_from(size).unwrap(), 0);
            let image = Image::parse(&bytes).unwrap();
            let object = image.object(1).unwrap();
            match image.signature_data(object) {
                Ok(data) => assert!(fits && i64::try_from(data.len()) == Ok(size)),
                Err(error) => {
                    assert!(!fits);
                    assert_eq!(error, Error::SignatureTooLarge { id: 1, size });
                }
            }
        }
    }

    #[test]
    fn the_span_of_what_is_not_zero_is_exact_over_windows() {
        let size = WINDOW + 100;
        let base = image_of(&[(1, 1, 8776, i64::try_from(size).unwrap())]);
        let spots = [0, WINDOW - 1, WINDOW, size - 1];
        let mut cases: Vec<Vec<usize>> = vec![Vec::new()];
        for (index, first) in spots.iter().enumerate() {
            cases.extend(spots[index..].iter().map(|last| vec![*first, *last]));
        }
        cases.push(spots.to_vec());
        for set in cases {
            let mut bytes = base.clone();
            bytes.truncate(8776);
            bytes.resize(8776 + size + 10, 0);
            // Not part of the range.
            bytes[8775] = 1;
            bytes[8776 + size] = 1;
            for at in &set {
                bytes[8776 + at] = 0x80;
            }
            let image = Image::parse(&bytes).unwrap();
            let wanted = set
                .iter()
                .min()
                .zip(set.iter().max())
                .map(|(first, last)| 8776 + first..8776 + last + 1);
            assert_eq!(image.nonzero_span(8776..8776 + size), wanted, "{set:?}");
        }
        let image = Image::parse(&base).unwrap();
        assert_eq!(image.nonzero_span(9000..9000), None);
    }

    #[test]
    fn free_slots_with_anything_in_them_are_named() {
        let mut bytes = two();
        assert_eq!(Image::parse(&bytes).unwrap().untidy_slots().count(), 0);
        for (slot, byte) in [(7, 584), (2, 0), (4, 9)] {
            bytes[TABLE + slot * DESCRIPTOR_LEN + byte] = 1;
        }
        // Data behind the table is no slot.
        bytes[8776] = 1;
        let image = Image::parse(&bytes).unwrap();
        assert_eq!(image.untidy_slots().collect::<Vec<_>>(), [2, 4, 7]);
    }

    #[test]
    fn what_was_lost_while_it_was_read_is_told_by_every_way_to_read() {
        use std::sync::atomic::{AtomicBool, Ordering};
        struct Losing(Vec<u8>, AtomicBool);
        impl Backing for Losing {
            fn bytes(&self) -> &[u8] {
                &self.0
            }
            fn lost(&self) -> bool {
                self.1.load(Ordering::Relaxed)
            }
        }
        let losing = Losing(two(), AtomicBool::new(false));
        let image = Image::parse(&losing).unwrap();
        let object = image.object(1).unwrap();
        assert!(image.still_there().is_ok());
        assert!(image.digest(object, HashAlgorithm::Sha256).is_ok());
        losing.1.store(true, Ordering::Relaxed);
        assert_eq!(image.still_there(), Err(Error::Lost));
        assert_eq!(
            image.digest(object, HashAlgorithm::Sha256),
            Err(Error::Lost)
        );
    }

    #[test]
    fn semantic_faults_load_and_name_the_byte() {
        // Rows 10 to 21 of spec/sif.md 1.14; the second slot starts at 4681.
        let slot = TABLE + DESCRIPTOR_LEN;
        for (at, value, text) in [
            (80, -1, "descriptors free at byte 80 is -1, of 8 in total"),
            (80, 9, "descriptors free at byte 80 is 9, of 8 in total"),
            (
                112,
                -1,
                "data offset at byte 112 is -1, file length is 8790",
            ),
            (120, -1, "data size at byte 120 is -1, file length is 8790"),
            (slot + 17, -9, "object 2: offset at byte 4698 is -9"),
            (slot + 25, -9, "object 2: size at byte 4706 is -9"),
            (
                slot + 17,
                i64::MAX,
                "object 2: offset 9223372036854775807 and size 4 at byte 4698 overflow",
            ),
            (
                slot + 25,
                5,
                "object 2: data is bytes 8786..8791, the file ends at byte 8790",
            ),
            (
                slot + 17,
                8785,
                "object 2: data at byte 8785 overlaps object 1",
            ),
            (
                slot + 17,
                100,
                "object 2: data at byte 100 overlaps the global header",
            ),
            (
                slot + 17,
                5000,
                "object 2: data at byte 5000 overlaps the descriptor table",
            ),
        ] {
            assert_eq!(faults(set(at, value)), [text], "{at} {value}");
        }
        let id = |value: u32| move |b: &mut Vec<u8>| put(b, slot + 5, &value.to_le_bytes());
        assert_eq!(faults(id(0)), ["descriptor at byte 4686: id is 0"]);
        assert_eq!(
            faults(id(1)),
            ["descriptor at byte 4686: id 1 is used twice"]
        );
        assert_eq!(
            faults(|b| put(b, slot + 9, &1_u32.to_le_bytes())),
            ["object 2: group field at byte 4690 lacks the mask that its group has"]
        );
        let primary = |b: &mut Vec<u8>| {
            for at in [TABLE, slot] {
                put(b, at, &0x4004_i32.to_le_bytes());
                put(b, at + 205, &2_i32.to_le_bytes());
            }
        };
        assert_eq!(
            faults(primary),
            ["objects 1 and 2 are both primary system partitions"]
        );
    }

    #[test]
    fn ordinary_oddities_are_accepted() {
        let slot = TABLE + DESCRIPTOR_LEN;
        // A stale but possible free count, an empty object behind the end, a
        // used byte of 255, an id other than slot + 1, a type nobody knows.
        assert!(faults(set(80, 8)).is_empty());
        assert!(
            faults(|b| {
                put(b, slot + 17, &99_999_i64.to_le_bytes());
                put(b, slot + 25, &0_i64.to_le_bytes());
            })
            .is_empty()
        );
        // Nothing lies nowhere.
        assert!(
            faults(|b| {
                put(b, slot + 17, &0_i64.to_le_bytes());
                put(b, slot + 25, &0_i64.to_le_bytes());
            })
            .is_empty()
        );
        assert!(faults(|b| b[slot + 4] = 255).is_empty());
        assert!(faults(|b| put(b, slot + 5, &77_u32.to_le_bytes())).is_empty());
        assert!(faults(|b| put(b, slot, &1_i32.to_le_bytes())).is_empty());
        // An old empty image: data offset behind the end of the file.
        let mut empty = image_of(&[]);
        put(&mut empty, 112, &99_999_i64.to_le_bytes());
        assert_eq!(Image::parse(&empty).unwrap().faults(), []);
    }

    #[test]
    fn data_may_begin_anywhere_in_the_file_and_behind_it_only_without_objects() {
        // Rows 11 and 12 of spec/sif.md 1.14; the file of `two` has 8790 bytes.
        for at in [0, 1, 8776, 8790] {
            assert!(faults(set(112, at)).is_empty(), "{at}");
        }
        for at in [8791, 1 << 40] {
            let text = format!("data offset at byte 112 is {at}, file length is 8790");
            assert_eq!(faults(set(112, at)), [text]);
        }
        // Objects without a byte are none here.
        let mut empty = image_of(&[(1, 1, 8776, 0)]);
        put(&mut empty, 112, &8777_i64.to_le_bytes());
        assert_eq!(Image::parse(&empty).unwrap().faults(), []);
        put(&mut empty, 112, &0_i64.to_le_bytes());
        put(&mut empty, 120, &0_i64.to_le_bytes());
        assert_eq!(Image::parse(&empty).unwrap().faults(), []);
    }

    #[test]
    fn overlaps_are_found_to_the_byte() {
        let found = |objects: &[(u32, u32, i64, i64)]| {
            let bytes = image_of(objects);
            let image = Image::parse(&bytes).unwrap();
            let texts: Vec<_> = image.faults().iter().map(ToString::to_string).collect();
            texts
        };
        // Between header and table, and right behind the table and each other.
        assert_eq!(
            found(&[(1, 1, 128, 3968), (2, 1, 8776, 1), (3, 1, 8777, 1)]),
            [""; 0]
        );
        assert_eq!(
            found(&[(1, 1, 127, 1)]),
            ["object 1: data at byte 127 overlaps the global header"]
        );
        for (start, size) in [(128, 3969), (4095, 2), (4096, 1), (8775, 1), (200, 9000)] {
            assert_eq!(
                found(&[(1, 1, start, size)]),
                [format!(
                    "object 1: data at byte {start} overlaps the descriptor table"
                )]
            );
        }
        // Behind two that lie in it, the first still reaches on.
        assert_eq!(
            found(&[
                (1, 1, 8776, 20),
                (2, 1, 8778, 2),
                (3, 1, 8790, 6),
                (4, 1, 8795, 1),
                (5, 1, 8796, 4),
            ]),
            [
                "object 2: data at byte 8778 overlaps object 1",
                "object 3: data at byte 8790 overlaps object 1",
                "object 4: data at byte 8795 overlaps object 1",
            ]
        );
        // One that reaches further takes over.
        assert_eq!(
            found(&[(1, 1, 8776, 4), (2, 1, 8778, 6), (3, 1, 8783, 1)]),
            [
                "object 2: data at byte 8778 overlaps object 1",
                "object 3: data at byte 8783 overlaps object 2",
            ]
        );
    }

    #[test]
    fn one_group_without_mask_alone_is_accepted() {
        let slot = TABLE + DESCRIPTOR_LEN;
        assert!(faults(|b| put(b, slot + 9, &2_u32.to_le_bytes())).is_empty());
    }

    #[test]
    fn hashing_gives_every_page_back_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Counting(Vec<u8>, AtomicUsize);
        impl Backing for Counting {
            fn bytes(&self) -> &[u8] {
                &self.0
            }
            fn release(&self, range: Range<usize>) {
                self.1.fetch_add(range.len(), Ordering::Relaxed);
            }
        }
        let size = 3 * WINDOW + 5;
        let mut bytes = image_of(&[(1, 1, 8776, i64::try_from(size).unwrap())]);
        bytes.truncate(8776);
        bytes.resize(8776 + size, 1);
        let counting = Counting(bytes, AtomicUsize::new(0));
        let image = Image::parse(&counting).unwrap();
        let object = image.object(1).unwrap();
        let digest = image.digest(object, HashAlgorithm::Sha512).unwrap();
        assert_eq!(counting.1.load(Ordering::Relaxed), size);
        assert_eq!(digest, HashAlgorithm::Sha512.digest(&vec![1; size]));
    }

    #[test]
    fn a_lost_page_is_an_error_not_an_answer() {
        struct Lost(Vec<u8>);
        impl Backing for Lost {
            fn bytes(&self) -> &[u8] {
                &self.0
            }
            fn lost(&self) -> bool {
                true
            }
        }
        assert_eq!(Image::parse(&Lost(two())).err(), Some(Error::Lost));
    }

    #[test]
    fn fields_outside_the_source_read_as_zero() {
        assert_eq!(field::<4>(&[1, 2], 1), [2, 0, 0, 0]);
    }
}
