//! One slot of the descriptor table: 585 bytes.

use super::header::{field, put, trim_nul};
use super::types::{
    Arch, DataType, FsType, GroupId, MAX_GROUP, MessageFormat, MessageType, ObjectId, PartType,
    SbomFormat, SignatureHash,
};
use crate::digest::Digest;

/// Length of one descriptor in bytes.
pub const DESCRIPTOR_LEN: usize = 585;

/// The four top bits of a group field, and of a link that names a group.
pub const GROUP_MASK: u32 = 0xf000_0000;
const NAME: usize = 73;
/// Longest name of an object in bytes.
pub(super) const NAME_LEN: usize = 128;
const EXTRA: usize = 201;
const EXTRA_LEN: usize = 384;

/// A copy of one used slot.
///
/// Source: sylabs/sif v2 `pkg/sif/descriptor.go`; spec/sif.md 1.4 to 1.7.
#[derive(Clone, PartialEq, Eq)]
pub struct Descriptor {
    slot: usize,
    raw: [u8; DESCRIPTOR_LEN],
}

/// Id of an object counted from the smallest id of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeId(pub u32);

/// What an object points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Nothing.
    None,
    /// One object.
    Object(ObjectId),
    /// A group of objects.
    Group(GroupId),
}

/// Why the extra field cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtraError {
    /// The signature's hash type is none of the five.
    #[error("hash algorithm unsupported")]
    HashUnsupported,
    /// The OCI digest has no colon.
    #[error("cannot parse hash: \"{0}\"")]
    NoColon(String),
    /// The OCI digest is not SHA-256.
    #[error("unsupported hash: \"{0}\"")]
    UnsupportedHash(String),
    /// The OCI digest has not 64 digits.
    #[error("wrong number of hex digits for sha256: {0}")]
    WrongLength(String),
    /// The OCI digest has a digit outside `0-9a-f`.
    #[error("found non-hex character in hash: {0}")]
    NotHex(char),
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Descriptor")
            .field("slot", &self.slot)
            .field("id", &self.raw_id())
            .field("type", &self.data_type())
            .field("offset", &self.offset())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl Descriptor {
    /// Takes the raw bytes of slot number `slot` (from 0).
    pub fn from_bytes(slot: usize, raw: [u8; DESCRIPTOR_LEN]) -> Self {
        Self { slot, raw }
    }

    /// Position in the table, from 0.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; DESCRIPTOR_LEN] {
        &self.raw
    }

    /// Type of the object.
    pub fn data_type(&self) -> DataType {
        DataType::from_code(self.i32_at(0))
    }

    /// Id as stored; 0 in malformed images only.
    pub fn raw_id(&self) -> u32 {
        self.u32_at(5)
    }

    /// Id of the object, `None` if it is stored as 0.
    pub fn id(&self) -> Option<ObjectId> {
        ObjectId::new(self.raw_id())
    }

    /// Group field as stored, mask included.
    pub fn raw_group(&self) -> u32 {
        self.u32_at(9)
    }

    /// Group of the object.
    pub fn group(&self) -> Option<GroupId> {
        GroupId::new(self.raw_group() & MAX_GROUP)
    }

    /// The used byte as stored; 2 to 255 count as used like 1.
    pub fn used_byte(&self) -> u8 {
        let [byte] = field(&self.raw, 4);
        byte
    }

    /// Link field as stored, mask included.
    pub fn raw_link(&self) -> u32 {
        self.u32_at(13)
    }

    /// Whether a grouped object lacks part of the mask.
    pub fn group_mask_incomplete(&self) -> bool {
        self.raw_group() & GROUP_MASK != GROUP_MASK
    }

    /// What the object is linked to.
    pub fn link(&self) -> Link {
        let raw = self.u32_at(13);
        let number = raw & MAX_GROUP;
        if raw & GROUP_MASK == GROUP_MASK {
            GroupId::new(number).map_or(Link::None, Link::Group)
        } else {
            ObjectId::new(number).map_or(Link::None, Link::Object)
        }
    }

    /// Position of the data in bytes from the start of the file.
    pub fn offset(&self) -> i64 {
        self.i64_at(17)
    }

    /// Length of the data in bytes.
    pub fn size(&self) -> i64 {
        self.i64_at(25)
    }

    /// Length of the data plus the gap in front of it, as the writer of the object found it.
    pub fn padded_size(&self) -> i64 {
        self.i64_at(33)
    }

    /// Creation time in Unix seconds.
    pub fn created_at(&self) -> i64 {
        self.i64_at(41)
    }

    /// Modification time in Unix seconds.
    pub fn modified_at(&self) -> i64 {
        self.i64_at(49)
    }

    /// Owner's user and group number, which new writers leave 0.
    pub fn owner(&self) -> (i64, i64) {
        (self.i64_at(57), self.i64_at(65))
    }

    /// Name, at most 128 bytes, without trailing NULs.
    pub fn name(&self) -> &[u8] {
        trim_nul(self.slice(NAME, NAME_LEN))
    }

    /// The whole extra field, 384 bytes.
    pub fn extra(&self) -> &[u8] {
        self.slice(EXTRA, EXTRA_LEN)
    }

    /// File system, role and architecture of a partition.
    pub fn partition(&self) -> (FsType, PartType, Arch) {
        (
            FsType::from_code(self.i32_at(EXTRA)),
            PartType::from_code(self.i32_at(205)),
            Arch(field(&self.raw, 209)),
        )
    }

    /// Whether this is a primary system partition.
    pub fn is_primary_partition(&self) -> bool {
        self.data_type() == DataType::Partition && self.partition().1 == PartType::PrimSys
    }

    /// Hash type of a signature.
    ///
    /// # Errors
    /// [`ExtraError::HashUnsupported`] for a number that is none of the five.
    pub fn signature_hash(&self) -> Result<SignatureHash, ExtraError> {
        match SignatureHash::from_code(self.i32_at(EXTRA)) {
            SignatureHash::Unknown(_) => Err(ExtraError::HashUnsupported),
            known => Ok(known),
        }
    }

    /// Hash type of a signature as stored.
    pub fn signature_hash_code(&self) -> i32 {
        self.i32_at(EXTRA)
    }

    /// Fingerprint of the signer, 20 bytes; `None` if it is all zero.
    pub fn signature_fingerprint(&self) -> Option<[u8; 20]> {
        let bytes: [u8; 20] = field(&self.raw, 205);
        (bytes != [0; 20]).then_some(bytes)
    }

    /// Format and kind of a cryptographic message.
    pub fn crypto_message(&self) -> (MessageFormat, MessageType) {
        (
            MessageFormat::from_code(self.i32_at(EXTRA)),
            MessageType::from_code(self.i32_at(205)),
        )
    }

    /// Format of a software bill of materials.
    pub fn sbom_format(&self) -> SbomFormat {
        SbomFormat::from_code(self.i32_at(EXTRA))
    }

    /// Digest text of an OCI object: `sha256:` and 64 lower-case digits.
    ///
    /// # Errors
    /// As [`ExtraError`] says, in the words of the originals.
    pub fn oci_digest(&self) -> Result<String, ExtraError> {
        let extra = self.extra();
        let text = extra.split(|b| *b == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text);
        let Some((algorithm, digits)) = text.split_once(':') else {
            return Err(ExtraError::NoColon(text.into_owned()));
        };
        if let Some(bad) = digits.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(ExtraError::NotHex(bad));
        }
        if algorithm != "sha256" {
            return Err(ExtraError::UnsupportedHash(algorithm.to_owned()));
        }
        if digits.len() != 64 {
            return Err(ExtraError::WrongLength(digits.to_owned()));
        }
        Ok(text.into_owned())
    }

    /// Returns the 557 bytes of this descriptor that a signature covers.
    ///
    /// Little-endian, sizes in bytes: data type 4, used 1, relative id 4,
    /// link 4, size 8, created 8, uid 8, gid 8, name 128, extra 384. Group,
    /// offset, padded size and modified time are left out: data may move and
    /// the signature still holds. The used byte is always 1.
    ///
    /// Source: sylabs/sif v2, `Descriptor.GetIntegrityReader`; spec/sif.md 3.3.
    pub fn integrity_bytes(&self, relative: RelativeId) -> [u8; 557] {
        let mut out = [0; 557];
        put(&mut out, 0, self.slice(0, 4));
        put(&mut out, 4, &[1]);
        put(&mut out, 5, &relative.0.to_le_bytes());
        put(&mut out, 9, self.slice(13, 4));
        put(&mut out, 13, self.slice(25, 8));
        put(&mut out, 21, self.slice(41, 8));
        put(&mut out, 29, self.slice(57, 528));
        out
    }

    /// This partition with another role; what stands behind the 11 bytes of its extra field goes.
    ///
    /// Source: spec/sif.md 1.12.
    pub(super) fn with_part_type(&self, part: PartType, modified_at: i64) -> Self {
        let mut new = self.clone();
        put(&mut new.raw, 49, &modified_at.to_le_bytes());
        put(&mut new.raw, EXTRA, &[0; EXTRA_LEN]);
        put(&mut new.raw, EXTRA, self.slice(EXTRA, 4));
        put(&mut new.raw, 205, &part.code().to_le_bytes());
        put(&mut new.raw, 209, self.slice(209, 3));
        new
    }

    /// This object with another size with padding.
    pub(super) fn with_padded_size(&self, size: i64) -> Self {
        let mut new = self.clone();
        put(&mut new.raw, 33, &size.to_le_bytes());
        new
    }

    /// This object with the used byte that writers store.
    pub(super) fn with_used_byte(&self) -> Self {
        let mut new = self.clone();
        put(&mut new.raw, 4, &[1]);
        new
    }

    /// This object with its data elsewhere.
    pub(super) fn at_offset(&self, offset: i64) -> Self {
        let mut new = self.clone();
        put(&mut new.raw, 17, &offset.to_le_bytes());
        new
    }

    fn slice(&self, at: usize, len: usize) -> &[u8] {
        self.raw
            .get(at..)
            .and_then(|rest| rest.get(..len))
            .unwrap_or_default()
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_le_bytes(field(&self.raw, at))
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(field(&self.raw, at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_le_bytes(field(&self.raw, at))
    }
}

/// What stands in the extra field of a new descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// Of a partition.
    Partition {
        /// File system.
        fs: FsType,
        /// Role.
        part: PartType,
        /// Architecture; that of a primary partition goes to the header, too.
        arch: Arch,
    },
    /// Of a signature.
    Signature {
        /// Hash type.
        hash: SignatureHash,
        /// Fingerprint of the signer, zeros when absent.
        fingerprint: [u8; 20],
    },
    /// Of a software bill of materials.
    Sbom(SbomFormat),
    /// Of an OCI index or blob: the SHA-256 digest of its data.
    OciDigest(Digest),
}

