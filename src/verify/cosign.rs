//! The story of a cosign verification: blobs, the image, its signatures.
//!
//! Content is judged only after it was hashed: [`Checked`] is an OCI-SIF whose
//! blobs all have the digests of their descriptors. The judgement of one set
//! of signatures, [`signatures`], is the same for files, layouts and registries.

use super::bundle;
use crate::digest::{Digest, HashAlgorithm};
use crate::key::pem::{PublicKey, is_der_signature};
use crate::oci::manifest::{ContentDescriptor, ImageManifest, Kind, Platform};
use crate::oci::ocisif::{self, COSIGN_PREFIX, OciSif, Reachable};
use crate::oci::select;
use crate::payload::simple::{MAX_PAYLOAD, SIGNATURE_TYPE, SimpleSigning};
use crate::report::{CosignReport, CosignSignature, CosignVerdict, KeySigner};
use crate::sif::digests::{Digests, Extent, Wanted};
use crate::sif::{self, ExtraError};
use crate::signer::bundle::MEDIA_TYPE;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};

/// Annotation of a layer that holds the signature in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// Media type of a layer that holds a signature's payload.
pub const SIMPLE_SIGNING_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Largest bundle that is read, in bytes.
pub const MAX_BUNDLE: usize = 4 << 20;

/// Most signatures of one image that are looked at.
pub const MAX_SIGNATURES: usize = 10_000;

/// Bytes of payloads that are verified for one image. Real ones have some hundred
/// each; one large payload may be named by every signature.
pub const MAX_PAYLOADS: usize = 256 << 20;

/// What a signature must be to count.
pub struct Request<'k> {
    /// Keys; one of them must have made the signature.
    pub keys: &'k [PublicKey],
    /// Members of the payload's `optional` that must be there as text.
    pub annotations: &'k [(String, String)],
    /// The reference that the payload must name.
    pub reference: Option<&'k str>,
    /// Whether what programs read differently, or only tolerate, is refused.
    pub strict: bool,
}

/// Which of several images is meant.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// By digest.
    pub digest: Option<Digest>,
    /// By platform.
    pub platform: Option<Platform>,
    /// The platform of this machine, for an index when nothing is chosen.
    pub host: Platform,
}

/// Why an image could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    Image(#[from] sif::Error),
    /// An OCI object without a readable digest.
    #[error("failed to fetch digest: {0}")]
    Extra(ExtraError),
    /// A blob whose bytes are not those of its name.
    #[error("OCI blob digest mismatch: expected \"{expected}\", found \"{found}\"")]
    BlobChanged {
        /// In the descriptor.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// The image cannot be found.
    #[error("while fetching image from OCI-SIF: {0}")]
    Fetch(ocisif::Error),
    /// The image is not whole.
    #[error("image is not complete: {0}")]
    Incomplete(ocisif::Error),
    /// Entries with signatures that cannot be read.
    #[error("failed to retrieve image: {0}")]
    Signatures(ocisif::Error),
    /// More signatures than are looked at.
    #[error("{0} signatures, more than the {MAX_SIGNATURES} that are looked at")]
    TooMany(usize),
}

/// An OCI-SIF whose blobs were all hashed.
pub struct Checked<'o, 'i, 'a>(&'o OciSif<'i, 'a>);

/// Hashes every OCI blob of the file, on all cores, each once.
///
/// # Errors
/// [`Error::BlobChanged`], and [`Error::Image`] if a blob cannot be read.
///
/// Source: SingularityCE `internal/pkg/ocisif`, `VerifyDigests`.
pub fn check<'o, 'i, 'a>(
    oci: &'o OciSif<'i, 'a>,
    threads: usize,
) -> Result<Checked<'o, 'i, 'a>, Error> {
    let algorithm = HashAlgorithm::Sha256;
    let mut blobs: Vec<_> = oci.blobs().collect();
    blobs.sort_by_key(|(_, at)| *at);
    let wanted: Wanted = blobs
        .iter()
        .map(|(_, at)| (Extent::Object(*at), algorithm))
        .collect();
    let digests = Digests::compute(oci.image(), &wanted, threads)?;
    for (expected, at) in blobs {
        match digests.get(Extent::Object(at), algorithm) {
            Some(found) if found == expected => {}
            found => {
                return Err(Error::BlobChanged {
                    expected: expected.clone(),
                    found: found.unwrap_or(expected).clone(),
                });
            }
        }
    }
    oci.image().still_there()?;
    Ok(Checked(oci))
}

/// The image, other images whose signatures count, and faults elsewhere.
type Subjects = (ContentDescriptor, Vec<ContentDescriptor>, Vec<String>);

