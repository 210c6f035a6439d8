//! Examines the OCI part of an image: the RootIndex and the blobs.
//!
//! Source: spec/oci-sif-cosign.md 1.2 to 1.8.

use super::root_index;
use super::{Finding, Problem, Severity, field, wide};
use crate::digest::{Digest, HashAlgorithm};
use crate::oci::ocisif::{self, OciSif, Role, object_digest};
use crate::payload::native::ImageMetadata;
use crate::sif::digests::{Digests, Extent, Wanted};
use crate::sif::types::DataType;
use crate::sif::{self, Descriptor, GroupId, Image, Link, Place};
use crate::signer::{dsse, pgp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Media type of a layer that a container writes to in place.
const OVERLAY_LAYER: &str = "application/vnd.sylabs.image.layer.v1.ext3";

/// Examines RootIndex and blobs, hashing all of them with at most `threads` threads.
///
/// An image without OCI objects has no findings.
///
/// # Errors
/// Only if the file became shorter while it was read.
pub fn oci(image: &Image<'_>, threads: usize) -> Result<Vec<Finding>, sif::Error> {
    let Hashed { found, changed } = Hashed::of(image, threads)?;
    let mut examiner = Examiner {
        image,
        changed,
        found,
        held: HashMap::new(),
        findings: Vec::new(),
    };
    let roots: Vec<_> = of_type(image, DataType::OciRootIndex).collect();
    match roots.as_slice() {
        [] => examiner.lost_root(),
        [root] => examiner.root(root),
        [_, more @ ..] => {
            for root in more {
                let at = field(image, root, 0, 4);
                examiner.add(Severity::Error, at, root, Problem::SecondRootIndex);
            }
        }
    }
    examiner.changed();
    examiner.duplicates();
    Ok(examiner.findings)
}

/// The blobs of an image, each hashed once.
pub(super) struct Hashed {
    /// Digests of the bytes, by slot.
    found: HashMap<usize, Digest>,
    /// Ids of blobs whose bytes are not those of their digest, or were not read.
    pub(super) changed: BTreeSet<u32>,
}

/// How often the length of a file is hashed at most, for blobs that overlap.
const MOST_TIMES: u64 = 2;

impl Hashed {
    /// Hashes every blob that lies in the file and whose digest can be read.
    ///
    /// If that were more than [`MOST_TIMES`] the file, those that overlap another blob are left
    /// out: a small file could name the same bytes thousands of times. The overlap is a finding
    /// of its own.
    pub(super) fn of(image: &Image<'_>, threads: usize) -> Result<Self, sif::Error> {
        let blobs = image.objects().iter().enumerate();
        let named: Vec<_> = blobs
            .filter(|(_, object)| object.data_type() == DataType::OciBlob)
            .filter(|(_, object)| matches!(image.place(object), Place::Inside(_)))
            .filter_map(|(index, object)| Some((index, object, object_digest(object).ok()?)))
            .collect();
        let left_out = overlapping(image, named.iter().map(|(_, object, _)| *object));
        let is_read = |object: &Descriptor| !left_out.contains(&object.slot());
        let key = |index: usize, digest: &Digest| (Extent::Object(index), digest.algorithm());
        let wanted: Wanted = named
            .iter()
            .filter(|(_, object, _)| is_read(object))
            .map(|(index, _, digest)| key(*index, digest))
            .collect();
        let digests = Digests::compute(image, &wanted, threads)?;
        let mut this = Self {
            found: HashMap::new(),
            changed: BTreeSet::new(),
        };
        for (index, object, expected) in named {
            if !is_read(object) {
                this.changed.insert(object.raw_id());
                continue;
            }
            let Some(found) = digests.get(Extent::Object(index), expected.algorithm()) else {
                continue;
            };
            if *found != expected {
                this.changed.insert(object.raw_id());
            }
            this.found.insert(object.slot(), found.clone());
        }
        Ok(this)
    }
}

/// Slots of the objects that overlap another one of them, if all together are far more than the
/// file has bytes.
fn overlapping<'i>(
    image: &Image<'_>,
    objects: impl Iterator<Item = &'i Descriptor>,
) -> HashSet<usize> {
    let mut places: Vec<_> = objects.map(|o| (data_range(image, o), o.slot())).collect();
    let all = places.iter().map(|(range, _)| range.end - range.start);
    let all = all.fold(0, u64::saturating_add);
    let mut found = HashSet::new();
    if all <= wide(image.len()).saturating_mul(MOST_TIMES) {
        return found;
    }
    places.sort_by_key(|(range, _)| range.start);
    let mut before: Option<(u64, usize)> = None;
    for (range, slot) in places {
        let (end, last) = before.unwrap_or((0, slot));
        if range.start < end {
            found.extend([last, slot]);
        }
        if range.end >= end {
            before = Some((range.end, slot));
        }
    }
    found
}

