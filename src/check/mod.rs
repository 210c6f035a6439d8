//! Examines an image: every inconsistency of header, table and data.
//!
//! Finds, and changes nothing. What a finding costs is its [`Severity`]; whether it can be put
//! right without guessing is told with it.

pub mod repair;

mod oci;
mod root_index;

pub use self::oci::oci;

use crate::sif::layout::{Gap, Kind, Layout, TABLE_HOME, is_interrupted, slot_range};
use crate::sif::types::{Arch, DataType};
use crate::sif::{self, DESCRIPTOR_LEN, Descriptor, ExtraError, Fault, Image, Link};
use crate::signer::{dsse, pgp};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

/// What a finding costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Ordinary, but worth knowing: what a deletion leaves, an object outside every group.
    Note,
    /// Something says what is not so; readers still agree about the objects.
    Warning,
    /// The image, or an object of it, cannot be used or trusted.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One inconsistency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it costs.
    pub severity: Severity,
    /// The bytes that are wrong.
    pub range: Range<u64>,
    /// The object that it is about.
    pub object: Option<u32>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The image does not load.
    #[error("{0}")]
    Unreadable(sif::Error),
    /// The image cannot be signed or verified.
    #[error("{0}")]
    Fault(Fault),
    /// A number of the header that the table or the objects contradict.
    #[error("{field} is {found}, must be {expected}")]
    Stale {
        /// Name of the field.
        field: &'static str,
        /// The stored value.
        found: i64,
        /// The value that follows from the rest.
        expected: i64,
    },
    /// A data size that counts objects that are gone.
    #[error("size of the data is {found}, the objects end after {expected}: something was deleted")]
    DataSizeOfDeleted {
        /// The stored value.
        found: i64,
        /// The value that follows from the objects.
        expected: i64,
    },
    /// A descriptor table where no writer leaves it.
    #[error("the descriptor table is not at its home place {TABLE_HOME}: an edit was interrupted")]
    TableMoved,
    /// An architecture other than that of the primary system partition.
    #[error("architecture is {}, must be {}", .found.name(), .expected.name())]
    Arch {
        /// The stored value.
        found: Arch,
        /// The value of the primary system partition.
        expected: Arch,
    },
    /// A free slot that is not empty.
    #[error("free descriptor {slot} is not empty: left behind by a deletion or a crash")]
    FreeSlot {
        /// Position in the table, from 0.
        slot: usize,
    },
    /// A used byte other than 1.
    #[error("used byte is {0}, must be 1")]
    UsedByte(u8),
    /// An id that the slot does not imply.
    #[error("id is not that of its slot, {expected}")]
    ForeignId {
        /// The id that a writer would have given.
        expected: usize,
    },
    /// A group field without the mask.
    #[error("group field lacks its mask")]
    Mask,
    /// A size with padding that does not fit the place.
    #[error("size with padding is {found}, must be {expected}")]
    PaddedSize {
        /// The stored value.
        found: i64,
        /// The value that follows from the place.
        expected: i64,
    },
    /// A link to an object or a group that does not exist.
    #[error("linked to {0}, which does not exist")]
    DanglingLink(String),
    /// A data type without a meaning.
    #[error("data type {0:#x} has no known meaning")]
    UnknownType(i32),
    /// An extra field that cannot be read.
    #[error("extra field: {0}")]
    Extra(ExtraError),
    /// Bytes behind the value in a field that is padded with zeros.
    #[error("{0} has bytes behind its value")]
    FieldTail(&'static str),
    /// An object that no signature can cover.
    #[error("in no group: no signature can cover it, and verify refuses the image")]
    Ungrouped,
    /// Data of a signature object that is no signature.
    #[error("neither a clear-signed message nor a DSSE envelope")]
    NoSignature,
    /// Unused bytes that are not zero.
    #[error("unused bytes {} are not zero", gap_text(*.0))]
    NotZero(Gap),
    /// Bytes behind everything.
    #[error("bytes behind the last object")]
    Tail,
    /// OCI blobs, and nothing that names them.
    #[error("OCI blobs without a root index{}", because(.obstacle))]
    LostRootIndex {
        /// Why it cannot be built anew.
        obstacle: Option<String>,
    },
    /// More than one RootIndex.
    #[error("another root index: with two of them this is no OCI-SIF")]
    SecondRootIndex,
    /// The RootIndex cannot be used, or names what is not there.
    #[error("root index: {0}")]
    RootIndex(String),
    /// Bytes of an OCI object that are not those of its digest.
    #[error("digest is {expected}, the bytes have {found}")]
    OciDigest {
        /// In the descriptor.
        expected: String,
        /// Of the bytes.
        found: String,
    },
    /// A writable layer that was written to.
    #[error(
        "writable layer with other bytes than its digest says: a container wrote to it, 'overlay sync' is due"
    )]
    OverlayChanged,
    /// A second blob of one digest.
    #[error("same digest as object {first}: the originals cannot read a blob that is there twice{}", because(.obstacle))]
    DuplicateBlob {
        /// The first blob.
        first: u32,
        /// Why it cannot go.
        obstacle: Option<String>,
    },
    /// A blob that nothing names.
    #[error("nothing names this blob")]
    Unreferenced,
}

