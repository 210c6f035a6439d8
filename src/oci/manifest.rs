//! Reads indices and manifests; nothing of them is trusted.
//!
//! A document is bounded before it is parsed. Members that nobody here knows
//! are skipped, as the originals do. Members that are written twice, or in
//! other letters than the specification has them, are refused: programs do not
//! agree on which of them counts.
//!
//! Source: OCI image specification 1.1, `image-index.md`, `manifest.md`,
//! `descriptor.md`.

use super::build::{INDEX_TYPE, MANIFEST_TYPE, REF_NAME};
use super::json::Object;
use crate::digest::Digest;
use crate::gojson;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Largest document that is parsed, in bytes, as registries bound manifests.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// Docker's media type of an image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's media type of a list of manifests.
pub const DOCKER_INDEX_TYPE: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_DOCUMENT`] bytes.
    #[error("{0} bytes, more than the {MAX_DOCUMENT} that are read")]
    TooLarge(usize),
    /// No JSON, or a member of the wrong type.
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A known name in other letters.
    #[error("member {0:?} stands for another one only in some programs")]
    Ambiguous(String),
    /// A digest that is no digest.
    #[error("malformed digest {0:?}")]
    Digest(String),
    /// A member that must be there.
    #[error("no {0:?}")]
    Missing(&'static str),
    /// It has the members of an image and those of an index: what it is depends on who reads it.
    #[error("both an image and an index: {0:?} has no place in it")]
    Both(&'static str),
    /// The document calls itself something else.
    #[error("media type {found:?} where {expected} is expected")]
    MediaType {
        /// What it says.
        found: String,
        /// What was looked for, in words.
        expected: &'static str,
    },
}

/// What an entry of an index is, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An image manifest.
    Image,
    /// An index of further entries.
    Index,
    /// Anything else.
    Other,
}

impl Kind {
    /// By media type, OCI's or Docker's.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            MANIFEST_TYPE | DOCKER_MANIFEST_TYPE => Self::Image,
            INDEX_TYPE | DOCKER_INDEX_TYPE => Self::Index,
            _ => Self::Other,
        }
    }
}

/// The platform that an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// Operating system, as in `GOOS`.
    pub os: String,
    /// Architecture, as in `GOARCH`.
    pub architecture: String,
    /// Variant of the architecture, such as `v8`; empty if there is none.
    pub variant: String,
}

impl Platform {
    /// Parses `os/architecture[/variant]`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let this = Self {
            os: parts.next()?.to_owned(),
            architecture: parts.next()?.to_owned(),
            variant: parts.next().unwrap_or_default().to_owned(),
        };
        let whole = parts.next().is_none() && !this.os.is_empty() && !this.architecture.is_empty();
        whole.then_some(this)
    }

    /// The platform that an image config names.
    pub fn of_config(json: &[u8]) -> Option<Self> {
        let object = Object::parse(json).ok()?;
        Some(Self {
            os: object.text("os")?,
            architecture: object.text("architecture")?,
            variant: object.text("variant").unwrap_or_default(),
        })
    }

    /// Whether an image for `self` is one that `wanted` asks for; a wish
    /// without variant takes every variant.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_empty() || self.variant == wanted.variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

/// A reference to content: OCI's "descriptor".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDescriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes, as claimed; never negative.
    pub size: u64,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Platform of an image in an index.
    pub platform: Option<Platform>,
    /// Artifact type.
    pub artifact_type: Option<String>,
}

impl ContentDescriptor {
    /// Name of an entry of an index; an empty one is none.
    pub fn ref_name(&self) -> Option<&str> {
        let name = self.annotations.get(REF_NAME);
        name.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What the content is.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.media_type)
    }

    fn parse(value: &RawValue) -> Result<Self, Error> {
        let object = members(
            value.get().as_bytes(),
            &[
                "mediaType",
                "digest",
                "size",
                "annotations",
                "platform",
                "artifactType",
                "urls",
                "data",
            ],
        )?;
        // Not used, but nobody reads a document in which they are something else.
        optional::<Vec<Option<String>>>(&object, "urls")?;
        optional::<String>(&object, "data")?;
        let digest: String = required(&object, "digest")?;
        Ok(Self {
            media_type: optional(&object, "mediaType")?.unwrap_or_default(),
            digest: parse_digest(&digest)?,
            size: required(&object, "size")?,
            annotations: annotations(&object)?,
            platform: match object.get("platform") {
                Some(value) if value.get() != "null" => Some(platform(value)?),
                _ => None,
            },
            artifact_type: optional(&object, "artifactType")?,
        })
    }
}

/// An index: a list of images and of other indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIndex {
    /// What the index calls itself; `None` if it does not say.
    pub media_type: Option<String>,
    /// Entries in their order.
    pub manifests: Vec<ContentDescriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// Parses an index.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let object = document(
            json,
            &["schemaVersion", "mediaType", "manifests", "annotations"],
        )?;
        optional::<i64>(&object, "schemaVersion")?;
        let media_type: Option<String> = optional(&object, "mediaType")?;
        require_kind(media_type.as_deref(), Kind::Index)?;
        forbid(&object, &["config", "layers"])?;
        Ok(Self {
            media_type,
            manifests: descriptors(&object, "manifests")?,
            annotations: annotations(&object)?,
        })
    }
}

/// An image manifest: a config and layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// What the manifest calls itself; `None` if it does not say.
    pub media_type: Option<String>,
    /// The config.
    pub config: ContentDescriptor,
    /// Layers in their order.
    pub layers: Vec<ContentDescriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// What the manifest is about, of a referrer.
    pub subject: Option<ContentDescriptor>,
    /// Artifact type.
    pub artifact_type: Option<String>,
}

impl ImageManifest {
    /// Parses an image manifest.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let object = document(
            json,
            &[
                "schemaVersion",
                "mediaType",
                "config",
                "layers",
                "annotations",
                "subject",
                "artifactType",
            ],
        )?;
        optional::<i64>(&object, "schemaVersion")?;
        let media_type: Option<String> = optional(&object, "mediaType")?;
        require_kind(media_type.as_deref(), Kind::Image)?;
        forbid(&object, &["manifests"])?;
        let config = object.get("config").ok_or(Error::Missing("config"))?;
        Ok(Self {
            media_type,
            config: ContentDescriptor::parse(config)?,
            layers: descriptors(&object, "layers")?,
            annotations: annotations(&object)?,
            subject: match object.get("subject") {
                Some(value) if value.get() != "null" => Some(ContentDescriptor::parse(value)?),
                _ => None,
            },
            artifact_type: optional(&object, "artifactType")?,
        })
    }
}

/// Parses a digest as the format writes it: lower-case digits only.
///
/// # Errors
/// [`Error::Digest`].
pub fn parse_digest(text: &str) -> Result<Digest, Error> {
    Digest::parse(text)
        .ok()
        .filter(|digest| digest.to_string() == text)
        .ok_or_else(|| Error::Digest(text.to_owned()))
}

/// A document that calls itself another kind of document is refused; one
/// that does not say is taken for what its place makes it.
fn require_kind(media_type: Option<&str>, kind: Kind) -> Result<(), Error> {
    let expected = match kind {
        Kind::Index => "an image index",
        Kind::Image | Kind::Other => "an image manifest",
    };
    match media_type {
        Some(found) if !found.is_empty() && Kind::of(found) != kind => Err(Error::MediaType {
            found: found.to_owned(),
            expected,
        }),
        _ => Ok(()),
    }
}

/// Refuses the members of the other kind of document.
///
/// Source: CVE-2021-41190; image specification 1.1, `image-index.md`.
fn forbid(object: &Object, names: &[&'static str]) -> Result<(), Error> {
    let is_there = |name: &&&str| object.get(name).is_some_and(|value| value.get() != "null");
    match names.iter().find(is_there) {
        Some(name) => Err(Error::Both(name)),
        None => Ok(()),
    }
}

fn document(json: &[u8], known: &[&str]) -> Result<Object, Error> {
    if json.len() > MAX_DOCUMENT {
        return Err(Error::TooLarge(json.len()));
    }
    members(json, known)
}

/// Parses an object whose known members stand in the right letters.
fn members(json: &[u8], known: &[&str]) -> Result<Object, Error> {
    let object = Object::parse(json)?;
    let odd = object.names().find(|name| {
        let same = |known: &&&str| gojson::folds_to(name, known);
        known.iter().find(same).is_some_and(|known| known != name)
    });
    match odd {
        Some(name) => Err(Error::Ambiguous(name.to_owned())),
        None => Ok(object),
    }
}

fn optional<T: serde::de::DeserializeOwned>(
    object: &Object,
    name: &str,
) -> Result<Option<T>, Error> {
    let value = object.get(name).map_or("null", RawValue::get);
    Ok(serde_json::from_str(value)?)
}

fn required<T: serde::de::DeserializeOwned>(
    object: &Object,
    name: &'static str,
) -> Result<T, Error> {
    optional(object, name)?.ok_or(Error::Missing(name))
}

fn descriptors(object: &Object, name: &str) -> Result<Vec<ContentDescriptor>, Error> {
    let list = object.list(name)?;
    list.iter()
        .map(|value| ContentDescriptor::parse(value))
        .collect()
}

fn annotations(object: &Object) -> Result<BTreeMap<String, String>, Error> {
    match object.get("annotations") {
        Some(value) if value.get() != "null" => Ok(Object::parse(value.get().as_bytes())?.texts()?),
        _ => Ok(BTreeMap::new()),
    }
}

fn platform(value: &RawValue) -> Result<Platform, Error> {
    let object = members(value.get().as_bytes(), &["os", "architecture", "variant"])?;
    Ok(Platform {
        os: optional(&object, "os")?.unwrap_or_default(),
        architecture: optional(&object, "architecture")?.unwrap_or_default(),
        variant: optional(&object, "variant")?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "1d47aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa879b";

    fn entry(more: &str) -> String {
        format!(r#"{{"mediaType":"{MANIFEST_TYPE}","size":901,"digest":"sha256:{HEX}"{more}}}"#)
    }

    fn index(entry: &str) -> Result<ImageIndex, Error> {
        ImageIndex::parse(format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#).as_bytes())
    }

    #[test]
    fn reads_an_entry_with_name_and_platform() {
        let more = r#","annotations":{"org.opencontainers.image.ref.name":"_cosign:x.sig","n":null},
            "platform":{"os":"linux","architecture":"arm64","variant":"v8"},"other":{"a":[1]}"#;
        let index = index(&entry(more)).unwrap();
        let entry = &index.manifests[0];
        assert_eq!(entry.digest.to_string(), format!("sha256:{HEX}"));
        assert_eq!(entry.size, 901);
        assert_eq!(entry.ref_name(), Some("_cosign:x.sig"));
        assert_eq!(entry.kind(), Kind::Image);
        let platform = entry.platform.as_ref().unwrap();
        assert_eq!(platform.to_string(), "linux/arm64/v8");
        let wanted = |text: &str| platform.satisfies(&Platform::parse(text).unwrap());
        assert!(wanted("linux/arm64") && wanted("linux/arm64/v8"));
        assert!(!wanted("linux/arm64/v7") && !wanted("linux/amd64"));
    }

    #[test]
    fn refuses_what_programs_read_differently() {
        let refused = |text: &str| index(text).unwrap_err().to_string();
        assert!(refused(&entry(r#","size":1"#)).contains("duplicate member \"size\""));
        assert!(refused(&entry(r#","Digest":"x""#)).contains("\"Digest\""));
        // Go takes the long s for an s: the last of these counts there.
        let long_s = index("").and(ImageIndex::parse(
            "{\"manifests\":[],\"manife\u{17f}ts\":[]}".as_bytes(),
        ));
        assert!(matches!(long_s, Err(Error::Ambiguous(_))));
        assert!(refused(&entry("").replace("901", "-1")).contains("invalid value"));
        assert!(refused(&entry("").replace("901", "1e3")).contains("invalid type"));
        assert!(refused(&entry("").replace("901", &"9".repeat(40))).contains("malformed JSON"));
        assert!(refused(&entry("").replace("1d47", "1D47")).contains("malformed digest"));
        // As go-containerregistry 0.21.7, "cannot unmarshal .. into Go struct field": members
        // that are not used, and annotations that are no text.
        for more in [
            r#","annotations":{"a":1}"#,
            r#","annotations":{"a":["b"]}"#,
            r#","urls":["a",1]"#,
            r#","urls":"a""#,
            r#","data":1"#,
        ] {
            assert!(refused(&entry(more)).contains("invalid type"), "{more}");
        }
        assert!(index(&entry(r#","urls":["a",null],"data":null"#)).is_ok());
        for version in ["\"2\"", "[2]", "2.0", "true"] {
            let text = format!(r#"{{"schemaVersion":{version},"manifests":[]}}"#);
            let error = ImageIndex::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("invalid type"), "{error}");
        }
        assert!(refused("{}").contains("no \"digest\""));
        assert!(refused("1").contains("malformed JSON"));
    }

    #[test]
    fn a_document_of_another_kind_is_refused() {
        let manifest = format!(
            r#"{{"mediaType":"{INDEX_TYPE}","config":{},"layers":[]}}"#,
            entry("")
        );
        let error = ImageManifest::parse(manifest.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::MediaType { .. }), "{error}");
        let error = ImageIndex::parse(&vec![b' '; MAX_DOCUMENT + 1]).unwrap_err();
        assert!(matches!(error, Error::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_document_that_could_be_both_kinds_is_neither() {
        for more in [
            format!(r#","config":{}"#, entry("")),
            r#","layers":[]"#.to_owned(),
        ] {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[]{more}}}"#);
            let error = ImageIndex::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Both(_)), "{error}");
        }
        let image = |more: &str| {
            let text = format!(r#"{{"config":{},"layers":[]{more}}}"#, entry(""));
            ImageManifest::parse(text.as_bytes())
        };
        let error = image(r#","manifests":[]"#).unwrap_err();
        assert!(matches!(error, Error::Both("manifests")), "{error}");
        assert!(image(r#","manifests":null"#).is_ok());
    }

    #[test]
    fn a_document_of_exactly_the_limit_is_read() {
        let text = r#"{"schemaVersion":2,"manifests":[]}"#;
        let mut json = text.as_bytes().to_vec();
        json.resize(4 << 20, b' ');
        assert_eq!(ImageIndex::parse(&json).unwrap().manifests, []);
        json.push(b' ');
        let error = ImageIndex::parse(&json).unwrap_err();
        assert!(matches!(error, Error::TooLarge(4_194_305)), "{error}");
    }

    /// As Go's `encoding/json`: `null` leaves a member as if it were not there.
    #[test]
    fn null_is_no_member() {
        let more = r#","annotations":null,"platform":null,"artifactType":null"#;
        let odd = index(&entry(more)).unwrap();
        assert_eq!(odd, index(&entry("")).unwrap());
        assert_eq!(odd.manifests[0].platform, None);
        let text = |more: &str| format!(r#"{{"config":{},"layers":[]{more}}}"#, entry(""));
        let image = |more: &str| ImageManifest::parse(text(more).as_bytes()).unwrap();
        let more = r#","subject":null,"annotations":null,"mediaType":null,"artifactType":null"#;
        assert_eq!(image(more), image(""));
        assert_eq!(image(more).subject, None);
        let about = image(&format!(r#","subject":{}"#, entry("")));
        let subject = about.subject.unwrap().digest;
        assert_eq!(subject.to_string(), format!("sha256:{HEX}"));
    }

    #[test]
    fn a_platform_has_two_parts_or_three() {
        let parts =
            |text: &str| Platform::parse(text).map(|it| [it.os, it.architecture, it.variant]);
        let whole = |parts: [&str; 3]| Some(parts.map(str::to_owned));
        assert_eq!(parts("linux/amd64"), whole(["linux", "amd64", ""]));
        assert_eq!(parts("linux/arm64/v8"), whole(["linux", "arm64", "v8"]));
        for bad in [
            "",
            "linux",
            "/",
            "linux/",
            "/amd64",
            "linux//v8",
            "//v8",
            "linux/arm64/v8/x",
            "/arm64/v8/x",
        ] {
            assert_eq!(parts(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(
            r#"{{"manifests":[],"x":{}{}}}"#,
            "[".repeat(1 << 20),
            "]".repeat(1 << 20)
        );
        // Skipped or refused, but an answer.
        let _ = ImageIndex::parse(deep.as_bytes());
    }
}
