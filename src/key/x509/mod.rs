//! X.509 certificates for code signing: reading them, and what they say.
//!
//! Paths are built and checked by [`Trust`]; revocation is in [`super::crl`] and [`super::ocsp`].
//!
//! The sentences are those of Go's `crypto/x509`, because the originals print them.
//!
//! Source: RFC 5280; spec/cli.md 7.1 and 7.3.

mod name;
mod path;
#[cfg(test)]
mod tests;

pub use path::{Chain, Link, Moment, Trust, Usage};

use super::block::{all_blocks, first_block};
use super::pem::{self, PublicKey};
use super::signed::{Signed, element, inside};
use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid;
use der::{Decode, Reader, Tag};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, NameConstraints, PolicyConstraints, SubjectAltName,
    SubjectKeyIdentifier,
    constraints::name::{GeneralSubtree, GeneralSubtrees},
    name::GeneralName,
};
use x509_cert::{Version, name::Name};

/// Why a certificate does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No PEM block, or something else behind the last one.
    #[error("failed to decode PEM")]
    Pem,
    /// Not a certificate; the word is Go's for the part that is at fault.
    #[error("x509: malformed {0}")]
    Malformed(&'static str),
    /// Bytes behind the certificate.
    #[error("x509: trailing data")]
    Trailing,
    /// The algorithm is named twice and differently.
    #[error("x509: inner and outer signature algorithm identifiers don't match")]
    Algorithms,
    /// The same extension twice.
    #[error("x509: certificate contains duplicate extensions")]
    DuplicateExtension,
    /// The value of a known extension is malformed.
    #[error("x509: invalid {0}")]
    Extension(&'static str),
    /// The time of judgement is outside of the validity of a certificate; Unix seconds.
    #[error(
        "x509: certificate has expired or is not yet valid: current time {} is {} {}",
        time(*at), if at > limit { "after" } else { "before" }, time(*limit)
    )]
    Expired {
        /// Time of judgement.
        at: u64,
        /// End or begin of the validity.
        limit: u64,
    },
    /// No path to a root.
    #[error("x509: certificate signed by unknown authority{}", hint(possibly.as_ref()))]
    UnknownAuthority {
        /// Why the likeliest issuer was not accepted, and its name.
        possibly: Option<(String, String)>,
    },
    /// Some certificate of the path must not be used for code signing.
    #[error("x509: certificate specifies an incompatible key usage")]
    IncompatibleUsage,
    /// An intermediate is no CA.
    #[error("x509: certificate is not authorized to sign other certificates")]
    NotAuthorizedToSign,
    /// Longer than a CA of the path, or this program, allows.
    #[error("x509: too many intermediates for path length constraint")]
    TooManyIntermediates,
    /// A name is outside of what a CA of the path may name.
    #[error("x509: a root or intermediate certificate is not authorized to sign for this name")]
    NameNotAuthorized,
    /// A critical extension that is not processed here.
    #[error("x509: unhandled critical extension")]
    UnhandledCritical,
    /// A CA of the path asks for certificate policies, which are not processed here.
    #[error("x509: policy constraints are not supported: {0}")]
    PolicyConstraints(String),
    /// Below zero.
    #[error("x509: negative serial number")]
    NegativeSerial,
    /// The certificate of a CA as the signer's.
    #[error("x509: the certificate of a CA cannot be the signer's unless it is a root")]
    CaAsLeaf,
    /// Versions 1 and 2 have no extensions and say nothing about usage.
    #[error("x509: certificate version {0} is accepted only for a root")]
    OldVersion(u8),
    /// Too many candidates for issuers.
    #[error("x509: signature check attempts limit reached while verifying certificate chain")]
    TooManyChecks,
    /// Refused for another reason; the words are those of the validation library.
    #[error("x509: {0}")]
    Other(String),
    /// Revoked by a CRL.
    #[error("certificate revoked at '{}'. Revocation reason code: '{reason}': {subject}", time(*at))]
    Revoked {
        /// Whose certificate.
        subject: String,
        /// Time of revocation, Unix seconds.
        at: u64,
        /// Reason code of RFC 5280, section 5.3.1; 0 if the CRL has none.
        reason: u8,
    },
    /// CRLs were given, and none of them says whether a certificate is revoked.
    #[error("revocation status of '{subject}' is unknown: {why}")]
    StatusUnknown {
        /// Whose certificate.
        subject: String,
        /// Why no CRL counts.
        why: String,
    },
}