impl Extra {
    /// The first bytes of the field; the rest is zero.
    ///
    /// Source: spec/sif.md 1.7.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Partition { fs, part, arch } => {
                let mut out = fs.code().to_le_bytes().to_vec();
                out.extend_from_slice(&part.code().to_le_bytes());
                out.extend_from_slice(&arch.0);
                out
            }
            Self::Signature { hash, fingerprint } => {
                let mut out = hash.code().to_le_bytes().to_vec();
                out.extend_from_slice(fingerprint);
                out
            }
            Self::Sbom(format) => format.code().to_le_bytes().to_vec(),
            Self::OciDigest(digest) => digest.to_string().into_bytes(),
        }
    }
}

/// The values of a descriptor that is about to be written.
pub(super) struct NewDescriptor<'a> {
    /// Type of the object.
    pub data_type: DataType,
    /// Id, slot number + 1 as all writers do.
    pub id: ObjectId,
    /// Group, or none.
    pub group: Option<GroupId>,
    /// Link.
    pub link: Link,
    /// Position in bytes from the start of the file.
    pub offset: i64,
    /// Length in bytes.
    pub size: i64,
    /// Length plus the gap in front, in bytes.
    pub padded_size: i64,
    /// Creation and modification time, Unix seconds.
    pub time: i64,
    /// Name, at most [`NAME_LEN`] bytes.
    pub name: &'a [u8],
    /// Extra field.
    pub extra: &'a Extra,
}

