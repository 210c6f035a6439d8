//! The story of a verification of attestations: envelopes of an image, judged
//! like the signatures beside them.

use super::cosign::{Checked, Choice, Error};
use crate::digest::Digest;
use crate::key::pem::PublicKey;
use crate::oci::manifest::ContentDescriptor;
use crate::oci::ocisif::OciSif;
use crate::payload::intoto::{self, Statement};
use crate::signer::dsse;

/// Largest envelope that is read, in bytes, as in cosign.
pub const MAX_ENVELOPE: usize = 128 << 20;

/// Most attestations of one image that are looked at.
pub const MAX_ATTESTATIONS: usize = 10_000;

/// What was said about an image, and what counts of it.
pub struct AttestationReport<'a> {
    /// The image, or the index.
    pub image: Digest,
    /// In the order of the file.
    pub attestations: Vec<Attestation<'a>>,
    /// Faults elsewhere in the file.
    pub problems: Vec<String>,
}

/// One attestation.
pub struct Attestation<'a> {
    /// The image that it is stored for.
    pub subject: Digest,
    /// Who signed what, or why it does not count.
    pub outcome: Result<Held<'a>, String>,
}

/// An attestation whose signature holds and whose subject is the image.
pub struct Held<'a> {
    /// URI of what it says.
    pub predicate_type: String,
    /// The envelope as it is stored.
    pub envelope: &'a [u8],
}

impl<'a> AttestationReport<'a> {
    /// Attestations that hold, whatever they say.
    pub fn held(&self) -> impl Iterator<Item = &Held<'a>> {
        self.attestations
            .iter()
            .filter_map(|attestation| attestation.outcome.as_ref().ok())
    }

    /// Reasons of those that do not hold.
    pub fn refusals(&self) -> impl Iterator<Item = &str> {
        self.attestations
            .iter()
            .filter_map(|attestation| attestation.outcome.as_ref().err())
            .map(String::as_str)
    }
}

impl<'a> Checked<'_, '_, 'a> {
    /// Judges the attestations of an image.
    ///
    /// One counts if one of the keys made one of its signatures, and if the
    /// image is one of its subjects.
    ///
    /// # Errors
    /// As [`Error`] says; a refusal is in the report.
    ///
    /// Source: sigstore/cosign `pkg/cosign/verify.go`, `VerifyImageAttestations`,
    /// `IntotoSubjectClaimVerifier`; spec/oci-sif-cosign.md 3.6, 6.10.
    pub fn attestations(
        &self,
        choice: &Choice,
        keys: &[PublicKey],
    ) -> Result<AttestationReport<'a>, Error> {
        let oci = self.oci();
        let (first, others, problems) = self.subjects(choice)?;
        let mut attestations = Vec::new();
        for subject in std::iter::once(&first).chain(&others) {
            for entry in oci.cosign(&subject.digest, "att") {
                let manifest = oci.manifest(entry).map_err(Error::Signatures)?;
                let count = manifest.layers.len().saturating_add(attestations.len());
                if count > MAX_ATTESTATIONS {
                    return Err(Error::TooMany(count));
                }
                attestations.extend(manifest.layers.iter().map(|layer| Attestation {
                    subject: subject.digest.clone(),
                    outcome: judge(oci, layer, &subject.digest, keys),
                }));
            }
        }
        oci.image().still_there()?;
        Ok(AttestationReport {
            image: first.digest,
            attestations,
            problems,
        })
    }
}

fn judge<'a>(
    oci: &OciSif<'_, 'a>,
    layer: &ContentDescriptor,
    subject: &Digest,
    keys: &[PublicKey],
) -> Result<Held<'a>, String> {
    let envelope = oci
        .content(layer, MAX_ENVELOPE)
        .map_err(|error| format!("failed to retrieve payload: {error}"))?;
    let by_a_key = |message: &[u8], signature: &[u8]| {
        let mut keys = keys.iter();
        keys.any(|key| key.verify_cosign(message, signature).is_some())
    };
    let payload =
        dsse::open_from_cosign(envelope, intoto::PAYLOAD_TYPE, by_a_key).map_err(|error| {
            // Without what only the native verification says in front.
            let text = error.to_string();
            text.strip_prefix(dsse::FAILED).unwrap_or(&text).to_owned()
        })?;
    let statement = Statement::parse(&payload).map_err(|error| error.to_string())?;
    if !statement.is_about(subject) {
        return Err(format!("the statement is not about {subject}"));
    }
    Ok(Held {
        predicate_type: statement.predicate_type().to_owned(),
        envelope,
    })
}
