//! The view of an OCI image layout: index, images, what is attached to them.
//!
//! Blobs come from a closure that has hashed them, so that this module opens
//! no files.
//!
//! Source: OCI image specification 1.1, `image-layout.md`; sigstore/cosign
//! `pkg/oci/layout`; spec/oci-sif-cosign.md 6.1, 6.3.

use super::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, MAX_DOCUMENT};
use super::ocisif::{COSIGN_PREFIX, Error, MAX_DOCUMENTS};
use crate::digest::Digest;
use std::collections::HashSet;

/// Gets a blob of at most so many bytes, whose digest was checked; nothing if
/// there is none, and else the reason why it cannot be had.
pub type Get<'g> = dyn Fn(&Digest, usize) -> Result<Option<Vec<u8>>, String> + 'g;

/// Annotation of entries by which `cosign save` says what they are.
const KIND: &str = "kind";
const KIND_IMAGE: &str = "dev.cosignproject.cosign/image";
const KIND_INDEX: &str = "dev.cosignproject.cosign/imageIndex";

/// What is attached to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Signatures.
    Signatures,
    /// Attestations.
    Attestations,
}

impl Attached {
    fn kind(self) -> &'static str {
        match self {
            Self::Signatures => "dev.cosignproject.cosign/sigs",
            Self::Attestations => "dev.cosignproject.cosign/atts",
        }
    }

    /// End of names and tags.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Signatures => "sig",
            Self::Attestations => "att",
        }
    }
}

/// A layout whose index was read.
pub struct OciLayout<'g> {
    index: ImageIndex,
    get: &'g Get<'g>,
}

impl<'g> OciLayout<'g> {
    /// Reads `index.json`.
    ///
    /// # Errors
    /// [`Error::Document`].
    pub fn new(index: &[u8], get: &'g Get<'g>) -> Result<Self, Error> {
        let index = ImageIndex::parse(index).map_err(|source| Error::Document {
            what: "index",
            digest: "index.json".to_owned(),
            source,
        })?;
        Ok(Self { index, get })
    }

    /// The index.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// A blob that a document names, of the length it names, at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Missing`], [`Error::Size`].
    pub fn content(&self, content: &ContentDescriptor, limit: usize) -> Result<Vec<u8>, Error> {
        let missing = || Error::Missing(content.digest.clone());
        let bytes = (self.get)(&content.digest, limit).map_err(Error::Read)?;
        let bytes = bytes.ok_or_else(missing)?;
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match found == content.size {
            true => Ok(bytes),
            false => Err(Error::Size {
                digest: content.digest.clone(),
                expected: content.size,
                found,
            }),
        }
    }

    /// A manifest that an entry names.
    ///
    /// # Errors
    /// As [`OciLayout::content`]; [`Error::Document`].
    pub fn manifest(&self, entry: &ContentDescriptor) -> Result<ImageManifest, Error> {
        let bytes = self.content(entry, MAX_DOCUMENT)?;
        ImageManifest::parse(&bytes).map_err(|source| Error::Document {
            what: "image manifest",
            digest: entry.digest.to_string(),
            source,
        })
    }

    /// The manifest of that digest; nothing if it cannot be had.
    pub fn document(&self, digest: &Digest) -> Option<ImageManifest> {
        let bytes = (self.get)(digest, MAX_DOCUMENT).ok()??;
        ImageManifest::parse(&bytes).ok()
    }

    /// An index that an entry names.
    ///
    /// # Errors
    /// As [`OciLayout::content`]; [`Error::Document`].
    pub fn child_index(&self, entry: &ContentDescriptor) -> Result<ImageIndex, Error> {
        let bytes = self.content(entry, MAX_DOCUMENT)?;
        ImageIndex::parse(&bytes).map_err(|source| Error::Document {
            what: "image index",
            digest: entry.digest.to_string(),
            source,
        })
    }

