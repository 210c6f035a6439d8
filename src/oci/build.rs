//! Builds what a new signature adds to an image: payload, config, manifest,
//! and the entry in the index.
//!
//! A cosign image is an image manifest whose layers are signatures or
//! attestations. Everything is written as the originals write it.
//!
//! Source: sigstore/cosign `pkg/oci/{empty,mutate,static}`; sylabs/oci-tools
//! `pkg/sif/update.go`; go-containerregistry `pkg/v1`.

use super::json::Object;
use crate::digest::{Digest, HashAlgorithm};
use crate::gojson;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a config.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// Annotation that names an entry of an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Go's zero time, which cosign writes for want of another.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Bytes and their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    /// Hashes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: HashAlgorithm::Sha256.digest(&bytes),
            bytes,
        }
    }
}

/// A signature or an attestation that is to be added.
#[derive(Clone)]
pub struct NewLayer {
    /// Media type of the payload.
    pub media_type: &'static str,
    /// What was signed; of an attestation the whole envelope.
    pub payload: Vec<u8>,
    /// Annotations of the layer; the signature is one of them.
    pub annotations: BTreeMap<&'static str, String>,
}

/// A cosign image that is there already.
#[derive(Clone, Copy)]
pub struct Existing<'a> {
    /// Its manifest.
    pub manifest: &'a [u8],
    /// Its config, unless that is missing.
    pub config: Option<&'a [u8]>,
}

/// A cosign image that is to be stored.
pub struct CosignImage {
    /// New payloads, then config and manifest: the order of the originals.
    pub blobs: Vec<Blob>,
    media_type: String,
    artifact_type: String,
}

/// Why a document cannot be extended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest of the signatures is not what it should be.
    #[error("signature manifest: {0}")]
    Manifest(serde_json::Error),
    /// The config of the signatures is not what it should be.
    #[error("signature config: {0}")]
    Config(serde_json::Error),
    /// The index is not what it should be.
    #[error("index: {0}")]
    Index(serde_json::Error),
}

