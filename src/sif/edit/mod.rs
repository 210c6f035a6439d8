//! Plans changes of an image; nothing is written here.
//!
//! [`Edit`] collects any mix of new, deleted and changed objects;
//! [`Edit::plan`] turns it into one [`Patch`], which the edge carries out such
//! that every crash leaves the old or the new image.
//!
//! A caller that replaces an object (an OCI index, say) deletes the old one
//! and adds the new one in the same edit: old data is never overwritten, and
//! one commit makes the whole change visible.
//!
//! ```
//! # use sigsif::sif::edit::{Content, Edit, Error, NewObject, Wipe};
//! # use sigsif::sif::{Image, types::DataType};
//! # fn replace(image: &Image<'_>, old: u32, data: Vec<u8>) -> Result<sigsif::sif::edit::Patch, Error> {
//! let mut edit = Edit::new(image, 1_700_000_000);
//! edit.delete(old, Wipe::Zero)?;
//! edit.add(NewObject::new(DataType::OciRootIndex, Content::Bytes(data)))?;
//! edit.cut();
//! edit.plan()
//! # }
//! ```
//!
//! Positions and ids are those of the originals: a new object takes the first
//! free slot, its data lies behind all other data. Source: spec/sif.md 1.8 to 1.12.

mod commit;
mod patch;
mod renew;
#[cfg(test)]
mod tests;

pub use patch::{Bytes, Copy, InPlace, Method, Patch, Rewrite, Write};

use super::descriptor::{Descriptor, Extra, Link, NAME_LEN, NewDescriptor};
use super::header::{Header, UNSET_TIME, table_len};
use super::image::{Error as ImageError, Image, Lookup};
use super::types::{Arch, DataType, GroupId, ObjectId, PartType};
use std::collections::{BTreeMap, HashSet};

/// Slots of a new image when nobody says otherwise, and the least that a full table grows by.
pub const DEFAULT_CAPACITY: usize = 48;

/// Largest capacity that a table gets here: 613 MB of descriptors.
pub const MAX_CAPACITY: usize = 1 << 20;

/// Bytes that an image may say to be longer than its file is: an empty object can lie behind the
/// end, but a small file must not become one of terabytes for it.
const MAX_MISSING: u64 = 1 << 30;

/// Alignment of partitions in bytes, for systems that map or mount them.
const PARTITION_ALIGNMENT: u64 = 4096;

/// Why a change cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The image has a semantic fault.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No single object has this id.
    #[error(transparent)]
    Lookup(#[from] Lookup),
    /// No free slot, and the table has [`MAX_CAPACITY`] already.
    #[error("insufficient descriptor capacity to add data object(s) to image")]
    Full,
    /// A capacity above [`MAX_CAPACITY`].
    #[error("descriptor capacity not supported: {0}, at most {MAX_CAPACITY}")]
    Capacity(u64),
    /// A capacity below that of the table.
    #[error("descriptor capacity is {now} already, it cannot shrink to {wanted}")]
    Smaller {
        /// Capacity of the table.
        now: usize,
        /// The capacity that was asked for.
        wanted: usize,
    },
    /// The data would end behind the largest file position.
    #[error("integer overflow when calculating alignment")]
    Overflow,
    /// Objects without data, or the header, say that the file ends where no file is.
    #[error("the image says to end at byte {end}, far behind the end of the file at byte {len}")]
    Far {
        /// Where the next object would lie, in bytes.
        end: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// A name above 128 bytes.
    #[error("name value too large")]
    Name,
    /// A second primary system partition.
    #[error("image already contains a primary partition")]
    SecondPrimary,
    /// The object that is to be the primary partition is no partition.
    #[error("data object not a partition")]
    NotPartition,
    /// The partition that is to be the primary one is no system partition.
    #[error("data object not a system partition")]
    NotSystem,
}

/// Data of a new object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// In the file already, at the position that [`Edit::next_offset`] gave.
    Spooled {
        /// Number of bytes.
        len: u64,
    },
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Spooled { len } => *len,
        }
    }
}

