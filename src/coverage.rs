//! Accounts for every byte of an image: who signed it, or which rule fixes it.
//!
//! A byte is *signed* if a signature covers it, *fixed* if the format or what is signed leaves one
//! value for it, *free* if neither does although it is in order, and *uncovered* if it could be
//! another and should not. The rules, and the reasons of what is free, are in
//! `docs/verify-report.md`.
//!
//! Nothing is decided about keys here: [`Evidence`] says what signatures vouch for.

use crate::key::pem::is_der_signature;
use crate::payload::legacy;
use crate::payload::native::ImageMetadata;
use crate::report::{Format, KeySigner, Report, SignatureReport, Signer};
use crate::sif::layout::{Gap, Kind, Layout, TABLE_HOME, slot_range};
use crate::sif::types::{Arch, DataType, PartType, SignatureHash};
use crate::sif::{Descriptor, GROUP_MASK, GroupId, Image, Link, UNSET_TIME};
use crate::signer::{dsse, pgp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

/// What signatures vouch for, by the ids of the objects that hold them.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    header: BTreeSet<u32>,
    objects: BTreeMap<u32, Vouched>,
    seals: BTreeMap<u32, Seal>,
    /// How often a claim named an object.
    claimed: usize,
}

/// How often claims may name objects: each of many signatures can name each of many objects.
const MAX_CLAIMED: usize = 1 << 20;

/// The signatures over one object.
#[derive(Clone, Debug, Default)]
struct Vouched {
    descriptor: BTreeSet<u32>,
    data: BTreeSet<u32>,
}

/// What is known about a signature object.
#[derive(Clone, Debug)]
struct Seal {
    group: GroupId,
    format: Format,
    /// The keys that accepted an envelope, in its order; none if nobody asked.
    keys: Option<Vec<KeySigner>>,
}

/// Every byte of a file.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// The bytes in order, without gaps and overlaps.
    pub pieces: Vec<Piece>,
    /// Signature objects whose value has a twin that verifies as well.
    pub twins: Vec<u32>,
}

/// A run of bytes of one kind and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Byte positions.
    pub range: Range<usize>,
    /// What they are.
    pub what: What,
    /// Who answers for them.
    pub state: State,
}

/// What a run of bytes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A field of the global header.
    Header(&'static str),
    /// A descriptor, or one field of it.
    Descriptor {
        /// Id of the object.
        object: u32,
        /// The field, or all of them.
        field: Option<&'static str>,
    },
    /// Free slots of the descriptor table.
    FreeSlots,
    /// Data of an object.
    Data(u32),
    /// Unused bytes.
    Gap(Gap),
}

/// Who answers for bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The signatures in these objects.
    Signed(BTreeSet<u32>),
    /// The format: no other value is possible.
    Fixed,
    /// Nobody, and nobody can.
    Free(Freedom),
    /// Nobody.
    Uncovered(Problem),
}

/// Why bytes in good order can have any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Freedom {
    /// Creation and modification time of the image.
    #[error("the time of making or of the last change, which nothing repeats")]
    ImageTime,
    /// Creation time of a signature object; the modification time must repeat it.
    #[error("the time when the signature was stored, which nothing repeats")]
    SignatureTime,
    /// Modification time of a system partition.
    #[error("the time when the partition was last made primary or not, which nothing repeats")]
    PartitionTime,
}

/// Why bytes are not accounted for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No verified signature covers them.
    #[error("no verified signature covers it")]
    NotSigned,
    /// The object is in no group, so no signature can cover it.
    #[error("no signature can cover an object that is in no group")]
    Ungrouped,
    /// A signature object that was not verified.
    #[error("this signature was not verified")]
    SignatureNotVerified,
    /// A number that only has one possible value.
    #[error("is {found}, and can only be {expected}")]
    Number {
        /// The stored value.
        found: i64,
        /// The value that follows from the rest.
        expected: i64,
    },
    /// An architecture other than that of the primary system partition.
    #[error("is {}, and the primary system partition says {}", ArchText(*.found), ArchText(*.expected))]
    Arch {
        /// The stored value.
        found: Arch,
        /// The value of the primary system partition.
        expected: Arch,
    },
    /// Unused bytes that are not zero.
    #[error("unused bytes must be zero")]
    NotZero,
    /// Bytes behind the last object.
    #[error("the file must end with its last object")]
    Behind,
    /// A data type without a meaning.
    #[error("data type {0:#x} has no known meaning")]
    UnknownType(i32),
    /// A signature that verifies in a form that no writer gives it.
    #[error("the signature holds, but writers write these bytes differently")]
    Form,
    /// An envelope with more than the keys at hand accepted.
    #[error("the envelope names signers that were not verified")]
    OtherSigners,
}

