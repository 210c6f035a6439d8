//! Writes a file anew that says in some places what is not so.

use super::{Edit, end_of};
use crate::sif::header::table_len;
use crate::sif::layout::TABLE_HOME;
use crate::sif::types::Arch;
use crate::sif::{Descriptor, Error as ImageError, Fault};

impl Edit<'_> {
    /// Makes this edit write the whole file anew.
    ///
    /// Objects stay where they are, byte for byte. The table goes to its home
    /// place, the header gets the counts, positions and sizes that follow from
    /// the table, and the architecture of the primary partition; used bytes
    /// become 1, sizes with padding what the places make of them, and all
    /// unused bytes zero. Nothing that a signature covers changes.
    ///
    /// To be called before objects are added. Faults of the header's own
    /// numbers are no hindrance from here on.
    pub fn renew(&mut self) {
        self.renew = true;
        let primary = self.table.values().find(|o| o.is_primary_partition());
        let arch = primary.map_or(Arch::UNKNOWN, |object| object.partition().2);
        self.header.set_arch(arch);
        for object in self.table.values_mut() {
            *object = object.with_used_byte();
        }
        let home = TABLE_HOME.saturating_add(table_len(self.capacity));
        let objects = self.table.values().map(end_of);
        self.end = objects.fold(home, u64::max);
        self.old_end = self.end;
    }

    /// Refuses an image with faults, but for those that [`Edit::renew`] puts right.
    pub(super) fn require_sound(&self) -> Result<(), ImageError> {
        let is_bad = |fault: &&Fault| !(self.renew && is_of_header(fault));
        match self.image.faults().iter().find(is_bad) {
            Some(fault) => Err(ImageError::Malformed(fault.clone())),
            None => Ok(()),
        }
    }

    /// The start of the data as the header says, if a renewed file can keep it.
    ///
    /// Old writers left a gap behind the table. `start` is the byte behind the
    /// new table, `shift` how far the data moves.
    pub(super) fn kept_data_offset(&self, start: u64, shift: i64) -> Option<u64> {
        let lowest = self.table.values().map(Descriptor::offset).min()?;
        let told = u64::try_from(self.image.header().data_offset()).ok()?;
        let lowest = u64::try_from(lowest).ok()?;
        let fits = Some(told) == start.checked_next_multiple_of(TABLE_HOME) && told <= lowest;
        (self.renew && shift == 0 && fits).then_some(told)
    }
}

/// Whether a fault is one of the header's numbers, which follow from the rest.
fn is_of_header(fault: &Fault) -> bool {
    matches!(fault, Fault::FreeCount { .. } | Fault::DataSection { .. })
}
