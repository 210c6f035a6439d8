//! Changes a file where it is, in the order of the plan.

use crate::sif::edit::{Bytes, InPlace, Write};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are kept of each overwritten place, for a way back.
const KEPT: u64 = 1 << 20;

/// Bytes of one write of zeros.
const BLOCK: usize = 1 << 20;

/// The file as it was, as far as it is overwritten before the commit.
pub(super) struct Undo {
    len: u64,
    old: Vec<(u64, Vec<u8>)>,
    /// Data lies behind the end of what is in use, and no patch was applied yet.
    pub(super) spooled: bool,
}

impl Undo {
    /// Nothing is overwritten yet; the file has `len` bytes.
    pub(super) fn new(len: u64) -> Self {
        Self {
            len,
            old: Vec::new(),
            spooled: false,
        }
    }

    /// Keeps what stands at a place.
    ///
    /// Of more than a mebibyte only the first is kept: such places are unused
    /// room behind the data of all objects.
    pub(super) fn keep(&mut self, file: &File, at: u64, len: u64) -> io::Result<()> {
        let there = self.len.saturating_sub(at).min(len).min(KEPT);
        if there > 0 {
            let mut bytes = vec![0; usize::try_from(there).unwrap_or_default()];
            file.read_exact_at(&mut bytes, at)?;
            self.old.push((at, bytes));
        }
        Ok(())
    }

    /// Best effort: what cannot be put back lies in free slots or behind the data.
    pub(super) fn restore(&mut self, file: &File) {
        self.spooled = false;
        let same = file.metadata().is_ok_and(|data| data.len() == self.len);
        if same && self.old.is_empty() {
            return;
        }
        while let Some((at, bytes)) = self.old.pop() {
            let _ = file.write_all_at(&bytes, at);
        }
        let _ = file.set_len(self.len);
        let _ = file.sync_all();
    }
}

/// Writes every phase; `committed` tells whether the new image began to be visible.
pub(super) fn write(
    file: &File,
    plan: &InPlace,
    undo: &mut Undo,
    committed: &mut bool,
) -> io::Result<()> {
    for write in plan.phases.iter().take(plan.commit).flatten() {
        undo.keep(file, write.at, write.len())?;
        if write.at.saturating_add(write.len()) > undo.len {
            reserve(file, write.at, write.len())?;
        }
    }
    for (index, phase) in plan.phases.iter().enumerate() {
        for write in phase {
            put(file, write)?;
            // A failed write of the commit wrote nothing: it is inside a page.
            *committed |= index >= plan.commit;
        }
        if !phase.is_empty() {
            file.sync_data()?;
        }
    }
    if file.metadata()?.len() != plan.len {
        file.set_len(plan.len)?;
    }
    file.sync_all()
}

/// Has the system set space aside, so that a full disk or a quota is told before a byte is written.
pub(super) fn reserve(file: &File, at: u64, len: u64) -> io::Result<()> {
    let reserved = rustix::io::retry_on_intr(|| {
        rustix::fs::fallocate(file, FallocateFlags::empty(), at, len.max(1))
    });
    match reserved {
        // The file system cannot reserve: the write itself will tell.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn put(file: &File, write: &Write) -> io::Result<()> {
    match &write.bytes {
        Bytes::Data(bytes) => file.write_all_at(bytes, write.at),
        Bytes::Zeros(len) => {
            let mut at = write.at;
            let end = at.saturating_add(*len);
            let block = vec![0; usize::try_from(*len).unwrap_or(BLOCK).min(BLOCK)];
            while at < end {
                let left = usize::try_from(end.saturating_sub(at)).unwrap_or(BLOCK);
                let part = block.get(..left).unwrap_or(&block);
                file.write_all_at(part, at)?;
                at = at.saturating_add(u64::try_from(part.len()).map_err(io::Error::other)?);
            }
            Ok(())
        }
    }
}
