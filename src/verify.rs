//! The story of a verification.
//!
//! Three passes, so that a missing key is found before gigabytes are hashed
//! and no byte is hashed twice: open every signature and compare all that is
//! small; hash what is left, in parallel; compare and report in the order of
//! the originals, up to the first failure or over all.

mod accounted;
#[cfg(test)]
mod accounted_tests;
pub mod attestation;
mod bundle;
pub mod cosign;
#[cfg(test)]
mod cosign_tests;
pub mod layout;
#[cfg(test)]
mod tests;

use crate::key::pem::PublicKey;
use crate::key::pgp::Keyring;
use crate::payload::{legacy, native};
use crate::policy::{self, Demands, Tolerated};
use crate::report::{
    CertificateFacts, Failure, Format, KeySigner, MAX_CLAIM, MAX_CLAIMED, ObjectSummary, Origin,
    PgpSigner, Report, SignatureReport, Signer, Subject,
};
use crate::scope::{self, Selection, Task};
use crate::sif::digests::{Digests, Extent, Wanted};
use crate::sif::types::DataType;
use crate::sif::{self, Descriptor, Fault, Image, Link, MAX_SIGNATURE_LEN};
use crate::signer::{dsse, pgp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// OpenPGP keyrings, and whose they are.
pub type Keyrings = Vec<(Origin, Arc<Keyring>)>;

/// The keys that count: each kind judges the signatures of its format.
///
/// A copy shares the keyrings.
#[derive(Clone, Default)]
pub struct KeyMaterial {
    /// OpenPGP keyrings, searched in this order. `None`, unlike an empty list, means that
    /// OpenPGP signatures are not judged.
    pub keyrings: Option<Keyrings>,
    /// Public keys for DSSE envelopes. With none, envelopes are not judged.
    pub keys: Vec<TrustedKey>,
}

impl KeyMaterial {
    /// Keyrings alone.
    pub fn of_keyrings(keyrings: Vec<(Origin, Keyring)>) -> Self {
        let shared = |(origin, ring)| (origin, Arc::new(ring));
        Self {
            keyrings: Some(keyrings.into_iter().map(shared).collect()),
            keys: Vec::new(),
        }
    }

    /// Public keys alone.
    pub fn of_keys(keys: Vec<TrustedKey>) -> Self {
        Self {
            keyrings: None,
            keys,
        }
    }
}

/// A public key that counts.
#[derive(Clone)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// The certificate that speaks for it, if it was not given as a key.
    pub certificate: Option<CertificateFacts>,
}

impl From<PublicKey> for TrustedKey {
    fn from(key: PublicKey) -> Self {
        Self {
            key,
            certificate: None,
        }
    }
}

/// What to verify, and how.
pub struct Request {
    /// Objects and groups.
    pub selection: Selection,
    /// What is demanded of the signers.
    pub demands: Demands,
    /// Whether to go on after the first failure; the answer stays the same.
    pub examine_all: bool,
    /// Time at which keys must be valid, Unix seconds.
    pub now: u64,
    /// Threads for hashing.
    pub threads: usize,
}

/// Why an image could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The selection does not fit the image.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// The image is malformed or cannot be read.
    #[error("integrity: {0}")]
    Image(#[from] sif::Error),
}

/// Judges the native signatures of an image.
///
/// # Errors
/// Only if no judgement is possible, [`Error`]; a refusal is in the report.
///
/// Source: spec/sif.md 4.2 to 4.4.
pub fn native(
    image: &Image<'_>,
    material: &KeyMaterial,
    request: &Request,
) -> Result<Report, Error> {
    let outcome = judge(image, material, request);
    // Zeros in the place of lost bytes look like another fault.
    image.still_there()?;
    outcome
}

