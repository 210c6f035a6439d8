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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;
    use crate::oci::ocisif::tests::{add_blob, content, oci_image_of};
    use crate::sif::Image;
    use serde_json::{Value, json};

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

    fn with(mut entry: Value, annotations: &[(&str, &str)]) -> Value {
        for (name, value) in annotations {
            entry["annotations"][name] = json!(value);
        }
        entry
    }

    /// The folder of blobs.
    #[derive(Default)]
    struct Folder(Vec<Vec<u8>>);

    impl Folder {
        fn put(&mut self, media_type: &str, bytes: &[u8]) -> Value {
            add_blob(&mut self.0, media_type, bytes)
        }

        fn manifest(&mut self, layer: &str, more: Value) -> Value {
            let config = self.put("c", b"{}");
            let layer = self.put(BUNDLE, layer.as_bytes());
            let mut manifest = json!({"config": config, "layers": [layer]});
            for (name, value) in more.as_object().into_iter().flatten() {
                manifest[name] = value.clone();
            }
            self.put(MANIFEST_TYPE, manifest.to_string().as_bytes())
        }

        fn import(&self, entries: &[&Value]) -> Result<(Vec<Value>, usize), String> {
            let index = json!({"manifests": entries}).to_string();
            let named = |bytes: &Vec<u8>| HashAlgorithm::Sha256.digest(bytes);
            let files: Vec<_> = self.0.iter().map(named).collect();
            let mut fetch = |digest: &Digest| {
                let at = files.iter().position(|file| file == digest);
                Ok(at.map(|at| self.0[at].clone()))
            };
            let made = import(index.as_bytes(), &files, &mut fetch);
            let made = made.map_err(|error| error.to_string())?;
            let root: Value = serde_json::from_slice(&made.index).unwrap();
            Ok((root["manifests"].as_array().unwrap().clone(), made.unnamed))
        }
    }

    /// The name in an OCI-SIF of what belongs to an entry.
    fn cosign_of(entry: &Value, suffix: &str) -> String {
        let digest = entry["digest"].as_str().unwrap();
        format!("_cosign:{}.{suffix}", digest.replace(':', "-"))
    }

    fn name_of(entry: &Value) -> Option<&str> {
        entry["annotations"][REF_NAME].as_str()
    }

    #[test]
    fn an_image_that_stands_alone_loses_its_tag_and_the_member() {
        let mut folder = Folder::default();
        let one = folder.manifest("1", json!({}));
        let tagged = with(one.clone(), &[(REF_NAME, "1.0")]);
        let alone = folder.import(&[&tagged]).unwrap().0;
        assert_eq!(alone, std::slice::from_ref(&one));
        let more = with(tagged.clone(), &[("a", "b"), (KIND, KIND_IMAGE)]);
        let left = with(one, &[("a", "b")]);
        assert_eq!(folder.import(&[&more]).unwrap().0, [left]);
        // Of several images each keeps its own.
        let two = folder.manifest("2", json!({}));
        let (entries, unnamed) = folder.import(&[&tagged, &two]).unwrap();
        assert_eq!((entries, unnamed), (vec![tagged, two], 0));
    }

    #[test]
    fn signatures_without_a_name_belong_to_the_only_image_or_to_the_marked_one() {
        let mut folder = Folder::default();
        let one = folder.manifest("1", json!({}));
        let two = folder.manifest("2", json!({}));
        let list = folder.put(INDEX, json!({"manifests": [one]}).to_string().as_bytes());
        let sig = with(folder.manifest("s", json!({})), &[(KIND, KIND_SIGNATURES)]);
        let att = with(
            folder.manifest("a", json!({})),
            &[(KIND, KIND_ATTESTATIONS)],
        );
        let tag = cosign_of(&one, "sig").replace("_cosign:", "");
        let tagged = with(folder.manifest("s", json!({})), &[(REF_NAME, &tag)]);
        let names = |entries: &[&Value]| {
            let (made, _) = folder.import(entries)?;
            let names = made.iter().filter_map(name_of).map(str::to_owned);
            Ok::<Vec<_>, String>(names.collect())
        };
        let of = |image: &Value| Ok(vec![cosign_of(image, "sig"), cosign_of(image, "att")]);
        assert_eq!(names(&[&one, &sig, &att]), of(&one));
        assert_eq!(names(&[&sig, &att, &one]), of(&one));
        let marked = |image: &Value, kind| with(image.clone(), &[(KIND, kind)]);
        let image = marked(&one, KIND_IMAGE);
        assert_eq!(names(&[&two, &image, &sig, &att]), of(&one));
        let index = marked(&list, KIND_INDEX);
        assert_eq!(names(&[&two, &index, &sig, &att]), of(&list));
        let whose = "the layout has several images, and does not tell whose the signatures are";
        for entries in [
            &[&one, &two, &sig][..],
            &[&image, &index, &att],
            &[&image, &marked(&two, KIND_IMAGE), &sig],
        ] {
            assert_eq!(names(entries), Err(whose.to_owned()));
        }
        // Nothing is said of signatures, so it does not matter whose they are.
        assert_eq!(names(&[&one, &two]), Ok(vec![]));
        for entries in [&[][..], &[&sig], &[&tagged]] {
            let told = names(entries).unwrap_err();
            assert_eq!(told, "the layout has no image");
        }
    }

    /// spec/oci-sif-cosign.md 6.3: by the first 16 digits of the bundle's digest.
    #[test]
    fn what_is_about_an_image_gets_a_name_whether_it_is_an_entry_or_a_file() {
        let mut folder = Folder::default();
        let one = folder.manifest("1", json!({}));
        let about = json!({"subject": one, "mediaType": MANIFEST_TYPE, "artifactType": "text/a"});
        let first = folder.manifest("first", about);
        let second = folder.manifest("second", json!({"subject": one, "artifactType": ""}));
        let foreign = content(MANIFEST_TYPE, b"elsewhere");
        folder.manifest("third", json!({"subject": foreign}));
        folder.put("", b"no manifest");
        let bundle = |layer: &str| {
            let digits = HashAlgorithm::Sha256.digest(layer.as_bytes()).to_string();
            cosign_of(&one, &format!("bundle-{}", &digits[7..23]))
        };
        // Of the third: layer and manifest.
        let (entries, unnamed) = folder.import(&[&one]).unwrap();
        assert_eq!((entries.len(), unnamed), (3, 3));
        assert_eq!(entries[0], one);
        let mut wanted = with(first.clone(), &[(REF_NAME, &bundle("first"))]);
        wanted["artifactType"] = json!("text/a");
        assert_eq!(entries[1], wanted);
        let named = with(second.clone(), &[(REF_NAME, &bundle("second"))]);
        assert_eq!(entries[2], named);
        // Entries stay as they are, and are read once however often they are there.
        let (entries, unnamed) = folder.import(&[&one, &second, &first, &second]).unwrap();
        let first = with(first, &[(REF_NAME, &bundle("first"))]);
        assert_eq!(entries, [one, named.clone(), first, named]);
        assert_eq!(unnamed, 3);
    }

    /// spec/oci-sif-cosign.md 6.1: the marks of `cosign save`.
    #[test]
    fn an_exported_layout_has_the_marks_of_cosign() {
        let mut folder = Folder::default();
        let one = folder.manifest("1", json!({}));
        let list = folder.put(INDEX, json!({"manifests": [one]}).to_string().as_bytes());
        let attached = folder.manifest("s", json!({}));
        let export = |entries: &[&Value]| {
            let root = json!({"manifests": entries}).to_string();
            let blobs: Vec<_> = folder.0.iter().map(Vec::as_slice).collect();
            let bytes = oci_image_of(&blobs, root.as_bytes());
            let image = Image::parse(&bytes).unwrap();
            let made = export(&OciSif::new(&image).unwrap()).unwrap();
            let index: Value = serde_json::from_slice(&made.index).unwrap();
            let entries = index["manifests"].as_array().unwrap().clone();
            (entries, made.blobs.len())
        };
        let belongs = |to: &Value, suffix: &str| {
            with(attached.clone(), &[(REF_NAME, &cosign_of(to, suffix))])
        };
        for (main, kind) in [(&one, KIND_IMAGE), (&list, KIND_INDEX)] {
            let suffixes = ["sig", "att", "sbom"];
            let mut entries = vec![main.clone()];
            entries.extend(suffixes.map(|suffix| belongs(main, suffix)));
            let (made, _) = export(&entries.iter().collect::<Vec<_>>());
            let tag = |suffix: &str| cosign_of(main, suffix).replace("_cosign:", "");
            let out = [
                with(main.clone(), &[(KIND, kind)]),
                with(
                    attached.clone(),
                    &[(KIND, KIND_SIGNATURES), (REF_NAME, &tag("sig"))],
                ),
                with(
                    attached.clone(),
                    &[(KIND, KIND_ATTESTATIONS), (REF_NAME, &tag("att"))],
                ),
                with(attached.clone(), &[(REF_NAME, &tag("sbom"))]),
            ];
            assert_eq!(made, out);
        }
        // What belongs to another image, and that image.
        let named = with(list.clone(), &[(REF_NAME, "other")]);
        let signatures = belongs(&list, "sig");
        let (made, blobs) = export(&[&one, &named, &signatures]);
        assert_eq!(made[0], with(one.clone(), &[(KIND, KIND_IMAGE)]));
        assert_eq!(made[1], named);
        assert_eq!(made[2]["annotations"].as_object().unwrap().len(), 1);
        assert_eq!(blobs, folder.0.len());
    }
}
