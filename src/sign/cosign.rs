//! Signatures and attestations in the manner of cosign, stored in an OCI-SIF.

use crate::digest::Digest;
use crate::key::pem::{self, PrivateKey};
use crate::oci::build::NewLayer;
use crate::oci::manifest::ContentDescriptor;
use crate::oci::ocisif::{self, OciSif, cosign_name};
use crate::oci::select::{self, Choice};
use crate::oci::update::{self, Addition, Update};
use crate::payload::intoto::{self, PredicateType};
use crate::payload::simple::{self, SimpleSigning};
use crate::signer::dsse;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;

/// Media type of a signed payload.
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Media type of an envelope.
const ENVELOPE_TYPE: &str = "application/vnd.dsse.envelope.v1+json";
/// Annotation with the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Annotation with the type of an attestation.
const PREDICATE_TYPE: &str = "predicateType";

/// Largest blob beside the image that is read, in bytes, as in cosign.
const MAX_ATTESTATION: usize = 128 << 20;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be used.
    #[error(transparent)]
    Oci(#[from] ocisif::Error),
    /// The change cannot be planned.
    #[error(transparent)]
    Update(#[from] update::Error),
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] pem::Error),
    /// The envelope could not be made.
    #[error(transparent)]
    Envelope(#[from] dsse::Error),
    /// The statement could not be made.
    #[error(transparent)]
    Statement(#[from] intoto::Error),
    /// The payload could not be written.
    #[error("payload: {0}")]
    Payload(#[from] simple::Error),
}

/// What is said about which images.
pub struct Request<'r> {
    /// Which image.
    pub choice: &'r Choice,
    /// Also the images of an index, each on its own.
    pub recursive: bool,
    /// What each signature says.
    pub claim: &'r Claim<'r>,
    /// Threads for hashing.
    pub threads: usize,
}

/// What a signature says.
pub enum Claim<'c> {
    /// A cosign signature: this is the image of that name.
    Signature {
        /// Name in a registry, or empty.
        reference: &'c str,
        /// Free members: annotations, creator, time.
        optional: &'c BTreeMap<String, serde_json::Value>,
    },
    /// An attestation.
    Attestation {
        /// Kind of predicate.
        kind: &'c PredicateType,
        /// Name of the subject.
        name: &'c str,
        /// Content of the file.
        predicate: &'c [u8],
        /// Unix seconds.
        now: i64,
    },
}

/// What was signed.
pub struct Signed {
    /// Digests of the images, and whether each got something new.
    pub images: Vec<(Digest, bool)>,
    /// The change; nothing if all was there already.
    pub update: Option<Update>,
}

/// Signs images of an OCI-SIF; nothing is written.
///
/// An image is signed only if all that it consists of is there and has its
/// digest. What the same key said in the same words is not said again.
///
/// # Errors
/// As [`Error`] says.
///
/// Source: SingularityCE `internal/pkg/cosign/sign.go`; sigstore/cosign
/// `cmd/cosign/cli/sign`, `cmd/cosign/cli/attest`, `pkg/oci/mutate`.
pub fn cosign(
    oci: &OciSif<'_, '_>,
    key: &PrivateKey,
    request: &Request<'_>,
) -> Result<Signed, Error> {
    let chosen = vec![select::choose(oci, request.choice)?];
    let images = match request.recursive {
        true => select::with_children(oci, chosen)?,
        false => chosen,
    };
    select::require_whole(oci, &images, request.threads)?;
    let mut signed = Vec::new();
    let mut additions = Vec::new();
    for image in images {
        let (layer, suffix) = new_layer(key, &image.digest, request.claim)?;
        let known = is_known(oci, key, &image.digest, &layer, suffix)?;
        signed.push((image.digest.clone(), !known));
        if !known {
            additions.push(Addition {
                ref_name: cosign_name(&image.digest, suffix),
                layers: vec![layer],
            });
        }
    }
    let update = match additions.is_empty() {
        true => None,
        false => Some(plan(oci, additions)?),
    };
    Ok(Signed {
        images: signed,
        update,
    })
}

/// Makes a signature or an attestation of an image, and the suffix under which it is stored.
///
/// # Errors
/// The key does not sign, or the payload cannot be written.
pub fn new_layer(
    key: &PrivateKey,
    image: &Digest,
    claim: &Claim<'_>,
) -> Result<(NewLayer, &'static str), Error> {
    match claim {
        Claim::Signature {
            reference,
            optional,
        } => {
            let payload = SimpleSigning::new(image, reference, (*optional).clone());
            let payload = payload.to_bytes()?;
            let signature = BASE64_STANDARD.encode(key.sign(&payload)?);
            let layer = NewLayer {
                media_type: PAYLOAD_TYPE,
                payload,
                annotations: BTreeMap::from([(SIGNATURE, signature)]),
            };
            Ok((layer, "sig"))
        }
        Claim::Attestation {
            kind,
            name,
            predicate,
            now,
        } => {
            let statement = intoto::build(kind, name, image, predicate, *now)?;
            let payload = dsse::seal_for_cosign(intoto::PAYLOAD_TYPE, &statement, key)?;
            let layer = NewLayer {
                media_type: ENVELOPE_TYPE,
                payload,
                annotations: BTreeMap::from([
                    (PREDICATE_TYPE, kind.uri().to_owned()),
                    (SIGNATURE, String::new()),
                ]),
            };
            Ok((layer, "att"))
        }
    }
}

/// Whether this key signed these bytes for the image before.
fn is_known(
    oci: &OciSif<'_, '_>,
    key: &PrivateKey,
    image: &Digest,
    new: &NewLayer,
    suffix: &str,
) -> Result<bool, Error> {
    let digest = crate::digest::HashAlgorithm::Sha256.digest(&new.payload);
    let same_key = |layer: &ContentDescriptor| match suffix {
        // The envelope holds its signature.
        "att" => true,
        _ => layer
            .annotations
            .get(SIGNATURE)
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .is_some_and(|s| key.public().verify_cosign(&new.payload, &s).is_some()),
    };
    for entry in oci.cosign_once(image, suffix) {
        let manifest = oci.manifest(entry)?;
        let mut layers = manifest.layers.iter();
        if layers.any(|layer| layer.digest == digest && same_key(layer)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn plan(oci: &OciSif<'_, '_>, additions: Vec<Addition>) -> Result<Update, Error> {
    let fault = std::cell::RefCell::new(None);
    let blob = |digest: &Digest| match oci.blob_bytes(digest, MAX_ATTESTATION) {
        Ok(bytes) => Some(bytes),
        Err(ocisif::Error::Missing(_)) => None,
        Err(error) => {
            fault.borrow_mut().get_or_insert(error);
            None
        }
    };
    let update = update::plan(oci.root_bytes(), additions, &blob);
    match fault.into_inner() {
        // A blob that is there and damaged must not be written a second time.
        Some(error) => Err(error.into()),
        None => Ok(update?),
    }
}