fn judge(image: &Image<'_>, material: &KeyMaterial, request: &Request) -> Result<Report, Error> {
    let tasks = judged_tasks(image, request)?;
    let mut report = Report::default();
    report.checked = tasks.iter().map(subject).collect();
    if let Some(object) = ungrouped(image) {
        report.refuse(Failure::UngroupedObject(object));
        if !request.examine_all {
            return Ok(report);
        }
    }
    let mut opener = Opener::new(image, material, request);
    let steps = opener.plan(&tasks, request.examine_all);
    report.missing_keys = std::mem::take(&mut opener.missing_keys);
    let digests = Digests::compute(image, &wanted(&steps), request.threads)?;
    for step in steps {
        match step {
            Step::General(failure) => report.refuse(failure),
            Step::Signature(pending) => report.push(pending.finish(&digests)),
        }
        if report.failure().is_some() && !request.examine_all {
            return Ok(report);
        }
    }
    policy::enforce(&mut report, &request.demands);
    Ok(report)
}

/// Ids of PGP keys that a judgement would stop for, or miss, with this material.
///
/// Nothing but signatures is read, so this is cheap on images of any size. Once the keys are
/// found, others may be missing: without [`Request::examine_all`] those of the first signature
/// that cannot be opened are told.
///
/// # Errors
/// As [`native()`].
pub fn missing_keys(
    image: &Image<'_>,
    material: &KeyMaterial,
    request: &Request,
) -> Result<Vec<u64>, Error> {
    let tasks = judged_tasks(image, request)?;
    if ungrouped(image).is_some() && !request.examine_all {
        return Ok(Vec::new());
    }
    let mut opener = Opener::new(image, material, request);
    opener.plan(&tasks, request.examine_all);
    Ok(opener.missing_keys)
}

/// What is to be judged, if the image can be.
fn judged_tasks(image: &Image<'_>, request: &Request) -> Result<Vec<Task>, Error> {
    let tasks = scope::tasks(image, &request.selection);
    // An object without a group cannot be a task; the originals look for
    // such objects in the whole image first.
    let groupless = tasks == Err(scope::Error::InvalidGroup)
        && !request.selection.groups.contains(&0)
        && ungrouped(image).is_some();
    let tasks = if groupless { Vec::new() } else { tasks? };
    require_judgeable(image)?;
    Ok(tasks)
}

/// Every fault but a cut signature object stops the judgement at once.
///
/// A cut signature is met where the originals meet it, in their words.
fn require_judgeable(image: &Image<'_>) -> Result<(), Error> {
    let signatures: HashSet<u32> = image.signatures().map(Descriptor::raw_id).collect();
    let fault = image
        .faults()
        .iter()
        .find(|fault| !matches!(fault, Fault::PastEnd { id, .. } if signatures.contains(id)));
    match fault {
        Some(fault) => Err(sif::Error::Malformed(fault.clone()).into()),
        None => Ok(()),
    }
}

fn ungrouped(image: &Image<'_>) -> Option<u32> {
    image
        .objects()
        .iter()
        .find(|o| o.group().is_none() && o.data_type() != DataType::Signature)
        .map(Descriptor::raw_id)
}

fn subject(task: &Task) -> Subject {
    task.object.map_or(Subject::Group(task.group), |id| {
        Subject::Object(task.group, id.get())
    })
}

enum Step {
    General(Failure),
    Signature(Box<Pending>),
}

/// A signature whose small parts were judged; data digests are still to come.
struct Pending {
    report: SignatureReport,
    comparisons: Vec<Comparison>,
    /// The failure that stands behind the comparisons.
    then: Option<Failure>,
}

struct Comparison {
    extent: Extent,
    expected: crate::digest::Digest,
    proves: Vec<ObjectSummary>,
    mismatch: Failure,
}

impl Pending {
    fn finish(self, digests: &Digests) -> SignatureReport {
        let mut report = self.report;
        for comparison in self.comparisons {
            let found = digests.get(comparison.extent, comparison.expected.algorithm());
            if found == Some(&comparison.expected) {
                report.verified.extend(comparison.proves);
                continue;
            }
            if let Extent::Object(_) = comparison.extent {
                report.damaged = comparison.proves.into_iter().next();
            }
            report.failure = Some(comparison.mismatch);
            return report;
        }
        report.failure = self.then;
        report
    }
}

