//! Builds the RootIndex of an OCI-SIF anew from its blobs.
//!
//! A file that lost its RootIndex (an update of the originals that ran out of
//! descriptors, a crash) still has all manifests. What nothing else names is
//! an entry of the index: the image, and the images that hold its signatures,
//! which say themselves what they are about. Whatever would have to be guessed
//! is an error.
//!
//! Source: spec/oci-sif-cosign.md 1.3, 1.6, 1.7.

use crate::digest::Digest;
use crate::oci::build::{self, NewEntry};
use crate::oci::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, MAX_DOCUMENT};
use crate::oci::ocisif::{cosign_name, object_digest};
use crate::payload::intoto::Statement;
use crate::payload::simple::SimpleSigning;
use crate::sif::types::DataType;
use crate::sif::{Descriptor, Image};
use crate::signer::dsse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const SIGNATURE_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ATTESTATION_LAYER: &str = "application/vnd.dsse.envelope.v1+json";

/// A RootIndex that names everything that belongs to the image.
pub struct Rebuilt {
    /// Its bytes, as SingularityCE would write them.
    pub bytes: Vec<u8>,
    /// Manifests that it does not name, and why.
    pub left_out: Vec<String>,
}

/// Why a RootIndex cannot be built without guessing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No manifest of an image.
    #[error("no blob is the manifest of an image")]
    NoImage,
    /// Several images, whose names are lost.
    #[error("{0} images are there, and nothing tells which of them the file is about")]
    SeveralImages(usize),
    /// The image names a blob that is missing or damaged.
    #[error("the image names {0}, which is not there")]
    Incomplete(Digest),
    /// Two different lists of signatures for one image.
    #[error("two lists of signatures are there for {0}, and nothing tells which of them counts")]
    SeveralLists(String),
    /// The index cannot be written.
    #[error(transparent)]
    Build(#[from] build::Error),
}

/// A manifest or an index.
enum Document {
    Manifest(Box<ImageManifest>),
    Index(ImageIndex),
}

impl Document {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(manifest) = ImageManifest::parse(bytes) {
            return Some(Self::Manifest(Box::new(manifest)));
        }
        // Any object parses as an index without entries.
        let index = ImageIndex::parse(bytes).ok()?;
        let says_so = index.media_type.as_deref().map(Kind::of) == Some(Kind::Index);
        (says_so || !index.manifests.is_empty()).then_some(Self::Index(index))
    }

    /// What it names.
    fn members(&self) -> impl Iterator<Item = &ContentDescriptor> {
        let (config, rest) = match self {
            Self::Manifest(manifest) => (Some(&manifest.config), &manifest.layers),
            Self::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(rest)
    }
}

/// What a manifest that nothing names is.
enum Entry<'d> {
    Image,
    /// Signatures (`sig`) or attestations (`att`) and their layers.
    Cosign(&'static str, &'d [ContentDescriptor]),
    /// An image without layers: what signatures leave when there are none.
    Empty,
}

impl Document {
    fn entry(&self) -> Entry<'_> {
        let Self::Manifest(manifest) = self else {
            return Entry::Image;
        };
        let all = |kind: &str| manifest.layers.iter().all(|layer| layer.media_type == kind);
        match manifest.layers.as_slice() {
            [] => Entry::Empty,
            layers if all(SIGNATURE_LAYER) => Entry::Cosign("sig", layers),
            layers if all(ATTESTATION_LAYER) => Entry::Cosign("att", layers),
            _ => Entry::Image,
        }
    }
}

/// Whether there is anything that a RootIndex could name.
pub fn has_documents(image: &Image<'_>) -> bool {
    blobs(image).any(|object| {
        let data = small(image, object);
        data.is_some_and(|data| Document::parse(data).is_some())
    })
}