fn because(obstacle: &Option<String>) -> String {
    let text = obstacle
        .as_ref()
        .map(|text| format!(" (cannot be repaired: {text})"));
    text.unwrap_or_default()
}

fn gap_text(gap: Gap) -> &'static str {
    match gap {
        Gap::AfterHeader => "behind the header",
        Gap::AfterTable => "behind the descriptor table",
        Gap::BetweenObjects => "between objects",
        Gap::Tail => "behind the last object",
    }
}

impl Problem {
    /// A short name that does not change, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Fault(fault) => match fault {
                Fault::FreeCount { .. } => "free-count",
                Fault::DataSection { .. } => "data-section",
                Fault::NegativeOffset { .. } => "negative-offset",
                Fault::NegativeSize { .. } => "negative-size",
                Fault::Overflow { .. } => "overflow",
                Fault::PastEnd { .. } => "past-end",
                Fault::Overlap { .. } => "overlap",
                Fault::ZeroId { .. } => "zero-id",
                Fault::DuplicateId { .. } => "duplicate-id",
                Fault::GroupMask { .. } => "group-mask",
                Fault::SecondPrimary { .. } => "second-primary",
            },
            Self::Stale { .. } => "stale",
            Self::DataSizeOfDeleted { .. } => "data-size",
            Self::TableMoved => "table-moved",
            Self::Arch { .. } => "arch",
            Self::FreeSlot { .. } => "free-slot",
            Self::UsedByte(_) => "used-byte",
            Self::ForeignId { .. } => "foreign-id",
            Self::Mask => "mask",
            Self::PaddedSize { .. } => "padded-size",
            Self::DanglingLink(_) => "dangling-link",
            Self::UnknownType(_) => "unknown-type",
            Self::Extra(_) => "extra",
            Self::FieldTail(_) => "field-tail",
            Self::Ungrouped => "ungrouped",
            Self::NoSignature => "no-signature",
            Self::NotZero(_) => "not-zero",
            Self::Tail => "tail",
            Self::LostRootIndex { .. } => "lost-root-index",
            Self::SecondRootIndex => "second-root-index",
            Self::RootIndex(_) => "root-index",
            Self::OciDigest { .. } => "oci-digest",
            Self::OverlayChanged => "overlay-changed",
            Self::DuplicateBlob { .. } => "duplicate-blob",
            Self::Unreferenced => "unreferenced",
        }
    }

    /// Whether `sif repair` puts it right.
    pub fn is_repairable(&self) -> bool {
        matches!(
            self,
            Self::Fault(Fault::FreeCount { .. } | Fault::DataSection { .. })
                | Self::LostRootIndex { obstacle: None }
                | Self::DuplicateBlob { obstacle: None, .. }
                | Self::Stale { .. }
                | Self::DataSizeOfDeleted { .. }
                | Self::TableMoved
                | Self::Arch { .. }
                | Self::FreeSlot { .. }
                | Self::UsedByte(_)
                | Self::PaddedSize { .. }
                | Self::NotZero(_)
                | Self::Tail
        )
    }
}

