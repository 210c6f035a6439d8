//! Where everything lies in a file, and the values that follow from it.
//!
//! Source: spec/sif.md 1.1, 1.9, 1.10.

use super::descriptor::{DESCRIPTOR_LEN, Descriptor};
use super::header::{HEADER_LEN, table_len};
use super::image::{Image, Place};
use std::cmp::Reverse;
use std::ops::Range;

/// Where every known writer puts the descriptor table.
pub const TABLE_HOME: u64 = 4096;

/// Writers before 2022 began the data on a page of this size.
const OLD_PAGE: u64 = 4096;

/// The order of an image's bytes.
pub struct Layout<'i> {
    /// The whole file, from byte 0 to its end, without overlaps.
    pub parts: Vec<Part>,
    /// Objects with a possible place, in the order of the file.
    pub placed: Vec<Placed<'i>>,
    /// Position behind the last object, empty ones included; at least the start of the data.
    pub data_end: i64,
    /// Positions at which the data section may begin.
    pub data_starts: [i64; 2],
}

/// A run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Byte positions.
    pub range: Range<usize>,
    /// What they are.
    pub kind: Kind,
}

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The global header.
    Header,
    /// Slots of the descriptor table.
    Table,
    /// Data of the object at this index of [`Image::objects`].
    Data(usize),
    /// Unused bytes.
    Gap(Gap),
}

/// Unused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Behind the global header.
    AfterHeader,
    /// Behind the descriptor table.
    AfterTable,
    /// In front of an object.
    BetweenObjects,
    /// Behind everything.
    Tail,
}

/// An object and the space in front of it.
pub struct Placed<'i> {
    /// The object.
    pub object: &'i Descriptor,
    /// Bytes between the end of the object in front, or the start of the data, and this one; 0 if
    /// they overlap.
    pub gap: i64,
}

impl Placed<'_> {
    /// The size with padding that a writer stores for an object that lies here.
    pub fn padded_size(&self) -> i64 {
        self.object.size().saturating_add(self.gap)
    }
}

impl<'i> Layout<'i> {
    /// Looks where everything lies. A damaged image has a layout as well; objects that cannot lie
    /// anywhere are left out.
    pub fn of(image: &'i Image<'_>) -> Self {
        let table_end = image.slot_position(image.capacity());
        let home_end = TABLE_HOME.saturating_add(table_len(image.capacity()));
        let data_start = match is_interrupted(image) {
            true => i64::try_from(home_end).unwrap_or(i64::MAX),
            false => image.header().data_offset(),
        };
        let (placed, data_end) = place(image.objects().iter(), data_start);
        let start = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        Self {
            parts: parts(image),
            placed,
            data_end,
            data_starts: [
                start(table_end),
                start(
                    table_end
                        .checked_next_multiple_of(OLD_PAGE)
                        .unwrap_or(u64::MAX),
                ),
            ],
        }
    }
}

/// Whether the header names a copy of the table that an interrupted edit left behind the data.
///
/// Such a header says that the data begins behind the copy.
pub fn is_interrupted(image: &Image<'_>) -> bool {
    let table_end = image.slot_position(image.capacity());
    image.table_position() > TABLE_HOME
        && u64::try_from(image.header().data_offset()) == Ok(table_end)
}

/// Brings objects into the order of the file, and finds the position behind the last one.
///
/// `data_start` is the start of the data section; both are byte positions.
pub(super) fn place<'o>(
    objects: impl Iterator<Item = &'o Descriptor>,
    data_start: i64,
) -> (Vec<Placed<'o>>, i64) {
    let mut placed: Vec<_> = objects
        .filter(|o| o.offset() >= 0 && o.size() >= 0)
        .filter(|o| o.offset().checked_add(o.size()).is_some())
        .map(|object| Placed { object, gap: 0 })
        .collect();
    // Of empty objects at one place the one that was stored first has the gap in front.
    placed.sort_by_key(|p| {
        let o = p.object;
        (o.offset(), o.size(), Reverse(o.padded_size()), o.slot())
    });
    let mut data_end = data_start.max(0);
    for one in &mut placed {
        one.gap = one.object.offset().saturating_sub(data_end).max(0);
        data_end = data_end.max(one.object.offset().saturating_add(one.object.size()));
    }
    (placed, data_end)
}

fn parts(image: &Image<'_>) -> Vec<Part> {
    let len = image.len();
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(len);
    let table = clamp(image.table_position())..clamp(image.slot_position(image.capacity()));
    let start = u64::try_from(image.header().data_offset()).map_or(0, clamp);
    let mut used = Vec::new();
    if !table.is_empty() {
        used.push((table.clone(), Kind::Table));
    }
    for (index, object) in image.objects().iter().enumerate() {
        let (Place::Inside(range) | Place::Faulty(range, _)) = image.place(object);
        if !range.is_empty() {
            used.push((range, Kind::Data(index)));
        }
    }
    used.sort_by_key(|(range, _)| (range.start, range.end));
    // Whatever else claims these bytes, they are the header.
    let header = 0..HEADER_LEN.min(len);
    let mut at = header.end;
    let mut parts = vec![Part {
        range: header,
        kind: Kind::Header,
    }];
    let mut gap = Gap::AfterHeader;
    for (range, kind) in used {
        if gap == Gap::AfterTable && range.start > start {
            // What lies in the data section was data of an object that is gone.
            if start > at {
                let kind = Kind::Gap(gap);
                parts.push(Part {
                    range: at..start,
                    kind,
                });
                at = start;
            }
            gap = Gap::BetweenObjects;
        }
        if range.start > at {
            let kind = Kind::Gap(gap);
            let range = at..range.start;
            parts.push(Part { range, kind });
        }
        if range.end > at {
            let range = range.start.max(at)..range.end;
            at = range.end;
            parts.push(Part { range, kind });
        }
        gap = match kind {
            Kind::Table => Gap::AfterTable,
            _ => Gap::BetweenObjects,
        };
    }
    // Without data the space up to the start of the data belongs to the table.
    if gap == Gap::AfterTable && start > at {
        let range = at..start;
        at = start;
        let kind = Kind::Gap(Gap::AfterTable);
        parts.push(Part { range, kind });
    }
    if len > at {
        let range = at..len;
        let kind = Kind::Gap(Gap::Tail);
        parts.push(Part { range, kind });
    }
    parts
}

/// Byte positions of a slot, inside a file of `len` bytes.
pub fn slot_range(image: &Image<'_>, slot: usize) -> Range<usize> {
    let start = usize::try_from(image.slot_position(slot)).unwrap_or(usize::MAX);
    start..start.saturating_add(DESCRIPTOR_LEN)
}
