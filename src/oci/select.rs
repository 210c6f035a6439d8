//! Which images of an OCI-SIF are meant, and whether they are whole.

use super::manifest::{ContentDescriptor, Kind, Platform};
use super::ocisif::{Error, OciSif};
use crate::digest::{Digest, HashAlgorithm};
use crate::gojson::Object;
use crate::sif::digests::{Digests, Extent, Wanted};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// Which image of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that the originals take; an index as a whole.
    #[default]
    Main,
    /// The image for a platform.
    Platform(Platform),
    /// The image or index with a digest.
    Digest(Digest),
}

/// Finds what is meant; never signatures or attestations.
///
/// [`Choice::Main`] is the only entry without a name, or else the only entry
/// of all: a file made of a layout with a tag has that.
///
/// # Errors
/// [`Error::NoImage`], [`Error::SeveralImages`], and the faults of documents
/// that had to be read.
///
/// Source: oci-tools `pkg/sourcesink/sif.go`, `Get`.
pub fn choose(oci: &OciSif<'_, '_>, choice: &Choice) -> Result<ContentDescriptor, Error> {
    let fits = |entry: &ContentDescriptor| -> Result<bool, Error> {
        match choice {
            Choice::Main => Ok(true),
            Choice::Digest(digest) => Ok(entry.digest == *digest),
            Choice::Platform(wanted) if entry.kind() == Kind::Image => {
                Ok(platform(oci, entry)?.satisfies(wanted))
            }
            Choice::Platform(_) => Ok(false),
        }
    };
    let candidates = match choice {
        Choice::Main => match oci.unnamed() {
            Ok(entry) => vec![entry.clone()],
            Err(Error::NoImage) => images(oci),
            Err(error) => return Err(error),
        },
        _ => with_children(oci, images(oci))?,
    };
    let mut found: Option<ContentDescriptor> = None;
    for entry in candidates {
        if !fits(&entry)? {
            continue;
        }
        match &found {
            // The same image, listed twice.
            Some(known) if known.digest == entry.digest => {}
            Some(_) => return Err(Error::SeveralImages),
            None => found = Some(entry),
        }
    }
    found
        .filter(|entry| entry.kind() != Kind::Other)
        .ok_or(Error::NoImage)
}

/// An image or index, and every index and image in it, each once.
///
/// # Errors
/// The faults of indices that had to be read.
pub fn with_children(
    oci: &OciSif<'_, '_>,
    entries: Vec<ContentDescriptor>,
) -> Result<Vec<ContentDescriptor>, Error> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open: Vec<_> = entries.into_iter().rev().collect();
    while let Some(entry) = open.pop() {
        if entry.kind() == Kind::Other || !seen.insert(entry.digest.clone()) {
            continue;
        }
        if entry.kind() == Kind::Index {
            open.extend(oci.child_index(&entry)?.manifests.into_iter().rev());
        }
        found.push(entry);
    }
    Ok(found)
}

/// Entries of the RootIndex that are images or indices, not signatures.
fn images(oci: &OciSif<'_, '_>) -> Vec<ContentDescriptor> {
    let entries = oci.index().manifests.iter().filter(|entry| {
        let signatures = entry
            .ref_name()
            .is_some_and(|name| name.starts_with("_cosign"));
        entry.kind() != Kind::Other && !signatures
    });
    entries.cloned().collect()
}

/// Of the entry, else of its config.
fn platform(oci: &OciSif<'_, '_>, entry: &ContentDescriptor) -> Result<Platform, Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config {
        os: String,
        architecture: String,
        variant: String,
    }
    if let Some(platform) = &entry.platform {
        return Ok(platform.clone());
    }
    let config = oci.document(&oci.manifest(entry)?.config)?;
    let Object(config): Object<Config> = serde_json::from_slice(config).unwrap_or_default();
    Ok(Platform {
        os: config.os,
        architecture: config.architecture,
        variant: config.variant,
    })
}