impl<'i, 'a> Checked<'_, 'i, 'a> {
    /// What was checked.
    pub fn oci(&self) -> &OciSif<'i, 'a> {
        self.0
    }

    /// Judges the signatures of the image.
    ///
    /// # Errors
    /// As [`Error`] says; a refusal is in the report.
    ///
    /// Source: spec/oci-sif-cosign.md 4.2.
    pub fn judge(&self, choice: &Choice, request: &Request<'_>) -> Result<CosignReport, Error> {
        let outcome = self.judge_as_it_is(choice, request);
        // Zeros in the place of lost bytes look like another fault.
        self.0.image().still_there()?;
        outcome
    }

    /// The image, which is whole; for an index also the image of it that a
    /// signature may name; and what cannot be read elsewhere in the file.
    pub(super) fn subjects(&self, choice: &Choice) -> Result<Subjects, Error> {
        let mut subjects = subjects(self.0, choice).map_err(Error::Fetch)?.into_iter();
        let (reachable, faults) = self.0.reachable().map_err(Error::Fetch)?;
        let first = subjects.next();
        let first = first.ok_or(Error::Fetch(ocisif::Error::NoImage))?;
        require_whole(self.0, &first, &reachable)?;
        let problems = faults.iter().map(ToString::to_string).collect();
        Ok((first, subjects.collect(), problems))
    }

    fn judge_as_it_is(
        &self,
        choice: &Choice,
        request: &Request<'_>,
    ) -> Result<CosignReport, Error> {
        let oci = self.0;
        let (first, others, problems) = self.subjects(choice)?;
        // Copied: what is verified is what is read.
        let fetch: &Fetch<'_, '_> = &|layer| {
            let bytes = oci.content(layer, MAX_PAYLOAD).map(<[u8]>::to_vec);
            bytes.map(Cow::Owned).map_err(|error| error.to_string())
        };
        let mut report = CosignReport::new(first.digest.clone());
        report.blobs = oci.blobs().count();
        report.by_index = first.kind() == Kind::Image && !others.is_empty();
        report.problems = problems;
        let spent = Cell::new(0);
        for subject in std::iter::once(&first).chain(&others) {
            let entries = oci.cosign_once(&subject.digest, "sig");
            // As SingularityCE: what the index calls something else holds no signatures.
            for entry in entries.filter(|entry| entry.kind() == Kind::Image) {
                let manifest = oci.manifest(entry).map_err(Error::Signatures)?;
                oci.object(&manifest.config).map_err(Error::Signatures)?;
                let count = report
                    .signatures
                    .len()
                    .saturating_add(manifest.layers.len());
                if count > MAX_SIGNATURES {
                    return Err(Error::TooMany(count));
                }
                report.signatures.extend(signatures(
                    &manifest,
                    &subject.digest,
                    fetch,
                    request,
                    &spent,
                ));
            }
        }
        let subjects: Vec<_> = std::iter::once(first).chain(others).collect();
        for (bundle, subject) in bundles(oci, &subjects) {
            if report.signatures.len() >= MAX_SIGNATURES {
                return Err(Error::TooMany(report.signatures.len().saturating_add(1)));
            }
            let bytes = oci.content(&bundle, MAX_BUNDLE).map(<[u8]>::to_vec);
            let bytes = bytes.map_err(|error| error.to_string());
            report
                .signatures
                .push(bundle::judge(bytes, &subject, request));
        }
        Ok(report)
    }
}

/// Bundles about the subjects, in entries whose names only say that they
/// belong to cosign: the originals pass over them.
pub(super) fn bundles(
    oci: &OciSif<'_, '_>,
    subjects: &[ContentDescriptor],
) -> Vec<(ContentDescriptor, Digest)> {
    let mut seen = HashSet::new();
    let entries = oci.index().manifests.iter().filter(|entry| {
        let name = entry.ref_name().unwrap_or_default();
        let may_be = entry.kind() == Kind::Image && name.starts_with(COSIGN_PREFIX);
        may_be && seen.insert((&entry.digest, entry.size))
    });
    let bundle = |entry: &ContentDescriptor| {
        // One that cannot be read is among the problems.
        let manifest = oci.manifest(entry).ok()?;
        let about = manifest.subject?.digest;
        let layer = manifest.layers.into_iter().next()?;
        let wanted = subjects.iter().any(|subject| subject.digest == about)
            && layer.media_type.starts_with(MEDIA_TYPE);
        wanted.then_some((layer, about))
    };
    let mut known = HashSet::new();
    let found = entries.filter_map(bundle);
    let found = found
        .filter(|(layer, about)| known.insert((layer.digest.clone(), layer.size, about.clone())));
    found.collect()
}

