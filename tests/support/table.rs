//! An independent view of an image's bytes: positions from spec/sif.md, no
//! code of the program. Good images only: the table is where writers put it.

use std::ops::Range;

/// Length of the global header.
pub const HEADER: usize = 128;
/// Position of the descriptor table in every image of the fixtures.
pub const TABLE: usize = 4096;
/// Length of a descriptor.
pub const SLOT: usize = 585;
/// The four top bits of a group field.
pub const MASK: u32 = 0xf000_0000;
/// Data type of signatures.
pub const SIGNATURE: i32 = 0x4005;
/// Data type of partitions.
pub const PARTITION: i32 = 0x4004;

/// Positions inside a descriptor.
pub mod field {
    pub const TYPE: usize = 0;
    pub const USED: usize = 4;
    pub const ID: usize = 5;
    pub const GROUP: usize = 9;
    pub const LINK: usize = 13;
    pub const OFFSET: usize = 17;
    pub const SIZE: usize = 25;
    pub const PADDED: usize = 33;
    pub const CREATED: usize = 41;
    pub const MODIFIED: usize = 49;
    pub const UID: usize = 57;
    pub const NAME: usize = 73;
    pub const EXTRA: usize = 201;
    pub const FINGERPRINT: usize = 205;
    pub const FINGERPRINT_END: usize = 225;
}

/// Positions inside the header.
pub mod header {
    pub const MAGIC: usize = 32;
    pub const VERSION: usize = 42;
    pub const ARCH: usize = 45;
    pub const ID: usize = 48;
    pub const CREATED: usize = 64;
    pub const FREE: usize = 80;
    pub const TOTAL: usize = 88;
    pub const TABLE_OFFSET: usize = 96;
    pub const TABLE_SIZE: usize = 104;
    pub const DATA_OFFSET: usize = 112;
    pub const DATA_SIZE: usize = 120;
}

/// The fields of a used descriptor that decide anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub slot: usize,
    pub kind: i32,
    pub id: u32,
    pub raw_group: u32,
    pub link: u32,
    pub offset: i64,
    pub size: i64,
    pub part_type: i32,
}

impl Object {
    pub fn group(&self) -> u32 {
        self.raw_group & !MASK
    }

    pub fn is_signature(&self) -> bool {
        self.kind == SIGNATURE
    }

    pub fn is_primary(&self) -> bool {
        self.kind == PARTITION && self.part_type == 2
    }

    /// The group that a signature is linked to, 0 if to none.
    pub fn linked_group(&self) -> u32 {
        if self.link & MASK == MASK {
            self.link & !MASK
        } else {
            0
        }
    }

    /// Byte position of a field of this descriptor.
    pub fn at(&self, field: usize) -> usize {
        TABLE + self.slot * SLOT + field
    }

    pub fn range(&self) -> Range<usize> {
        let start = usize::try_from(self.offset).expect("an offset");
        start..start + usize::try_from(self.size).expect("a size")
    }
}

/// Capacity of the table as the header tells.
pub fn capacity(bytes: &[u8]) -> usize {
    usize::try_from(i64_at(bytes, header::TOTAL)).expect("a capacity")
}

/// Used descriptors in table order.
pub fn objects(bytes: &[u8]) -> Vec<Object> {
    (0..capacity(bytes))
        .filter(|slot| bytes[TABLE + slot * SLOT + field::USED] != 0)
        .map(|slot| object(bytes, slot))
        .collect()
}

/// One descriptor, used or not.
pub fn object(bytes: &[u8], slot: usize) -> Object {
    let at = TABLE + slot * SLOT;
    Object {
        slot,
        kind: u32_at(bytes, at + field::TYPE).cast_signed(),
        id: u32_at(bytes, at + field::ID),
        raw_group: u32_at(bytes, at + field::GROUP),
        link: u32_at(bytes, at + field::LINK),
        offset: i64_at(bytes, at + field::OFFSET),
        size: i64_at(bytes, at + field::SIZE),
        part_type: u32_at(bytes, at + field::EXTRA + 4).cast_signed(),
    }
}

/// The object of an id.
pub fn by_id(bytes: &[u8], id: u32) -> Object {
    let mut all = objects(bytes).into_iter();
    all.find(|object| object.id == id).expect("the object")
}

/// The first signature object.
pub fn signature(bytes: &[u8]) -> Object {
    let mut all = objects(bytes).into_iter();
    all.find(Object::is_signature).expect("a signature")
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

pub fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
}

pub fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

pub fn put_i64(bytes: &mut [u8], at: usize, value: i64) {
    put(bytes, at, &value.to_le_bytes());
}

pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

/// Adds an object the way `sif add` does, with its data at the end of the file.
pub fn add(bytes: &mut Vec<u8>, kind: i32, group: u32, link: u32, data: &[u8]) -> Object {
    let slot = (0..capacity(bytes))
        .find(|slot| bytes[TABLE + slot * SLOT + field::USED] == 0)
        .expect("a free slot");
    let at = TABLE + slot * SLOT;
    let offset = i64::try_from(bytes.len()).expect("a length");
    bytes.extend_from_slice(data);
    put_u32(bytes, at + field::TYPE, kind.cast_unsigned());
    bytes[at + field::USED] = 1;
    put_u32(
        bytes,
        at + field::ID,
        u32::try_from(slot).expect("a slot") + 1,
    );
    put_u32(bytes, at + field::GROUP, group | MASK);
    put_u32(bytes, at + field::LINK, link);
    put_i64(bytes, at + field::OFFSET, offset);
    put_i64(
        bytes,
        at + field::SIZE,
        i64::try_from(data.len()).expect("a length"),
    );
    let free = i64_at(bytes, header::FREE);
    put_i64(bytes, header::FREE, free - 1);
    object(bytes, slot)
}

/// Clears a slot as `sif del` does.
pub fn delete(bytes: &mut [u8], object: &Object) {
    let at = object.at(0);
    bytes[at..at + SLOT].fill(0);
    let free = i64_at(bytes, header::FREE);
    put_i64(bytes, header::FREE, free + 1);
}