/// Adds layers behind those of `existing`, of which there are several only
/// if an index names more than one image for the same signatures.
///
/// What nobody here knows in manifest and config is kept, except in a config
/// that is missing, which is written anew.
///
/// # Errors
/// [`Error::Manifest`], [`Error::Config`].
pub fn cosign_image(existing: &[Existing<'_>], added: Vec<NewLayer>) -> Result<CosignImage, Error> {
    let mut known: Vec<Box<RawValue>> = Vec::new();
    let mut first = None;
    for image in existing {
        let manifest = Object::parse(image.manifest).map_err(Error::Manifest)?;
        for layer in manifest.list("layers").map_err(Error::Manifest)? {
            if !known.iter().any(|other| other.get() == layer.get()) {
                known.push(layer);
            }
        }
        first = first.or(Some((manifest, image.config)));
    }
    // An image of no signatures has nothing worth keeping.
    let (mut manifest, config) = match first.filter(|_| !known.is_empty()) {
        Some((manifest, config)) => (manifest, config),
        None => (
            Object::parse(EMPTY_MANIFEST).map_err(Error::Manifest)?,
            None,
        ),
    };
    let mut blobs: Vec<Blob> = Vec::new();
    let mut layers = known;
    for layer in added {
        let blob = Blob::new(layer.payload);
        let descriptor = Descriptor {
            media_type: layer.media_type,
            size: blob.bytes.len(),
            digest: &blob.digest.to_string(),
            annotations: layer.annotations,
            artifact_type: None,
        };
        layers.push(raw(&descriptor).map_err(Error::Manifest)?);
        if !blobs.contains(&blob) {
            blobs.push(blob);
        }
    }
    let config = Blob::new(config_of(config, &layers)?);
    let config_type = old_config_type(&manifest).unwrap_or_else(|| CONFIG_TYPE.to_owned());
    let set = |manifest: &mut Object| {
        manifest.set(
            "config",
            &Descriptor {
                media_type: &config_type,
                size: config.bytes.len(),
                digest: &config.digest.to_string(),
                annotations: BTreeMap::new(),
                artifact_type: None,
            },
        )?;
        manifest.set("layers", &layers)?;
        manifest.to_bytes()
    };
    let bytes = set(&mut manifest).map_err(Error::Manifest)?;
    blobs.push(config);
    blobs.push(Blob::new(bytes));
    let named = |member| manifest.text(member).filter(|text| !text.is_empty());
    Ok(CosignImage {
        blobs,
        media_type: named("mediaType").unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
        artifact_type: named("artifactType").unwrap_or(config_type),
    })
}

/// The index with `image` as its only entry of that name, which stands last.
///
/// Other entries and members stay as they are.
///
/// # Errors
/// [`Error::Index`].
///
/// Source: oci-tools, `ReplaceImage`; CE 4.5, `artifactType` of new entries.
pub fn with_image(index: &[u8], ref_name: &str, image: &CosignImage) -> Result<Vec<u8>, Error> {
    let replace = || {
        let mut index = Object::parse(index)?;
        let mut entries = index.list("manifests")?;
        entries.retain(|entry| annotation(entry, REF_NAME).as_deref() != Some(ref_name));
        if let Some(manifest) = image.blobs.last() {
            entries.push(raw(&Descriptor {
                media_type: &image.media_type,
                size: manifest.bytes.len(),
                digest: &manifest.digest.to_string(),
                annotations: BTreeMap::from([(REF_NAME, ref_name.to_owned())]),
                artifact_type: Some(&image.artifact_type),
            })?);
        }
        index.set("manifests", &entries)?;
        index.to_bytes()
    };
    replace().map_err(Error::Index)
}

/// An entry of an index that is written anew.
pub struct NewEntry {
    /// Media type of the document.
    pub media_type: String,
    /// Length of the document in bytes.
    pub size: usize,
    /// Digest of the document.
    pub digest: Digest,
    /// Name of the entry.
    pub ref_name: Option<String>,
    /// Artifact type.
    pub artifact_type: Option<String>,
}

/// An index of these entries, as oci-tools writes it.
///
/// # Errors
/// [`Error::Index`].
pub fn index(entries: &[NewEntry]) -> Result<Vec<u8>, Error> {
    let digests: Vec<_> = entries.iter().map(|e| e.digest.to_string()).collect();
    let manifests = entries.iter().zip(&digests).map(|(entry, digest)| {
        let name = entry.ref_name.iter();
        Descriptor {
            media_type: &entry.media_type,
            size: entry.size,
            digest,
            annotations: name.map(|name| (REF_NAME, name.clone())).collect(),
            artifact_type: entry.artifact_type.as_deref(),
        }
    });
    gojson::to_vec(&NewIndex {
        schema_version: 2,
        media_type: INDEX_TYPE,
        manifests: manifests.collect(),
    })
    .map_err(Error::Index)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewIndex<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Descriptor<'a>>,
}

/// An annotation of a descriptor.
pub(super) fn annotation(descriptor: &RawValue, name: &str) -> Option<String> {
    let descriptor = Object::parse(descriptor.get().as_bytes()).ok()?;
    let annotations = descriptor.get("annotations")?.get().as_bytes();
    Object::parse(annotations).ok()?.text(name)
}

fn old_config_type(manifest: &Object) -> Option<String> {
    let config = Object::parse(manifest.get("config")?.get().as_bytes()).ok()?;
    config.text("mediaType").filter(|text| !text.is_empty())
}

/// One history entry and one diff id per layer; a diff id is the digest, as
/// nothing is compressed.
fn config_of(old: Option<&[u8]>, layers: &[Box<RawValue>]) -> Result<Vec<u8>, Error> {
    let extend = || {
        let mut config = Object::parse(old.unwrap_or(EMPTY_CONFIG))?;
        let mut history = config.list("history")?;
        while history.len() < layers.len() {
            history.push(raw(&BTreeMap::from([("created", ZERO_TIME)]))?);
        }
        config.set("history", &history)?;
        let mut ids = Vec::new();
        for layer in layers {
            let layer = Object::parse(layer.get().as_bytes())?;
            ids.push(layer.text("digest").unwrap_or_default());
        }
        config.set(
            "rootfs",
            &RootFs {
                kind: "layers",
                diff_ids: ids,
            },
        )?;
        config.to_bytes()
    };
    extend().map_err(Error::Config)
}

fn raw(value: &impl Serialize) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_slice(&gojson::to_vec(value)?)
}