/// Builds the RootIndex; blobs whose id is in `damaged` do not count.
///
/// # Errors
/// As [`Error`] says.
pub fn rebuild(image: &Image<'_>, damaged: &BTreeSet<u32>) -> Result<Rebuilt, Error> {
    let heap = Heap::new(image, damaged);
    let named: HashSet<_> = heap
        .documents
        .iter()
        .flat_map(|(_, document)| document.members())
        .map(|member| &member.digest)
        .collect();
    let top: Vec<_> = heap
        .documents
        .iter()
        .filter(|(digest, _)| !named.contains(digest))
        .collect();
    let of_kind = |wanted: fn(&Entry<'_>) -> bool| {
        let found = top.iter().filter(|(_, document)| wanted(&document.entry()));
        found.copied().collect::<Vec<_>>()
    };
    let mut images = of_kind(|entry| matches!(entry, Entry::Image));
    let mut empty = of_kind(|entry| matches!(entry, Entry::Empty));
    if images.is_empty() {
        images.append(&mut empty);
    }
    let (digest, document) = match images.as_slice() {
        [] => return Err(Error::NoImage),
        [image] => image,
        several => return Err(Error::SeveralImages(several.len())),
    };
    let mut subjects = Vec::new();
    heap.require_complete(digest, document, &mut subjects)?;
    let mut left_out: Vec<_> = empty
        .iter()
        .map(|(digest, _)| format!("{digest}: an image without layers"))
        .collect();
    let mut entries = vec![heap.new_entry(digest, document, None)];
    let lists = of_kind(|entry| matches!(entry, Entry::Cosign(..)));
    for (name, (digest, document)) in heap.named_lists(&lists, &subjects, &mut left_out)? {
        entries.push(heap.new_entry(digest, document, Some(name)));
    }
    Ok(Rebuilt {
        bytes: build::index(&entries)?,
        left_out,
    })
}

fn blobs<'i>(image: &'i Image<'_>) -> impl Iterator<Item = &'i Descriptor> {
    let objects = image.objects().iter();
    objects.filter(|object| object.data_type() == DataType::OciBlob)
}

/// Bytes of a blob that is small enough for a document.
fn small<'a>(image: &Image<'a>, object: &Descriptor) -> Option<&'a [u8]> {
    image
        .data(object)
        .ok()
        .filter(|data| data.len() <= MAX_DOCUMENT)
}

type Found<'h> = (&'h Digest, &'h Document);

/// The blobs of a file, by digest.
struct Heap<'i, 'a> {
    image: &'i Image<'a>,
    blobs: HashMap<Digest, &'i Descriptor>,
    /// In the order of the file.
    documents: Vec<(Digest, Document)>,
}

impl<'i, 'a> Heap<'i, 'a> {
    fn new(image: &'i Image<'a>, damaged: &BTreeSet<u32>) -> Self {
        let mut objects: Vec<_> = blobs(image)
            .filter(|object| !damaged.contains(&object.raw_id()))
            .collect();
        objects.sort_by_key(|object| object.offset());
        let mut blobs = HashMap::new();
        let mut documents = Vec::new();
        for object in objects {
            let Ok(digest) = object_digest(object) else {
                continue;
            };
            if blobs.insert(digest.clone(), object).is_some() {
                continue;
            }
            let parsed = small(image, object).and_then(Document::parse);
            documents.extend(parsed.map(|document| (digest, document)));
        }
        Self {
            image,
            blobs,
            documents,
        }
    }