impl NewDescriptor<'_> {
    /// The bytes of the slot, used byte set; owner numbers 0.
    pub fn to_bytes(&self) -> [u8; DESCRIPTOR_LEN] {
        let mut raw = [0; DESCRIPTOR_LEN];
        let group = self.group.map_or(0, GroupId::get) | GROUP_MASK;
        let link = match self.link {
            Link::None => 0,
            Link::Object(id) => id.get(),
            Link::Group(id) => id.get() | GROUP_MASK,
        };
        put(&mut raw, 0, &self.data_type.code().to_le_bytes());
        put(&mut raw, 4, &[1]);
        put(&mut raw, 5, &self.id.get().to_le_bytes());
        put(&mut raw, 9, &group.to_le_bytes());
        put(&mut raw, 13, &link.to_le_bytes());
        put(&mut raw, 17, &self.offset.to_le_bytes());
        put(&mut raw, 25, &self.size.to_le_bytes());
        put(&mut raw, 33, &self.padded_size.to_le_bytes());
        put(&mut raw, 41, &self.time.to_le_bytes());
        put(&mut raw, 49, &self.time.to_le_bytes());
        let name = self.name.get(..NAME_LEN).unwrap_or(self.name);
        put(&mut raw, NAME, name);
        put(&mut raw, EXTRA, &self.extra.to_bytes());
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Descriptor {
        let mut raw = [0; DESCRIPTOR_LEN];
        for (i, b) in raw.iter_mut().enumerate() {
            *b = u8::try_from(i % 251).unwrap();
        }
        raw[4] = 1;
        Descriptor::from_bytes(0, raw)
    }

    #[test]
    fn covers_exactly_the_fields_of_the_specification() {
        // spec/sif.md 3.3: id, group, offset, padded size, modified time are free.
        let base = sample().integrity_bytes(RelativeId(3));
        for at in 0..DESCRIPTOR_LEN {
            let mut raw = *sample().as_bytes();
            raw[at] ^= 0x80;
            let changed = Descriptor::from_bytes(0, raw).integrity_bytes(RelativeId(3)) != base;
            let free = at == 4
                || (5..13).contains(&at)
                || (17..25).contains(&at)
                || (33..41).contains(&at)
                || (49..57).contains(&at);
            assert_eq!(changed, !free, "byte {at}");
        }
        assert_ne!(sample().integrity_bytes(RelativeId(4)), base);
    }

    #[test]
    fn link_and_group_follow_the_mask_rules() {
        let link = |value: u32| {
            let mut raw = [0; DESCRIPTOR_LEN];
            put(&mut raw, 13, &value.to_le_bytes());
            Descriptor::from_bytes(0, raw).link()
        };
        assert_eq!(link(0), Link::None);
        assert_eq!(link(0xf000_0000), Link::None);
        assert_eq!(link(0x1000_0000), Link::None);
        assert_eq!(link(0xf000_0002), Link::Group(GroupId::new(2).unwrap()));
        assert_eq!(link(2), Link::Object(ObjectId::new(2).unwrap()));
        assert_eq!(link(0x7000_0001), Link::Object(ObjectId::new(1).unwrap()));
    }

    #[test]
    fn oci_digest_errors_have_the_words_of_the_originals() {
        let read = |text: &str| {
            let mut raw = [0; DESCRIPTOR_LEN];
            put(&mut raw, EXTRA, text.as_bytes());
            Descriptor::from_bytes(0, raw)
                .oci_digest()
                .map_err(|e| e.to_string())
        };
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(read(&good), Ok(good.clone()));
        assert_eq!(read("x"), Err("cannot parse hash: \"x\"".into()));
        assert_eq!(
            read("sha512:00"),
            Err("unsupported hash: \"sha512\"".into())
        );
        assert_eq!(
            read("sha256:00"),
            Err("wrong number of hex digits for sha256: 00".into())
        );
        assert_eq!(
            read("sha256:0A"),
            Err("found non-hex character in hash: A".into())
        );
    }
}