/// A descriptor with the members that are written here, in Go's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    size: usize,
    digest: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

/// Members in Go's order; `config` and `layers` are set in their places.
const EMPTY_MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;
const EMPTY_CONFIG: &[u8] = br#"{"architecture":"","created":"0001-01-01T00:00:00Z","history":[],"os":"","rootfs":{},"config":{}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// What SingularityCE 4.5.1 stored in `sif/one-3sig.oci.sif` of the peers.
    const PAYLOADS: [&str; 3] = ["1795342711", "1795342712", "1795342714"];

    fn signed(at: &str, signature: &str) -> NewLayer {
        NewLayer {
            media_type: "application/vnd.dev.cosign.simplesigning.v1+json",
            payload: format!(
                r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9"}},"type":"cosign container image signature"}},"optional":{{"creator":"Singularity-Ce/4.5.1 (Linux amd64) Go/1.27.3","timestamp":{at}}}}}"#
            )
            .into_bytes(),
            annotations: BTreeMap::from([(
                "dev.cosignproject.cosign/signature",
                signature.to_owned(),
            )]),
        }
    }

    const SIGNATURES: [&str; 3] = [
        "MEUCIAnTKecaaRwrj4gitKot7ZJzCt+Pd7/QuVoUUXxm3XWpAiEAiwdqJinM3K0nOxsW/znXT5J4NeoQjDiNQOQDiGjEQPU=",
        "MEUCIQD5a8Vsk8cz1AwxYM80/nFoTtnFu7v4B+6f1j9/Jb1UEAIgdWCikYOCaLAeJiuGYIlZwPlfp7a3Xz30+dfrFi8YaV8=",
        "MEUCIQDmduUjswQkShiD79/VwdWxW11CQuT6ZczOmH7mHH2bfwIgdwr0VSI9eLDKogLexB4pX/uzGTm+FeRgy2AtZHuuRQ0=",
    ];

    fn digests(image: &CosignImage) -> Vec<String> {
        image.blobs.iter().map(|b| b.digest.to_string()).collect()
    }

    #[test]
    fn writes_the_blobs_of_singularity_one_signature_after_the_other() {
        let mut last: Option<CosignImage> = None;
        for (at, signature) in PAYLOADS.into_iter().zip(SIGNATURES) {
            let existing: Vec<_> = last
                .iter()
                .map(|image| {
                    let [.., config, manifest] = &image.blobs[..] else {
                        panic!("two blobs at least");
                    };
                    Existing {
                        manifest: &manifest.bytes,
                        config: Some(&config.bytes),
                    }
                })
                .collect();
            let next = cosign_image(&existing, vec![signed(at, signature)]).unwrap();
            last = Some(next);
        }
        let last = last.unwrap();
        assert_eq!(
            digests(&last),
            [
                "sha256:880cbb62146e348ed700e21126db727f4aafa1e41dfb30bb5c982b8682e01b4f",
                "sha256:a81c4d0676da94e50ff51c05989cdb49d257daacc9c395adbacf949142dfd88f",
                "sha256:47ef66201b16787ce947b1bbc2ffdee671feffaa6b204fb02e1761fbe6ef10d4",
            ]
        );
        let name =
            "_cosign:sha256-d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9.sig";
        let index = br#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":401,"digest":"sha256:d68bfcc50a14a896a9c362120dc0395990f89f44e4d69df24b80136d0a082cf9"}]}"#;
        let first = with_image(
            index,
            name,
            &cosign_image(&[], vec![signed("1", "x")]).unwrap(),
        );
        let index = Blob::new(with_image(&first.unwrap(), name, &last).unwrap());
        assert_eq!(
            index.digest.to_string().get(..19),
            Some("sha256:bf2a8ef37d44")
        );
    }

    #[test]
    fn two_equal_payloads_are_one_blob_and_two_layers() {
        let image = cosign_image(&[], vec![signed("1", "first"), signed("1", "second")]).unwrap();
        assert_eq!(image.blobs.len(), 3);
        let manifest = Object::parse(&image.blobs[2].bytes).unwrap();
        assert_eq!(manifest.list("layers").unwrap().len(), 2);
        assert_eq!(image.blobs[1].bytes.len(), 342);
    }

    #[test]
    fn keeps_what_nobody_here_knows() {
        let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":1,"digest":"sha256:aa","data":"e30="},"layers":[ {"digest":"sha256:bb", "new":[1e999]}],"subject":{"digest":"x"}}"#;
        let config = br#"{"created":"2024-01-01T00:00:00Z","x":{"y":1}}"#;
        let existing = Existing {
            manifest,
            config: Some(config),
        };
        let image = cosign_image(&[existing], vec![signed("1", "s")]).unwrap();
        let text = |at: usize| String::from_utf8(image.blobs[at].bytes.clone()).unwrap();
        assert!(text(2).contains(r#""layers":[{"digest":"sha256:bb", "new":[1e999]},{"#));
        assert!(text(2).ends_with(r#""subject":{"digest":"x"}}"#));
        assert!(!text(2).contains("e30="));
        assert!(text(2).contains(
            r#""config":{"mediaType":"application/vnd.docker.container.image.v1+json","size"#
        ));
        assert!(
            text(1).starts_with(r#"{"created":"2024-01-01T00:00:00Z","x":{"y":1},"history":[{"#)
        );
        assert!(text(1).contains(r#""diff_ids":["sha256:bb","sha256:"#));
        // Another entry for the same signatures: nothing is lost, nothing doubled.
        let other = br#"{"layers":[{"digest":"sha256:bb", "new":[1e999]},{"digest":"sha256:cc"}]}"#;
        let both = [
            existing,
            Existing {
                manifest: other,
                config: None,
            },
        ];
        let image = cosign_image(&both, vec![signed("1", "s")]).unwrap();
        let merged = Object::parse(&image.blobs[2].bytes).unwrap();
        assert_eq!(merged.list("layers").unwrap().len(), 3);
    }

    /// go-containerregistry 0.21.6: an entry has the media type of the manifest, and its artifact
    /// type or else the media type of its config.
    #[test]
    fn the_entry_of_signatures_says_what_their_manifest_says() {
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        for (members, media_type, artifact_type) in [
            ("", MANIFEST_TYPE, "text/c"),
            (
                r#""mediaType":"","artifactType":"","#,
                MANIFEST_TYPE,
                "text/c",
            ),
            (
                r#""mediaType":"DOCKER","artifactType":"text/a","#,
                docker,
                "text/a",
            ),
        ] {
            let members = members.replace("DOCKER", docker);
            let manifest = format!(
                r#"{{{members}"config":{{"mediaType":"text/c"}},"layers":[{{"digest":"sha256:bb"}}]}}"#
            );
            let existing = Existing {
                manifest: manifest.as_bytes(),
                config: None,
            };
            let image = cosign_image(&[existing], vec![signed("1", "s")]).unwrap();
            let index = with_image(b"{}", "name", &image).unwrap();
            let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
            let entry = &index["manifests"][0];
            assert_eq!(entry["mediaType"], media_type, "{members}");
            assert_eq!(entry["artifactType"], artifact_type, "{members}");
        }
    }

    #[test]
    fn an_empty_signature_image_is_written_anew() {
        let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
        let existing = Existing {
            manifest,
            config: None,
        };
        let image = cosign_image(&[existing], vec![signed("1", "s")]).unwrap();
        let fresh = cosign_image(&[], vec![signed("1", "s")]).unwrap();
        assert_eq!(digests(&image), digests(&fresh));
    }
}
