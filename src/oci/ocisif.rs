//! The view of an OCI-SIF: index, images, signatures, blobs by digest.
//!
//! Digests are taken from the descriptors of the SIF and from the documents;
//! whoever relies on content hashes it first ([`OciSif::document`] does).
//!
//! Source: spec/oci-sif-cosign.md 1.2 to 1.8; sylabs/oci-tools `pkg/sif`,
//! `pkg/sourcesink`.

use super::manifest::{self, ContentDescriptor, ImageIndex, ImageManifest, Kind, MAX_DOCUMENT};
use crate::digest::{Digest, HashAlgorithm};
use crate::sif::types::DataType;
use crate::sif::{self, Descriptor, ExtraError, Image};
use std::collections::{HashMap, HashSet};

/// Start of the names of entries that belong to signatures.
pub const COSIGN_PREFIX: &str = "_cosign:";
/// Beginning of the name of a manifest whose layer is the index that the image was chosen from,
/// followed by `sha256-<hex>` of that. The other images of the index are not in the file, so it
/// cannot be an entry itself: SingularityCE would look for them when it changes the file.
pub const INDEX_PREFIX: &str = "_cosign-index:";

/// Most documents that one image may consist of.
pub(super) const MAX_DOCUMENTS: usize = 65_536;

/// Why an image is no usable OCI-SIF.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not exactly one RootIndex.
    #[error("not an OCI-SIF: {0} root index objects")]
    NotOciSif(usize),
    /// The file cannot be read.
    #[error(transparent)]
    Image(#[from] sif::Error),
    /// An object's digest field cannot be read.
    #[error("object {id}: {fault}")]
    Extra {
        /// The object.
        id: u32,
        /// The fault.
        fault: ExtraError,
    },
    /// The RootIndex is not what its descriptor says.
    #[error("OCI root index digest mismatch: expected \"{expected}\", found \"{found}\"")]
    RootIndexChanged {
        /// In the descriptor.
        expected: String,
        /// Of the bytes.
        found: Digest,
    },
    /// A blob that is named and not there.
    #[error("{0}: object not found")]
    Missing(Digest),
    /// A blob whose length is not the one that was named.
    #[error("{digest}: {found} bytes, {expected} are named")]
    Size {
        /// The blob.
        digest: Digest,
        /// Bytes that the document names.
        expected: u64,
        /// Bytes of the object.
        found: u64,
    },
    /// A document whose bytes are not those of its name.
    #[error("OCI blob digest mismatch: expected \"{expected}\", found \"{found}\"")]
    Changed {
        /// In the descriptor.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// A document that cannot be parsed.
    #[error("{what} {digest}: {source}")]
    Document {
        /// Kind of document.
        what: &'static str,
        /// Its digest.
        digest: String,
        /// The fault.
        source: manifest::Error,
    },
    /// No entry that could be the image.
    #[error("no matching image / index found")]
    NoImage,
    /// Several entries that could be the image.
    #[error("multiple matching images / indices found")]
    SeveralImages,
    /// The image is listed again under another name.
    #[error("multiple matches found")]
    SeveralMatches,
    /// A blob that is there and cannot be had; the reason.
    #[error("{0}")]
    Read(String),
    /// More documents than are looked at.
    #[error("more than {MAX_DOCUMENTS} manifests")]
    TooManyDocuments,
}

/// An OCI-SIF, borrowed from its image.
pub struct OciSif<'i, 'a> {
    image: &'i Image<'a>,
    root: &'i Descriptor,
    root_bytes: &'a [u8],
    index: ImageIndex,
    /// Indices of the objects of each digest, in table order.
    blobs: HashMap<Digest, Vec<usize>>,
}

/// Something that a document names, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// What is named.
    pub content: ContentDescriptor,
    /// What names it.
    pub role: Role,
    /// Digest of the document that names it; `None` for the RootIndex.
    pub parent: Option<Digest>,
}

/// What a document is named as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An entry of an index.
    Entry,
    /// The config of a manifest.
    Config,
    /// A layer of a manifest, by position.
    Layer(usize),
}

/// Whether an image is meant to be an OCI-SIF: it has one RootIndex.
pub fn is_oci_sif(image: &Image<'_>) -> bool {
    root_indices(image).count() == 1
}

fn root_indices<'i>(image: &'i Image<'_>) -> impl Iterator<Item = &'i Descriptor> {
    let of_type = |object: &&Descriptor| object.data_type() == DataType::OciRootIndex;
    image.objects().iter().filter(of_type)
}

