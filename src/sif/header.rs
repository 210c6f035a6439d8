//! The global header: 128 bytes at the start of every image.

use super::descriptor::DESCRIPTOR_LEN;
use super::layout::TABLE_HOME;
use super::types::Arch;

/// The magic, at [`MAGIC_OFFSET`].
pub const MAGIC: &[u8; 10] = b"SIF_MAGIC\0";

/// Where the magic begins, in bytes.
pub const MAGIC_OFFSET: usize = 32;

/// Length of the global header in bytes.
pub const HEADER_LEN: usize = 128;

/// Go's zero time, 0001-01-01T00:00:00Z, in Unix seconds: "no time set".
pub const UNSET_TIME: i64 = -62_135_596_800;

/// Length in bytes of a descriptor table.
pub fn table_len(capacity: usize) -> u64 {
    let slot = u64::try_from(DESCRIPTOR_LEN).unwrap_or(u64::MAX);
    u64::try_from(capacity)
        .unwrap_or(u64::MAX)
        .saturating_mul(slot)
}

/// A copy of the global header.
///
/// Source: sylabs/sif v2 `pkg/sif/sif.go`; spec/sif.md 1.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    raw: [u8; HEADER_LEN],
}

impl Header {
    /// Takes the raw bytes; nothing is checked here.
    pub fn from_bytes(raw: [u8; HEADER_LEN]) -> Self {
        Self { raw }
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.raw
    }

    /// Launch script, at most 32 bytes, without trailing NULs.
    pub fn launch_script(&self) -> &[u8] {
        trim_nul(self.raw.get(..32).unwrap_or_default())
    }

    /// Magic, 10 bytes.
    pub fn magic(&self) -> [u8; 10] {
        field(&self.raw, MAGIC_OFFSET)
    }

    /// Version, two digits and a NUL.
    pub fn version(&self) -> [u8; 3] {
        field(&self.raw, 42)
    }

    /// Architecture of the primary system partition.
    pub fn arch(&self) -> Arch {
        Arch(field(&self.raw, 45))
    }

    /// Image id, a UUID in RFC 9562 byte order.
    pub fn id(&self) -> [u8; 16] {
        field(&self.raw, 48)
    }

    /// Creation time in Unix seconds.
    pub fn created_at(&self) -> i64 {
        self.i64_at(64)
    }

    /// Time of the last change in Unix seconds.
    pub fn modified_at(&self) -> i64 {
        self.i64_at(72)
    }

    /// Free slots as the file claims; never trusted.
    pub fn descriptors_free(&self) -> i64 {
        self.i64_at(80)
    }

    /// Capacity of the descriptor table.
    pub fn descriptors_total(&self) -> i64 {
        self.i64_at(88)
    }

    /// Byte position of the descriptor table.
    pub fn descriptors_offset(&self) -> i64 {
        self.i64_at(96)
    }

    /// Length of the descriptor table in bytes.
    pub fn descriptors_size(&self) -> i64 {
        self.i64_at(104)
    }

    /// Byte position of the data section.
    pub fn data_offset(&self) -> i64 {
        self.i64_at(112)
    }

    /// Length of the data section in bytes; may be stale after a delete.
    pub fn data_size(&self) -> i64 {
        self.i64_at(120)
    }

    /// The header of an image without objects, its table where all writers put it.
    ///
    /// `created_at` in Unix seconds.
    ///
    /// Source: spec/sif.md 1.9.
    pub fn empty(id: [u8; 16], created_at: i64, capacity: usize) -> Self {
        let mut new = Self {
            raw: [0; HEADER_LEN],
        };
        new.put(32, b"SIF_MAGIC\x0001\x00");
        new.put(48, &id);
        new.put(64, &created_at.to_le_bytes());
        new.set_arch(Arch::UNKNOWN);
        new.set_modified_at(created_at);
        new.set_table(TABLE_HOME, capacity);
        new.set_data_offset(TABLE_HOME.saturating_add(table_len(capacity)));
        new.set_counts(i64::try_from(capacity).unwrap_or(i64::MAX), 0);
        new
    }

    /// Sets the architecture of the primary partition.
    pub(super) fn set_arch(&mut self, arch: Arch) {
        self.put(45, &arch.0);
    }

