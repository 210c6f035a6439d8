//! From an OCI-SIF to an image layout and back: the index of the one made of
//! the index of the other, and the order of the blobs.
//!
//! In an OCI-SIF signatures have names (`_cosign:sha256-HEX.sig`). In a layout
//! cosign knows them by the annotation `kind`, other tools by the tag that
//! they have in registries (`sha256-HEX.sig`).
//!
//! Source: OCI image spec 1.1; sigstore/cosign `pkg/oci/layout`; oci-tools
//! `pkg/sif/write.go`; spec/oci-sif-cosign.md 1.2, 1.3, 6.1, 6.3.

use super::build::{MANIFEST_TYPE, REF_NAME};
use super::json::Object;
use super::manifest::{self, ContentDescriptor, ImageIndex, ImageManifest, Kind, parse_digest};
use super::ocisif::{self, COSIGN_PREFIX, OciSif, cosign_name, parse_cosign_name};
use super::select::{self, Choice};
use crate::digest::Digest;
use crate::gojson;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Annotation by which cosign finds the parts of a layout.
const KIND: &str = "kind";
const KIND_IMAGE: &str = "dev.cosignproject.cosign/image";
const KIND_INDEX: &str = "dev.cosignproject.cosign/imageIndex";
const KIND_SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
const KIND_ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";

/// Deepest nesting of indices.
const MAX_DEPTH: usize = 32;

/// Digits of a digest in the name of a referrer.
const SHORT: usize = 16;

/// Why there is no layout, or no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The OCI-SIF cannot be read, or is not whole.
    #[error(transparent)]
    Oci(#[from] ocisif::Error),
    /// The index of the layout.
    #[error("index.json: {0}")]
    Index(manifest::Error),
    /// A manifest or an index of the layout.
    #[error("{digest}: {source}")]
    Document {
        /// The blob.
        digest: Digest,
        /// The fault.
        source: manifest::Error,
    },
    /// A blob of the layout cannot be read.
    #[error("{0}")]
    Fetch(String),
    /// A blob that is named and not there.
    #[error("{0}: blob not found")]
    Missing(Digest),
    /// A blob of another length than the one that is named.
    #[error("{digest}: {found} bytes, {expected} are named")]
    Size {
        /// The blob.
        digest: Digest,
        /// What is named.
        expected: u64,
        /// What is there.
        found: usize,
    },
    /// Nothing but signatures.
    #[error("the layout has no image")]
    NoImage,
    /// Signatures of one of several images.
    #[error("the layout has several images, and does not tell whose the signatures are")]
    WhoseSignatures,
    /// Indices in indices in indices.
    #[error("indices are nested more than {MAX_DEPTH} times")]
    TooDeep,
}

/// A layout that is to be written.
pub struct Export {
    /// `index.json`.
    pub index: Vec<u8>,
    /// What belongs into `blobs`, each once.
    pub blobs: Vec<Digest>,
}