    fn data(&self, content: &ContentDescriptor) -> Option<&'a [u8]> {
        let data = self.image.data(self.blobs.get(&content.digest)?).ok()?;
        (u64::try_from(data.len()) == Ok(content.size)).then_some(data)
    }

    /// Everything that a document names must be there; lists the documents among it.
    fn require_complete(
        &self,
        digest: &Digest,
        document: &Document,
        documents: &mut Vec<Digest>,
    ) -> Result<(), Error> {
        let by_digest: HashMap<_, _> = self.documents.iter().map(|(d, it)| (d, it)).collect();
        let mut seen = HashSet::new();
        let mut queue = vec![(digest, document)];
        while let Some((digest, document)) = queue.pop() {
            if !seen.insert(digest) {
                continue;
            }
            documents.push(digest.clone());
            for member in document.members() {
                if self.data(member).is_none() {
                    return Err(Error::Incomplete(member.digest.clone()));
                }
            }
            if let Document::Index(index) = document {
                let children = index.manifests.iter();
                let known = children.filter_map(|child| by_digest.get_key_value(&child.digest));
                queue.extend(known.map(|(digest, document)| (*digest, *document)));
            }
        }
        Ok(())
    }

    /// Names of the lists of signatures that belong to one of the subjects.
    fn named_lists<'h>(
        &self,
        lists: &[&'h (Digest, Document)],
        subjects: &[Digest],
        left_out: &mut Vec<String>,
    ) -> Result<Vec<(String, Found<'h>)>, Error> {
        let places = subjects.iter().enumerate();
        let places: HashMap<String, usize> = places.map(|(at, s)| (s.to_string(), at)).collect();
        // Images first, then signatures, then attestations, as updates leave them.
        let mut named = BTreeMap::<(&str, String), Found<'h>>::new();
        for (digest, document) in lists {
            let Entry::Cosign(suffix, layers) = document.entry() else {
                continue;
            };
            if let Some(gone) = document
                .members()
                .find(|member| self.data(member).is_none())
            {
                let gone = &gone.digest;
                left_out.push(format!("{digest}: signatures without {gone}"));
                continue;
            }
            let about = self.about(layers, suffix);
            let first = about.iter().filter_map(|name| places.get(name)).min();
            let Some(subject) = first.and_then(|at| subjects.get(*at)) else {
                left_out.push(format!("{digest}: signatures of another image"));
                continue;
            };
            let name = cosign_name(subject, suffix);
            let key = (if suffix == "sig" { "1" } else { "2" }, name.clone());
            if let Some((_, known)) = named.get(&key) {
                let has = |document: &Document, layer: &ContentDescriptor| {
                    document.members().any(|member| member == layer)
                };
                let Entry::Cosign(_, other) = known.entry() else {
                    continue;
                };
                if layers.iter().all(|layer| has(known, layer)) {
                    left_out.push(format!("{digest}: signatures that a longer list has"));
                    continue;
                }
                if !other.iter().all(|layer| has(document, layer)) {
                    return Err(Error::SeveralLists(name));
                }
            }
            named.insert(key, (digest, document));
        }
        let found = named.into_iter();
        Ok(found.map(|((_, name), found)| (name, found)).collect())
    }

    /// The digests of what every layer says to be about.
    fn about(&self, layers: &[ContentDescriptor], suffix: &str) -> BTreeSet<String> {
        let mut each = layers.iter().map(|layer| {
            let Some(data) = self.data(layer) else {
                return BTreeSet::new();
            };
            if suffix == "sig" {
                let payload = SimpleSigning::parse(data);
                return payload.into_iter().map(|payload| payload.digest).collect();
            }
            let payload = dsse::claimed_payload(data).unwrap_or_default();
            let statement = Statement::parse(&payload);
            statement.map_or_else(|_| BTreeSet::new(), |statement| statement.about())
        });
        let first = each.next().unwrap_or_default();
        each.fold(first, |all, of_one| &all & &of_one)
    }

    fn new_entry(
        &self,
        digest: &Digest,
        document: &Document,
        ref_name: Option<String>,
    ) -> NewEntry {
        let size = self.blobs.get(digest).map_or(0, |object| object.size());
        let (media_type, artifact_type) = match document {
            Document::Manifest(manifest) => (
                manifest
                    .media_type
                    .as_deref()
                    .unwrap_or(build::MANIFEST_TYPE),
                manifest
                    .artifact_type
                    .clone()
                    .or_else(|| Some(manifest.config.media_type.clone())),
            ),
            Document::Index(index) => (
                index.media_type.as_deref().unwrap_or(build::INDEX_TYPE),
                None,
            ),
        };
        NewEntry {
            media_type: media_type.to_owned(),
            size: usize::try_from(size).unwrap_or_default(),
            digest: digest.clone(),
            ref_name,
            artifact_type: artifact_type.filter(|text| !text.is_empty()),
        }
    }
}