    /// Sets the time of the last change, in Unix seconds.
    pub(super) fn set_modified_at(&mut self, time: i64) {
        self.put(72, &time.to_le_bytes());
    }

    /// Sets the number of free slots, and the length of the data section in bytes.
    pub(super) fn set_counts(&mut self, free: i64, data_size: i64) {
        self.put(80, &free.to_le_bytes());
        self.put(120, &data_size.to_le_bytes());
    }

    /// Sets position (in bytes) and capacity of the table.
    pub(super) fn set_table(&mut self, offset: u64, capacity: usize) {
        self.put(
            88,
            &u64::try_from(capacity).unwrap_or(u64::MAX).to_le_bytes(),
        );
        self.put(96, &offset.to_le_bytes());
        self.put(104, &table_len(capacity).to_le_bytes());
    }

    /// Sets the byte position of the data section.
    pub(super) fn set_data_offset(&mut self, offset: u64) {
        self.put(112, &offset.to_le_bytes());
    }

    /// Whether the image is deterministic: nil id and both times unset.
    ///
    /// Edits of such an image write no time. Source: spec/sif.md 1.8.
    pub fn is_deterministic(&self) -> bool {
        self.id() == [0; 16] && self.created_at() == UNSET_TIME && self.modified_at() == UNSET_TIME
    }

    /// Returns the 61 bytes of the header that a signature covers.
    ///
    /// Launch script 32, magic 10, version 3, id 16. Architecture, times,
    /// counts and positions are left out.
    ///
    /// Source: sylabs/sif v2, `header.GetIntegrityReader`; spec/sif.md 3.3.
    pub fn integrity_bytes(&self) -> [u8; 61] {
        let mut out = [0; 61];
        let covered = self.raw.iter().take(45).chain(self.raw.iter().skip(48));
        for (to, from) in out.iter_mut().zip(covered) {
            *to = *from;
        }
        out
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_le_bytes(field(&self.raw, at))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.raw, at, bytes);
    }
}

/// Copies `N` bytes at `at`; zeros where the source ends, which no caller reaches.
pub(super) fn field<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(raw.iter().skip(at)) {
        *to = *from;
    }
    out
}

/// Overwrites bytes at `at`.
pub(super) fn put(raw: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in raw.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// Cuts trailing NULs.
pub(super) fn trim_nul(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [head @ .., 0] = rest {
        rest = head;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;

    fn plain() -> Header {
        let mut raw = [0; HEADER_LEN];
        put(&mut raw, 32, b"SIF_MAGIC\x0001\x0000\x00");
        put(&mut raw, 64, &UNSET_TIME.to_le_bytes());
        put(&mut raw, 72, &UNSET_TIME.to_le_bytes());
        Header::from_bytes(raw)
    }

    #[test]
    fn integrity_bytes_give_the_published_digest() {
        // spec/sif.md section 7: empty launch script, nil id.
        let covered = plain().integrity_bytes();
        assert_eq!(
            HashAlgorithm::Sha256.digest(&covered).to_string(),
            "sha256:635fa0a14a8ef0c0351ed3e985799ed1d4f75ce973dea3cc76c99710795cc3f1"
        );
        assert_eq!(
            HashAlgorithm::Sha224.digest(&covered).to_string(),
            "sha224:88ecbdbaa9bf8410c9362213ddae5e6771fd2525da3eb390300fb666"
        );
    }

    #[test]
    fn covers_script_magic_version_and_id_only() {
        let base = plain();
        for at in 0..HEADER_LEN {
            let mut raw = *base.as_bytes();
            raw[at] ^= 1;
            let changed = Header::from_bytes(raw).integrity_bytes() != base.integrity_bytes();
            assert_eq!(changed, at < 45 || (48..64).contains(&at), "byte {at}");
        }
    }

    #[test]
    fn deterministic_needs_all_three_marks() {
        assert!(plain().is_deterministic());
        for at in [48, 64, 72] {
            let mut raw = *plain().as_bytes();
            raw[at] ^= 1;
            assert!(!Header::from_bytes(raw).is_deterministic(), "byte {at}");
        }
    }
}