impl<'i, 'a> OciSif<'i, 'a> {
    /// Reads the RootIndex, whose digest must be the one of its descriptor.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn new(image: &'i Image<'a>) -> Result<Self, Error> {
        let this = Self::with_any_root(image)?;
        let expected = object_digest(this.root)?;
        let found = HashAlgorithm::Sha256.digest(this.root_bytes);
        if expected != found {
            return Err(Error::RootIndexChanged {
                expected: expected.to_string(),
                found,
            });
        }
        Ok(this)
    }

    /// As [`OciSif::new`], but the digest of the RootIndex is not checked: the
    /// originals never look at it. For whoever reports that fault.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn with_any_root(image: &'i Image<'a>) -> Result<Self, Error> {
        let mut roots = root_indices(image);
        let (Some(root), None) = (roots.next(), roots.next()) else {
            return Err(Error::NotOciSif(root_indices(image).count()));
        };
        let root_bytes = image.data(root)?;
        let index = ImageIndex::parse(root_bytes).map_err(|source| Error::Document {
            what: "root index, object",
            digest: root.raw_id().to_string(),
            source,
        })?;
        let mut blobs = HashMap::<Digest, Vec<usize>>::new();
        for (at, object) in image.objects().iter().enumerate() {
            if object.data_type() == DataType::OciBlob {
                blobs.entry(object_digest(object)?).or_default().push(at);
            }
        }
        Ok(Self {
            image,
            root,
            root_bytes,
            index,
            blobs,
        })
    }

    /// The image that this is a view of.
    pub fn image(&self) -> &'i Image<'a> {
        self.image
    }

    /// The object that holds the RootIndex.
    pub fn root(&self) -> &'i Descriptor {
        self.root
    }

    /// Bytes of the RootIndex.
    pub fn root_bytes(&self) -> &'a [u8] {
        self.root_bytes
    }

    /// The RootIndex.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// Every OCI blob: its digest by descriptor, and its index in
    /// [`Image::objects`]. Unordered.
    pub fn blobs(&self) -> impl Iterator<Item = (&Digest, usize)> {
        let each = |(digest, at): (_, &'_ Vec<usize>)| (digest, at.clone());
        let all = self.blobs.iter().map(each);
        all.flat_map(|(digest, at)| at.into_iter().map(move |at| (digest, at)))
    }

    /// Index in [`Image::objects`] of the first blob of that digest.
    ///
    /// Blobs of one digest have one content once that is verified, so the
    /// first counts, while the originals refuse a second.
    pub fn blob(&self, digest: &Digest) -> Option<usize> {
        self.blobs.get(digest)?.first().copied()
    }

    /// Indices in [`Image::objects`] of all blobs of that digest, in table order.
    pub fn all(&self, digest: &Digest) -> &[usize] {
        self.blobs.get(digest).map_or(&[], Vec::as_slice)
    }

    /// The object of a blob that a document names, of the length it names.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Size`].
    pub fn object(&self, content: &ContentDescriptor) -> Result<&'i Descriptor, Error> {
        let missing = || Error::Missing(content.digest.clone());
        let at = self.blob(&content.digest).ok_or_else(missing)?;
        let object = self.image.objects().get(at).ok_or_else(missing)?;
        let found = u64::try_from(object.size()).unwrap_or_default();
        if found != content.size {
            return Err(Error::Size {
                digest: content.digest.clone(),
                expected: content.size,
                found,
            });
        }
        Ok(object)
    }

    /// Bytes of a small blob (a manifest, a config, a payload), hashed.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Size`], [`Error::Changed`], and
    /// [`Error::Document`] above 4 MiB.
    pub fn document(&self, content: &ContentDescriptor) -> Result<&'a [u8], Error> {
        self.content(content, MAX_DOCUMENT)
    }

    /// As [`OciSif::document`], up to `limit` bytes.
    ///
    /// # Errors
    /// As [`OciSif::document`].
    pub fn content(&self, content: &ContentDescriptor, limit: usize) -> Result<&'a [u8], Error> {
        self.object(content)?;
        self.blob_bytes(&content.digest, limit)
    }

    /// Bytes of the blob of that digest, hashed, whatever length anyone names.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Changed`], and [`Error::Document`] above
    /// `limit` bytes.
    pub fn blob_bytes(&self, digest: &Digest, limit: usize) -> Result<&'a [u8], Error> {
        let object = self
            .blob(digest)
            .and_then(|at| self.image.objects().get(at));
        let object = object.ok_or_else(|| Error::Missing(digest.clone()))?;
        let bytes = self.image.data(object)?;
        if bytes.len() > limit {
            return Err(Error::Document {
                what: "document",
                digest: digest.to_string(),
                source: manifest::Error::TooLarge(bytes.len()),
            });
        }
        let found = digest.algorithm().digest(bytes);
        if found != *digest {
            return Err(Error::Changed {
                expected: digest.clone(),
                found,
            });
        }
        Ok(bytes)
    }

    /// An image manifest that an entry names, hashed and parsed.
    ///
    /// # Errors
    /// As [`OciSif::document`]; [`Error::Document`] if it is no manifest.
    pub fn manifest(&self, entry: &ContentDescriptor) -> Result<ImageManifest, Error> {
        let bytes = self.document(entry)?;
        ImageManifest::parse(bytes).map_err(|source| Error::Document {
            what: "image manifest",
            digest: entry.digest.to_string(),
            source,
        })
    }

    /// An index that an entry names, hashed and parsed.
    ///
    /// # Errors
    /// As [`OciSif::document`]; [`Error::Document`] if it is no index.
    pub fn child_index(&self, entry: &ContentDescriptor) -> Result<ImageIndex, Error> {
        let bytes = self.document(entry)?;
        ImageIndex::parse(bytes).map_err(|source| Error::Document {
            what: "image index",
            digest: entry.digest.to_string(),
            source,
        })
    }

    /// The entry that sign, verify and push are about: the only one without
    /// a name, of whatever media type.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::SeveralImages`], and
    /// [`Error::SeveralMatches`] if the same image is listed again.
    ///
    /// Source: oci-tools `pkg/sourcesink/sif.go`, `Get`.
    pub fn unnamed(&self) -> Result<&ContentDescriptor, Error> {
        let mut unnamed = self
            .index
            .manifests
            .iter()
            .filter(|entry| entry.ref_name().is_none());
        let entry = unnamed.next().ok_or(Error::NoImage)?;
        if unnamed.next().is_some() {
            return Err(Error::SeveralImages);
        }
        let same = |other: &&ContentDescriptor| other.digest == entry.digest;
        if self.index.manifests.iter().filter(same).count() > 1 {
            return Err(Error::SeveralMatches);
        }
        Ok(entry)
    }

    /// The images that SingularityCE could run; it wants exactly one.
    ///
    /// Source: SingularityCE `internal/pkg/ocisif`, `GetSingleImage`.
    pub fn runnable(&self) -> Vec<&ContentDescriptor> {
        let runs = |entry: &&ContentDescriptor| {
            entry.kind() == Kind::Image
                && !entry
                    .ref_name()
                    .is_some_and(|name| name.starts_with("_cosign"))
        };
        self.index.manifests.iter().filter(runs).collect()
    }

    /// Entries of the RootIndex that hold signatures (`sig`) or attestations
    /// (`att`) of the image or index with that digest.
    pub fn cosign<'s>(
        &'s self,
        subject: &Digest,
        suffix: &str,
    ) -> impl Iterator<Item = &'s ContentDescriptor> + use<'s, 'i, 'a> {
        let name = cosign_name(subject, suffix);
        let named = move |entry: &&ContentDescriptor| entry.ref_name() == Some(name.as_str());
        self.index.manifests.iter().filter(named)
    }

    /// As [`OciSif::cosign`], each manifest once.
    pub fn cosign_once<'s>(
        &'s self,
        subject: &Digest,
        suffix: &str,
    ) -> impl Iterator<Item = &'s ContentDescriptor> + use<'s, 'i, 'a> {
        let mut seen = HashSet::new();
        let entries = self.cosign(subject, suffix);
        entries.filter(move |entry| seen.insert((&entry.digest, entry.size)))
    }

    /// Everything that the RootIndex names, directly or not, each pair of
    /// document and member once, in the order of the documents.
    ///
    /// Documents of images whose bytes are missing or wrong are in the list,
    /// what they would name is not; `faults` has the reasons.
    ///
    /// # Errors
    /// [`Error::TooManyDocuments`].
    pub fn reachable(&self) -> Result<(Vec<Reachable>, Vec<Error>), Error> {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        let mut seen = HashSet::new();
        let mut queue: Vec<(ContentDescriptor, Option<Digest>)> = self
            .index
            .manifests
            .iter()
            .rev()
            .map(|entry| (entry.clone(), None))
            .collect();
        while let Some((entry, parent)) = queue.pop() {
            if seen.len() > MAX_DOCUMENTS || found.len() > 16 * MAX_DOCUMENTS {
                return Err(Error::TooManyDocuments);
            }
            let digest = entry.digest.clone();
            let kind = entry.kind();
            found.push(Reachable {
                content: entry.clone(),
                role: Role::Entry,
                parent,
            });
            if !seen.insert((digest.clone(), kind == Kind::Index)) {
                continue;
            }
            match kind {
                Kind::Image => match self.manifest(&entry) {
                    Ok(manifest) => {
                        let parent = Some(digest);
                        found.push(Reachable {
                            content: manifest.config,
                            role: Role::Config,
                            parent: parent.clone(),
                        });
                        let layers = manifest.layers.into_iter().enumerate();
                        found.extend(layers.map(|(at, content)| Reachable {
                            content,
                            role: Role::Layer(at),
                            parent: parent.clone(),
                        }));
                    }
                    Err(error) => faults.push(error),
                },
                Kind::Index => match self.child_index(&entry) {
                    Ok(index) => {
                        let children = index.manifests.into_iter().rev();
                        queue.extend(children.map(|child| (child, Some(digest.clone()))));
                    }
                    Err(error) => faults.push(error),
                },
                Kind::Other => {}
            }
        }
        Ok((found, faults))
    }

    /// The indices that an image was chosen from.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn source_indices(&self, image: &Digest) -> Result<Vec<ContentDescriptor>, Error> {
        let mut found = Vec::new();
        let entries = self.index.manifests.iter().filter(|entry| {
            let name = entry.ref_name().unwrap_or_default();
            entry.kind() == Kind::Image && name.starts_with(INDEX_PREFIX)
        });
        // However often something is named, it is read once.
        let (mut manifests, mut indices) = (HashSet::new(), HashSet::new());
        for entry in entries {
            if !manifests.insert((&entry.digest, entry.size)) {
                continue;
            }
            for layer in self.manifest(entry)?.layers {
                if !indices.insert((layer.digest.clone(), layer.size)) {
                    continue;
                }
                let index = self.child_index(&layer)?;
                if index.manifests.iter().any(|child| child.digest == *image) {
                    found.push(layer);
                }
            }
        }
        Ok(found)
    }

    /// Everything that is named and is not there, or not in that length.
    ///
    /// # Errors
    /// [`Error::TooManyDocuments`].
    pub fn incomplete(&self) -> Result<Vec<Error>, Error> {
        let (found, mut faults) = self.reachable()?;
        let mut known: HashSet<_> = faults.iter().map(ToString::to_string).collect();
        let mut seen = HashSet::new();
        for reachable in &found {
            let content = &reachable.content;
            if !seen.insert((content.digest.clone(), content.size)) {
                continue;
            }
            if let Err(error) = self.object(content)
                && known.insert(error.to_string())
            {
                faults.push(error);
            }
        }
        Ok(faults)
    }
}