impl Evidence {
    /// What a report proves: its valid signatures of the current format.
    pub fn proved(report: &Report) -> Self {
        let mut evidence = Self::default();
        for signature in &report.signatures {
            if signature.failure.is_none() && !signature.legacy {
                evidence.add_proof(signature);
            }
        }
        evidence
    }

    fn add_proof(&mut self, signature: &SignatureReport) {
        let Some(format) = signature.format else {
            return;
        };
        let by = signature.object;
        self.header.insert(by);
        for object in &signature.verified {
            let vouched = self.objects.entry(object.id).or_default();
            vouched.descriptor.insert(by);
            vouched.data.insert(by);
        }
        let keys = match &signature.signer {
            Some(Signer::Keys(keys)) => Some(keys.clone()),
            _ => None,
        };
        let group = signature.group;
        self.seals.insert(
            by,
            Seal {
                group,
                format,
                keys,
            },
        );
    }

    /// Whether so much was claimed that nothing more is added.
    pub fn is_full(&self) -> bool {
        self.claimed >= MAX_CLAIMED
    }

    /// Adds what a signature of the current or the legacy format says, true or not.
    ///
    /// Returns whether it says anything about this image.
    pub fn claim(&mut self, image: &Image<'_>, signature: &Descriptor) -> bool {
        let by = signature.raw_id();
        let data = image.signature_data(signature).unwrap_or_default();
        let (format, text) = if dsse::is_envelope(data, dsse::SIF_METADATA_TYPE) {
            (Format::Dsse, dsse::claimed_payload(data))
        } else {
            let message = pgp::parse(data).map(|message| message.plaintext().to_vec());
            (Format::Pgp, message)
        };
        let Some(text) = text else { return false };
        let metadata = ImageMetadata::parse(&text);
        let (group, objects) = match (signature.link(), &metadata) {
            (Link::Group(group), Ok(metadata)) => {
                (Some(group), metadata.ids(image.lowest_id(group)))
            }
            (Link::Group(group), Err(_)) if legacy::is_legacy(&text) => {
                let members = image.group_members(group);
                (None, members.map(|(_, o)| o.raw_id()).collect())
            }
            (Link::Object(id), _) => (None, vec![id.get()]),
            (Link::Group(_) | Link::None, _) => return false,
        };
        self.claimed = self.claimed.saturating_add(objects.len());
        for id in &objects {
            let vouched = self.objects.entry(*id).or_default();
            vouched.data.insert(by);
            if group.is_some() {
                vouched.descriptor.insert(by);
            }
        }
        if let Some(group) = group {
            self.header.insert(by);
            let keys = None;
            let seal = Seal {
                group,
                format,
                keys,
            };
            self.seals.insert(by, seal);
        }
        !objects.is_empty()
    }
}

impl Coverage {
    /// Accounts for every byte of an image.
    ///
    /// Unused bytes are read, data of objects is not: that is what signatures are for.
    pub fn of(image: &Image<'_>, evidence: &Evidence) -> Self {
        let layout = Layout::of(image);
        let mut accountant = Accountant {
            padded: layout
                .placed
                .iter()
                .map(|p| (p.object.slot(), p.padded_size()))
                .collect(),
            timeless: is_timeless(image, evidence),
            image,
            evidence,
            layout: &layout,
            coverage: Self::default(),
        };
        for part in &layout.parts {
            match part.kind {
                Kind::Header => accountant.header(),
                Kind::Table => accountant.table(&part.range),
                Kind::Data(index) => accountant.data(index, part.range.clone()),
                Kind::Gap(gap) => accountant.gap(gap, part.range.clone()),
            }
        }
        accountant.coverage
    }