fn of_type<'i>(image: &'i Image<'_>, wanted: DataType) -> impl Iterator<Item = &'i Descriptor> {
    image
        .objects()
        .iter()
        .filter(move |object| object.data_type() == wanted)
}

struct Examiner<'a, 'i> {
    image: &'a Image<'i>,
    /// Digests of the bytes of blobs, by slot.
    found: HashMap<usize, Digest>,
    /// Blobs whose bytes are not those of their digest, and that were not told yet.
    changed: BTreeSet<u32>,
    /// What is known of groups: many duplicates may be in one.
    held: HashMap<GroupId, bool>,
    findings: Vec<Finding>,
}

impl Examiner<'_, '_> {
    fn add(
        &mut self,
        severity: Severity,
        range: Range<u64>,
        object: &Descriptor,
        problem: Problem,
    ) {
        self.findings.push(Finding {
            severity,
            range,
            object: Some(object.raw_id()),
            problem,
        });
    }

    fn lost_root(&mut self) {
        let blobs = of_type(self.image, DataType::OciBlob);
        let places = blobs.map(|object| data_range(self.image, object));
        let Some(range) = places.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)) else {
            return;
        };
        // Blobs that name nothing are just blobs.
        let (severity, obstacle) = if root_index::has_documents(self.image) {
            let group = self.group_of_blobs();
            let held = group.filter(|group| self.is_held(*group)).map(held_text);
            let rebuilt = root_index::rebuild(self.image, &self.changed);
            let why_not = rebuilt.err().map(|error| error.to_string());
            (Severity::Error, held.or(why_not))
        } else {
            (Severity::Note, Some("no blob is a manifest".to_owned()))
        };
        self.findings.push(Finding {
            severity,
            range,
            object: None,
            problem: Problem::LostRootIndex { obstacle },
        });
    }

    fn group_of_blobs(&self) -> Option<GroupId> {
        of_type(self.image, DataType::OciBlob).find_map(Descriptor::group)
    }

    fn root(&mut self, root: &Descriptor) {
        let image = self.image;
        let range = data_range(image, root);
        if let (Ok(expected), Ok(data)) = (object_digest(root), image.data(root)) {
            let found = HashAlgorithm::Sha256.digest(data);
            if found != expected {
                let (expected, found) = (expected.to_string(), found.to_string());
                let problem = Problem::OciDigest { expected, found };
                self.add(Severity::Error, range.clone(), root, problem);
            }
        }
        let oci = match OciSif::with_any_root(image) {
            Ok(oci) => oci,
            Err(error) => {
                let problem = Problem::RootIndex(error.to_string());
                return self.add(Severity::Error, range, root, problem);
            }
        };
        match oci.incomplete() {
            Ok(missing) => {
                for error in missing {
                    // A blob with other bytes is told where it lies.
                    if !matches!(error, ocisif::Error::Changed { .. }) {
                        let problem = Problem::RootIndex(error.to_string());
                        self.add(Severity::Error, range.clone(), root, problem);
                    }
                }
            }
            Err(error) => {
                let problem = Problem::RootIndex(error.to_string());
                self.add(Severity::Error, range, root, problem);
            }
        }
        self.references(&oci);
    }

    /// Blobs that nothing names, and layers that containers write to.
    fn references(&mut self, oci: &OciSif<'_, '_>) {
        let Ok((reachable, _)) = oci.reachable() else {
            return;
        };
        let named: HashSet<_> = reachable.iter().map(|r| &r.content.digest).collect();
        let overlays: HashSet<_> = reachable
            .iter()
            .filter(|r| matches!(r.role, Role::Layer(_)))
            .filter(|r| r.content.media_type == OVERLAY_LAYER)
            .map(|r| &r.content.digest)
            .collect();
        for object in of_type(self.image, DataType::OciBlob) {
            let Ok(digest) = object_digest(object) else {
                continue;
            };
            let range = data_range(self.image, object);
            if overlays.contains(&digest) && self.changed.remove(&object.raw_id()) {
                self.add(Severity::Warning, range, object, Problem::OverlayChanged);
            } else if !named.contains(&digest) {
                self.add(Severity::Note, range, object, Problem::Unreferenced);
            }
        }
    }

    fn changed(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            let Ok(object) = self.image.object(id) else {
                continue;
            };
            let (Ok(expected), Some(found)) =
                (object_digest(object), self.found.get(&object.slot()))
            else {
                continue;
            };
            let (expected, found) = (expected.to_string(), found.to_string());
            let range = data_range(self.image, object);
            let problem = Problem::OciDigest { expected, found };
            self.add(Severity::Error, range, object, problem);
        }
    }

    /// The originals cannot look up a blob that is there twice.
    fn duplicates(&mut self) {
        let mut first = HashMap::new();
        for object in of_type(self.image, DataType::OciBlob) {
            let Ok(digest) = object_digest(object) else {
                continue;
            };
            let known: &Descriptor = first.entry(digest).or_insert(object);
            if known.raw_id() != object.raw_id() {
                let obstacle = self.obstacle(object, known);
                let range = data_range(self.image, object);
                let problem = Problem::DuplicateBlob {
                    first: known.raw_id(),
                    obstacle,
                };
                self.add(Severity::Warning, range, object, problem);
            }
        }
    }

    /// Why one of two blobs cannot go.
    fn obstacle(&mut self, object: &Descriptor, first: &Descriptor) -> Option<String> {
        let bytes = |object: &Descriptor| self.found.get(&object.slot());
        match (bytes(object), bytes(first)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(_), Some(_)) => return Some("their bytes differ".to_owned()),
            _ => return Some("their bytes were not read".to_owned()),
        }
        let group = object.group();
        group.filter(|group| self.is_held(*group)).map(held_text)
    }

    fn is_held(&mut self, group: GroupId) -> bool {
        let image = self.image;
        let known = self.held.entry(group);
        *known.or_insert_with(|| is_held(image, group))
    }
}

fn held_text(group: GroupId) -> String {
    format!("a signature covers group {group} as it is")
}

/// Whether a native signature says to cover exactly the objects that a group has now.
///
/// Such a signature may hold, and it would not once an object comes or goes.
fn is_held(image: &Image<'_>, group: GroupId) -> bool {
    let mut ids: Vec<_> = image
        .group_members(group)
        .map(|(_, o)| o.raw_id())
        .collect();
    ids.sort_unstable();
    let mut linked = image
        .signatures()
        .filter(|o| o.link() == Link::Group(group));
    linked.any(|signature| {
        let data = image.signature_data(signature).unwrap_or_default();
        let text = match pgp::parse(data) {
            Some(message) => message.plaintext().to_vec(),
            None => dsse::claimed_payload(data).unwrap_or_default(),
        };
        let metadata = ImageMetadata::parse(&text);
        metadata.is_ok_and(|metadata| metadata.ids(image.lowest_id(group)) == ids)
    })
}

fn data_range(image: &Image<'_>, object: &Descriptor) -> Range<u64> {
    let (Place::Inside(range) | Place::Faulty(range, _)) = image.place(object);
    wide(range.start)..wide(range.end)
}