/// A certificate; parsed, but trusted in nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    version: Version,
    /// Content of the INTEGER.
    serial: Vec<u8>,
    /// DER of the names and of the key, as found in the certificate.
    issuer_der: Vec<u8>,
    subject_der: Vec<u8>,
    spki: Vec<u8>,
    issuer: Name,
    subject: Name,
    not_before: u64,
    not_after: u64,
    extensions: Extensions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extensions {
    ca: Option<bool>,
    path_len: Option<u8>,
    key_usage: Option<KeyUsage>,
    extended_key_usage: Option<Vec<ObjectIdentifier>>,
    distribution_points: Option<CrlDistributionPoints>,
    ocsp_urls: Vec<String>,
    ocsp_no_check: bool,
    alternative_names: bool,
    constrains_email: bool,
    constrains_policies: bool,
    unhandled_critical: bool,
}

impl Certificate {
    /// Reads the first PEM block, whatever its label.
    ///
    /// # Errors
    /// [`Error::Pem`], and those of [`Certificate::from_der`].
    ///
    /// Source: spec/cli.md 7.1.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let block = first_block(pem).map_err(|_| Error::Pem)?;
        Self::from_der(&block.body)
    }

    /// Reads a file of certificates; a file of blanks has none.
    ///
    /// # Errors
    /// [`Error::Pem`] if anything but blanks follows the last block, and those of
    /// [`Certificate::from_der`].
    ///
    /// Source: spec/cli.md 7.1.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, Error> {
        let blocks = all_blocks(pem).map_err(|_| Error::Pem)?;
        blocks
            .iter()
            .map(|block| Self::from_der(&block.body))
            .collect()
    }

    /// Reads a DER certificate.
    ///
    /// # Errors
    /// The variants for malformed certificates.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let raw = Raw::read(der)?;
        if raw.serial.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(Error::NegativeSerial);
        }
        let parsed =
            x509_cert::Certificate::from_der(der).map_err(|_| Error::Malformed("certificate"))?;
        if parsed.signature_algorithm != parsed.tbs_certificate.signature {
            return Err(Error::Algorithms);
        }
        let tbs = parsed.tbs_certificate;
        let extensions = Extensions::read(tbs.extensions.as_deref().unwrap_or_default())?;
        Ok(Self {
            der: der.to_vec(),
            version: tbs.version,
            serial: raw.serial.to_vec(),
            issuer_der: raw.issuer.to_vec(),
            subject_der: raw.subject.to_vec(),
            spki: raw.spki.to_vec(),
            issuer: tbs.issuer,
            subject: tbs.subject,
            not_before: tbs.validity.not_before.to_unix_duration().as_secs(),
            not_after: tbs.validity.not_after.to_unix_duration().as_secs(),
            extensions,
        })
    }

    /// The certificate as it was read.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whose certificate it is, RFC 4514: `CN=Signer,O=Example`. It may hold any character.
    pub fn subject(&self) -> String {
        name::to_text(&self.subject)
    }

    /// The elements of [`Certificate::subject`] in its order: short name or object identifier of
    /// each attribute, and its value if it is text.
    pub fn subject_elements(&self) -> Vec<Vec<(String, Option<String>)>> {
        name::elements(&self.subject)
    }

    /// Who issued it, as [`Certificate::subject`].
    pub fn issuer(&self) -> String {
        name::to_text(&self.issuer)
    }

    /// What a person would call the owner.
    pub fn short_name(&self) -> String {
        name::short(&self.subject).unwrap_or_else(|| format!("serial:{}", self.serial()))
    }

    /// What a person would call the issuer.
    pub fn issuer_short_name(&self) -> String {
        name::short(&self.issuer).unwrap_or_default()
    }

    /// Serial number, hexadecimal.
    pub fn serial(&self) -> String {
        hex::encode(&self.serial)
    }

    /// SHA-256 of the whole certificate, hexadecimal.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// Begin of its validity, Unix seconds.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Last second of its validity, Unix seconds.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Addresses of OCSP responders, in the order of the certificate.
    pub fn ocsp_urls(&self) -> &[String] {
        &self.extensions.ocsp_urls
    }

    /// Whether its status need not be asked for: the certificate of an OCSP responder.
    ///
    /// Source: RFC 6960, section 4.2.2.2.1.
    pub fn has_ocsp_no_check(&self) -> bool {
        self.extensions.ocsp_no_check
    }

    /// Whether issuer and subject are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.issuer_der == self.subject_der
    }

    /// Whether it may sign other certificates by what it says itself.
    pub fn is_ca(&self) -> bool {
        match self.extensions.ca {
            Some(ca) => ca,
            None => self.version != Version::V3,
        }
    }

    /// The public key.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki_der`].
    pub fn public_key(&self) -> Result<PublicKey, pem::Error> {
        PublicKey::from_spki_der(&self.spki)
    }

    /// Whether this certificate's key signed `other`.
    pub(super) fn signed(&self, other: &Self) -> bool {
        inside(&other.der)
            .and_then(|mut reader| Signed::read(&mut reader))
            .is_ok_and(|signed| signed.holds(&self.spki))
    }

    pub(super) fn serial_bytes(&self) -> &[u8] {
        &self.serial
    }

    pub(super) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    pub(super) fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn distribution_points(&self) -> Option<&CrlDistributionPoints> {
        self.extensions.distribution_points.as_ref()
    }

    /// Whether the key may be used so; a certificate without the extension allows all.
    pub(super) fn allows(&self, usage: impl Fn(&KeyUsage) -> bool) -> bool {
        self.extensions.key_usage.as_ref().is_none_or(usage)
    }

    /// Whether the extended key usage allows `usage`: it, any, or no extension at all.
    fn may_be_used_for(&self, usage: Usage) -> bool {
        let listed = self.extensions.extended_key_usage.as_ref();
        listed.is_none_or(|listed| listed.contains(&usage.0) || listed.contains(&ANY_USAGE))
    }

    /// Whether the key may sign what is no certificate: by its usage, and as no half of a CA.
    fn may_sign_data(&self) -> bool {
        self.allows(|usage| {
            let signs = usage.digital_signature() || usage.non_repudiation();
            signs && (!usage.key_cert_sign() || self.is_ca())
        })
    }

    /// Whether an address stands where constraints on addresses count it.
    ///
    /// Source: RFC 5280, section 4.2.1.10.
    fn has_address_in_subject(&self) -> bool {
        !self.extensions.alternative_names && name::has_address(&self.subject)
    }

    fn require_validity(&self, at: u64) -> Result<(), Error> {
        let limit = if at < self.not_before {
            self.not_before
        } else if at > self.not_after {
            self.not_after
        } else {
            return Ok(());
        };
        Err(Error::Expired { at, limit })
    }
}