fn wanted(steps: &[Step]) -> Wanted {
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Signature(pending) => Some(&pending.comparisons),
            Step::General(_) => None,
        })
        .flatten()
        .map(|comparison| (comparison.extent, comparison.expected.algorithm()))
        .collect()
}

/// What the bytes of a signature object are.
#[derive(Clone, Copy)]
enum Content<'a> {
    Readable {
        data: &'a [u8],
        format: Option<Format>,
        legacy: bool,
    },
    Cut,
    TooLarge,
}

/// First pass: opens signatures.
struct Opener<'i, 'a> {
    image: &'i Image<'a>,
    material: &'i KeyMaterial,
    keyrings: Vec<&'i Keyring>,
    keys: Vec<PublicKey>,
    request: &'i Request,
    contents: HashMap<usize, Content<'a>>,
    by_link: HashMap<Link, Vec<&'i Descriptor>>,
    missing_keys: Vec<u64>,
    /// The same: one signature can name hundreds of thousands.
    known_missing: HashSet<u64>,
    tries: dsse::Tries,
}

impl<'i, 'a> Opener<'i, 'a> {
    fn new(image: &'i Image<'a>, material: &'i KeyMaterial, request: &'i Request) -> Self {
        let keyrings = material.keyrings.iter().flatten();
        let mut by_link = HashMap::<Link, Vec<&Descriptor>>::new();
        for object in image.signatures() {
            by_link.entry(object.link()).or_default().push(object);
        }
        Self {
            image,
            material,
            keyrings: keyrings.map(|(_, ring)| &**ring).collect(),
            keys: material.keys.iter().map(|k| k.key.clone()).collect(),
            request,
            contents: HashMap::new(),
            by_link,
            missing_keys: Vec::new(),
            known_missing: HashSet::new(),
            tries: dsse::Tries::default(),
        }
    }

    fn plan(&mut self, tasks: &[Task], examine_all: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        for task in tasks {
            let before = steps.len();
            match self.candidates(task) {
                Err(failure) => steps.push(Step::General(failure)),
                Ok(candidates) if candidates.is_empty() => {
                    steps.push(Step::General(match (task.legacy, task.object) {
                        (true, Some(id)) => Failure::NoSignatureForObject(id.get()),
                        _ => Failure::NoSignatureForGroup(task.group),
                    }));
                }
                Ok(candidates) => {
                    for candidate in candidates {
                        let pending = self.open(task, candidate);
                        let fails = pending.then.is_some() && !pending.report.ignored;
                        steps.push(Step::Signature(Box::new(pending)));
                        if fails && !examine_all {
                            return steps;
                        }
                    }
                }
            }
            let refused = steps
                .get(before)
                .is_some_and(|step| matches!(step, Step::General(_)));
            if refused && !examine_all {
                return steps;
            }
        }
        steps
    }

