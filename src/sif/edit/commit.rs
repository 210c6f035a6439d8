//! How collected changes become writes, and which write is the commit.
//!
//! Three ways in place, chosen by what changes:
//!
//! - **Flip.** One addition or one deletion. A new slot is written as a free
//!   one first; setting or clearing its used byte is the commit. Nothing else
//!   that a reader needs changes.
//! - **Switch.** Everything else. The whole new table is written behind all
//!   data, and the header is pointed at it: that is the commit. Then the table
//!   in its place is brought up to date and the header pointed back. At every
//!   moment the header names a whole table. While it names the copy, its data
//!   offset is the byte behind the copy, so that even another program that
//!   edits an image which a crash left like that neither overwrites nor cuts
//!   it off.
//! - **Home.** The header names such a copy: the new table is written to the
//!   place in front of the data, and the header pointed there.
//!
//! A table that has to grow moves the data: that is a new file.

use super::patch::{Bytes, Copy, InPlace, Method, Patch, Rewrite, Write};
use super::{Content, Edit, Error, PARTITION_ALIGNMENT, Table, end_of};
use crate::sif::descriptor::{DESCRIPTOR_LEN, Descriptor};
use crate::sif::header::{HEADER_LEN, Header, table_len};
use crate::sif::layout::{self, TABLE_HOME};
use crate::sif::types::DataType;
use std::collections::HashSet;

/// Position of the used byte in a descriptor.
const USED: u64 = 4;

/// Largest alignment that moved partitions are known by, in bytes.
const MAX_KEPT_ALIGNMENT: u64 = 1 << 20;

/// What has to happen to slots.
#[derive(Default)]
struct Changes {
    added: Vec<usize>,
    removed: Vec<usize>,
    /// Used before and after, with other bytes.
    replaced: Vec<usize>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.replaced.is_empty()
    }
}