/// An object that is to be added.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Type.
    pub data_type: DataType,
    /// Group; `None` puts it outside all groups, where only signatures belong.
    pub group: Option<GroupId>,
    /// Link; that its target exists is not checked.
    pub link: Link,
    /// Its position is a multiple of this many bytes; 0 and 1 mean any.
    pub alignment: u64,
    /// Name, at most 128 bytes.
    pub name: Vec<u8>,
    /// Extra field.
    pub extra: Extra,
    /// Creation and modification time in Unix seconds, if not that of the edit.
    pub time: Option<i64>,
    /// Data.
    pub content: Content,
}

impl NewObject {
    /// In no group, without link, name and extra field; partitions at pages.
    pub fn new(data_type: DataType, content: Content) -> Self {
        Self {
            data_type,
            group: None,
            link: Link::None,
            alignment: default_alignment(data_type),
            name: Vec::new(),
            extra: Extra::None,
            time: None,
            content,
        }
    }

    fn primary_arch(&self) -> Option<Arch> {
        match &self.extra {
            Extra::Partition { part, arch, .. }
                if self.data_type == DataType::Partition && *part == PartType::PrimSys =>
            {
                Some(*arch)
            }
            _ => None,
        }
    }
}

/// Alignment of an object of this type when nobody says otherwise, in bytes; 0 for none.
pub fn default_alignment(data_type: DataType) -> u64 {
    match data_type {
        DataType::Partition => PARTITION_ALIGNMENT,
        _ => 0,
    }
}

/// What happens to the data of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wipe {
    /// It stays in the file until other data takes its place.
    Keep,
    /// It is overwritten with zeros after the commit.
    Zero,
}

/// Changes that are collected for one commit.
#[derive(Clone)]
pub struct Edit<'i> {
    image: &'i Image<'i>,
    time: i64,
    header: Header,
    /// Used slots of the new table.
    table: Table,
    ids: HashSet<u32>,
    capacity: usize,
    /// No slot in front of this one is free.
    first_free: usize,
    /// First byte behind the table that data may lie at.
    data_start: u64,
    /// Byte behind everything that is in use before or after.
    end: u64,
    /// The same before anything was added.
    old_end: u64,
    new: Vec<NewData>,
    /// Data of deleted objects that is to be zero, first byte and byte behind.
    wiped: Vec<(u64, u64)>,
    cut: bool,
    fill: bool,
    renew: bool,
}

/// Used slots and what they hold.
type Table = BTreeMap<usize, Descriptor>;

/// Where new data goes.
#[derive(Clone, Debug)]
struct NewData {
    id: ObjectId,
    /// First byte of the gap in front.
    gap: u64,
    offset: u64,
    content: Content,
}

impl<'i> Edit<'i> {
    /// An edit without changes.
    ///
    /// `now` in Unix seconds is the time of the change; a deterministic image
    /// stays deterministic instead.
    pub fn new(image: &'i Image<'i>, now: i64) -> Self {
        let header = image.header().clone();
        let time = match header.is_deterministic() {
            true => UNSET_TIME,
            false => now,
        };
        let objects = image.objects();
        let table_end = image
            .table_position()
            .saturating_add(table_len(image.capacity()));
        let data = u64::try_from(header.data_offset()).unwrap_or_default();
        let data_start = data.max(table_end);
        let end = objects.iter().map(end_of).fold(data_start, u64::max);
        Self {
            image,
            time,
            header,
            table: objects.iter().map(|o| (o.slot(), o.clone())).collect(),
            ids: objects.iter().map(Descriptor::raw_id).collect(),
            capacity: image.capacity(),
            first_free: 0,
            data_start,
            end,
            old_end: end,
            new: Vec::new(),
            wiped: Vec::new(),
            cut: false,
            fill: false,
            renew: false,
        }
    }

    /// Lets data in memory lie between other data, where nothing lies before
    /// this edit either: a file whose objects are replaced again and again
    /// does not become longer each time.
    pub fn fill_gaps(&mut self) {
        self.fill = true;
    }

