//! The story of a verification of attestations: envelopes of an image, judged
//! like the signatures beside them. Envelopes are stored under a name that the
//! image gives them, or in sigstore bundles that are about it.

use super::cosign::{Checked, Choice, Error, Fetch, MAX_BUNDLE, bundles, signer};
use super::layout;
use crate::digest::Digest;
use crate::key::pem::PublicKey;
use crate::oci::layout_view::Attached;
use crate::oci::manifest::{ContentDescriptor, ImageManifest};
use crate::oci::ocisif;
use crate::payload::intoto::{self, Statement};
use crate::report::{Attestation, AttestationReport, Held};
use crate::signer::bundle::{Bundle, MEDIA_TYPE};
use crate::signer::dsse;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;

/// Largest envelope that is read, in bytes, as in cosign.
pub const MAX_ENVELOPE: usize = 128 << 20;

/// Most attestations of one image that are looked at.
pub const MAX_ATTESTATIONS: usize = 10_000;

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
        let fetch: &Fetch<'_, 'a> = &|layer| {
            let bytes = oci.content(layer, MAX_ENVELOPE);
            bytes.map(Cow::Borrowed).map_err(|error| error.to_string())
        };
        let mut judge = Judge::new(keys);
        for subject in std::iter::once(&first).chain(&others) {
            for entry in oci.cosign_once(&subject.digest, "att") {
                let manifest = oci.manifest(entry).map_err(Error::Signatures)?;
                let all = judge.all(&manifest, &subject.digest, fetch);
                all.map_err(Error::TooMany)?;
            }
        }
        let image = first.digest.clone();
        let subjects: Vec<_> = std::iter::once(first).chain(others).collect();
        for (content, subject) in bundles(oci, &subjects) {
            let read = || {
                let bytes = oci.content(&content, MAX_BUNDLE).map(<[u8]>::to_vec);
                bytes.map_err(|error| error.to_string())
            };
            let one = judge.bundle(&content, subject, read);
            one.map_err(Error::TooMany)?;
        }
        oci.image().still_there()?;
        Ok(AttestationReport {
            image,
            attestations: judge.attestations,
            problems,
        })
    }
}

impl layout::Checked<'_, '_> {
    /// Judges the attestations of an image of a layout, or of a registry that is looked at as one;
    /// `documents` are the blobs among which bundles may be.
    ///
    /// # Errors
    /// As [`layout::Error`] says; a refusal is in the report.
    pub fn attestations(
        &self,
        documents: &[Digest],
        keys: &[PublicKey],
    ) -> Result<AttestationReport<'static>, layout::Error> {
        let layout = self.layout();
        let fetch: &Fetch<'_, 'static> = &|layer| {
            let bytes = layout.content(layer, MAX_ENVELOPE);
            bytes.map(Cow::Owned).map_err(|error| error.to_string())
        };
        let mut judge = Judge::new(keys);
        for subject in self.subjects() {
            for entry in layout.attached(&subject.digest, Attached::Attestations) {
                let manifest = layout.manifest(entry).map_err(layout::Error::Signatures)?;
                let all = judge.all(&manifest, &subject.digest, fetch);
                all.map_err(layout::Error::TooMany)?;
            }
        }
        let (found, problems) = layout.referrers(documents, self.subjects(), MEDIA_TYPE);
        for found in found {
            let content = found.content();
            let read = || {
                let bytes = layout.content(&content, MAX_BUNDLE);
                bytes.map_err(|error| error.to_string())
            };
            let one = judge.bundle(&content, found.subject, read);
            one.map_err(layout::Error::TooMany)?;
        }
        let first = self.subjects().first();
        let first = first.ok_or(layout::Error::Fetch(ocisif::Error::NoImage))?;
        Ok(AttestationReport {
            image: first.digest.clone(),
            attestations: judge.attestations,
            problems,
        })
    }
}

/// Judges attestations. An envelope, which may be large, says the same of an image however often and
/// wherever it is named.
struct Judge<'k, 'f> {
    keys: &'k [PublicKey],
    tries: dsse::Tries,
    /// Image, and digest and length of what is about it.
    seen: HashSet<(Digest, Digest, u64)>,
    attestations: Vec<Attestation<'f>>,
}

impl<'k, 'f> Judge<'k, 'f> {
    fn new(keys: &'k [PublicKey]) -> Self {
        Self {
            keys,
            tries: dsse::Tries::default(),
            seen: HashSet::new(),
            attestations: Vec::new(),
        }
    }

    fn is_new(&mut self, subject: &Digest, content: &ContentDescriptor) -> bool {
        let key = (subject.clone(), content.digest.clone(), content.size);
        self.seen.insert(key)
    }

