//! Sigstore bundles: a DSSE envelope and what helps to verify it, in one file.
//!
//! Only what a public key can verify is judged: the envelope. Entries of
//! transparency logs and timestamps must have the right form and are not
//! looked at further; a bundle that was made with a certificate is refused.
//!
//! Source: sigstore/protobuf-specs `sigstore_bundle.proto`; sigstore-go
//! `pkg/bundle`, `pkg/verify`; spec/oci-sif-cosign.md 6.2.

use super::dsse;
use crate::gojson::Object;
use crate::key::pem::{PublicKey, Scheme};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::Cell;

/// How the media types of bundles begin, of every version.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// Version 0.3 in both spellings: what cosign reads for images.
const VERSION_3: [&str; 2] = [
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
];

/// Most log entries, and most timestamps, of one bundle.
const MAX_ENTRIES: usize = 32;

/// Why a bundle is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bundle in JSON, or one with members that nobody knows.
    #[error("malformed bundle: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version, or no bundle.
    #[error("the bundle's media type {0:?} is not one of version 0.3")]
    MediaType(String),
    /// A signature over a file, not over a statement; or nothing, or both.
    #[error("bundle does not contain a DSSE envelope")]
    Content,
    /// Nothing that says who made it, or two things.
    #[error("bundle must have one kind of verification material, a public key or a certificate")]
    Material,
    /// Made by a certificate, for which no key vouches.
    #[error("the bundle was made with a certificate, not with a key")]
    Certificate,
    /// More entries of one kind than are looked at.
    #[error("{0}, more than the {MAX_ENTRIES} that are read")]
    TooMany(&'static str),
    /// A log entry without a part that it must have.
    #[error("transparency log entry without {0}")]
    Entry(&'static str),
    /// An envelope with no signature, or with several.
    #[error("exactly one signature is required")]
    SignatureCount,
    /// The envelope names a key that none of the given ones is.
    #[error("the envelope names the key {0:?}")]
    KeyId(String),
    /// The envelope is malformed, or no key made it.
    #[error(transparent)]
    Envelope(#[from] dsse::Error),
}

/// A bundle whose form is right; nothing is verified.
pub struct Bundle<'b> {
    envelope: &'b RawValue,
}

/// What one of the keys signed. Only [`Bundle::open`] makes one.
pub struct Opened<'k> {
    payload: Vec<u8>,
    key: &'k PublicKey,
    scheme: Scheme,
    signature: Vec<u8>,
}

impl<'k> Opened<'k> {
    /// The payload, of the type that was asked for.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that made the signature.
    pub fn key(&self) -> &'k PublicKey {
        self.key
    }

    /// How it was made.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl<'b> Bundle<'b> {
    /// Reads a bundle of version 0.3 with a DSSE envelope and a public key.
    ///
    /// # Errors
    /// As [`Error`] says, but for those of the envelope.
    pub fn parse(json: &'b [u8]) -> Result<Self, Error> {
        let Object(document): Object<Document<'b>> = serde_json::from_slice(json)?;
        let media_type = document.media_type.unwrap_or_default();
        if !VERSION_3.contains(&&*media_type) {
            return Err(Error::MediaType(media_type.into_owned()));
        }
        let Object(material) = document.verification_material.ok_or(Error::Material)?;
        let by_certificate = material.certificate.is_some();
        let by_chain = material.x509_certificate_chain.is_some();
        let kinds = [by_certificate, by_chain, material.public_key.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err(Error::Material);
        }
        material.require_entries()?;
        let (Some(envelope), None) = (document.dsse_envelope, document.message_signature) else {
            return Err(Error::Content);
        };
        serde_json::from_str::<Object<StrictEnvelope>>(envelope.get())?;
        if by_certificate || by_chain {
            return Err(Error::Certificate);
        }
        Ok(Self { envelope })
    }

    /// The DSSE envelope as it stands in the bundle.
    pub fn envelope(&self) -> &'b str {
        self.envelope.get()
    }

    /// Verifies the envelope by one of the keys, in any of the ways in which
    /// cosign makes signatures.
    ///
    /// # Errors
    /// [`Error::SignatureCount`], [`Error::KeyId`], [`Error::Envelope`].
    pub fn open<'k>(&self, payload_type: &str, keys: &'k [PublicKey]) -> Result<Opened<'k>, Error> {
        let envelope = self.envelope.get().as_bytes();
        let names = dsse::entries(envelope)?;
        let [name] = names.as_slice() else {
            return Err(Error::SignatureCount);
        };
        let named = |key: &&PublicKey| name.is_empty() || key.ssh_fingerprint() == *name;
        if !keys.iter().any(|key| named(&key)) {
            return Err(Error::KeyId(name.clone()));
        }
        let by = Cell::new(None);
        let tries = dsse::Tries::default();
        let accepts = |message: &[u8], signature: &[u8]| {
            let found = keys.iter().filter(named).find_map(|key| {
                let scheme = key.verify_cosign(message, signature)?;
                Some((key, scheme, signature.to_vec()))
            });
            let holds = found.is_some();
            // It is the only signature: nothing is overwritten.
            by.set(found);
            holds
        };
        let payload = dsse::open_from_cosign(envelope, payload_type, &tries, accepts)?;
        let (key, scheme, signature) = by.take().ok_or(dsse::Error::Threshold)?;
        Ok(Opened {
            payload,
            key,
            scheme,
            signature,
        })
    }
}