    /// Signature objects that a task has to look at, in table order.
    fn candidates(&mut self, task: &Task) -> Result<Vec<&'i Descriptor>, Failure> {
        let linked = |this: &Self, link| this.by_link.get(&link).cloned().unwrap_or_default();
        if let (true, Some(id)) = (task.legacy, task.object) {
            return Ok(linked(self, Link::Object(id)));
        }
        let mut found = Vec::new();
        for object in linked(self, Link::Group(task.group)) {
            match self.content(object) {
                Content::Cut => return Err(Failure::SignatureCut(object.raw_id())),
                Content::Readable { legacy, .. } if legacy == task.legacy => found.push(object),
                Content::TooLarge if !task.legacy => found.push(object),
                Content::Readable { .. } | Content::TooLarge => {}
            }
        }
        Ok(found)
    }

    fn content(&mut self, object: &Descriptor) -> Content<'a> {
        if let Some(known) = self.contents.get(&object.slot()) {
            return *known;
        }
        let content = read_content(self.image, object);
        self.contents.insert(object.slot(), content);
        content
    }

    /// Opens one signature and compares all but the objects' data.
    fn open(&mut self, task: &Task, object: &Descriptor) -> Pending {
        let mut pending = Pending {
            report: SignatureReport {
                object: object.raw_id(),
                group: task.group,
                only_object: task.object.map(|id| id.get()),
                format: None,
                legacy: task.legacy,
                signer: None,
                verified: Vec::new(),
                damaged: None,
                failure: None,
                unknown_signer: false,
                claimed: Vec::new(),
                ignored: false,
            },
            comparisons: Vec::new(),
            then: None,
        };
        pending.then = self.judge(task, object, &mut pending).err();
        pending.report.ignored = match (self.request.demands.tolerated, &pending.then) {
            (Tolerated::Nothing, _) | (_, None) => false,
            (Tolerated::UnknownSigners, Some(_)) => pending.report.unknown_signer,
            (Tolerated::NotValid, Some(failure)) => matches!(failure, Failure::NotValid { .. }),
        };
        pending
    }

    fn judge(
        &mut self,
        task: &Task,
        object: &Descriptor,
        pending: &mut Pending,
    ) -> Result<(), Failure> {
        let (data, format) = match self.content(object) {
            Content::Readable { data, format, .. } => (data, format),
            Content::Cut => return Err(Failure::SignatureCut(object.raw_id())),
            Content::TooLarge => {
                return Err(Failure::NotValid {
                    object: object.raw_id(),
                    reason: format!(
                        "{} bytes, more than the {MAX_SIGNATURE_LEN} that are read",
                        object.size()
                    ),
                });
            }
        };
        pending.report.format = format;
        let format = format.ok_or(Failure::UnknownFormat)?;
        if let Err(failure) = self.require_material(format) {
            pending.report.unknown_signer = true;
            pending.report.claimed = match format {
                Format::Pgp => claimed_keys(object, &pgp::issuers(data)),
                Format::Dsse => claimed_names(dsse::entries(data).unwrap_or_default()),
            };
            return Err(failure);
        }
        if !task.legacy {
            object
                .signature_hash()
                .map_err(|_| Failure::UnsupportedHash)?;
        }
        let payload = self.unseal(format, data, object, &mut pending.report)?;
        if task.legacy {
            self.judge_legacy(task, object, &payload, pending)
        } else {
            self.judge_metadata(task, object, &payload, pending)
        }
    }

    fn require_material(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Dsse if self.material.keys.is_empty() => Err(Failure::NoKeyForDsse),
            Format::Pgp if self.material.keyrings.is_none() => Err(Failure::NoKeyForPgp),
            Format::Dsse | Format::Pgp => Ok(()),
        }
    }

    /// Checks the cryptography; only then there is a payload.
    fn unseal(
        &mut self,
        format: Format,
        data: &[u8],
        object: &Descriptor,
        report: &mut SignatureReport,
    ) -> Result<Vec<u8>, Failure> {
        match format {
            Format::Dsse => self.open_envelope(data, report),
            Format::Pgp => self.open_message(data, object, report),
        }
        .map_err(|reason| Failure::NotValid {
            object: object.raw_id(),
            reason,
        })
    }

    fn open_envelope(&self, data: &[u8], report: &mut SignatureReport) -> Result<Vec<u8>, String> {
        let opened = dsse::open(data, dsse::SIF_METADATA_TYPE, &self.keys, &self.tries);
        let opened = opened.map_err(|error| {
            if matches!(error, dsse::Error::Threshold)
                && let Some(names) = self.foreign_names(data)
            {
                report.unknown_signer = true;
                report.claimed = claimed_names(names);
            }
            error.to_string()
        })?;
        let accepted = opened.accepted().iter();
        let signers = accepted
            .filter_map(|index| self.material.keys.get(*index))
            .map(|trusted| KeySigner {
                key_id: trusted.key.ssh_fingerprint(),
                spki: trusted.key.spki_sha256(),
                algorithm: trusted.key.algorithm(),
                certificate: trusted.certificate.clone(),
            });
        report.signer = Some(Signer::Keys(signers.collect()));
        Ok(opened.payload().to_vec())
    }

    /// The names in an envelope, if every signature says to be by another key than those at hand.
    ///
    /// One that does not say whose it is may be a broken one of ours.
    fn foreign_names(&self, data: &[u8]) -> Option<Vec<String>> {
        let known: Vec<_> = self.keys.iter().map(PublicKey::ssh_fingerprint).collect();
        let is_foreign = |name: &String| !name.is_empty() && !known.contains(name);
        let names = dsse::entries(data).ok()?;
        names.iter().all(is_foreign).then_some(names)
    }

    fn open_message(
        &mut self,
        data: &[u8],
        object: &Descriptor,
        report: &mut SignatureReport,
    ) -> Result<Vec<u8>, String> {
        let known = self.material.keyrings.as_deref().unwrap_or_default();
        match pgp::open(data, &self.keyrings, self.request.now) {
            Ok(opened) => {
                report.signer = Some(pgp_signer(opened.signer(), known));
                Ok(opened.payload().to_vec())
            }
            Err(refusal) => {
                report.signer = refusal.signer().map(|signer| pgp_signer(signer, known));
                if matches!(refusal.error(), pgp::Error::UnknownSigner) {
                    let issuers = pgp::issuers(data);
                    report.unknown_signer = true;
                    report.claimed = claimed_keys(object, &issuers);
                    for id in issuers {
                        if self.known_missing.insert(id) {
                            self.missing_keys.push(id);
                        }
                    }
                }
                Err(refusal.to_string())
            }
        }
    }

    /// Source: spec/sif.md 4.3 steps 3 to 8.
    fn judge_metadata(
        &self,
        task: &Task,
        signature: &Descriptor,
        payload: &[u8],
        pending: &mut Pending,
    ) -> Result<(), Failure> {
        let metadata =
            native::ImageMetadata::parse(payload).map_err(|error| Failure::NotValid {
                object: signature.raw_id(),
                reason: error.to_string(),
            })?;
        let lowest = self.image.lowest_id(task.group);
        if lowest == u32::MAX {
            return Err(Failure::LargestId(task.group));
        }
        require_named_signer(signature, pending.report.signer.as_ref())?;
        let members: Vec<_> = self.members(task).collect();
        if task.object.is_none() {
            let mut ids: Vec<_> = members.iter().map(|(_, o)| o.raw_id()).collect();
            let signed = metadata.ids(lowest);
            if let Some(extra) = ids.iter().find(|id| signed.binary_search(id).is_err()) {
                return Err(Failure::ObjectNotSigned(*extra));
            }
            ids.sort_unstable();
            if let Some(gone) = signed.iter().find(|id| ids.binary_search(id).is_err()) {
                return Err(Failure::SignedObjectMissing(*gone));
            }
        }
        let header = self.image.header().integrity_bytes();
        if metadata.header.algorithm().digest(&header) != metadata.header {
            return Err(Failure::HeaderChanged);
        }
        let entries = metadata.by_id(lowest);
        for (index, object) in members {
            let id = object.raw_id();
            let entry = entries.get(&id).ok_or(Failure::ObjectNotSigned(id))?;
            let covered = object.integrity_bytes(self.image.relative_id(object));
            if entry.descriptor.algorithm().digest(&covered) != entry.descriptor {
                return Err(Failure::DescriptorChanged(id));
            }
            pending.comparisons.push(Comparison {
                extent: Extent::Object(index),
                expected: entry.object.clone(),
                proves: vec![object.into()],
                mismatch: Failure::ObjectChanged(id),
            });
        }
        Ok(())
    }

    /// Source: spec/sif.md 4.4.
    fn judge_legacy(
        &self,
        task: &Task,
        signature: &Descriptor,
        payload: &[u8],
        pending: &mut Pending,
    ) -> Result<(), Failure> {
        let hash = signature
            .signature_hash()
            .map_err(|_| Failure::UnsupportedHash)?;
        require_named_signer(signature, pending.report.signer.as_ref())?;
        let expected =
            legacy::parse(payload, hash).map_err(|error| Failure::LegacyText(error.to_string()))?;
        let members: Vec<_> = self.members(task).collect();
        let proves = members.iter().map(|(_, o)| (*o).into()).collect();
        let (extent, mismatch) = match (task.object, members.first()) {
            (Some(id), Some((index, _))) => {
                (Extent::Object(*index), Failure::ObjectChanged(id.get()))
            }
            _ => (Extent::Group(task.group), Failure::GroupChanged),
        };
        pending.comparisons.push(Comparison {
            extent,
            expected,
            proves,
            mismatch,
        });
        Ok(())
    }

    /// Objects of a task with their index, in table order.
    fn members(&self, task: &Task) -> impl Iterator<Item = (usize, &'i Descriptor)> {
        let only = task.object;
        self.image
            .group_members(task.group)
            .filter(move |(_, o)| only.is_none_or(|id| o.raw_id() == id.get()))
    }
}

