//! Signed metadata of the current format: one JSON object per signature.
//!
//! Source: sylabs/sif `pkg/integrity/metadata.go`; spec/sif.md 3.3, 4.3.

use crate::digest::{self, Digest};
use crate::gojson::Object;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The only version there is.
const VERSION: i64 = 1;

/// What one signature says about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMetadata {
    /// Digest of the header's integrity bytes.
    pub header: Digest,
    /// One entry per signed object, in the order of the text.
    pub objects: Vec<ObjectMetadata>,
}

/// What one signature says about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// Id counted from the smallest id of the group.
    pub relative_id: u32,
    /// Digest of the descriptor's integrity bytes.
    pub descriptor: Digest,
    /// Digest of the data.
    pub object: Digest,
}

/// Why a text is no metadata.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON that is expected.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A version other than 1.
    #[error("unsupported metadata version {0}")]
    Version(i64),
    /// A digest text that cannot be used.
    #[error("{0}")]
    Digest(#[from] digest::Error),
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: i64,
    header: Object<HeaderText>,
    objects: Vec<Object<ObjectText>>,
}

#[derive(Serialize, Deserialize)]
struct HeaderText {
    digest: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectText {
    #[serde(default)]
    relative_id: u32,
    descriptor_digest: Option<String>,
    object_digest: Option<String>,
}

impl ImageMetadata {
    /// Parses the text of a signature.
    ///
    /// Unknown fields and white space around the value are accepted, as by the
    /// originals; a missing or unusable digest and a version other than 1 are not.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let Object(text): Object<Text> = serde_json::from_slice(text)?;
        if text.version != VERSION {
            return Err(Error::Version(text.version));
        }
        let read = |digest: Option<String>| {
            Digest::parse(&digest.ok_or(digest::Error::Malformed)?).map_err(Error::from)
        };
        let objects = text
            .objects
            .into_iter()
            .map(|Object(object)| {
                Ok(ObjectMetadata {
                    relative_id: object.relative_id,
                    descriptor: read(object.descriptor_digest)?,
                    object: read(object.object_digest)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            header: read(text.header.0.digest)?,
            objects,
        })
    }

    /// The compact JSON text, fields in the order of the originals.
    ///
    /// # Errors
    /// None in practice; the serialiser's own.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        let text = |digest: &Digest| Some(digest.to_string());
        let objects = self
            .objects
            .iter()
            .map(|object| {
                Object(ObjectText {
                    relative_id: object.relative_id,
                    descriptor_digest: text(&object.descriptor),
                    object_digest: text(&object.object),
                })
            })
            .collect();
        Ok(serde_json::to_vec(&Text {
            version: VERSION,
            header: Object(HeaderText {
                digest: text(&self.header),
            }),
            objects,
        })?)
    }

    /// The entries by absolute id, given the smallest id of the group now.
    ///
    /// Of several entries for one id the first counts, as in the originals.
    pub fn by_id(&self, lowest: u32) -> HashMap<u32, &ObjectMetadata> {
        let mut entries = HashMap::with_capacity(self.objects.len());
        for object in &self.objects {
            let id = lowest.wrapping_add(object.relative_id);
            entries.entry(id).or_insert(object);
        }
        entries
    }