/// The image, and for an index the image of it that a signature may name; for an image that was
/// chosen from an index, that index, whose signatures vouch for its images.
fn subjects(
    oci: &OciSif<'_, '_>,
    choice: &Choice,
) -> Result<Vec<ContentDescriptor>, ocisif::Error> {
    let entry = match &choice.digest {
        Some(digest) => {
            let (reachable, _) = oci.reachable()?;
            let named = reachable
                .into_iter()
                .find(|r| r.content.digest == *digest && r.content.kind() != Kind::Other);
            named.ok_or(ocisif::Error::NoImage)?.content
        }
        None => select::choose(oci, &select::Choice::Main)?,
    };
    if entry.kind() != Kind::Index {
        let wanted = choice.platform.as_ref();
        if wanted.is_some() && choice.digest.is_none() {
            require_platform(oci, &entry, wanted)?;
        }
        let indices = match choice.digest {
            // Who names a digest wants signatures of that.
            Some(_) => Vec::new(),
            None => oci.source_indices(&entry.digest)?,
        };
        return Ok([entry].into_iter().chain(indices).collect());
    }
    let index = oci.child_index(&entry)?;
    let wanted = choice.platform.as_ref().unwrap_or(&choice.host);
    let child = index
        .manifests
        .into_iter()
        .find(|child| child.platform.as_ref().is_some_and(|p| p.satisfies(wanted)));
    match (child, &choice.platform) {
        // Who names a platform wants that image, and nothing else.
        (Some(child), Some(_)) => Ok(vec![child]),
        (None, Some(_)) => Err(ocisif::Error::NoImage),
        (child, None) => Ok([entry].into_iter().chain(child).collect()),
    }
}

/// An image outside an index has its platform in the config.
fn require_platform(
    oci: &OciSif<'_, '_>,
    entry: &ContentDescriptor,
    wanted: Option<&Platform>,
) -> Result<(), ocisif::Error> {
    let manifest = oci.manifest(entry)?;
    let config = oci.document(&manifest.config)?;
    match (Platform::of_config(config), wanted) {
        (Some(platform), Some(wanted)) if platform.satisfies(wanted) => Ok(()),
        _ => Err(ocisif::Error::NoImage),
    }
}

/// Everything that the image consists of must be in the file.
fn require_whole(
    oci: &OciSif<'_, '_>,
    subject: &ContentDescriptor,
    reachable: &[Reachable],
) -> Result<(), Error> {
    oci.object(subject).map_err(Error::Incomplete)?;
    require_document(oci, subject)?;
    if subject.kind() == Kind::Other {
        return Err(Error::Fetch(ocisif::Error::NoImage));
    }
    let mut parts: HashMap<&Digest, Vec<&ContentDescriptor>> = HashMap::new();
    for part in reachable {
        if let Some(parent) = &part.parent {
            parts.entry(parent).or_default().push(&part.content);
        }
    }
    let mut seen = HashSet::from([&subject.digest]);
    let mut read = HashSet::new();
    let mut open = vec![&subject.digest];
    while let Some(parent) = open.pop() {
        for part in parts.get(parent).into_iter().flatten() {
            oci.object(part).map_err(Error::Incomplete)?;
            // However often it is named.
            if read.insert((&part.digest, part.kind())) {
                require_document(oci, part)?;
            }
            if seen.insert(&part.digest) {
                open.push(&part.digest);
            }
        }
    }
    Ok(())
}

/// Manifests and indices must be readable.
fn require_document(oci: &OciSif<'_, '_>, content: &ContentDescriptor) -> Result<(), Error> {
    match content.kind() {
        Kind::Image => oci.manifest(content).map(drop),
        Kind::Index => oci.child_index(content).map(drop),
        Kind::Other => Ok(()),
    }
    .map_err(Error::Incomplete)
}

/// Gets the bytes of a layer, hashed, or says why there are none.
pub type Fetch<'c, 'f> = dyn Fn(&ContentDescriptor) -> Result<Cow<'f, [u8]>, String> + 'c;

/// Judges every signature of a signature image; `fetch` gets the payload of a
/// layer, whose digest it has checked, or says why there is none. `spent` counts the bytes of
/// payloads for all signature images of an image.
pub fn signatures(
    manifest: &ImageManifest,
    subject: &Digest,
    fetch: &Fetch<'_, '_>,
    request: &Request<'_>,
    spent: &Cell<usize>,
) -> Vec<CosignSignature> {
    let fetch: &Fetch<'_, '_> = &|layer| {
        if spent.get() > MAX_PAYLOADS {
            return Err(format!(
                "the payloads in front of it have more than {MAX_PAYLOADS} bytes"
            ));
        }
        let bytes = fetch(layer);
        let len = bytes.as_ref().map_or(MAX_PAYLOAD / 4, |bytes| bytes.len());
        spent.set(spent.get().saturating_add(len));
        bytes
    };
    let judge = |layer| {
        let mut signature = CosignSignature::new(subject.clone());
        signature.verdict = match judge(layer, subject, fetch, request, &mut signature) {
            Ok(()) => CosignVerdict::Valid,
            Err(verdict) => verdict,
        };
        signature
    };
    manifest.layers.iter().map(judge).collect()
}