    /// The one image or index that the layout is about: the entry that cosign
    /// marked, or else the only entry that is no signature, no referrer and no
    /// part of another one.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::SeveralImages`], and the faults of
    /// documents that had to be read.
    pub fn main(&self) -> Result<ContentDescriptor, Error> {
        let entries = || self.index.manifests.iter();
        let marked = |entry: &&ContentDescriptor| {
            let kind = entry.annotations.get(KIND).map(String::as_str);
            matches!(
                (kind, entry.kind()),
                (Some(KIND_IMAGE), Kind::Image) | (Some(KIND_INDEX), Kind::Index)
            )
        };
        let mut found: Vec<_> = entries().filter(marked).collect();
        if found.is_empty() {
            found = entries().filter(|entry| may_be_image(entry)).collect();
            // However often something is named, it is read once.
            let mut seen = HashSet::new();
            found.retain(|entry| seen.insert((entry.kind(), &entry.digest, entry.size)));
            // A referrer is about another entry.
            found.retain(|entry| {
                let manifest = (entry.kind() == Kind::Image).then(|| self.manifest(entry));
                !matches!(manifest, Some(Ok(manifest)) if manifest.subject.is_some())
            });
        }
        if found.len() > 1 {
            let indices = found.iter().filter(|entry| entry.kind() == Kind::Index);
            let children = self.named(indices.map(|entry| (*entry).clone()).collect())?;
            found.retain(|entry| !children.contains(&entry.digest));
        }
        let first = (*found.first().ok_or(Error::NoImage)?).clone();
        match found.iter().all(|entry| entry.digest == first.digest) {
            true => Ok(first),
            false => Err(Error::SeveralImages),
        }
    }

    /// The image or index of that digest: an entry, or in an index that is one.
    ///
    /// # Errors
    /// [`Error::NoImage`], and the faults of documents that had to be read.
    pub fn find(&self, digest: &Digest) -> Result<ContentDescriptor, Error> {
        let mut seen = HashSet::new();
        for entry in &self.index.manifests {
            if entry.kind() == Kind::Other {
                continue;
            }
            let mut parts = vec![entry.clone()];
            if entry.kind() == Kind::Index && entry.digest != *digest {
                // What was looked through for an entry before is not it.
                parts = self.new_parts(entry, &mut seen)?;
            }
            let mut parts = parts.into_iter();
            let found = parts.find(|part| part.digest == *digest && part.kind() != Kind::Other);
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Error::NoImage)
    }

    /// Everything that an image or index consists of, itself first, each pair
    /// of digest and size once. Documents are read, other blobs only named.
    ///
    /// # Errors
    /// The first fault of a document, and [`Error::TooManyDocuments`].
    pub fn parts(&self, entry: &ContentDescriptor) -> Result<Vec<ContentDescriptor>, Error> {
        self.new_parts(entry, &mut HashSet::new())
    }

    /// Digests of everything that these documents name, and what those name.
    fn named(&self, mut open: Vec<ContentDescriptor>) -> Result<HashSet<Digest>, Error> {
        let mut named = HashSet::new();
        let mut seen = HashSet::new();
        while let Some(entry) = open.pop() {
            if !seen.insert((entry.kind(), entry.digest.clone(), entry.size)) {
                continue;
            }
            match entry.kind() {
                Kind::Image => {
                    let manifest = self.manifest(&entry)?;
                    let blobs = std::iter::once(manifest.config).chain(manifest.layers);
                    named.extend(blobs.map(|blob| blob.digest));
                }
                Kind::Index => {
                    let children = self.child_index(&entry)?.manifests;
                    named.extend(children.iter().map(|child| child.digest.clone()));
                    open.extend(children);
                }
                Kind::Other => {}
            }
            if named.len() > 16 * MAX_DOCUMENTS {
                return Err(Error::TooManyDocuments);
            }
        }
        Ok(named)
    }