/// Name of the entry with signatures (`sig`) or attestations (`att`): in a
/// registry the part behind the colon is the tag.
pub fn cosign_name(subject: &Digest, suffix: &str) -> String {
    let tag = subject.to_string().replacen(':', "-", 1);
    format!("{COSIGN_PREFIX}{tag}.{suffix}")
}

/// Digest and suffix of the name of a cosign entry.
pub fn parse_cosign_name(name: &str) -> Option<(Digest, &str)> {
    let (tag, suffix) = name.strip_prefix(COSIGN_PREFIX)?.rsplit_once('.')?;
    let digest = manifest::parse_digest(&tag.replacen('-', ":", 1)).ok()?;
    Some((digest, suffix))
}

/// The digest that an OCI object's descriptor claims.
///
/// # Errors
/// [`Error::Extra`].
pub fn object_digest(object: &Descriptor) -> Result<Digest, Error> {
    let extra = |fault| Error::Extra {
        id: object.raw_id(),
        fault,
    };
    let text = object.oci_digest().map_err(extra)?;
    let broken = || extra(ExtraError::NoColon(text.clone()));
    manifest::parse_digest(&text).map_err(|_| broken())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sif::{DESCRIPTOR_LEN, GROUP_MASK};

    /// What a document says of some bytes.
    pub(crate) fn content(media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = HashAlgorithm::Sha256.digest(bytes).to_string();
        serde_json::json!({"mediaType": media_type, "size": bytes.len(), "digest": digest})
    }

    /// Adds a blob, once; returns what a document says of it.
    pub(crate) fn add_blob(
        blobs: &mut Vec<Vec<u8>>,
        media_type: &str,
        bytes: &[u8],
    ) -> serde_json::Value {
        if !blobs.iter().any(|blob| blob == bytes) {
            blobs.push(bytes.to_vec());
        }
        content(media_type, bytes)
    }

    /// An OCI-SIF of capacity 16, or more if need be, with these blobs and this RootIndex.
    pub(crate) fn oci_image_of(blobs: &[&[u8]], root: &[u8]) -> Vec<u8> {
        let total = (blobs.len() + 1).max(16);
        let start = 4096 + total * DESCRIPTOR_LEN;
        let mut bytes = vec![0; start];
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            bytes[at..at + new.len()].copy_from_slice(new);
        };
        put(&mut bytes, 32, b"SIF_MAGIC\x0001\x0000\0");
        let objects = blobs.iter().map(|blob| (0x400b_i32, *blob));
        for (slot, (kind, data)) in objects.chain([(0x400a, root)]).enumerate() {
            let at = 4096 + slot * DESCRIPTOR_LEN;
            put(&mut bytes, at, &kind.to_le_bytes());
            bytes[at + 4] = 1;
            put(
                &mut bytes,
                at + 5,
                &u32::try_from(slot + 1).unwrap().to_le_bytes(),
            );
            put(&mut bytes, at + 9, &(1 | GROUP_MASK).to_le_bytes());
            let (offset, size) = (bytes.len() as i64, data.len() as i64);
            put(&mut bytes, at + 17, &offset.to_le_bytes());
            put(&mut bytes, at + 25, &size.to_le_bytes());
            put(&mut bytes, at + 33, &size.to_le_bytes());
            put(&mut bytes, at + 41, &crate::sif::UNSET_TIME.to_le_bytes());
            put(&mut bytes, at + 49, &crate::sif::UNSET_TIME.to_le_bytes());
            put(&mut bytes, at + 201, sha(data).to_string().as_bytes());
            bytes.extend_from_slice(data);
        }
        let (free, data) = (total - 1 - blobs.len(), bytes.len() - start);
        let numbers = [free, total, 4096, total * 585, start, data].map(|number| number as i64);
        for (index, number) in numbers.into_iter().enumerate() {
            put(&mut bytes, 80 + index * 8, &number.to_le_bytes());
        }
        put(&mut bytes, 64, &crate::sif::UNSET_TIME.to_le_bytes());
        put(&mut bytes, 72, &crate::sif::UNSET_TIME.to_le_bytes());
        bytes
    }

    fn sha(bytes: &[u8]) -> Digest {
        HashAlgorithm::Sha256.digest(bytes)
    }

    fn entry(bytes: &[u8], kind: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}+json","size":{},"digest":"{}"{more}}}"#,
            bytes.len(),
            sha(bytes)
        )
    }

    fn index(entries: &[String]) -> Vec<u8> {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        )
        .into_bytes()
    }

    fn manifest_of(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
        let layers: Vec<_> = layers
            .iter()
            .map(|l| entry(l, "layer.v1.tar", ""))
            .collect();
        let config = entry(config, "config.v1", "");
        format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
            layers.join(",")
        )
        .into_bytes()
    }

    #[test]
    fn finds_image_signatures_and_what_is_missing() {
        let manifest = manifest_of(b"{}", &[b"layer", b"gone"]);
        let signatures = manifest_of(b"{ }", &[]);
        let name = cosign_name(&sha(&manifest), "sig");
        let named = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        let root = index(&[
            entry(&manifest, "manifest.v1", ""),
            entry(&signatures, "manifest.v1", &named),
        ]);
        let bytes = oci_image_of(&[b"layer", b"{}", &manifest, b"{ }", &signatures], &root);
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        assert_eq!(oci.unnamed().unwrap().digest, sha(&manifest));
        assert_eq!(oci.runnable().len(), 1);
        let found: Vec<_> = oci.cosign(&sha(&manifest), "sig").collect();
        assert_eq!(found[0].digest, sha(&signatures));
        assert_eq!(parse_cosign_name(&name), Some((sha(&manifest), "sig")));
        let missing = oci.incomplete().unwrap();
        assert_eq!(missing.len(), 1);
        assert!(matches!(&missing[0], Error::Missing(digest) if *digest == sha(b"gone")));
        assert_eq!(oci.reachable().unwrap().0.len(), 6);
    }

    #[test]
    fn a_changed_root_index_and_a_changed_manifest_are_refused() {
        let manifest = manifest_of(b"{}", &[]);
        let root = index(&[entry(&manifest, "manifest.v1", "")]);
        let mut bytes = oci_image_of(&[&manifest, b"{}"], &root);
        let last = bytes.len() - 1;
        bytes[last] = b' ';
        let image = Image::parse(&bytes).unwrap();
        assert!(OciSif::new(&image).is_err());
        let mut bytes = oci_image_of(&[&manifest, b"{}"], &root);
        let at = bytes.windows(8).position(|w| w == b"\"layers\"").unwrap();
        bytes[at + 1] = b'L';
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        let entry = oci.unnamed().unwrap();
        assert!(matches!(oci.manifest(entry), Err(Error::Changed { .. })));
    }

    #[test]
    fn a_document_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
        let root = index(&[]);
        let bytes = oci_image_of(&[b"four", b"five.", b""], &root);
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        for blob in [&b""[..], b"four"] {
            assert_eq!(oci.blob_bytes(&sha(blob), 4).unwrap(), blob);
        }
        let told = oci.blob_bytes(&sha(b"five."), 4).unwrap_err().to_string();
        assert!(told.contains("5 bytes, more than"), "{told}");
    }

    #[test]
    fn the_image_may_not_be_listed_again_under_a_name() {
        let manifest = manifest_of(b"{}", &[]);
        let other = manifest_of(b"{ }", &[]);
        let named = r#","annotations":{"org.opencontainers.image.ref.name":"n"}"#;
        let again = |bytes: &[u8]| {
            let root = index(&[
                entry(&manifest, "manifest.v1", ""),
                entry(bytes, "manifest.v1", named),
            ]);
            let bytes = oci_image_of(&[&manifest, b"{}", &other, b"{ }"], &root);
            let image = Image::parse(&bytes).unwrap();
            let oci = OciSif::new(&image).unwrap();
            oci.unnamed().map(|entry| entry.digest.clone())
        };
        assert_eq!(again(&other).unwrap(), sha(&manifest));
        assert!(matches!(again(&manifest), Err(Error::SeveralMatches)));
    }

    /// 65,536 documents, and the one that is found to be too many when the next is looked at.
    #[test]
    fn documents_are_followed_up_to_a_bound() {
        let listed = |numbers: std::ops::Range<u32>| {
            let entry = |n: u32| format!(r#"{{"size":0,"digest":"sha256:{n:064x}"}}"#);
            index(&numbers.map(entry).collect::<Vec<_>>())
        };
        let reached = |count: u32, again: usize| {
            // The two indices are documents as well.
            let lists = [listed(0..30_000), listed(30_000..count - 2)];
            let mut entries = vec![entry(b"", "layer", ""); again];
            entries.extend(lists.iter().map(|list| entry(list, "index.v1", "")));
            let bytes = oci_image_of(&[&lists[0], &lists[1]], &index(&entries));
            let image = Image::parse(&bytes).unwrap();
            let oci = OciSif::new(&image).unwrap();
            oci.reachable()
                .map(|(found, faults)| (found.len(), faults.len()))
        };
        assert_eq!(reached(65_537, 0).unwrap(), (65_537, 0));
        assert!(matches!(reached(65_538, 0), Err(Error::TooManyDocuments)));
        // What is named again and again is another matter.
        assert_eq!(reached(60_000, 10_000).unwrap(), (70_000, 0));
    }

    #[test]
    fn an_index_that_names_itself_ends() {
        // The digest of an index cannot stand in it; a descriptor that lies can.
        let inner = index(&[entry(b"other", "index.v1", "")]);
        let root = index(&[entry(&inner, "index.v1", ""), entry(&inner, "index.v1", "")]);
        let bytes = oci_image_of(&[&inner], &root);
        let image = Image::parse(&bytes).unwrap();
        let oci = OciSif::new(&image).unwrap();
        let (found, faults) = oci.reachable().unwrap();
        assert_eq!((found.len(), faults.len()), (3, 1));
        assert!(matches!(oci.unnamed(), Err(Error::SeveralImages)));
    }
}
