//! Plans what a new signature changes in a store of blobs and an index: which
//! blobs come, which are needed no more, and the new index.
//!
//! The store may be a SIF or a folder; nothing is written here.

use super::build::{self, Blob, Existing, NewLayer, REF_NAME, cosign_image, with_image};
use super::json::Object;
use super::ocisif::OciSif;
use crate::digest::Digest;
use crate::sif::edit::{self, Content, Edit, NewObject, Patch, Wipe};
use crate::sif::types::{DataType, GroupId};
use crate::sif::{Descriptor, Extra};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};

/// Layers for the cosign image of one name.
pub struct Addition {
    /// Name of the entry in the index: `_cosign:sha256-HEX.sig`.
    pub ref_name: String,
    /// What is added, in order.
    pub layers: Vec<NewLayer>,
}

/// A planned change.
#[derive(Debug)]
pub struct Update {
    /// New blobs, each once; none of them is in the store.
    pub blobs: Vec<Blob>,
    /// The new index.
    pub index: Vec<u8>,
    /// Blobs that the old index led to and the new one does not.
    pub obsolete: Vec<Digest>,
    /// Blobs of the extended cosign images that are still needed.
    pub kept: Vec<Digest>,
}

/// Why a change cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document cannot be extended.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// The signatures that are there cannot be read, so they would get lost.
    #[error("signatures {name}: manifest {digest}: object not found")]
    Missing {
        /// Name of the entry.
        name: String,
        /// What it leads to.
        digest: String,
    },
}

/// Plans additions to an index.
///
/// `blob` gives the bytes of a document of the store; it has to have checked
/// their digest. Layers are asked for only to see whether they are there.
/// Blobs to which no index ever led stay: they are somebody else's.
///
/// # Errors
/// As [`Error`] says.
pub fn plan<'s>(
    index: &[u8],
    additions: Vec<Addition>,
    blob: &dyn Fn(&Digest) -> Option<&'s [u8]>,
) -> Result<Update, Error> {
    let mut new_index = index.to_vec();
    let mut made: BTreeMap<String, Blob> = BTreeMap::new();
    let mut blobs = Vec::new();
    let mut replaced = HashSet::new();
    for addition in additions {
        let mut existing = Vec::new();
        for digest in entries_named(index, &addition.ref_name)? {
            let missing = || Error::Missing {
                name: addition.ref_name.clone(),
                digest: digest.clone(),
            };
            let manifest = find(blob, &digest).ok_or_else(missing)?;
            let config = member_digest(manifest, "config").and_then(|digest| find(blob, &digest));
            existing.push(Existing { manifest, config });
            replaced.extend(references(manifest).into_iter().map(|child| child.digest));
            replaced.insert(digest);
        }
        let image = cosign_image(&existing, addition.layers)?;
        new_index = with_image(&new_index, &addition.ref_name, &image)?;
        for new in image.blobs {
            let name = new.digest.to_string();
            if blob(&new.digest).is_none() && !made.contains_key(&name) {
                made.insert(name, new.clone());
                blobs.push(new);
            }
        }
    }
    let document = |digest: &str| {
        let new = made.get(digest).map(|blob| blob.bytes.as_slice());
        new.or_else(|| find(blob, digest))
    };
    let needed = reached(&new_index, &document);
    let digests = |texts: Vec<&String>| {
        let mut digests: Vec<_> = texts
            .into_iter()
            .filter_map(|t| Digest::parse(t).ok())
            .collect();
        digests.sort_by_cached_key(ToString::to_string);
        digests
    };
    Ok(Update {
        obsolete: digests(replaced.difference(&needed).collect()),
        kept: digests(replaced.intersection(&needed).collect()),
        blobs,
        index: new_index,
    })
}

/// Plans an update of an OCI-SIF: one commit replaces the RootIndex, adds what
/// is new and drops what is obsolete.
///
/// A blob of the extended cosign images that is stored twice, for which the
/// originals find neither, is dropped once. Other blobs stay, whether anybody
/// names them or not. `now` in Unix seconds.
///
/// # Errors
/// The image cannot be changed.
pub fn patch(oci: &OciSif<'_, '_>, update: Update, now: i64) -> Result<Patch, edit::Error> {
    let image = oci.image();
    let mut edit = Edit::new(image, now);
    edit.fill_gaps();
    edit.delete(oci.root().raw_id(), Wipe::Zero)?;
    for digest in &update.obsolete {
        for object in copies(oci, digest) {
            edit.delete(object.raw_id(), Wipe::Zero)?;
        }
    }
    for digest in &update.kept {
        let mut copies = copies(oci, digest).into_iter();
        let first = copies.next().map(|first| image.data(first)).transpose()?;
        for copy in copies {
            if Some(image.data(copy)?) == first {
                edit.delete(copy.raw_id(), Wipe::Zero)?;
            }
        }
    }
    for blob in update.blobs {
        edit.add(object(DataType::OciBlob, blob))?;
    }
    edit.add(root_index(update.index))?;
    edit.cut();
    edit.plan()
}