fn judge(
    layer: &ContentDescriptor,
    subject: &Digest,
    fetch: &Fetch<'_, '_>,
    request: &Request<'_>,
    found: &mut CosignSignature,
) -> Result<(), CosignVerdict> {
    let unusable = |reason: String| CosignVerdict::NotByKey(reason);
    let text = layer.annotations.get(SIGNATURE_ANNOTATION).ok_or_else(|| {
        unusable(format!(
            "failed to retrieve signature: signature layer {} is missing {SIGNATURE_ANNOTATION:?} annotation",
            layer.digest
        ))
    })?;
    let signature = decode_signature(text).map_err(|at| {
        unusable(format!(
            "failed to retrieve signature: illegal base64 data at input byte {at}"
        ))
    })?;
    let bytes =
        fetch(layer).map_err(|reason| unusable(format!("failed to retrieve payload: {reason}")))?;
    let payload = SimpleSigning::parse(&bytes);
    let by = request.keys.iter().find_map(|key| {
        let scheme = key.verify_cosign(&bytes, &signature)?;
        Some((key, scheme))
    });
    // The originals parse before they verify.
    let payload = payload.map_err(|error| unusable(error.to_string()))?;
    let Some((key, scheme)) = by else {
        let reasons: Vec<_> = request
            .keys
            .iter()
            .map(|key| key.refusal(&signature))
            .collect();
        return Err(unusable(reasons.join("; ")));
    };
    found.signer = Some(signer(key));
    found.scheme = Some(scheme.name());
    let refusal = refusal(layer, subject, &payload, &signature, key, request);
    found.payload = Some(payload);
    match refusal {
        Some(verdict) => Err(verdict),
        None => Ok(()),
    }
}

/// What is wrong with a payload that the key did sign.
fn refusal(
    layer: &ContentDescriptor,
    subject: &Digest,
    payload: &SimpleSigning,
    signature: &[u8],
    key: &PublicKey,
    request: &Request<'_>,
) -> Option<CosignVerdict> {
    if payload.digest != subject.to_string() {
        return Some(CosignVerdict::OtherImage(payload.digest.clone()));
    }
    let refused = |reason: String| Some(CosignVerdict::Refused(reason));
    if let Some(reason) = unmet(payload, SIGNATURE_TYPE, request) {
        return refused(reason);
    }
    if request.strict {
        if let Some(oddity) = payload.oddities.first() {
            return refused(format!("programs read the payload differently: {oddity}"));
        }
        if layer.media_type != SIMPLE_SIGNING_TYPE {
            return refused(format!("the layer's media type is {:?}", layer.media_type));
        }
        if key.algorithm().starts_with("ECDSA") && !is_der_signature(signature) {
            return refused("the signature is in the form r || s, not DER".to_owned());
        }
    }
    None
}

/// What was asked for and is not in a payload, which must be of type `kind`.
pub(super) fn unmet(payload: &SimpleSigning, kind: &str, request: &Request<'_>) -> Option<String> {
    if payload.kind != kind {
        return Some(format!(
            "the payload's type is {:?}, not {kind:?}",
            payload.kind
        ));
    }
    if let Some(wanted) = request.reference
        && wanted != payload.reference
    {
        return Some(format!(
            "the payload names the reference {:?}, not {wanted:?}",
            payload.reference
        ));
    }
    let lacks = |name: &String, wanted: &String| {
        let value = payload.optional.as_ref().and_then(|all| all.get(name));
        value.and_then(serde_json::Value::as_str) != Some(wanted)
    };
    let missing = request.annotations.iter().find(|(n, v)| lacks(n, v));
    missing.map(|(name, wanted)| format!("the payload has no annotation {name}={wanted}"))
}

/// A key as reports name it.
pub(super) fn signer(key: &PublicKey) -> KeySigner {
    KeySigner {
        key_id: key.ssh_fingerprint(),
        algorithm: key.algorithm(),
        certificate: None,
        spki: key.spki_sha256(),
    }
}

/// Decodes standard base64 as Go does, which skips line ends.
///
/// # Errors
/// The position of the first bad byte.
pub fn decode_signature(text: &str) -> Result<Vec<u8>, usize> {
    const GO: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
            .with_decode_allow_trailing_bits(true),
    );
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    GO.decode(&plain).map_err(|error| match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            original_position(text, at)
        }
        _ => original_position(text, plain.len()),
    })
}

/// Where the byte at `at` of the text without line ends stands in the text.
fn original_position(text: &str, at: usize) -> usize {
    let kept = text
        .bytes()
        .enumerate()
        .filter(|(_, b)| !matches!(b, b'\r' | b'\n'));
    kept.map(|(position, _)| position)
        .nth(at)
        .unwrap_or(text.len())
}