    /// The absolute ids that the signature covers, sorted, without repetition.
    pub fn ids(&self, lowest: u32) -> Vec<u32> {
        let mut ids: Vec<_> = self
            .objects
            .iter()
            .map(|object| lowest.wrapping_add(object.relative_id))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;

    const HEX: &str = "635fa0a14a8ef0c0351ed3e985799ed1d4f75ce973dea3cc76c99710795cc3f1";

    fn text(version: &str, object: &str) -> String {
        format!(
            "{{\"version\":{version},\"header\":{{\"digest\":\"sha256:{HEX}\"}},\"objects\":[{object}]}}"
        )
    }

    fn object(digest: &str) -> String {
        format!(
            "{{\"relativeId\":1,\"descriptorDigest\":\"sha256:{HEX}\",\"objectDigest\":{digest}}}"
        )
    }

    #[test]
    fn writes_the_known_text_of_one_group() {
        // spec/sif.md section 7: 517 bytes with this digest.
        let digest = |hex: &str| Digest::parse(&format!("sha256:{hex}")).unwrap();
        let metadata = ImageMetadata {
            header: digest(HEX),
            objects: vec![
                ObjectMetadata {
                    relative_id: 0,
                    descriptor: digest(
                        "3634ad01db0dd5482ecf685267b53d6201690438ca27c3d7ea91c971a1f41f92",
                    ),
                    object: digest(
                        "004dfc8da678c309de28b5386a1e9efd57f536b150c40d29b31506aa0fb17ec2",
                    ),
                },
                ObjectMetadata {
                    relative_id: 1,
                    descriptor: digest(
                        "04b5f87c9692a54f80d10fb6af00c779763aeca29d610348854bd97cd8bf66fd",
                    ),
                    object: digest(
                        "9f9c4e5e131934969b4ac8f495691c70b8c6c8e3f489c2c9ab5f1af82bce0604",
                    ),
                },
            ],
        };
        let json = metadata.to_json().unwrap();
        assert_eq!(json.len(), 517);
        assert_eq!(
            HashAlgorithm::Sha256.digest(&json).to_string(),
            "sha256:1cec2ca596f2ad0c50020e601544d3b176925714379e22b87a368d55d9d3aa02"
        );
        assert_eq!(ImageMetadata::parse(&json).unwrap(), metadata);
    }

    #[test]
    fn refuses_other_versions_and_unusable_digests() {
        let good = object(&format!("\"sha256:{HEX}\""));
        assert!(ImageMetadata::parse(text("1", &good).as_bytes()).is_ok());
        let reason = |text: String| {
            ImageMetadata::parse(text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(reason(text("2", &good)), "unsupported metadata version 2");
        assert_eq!(reason(text("1", &object("null"))), "digest malformed");
        assert_eq!(
            reason(text("1", &object("\"md5:00\""))),
            "hash algorithm unsupported"
        );
        assert!(reason(text("1", &good) + "x").contains("trailing"));
        let without = "{\"relativeId\":1,\"objectDigest\":\"sha256:00\"}";
        assert_eq!(reason(text("1", without)), "digest malformed");
    }

    #[test]
    fn refuses_lists_in_the_place_of_structures() {
        // Go: cannot unmarshal array into Go value (of type imageMetadata, headerMetadata,
        // objectMetadata).
        let digest = format!("\"sha256:{HEX}\"");
        let good = object(&digest);
        let header = format!("{{\"digest\":{digest}}}");
        for bad in [
            format!("[1,{header},[{good}]]"),
            text("1", &format!("[1,{digest},{digest}]")),
            text("1", &good).replace(&header, &format!("[{digest}]")),
        ] {
            assert!(ImageMetadata::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(ImageMetadata::parse(text("1", &good).as_bytes()).is_ok());
    }

    #[test]
    fn accepts_space_around_and_unknown_fields_and_no_relative_id() {
        let text = format!(
            " {{\"version\":1,\"more\":[],\"header\":{{\"digest\":\"sha256:{HEX}\"}},\
             \"objects\":[{{\"descriptorDigest\":\"sha256:{HEX}\",\"objectDigest\":\"sha256:{HEX}\"}}]}}\n"
        );
        let metadata = ImageMetadata::parse(text.as_bytes()).unwrap();
        assert_eq!(metadata.objects[0].relative_id, 0);
    }

    #[test]
    fn absolute_ids_wrap_like_the_originals() {
        let good = object(&format!("\"sha256:{HEX}\""));
        let metadata = ImageMetadata::parse(text("1", &good).as_bytes()).unwrap();
        assert_eq!(metadata.ids(u32::MAX), [0]);
        assert!(metadata.by_id(u32::MAX).contains_key(&0));
    }
}
