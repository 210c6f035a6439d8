//! The answer of a verification as plain data. Text and JSON render it.

use crate::digest::Digest;
use crate::payload::simple::SimpleSigning;
use crate::sif::types::DataType;
use crate::sif::{Descriptor, GroupId, Link};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// Where a PGP key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The administrator's keyring.
    Global,
    /// The user's keyring.
    Local,
    /// A key server.
    Remote,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Global => "GLOBAL",
            Self::Local => "LOCAL",
            Self::Remote => "REMOTE",
        })
    }
}

/// The whole answer about one image.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One entry per signature that was looked at, in order.
    pub signatures: Vec<SignatureReport>,
    /// Refusals that belong to no signature, such as a group without one.
    pub general: Vec<Failure>,
    /// Ids of PGP keys that some signature names and no keyring has.
    pub missing_keys: Vec<u64>,
    /// Everything that had to be signed, in order.
    pub checked: Vec<Subject>,
    /// Whose signatures count for demands on the signers, if there were any.
    pub standing: Option<Vec<Standing>>,
    /// The rule of a policy that demanded it, if one did.
    pub rule: Option<RuleName>,
    first_failure: Option<Failure>,
}

/// What has to be signed: a whole group, or one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// All objects of a group.
    Group(GroupId),
    /// The object with this id, of this group.
    Object(GroupId, u32),
    /// An OCI image.
    Image,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "object group {group}"),
            Self::Object(_, id) => write!(f, "object {id}"),
            Self::Image => f.write_str("the image"),
        }
    }
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// The policy, as the user named it.
    pub file: String,
    /// Place of the rule in it, from 1.
    pub number: usize,
}

/// Whose signatures count for one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What had to be signed.
    pub subject: Subject,
    /// Each key once, in the order of the signatures; of [`Signer::Keys`] one key each.
    pub signers: Vec<Signer>,
    /// How many signers these are: two keys may be those of one.
    pub distinct: usize,
    /// What is missing; nothing if the demands are met.
    pub unmet: Vec<Unmet>,
}

/// A demand on the signers that is not met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// Somebody who must have signed has not.
    #[error("{subject} is not signed by {signer}")]
    NotBy {
        /// What had to be signed.
        subject: Subject,
        /// By whom.
        signer: String,
    },
    /// Too few signers.
    #[error("{subject} has {found} of {wanted} accepted signers")]
    TooFew {
        /// What had to be signed.
        subject: Subject,
        /// How many did.
        found: usize,
        /// How many have to.
        wanted: usize,
    },
    /// The policy has no rule for the image.
    #[error("no rule for {0}")]
    NoRule(String),
}

/// Most names of keys that are reported of a signature that no key at hand can judge.
pub const MAX_CLAIMED: usize = 16;
/// Longest of these names, in bytes; a longer one names nobody.
pub const MAX_CLAIM: usize = 256;

/// What was found out about one signature object.
#[derive(Clone, Debug)]
pub struct SignatureReport {
    /// Id of the signature object.
    pub object: u32,
    /// Group that it was checked for.
    pub group: GroupId,
    /// Object that it was checked for, or the whole group.
    pub only_object: Option<u32>,
    /// How it is encoded, if that could be told.
    pub format: Option<Format>,
    /// Whether it is a legacy signature, which protects no descriptor.
    pub legacy: bool,
    /// Who made it, as far as the cryptography proved it.
    pub signer: Option<Signer>,
    /// Objects that it proves unchanged, in table order.
    pub verified: Vec<ObjectSummary>,
    /// The object whose data differs, if that is the reason.
    pub damaged: Option<ObjectSummary>,
    /// Why it does not count.
    pub failure: Option<Failure>,
    /// Whether no key that was at hand can judge it, so that neither yes nor no is known.
    pub unknown_signer: bool,
    /// Whom such a signature names, as fingerprint or key id, each once; nothing proves it. At
    /// most [`MAX_CLAIMED`].
    pub claimed: Vec<String>,
    /// Whether the failure was passed over because that was asked for.
    pub ignored: bool,
}

impl SignatureReport {
    /// What it was checked for.
    pub fn subject(&self) -> Subject {
        self.only_object.map_or(Subject::Group(self.group), |id| {
            Subject::Object(self.group, id)
        })
    }
}

/// Encoding of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenPGP clear-signed text.
    Pgp,
    /// DSSE envelope.
    Dsse,
}

/// Who made a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// An OpenPGP certificate.
    Pgp(PgpSigner),
    /// Public keys, in the order of the envelope.
    Keys(Vec<KeySigner>),
}

/// An OpenPGP signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgpSigner {
    /// Primary key fingerprint, upper-case hexadecimal.
    pub fingerprint: String,
    /// Primary user id, if there is one.
    pub user_id: Option<String>,
    /// First keyring that has the key.
    pub origin: Origin,
    /// Whether the user's own keyring has it.
    pub in_local_keyring: bool,
    /// Time of the signature, Unix seconds.
    pub signed_at: i64,
}