    /// Whether nothing is uncovered.
    pub fn is_complete(&self) -> bool {
        self.uncovered().next().is_none()
    }

    /// The uncovered pieces.
    pub fn uncovered(&self) -> impl Iterator<Item = (&Piece, &Problem)> {
        self.pieces.iter().filter_map(|piece| match &piece.state {
            State::Uncovered(problem) => Some((piece, problem)),
            _ => None,
        })
    }

    /// The free pieces.
    pub fn free(&self) -> impl Iterator<Item = (&Piece, Freedom)> {
        self.pieces.iter().filter_map(|piece| match piece.state {
            State::Free(freedom) => Some((piece, freedom)),
            _ => None,
        })
    }

    /// Bytes that are signed, fixed, free, uncovered.
    pub fn totals(&self) -> [usize; 4] {
        let mut totals = [0_usize; 4];
        for piece in &self.pieces {
            let [signed, fixed, free, uncovered] = &mut totals;
            let total = match piece.state {
                State::Signed(_) => signed,
                State::Fixed => fixed,
                State::Free(_) => free,
                State::Uncovered(_) => uncovered,
            };
            *total = total.saturating_add(piece.range.len());
        }
        totals
    }

    /// Adds a piece, or makes the last one longer.
    fn push(&mut self, range: Range<usize>, what: What, state: State) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.pieces.last_mut()
            && last.range.end == range.start
            && last.state == state
            && let Some(both) = last.what.joined(&what)
        {
            last.what = both;
            last.range.end = range.end;
            return;
        }
        self.pieces.push(Piece { range, what, state });
    }
}

impl What {
    /// What two neighbours of one state are together, if they belong together.
    fn joined(&self, next: &Self) -> Option<Self> {
        match (self, next) {
            (a, b) if a == b => Some(a.clone()),
            (Self::Descriptor { object: a, .. }, Self::Descriptor { object: b, .. }) if a == b => {
                Some(Self::Descriptor {
                    object: *a,
                    field: None,
                })
            }
            _ => None,
        }
    }
}

/// Whether the signed times show that the image was made without any time.
///
/// Writers store no time in an image with a nil id and unset times, so signed objects without one
/// in an image with a nil id show that there never was any.
fn is_timeless(image: &Image<'_>, evidence: &Evidence) -> bool {
    let mut signed = image
        .objects()
        .iter()
        .filter(|o| !evidence.descriptor(o.raw_id()).is_empty())
        .peekable();
    image.header().id() == [0; 16]
        && signed.peek().is_some()
        && signed.all(|object| object.created_at() == UNSET_TIME)
}

impl Evidence {
    /// Ids of the signatures over an object.
    pub fn signatures_of(&self, object: u32) -> BTreeSet<u32> {
        &self.descriptor(object) | &self.data(object)
    }

    fn descriptor(&self, object: u32) -> BTreeSet<u32> {
        let vouched = self.objects.get(&object);
        vouched.map_or_else(BTreeSet::new, |v| v.descriptor.clone())
    }

    fn data(&self, object: u32) -> BTreeSet<u32> {
        let vouched = self.objects.get(&object);
        vouched.map_or_else(BTreeSet::new, |v| v.data.clone())
    }
}

struct Accountant<'a, 'i> {
    image: &'a Image<'i>,
    evidence: &'a Evidence,
    layout: &'a Layout<'a>,
    /// Sizes with padding by slot.
    padded: BTreeMap<usize, i64>,
    timeless: bool,
    coverage: Coverage,
}