// Members that nobody knows and members that stand twice are refused, as
// protobuf's JSON does; `null` is as good as a missing one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<'b> {
    #[serde(borrow)]
    media_type: Option<Cow<'b, str>>,
    verification_material: Option<Object<Material>>,
    #[serde(borrow)]
    dsse_envelope: Option<&'b RawValue>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Option<Object<Hint>>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    tlog_entries: Option<Vec<Object<Entry>>>,
    timestamp_verification_data: Option<Object<Timestamps>>,
}

impl Material {
    fn require_entries(&self) -> Result<(), Error> {
        let entries = self.tlog_entries.as_deref().unwrap_or_default();
        let timestamps = self.timestamp_verification_data.as_ref();
        let timestamps = timestamps.and_then(|data| data.rfc3161_timestamps.as_deref());
        if entries.len() > MAX_ENTRIES {
            return Err(Error::TooMany("transparency log entries"));
        }
        if timestamps.is_some_and(|list| list.len() > MAX_ENTRIES) {
            return Err(Error::TooMany("timestamps"));
        }
        entries.iter().try_for_each(|entry| entry.require_parts())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    #[serde(rename = "hint")]
    _hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(rename = "logIndex")]
    _log_index: Option<IgnoredAny>,
    log_id: Option<Object<LogId>>,
    kind_version: Option<Object<KindVersion>>,
    #[serde(rename = "integratedTime")]
    _integrated_time: Option<IgnoredAny>,
    #[serde(rename = "inclusionPromise")]
    _inclusion_promise: Option<Object<Promise>>,
    inclusion_proof: Option<Object<Proof>>,
    canonicalized_body: Option<String>,
}

