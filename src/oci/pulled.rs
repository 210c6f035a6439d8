//! What a pulled image becomes: its documents with other layers, and the index of its file.
//!
//! Source: SingularityCE `internal/pkg/ocisif`, `imagewriter.go`; sylabs/oci-tools
//! `pkg/mutate`; spec/oci-sif-cosign.md 1.3 and 5.4.

use super::build::{Blob, INDEX_TYPE, MANIFEST_TYPE, REF_NAME};
use super::json::Object;
use super::manifest::{ContentDescriptor, ImageIndex, ImageManifest, Kind, Platform};
use crate::digest::Digest;
use crate::gojson;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Media type of a layer as squashfs.
pub const SQUASHFS_LAYER: &str = "application/vnd.sylabs.image.layer.v1.squashfs";
/// Media type of a writable overlay.
pub const EXT3_LAYER: &str = "application/vnd.sylabs.image.layer.v1.ext3";

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// squashfs, which SingularityCE runs.
    Squashfs,
    /// A writable overlay.
    Ext3,
    /// tar, as it is.
    Tar,
    /// tar in gzip.
    TarGzip,
    /// tar in zstd.
    TarZstd,
    /// Something that is only kept.
    Other,
}

impl LayerKind {
    /// The kind of layer that a media type names.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            SQUASHFS_LAYER => Self::Squashfs,
            EXT3_LAYER => Self::Ext3,
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Self::Tar,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Self::TarGzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::TarZstd,
            _ => Self::Other,
        }
    }

    /// Whether it can be converted to squashfs.
    pub fn is_tar(self) -> bool {
        matches!(self, Self::Tar | Self::TarGzip | Self::TarZstd)
    }
}

/// The image of an index that is for a platform: that very one before others that would do.
pub fn choose<'i>(index: &'i ImageIndex, wanted: &Platform) -> Option<&'i ContentDescriptor> {
    let images = || {
        index
            .manifests
            .iter()
            .filter(|entry| entry.kind() == Kind::Image)
    };
    let fits = |entry: &&ContentDescriptor, exact: bool| {
        entry.platform.as_ref().is_some_and(|found| match exact {
            true => found == wanted,
            false => found.satisfies(wanted),
        })
    };
    images()
        .find(|entry| fits(entry, true))
        .or_else(|| images().find(|entry| fits(entry, false)))
}

/// A layer of a converted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLayer {
    /// Its digest, which is its diff id as well: squashfs is not compressed as a whole.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// Config and manifest of an image whose layers were converted, in this order.
///
/// Other members stay. The history is one entry, so that nobody looks for the old layers; its
/// time is that of the image, so that a second pull gives the same file.
///
/// # Errors
/// A document is no JSON object.
pub fn converted(
    manifest: &[u8],
    config: &[u8],
    layers: &[NewLayer],
    source: &Digest,
    creator: &str,
) -> Result<[Blob; 2], serde_json::Error> {
    let mut config = Object::parse(config)?;
    let hex = source.to_string().split(':').skip(1).collect::<String>();
    let mut entry = BTreeMap::new();
    if let Some(created) = config.text("created") {
        entry.insert("created", created);
    }
    entry.insert("created_by", creator.to_owned());
    entry.insert("comment", format!("oci-sif created from {hex}"));
    config.set("history", &[entry])?;
    config.set(
        "rootfs",
        &RootFs {
            kind: "layers",
            diff_ids: layers
                .iter()
                .map(|layer| layer.digest.to_string())
                .collect(),
        },
    )?;
    let config = Blob::new(config.to_bytes()?);
    let mut manifest = Object::parse(manifest)?;
    let old = manifest
        .get("config")
        .map(|old| Object::parse(old.get().as_bytes()));
    let config_type = old.transpose()?.and_then(|old| old.text("mediaType"));
    let descriptor = |media_type: &str, digest: &Digest, size: u64| Entry {
        media_type: media_type.to_owned(),
        size,
        digest: digest.to_string(),
        annotations: BTreeMap::new(),
        artifact_type: None,
    };
    manifest.set(
        "config",
        &descriptor(
            &config_type.unwrap_or_default(),
            &config.digest,
            u64::try_from(config.bytes.len()).unwrap_or(u64::MAX),
        ),
    )?;
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(SQUASHFS_LAYER, &layer.digest, layer.size))
        .collect();
    manifest.set("layers", &layers)?;
    let manifest = Blob::new(manifest.to_bytes()?);
    Ok([config, manifest])
}