/// Plans a layout with everything that an OCI-SIF's index leads to.
///
/// # Errors
/// [`Error::Oci`] if something is missing.
pub fn export(oci: &OciSif<'_, '_>) -> Result<Export, Error> {
    if let Some(fault) = oci.incomplete()?.into_iter().next() {
        return Err(fault.into());
    }
    // With several images nobody could tell which one is meant.
    let main = select::choose(oci, &Choice::Main).ok();
    let mut index = Object::parse(oci.root_bytes()).map_err(in_index)?;
    let mut entries = Vec::new();
    let raws = index.list("manifests").map_err(in_index)?;
    for (raw, entry) in raws.iter().zip(&oci.index().manifests) {
        let mut annotations = entry.annotations.clone();
        let is_main = main
            .as_ref()
            .is_some_and(|main| main.digest == entry.digest);
        let kind = match entry.ref_name().and_then(parse_cosign_name) {
            Some((subject, suffix)) if main.as_ref().is_some_and(|m| m.digest == subject) => {
                match suffix {
                    "sig" => Some(KIND_SIGNATURES),
                    "att" => Some(KIND_ATTESTATIONS),
                    _ => None,
                }
            }
            None if is_main && entry.kind() == Kind::Index => Some(KIND_INDEX),
            None if is_main => Some(KIND_IMAGE),
            _ => None,
        };
        if let Some(kind) = kind {
            annotations.insert(KIND.to_owned(), kind.to_owned());
        }
        if let Some(tag) = entry
            .ref_name()
            .and_then(|name| name.strip_prefix(COSIGN_PREFIX))
        {
            annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        entries.push(annotated(raw, &annotations)?);
    }
    index.set("manifests", &entries).map_err(in_index)?;
    let (reachable, _) = oci.reachable()?;
    let mut seen = HashSet::new();
    let digests = reachable.into_iter().map(|part| part.content.digest);
    Ok(Export {
        index: index.to_bytes().map_err(in_index)?,
        blobs: digests
            .filter(|digest| seen.insert(digest.clone()))
            .collect(),
    })
}

/// An OCI-SIF that is to be written.
pub struct Import {
    /// The RootIndex.
    pub index: Vec<u8>,
    /// Blobs in the order of the originals, each once: of an image the layers,
    /// the config, the manifest.
    pub blobs: Vec<ContentDescriptor>,
    /// Blobs of the layout that nothing names.
    pub unnamed: usize,
}

/// Gets a manifest or an index, hashed; nothing if it is missing or too large.
pub type Fetch<'f> = dyn FnMut(&Digest) -> Result<Option<Vec<u8>>, String> + 'f;

/// Plans an OCI-SIF with everything that a layout's index leads to.
///
/// `files` are all blobs of the folder: bundles, which cosign stores without
/// an entry, are found by what they say they are about. An image that stands
/// alone loses its tag, or the originals could not sign and verify it.
///
/// # Errors
/// As [`Error`] says.
pub fn import(index: &[u8], files: &[Digest], fetch: &mut Fetch<'_>) -> Result<Import, Error> {
    let parsed = ImageIndex::parse(index).map_err(Error::Index)?;
    let mut root = Object::parse(index).map_err(in_index)?;
    let raws = root.list("manifests").map_err(in_index)?;
    let mut entries = Vec::new();
    let mut blobs = Vec::new();
    let mut seen = HashSet::new();
    let mut read = HashMap::new();
    for (raw, entry) in raws.into_iter().zip(parsed.manifests) {
        let place = place_of(&entry, &mut read, fetch)?;
        follow(&entry, fetch, &mut seen, &mut blobs, MAX_DEPTH)?;
        entries.push((raw, entry, place));
    }
    // What is about something that was found, and about that; each file is read once.
    let mut about = HashMap::<Digest, Vec<ContentDescriptor>>::new();
    for digest in files.iter().filter(|digest| !seen.contains(digest)) {
        if let Some((entry, subject)) = referrer(digest, fetch) {
            about.entry(subject).or_default().push(entry);
        }
    }
    let mut next = 0;
    while let Some(found) = blobs.get(next) {
        next = next.saturating_add(1);
        for entry in about.remove(&found.digest).unwrap_or_default() {
            if seen.contains(&entry.digest) {
                continue;
            }
            let place = place_of(&entry, &mut read, fetch)?;
            follow(&entry, fetch, &mut seen, &mut blobs, MAX_DEPTH)?;
            entries.push((described(&entry)?, entry, place));
        }
    }
    let images: Vec<_> = entries
        .iter()
        .filter(|(_, _, place)| *place == Place::Image)
        .map(|(_, entry, _)| entry.clone())
        .collect();
    let main = main_of(&images)?;
    let mut manifests = Vec::new();
    for (raw, entry, place) in entries {
        let mut annotations = entry.annotations.clone();
        annotations.remove(KIND);
        match place {
            Place::Image if images.len() == 1 => drop(annotations.remove(REF_NAME)),
            Place::Image => {}
            Place::Named(name) => drop(annotations.insert(REF_NAME.to_owned(), name)),
            Place::OfMain(suffix) => {
                let main = main.ok_or(Error::WhoseSignatures)?;
                let name = cosign_name(&main.digest, suffix);
                annotations.insert(REF_NAME.to_owned(), name);
            }
        }
        manifests.push(annotated(&raw, &annotations)?);
    }
    root.set("manifests", &manifests).map_err(in_index)?;
    Ok(Import {
        index: root.to_bytes().map_err(in_index)?,
        unnamed: files.iter().filter(|file| !seen.contains(file)).count(),
        blobs,
    })
}

/// What an entry of a layout becomes.
#[derive(PartialEq, Eq)]
enum Place {
    Image,
    /// Signatures or attestations of the image, by `kind`.
    OfMain(&'static str),
    /// What belongs to an image that it names itself.
    Named(String),
}

/// By digest and size of a manifest: the name that it gets, if it is about another one.
type About = HashMap<(Digest, u64), Option<String>>;

/// `read` has what was read: an index can name the same manifest many times.
fn place_of(
    entry: &ContentDescriptor,
    read: &mut About,
    fetch: &mut Fetch<'_>,
) -> Result<Place, Error> {
    match entry.annotations.get(KIND).map(String::as_str) {
        Some(KIND_SIGNATURES) => return Ok(Place::OfMain("sig")),
        Some(KIND_ATTESTATIONS) => return Ok(Place::OfMain("att")),
        _ => {}
    }
    if let Some(tag) = entry.ref_name() {
        let tag = tag.strip_prefix(COSIGN_PREFIX).unwrap_or(tag);
        let stem = tag.split('.').next().unwrap_or_default();
        if parse_digest(&stem.replacen('-', ":", 1)).is_ok() {
            return Ok(Place::Named(format!("{COSIGN_PREFIX}{tag}")));
        }
    }
    if entry.kind() != Kind::Image {
        return Ok(Place::Image);
    }
    let key = (entry.digest.clone(), entry.size);
    if !read.contains_key(&key) {
        let manifest = image_manifest(entry, fetch)?;
        let name = manifest.subject.map(|subject| {
            let layer = manifest
                .layers
                .first()
                .map_or(&entry.digest, |layer| &layer.digest);
            let digits = hex::encode(layer.bytes());
            let short = digits.get(..SHORT).unwrap_or_default();
            cosign_name(&subject.digest, &format!("bundle-{short}"))
        });
        read.insert(key.clone(), name);
    }
    let name = read.get(&key).cloned().flatten();
    Ok(name.map_or(Place::Image, Place::Named))
}

/// The image that signatures without a name are for.
fn main_of(images: &[ContentDescriptor]) -> Result<Option<&ContentDescriptor>, Error> {
    let marked = |image: &&ContentDescriptor| {
        let kind = image.annotations.get(KIND).map(String::as_str);
        matches!(kind, Some(KIND_IMAGE | KIND_INDEX))
    };
    let mut marked = images.iter().filter(marked);
    match (images, marked.next(), marked.next()) {
        ([], ..) => Err(Error::NoImage),
        ([only], ..) => Ok(Some(only)),
        (_, Some(first), None) => Ok(Some(first)),
        _ => Ok(None),
    }
}

/// Collects what an entry leads to, and the entry behind it.
fn follow(
    entry: &ContentDescriptor,
    fetch: &mut Fetch<'_>,
    seen: &mut HashSet<Digest>,
    blobs: &mut Vec<ContentDescriptor>,
    depth: usize,
) -> Result<(), Error> {
    if !seen.insert(entry.digest.clone()) {
        return Ok(());
    }
    let depth = depth.checked_sub(1).ok_or(Error::TooDeep)?;
    match entry.kind() {
        Kind::Image => {
            let manifest = image_manifest(entry, fetch)?;
            for content in manifest.layers.into_iter().chain([manifest.config]) {
                if seen.insert(content.digest.clone()) {
                    blobs.push(content);
                }
            }
        }
        Kind::Index => {
            let bytes = document(entry, fetch)?;
            let index = ImageIndex::parse(&bytes).map_err(|source| Error::Document {
                digest: entry.digest.clone(),
                source,
            })?;
            for child in &index.manifests {
                follow(child, fetch, seen, blobs, depth)?;
            }
        }
        Kind::Other => {}
    }
    blobs.push(entry.clone());
    Ok(())
}

fn image_manifest(
    entry: &ContentDescriptor,
    fetch: &mut Fetch<'_>,
) -> Result<ImageManifest, Error> {
    let bytes = document(entry, fetch)?;
    ImageManifest::parse(&bytes).map_err(|source| Error::Document {
        digest: entry.digest.clone(),
        source,
    })
}

fn document(entry: &ContentDescriptor, fetch: &mut Fetch<'_>) -> Result<Vec<u8>, Error> {
    let bytes = fetch(&entry.digest).map_err(Error::Fetch)?;
    let bytes = bytes.ok_or_else(|| Error::Missing(entry.digest.clone()))?;
    match u64::try_from(bytes.len()).is_ok_and(|len| len == entry.size) {
        true => Ok(bytes),
        false => Err(Error::Size {
            digest: entry.digest.clone(),
            expected: entry.size,
            found: bytes.len(),
        }),
    }
}

/// A manifest that says what it is about, and that. Any other file is none.
fn referrer(digest: &Digest, fetch: &mut Fetch<'_>) -> Option<(ContentDescriptor, Digest)> {
    let bytes = fetch(digest).ok()??;
    let manifest = ImageManifest::parse(&bytes).ok()?;
    let entry = ContentDescriptor {
        media_type: manifest
            .media_type
            .unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
        digest: digest.clone(),
        size: u64::try_from(bytes.len()).ok()?,
        annotations: BTreeMap::new(),
        platform: None,
        artifact_type: manifest.artifact_type.filter(|text| !text.is_empty()),
    };
    Some((entry, manifest.subject?.digest))
}

/// An entry of an index for content that has none.
fn described(content: &ContentDescriptor) -> Result<Box<RawValue>, Error> {
    let members = || {
        let mut entry = Object::parse(b"{}")?;
        entry.set("mediaType", &content.media_type)?;
        entry.set("size", &content.size)?;
        entry.set("digest", &content.digest.to_string())?;
        if let Some(kind) = &content.artifact_type {
            entry.set("artifactType", kind)?;
        }
        raw(&entry)
    };
    members().map_err(in_index)
}

/// The entry with these annotations; without the member if there are none.
fn annotated(
    entry: &RawValue,
    annotations: &BTreeMap<String, String>,
) -> Result<Box<RawValue>, Error> {
    let replace = || {
        let mut entry = Object::parse(entry.get().as_bytes())?;
        match annotations.is_empty() {
            true => entry.remove("annotations"),
            false => entry.set("annotations", annotations)?,
        }
        raw(&entry)
    };
    replace().map_err(in_index)
}

fn raw(object: &Object) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_slice(&gojson::to_vec(object)?)
}

fn in_index(error: serde_json::Error) -> Error {
    Error::Index(error.into())
}