    /// Position in bytes that the data of the next object gets.
    ///
    /// Data that comes through a pipe can be written there before the object
    /// is added as [`Content::Spooled`]: nothing in the file uses that place.
    ///
    /// # Errors
    /// [`Error::Overflow`], [`Error::Far`].
    pub fn next_offset(&self, alignment: u64) -> Result<u64, Error> {
        let len = u64::try_from(self.image.len()).unwrap_or(u64::MAX);
        if self.old_end.saturating_sub(len) > MAX_MISSING {
            let end = self.old_end;
            return Err(Error::Far { end, len });
        }
        let offset = match alignment {
            0 => Some(self.end),
            some => self.end.checked_next_multiple_of(some),
        };
        offset
            .filter(|offset| i64::try_from(*offset).is_ok())
            .ok_or(Error::Overflow)
    }

    /// Adds an object and returns the id that it gets.
    ///
    /// A full table grows: then the patch is a new file instead of the old one.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn add(&mut self, object: NewObject) -> Result<ObjectId, Error> {
        self.require_sound()?;
        if object.name.len() > NAME_LEN {
            return Err(Error::Name);
        }
        let primary = object.primary_arch();
        if primary.is_some() && self.table.values().any(Descriptor::is_primary_partition) {
            return Err(Error::SecondPrimary);
        }
        let (slot, id) = self.free_slot()?;
        let (gap, offset) = match self.gap_for(&object) {
            Some(place) => (place, place),
            None => (self.end, self.next_offset(object.alignment)?),
        };
        let number = |value: u64| i64::try_from(value).map_err(|_| Error::Overflow);
        let size = object.content.len();
        let end = offset.checked_add(size).ok_or(Error::Overflow)?;
        number(end)?;
        let raw = NewDescriptor {
            data_type: object.data_type,
            id,
            group: object.group,
            link: object.link,
            offset: number(offset)?,
            size: number(size)?,
            padded_size: number(end.saturating_sub(gap))?,
            time: object.time.unwrap_or(self.time),
            name: &object.name,
            extra: &object.extra,
        };
        let descriptor = Descriptor::from_bytes(slot, raw.to_bytes());
        if let Some(arch) = primary {
            self.header.set_arch(arch);
        }
        self.table.insert(slot, descriptor);
        self.ids.insert(id.get());
        self.end = self.end.max(end);
        self.new.push(NewData {
            id,
            gap,
            offset,
            content: object.content,
        });
        Ok(id)
    }

    /// The first place between other data that an object fits in.
    ///
    /// What is deleted by this edit still lies where it lies until the commit.
    fn gap_for(&self, object: &NewObject) -> Option<u64> {
        let Content::Bytes(bytes) = &object.content else {
            return None;
        };
        if !self.fill || bytes.is_empty() {
            return None;
        }
        let len = u64::try_from(bytes.len()).ok()?;
        let old = self.image.objects().iter();
        let old = old.map(|o| (u64::try_from(o.offset()).unwrap_or_default(), end_of(o)));
        let new = self.new.iter().map(|n| {
            let end = n.offset.saturating_add(n.content.len());
            (n.offset, end)
        });
        let mut used: Vec<_> = old.chain(new).chain(self.wiped.iter().copied()).collect();
        used.sort_unstable();
        let mut free = self.data_start;
        for (start, end) in used {
            let place = match object.alignment {
                0 => Some(free),
                some => free.checked_next_multiple_of(some),
            };
            if let Some(place) = place
                && place.checked_add(len).is_some_and(|behind| behind <= start)
            {
                return Some(place);
            }
            free = free.max(end);
        }
        None
    }

    /// Deletes the object of an id; all of them, should a faulty image have several.
    ///
    /// # Errors
    /// [`Lookup`] in the words of the originals; a fault of the image if the
    /// data is to be overwritten, since it could be another object's.
    pub fn delete(&mut self, id: u32, wipe: Wipe) -> Result<(), Error> {
        if wipe == Wipe::Zero {
            self.require_sound()?;
        }
        self.require_id(id)?;
        let doomed: Vec<_> = self
            .table
            .values()
            .filter(|object| object.raw_id() == id)
            .cloned()
            .collect();
        for object in &doomed {
            if object.is_primary_partition() {
                self.header.set_arch(Arch::UNKNOWN);
            }
            if wipe == Wipe::Zero && object.size() > 0 {
                let start = u64::try_from(object.offset()).map_err(|_| Error::Overflow)?;
                self.wiped.push((start, end_of(object)));
            }
            self.table.remove(&object.slot());
            self.first_free = self.first_free.min(object.slot());
        }
        self.ids.remove(&id);
        self.new.retain(|new| new.id.get() != id);
        Ok(())
    }

    /// Makes a system partition the primary one; false if it is that already.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn set_primary(&mut self, id: u32) -> Result<bool, Error> {
        self.require_id(id)?;
        self.require_sound()?;
        let target = self.table.values().find(|object| object.raw_id() == id);
        let target = target.ok_or(Lookup::NotFound)?.clone();
        if target.data_type() != DataType::Partition {
            return Err(Error::NotPartition);
        }
        let (_, part, arch) = target.partition();
        match part {
            PartType::PrimSys => return Ok(false),
            PartType::System => {}
            _ => return Err(Error::NotSystem),
        }
        let old = self.table.values().find(|o| o.is_primary_partition());
        let old = old.map(|old| old.with_part_type(PartType::System, self.time));
        let new = target.with_part_type(PartType::PrimSys, self.time);
        for object in old.into_iter().chain([new]) {
            self.table.insert(object.slot(), object);
        }
        self.header.set_arch(arch);
        Ok(true)
    }

    /// Gives the table this many slots.
    ///
    /// # Errors
    /// [`Error::Capacity`], [`Error::Smaller`], or a fault of the image.
    pub fn grow(&mut self, capacity: usize) -> Result<(), Error> {
        self.require_sound()?;
        if capacity > MAX_CAPACITY {
            let wanted = u64::try_from(capacity).unwrap_or(u64::MAX);
            return Err(Error::Capacity(wanted));
        }
        if capacity < self.capacity {
            return Err(Error::Smaller {
                now: self.capacity,
                wanted: capacity,
            });
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Ends the file behind the last object, also if nothing is added.
    ///
    /// Where objects are added, the file always ends behind the last one.
    pub fn cut(&mut self) {
        self.cut = true;
    }

    /// Finds the first free slot; a slot whose id is taken elsewhere is none.
    fn free_slot(&mut self) -> Result<(usize, ObjectId), Error> {
        let mut slot = self.first_free;
        loop {
            if slot >= self.capacity {
                if self.capacity >= MAX_CAPACITY {
                    return Err(Error::Full);
                }
                let more = self.capacity.max(DEFAULT_CAPACITY);
                self.capacity = self.capacity.saturating_add(more).min(MAX_CAPACITY);
            }
            let next = slot.saturating_add(1);
            let id = u32::try_from(next).ok().and_then(ObjectId::new);
            let id = id.filter(|id| !self.ids.contains(&id.get()));
            if let Some(id) = id.filter(|_| !self.table.contains_key(&slot)) {
                self.first_free = next;
                return Ok((slot, id));
            }
            slot = next;
        }
    }

    fn require_id(&self, id: u32) -> Result<(), Lookup> {
        if self.table.is_empty() {
            return Err(Lookup::NotFound);
        }
        if id == 0 {
            return Err(Lookup::InvalidObjectId);
        }
        match self.ids.contains(&id) {
            true => Ok(()),
            false => Err(Lookup::NotFound),
        }
    }
}

/// Byte behind the data of an object; 0 where no number fits.
fn end_of(object: &Descriptor) -> u64 {
    let end = object.offset().checked_add(object.size());
    end.and_then(|end| u64::try_from(end).ok())
        .unwrap_or_default()
}