/// A layer that was turned into tar in gzip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarLayer {
    /// Its digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Digest of the tar alone.
    pub diff_id: Digest,
}

/// Why documents cannot be made for other layers.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// A document is no JSON object.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The lists of layers are not of one length.
    #[error("config names {diff_ids} layers, manifest {layers}")]
    Layers {
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
}

/// Config and manifest of an image some of whose layers were turned into tar, in this order.
///
/// All else stays as it is, the history too. The layers have the media type of the family that the
/// manifest is of: Docker's or OCI's.
///
/// # Errors
/// [`Unfit`].
pub fn turned(
    manifest: &[u8],
    config: &[u8],
    layers: &[Option<TarLayer>],
) -> Result<[Blob; 2], Unfit> {
    let mut config = Object::parse(config)?;
    let mut rootfs = match config.get("rootfs") {
        Some(rootfs) => Object::parse(rootfs.get().as_bytes())?,
        None => Object::parse(b"{}")?,
    };
    let mut diff_ids = rootfs.list("diff_ids")?;
    let mut manifest = Object::parse(manifest)?;
    let mut list = manifest.list("layers")?;
    if diff_ids.len() != layers.len() || list.len() != layers.len() {
        return Err(Unfit::Layers {
            diff_ids: diff_ids.len(),
            layers: list.len(),
        });
    }
    let is_docker = manifest
        .text("mediaType")
        .is_some_and(|named| named.starts_with("application/vnd.docker."));
    let media_type = match is_docker {
        true => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        false => "application/vnd.oci.image.layer.v1.tar+gzip",
    };
    for ((id, entry), layer) in diff_ids.iter_mut().zip(&mut list).zip(layers) {
        let Some(layer) = layer else { continue };
        *id = serde_json::value::to_raw_value(&layer.diff_id.to_string())?;
        let mut new = Object::parse(entry.get().as_bytes())?;
        new.set("mediaType", &media_type)?;
        new.set("size", &layer.size)?;
        new.set("digest", &layer.digest.to_string())?;
        *entry = serde_json::from_slice(&new.to_bytes()?)?;
    }
    rootfs.set("diff_ids", &diff_ids)?;
    config.set("rootfs", &rootfs)?;
    let config = Blob::new(config.to_bytes()?);
    let mut named = match manifest.get("config") {
        Some(named) => Object::parse(named.get().as_bytes())?,
        None => Object::parse(b"{}")?,
    };
    named.set("size", &config.bytes.len())?;
    named.set("digest", &config.digest.to_string())?;
    manifest.set("config", &named)?;
    manifest.set("layers", &list)?;
    let manifest = Blob::new(manifest.to_bytes()?);
    Ok([config, manifest])
}

/// An index some of whose documents are others now; nothing if none of them is.
///
/// # Errors
/// It is no index.
pub fn turned_index(
    index: &[u8],
    documents: &HashMap<Digest, Blob>,
) -> Result<Option<Blob>, serde_json::Error> {
    let mut index = Object::parse(index)?;
    let mut list = index.list("manifests")?;
    let mut is_other = false;
    for entry in &mut list {
        let mut new = Object::parse(entry.get().as_bytes())?;
        let digest = new
            .text("digest")
            .and_then(|text| Digest::parse(&text).ok());
        let Some(document) = digest.and_then(|digest| documents.get(&digest)) else {
            continue;
        };
        new.set("size", &document.bytes.len())?;
        new.set("digest", &document.digest.to_string())?;
        *entry = serde_json::from_slice(&new.to_bytes()?)?;
        is_other = true;
    }
    index.set("manifests", &list)?;
    is_other
        .then(|| Ok(Blob::new(index.to_bytes()?)))
        .transpose()
}

/// An entry of the RootIndex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// Media type of the manifest or index.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Name; none for the image itself.
    pub ref_name: Option<String>,
    /// Artifact type of a manifest, or media type of its config.
    pub artifact_type: Option<String>,
}

/// A manifest that keeps an index in a file without its images, and the config of it.
///
/// # Errors
/// None of this can fail in memory.
pub fn source_index(
    media_type: &str,
    digest: &Digest,
    size: u64,
) -> Result<[Blob; 2], serde_json::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        schema_version: u8,
        media_type: &'static str,
        artifact_type: &'static str,
        config: Entry,
        layers: [Entry; 1],
    }
    let config = Blob::new(b"{}".to_vec());
    let entry = |media_type: &str, digest: &Digest, size| Entry {
        media_type: media_type.to_owned(),
        size,
        digest: digest.to_string(),
        annotations: BTreeMap::new(),
        artifact_type: None,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE,
        artifact_type: SOURCE_INDEX,
        config: entry("application/vnd.oci.empty.v1+json", &config.digest, 2),
        layers: [entry(media_type, digest, size)],
    };
    let manifest = Blob::new(gojson::to_vec(&manifest)?);
    Ok([config, manifest])
}