    /// As [`OciLayout::parts`], less what was seen before.
    fn new_parts(
        &self,
        entry: &ContentDescriptor,
        seen: &mut HashSet<(Kind, Digest, u64)>,
    ) -> Result<Vec<ContentDescriptor>, Error> {
        let mut parts = Vec::new();
        let mut open = vec![entry.clone()];
        while let Some(entry) = open.pop() {
            // What was named as a layer may be named as a document, too.
            if !seen.insert((entry.kind(), entry.digest.clone(), entry.size)) {
                continue;
            }
            if seen.len() > 16 * MAX_DOCUMENTS {
                return Err(Error::TooManyDocuments);
            }
            match entry.kind() {
                Kind::Image => {
                    let manifest = self.manifest(&entry)?;
                    let blobs = std::iter::once(manifest.config).chain(manifest.layers);
                    let new = blobs
                        .filter(|blob| seen.insert((Kind::Other, blob.digest.clone(), blob.size)));
                    parts.push(entry);
                    parts.extend(new);
                }
                Kind::Index => {
                    let index = self.child_index(&entry)?;
                    open.extend(index.manifests.into_iter().rev());
                    parts.push(entry);
                }
                Kind::Other => parts.push(entry),
            }
        }
        Ok(parts)
    }

    /// Entries with what is attached to an image: by the name that carries its
    /// digest, or by the mark of cosign, which names no image.
    pub fn attached(&self, subject: &Digest, what: Attached) -> Vec<&ContentDescriptor> {
        let mut seen = HashSet::new();
        let entries = self.index.manifests.iter().filter(|entry| {
            let belongs = match entry.ref_name().and_then(parse_tag) {
                Some((digest, suffix)) => digest == *subject && suffix == what.suffix(),
                None => {
                    let kind = entry.annotations.get(KIND).map(String::as_str);
                    kind == Some(what.kind())
                }
            };
            entry.kind() == Kind::Image && belongs && seen.insert(entry.digest.clone())
        });
        entries.collect()
    }

    /// The manifests among `documents` that are about one of the subjects and
    /// whose first layer is of a media type that begins so; and the reasons
    /// why others cannot be read.
    ///
    /// Source: OCI distribution specification 1.1, "Listing Referrers";
    /// sigstore/cosign, which looks at the first layer only.
    pub fn referrers(
        &self,
        documents: &[Digest],
        subjects: &[ContentDescriptor],
        media_type: &str,
    ) -> (Vec<Referrer>, Vec<String>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for digest in documents {
            let bytes = match (self.get)(digest, MAX_DOCUMENT) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(reason) => {
                    faults.push(reason);
                    continue;
                }
            };
            // Most documents are no manifests.
            let Ok(manifest) = ImageManifest::parse(&bytes) else {
                continue;
            };
            let about = manifest.subject.as_ref().map(|subject| &subject.digest);
            let subject = subjects.iter().find(|s| Some(&s.digest) == about);
            if let (Some(subject), Some(layer)) = (subject, manifest.layers.first())
                && layer.media_type.starts_with(media_type)
            {
                found.push(Referrer {
                    digest: digest.clone(),
                    subject: subject.digest.clone(),
                    blob: layer.digest.clone(),
                    size: layer.size,
                });
            }
        }
        (found, faults)
    }
}

/// A manifest that is about an image; small, as there may be many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Digest,
    /// What it says about it: digest of the first layer.
    pub blob: Digest,
    /// Length of that in bytes, as claimed.
    pub size: u64,
}