fn read_content<'a>(image: &Image<'a>, object: &Descriptor) -> Content<'a> {
    let data = match image.signature_data(object) {
        Ok(data) => data,
        Err(sif::Error::SignatureTooLarge { .. }) => return Content::TooLarge,
        Err(_) => return Content::Cut,
    };
    let clear_signed = pgp::parse(data);
    let format = if dsse::is_envelope(data, dsse::SIF_METADATA_TYPE) {
        Some(Format::Dsse)
    } else {
        clear_signed.is_some().then_some(Format::Pgp)
    };
    Content::Readable {
        data,
        format,
        legacy: clear_signed.is_some_and(|message| legacy::is_legacy(message.plaintext())),
    }
}

/// The fingerprint in the descriptor must be the PGP signer's; DSSE has none.
fn require_named_signer(signature: &Descriptor, signer: Option<&Signer>) -> Result<(), Failure> {
    let Some(Signer::Pgp(signer)) = signer else {
        return Ok(());
    };
    let named = signature.signature_fingerprint().map(hex::encode_upper);
    if named.as_deref() == Some(signer.fingerprint.as_str()) {
        Ok(())
    } else {
        Err(Failure::OtherSigner)
    }
}

/// Key ids of a signature that nobody at hand made; the fingerprint of its descriptor in place of
/// the one that it ends with.
fn claimed_keys(signature: &Descriptor, issuers: &[u64]) -> Vec<String> {
    let whole = signature.signature_fingerprint().map(hex::encode_upper);
    let ids = issuers.iter().take(MAX_CLAIMED);
    let ids = ids.map(|id| format!("{id:016X}"));
    ids.map(|id| match &whole {
        Some(whole) if whole.ends_with(&id) => whole.clone(),
        _ => id,
    })
    .collect()
}

/// The same for the names in an envelope.
fn claimed_names(names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = names.into_iter();
    names
        .filter(|name| (1..=MAX_CLAIM).contains(&name.len()))
        .filter(|name| seen.insert(name.clone()))
        .take(MAX_CLAIMED)
        .collect()
}

fn pgp_signer(signer: &pgp::Signer, keyrings: &[(Origin, Arc<Keyring>)]) -> Signer {
    let origin = keyrings
        .get(signer.keyring_index())
        .map_or(Origin::Remote, |(origin, _)| *origin);
    let in_local_keyring = keyrings.iter().any(|(origin, ring)| {
        *origin == Origin::Local && ring.position(signer.primary_fingerprint()).is_some()
    });
    Signer::Pgp(PgpSigner {
        fingerprint: signer.primary_fingerprint().to_string(),
        user_id: signer.user_id().map(ToOwned::to_owned),
        origin,
        in_local_keyring,
        signed_at: i64::try_from(signer.created()).unwrap_or(i64::MAX),
    })
}