/// A public key that accepted a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySigner {
    /// SSH fingerprint, `SHA256:...`; empty if SSH cannot express the key.
    pub key_id: String,
    /// SHA-256 of the DER `SubjectPublicKeyInfo`, hexadecimal: the one name of the key.
    pub spki: String,
    /// Kind of key for people.
    pub algorithm: String,
    /// The certificate that speaks for the key, if one does.
    pub certificate: Option<CertificateFacts>,
}

/// What is to be told about a certificate that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Owner, RFC 4514.
    pub subject: String,
    /// Issuer, RFC 4514.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// First second of validity, since 1970.
    pub not_before: u64,
    /// Last second of validity, since 1970.
    pub not_after: u64,
    /// Owners of the certificates of the path: this one first, the root last.
    pub chain: Vec<String>,
    /// What is known of revocation, for each certificate of the path but the root.
    pub revocation: Vec<Revocation>,
}

/// How it is known that a certificate was not revoked; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Nobody was asked.
    NotChecked,
    /// A list of its issuer does not have it.
    Crl {
        /// When the list was made.
        this_update: u64,
        /// When the next one was due.
        next_update: u64,
    },
    /// A responder says so.
    Ocsp {
        /// When that was known.
        this_update: u64,
        /// When there will be news, if the responder tells.
        next_update: Option<u64>,
        /// The delegate that signed the answer; nothing for the issuer itself.
        responder: Option<String>,
    },
}

impl KeySigner {
    /// Whether the key makes ECDSA signatures, which have twins.
    pub fn is_ecdsa(&self) -> bool {
        self.algorithm.starts_with("ECDSA")
    }
}

/// The few facts about an object that reports print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Id.
    pub id: u32,
    /// Group.
    pub group: Option<GroupId>,
    /// Link.
    pub link: Link,
    /// Type.
    pub data_type: DataType,
    /// Bytes of data.
    pub size: i64,
}

impl From<&Descriptor> for ObjectSummary {
    fn from(object: &Descriptor) -> Self {
        Self {
            id: object.raw_id(),
            group: object.group(),
            link: object.link(),
            data_type: object.data_type(),
            size: object.size(),
        }
    }
}

/// A refusal; the sentences are those of the originals without `integrity: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No signature for a group.
    #[error("signature not found for object group {0}")]
    NoSignatureForGroup(GroupId),
    /// No legacy signature for an object.
    #[error("signature not found for object {0}")]
    NoSignatureForObject(u32),
    /// Some object is in no group, so nothing can vouch for it.
    #[error("non-signature object not associated with object group")]
    UngroupedObject(u32),
    /// A signature object reaches past the end of the file.
    #[error("unexpected EOF")]
    SignatureCut(u32),
    /// Neither DSSE nor clear-signed.
    #[error("signature format not recognized")]
    UnknownFormat,
    /// DSSE, and no public key at hand.
    #[error("key material not provided for DSSE envelope signature")]
    NoKeyForDsse,
    /// Clear-signed, and no keyring at hand.
    #[error("key material not provided for PGP clear-sign signature")]
    NoKeyForPgp,
    /// The signature itself does not hold.
    #[error("signature object {object} not valid: {reason}")]
    NotValid {
        /// Id of the signature object.
        object: u32,
        /// The reason, in the words of the originals.
        reason: String,
    },
    /// The hash type in the extra field is none of the five.
    #[error("hash algorithm unsupported")]
    UnsupportedHash,
    /// The signer is another one than the descriptor says.
    #[error("fingerprint in descriptor does not correspond to signing entity")]
    OtherSigner,
    /// The text of a legacy signature cannot be used.
    #[error("{0}")]
    LegacyText(String),
    /// An object that the signature does not name.
    #[error("object {0}: object not signed")]
    ObjectNotSigned(u32),
    /// An object that the signature names and the image lacks.
    #[error("object {0}: signed object not found")]
    SignedObjectMissing(u32),
    /// A group whose smallest id is the largest number that there is.
    ///
    /// The originals take that for a group without objects.
    #[error("group not found")]
    LargestId(GroupId),
    /// The header differs.
    #[error("header integrity compromised")]
    HeaderChanged,
    /// A descriptor differs.
    #[error("data object descriptor integrity compromised: {0}")]
    DescriptorChanged(u32),
    /// An object's data differs.
    #[error("data object integrity compromised: {0}")]
    ObjectChanged(u32),
    /// Data of a legacy group differs.
    #[error("data object integrity compromised")]
    GroupChanged,
    /// The signatures hold, but not those that were demanded.
    #[error("policy: {0}")]
    Policy(Unmet),
}