impl Entry {
    fn require_parts(&self) -> Result<(), Error> {
        let checkpoint = self
            .inclusion_proof
            .as_ref()
            .and_then(|proof| proof.checkpoint.as_ref()?.envelope.as_ref());
        let parts = [
            ("an inclusion proof with checkpoint", checkpoint),
            ("a body", self.canonicalized_body.as_ref()),
            (
                "the log's id",
                self.log_id.as_ref().and_then(|id| id.key_id.as_ref()),
            ),
            (
                "a kind",
                self.kind_version.as_ref().and_then(|kv| kv.kind.as_ref()),
            ),
        ];
        match parts
            .iter()
            .find(|(_, part)| part.is_none_or(String::is_empty))
        {
            Some((what, _)) => Err(Error::Entry(what)),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogId {
    key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindVersion {
    kind: Option<String>,
    #[serde(rename = "version")]
    _version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promise {
    #[serde(rename = "signedEntryTimestamp")]
    _signed_entry_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    #[serde(rename = "logIndex")]
    _log_index: Option<IgnoredAny>,
    #[serde(rename = "rootHash")]
    _root_hash: Option<String>,
    #[serde(rename = "treeSize")]
    _tree_size: Option<IgnoredAny>,
    #[serde(rename = "hashes")]
    _hashes: Option<IgnoredAny>,
    checkpoint: Option<Object<Checkpoint>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    envelope: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timestamps {
    #[serde(rename = "rfc3161Timestamps")]
    rfc3161_timestamps: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrictEnvelope {
    #[serde(rename = "payload")]
    _payload: Option<IgnoredAny>,
    #[serde(rename = "payloadType")]
    _payload_type: Option<IgnoredAny>,
    #[serde(rename = "signatures")]
    _signatures: Option<Vec<Object<StrictSignature>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictSignature {
    #[serde(rename = "sig")]
    _sig: Option<IgnoredAny>,
    #[serde(rename = "keyid")]
    _keyid: Option<IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    const TYPE: &str = "application/vnd.in-toto+json";

    fn key() -> crate::key::pem::PrivateKey {
        let pem = std::fs::read("fixtures/peers/keys/p256.key.pem").unwrap();
        crate::key::pem::PrivateKey::from_pem(&pem, None).unwrap()
    }

    fn bundle(envelope: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"{}","verificationMaterial":{{"publicKey":{{"hint":"x"}}{more}}},"dsseEnvelope":{envelope}}}"#,
            VERSION_3[0]
        )
    }

    #[test]
    fn opens_by_the_key_that_made_it_and_by_no_other_form() {
        let key = key();
        let sealed = dsse::seal_for_cosign(TYPE, b"{}", &key).unwrap();
        let sealed = String::from_utf8(sealed).unwrap();
        let public = [key.public().clone()];
        let text = bundle(&sealed, "");
        let opened = Bundle::parse(text.as_bytes()).unwrap();
        assert_eq!(opened.envelope(), sealed);
        let opened = opened.open(TYPE, &public).unwrap();
        assert_eq!(
            dsse::signature_values(sealed.as_bytes()).unwrap(),
            [opened.signature()]
        );
        let form = "\"sig\":\"";
        let at = sealed.find(form).unwrap() + form.len();
        assert!(sealed[at..].starts_with(&BASE64_STANDARD.encode(opened.signature())));
        assert_eq!(opened.payload(), b"{}");
        assert_eq!(opened.scheme(), Scheme::Sha256);
        let refused = |text: &str| {
            let bundle = Bundle::parse(text.as_bytes());
            let opened = bundle.and_then(|bundle| bundle.open(TYPE, &public).map(drop));
            opened.unwrap_err().to_string()
        };
        assert!(refused(&text.replace("v0.3", "v0.2")).contains("not one of version 0.3"));
        assert!(refused(&text.replace("\"hint\"", "\"hints\"")).contains("unknown field"));
        assert!(
            refused(&text.replace("\"publicKey\"", "\"certificate\""))
                .contains("with a certificate")
        );
        assert!(refused(&text.replace(TYPE, "text/plain")).contains("payload type"));
        assert!(
            refused(&text.replace("dsseEnvelope", "messageSignature")).contains("DSSE envelope")
        );
        assert!(
            refused(&text.replace("\"publicKey\"", "\"certificate\":{},\"publicKey\""))
                .contains("one kind")
        );
        assert!(
            refused(&text.replace("{\"sig\"", "{\"keyid\":\"abc\",\"sig\""))
                .contains("names the key \"abc\"")
        );
        let twice = sealed.replace("\"signatures\":[", "\"signatures\":[{\"sig\":\"\"},");
        assert!(refused(&bundle(&twice, "")).contains("exactly one"));
        assert!(refused(&text.replace("{\"hint\":\"x\"}", "[\"x\"]")).contains("an object"));
        let entry = r#","tlogEntries":[{"logId":{"keyId":"x"},"kindVersion":{"kind":"dsse","version":"0.0.1"},"canonicalizedBody":"x"}]"#;
        assert!(refused(&bundle(&sealed, entry)).contains("inclusion proof"));
        let many = format!(",\"tlogEntries\":[{}]", vec!["{}"; 33].join(","));
        assert!(refused(&bundle(&sealed, &many)).contains("more than the 32"));
        let whole = r#"{"logId":{"keyId":"x"},"kindVersion":{"kind":"dsse"},"canonicalizedBody":"x","inclusionProof":{"checkpoint":{"envelope":"x"}}}"#;
        let lists = |entries, stamps| {
            let entries = vec![whole; entries].join(",");
            let stamps = vec!["{}"; stamps].join(",");
            let more = format!(
                r#","tlogEntries":[{entries}],"timestampVerificationData":{{"rfc3161Timestamps":[{stamps}]}}"#
            );
            bundle(&sealed, &more)
        };
        for (entries, stamps) in [(0, 0), (32, 0), (0, 32), (1, 31), (32, 32)] {
            assert!(Bundle::parse(lists(entries, stamps).as_bytes()).is_ok());
        }
        assert!(refused(&lists(33, 0)).contains("transparency log entries"));
        assert!(refused(&lists(0, 33)).contains("timestamps"));
        assert!(
            refused(&text.replace("\"payload\":", "\"payload\":1,\"payload\":"))
                .contains("duplicate")
        );
        assert!(refused("{}").contains("media type"));
        assert!(refused("").contains("malformed"));
    }
}