/// The elements of a certificate whose bytes count.
struct Raw<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
}

impl<'a> Raw<'a> {
    fn read(der: &'a [u8]) -> Result<Self, Error> {
        let malformed = |part| move |_: der::Error| Error::Malformed(part);
        let mut all = der::SliceReader::new(der).map_err(malformed("certificate"))?;
        let certificate = all.tlv_bytes().map_err(malformed("certificate"))?;
        let mut outer = inside(certificate).map_err(malformed("certificate"))?;
        if !all.is_finished() {
            return Err(Error::Trailing);
        }
        let tbs = outer.tlv_bytes().map_err(malformed("tbs certificate"))?;
        let mut tbs = inside(tbs).map_err(malformed("tbs certificate"))?;
        if tbs.peek_tag().is_ok_and(|tag| tag.is_context_specific()) {
            tbs.tlv_bytes().map_err(malformed("version"))?;
        }
        let serial = element(&mut tbs, Tag::Integer).map_err(malformed("serial number"))?;
        element(&mut tbs, Tag::Sequence).map_err(malformed("signature algorithm identifier"))?;
        let issuer = tbs.tlv_bytes().map_err(malformed("issuer"))?;
        element(&mut tbs, Tag::Sequence).map_err(malformed("validity"))?;
        let subject = tbs.tlv_bytes().map_err(malformed("subject"))?;
        let spki = tbs.tlv_bytes().map_err(malformed("spki"))?;
        Ok(Self {
            serial: serial.value(),
            issuer,
            subject,
            spki,
        })
    }
}