impl Edit<'_> {
    /// Turns the changes into one patch.
    ///
    /// Free slots that are not zero become zero on the way, and the header's
    /// count of free slots becomes right.
    ///
    /// # Errors
    /// [`Error::Overflow`], or a fault of the image that a cut could make worse.
    pub fn plan(mut self) -> Result<Patch, Error> {
        if self.cut || self.renew {
            self.require_sound()?;
        }
        if self.leaves_nothing() {
            self.table = padded(&self.table, self.image.header().data_offset());
        }
        let home = self.new_home();
        let method = if self.renew || self.capacity > self.image.capacity() {
            Method::Rewrite(self.rewrite()?)
        } else if let Some(home) = home {
            Method::InPlace(self.move_home(home))
        } else {
            let changes = self.changes();
            Method::InPlace(match self.flipped(&changes) {
                Some(slot) => self.flip(slot),
                None if changes.is_empty() => self.tidy(),
                None => self.switch(),
            })
        };
        Ok(Patch {
            before: self.image.snapshot(),
            ids: self.new.iter().map(|new| new.id).collect(),
            method,
        })
    }

    fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut old = self.image.objects().iter().peekable();
        for (slot, new) in &self.table {
            while let Some(gone) = old.next_if(|old| old.slot() < *slot) {
                changes.removed.push(gone.slot());
            }
            match old.next_if(|old| old.slot() == *slot) {
                None => changes.added.push(*slot),
                Some(old) if old != new => changes.replaced.push(*slot),
                Some(_) => {}
            }
        }
        changes.removed.extend(old.map(Descriptor::slot));
        changes
    }

    /// The slot whose used byte alone makes the change visible, if there is one.
    ///
    /// Used bytes of two slots never lie in one sector, so a power loss could
    /// tear them apart.
    fn flipped(&self, changes: &Changes) -> Option<usize> {
        // Readers take the architecture from the header.
        if self.header.arch() != self.image.header().arch() || !changes.replaced.is_empty() {
            return None;
        }
        match (changes.added.as_slice(), changes.removed.as_slice()) {
            ([slot], []) | ([], [slot]) => Some(*slot),
            _ => None,
        }
    }

    fn flip(&self, slot: usize) -> InPlace {
        let at = self.image.slot_position(slot);
        let mut hidden = self.data_writes();
        let used = match self.table.get(&slot) {
            None => 0,
            Some(new) => {
                let mut raw = new.as_bytes().to_vec();
                if let Some(used) = raw.get_mut(4) {
                    *used = 0;
                }
                hidden.push(Write::data(at, raw));
                1
            }
        };
        let visible = vec![Write::data(at.saturating_add(USED), vec![used])];
        let mut settled = self.tidied(Some(slot));
        settled.push(header_write(&self.new_header(None)));
        self.in_place(vec![hidden, visible, settled], 1)
    }

    /// Zeros for slots that are free and not zero, and for one that was just given up.
    fn tidied(&self, slot: Option<usize>) -> Vec<Write> {
        self.image
            .untidy_slots()
            .chain(slot)
            .filter(|slot| !self.table.contains_key(slot))
            .map(|slot| {
                let zeros = vec![0; DESCRIPTOR_LEN];
                Write::data(self.image.slot_position(slot), zeros)
            })
            .collect()
    }

    /// Puts right what no reader depends on: free slots and counts.
    fn tidy(&self) -> InPlace {
        let mut settled = self.tidied(None);
        settled.push(header_write(&self.new_header(None)));
        self.in_place(vec![settled], 0)
    }

    fn switch(&self) -> InPlace {
        let home = self.image.table_position();
        let header = self.new_header(None);
        let table = table_bytes(&self.table, self.capacity);
        let old_len = u64::try_from(self.image.len()).unwrap_or(u64::MAX);
        let copy = self.end.max(old_len);
        let mut pointing = header.clone();
        pointing.set_table(copy, self.capacity);
        pointing.set_data_offset(copy.saturating_add(table_len(self.capacity)));
        let mut hidden = self.data_writes();
        hidden.push(Write::data(copy, table.clone()));
        self.in_place(
            vec![
                hidden,
                vec![header_write(&pointing)],
                vec![Write::data(home, table)],
                vec![header_write(&header)],
            ],
            1,
        )
    }

    fn move_home(&self, home: u64) -> InPlace {
        let data_offset = home.saturating_add(table_len(self.capacity));
        let mut hidden = self.data_writes();
        let start = i64::try_from(data_offset).unwrap_or(i64::MAX);
        let table = padded(&self.table, start);
        hidden.push(Write::data(home, table_bytes(&table, self.capacity)));
        let header = self.new_header(Some((home, data_offset)));
        let mut plan = self.in_place(vec![hidden, vec![header_write(&header)]], 1);
        plan.len = self.new_len(Some(home));
        let old = self.image.table_position();
        let old_end = old.saturating_add(table_len(self.capacity)).min(plan.len);
        // In a faulty image the table may share its place with an object.
        if old < old_end && self.image.faults().is_empty() {
            plan.phases.push(vec![Write::zeros(old, old_end)]);
        }
        plan
    }

    /// The phases, then zeros where deleted data is to go.
    fn in_place(&self, mut phases: Vec<Vec<Write>>, commit: usize) -> InPlace {
        let len = self.new_len(None);
        let zeros: Vec<_> = self
            .wiped
            .iter()
            .filter(|(start, _)| *start < len)
            .map(|(start, end)| Write::zeros(*start, (*end).min(len)))
            .collect();
        if !zeros.is_empty() {
            phases.push(zeros);
        }
        InPlace {
            phases,
            commit,
            len,
        }
    }

    fn rewrite(&self) -> Result<Rewrite, Error> {
        let start = TABLE_HOME.saturating_add(table_len(self.capacity));
        let shift = self.shift(start)?;
        let moved = |at: u64| {
            let to = at.checked_add(shift);
            to.filter(|to| i64::try_from(*to).is_ok())
                .ok_or(Error::Overflow)
        };
        let shift = i64::try_from(shift).map_err(|_| Error::Overflow)?;
        let in_memory: HashSet<_> = self
            .new
            .iter()
            .filter(|new| matches!(new.content, Content::Bytes(_)))
            .map(|new| Some(new.id))
            .collect();
        let mut copies: Vec<Copy> = Vec::new();
        let mut len = start;
        for object in self.by_position() {
            len = len.max(moved(end_of(object))?);
            let from = u64::try_from(object.offset()).map_err(|_| Error::Overflow)?;
            if in_memory.contains(&object.id()) {
                continue;
            }
            let copy = Copy {
                from,
                to: moved(from)?,
                len: end_of(object).saturating_sub(from),
            };
            match copies.last_mut() {
                Some(last) if last.from.saturating_add(last.len) == copy.from => {
                    last.len = last.len.saturating_add(copy.len);
                }
                _ => copies.push(copy),
            }
        }
        let data_offset = self.kept_data_offset(start, shift).unwrap_or(start);
        let mut header = self.new_header(Some((TABLE_HOME, data_offset)));
        let data_size = self
            .data_end()
            .saturating_add(shift.unsigned_abs())
            .max(data_offset)
            .saturating_sub(data_offset);
        header.set_counts(
            header.descriptors_free(),
            i64::try_from(data_size).unwrap_or(i64::MAX),
        );
        let table = self.table.iter().map(|(slot, object)| {
            let offset = object.offset().saturating_add(shift);
            (*slot, object.at_offset(offset))
        });
        let table = padded(&table.collect(), header.data_offset());
        let mut writes = vec![
            header_write(&header),
            Write::data(TABLE_HOME, table_bytes(&table, self.capacity)),
        ];
        for new in &self.new {
            if let Content::Bytes(bytes) = &new.content {
                writes.push(Write::data(moved(new.offset)?, bytes.clone()));
            }
        }
        Ok(Rewrite {
            writes,
            copies,
            len,
            capacity: self.capacity,
        })
    }

    /// How far all data moves back to make room for a table that ends at `start`.
    ///
    /// A multiple of pages and of the alignment that partitions seem to have.
    fn shift(&self, start: u64) -> Result<u64, Error> {
        let positions = self.by_position();
        let Some(lowest) = positions.first() else {
            return Ok(0);
        };
        let lowest = u64::try_from(lowest.offset()).map_err(|_| Error::Overflow)?;
        let unit = positions
            .iter()
            .filter(|object| object.data_type() == DataType::Partition)
            .map(|object| 1_u64 << object.offset().trailing_zeros().min(62))
            .max()
            .unwrap_or_default()
            .clamp(PARTITION_ALIGNMENT, MAX_KEPT_ALIGNMENT);
        start
            .saturating_sub(lowest)
            .checked_next_multiple_of(unit)
            .ok_or(Error::Overflow)
    }

    /// Where a table that lies behind data can go, if it does.
    ///
    /// Only a crash in the middle of a switch leaves such an image.
    fn new_home(&self) -> Option<u64> {
        let table = self.image.table_position();
        let len = table_len(self.image.capacity());
        if table <= TABLE_HOME || len == 0 {
            return None;
        }
        let lowest = self
            .image
            .objects()
            .iter()
            .filter(|object| object.size() > 0)
            .filter_map(|object| u64::try_from(object.offset()).ok())
            .min()
            .unwrap_or(table);
        if lowest > table {
            return None;
        }
        [TABLE_HOME, u64::try_from(HEADER_LEN).unwrap_or(u64::MAX)]
            .into_iter()
            .find(|home| home.saturating_add(len) <= lowest)
    }

    /// New data in memory, and zeros in front of it where the file has bytes.
    fn data_writes(&self) -> Vec<Write> {
        let old_len = u64::try_from(self.image.len()).unwrap_or(u64::MAX);
        let mut writes = Vec::new();
        for new in &self.new {
            let gap_end = new.offset.min(old_len);
            if new.gap < gap_end {
                writes.push(Write::zeros(new.gap, gap_end));
            }
            if let Content::Bytes(bytes) = &new.content
                && !bytes.is_empty()
            {
                writes.push(Write::data(new.offset, bytes.clone()));
            }
        }
        writes
    }

    /// Objects of the new table that have data, by position.
    fn by_position(&self) -> Vec<&Descriptor> {
        let mut objects: Vec<_> = self.table.values().filter(|o| o.size() > 0).collect();
        objects.sort_by_key(|object| object.offset());
        objects
    }

    /// Byte behind all objects of the new table, also behind empty ones.
    fn data_end(&self) -> u64 {
        self.table.values().map(end_of).max().unwrap_or_default()
    }

    /// The header of the new image; `place` is where its table and its data start, if they move.
    fn new_header(&self, place: Option<(u64, u64)>) -> Header {
        let mut header = self.header.clone();
        header.set_modified_at(self.time);
        if let Some((table, data)) = place {
            header.set_table(table, self.capacity);
            header.set_data_offset(data);
        }
        let free = self.capacity.saturating_sub(self.table.len());
        // A deletion alone leaves the size as it was, as the originals do.
        let data_size = if self.ends_behind_data() || place.is_some() {
            let end = i64::try_from(self.data_end()).unwrap_or(i64::MAX);
            end.saturating_sub(header.data_offset()).max(0)
        } else {
            header.data_size()
        };
        header.set_counts(i64::try_from(free).unwrap_or(i64::MAX), data_size);
        header
    }

    /// Length of the file in the end; `table` is the new position of the table, if it moves.
    fn new_len(&self, table: Option<u64>) -> u64 {
        let old = u64::try_from(self.image.len()).unwrap_or(u64::MAX);
        // A table that is given up goes with what was behind it.
        let shorter = self.ends_behind_data() || table.is_some();
        if !shorter || !self.image.faults().is_empty() {
            return old;
        }
        let data = match table {
            // A copy of the table had set the data offset.
            Some(_) => 0,
            None => u64::try_from(self.image.header().data_offset()).unwrap_or_default(),
        };
        let table = table.unwrap_or_else(|| self.image.table_position());
        let table_end = table.saturating_add(table_len(self.capacity));
        let objects = self.by_position();
        let end = objects.into_iter().map(end_of).max().unwrap_or_default();
        end.max(table_end).max(data.min(old))
    }

    /// Whether no trace of a deleted object is to stay, also in the sizes with padding of others.
    fn leaves_nothing(&self) -> bool {
        let deletes = self.image.objects().iter().any(|old| {
            let new = self.table.get(&old.slot());
            new.is_none_or(|new| new.offset() != old.offset())
        });
        self.cut || !self.wiped.is_empty() || (deletes && !self.new.is_empty())
    }

    /// Whether the file ends behind the last object.
    fn ends_behind_data(&self) -> bool {
        self.cut || !self.new.is_empty()
    }
}

/// The table with sizes with padding as if each object had been added behind the one in front.
fn padded(table: &Table, data_start: i64) -> Table {
    let (placed, _) = layout::place(table.values(), data_start);
    let mut new = table.clone();
    for one in placed {
        let object = one.object.with_padded_size(one.padded_size());
        new.insert(object.slot(), object);
    }
    new
}

fn table_bytes(table: &Table, capacity: usize) -> Vec<u8> {
    (0..capacity)
        .flat_map(|slot| match table.get(&slot) {
            Some(used) => *used.as_bytes(),
            None => [0; DESCRIPTOR_LEN],
        })
        .collect()
}

fn header_write(header: &Header) -> Write {
    Write {
        at: 0,
        bytes: Bytes::Data(header.as_bytes().to_vec()),
    }
}