impl Accountant<'_, '_> {
    fn header(&mut self) {
        let header = self.image.header();
        let objects = self.image.objects();
        let mut primaries = objects.iter().filter(|o| o.is_primary_partition());
        let primary = primaries.next().map(|o| o.partition().2);
        let expected = primary.unwrap_or(Arch::UNKNOWN);
        let found = header.arch();
        let arch = match found == expected {
            true => State::Fixed,
            false => State::Uncovered(Problem::Arch { found, expected }),
        };
        let signed = signed_or(&self.evidence.header, Problem::NotSigned);
        let magic = match &signed {
            State::Uncovered(_) => State::Fixed,
            signed => signed.clone(),
        };
        let time = |value| match self.timeless {
            true => only(value, UNSET_TIME),
            false => State::Free(Freedom::ImageTime),
        };
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let total = number(self.image.capacity());
        let slot = number(crate::sif::DESCRIPTOR_LEN);
        let start = header.data_offset();
        let data_offset = match self.layout.data_starts.contains(&start) {
            true => State::Fixed,
            false => only(start, self.layout.data_starts[0]),
        };
        let data_size = self.layout.data_end.saturating_sub(start);
        let table_home = i64::try_from(TABLE_HOME).unwrap_or(i64::MAX);
        let fields: [(usize, &'static str, State); 12] = [
            (32, "launch script", signed.clone()),
            (42, "magic", magic.clone()),
            (45, "version", magic),
            (48, "architecture", arch),
            (64, "id", signed),
            (72, "creation time", time(header.created_at())),
            (80, "modification time", time(header.modified_at())),
            (
                88,
                "free descriptors",
                only(header.descriptors_free(), number(self.image.free())),
            ),
            (96, "descriptors", State::Fixed),
            (
                104,
                "position of the table",
                only(header.descriptors_offset(), table_home),
            ),
            (
                112,
                "size of the table",
                only(header.descriptors_size(), total.saturating_mul(slot)),
            ),
            (120, "position of the data", data_offset),
        ];
        let mut at = 0;
        for (end, name, state) in fields {
            self.coverage.push(at..end, What::Header(name), state);
            at = end;
        }
        let state = only(header.data_size(), data_size);
        self.coverage
            .push(at..128, What::Header("size of the data"), state);
    }

    fn table(&mut self, part: &Range<usize>) {
        let used: BTreeMap<_, _> = self.image.objects().iter().map(|o| (o.slot(), o)).collect();
        let mut slot = 0;
        while slot < self.image.capacity() {
            if let Some(object) = used.get(&slot) {
                self.descriptor(object, part);
                slot = slot.saturating_add(1);
                continue;
            }
            let next = used.range(slot..).next().map(|(slot, _)| *slot);
            let next = next.unwrap_or(self.image.capacity());
            let start = slot_range(self.image, slot).start;
            let end = slot_range(self.image, next).start;
            let range = start.max(part.start)..end.min(part.end);
            self.zeros(range, &What::FreeSlots);
            slot = next;
        }
    }

    fn gap(&mut self, gap: Gap, range: Range<usize>) {
        if gap == Gap::Tail {
            let state = State::Uncovered(Problem::Behind);
            self.coverage.push(range, What::Gap(gap), state);
        } else {
            self.zeros(range, &What::Gap(gap));
        }
    }

    /// Bytes that must be zero.
    fn zeros(&mut self, range: Range<usize>, what: &What) {
        let span = self.image.nonzero_span(range.clone());
        let bad = span.unwrap_or(range.end..range.end);
        let mut push = |range, state| self.coverage.push(range, what.clone(), state);
        push(range.start..bad.start, State::Fixed);
        push(bad.clone(), State::Uncovered(Problem::NotZero));
        push(bad.end..range.end, State::Fixed);
    }

    fn descriptor(&mut self, object: &Descriptor, part: &Range<usize>) {
        let id = object.raw_id();
        let whole = slot_range(self.image, object.slot());
        let clip = |range: Range<usize>| range.start.max(part.start)..range.end.min(part.end);
        let signed = self.evidence.descriptor(id);
        let seal = self.evidence.seals.get(&id);
        if signed.is_empty() && seal.is_none() {
            let state = State::Uncovered(self.unaccounted(object));
            let what = What::Descriptor {
                object: id,
                field: None,
            };
            self.coverage.push(clip(whole), what, state);
            return;
        }
        let fields = match (signed.is_empty(), seal) {
            (true, Some(seal)) => self.fields_of_signature(object, seal),
            _ => self.signed_fields(object, signed),
        };
        let mut at = whole.start;
        for (len, name, state) in fields {
            let end = at.saturating_add(len);
            let what = What::Descriptor {
                object: id,
                field: Some(name),
            };
            self.coverage.push(clip(at..end), what, state);
            at = end;
        }
    }

    /// Fields of a descriptor that a signature covers in part: length, name, state.
    fn signed_fields(&self, object: &Descriptor, by: BTreeSet<u32>) -> Vec<Field> {
        let signed = State::Signed(by);
        let data_type = match object.data_type() {
            DataType::Unknown(code) => State::Uncovered(Problem::UnknownType(code)),
            _ => signed.clone(),
        };
        let group = object.group().map_or(0, GroupId::get) | GROUP_MASK;
        // Only `setprim` changes a modification time, and only of these.
        let is_system = object.data_type() == DataType::Partition
            && matches!(object.partition().1, PartType::System | PartType::PrimSys);
        let modified = match (self.timeless, is_system) {
            (true, _) => only(object.modified_at(), UNSET_TIME),
            (false, true) => State::Free(Freedom::PartitionTime),
            (false, false) => only(object.modified_at(), object.created_at()),
        };
        vec![
            (4, "type", data_type),
            (1, "used", used(object)),
            (4, "id", self.own_id(object)),
            (4, "group", only_u32(object.raw_group(), group)),
            (4, "link", signed.clone()),
            (8, "offset", State::Fixed),
            (8, "size", signed.clone()),
            (8, "size with padding", self.own_padded_size(object)),
            (8, "creation time", signed.clone()),
            (8, "modification time", modified),
            (16, "owner", signed.clone()),
            (128, "name", signed.clone()),
            (384, "extra", signed),
        ]
    }

    /// Fields of the descriptor of a signature: nothing covers them.
    fn fields_of_signature(&self, object: &Descriptor, seal: &Seal) -> Vec<Field> {
        let created = object.created_at();
        let time = match self.timeless {
            true => only(created, UNSET_TIME),
            false => State::Free(Freedom::SignatureTime),
        };
        let (uid, gid) = object.owner();
        let extra = object.extra();
        let zero_from =
            |bytes: Option<&[u8]>| match bytes.unwrap_or_default().iter().all(|b| *b == 0) {
                true => State::Fixed,
                false => State::Uncovered(Problem::NotZero),
            };
        let entity = match seal.format {
            // Verified to be the signer's.
            Format::Pgp => State::Fixed,
            Format::Dsse => zero_from(extra.get(4..24)),
        };
        let hash = i64::from(object.signature_hash_code());
        vec![
            (4, "type", State::Fixed),
            (1, "used", used(object)),
            (4, "id", self.own_id(object)),
            (4, "group", only_u32(object.raw_group(), GROUP_MASK)),
            (
                4,
                "link",
                only_u32(object.raw_link(), seal.group.get() | GROUP_MASK),
            ),
            (8, "offset", State::Fixed),
            (8, "size", State::Fixed),
            (8, "size with padding", self.own_padded_size(object)),
            (8, "creation time", time),
            (8, "modification time", only(object.modified_at(), created)),
            (8, "owner", only(uid, 0)),
            (8, "owner's group", only(gid, 0)),
            (128, "name", zero_from(Some(object.name()))),
            (
                4,
                "hash type",
                only(hash, i64::from(SignatureHash::Sha256.code())),
            ),
            (20, "fingerprint", entity),
            (360, "rest of the extra field", zero_from(extra.get(24..))),
        ]
    }

    /// Every writer counts ids from the slots.
    fn own_id(&self, object: &Descriptor) -> State {
        let expected = i64::try_from(object.slot()).unwrap_or(i64::MAX);
        only(i64::from(object.raw_id()), expected.saturating_add(1))
    }

    fn own_padded_size(&self, object: &Descriptor) -> State {
        let expected = self.padded.get(&object.slot()).copied();
        only(object.padded_size(), expected.unwrap_or_default())
    }

    fn data(&mut self, index: usize, range: Range<usize>) {
        let Some(object) = self.image.objects().get(index) else {
            return;
        };
        let id = object.raw_id();
        let signed = self.evidence.data(id);
        if !signed.is_empty() {
            let state = State::Signed(signed);
            return self.coverage.push(range, What::Data(id), state);
        }
        let Some(seal) = self.evidence.seals.get(&id) else {
            let state = State::Uncovered(self.unaccounted(object));
            return self.coverage.push(range, What::Data(id), state);
        };
        let data = self.image.signature_data(object).unwrap_or_default();
        let bad = match judge_seal(data, seal) {
            Ok(twin) => {
                if twin {
                    self.coverage.twins.push(id);
                }
                None
            }
            Err(loose) => Some(loose),
        };
        let at = |offset: usize| range.start.saturating_add(offset).min(range.end);
        let (bad, problem) = bad.unwrap_or((data.len()..data.len(), Problem::Form));
        let bad = at(bad.start)..at(bad.end);
        let mut push = |range, state| self.coverage.push(range, What::Data(id), state);
        push(range.start..bad.start, State::Fixed);
        push(bad.clone(), State::Uncovered(problem));
        push(bad.end..range.end, State::Fixed);
    }

    /// Why nobody answers for an object.
    fn unaccounted(&self, object: &Descriptor) -> Problem {
        if object.data_type() == DataType::Signature {
            Problem::SignatureNotVerified
        } else if object.group().is_none() {
            Problem::Ungrouped
        } else {
            Problem::NotSigned
        }
    }
}

/// Length in bytes, name, state.
type Field = (usize, &'static str, State);

fn signed_or(by: &BTreeSet<u32>, problem: Problem) -> State {
    match by.is_empty() {
        true => State::Uncovered(problem),
        false => State::Signed(by.clone()),
    }
}

fn only(found: i64, expected: i64) -> State {
    match found == expected {
        true => State::Fixed,
        false => State::Uncovered(Problem::Number { found, expected }),
    }
}

fn only_u32(found: u32, expected: u32) -> State {
    only(i64::from(found), i64::from(expected))
}

fn used(object: &Descriptor) -> State {
    only(i64::from(object.used_byte()), 1)
}

/// Whether a signature that verifies is in the form that writers give it.
///
/// Returns whether its value has a twin, or the bytes that could be others.
fn judge_seal(data: &[u8], seal: &Seal) -> Result<bool, (Range<usize>, Problem)> {
    let whole = 0..data.len();
    let (canonical, twin) = match seal.format {
        Format::Pgp => match pgp::canonical(data) {
            Some(canonical) => (canonical.bytes, canonical.has_twin),
            None => return Err((whole, Problem::Form)),
        },
        Format::Dsse => {
            let Ok(canonical) = dsse::canonical(data) else {
                return Err((whole, Problem::Form));
            };
            (
                canonical,
                judge_entries(data, seal).map_err(|p| (whole, p))?,
            )
        }
    };
    match difference(data, &canonical) {
        None => Ok(twin),
        Some(range) => Err((range, Problem::Form)),
    }
}

/// Every entry of an envelope must be the one of the key that accepted it.
fn judge_entries(data: &[u8], seal: &Seal) -> Result<bool, Problem> {
    let Some(keys) = &seal.keys else {
        return Ok(false);
    };
    let ids = dsse::entries(data).unwrap_or_default();
    if !ids.iter().eq(keys.iter().map(|key| &key.key_id)) {
        return Err(Problem::OtherSigners);
    }
    let values = dsse::signature_values(data).unwrap_or_default();
    let mut twin = false;
    for (key, value) in keys.iter().zip(values) {
        if key.is_ecdsa() {
            twin = true;
            if !is_der_signature(&value) {
                return Err(Problem::Form);
            }
        }
    }
    Ok(twin)
}

/// From the first to the last byte of `data` that is not as in `expected`; at least one byte.
fn difference(data: &[u8], expected: &[u8]) -> Option<Range<usize>> {
    if data == expected {
        return None;
    }
    let same = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let front = same(data, expected);
    let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<_>>();
    let back = same(&reversed(data), &reversed(expected));
    let shorter = data.len().min(expected.len());
    let back = back.min(shorter.saturating_sub(front));
    let end = data.len().saturating_sub(back);
    let start = front.min(data.len().saturating_sub(1));
    Some(start..end.max(start.saturating_add(1)))
}

struct ArchText(Arch);

impl fmt::Display for ArchText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.name() {
            "unknown" => write!(f, "{:02x?}", self.0.0),
            name => f.write_str(name),
        }
    }
}