impl Extensions {
    fn read(all: &[x509_cert::ext::Extension]) -> Result<Self, Error> {
        let mut read = Self::default();
        let mut seen = BTreeSet::new();
        for extension in all {
            if !seen.insert(extension.extn_id) {
                return Err(Error::DuplicateExtension);
            }
            read.unhandled_critical |= extension.critical && !HANDLED.contains(&extension.extn_id);
            read.remember(extension.extn_id, extension.extn_value.as_bytes())?;
        }
        Ok(read)
    }

    fn remember(&mut self, id: ObjectIdentifier, value: &[u8]) -> Result<(), Error> {
        fn value_of<'a, T: Decode<'a>>(value: &'a [u8], name: &'static str) -> Result<T, Error> {
            T::from_der(value).map_err(|_| Error::Extension(name))
        }
        match id {
            BasicConstraints::OID => {
                let found: BasicConstraints = value_of(value, "basic constraints")?;
                self.ca = Some(found.ca);
                self.path_len = found.path_len_constraint;
            }
            KeyUsage::OID => self.key_usage = Some(value_of(value, "key usage")?),
            ExtendedKeyUsage::OID => {
                let found: ExtendedKeyUsage = value_of(value, "extended key usages")?;
                self.extended_key_usage = Some(found.0);
            }
            SubjectAltName::OID => {
                value_of::<SubjectAltName>(value, "subject alternative names")?;
                self.alternative_names = true;
            }
            NameConstraints::OID => {
                let found: NameConstraints = value_of(value, "name constraints")?;
                let of = |trees: Option<GeneralSubtrees>| trees.unwrap_or_default();
                let mut all = of(found.permitted_subtrees);
                all.extend(of(found.excluded_subtrees));
                if all.is_empty() {
                    return Err(Error::Extension("name constraints"));
                }
                let is_email =
                    |tree: &GeneralSubtree| matches!(tree.base, GeneralName::Rfc822Name(_));
                self.constrains_email = all.iter().any(is_email);
            }
            PolicyConstraints::OID => self.constrains_policies = true,
            // Paths are told by names and signatures; these only have to be what they claim.
            SubjectKeyIdentifier::OID => {
                value_of::<SubjectKeyIdentifier>(value, "subject key identifier")?;
            }
            AuthorityKeyIdentifier::OID => {
                value_of::<AuthorityKeyIdentifier>(value, "authority key identifier")?;
            }
            CrlDistributionPoints::OID => {
                self.distribution_points = Some(value_of(value, "CRL distribution points")?);
            }
            AuthorityInfoAccessSyntax::OID => {
                let found: AuthorityInfoAccessSyntax = value_of(value, "authority info access")?;
                self.ocsp_urls = found.0.iter().filter_map(responder).collect();
            }
            NO_CHECK => self.ocsp_no_check = true,
            _ => {}
        }
        Ok(())
    }
}

fn responder(access: &x509_cert::ext::pkix::AccessDescription) -> Option<String> {
    match &access.access_location {
        GeneralName::UniformResourceIdentifier(url) if access.access_method == AD_OCSP => {
            Some(url.to_string())
        }
        _ => None,
    }
}

/// Seconds since 1970 as Go prints a time: RFC 3339, in UTC.
pub fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.to_string())
}

fn hint(possibly: Option<&(String, String)>) -> String {
    possibly.map_or_else(String::new, |(reason, name)| {
        format!(
            " (possibly because of {reason:?} while trying to verify candidate authority \
             certificate {name:?})"
        )
    })
}

/// Critical extensions that are processed here or by the validation library.
const HANDLED: [ObjectIdentifier; 6] = [
    KeyUsage::OID,
    SubjectAltName::OID,
    BasicConstraints::OID,
    NameConstraints::OID,
    CrlDistributionPoints::OID,
    ExtendedKeyUsage::OID,
];
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const NO_CHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
