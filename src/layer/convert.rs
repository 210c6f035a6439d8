//! From tar layers to one squashfs layer.

use super::Error;
use super::squashfs::Writer;
use super::tar::Reader;
use super::tree::{Content, Tree};
use std::collections::HashMap;
use std::io::{Read, Seek, Write};

/// Writes a tree as squashfs; `archive` opens a layer of it again, expanded.
///
/// Returns the number of bytes that were written.
///
/// # Errors
/// [`Error`]; what was written then is no file system.
pub fn write<'a, W: Write + Seek>(
    tree: &Tree,
    layers: usize,
    archive: impl Fn(usize) -> Result<Box<dyn Read + 'a>, Error>,
    out: W,
    threads: usize,
) -> Result<u64, Error> {
    let mut writer = Writer::new(out, threads)?;
    // Only files that are still there, by the entry with their data.
    let mut wanted: Vec<HashMap<usize, _>> = Vec::new();
    wanted.resize_with(layers, HashMap::new);
    for (id, _) in tree.reachable() {
        if let Some(Content::File { layer, entry, .. }) = tree.inode(id).map(|inode| &inode.content)
            && let Some(list) = wanted.get_mut(*layer)
        {
            list.insert(*entry, id);
        }
    }
    for (number, list) in wanted.iter().enumerate() {
        if list.is_empty() {
            continue;
        }
        let mut reader = Reader::new(archive(number)?);
        let mut at = 0_usize;
        let mut left = list.len();
        while left > 0 {
            let Some(entry) = reader.entry()? else { break };
            if let Some(id) = list.get(&at) {
                left = left.saturating_sub(1);
                writer.file(*id, entry.size, &mut |buffer| reader.read(buffer))?;
            }
            at = at.saturating_add(1);
        }
    }
    writer.finish(tree)
}