impl Referrer {
    /// What it says, to be read.
    pub fn content(&self) -> ContentDescriptor {
        ContentDescriptor {
            media_type: String::new(),
            digest: self.blob.clone(),
            size: self.size,
            annotations: Default::default(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// Whether an entry that says nothing about itself may be an image.
fn may_be_image(entry: &ContentDescriptor) -> bool {
    let reserved = |name: &str| {
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        let fallback = tag.split_once('-').is_some_and(|(algorithm, hex)| {
            super::manifest::parse_digest(&format!("{algorithm}:{hex}")).is_ok()
        });
        name.starts_with(COSIGN_PREFIX) || fallback || parse_tag(name).is_some()
    };
    let marked = entry
        .annotations
        .get(KIND)
        .is_some_and(|kind| kind.starts_with("dev.cosignproject.cosign/"));
    entry.kind() != Kind::Other && !marked && !entry.ref_name().is_some_and(reserved)
}

/// Digest and suffix of a tag such as `sha256-HEX.sig`, alone or at the end of
/// a reference.
fn parse_tag(name: &str) -> Option<(Digest, &str)> {
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    let (digest, suffix) = tag.split_once('.')?;
    let digest = super::manifest::parse_digest(&digest.replacen('-', ":", 1)).ok()?;
    Some((digest, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;
    use std::collections::HashMap;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    #[derive(Default)]
    struct Blobs(HashMap<Digest, Vec<u8>>);

    impl Blobs {
        fn put(&mut self, media_type: &str, bytes: &str, more: &str) -> String {
            let digest = HashAlgorithm::Sha256.digest(bytes.as_bytes());
            let size = bytes.len();
            self.0.insert(digest.clone(), bytes.as_bytes().to_vec());
            format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"{more}}}"#)
        }

        fn image(&mut self, text: &str, more: &str) -> String {
            let config = self.put("c", text, "");
            let layer = self.put("l", &format!("layer {text}"), "");
            self.put(
                MANIFEST,
                &format!(r#"{{"config":{config},"layers":[{layer},{layer}]{more}}}"#),
                "",
            )
        }

        fn main(&self, entries: &[&str]) -> Result<String, Error> {
            let index = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
            let get = |digest: &Digest, _| Ok(self.0.get(digest).cloned());
            let layout = OciLayout::new(index.as_bytes(), &get)?;
            let main = layout.main()?;
            assert_eq!(layout.find(&main.digest)?, main);
            Ok(main.digest.to_string())
        }
    }

    fn with(entry: &str, name: &str, value: &str) -> String {
        let end = entry.len() - 1;
        format!(
            r#"{},"annotations":{{"{name}":"{value}"}}}}"#,
            &entry[..end]
        )
    }

    fn digest_of(entry: &str) -> String {
        let at = entry.find("sha256:").unwrap();
        entry[at..at + 71].to_owned()
    }

    #[test]
    fn finds_the_image_of_each_writer() {
        let mut blobs = Blobs::default();
        let (one, two) = (blobs.image("1", ""), blobs.image("2", ""));
        let index = blobs.put(INDEX, &format!(r#"{{"manifests":[{one},{two}]}}"#), "");
        let referrer = blobs.image("3", &format!(r#","subject":{one}"#));
        let name = "org.opencontainers.image.ref.name";
        let tag = digest_of(&one).replacen(':', "-", 1);
        let signatures = with(&two, name, &format!("{tag}.sig"));
        let wanted = Ok::<_, String>(digest_of(&one));
        let main = |entries: &[&str]| blobs.main(entries).map_err(|error| error.to_string());
        assert_eq!(main(&[&one, &signatures, &referrer]), wanted);
        assert_eq!(main(&[&with(&one, name, "1.0"), &referrer]), wanted);
        assert_eq!(main(&[&one, &with(&index, name, &tag)]), wanted);
        assert_eq!(
            main(&[&with(&two, name, &format!("_cosign:{tag}.sig")), &one, &one]),
            wanted
        );
        let marked = [with(&one, "kind", KIND_IMAGE), two.clone()];
        assert_eq!(main(&[&marked[1], &marked[0]]), wanted);
        assert_eq!(main(&[&two, &index, &one]), Ok(digest_of(&index)));
        assert!(main(&[&one, &two]).unwrap_err().contains("multiple"));
        for none in [&[][..], &[signatures.as_str()], &[referrer.as_str()]] {
            assert!(main(none).unwrap_err().contains("no matching"));
        }
    }

    #[test]
    fn an_image_is_found_beside_one_that_is_missing() {
        let mut blobs = Blobs::default();
        let one = blobs.image("1", "");
        let gone = one.replacen(&digest_of(&one), &format!("sha256:{}", "0".repeat(64)), 1);
        let text = format!(r#"{{"manifests":[{gone},{one}]}}"#);
        let get = |digest: &Digest, _| Ok(blobs.0.get(digest).cloned());
        let layout = OciLayout::new(text.as_bytes(), &get).unwrap();
        let digest = Digest::parse(&digest_of(&one)).unwrap();
        assert_eq!(layout.find(&digest).unwrap().digest, digest);
    }

    /// A million things may be named; here are 70,000.
    #[test]
    fn long_indices_are_followed() {
        let mut blobs = Blobs::default();
        let mut listed = |numbers: std::ops::Range<u32>| {
            let entry = |n: u32| format!(r#"{{"size":0,"digest":"sha256:{n:064x}"}}"#);
            let entries: Vec<_> = numbers.map(entry).collect();
            let index = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
            blobs.put(INDEX, &index, "")
        };
        let inner = [listed(0..35_000), listed(35_000..70_000)].join(",");
        let outer = blobs.put(INDEX, &format!(r#"{{"manifests":[{inner}]}}"#), "");
        let image = blobs.image("1", "");
        let text = format!(r#"{{"manifests":[{outer},{image}]}}"#);
        let get = |digest: &Digest, _| Ok(blobs.0.get(digest).cloned());
        let layout = OciLayout::new(text.as_bytes(), &get).unwrap();
        let told = layout.main().unwrap_err().to_string();
        assert_eq!(told, "multiple matching images / indices found");
        let parts = layout.parts(&layout.index().manifests[0]).unwrap();
        assert_eq!(parts.len(), 70_003);
    }

    #[test]
    fn names_every_part_once_and_what_is_attached() {
        let mut blobs = Blobs::default();
        let (one, two) = (blobs.image("1", ""), blobs.image("2", ""));
        let referrer = blobs.image("3", &format!(r#","subject":{one}"#));
        let inner = blobs.put(INDEX, &format!(r#"{{"manifests":[{one}]}}"#), "");
        let index = blobs.put(
            INDEX,
            &format!(r#"{{"manifests":[{inner},{one},{two}]}}"#),
            "",
        );
        let signed = digest_of(&one).replacen(':', "-", 1);
        let name = "org.opencontainers.image.ref.name";
        let entries = [
            index,
            with(&two, name, &format!("host/repo:{signed}.sig")),
            with(&referrer, "kind", "dev.cosignproject.cosign/sigs"),
            with(&referrer, name, &format!("{signed}.att")),
        ];
        let text = format!(r#"{{"manifests":[{}]}}"#, entries.join(","));
        let get = |digest: &Digest, _| Ok(blobs.0.get(digest).cloned());
        let layout = OciLayout::new(text.as_bytes(), &get).unwrap();
        let main = layout.main().unwrap();
        // Two indices, two images of three parts.
        assert_eq!(layout.parts(&main).unwrap().len(), 8);
        let subject = Digest::parse(&digest_of(&one)).unwrap();
        let found = layout.attached(&subject, Attached::Signatures);
        assert_eq!(found.len(), 2);
        assert_eq!(layout.attached(&subject, Attached::Attestations).len(), 1);
        assert_eq!(layout.attached(&main.digest, Attached::Signatures).len(), 1);
        let subjects = [layout.find(&subject).unwrap()];
        let documents: Vec<_> = blobs.0.keys().cloned().collect();
        let (referrers, faults) = layout.referrers(&documents, &subjects, "l");
        assert_eq!((referrers.len(), faults.len()), (1, 0));
        assert_eq!(referrers[0].digest.to_string(), digest_of(&referrer));
        assert_eq!(layout.referrers(&documents, &subjects, "x").0, []);
    }
}