/// All blobs of a digest, in table order.
fn copies<'i>(oci: &OciSif<'i, '_>, digest: &Digest) -> Vec<&'i Descriptor> {
    let objects = oci.image().objects();
    let slots = oci.all(digest).iter();
    slots.filter_map(|at| objects.get(*at)).collect()
}

/// The object of a RootIndex, as the originals store it.
pub fn root_index(index: Vec<u8>) -> NewObject {
    object(DataType::OciRootIndex, Blob::new(index))
}

/// An object of group 1, as the originals store it.
fn object(data_type: DataType, blob: Blob) -> NewObject {
    NewObject {
        group: GroupId::new(1),
        extra: Extra::OciDigest(blob.digest),
        ..NewObject::new(data_type, Content::Bytes(blob.bytes))
    }
}

fn find<'s>(blob: &dyn Fn(&Digest) -> Option<&'s [u8]>, digest: &str) -> Option<&'s [u8]> {
    blob(&Digest::parse(digest).ok()?)
}

/// Digests of the entries of that name.
fn entries_named(index: &[u8], name: &str) -> Result<Vec<String>, build::Error> {
    let entries = || Object::parse(index)?.list("manifests");
    let entries = entries().map_err(build::Error::Index)?;
    let named = entries
        .iter()
        .filter(|entry| build::annotation(entry, REF_NAME).as_deref() == Some(name));
    Ok(named.filter_map(|entry| digest_of(entry)).collect())
}

/// Every digest that a document leads to.
fn reached<'d>(document: &[u8], find: &dyn Fn(&str) -> Option<&'d [u8]>) -> HashSet<String> {
    let mut reached = HashSet::new();
    let mut open = references(document);
    while let Some(reference) = open.pop() {
        let is_new = reached.insert(reference.digest.clone());
        if is_new
            && reference.leads_on
            && let Some(document) = find(&reference.digest)
        {
            open.extend(references(document));
        }
    }
    reached
}

/// What a manifest or an index names.
struct Reference {
    digest: String,
    /// Whether it is a manifest or an index itself.
    leads_on: bool,
}

fn references(document: &[u8]) -> Vec<Reference> {
    let Ok(object) = Object::parse(document) else {
        return Vec::new();
    };
    let lists = ["manifests", "layers"].into_iter();
    let children = lists.filter_map(|name| object.list(name).ok()).flatten();
    let config = object.get("config").map(ToOwned::to_owned);
    let described = children.chain(config).filter_map(|child| {
        let child = Object::parse(child.get().as_bytes()).ok()?;
        let kind = child.text("mediaType").unwrap_or_default();
        Some(Reference {
            digest: child.text("digest")?,
            leads_on: ["manifest", "index"].iter().any(|word| kind.contains(word)),
        })
    });
    described.collect()
}

fn member_digest(document: &[u8], name: &str) -> Option<String> {
    digest_of(Object::parse(document).ok()?.get(name)?)
}