/// Examines all of an image that loads, in the order of the file; blobs are hashed with at most
/// `threads` threads.
///
/// # Errors
/// Only if the file became shorter while it was read.
pub fn examine(image: &Image<'_>, threads: usize) -> Result<Vec<Finding>, sif::Error> {
    let mut findings = native(image);
    findings.extend(oci(image, threads)?);
    findings.sort_by_key(|finding| finding.range.start);
    image.still_there()?;
    Ok(findings)
}

/// Examines header, table and data of an image that loads; in the order of the file.
pub fn native(image: &Image<'_>) -> Vec<Finding> {
    let layout = Layout::of(image);
    let mut examiner = Examiner {
        image,
        layout: &layout,
        findings: Vec::new(),
    };
    for fault in image.faults() {
        examiner.fault(fault);
    }
    examiner.header();
    examiner.slots();
    examiner.gaps();
    let mut findings = examiner.findings;
    findings.sort_by_key(|finding| finding.range.start);
    findings
}

/// The finding about an image that does not load.
pub fn unreadable(error: &sif::Error) -> Finding {
    let range = match error {
        sif::Error::HeaderCut { len } => 0..wide(*len),
        sif::Error::Magic => 32..42,
        sif::Error::Version => 42..45,
        sif::Error::HeaderField { at, .. } => wide(*at)..wide(*at).saturating_add(8),
        sif::Error::TableCut {
            start, readable, ..
        } => *start..start.saturating_add(*readable),
        _ => 0..0,
    };
    Finding {
        severity: Severity::Error,
        range,
        object: None,
        problem: Problem::Unreadable(error.clone()),
    }
}

struct Examiner<'a, 'i> {
    image: &'a Image<'i>,
    layout: &'a Layout<'a>,
    findings: Vec<Finding>,
}

impl Examiner<'_, '_> {
    fn add(&mut self, severity: Severity, range: Range<u64>, problem: Problem) {
        self.findings.push(Finding {
            severity,
            range,
            object: None,
            problem,
        });
    }

    fn fault(&mut self, fault: &Fault) {
        let eight = |at: u64| at..at.saturating_add(8);
        let four = |at: u64| at..at.saturating_add(4);
        let data = |start: i64, end: i64| clamp(start)..clamp(end);
        let object = match fault {
            Fault::NegativeOffset { id, .. }
            | Fault::NegativeSize { id, .. }
            | Fault::Overflow { id, .. }
            | Fault::PastEnd { id, .. }
            | Fault::Overlap { id, .. }
            | Fault::DuplicateId { id, .. }
            | Fault::GroupMask { id, .. } => Some(*id),
            Fault::SecondPrimary { second, .. } => Some(*second),
            _ => None,
        };
        let range = match fault {
            Fault::FreeCount { .. } => 80..88,
            Fault::DataSection { at, .. } => eight(wide(*at)),
            Fault::NegativeOffset { at, .. }
            | Fault::NegativeSize { at, .. }
            | Fault::Overflow { at, .. } => eight(*at),
            Fault::PastEnd { start, end, .. } => data(*start, *end),
            Fault::Overlap { start, .. } => wide(*start)..wide(*start).saturating_add(1),
            Fault::ZeroId { at } | Fault::DuplicateId { at, .. } | Fault::GroupMask { at, .. } => {
                four(*at)
            }
            Fault::SecondPrimary { second, .. } => {
                let second = self.image.object(*second);
                second.map_or(0..0, |o| field(self.image, o, 205, 4))
            }
        };
        self.findings.push(Finding {
            severity: Severity::Error,
            range,
            object,
            problem: Problem::Fault(fault.clone()),
        });
    }