/// Artifact type of the manifest that keeps an index.
pub const SOURCE_INDEX: &str = "application/vnd.sigsif.source-index.v1";

/// The RootIndex with these entries.
///
/// # Errors
/// None of this can fail in memory.
pub fn root_index(entries: &[RootEntry]) -> Result<Blob, serde_json::Error> {
    let manifests = entries.iter().map(|entry| Entry {
        media_type: entry.media_type.clone(),
        size: entry.size,
        digest: entry.digest.to_string(),
        annotations: entry
            .ref_name
            .iter()
            .map(|name| (REF_NAME, name.clone()))
            .collect(),
        artifact_type: entry.artifact_type.clone(),
    });
    let index = Index {
        schema_version: 2,
        media_type: INDEX_TYPE,
        manifests: manifests.collect(),
    };
    Ok(Blob::new(gojson::to_vec(&index)?))
}

/// The list of referrers with one more; nothing if it is there.
///
/// Other entries and members stay as they are.
///
/// # Errors
/// The old list is no index.
///
/// Source: distribution specification 1.1, "Pushing Manifests with Subject".
pub fn with_referrer(
    old: Option<&[u8]>,
    entry: &ContentDescriptor,
    manifest: &ImageManifest,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX_TYPE}","manifests":[]}}"#);
    let mut index = Object::parse(old.unwrap_or(empty.as_bytes()))?;
    let mut list = index.list("manifests")?;
    let digest = entry.digest.to_string();
    for known in &list {
        let known = Object::parse(known.get().as_bytes())?;
        if known.text("digest").as_deref() == Some(&digest) {
            return Ok(None);
        }
    }
    let media_type = manifest.media_type.clone();
    let artifact_type = manifest.artifact_type.clone();
    let new = Referrer {
        media_type: media_type.unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
        size: entry.size,
        digest,
        annotations: manifest.annotations.clone(),
        artifact_type: artifact_type.or_else(|| Some(manifest.config.media_type.clone())),
    };
    list.push(serde_json::from_slice(&gojson::to_vec(&new)?)?);
    index.set("manifests", &list)?;
    index.to_bytes().map(Some)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    media_type: String,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