impl Failure {
    /// Whether the originals print a block for a signature that fails so.
    ///
    /// Without a usable format or key they stop before the signature counts.
    pub fn is_about_content(&self) -> bool {
        !matches!(
            self,
            Self::UnknownFormat | Self::NoKeyForDsse | Self::NoKeyForPgp
        )
    }
}

impl Report {
    /// Adds what was found out about a signature.
    pub fn push(&mut self, signature: SignatureReport) {
        if let (Some(failure), false) = (&signature.failure, signature.ignored) {
            self.first_failure.get_or_insert_with(|| failure.clone());
        }
        self.signatures.push(signature);
    }

    /// Adds a refusal that belongs to no signature.
    pub fn refuse(&mut self, failure: Failure) {
        self.first_failure.get_or_insert_with(|| failure.clone());
        self.general.push(failure);
    }

    /// The signature that a failure is about, if no key at hand can judge it.
    pub fn by_unknown(&self, failure: &Failure) -> Option<&SignatureReport> {
        let mut signatures = self.signatures.iter();
        let of = signatures.find(|s| s.failure.as_ref() == Some(failure));
        of.filter(|signature| signature.unknown_signer)
    }

    /// The first reason to refuse the image.
    ///
    /// `None` alone is no "yes", see [`Report::is_verified`].
    pub fn failure(&self) -> Option<&Failure> {
        self.first_failure.as_ref()
    }

    /// Whether nothing speaks against the image, and for everything that was checked there is a
    /// signature that holds.
    pub fn is_verified(&self) -> bool {
        let valid = self.signatures.iter().filter(|s| s.failure.is_none());
        let signed: HashSet<Subject> = valid.map(SignatureReport::subject).collect();
        self.first_failure.is_none()
            && !self.checked.is_empty()
            && self.checked.iter().all(|subject| signed.contains(subject))
    }
}

/// The answer about the cosign signatures of one image.
#[derive(Clone, Debug)]
pub struct CosignReport {
    /// Digest of the image or index that was judged.
    pub image: Digest,
    /// How many OCI blobs were hashed; 0 where there is no file.
    pub blobs: usize,
    /// Every signature that was found, in order.
    pub signatures: Vec<CosignSignature>,
    /// What else is wrong with the file, outside the image.
    pub problems: Vec<String>,
    /// Whether signatures may be those of an index that the image was chosen from.
    pub by_index: bool,
}

/// What was found out about one cosign signature.
#[derive(Clone, Debug)]
pub struct CosignSignature {
    /// Digest of the image or index that it is attached to.
    pub subject: Digest,
    /// Who made it, once the cryptography held.
    pub signer: Option<KeySigner>,
    /// Digest or variant of the signature algorithm, once it held.
    pub scheme: Option<&'static str>,
    /// What was signed, once the cryptography held.
    pub payload: Option<SimpleSigning>,
    /// Whether it counts.
    pub verdict: CosignVerdict,
}

/// Whether a cosign signature counts, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CosignVerdict {
    /// It counts.
    Valid,
    /// No key made it, or it cannot be read; in the words of the originals.
    NotByKey(String),
    /// It is about another image, whose digest is named.
    OtherImage(String),
    /// A key made it, and it is not what was asked for.
    Refused(String),
}

impl CosignReport {
    /// A report without signatures.
    pub fn new(image: Digest) -> Self {
        Self {
            image,
            blobs: 0,
            signatures: Vec::new(),
            problems: Vec::new(),
            by_index: false,
        }
    }

    /// Signatures that count.
    pub fn valid(&self) -> impl Iterator<Item = &CosignSignature> {
        let counts = |signature: &&CosignSignature| signature.verdict == CosignVerdict::Valid;
        self.signatures.iter().filter(counts)
    }

    /// Whether one signature counts; one is enough, as for the originals.
    pub fn is_verified(&self) -> bool {
        self.valid().next().is_some()
    }
}

impl CosignSignature {
    /// A signature that was not judged yet, and so does not count.
    pub fn new(subject: Digest) -> Self {
        Self {
            subject,
            signer: None,
            scheme: None,
            payload: None,
            verdict: CosignVerdict::NotByKey("not judged".to_owned()),
        }
    }

    /// Why it does not count, in the words of the originals where they have some.
    pub fn reason(&self) -> Option<String> {
        match &self.verdict {
            CosignVerdict::Valid => None,
            CosignVerdict::NotByKey(reason) => {
                Some(format!("invalid for provided key material: {reason}"))
            }
            CosignVerdict::OtherImage(_) => Some(format!("invalid for image {}", self.subject)),
            CosignVerdict::Refused(reason) => Some(format!("refused: {reason}")),
        }
    }
}

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
    pub envelope: Cow<'a, [u8]>,
    /// The statement in it.
    pub statement: Vec<u8>,
    /// The key that accepted it.
    pub signer: KeySigner,
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