    fn header(&mut self) {
        let (image, layout) = (self.image, self.layout);
        let header = image.header();
        let mut primaries = image.objects().iter().filter(|o| o.is_primary_partition());
        let primary = primaries.next().map(|o| o.partition().2);
        let expected = primary.unwrap_or(Arch::UNKNOWN);
        let found = header.arch();
        if found != expected {
            let problem = Problem::Arch { found, expected };
            self.add(Severity::Warning, 45..48, problem);
        }
        let mut stale = |field, at: u64, found: i64, expected: i64| {
            if found != expected {
                let problem = Problem::Stale {
                    field,
                    found,
                    expected,
                };
                self.add(Severity::Warning, at..at.saturating_add(8), problem);
            }
        };
        let free = header.descriptors_free();
        if usize::try_from(free).is_ok_and(|free| free <= image.capacity()) {
            stale("count of free descriptors", 80, free, narrow(image.free()));
        }
        let size = image.capacity().saturating_mul(DESCRIPTOR_LEN);
        stale(
            "size of the descriptor table",
            104,
            header.descriptors_size(),
            narrow(size),
        );
        if image.table_position() != TABLE_HOME {
            let end = image.slot_position(image.capacity());
            let range = image.table_position()..end;
            self.add(Severity::Warning, range, Problem::TableMoved);
        }
        let start = header.data_offset();
        let is_sane = !image
            .faults()
            .iter()
            .any(|fault| matches!(fault, Fault::DataSection { .. }));
        if is_sane && !is_interrupted(image) {
            self.data_section(start, layout.data_end.saturating_sub(start));
        }
    }

    fn data_section(&mut self, start: i64, expected: i64) {
        let home = self.layout.data_starts;
        let lowest = self.layout.placed.first().map(|p| p.object.offset());
        let wrong = self.image.table_position() == TABLE_HOME
            && !home.contains(&start)
            && (start < home[0] || lowest.is_some_and(|lowest| start > lowest));
        if wrong {
            let problem = Problem::Stale {
                field: "position of the data",
                found: start,
                expected: home[0],
            };
            self.add(Severity::Warning, 112..120, problem);
        }
        let found = self.image.header().data_size();
        if found < expected {
            let problem = Problem::Stale {
                field: "size of the data",
                found,
                expected,
            };
            self.add(Severity::Warning, 120..128, problem);
        } else if found > expected {
            let problem = Problem::DataSizeOfDeleted { found, expected };
            self.add(Severity::Note, 120..128, problem);
        }
    }

    fn slots(&mut self) {
        let image = self.image;
        let used: BTreeMap<_, _> = image.objects().iter().map(|o| (o.slot(), o)).collect();
        let padded: BTreeMap<_, _> = self
            .layout
            .placed
            .iter()
            .map(|p| (p.object.slot(), p.padded_size()))
            .collect();
        let told: HashSet<u32> = image
            .faults()
            .iter()
            .filter_map(|fault| match fault {
                Fault::GroupMask { id, .. } => Some(*id),
                _ => None,
            })
            .collect();
        let mut free_from = 0;
        for (slot, object) in &used {
            self.free_slots(free_from, *slot);
            free_from = slot.saturating_add(1);
            self.descriptor(object, padded.get(slot).copied(), &told);
        }
        self.free_slots(free_from, image.capacity());
    }

    fn free_slots(&mut self, from: usize, to: usize) {
        let image = self.image;
        let range = |slot| slot_range(image, slot);
        if from >= to
            || image
                .nonzero_span(range(from).start..range(to).start)
                .is_none()
        {
            return;
        }
        for slot in from..to {
            if let Some(span) = image.nonzero_span(range(slot)) {
                let span = wide(span.start)..wide(span.end);
                self.add(Severity::Warning, span, Problem::FreeSlot { slot });
            }
        }
    }