/// Members in Go's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;

    fn layer() -> NewLayer {
        NewLayer {
            digest: HashAlgorithm::Sha256.digest(b"new"),
            size: 4096,
        }
    }

    #[test]
    fn only_what_is_about_layers_changes() {
        let manifest = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:aa","size":1},"layers":[1,2],"annotations":{"k":"v"}}"#;
        let config = br#"{"created":"2024-05-06T07:08:09Z","architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:bb"]},"history":[{},{}]}"#;
        let source = HashAlgorithm::Sha256.digest(b"source");
        let [config, manifest] =
            converted(manifest, config, &[layer()], &source, "sigsif").unwrap();
        let parsed = ImageManifest::parse(&manifest.bytes).unwrap();
        assert_eq!(parsed.config.digest, config.digest);
        assert_eq!(parsed.config.size, config.bytes.len() as u64);
        assert_eq!(parsed.layers.len(), 1);
        assert_eq!(parsed.layers[0].media_type, SQUASHFS_LAYER);
        assert_eq!(parsed.annotations["k"], "v");
        let config: serde_json::Value = serde_json::from_slice(&config.bytes).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "sh");
        assert_eq!(config["history"].as_array().unwrap().len(), 1);
        assert_eq!(config["history"][0]["created"], "2024-05-06T07:08:09Z");
        assert_eq!(config["rootfs"]["diff_ids"][0], layer().digest.to_string());
    }

    #[test]
    fn the_index_is_that_of_singularity() {
        let image = RootEntry {
            media_type: super::super::build::MANIFEST_TYPE.to_owned(),
            digest: HashAlgorithm::Sha256.digest(b"x"),
            size: 9,
            ref_name: None,
            artifact_type: Some("t".to_owned()),
        };
        let named = RootEntry {
            ref_name: Some("_cosign:x.sig".to_owned()),
            artifact_type: None,
            ..image.clone()
        };
        let index = root_index(&[image, named]).unwrap();
        let text = String::from_utf8(index.bytes).unwrap();
        let digest = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        let head = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":9,"digest":""#;
        assert!(text.starts_with(&format!("{head}{digest}\",\"artifactType\":\"t\"}},")));
        assert!(text.ends_with(
            r#"","annotations":{"org.opencontainers.image.ref.name":"_cosign:x.sig"}}]}"#
        ));
    }

    #[test]
    fn a_list_of_referrers_grows_and_keeps_what_it_has() {
        let manifest = br#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"annotations":{"k":"v"},"artifactType":"t"}"#;
        let parsed = ImageManifest::parse(manifest).unwrap();
        let index = |digest: &str| {
            let text = format!(
                r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","size":1,"digest":"sha256:{}"}}]}}"#,
                digest.repeat(64)
            );
            ImageIndex::parse(text.as_bytes())
                .unwrap()
                .manifests
                .remove(0)
        };
        let first = with_referrer(None, &index("a"), &parsed).unwrap().unwrap();
        assert_eq!(
            with_referrer(Some(&first), &index("a"), &parsed).unwrap(),
            None
        );
        let old = br#"{"manifests":[{"digest":"sha256:x", "foreign": [1e999]}],"more":1}"#;
        let second = with_referrer(Some(old), &index("b"), &parsed)
            .unwrap()
            .unwrap();
        let text = String::from_utf8(second).unwrap();
        assert!(
            text.contains(r#"{"digest":"sha256:x", "foreign": [1e999]},{"mediaType""#),
            "{text}"
        );
        assert!(
            text.ends_with(r#""annotations":{"k":"v"},"artifactType":"t"}],"more":1}"#),
            "{text}"
        );
    }

    /// Image specification 1.1, `media-types.md`; Docker's schema 2; SingularityCE,
    /// `pkg/ocibundle`.
    #[test]
    fn a_layer_is_what_its_media_type_says() {
        for (media_type, kind, is_tar) in [
            (
                "application/vnd.sylabs.image.layer.v1.squashfs",
                LayerKind::Squashfs,
                false,
            ),
            (
                "application/vnd.sylabs.image.layer.v1.ext3",
                LayerKind::Ext3,
                false,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar",
                LayerKind::Tar,
                true,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar",
                LayerKind::Tar,
                true,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                LayerKind::TarGzip,
                true,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                LayerKind::TarGzip,
                true,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                LayerKind::TarZstd,
                true,
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                LayerKind::TarZstd,
                true,
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+xz",
                LayerKind::Other,
                false,
            ),
            ("", LayerKind::Other, false),
        ] {
            let found = LayerKind::of(media_type);
            assert_eq!((found, found.is_tar()), (kind, is_tar), "{media_type}");
        }
    }

    #[test]
    fn documents_that_do_not_count_alike_are_not_turned() {
        let config = |count: usize| {
            let ids = vec!["\"sha256:aa\""; count].join(",");
            format!(r#"{{"rootfs":{{"diff_ids":[{ids}]}}}}"#)
        };
        let manifest = |count: usize| {
            let layers = vec![r#"{"digest":"sha256:bb"}"#; count].join(",");
            format!(r#"{{"config":{{}},"layers":[{layers}]}}"#)
        };
        let turn = |ids: usize, layers: usize| {
            turned(
                manifest(layers).as_bytes(),
                config(ids).as_bytes(),
                &[None, None],
            )
        };
        assert!(turn(2, 2).is_ok());
        for (ids, layers) in [(1, 2), (2, 1), (1, 1), (3, 3)] {
            let told = turn(ids, layers).unwrap_err().to_string();
            let wanted = format!("config names {ids} layers, manifest {layers}");
            assert_eq!(told, wanted);
        }
    }

    #[test]
    fn the_very_platform_comes_before_one_that_would_do() {
        let entry = |digest: &str, platform: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{}","platform":{platform}}}"#,
                digest.repeat(64)
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
            entry("a", r#"{"os":"linux","architecture":"arm","variant":"v6"}"#),
            entry("b", r#"{"os":"linux","architecture":"arm"}"#),
            entry(
                "c",
                r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#
            ),
        );
        let index = ImageIndex::parse(text.as_bytes()).unwrap();
        let chosen = |text: &str| {
            let wanted = Platform::parse(text).unwrap();
            let entry = choose(&index, &wanted)?;
            entry.digest.to_string().chars().nth(7)
        };
        assert_eq!(chosen("linux/arm"), Some('b'));
        assert_eq!(chosen("linux/arm/v6"), Some('a'));
        assert_eq!(chosen("linux/arm64"), Some('c'));
        assert_eq!(chosen("linux/amd64"), None);
    }
}