/// Checks that everything that images lead to is there and has its digest;
/// each blob is hashed once, over all cores.
///
/// # Errors
/// The first fault in the order of the documents.
pub fn require_whole(
    oci: &OciSif<'_, '_>,
    images: &[ContentDescriptor],
    threads: usize,
) -> Result<(), Error> {
    let mut named: BTreeMap<usize, ContentDescriptor> = BTreeMap::new();
    for entry in with_children(oci, images.to_vec())? {
        // Manifests and indices are hashed when they are read.
        if entry.kind() != Kind::Image {
            continue;
        }
        let manifest = oci.manifest(&entry)?;
        for content in std::iter::once(manifest.config).chain(manifest.layers) {
            oci.object(&content)?;
            if let Some(at) = oci.blob(&content.digest) {
                named.insert(at, content);
            }
        }
    }
    let algorithm = HashAlgorithm::Sha256;
    let wanted: Wanted = named
        .keys()
        .map(|at| (Extent::Object(*at), algorithm))
        .collect();
    let digests = Digests::compute(oci.image(), &wanted, threads)?;
    for (at, content) in named {
        match digests.get(Extent::Object(at), algorithm) {
            Some(found) if *found == content.digest => {}
            Some(found) => {
                return Err(Error::Changed {
                    found: found.clone(),
                    expected: content.digest,
                });
            }
            None => return Err(Error::Missing(content.digest)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ocisif::tests::{add_blob, oci_image_of};
    use crate::sif::Image;
    use serde_json::{Value, json};

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn sha(bytes: &[u8]) -> Digest {
        HashAlgorithm::Sha256.digest(bytes)
    }

    #[derive(Default)]
    struct File(Vec<Vec<u8>>);

    impl File {
        fn put(&mut self, media_type: &str, bytes: &[u8]) -> Value {
            add_blob(&mut self.0, media_type, bytes)
        }

        /// An image whose config names the platform.
        fn image(&mut self, architecture: &str) -> Value {
            let config = json!({"os": "linux", "architecture": architecture}).to_string();
            let config = self.put("c", config.as_bytes());
            let layer = self.put("l", b"layer");
            let manifest = json!({"config": config, "layers": [layer]}).to_string();
            self.put(MANIFEST, manifest.as_bytes())
        }

        fn index(&mut self, entries: &[&Value]) -> Value {
            self.put(INDEX, json!({"manifests": entries}).to_string().as_bytes())
        }

        fn with<T>(&self, entries: &[&Value], then: impl FnOnce(&OciSif<'_, '_>) -> T) -> T {
            let root = json!({"manifests": entries}).to_string();
            let blobs: Vec<_> = self.0.iter().map(Vec::as_slice).collect();
            let bytes = oci_image_of(&blobs, root.as_bytes());
            let image = Image::parse(&bytes).unwrap();
            then(&OciSif::new(&image).unwrap())
        }

        fn chosen(&self, entries: &[&Value], choice: &Choice) -> Result<String, String> {
            let answer = self.with(entries, |oci| choose(oci, choice));
            let digest = answer.map(|entry| entry.digest.to_string());
            digest.map_err(|error| error.to_string())
        }
    }

    fn digest(entry: &Value) -> String {
        entry["digest"].as_str().unwrap().to_owned()
    }

    fn named(mut entry: Value, name: &str) -> Value {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        entry
    }

    fn platform(text: &str) -> Choice {
        Choice::Platform(Platform::parse(text).unwrap())
    }

    fn by_digest(entry: &Value) -> Choice {
        Choice::Digest(Digest::parse(&digest(entry)).unwrap())
    }

    fn none<T>() -> Result<T, String> {
        Err("no matching image / index found".to_owned())
    }

    fn several<T>() -> Result<T, String> {
        Err("multiple matching images / indices found".to_owned())
    }

    #[test]
    fn an_image_is_chosen_by_digest_or_platform_among_entries_and_their_children() {
        let mut file = File::default();
        let (amd, arm, s390) = (
            file.image("amd64"),
            file.image("arm64"),
            file.image("s390x"),
        );
        let index = file.index(&[&amd, &arm]);
        let other = named(s390.clone(), "other");
        let signatures = named(file.image("ppc64le"), "_cosign:x.sig");
        let foreign = named(file.put("text/plain", b"foreign"), "foreign");
        let entries = [&index, &other, &signatures, &foreign];
        assert_eq!(file.chosen(&entries, &Choice::Main), Ok(digest(&index)));
        for (entry, text) in [
            (&amd, "linux/amd64"),
            (&arm, "linux/arm64"),
            (&s390, "linux/s390x"),
        ] {
            assert_eq!(file.chosen(&entries, &platform(text)), Ok(digest(entry)));
            assert_eq!(file.chosen(&entries, &by_digest(entry)), Ok(digest(entry)));
        }
        assert_eq!(
            file.chosen(&entries, &by_digest(&index)),
            Ok(digest(&index))
        );
        // Signatures are no images, and neither is what nobody knows.
        for choice in [
            platform("linux/ppc64le"),
            platform("windows/amd64"),
            by_digest(&signatures),
            by_digest(&foreign),
            Choice::Digest(sha(b"foreign layer")),
        ] {
            assert_eq!(file.chosen(&entries, &choice), none());
        }
        // The entry's platform comes before that of the config.
        let mut wrong = s390.clone();
        wrong["platform"] = json!({"os": "linux", "architecture": "riscv64"});
        assert_eq!(
            file.chosen(&[&wrong], &platform("linux/riscv64")),
            Ok(digest(&s390))
        );
        assert_eq!(file.chosen(&[&wrong], &platform("linux/s390x")), none());
        // Two of one platform; the same twice is one.
        let second = file.image("amd64\u{1}");
        let mut second_amd = second.clone();
        second_amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let both = named(second_amd, "second");
        assert_eq!(
            file.chosen(&[&index, &both], &platform("linux/amd64")),
            several()
        );
        let again = named(amd.clone(), "again");
        assert_eq!(
            file.chosen(&[&index, &again], &platform("linux/amd64")),
            Ok(digest(&amd))
        );
    }

    #[test]
    fn children_are_listed_once_in_their_order_and_only_images_and_indices() {
        let mut file = File::default();
        let (amd, arm) = (file.image("amd64"), file.image("arm64"));
        let foreign = file.put("text/plain", b"foreign");
        let inner = file.index(&[&arm, &foreign, &amd]);
        let outer = file.index(&[&amd, &inner, &foreign, &inner]);
        let listed = file.with(&[&outer, &foreign, &amd], |oci| {
            let entries = oci.index().manifests.clone();
            with_children(oci, entries).unwrap()
        });
        let listed: Vec<_> = listed
            .iter()
            .map(|entry| entry.digest.to_string())
            .collect();
        assert_eq!(listed, [&outer, &amd, &inner, &arm].map(digest));
    }

    #[test]
    fn the_main_image_is_the_unnamed_entry_or_the_only_one() {
        let mut file = File::default();
        let (one, two) = (file.image("amd64"), file.image("arm64"));
        let main = |entries: &[&Value]| file.chosen(entries, &Choice::Main);
        let tag = |entry: &Value| named(entry.clone(), "1.0");
        let signatures = named(two.clone(), "_cosign:x.sig");
        assert_eq!(main(&[&tag(&two), &one]), Ok(digest(&one)));
        assert_eq!(main(&[&signatures, &tag(&one)]), Ok(digest(&one)));
        assert_eq!(main(&[&tag(&one), &tag(&two)]), several());
        // One image with two tags.
        let again = named(one.clone(), "1.1");
        assert_eq!(main(&[&tag(&one), &again]), Ok(digest(&one)));
        assert_eq!(main(&[&one, &two]), several());
        for entries in [&[][..], &[&signatures]] {
            assert_eq!(main(entries), none());
        }
    }

    #[test]
    fn a_file_is_whole_if_every_part_of_the_image_is_there_and_unchanged() {
        let mut file = File::default();
        let (amd, arm) = (file.image("amd64"), file.image("arm64"));
        let index = file.index(&[&amd, &arm]);
        let whole = |file: &File, change: Option<&[u8]>| {
            let root = json!({"manifests": [index]}).to_string();
            let blobs: Vec<_> = file.0.iter().map(Vec::as_slice).collect();
            let mut bytes = oci_image_of(&blobs, root.as_bytes());
            if let Some(text) = change {
                let found = bytes.windows(text.len()).rposition(|at| at == text);
                bytes[found.unwrap()] ^= 1;
            }
            let image = Image::parse(&bytes).unwrap();
            let oci = OciSif::new(&image).unwrap();
            let entry = oci.unnamed().unwrap().clone();
            let answer = require_whole(&oci, &[entry], 2);
            answer.map_err(|error| error.to_string())
        };
        assert_eq!(whole(&file, None), Ok(()));
        let told = whole(&file, Some(b"{\"architecture\":\"arm64\"")).unwrap_err();
        assert!(
            told.starts_with("OCI blob digest mismatch: expected"),
            "{told}"
        );
        for at in 0..file.0.len() {
            let mut less = File(file.0.clone());
            let gone = less.0.remove(at);
            let told = whole(&less, None).unwrap_err();
            assert_eq!(told, format!("{}: object not found", sha(&gone)));
        }
    }
}