    /// `told`: objects without mask that are among the faults.
    fn descriptor(&mut self, object: &Descriptor, padded: Option<i64>, told: &HashSet<u32>) {
        use Severity::{Note, Warning};
        let image = self.image;
        let mut add = |severity, at, len, problem| {
            self.findings.push(Finding {
                severity,
                range: field(image, object, at, len),
                object: Some(object.raw_id()),
                problem,
            });
        };
        if let DataType::Unknown(code) = object.data_type() {
            add(Note, 0, 4, Problem::UnknownType(code));
        }
        if object.used_byte() != 1 {
            add(Warning, 4, 1, Problem::UsedByte(object.used_byte()));
        }
        let expected = object.slot().saturating_add(1);
        if usize::try_from(object.raw_id()) != Ok(expected) && object.raw_id() != 0 {
            add(Note, 5, 4, Problem::ForeignId { expected });
        }
        if object.group_mask_incomplete() && !told.contains(&object.raw_id()) {
            add(Warning, 9, 4, Problem::Mask);
        }
        if object.group().is_none() && object.data_type() != DataType::Signature {
            add(Note, 9, 4, Problem::Ungrouped);
        }
        match object.link() {
            Link::Object(id) if image.object(id.get()).is_err() => {
                add(Note, 13, 4, Problem::DanglingLink(format!("object {id}")));
            }
            Link::Group(group) if !image.has_group(group) => {
                add(Note, 13, 4, Problem::DanglingLink(format!("group {group}")));
            }
            _ => {}
        }
        let found = object.padded_size();
        if let Some(expected) = padded
            && found != expected
        {
            add(Note, 33, 8, Problem::PaddedSize { found, expected });
        }
        if object.name().contains(&0) {
            add(Warning, 73, 128, Problem::FieldTail("name"));
        }
        match extra(object) {
            Err(error) => add(Warning, 201, 384, Problem::Extra(error)),
            Ok(Some(len)) => {
                let rest = object.extra().get(len..).unwrap_or_default();
                if rest.iter().any(|byte| *byte != 0) {
                    let len = wide(len);
                    let (at, rest) = (len.saturating_add(201), 384_u64.saturating_sub(len));
                    add(Warning, at, rest, Problem::FieldTail("extra field"));
                }
            }
            Ok(None) => {}
        }
        if object.data_type() == DataType::Signature
            && let Ok(data) = image.signature_data(object)
            && !dsse::is_envelope(data, dsse::SIF_METADATA_TYPE)
            && !pgp::is_clear_signed(data)
        {
            add(Warning, 17, 16, Problem::NoSignature);
        }
    }

    fn gaps(&mut self) {
        let image = self.image;
        let counted = image
            .header()
            .data_offset()
            .checked_add(image.header().data_size());
        let counted = counted.and_then(|end| usize::try_from(end).ok());
        for part in &self.layout.parts {
            let Kind::Gap(gap) = part.kind else { continue };
            // The home place of a table that lies elsewhere is in use, in a way.
            if gap == Gap::AfterHeader && is_interrupted(image) {
                continue;
            }
            let span = image.nonzero_span(part.range.clone());
            let whole = wide(part.range.start)..wide(part.range.end);
            match (gap, span) {
                // What the header still counts was an object once.
                (Gap::Tail, None) => self.add(Severity::Note, whole, Problem::Tail),
                (Gap::Tail, Some(span)) => {
                    let was_object = counted.is_some_and(|end| span.end <= end);
                    let severity = match was_object {
                        true => Severity::Note,
                        false => Severity::Warning,
                    };
                    self.add(severity, whole, Problem::Tail);
                }
                (Gap::BetweenObjects, Some(span)) => {
                    let span = wide(span.start)..wide(span.end);
                    self.add(Severity::Note, span, Problem::NotZero(gap));
                }
                (_, Some(span)) => {
                    let span = wide(span.start)..wide(span.end);
                    self.add(Severity::Warning, span, Problem::NotZero(gap));
                }
                (_, None) => {}
            }
        }
    }
}

/// Bytes of the extra field that have a meaning, if the rest must be zero.
fn extra(object: &Descriptor) -> Result<Option<usize>, ExtraError> {
    Ok(match object.data_type() {
        DataType::Partition => Some(11),
        DataType::Signature => {
            object.signature_hash()?;
            Some(24)
        }
        DataType::CryptoMessage => Some(8),
        DataType::Sbom => Some(4),
        DataType::OciRootIndex | DataType::OciBlob => Some(object.oci_digest()?.len()),
        _ => None,
    })
}

/// Byte positions of a field of a descriptor.
fn field(image: &Image<'_>, object: &Descriptor, at: u64, len: u64) -> Range<u64> {
    let start = image.slot_position(object.slot()).saturating_add(at);
    start..start.saturating_add(len)
}

fn wide(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

fn narrow(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn clamp(at: i64) -> u64 {
    u64::try_from(at).unwrap_or_default()
}