fn digest_of(descriptor: &RawValue) -> Option<String> {
    Object::parse(descriptor.get().as_bytes())
        .ok()?
        .text("digest")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::build::{CONFIG_TYPE, MANIFEST_TYPE};

    /// A store in memory.
    struct Store(BTreeMap<String, Vec<u8>>, Vec<u8>);

    impl Store {
        fn new(index: &str) -> Self {
            Self(BTreeMap::new(), index.as_bytes().to_vec())
        }

        fn add(&mut self, bytes: &str) -> String {
            let blob = Blob::new(bytes.as_bytes().to_vec());
            self.0.insert(blob.digest.to_string(), blob.bytes);
            blob.digest.to_string()
        }

        fn plan(&self, additions: Vec<Addition>) -> Result<Update, Error> {
            plan(&self.1, additions, &|digest: &Digest| {
                self.0.get(&digest.to_string()).map(Vec::as_slice)
            })
        }

        fn apply(&mut self, update: Update) {
            for digest in &update.obsolete {
                assert!(self.0.remove(&digest.to_string()).is_some());
            }
            for blob in update.blobs {
                let before = self.0.insert(blob.digest.to_string(), blob.bytes);
                assert!(before.is_none(), "written twice");
            }
            self.1 = update.index;
        }
    }

    fn addition(name: &str, payloads: &[&str]) -> Addition {
        let layer = |payload: &&str| NewLayer {
            media_type: "text/plain",
            payload: payload.as_bytes().to_vec(),
            annotations: BTreeMap::new(),
        };
        Addition {
            ref_name: name.to_owned(),
            layers: payloads.iter().map(layer).collect(),
        }
    }

    #[test]
    fn each_signature_replaces_config_and_manifest_and_nothing_else() {
        let mut store = Store::new(r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:x"}]}"#);
        let foreign = store.add("nobody names this");
        for (at, payload) in ["a", "b", "c", "b"].into_iter().enumerate() {
            let update = store.plan(vec![addition("_cosign:s", &[payload])]).unwrap();
            // A payload that is there already is not written again.
            let new = if at == 3 { 2 } else { 3 };
            assert_eq!(update.blobs.len(), new);
            assert_eq!(update.obsolete.len(), if at == 0 { 0 } else { 2 });
            store.apply(update);
        }
        assert_eq!(store.0.len(), 1 + 3 + 2);
        assert!(store.0.contains_key(&foreign));
        let index = Object::parse(&store.1).unwrap();
        assert_eq!(index.list("manifests").unwrap().len(), 2);
    }

    #[test]
    fn what_others_still_need_stays() {
        // The same payload signed for two images: one config, two names.
        let mut store = Store::new(r#"{"manifests":[]}"#);
        let both = vec![addition("one", &["a"]), addition("two", &["a"])];
        let update = store.plan(both).unwrap();
        assert_eq!(
            update.blobs.len(),
            3,
            "payload, config, manifest: each once"
        );
        store.apply(update);
        let update = store.plan(vec![addition("one", &["b"])]).unwrap();
        assert_eq!(update.obsolete, []);
        store.apply(update);
        let update = store.plan(vec![addition("two", &["b"])]).unwrap();
        assert_eq!(update.obsolete.len(), 2);
        assert_eq!(update.blobs.len(), 0);
    }

    #[test]
    fn signatures_of_a_child_of_an_index_are_followed() {
        let mut store = Store::new("{}");
        let config = store.add("{}");
        let manifest = store.add(&format!(
            r#"{{"config":{{"mediaType":"{CONFIG_TYPE}","digest":"{config}"}},"layers":[]}}"#
        ));
        let child = store.add(&format!(
            r#"{{"manifests":[{{"mediaType":"{MANIFEST_TYPE}","digest":"{manifest}"}}]}}"#
        ));
        store.1 = format!(
            r#"{{"manifests":[
                {{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{child}"}},
                {{"mediaType":"{MANIFEST_TYPE}","digest":"{manifest}","annotations":{{"{REF_NAME}":"s"}}}}]}}"#
        )
        .into_bytes();
        let update = store.plan(vec![addition("s", &["a"])]).unwrap();
        assert_eq!(update.obsolete, [], "the index still leads there");
    }

    #[test]
    fn the_config_of_the_signatures_keeps_what_nobody_here_knows() {
        let mut store = Store::new("{}");
        let config = store.add(r#"{"created":"2024-01-01T00:00:00Z","foreign":1}"#);
        let manifest = store.add(&format!(
            r#"{{"config":{{"mediaType":"{CONFIG_TYPE}","digest":"{config}"}},"layers":[{{"digest":"sha256:x"}}]}}"#
        ));
        store.1 = format!(
            r#"{{"manifests":[{{"mediaType":"{MANIFEST_TYPE}","digest":"{manifest}","annotations":{{"{REF_NAME}":"s"}}}}]}}"#
        )
        .into_bytes();
        let update = store.plan(vec![addition("s", &["a"])]).unwrap();
        let texts = update
            .blobs
            .iter()
            .map(|blob| String::from_utf8_lossy(&blob.bytes));
        let kept = texts.filter(|text| {
            text.starts_with(r#"{"created":"2024-01-01T00:00:00Z","foreign":1,"history":["#)
        });
        assert_eq!(kept.count(), 1);
        let digests: Vec<_> = update.obsolete.iter().map(ToString::to_string).collect();
        assert_eq!(digests.len(), 2);
        assert!(digests.contains(&config) && digests.contains(&manifest));
    }

    #[test]
    fn signatures_that_cannot_be_read_are_not_replaced() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let index = format!(
            r#"{{"manifests":[{{"mediaType":"{MANIFEST_TYPE}","digest":"{digest}","annotations":{{"{REF_NAME}":"s"}}}}]}}"#
        );
        let mut store = Store::new(&index);
        let error = store.plan(vec![addition("s", &["a"])]).unwrap_err();
        assert!(error.to_string().contains("object not found"));
        store.1 = b"[]".to_vec();
        assert!(store.plan(vec![addition("s", &["a"])]).is_err());
    }
}