    /// Judges the attestations of a manifest; their number is the error if there are too many.
    fn all(
        &mut self,
        manifest: &ImageManifest,
        subject: &Digest,
        fetch: &Fetch<'_, 'f>,
    ) -> Result<(), usize> {
        let count = manifest.layers.len();
        let count = count.saturating_add(self.attestations.len());
        if count > MAX_ATTESTATIONS {
            return Err(count);
        }
        for layer in &manifest.layers {
            if self.is_new(subject, layer) {
                let outcome = self.envelope(layer, subject, fetch);
                self.attestations.push(Attestation {
                    subject: subject.clone(),
                    outcome,
                });
            }
        }
        Ok(())
    }

    fn envelope(
        &self,
        layer: &ContentDescriptor,
        subject: &Digest,
        fetch: &Fetch<'_, 'f>,
    ) -> Result<Held<'f>, String> {
        let envelope =
            fetch(layer).map_err(|reason| format!("failed to retrieve payload: {reason}"))?;
        let accepted = Cell::new(None);
        let by_a_key = |message: &[u8], signature: &[u8]| {
            let mut keys = self.keys.iter();
            let key = keys.find(|key| key.verify_cosign(message, signature).is_some());
            accepted.set(key);
            key.is_some()
        };
        let payload =
            dsse::open_from_cosign(&envelope, intoto::PAYLOAD_TYPE, &self.tries, by_a_key)
                .map_err(|error| {
                    // Without what only the native verification says in front.
                    let text = error.to_string();
                    text.strip_prefix(dsse::FAILED).unwrap_or(&text).to_owned()
                })?;
        let key = accepted.get().ok_or("no key accepted it")?;
        let statement = Statement::parse(&payload).map_err(|error| error.to_string())?;
        if !statement.is_about(subject) {
            return Err(format!("the statement is not about {subject}"));
        }
        Ok(Held {
            predicate_type: statement.predicate_type().to_owned(),
            envelope,
            statement: payload,
            signer: signer(key),
        })
    }

    /// Judges a bundle, unless it is a signature; the number of attestations is the error if there
    /// are too many.
    fn bundle(
        &mut self,
        content: &ContentDescriptor,
        subject: Digest,
        read: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<(), usize> {
        if self.attestations.len() >= MAX_ATTESTATIONS {
            return Err(self.attestations.len().saturating_add(1));
        }
        if !self.is_new(&subject, content) {
            return Ok(());
        }
        let outcome = read()
            .map_err(|reason| format!("failed to retrieve bundle: {reason}"))
            .and_then(|bytes| judge_bundle(&bytes, &subject, self.keys));
        match outcome {
            Ok(held) if held.predicate_type == intoto::SIGN_TYPE => {}
            outcome => self.attestations.push(Attestation { subject, outcome }),
        }
        Ok(())
    }
}

fn judge_bundle(
    bytes: &[u8],
    subject: &Digest,
    keys: &[PublicKey],
) -> Result<Held<'static>, String> {
    let bundle = Bundle::parse(bytes).map_err(|error| error.to_string())?;
    let opened = bundle
        .open(intoto::PAYLOAD_TYPE, keys)
        .map_err(|error| error.to_string())?;
    let statement = Statement::parse_strictly(opened.payload());
    let statement = statement.map_err(|error| error.to_string())?;
    if !statement.is_about(subject) {
        return Err(format!("the statement is not about {subject}"));
    }
    Ok(Held {
        predicate_type: statement.predicate_type().to_owned(),
        envelope: Cow::Owned(bundle.envelope().as_bytes().to_vec()),
        statement: opened.payload().to_vec(),
        signer: signer(opened.key()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::HashAlgorithm;
    use std::cell::RefCell;

    /// An entry that lies about the length hides no other.
    #[test]
    fn each_envelope_is_read_once_by_digest_and_length() {
        let digest = HashAlgorithm::Sha256.digest(b"x");
        let layer = |size: u64| format!(r#"{{"mediaType":"m","digest":"{digest}","size":{size}}}"#);
        let layers = [layer(1), layer(2), layer(1), layer(2)].join(",");
        let manifest = format!(r#"{{"config":{},"layers":[{layers}]}}"#, layer(0));
        let manifest = ImageManifest::parse(manifest.as_bytes()).unwrap();
        let read = RefCell::new(Vec::new());
        let fetch: &Fetch<'_, '_> = &|layer| {
            read.borrow_mut().push(layer.size);
            Err("gone".to_owned())
        };
        let mut judge = Judge::new(&[]);
        for _ in 0..2 {
            assert_eq!(judge.all(&manifest, &digest, fetch), Ok(()));
        }
        assert_eq!(*read.borrow(), [1, 2]);
        assert_eq!(judge.attestations.len(), 2);
        // Of another image it may say something else.
        let other = HashAlgorithm::Sha256.digest(b"y");
        assert_eq!(judge.all(&manifest, &other, fetch), Ok(()));
        assert_eq!(judge.attestations.len(), 4);
    }
}
