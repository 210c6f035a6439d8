//! Certificate revocation lists.
//!
//! rustls-webpki reads them and refuses what it cannot process: versions but 2, delta lists,
//! indirect lists, lists of some reasons, unknown critical extensions. A list tells about the
//! certificates of its own issuer only.
//!
//! Source: RFC 5280, sections 5 and 6.3.

use super::block::all_blocks;
use super::signed::{Signed, element, inside};
use super::x509::{Certificate, Moment};
use der::oid::AssociatedOid;
use der::{Decode, Reader, Tag, TagMode, TagNumber};
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::crl::{CrlNumber, dp::IssuingDistributionPoint};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::time::Time;

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No PEM block, or something else behind the last one.
    #[error("failed to decode PEM")]
    Pem,
    /// A PEM block of another kind.
    #[error("PEM block is '{0}', not 'X509 CRL'")]
    Label(String),
    /// Not the DER structure of a list.
    #[error("malformed CRL")]
    Malformed,
    /// Version 1: without extensions nobody knows its scope.
    #[error("CRL version is not supported, must be 2")]
    Version,
    /// It does not say when it is out of date, or lacks all extensions.
    #[error("CRL has no next update or no extensions")]
    Incomplete,
    /// Its number, which tells old lists from new ones, is missing or critical.
    #[error("CRL number is missing or critical")]
    Number,
    /// Only changes to another list.
    #[error("delta CRLs are not supported")]
    Delta,
    /// It tells about certificates of other issuers, too.
    #[error("indirect CRLs are not supported")]
    Indirect,
    /// It lists some reasons of revocation only.
    #[error("CRLs of some revocation reasons only are not supported")]
    SomeReasons,
    /// Its scope is told in a way that is not understood.
    #[error("issuing distribution point of the CRL is not supported")]
    Scope,
    /// A critical extension that is not processed here.
    #[error("unhandled critical extension in CRL")]
    Critical,
    /// Refused for another reason; the words are those of the library.
    #[error("malformed CRL: {0}")]
    Other(String),
}

/// A revocation list; parsed, but trusted in nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    der: Vec<u8>,
    issuer_der: Vec<u8>,
    this_update: u64,
    next_update: u64,
    scope: Option<Scope>,
}

/// What a list is restricted to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    only_user: bool,
    only_ca: bool,
    urls: Vec<String>,
}

/// A certificate is not on a current list of its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good {
    /// When the list was made, Unix seconds.
    pub this_update: u64,
    /// When the next one was due, Unix seconds.
    pub next_update: u64,
}

/// What lists say about a certificate.
pub enum Status {
    /// A current list of its issuer does not have it.
    Good(Good),
    /// A list of its issuer has it.
    Revoked {
        /// Since, Unix seconds.
        at: u64,
        /// Reason code of RFC 5280, section 5.3.1; 0 if there is none.
        reason: u8,
    },
    /// No list tells; the reason.
    Unknown(String),
}

impl Crl {
    /// Reads a file: one list in DER, or any number of PEM blocks.
    ///
    /// # Errors
    /// [`Error`] for the first list that cannot be used.
    pub fn all_from_file(bytes: &[u8]) -> Result<Vec<Self>, Error> {
        if bytes.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![Self::from_der(bytes)?]);
        }
        let blocks = all_blocks(bytes).map_err(|_| Error::Pem)?;
        if blocks.is_empty() {
            return Err(Error::Pem);
        }
        let lists = blocks.iter().map(|block| match block.label.as_str() {
            "X509 CRL" => Self::from_der(&block.body),
            other => Err(Error::Label(other.to_owned())),
        });
        lists.collect()
    }

    /// Reads a list in DER.
    ///
    /// # Errors
    /// [`Error`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let list = BorrowedCertRevocationList::from_der(der).map_err(|e| explain(&e))?;
        let scope = CertRevocationList::Borrowed(list)
            .issuing_distribution_point()
            .map(Scope::read)
            .transpose()?;
        let head = Head::read(der).map_err(|_| Error::Malformed)?;
        let mut numbers = head
            .extensions
            .iter()
            .filter(|e| e.extn_id == CrlNumber::OID);
        match (numbers.next(), numbers.next()) {
            (Some(number), None) if !number.critical => {}
            _ => return Err(Error::Number),
        }
        Ok(Self {
            issuer_der: head.issuer.to_vec(),
            this_update: head.this_update.to_unix_duration().as_secs(),
            next_update: head.next_update.to_unix_duration().as_secs(),
            scope,
            der: der.to_vec(),
        })
    }

    fn covers(&self, certificate: &Certificate) -> bool {
        let Some(scope) = &self.scope else {
            return true;
        };
        if scope.only_ca && !certificate.is_ca() || scope.only_user && certificate.is_ca() {
            return false;
        }
        // A part of the lists: nothing tells that a certificate which names no list is in it.
        let Some(points) = certificate.distribution_points() else {
            return false;
        };
        let whole = points
            .0
            .iter()
            .filter(|p| p.crl_issuer.is_none() && p.reasons.is_none());
        let mut urls = whole.flat_map(|p| p.distribution_point.as_ref().map_or(Vec::new(), urls));
        urls.any(|url| scope.urls.contains(&url))
    }

    fn is_signed_by(&self, issuer: &Certificate) -> bool {
        inside(&self.der)
            .and_then(|mut reader| Signed::read(&mut reader))
            .is_ok_and(|signed| signed.holds(issuer.spki()))
    }

    /// Time and reason of a revocation.
    fn find(&self, certificate: &Certificate) -> Result<Option<(u64, u8)>, Error> {
        let list = BorrowedCertRevocationList::from_der(&self.der).map_err(|e| explain(&e))?;
        let list = CertRevocationList::Borrowed(list);
        let entry = list
            .find_serial(certificate.serial_bytes())
            .map_err(|e| explain(&e))?;
        Ok(entry.map(|entry| {
            let reason = entry.reason_code.map_or(0, |reason| reason as u8);
            (entry.revocation_date.as_secs(), reason)
        }))
    }
}

/// Asks all lists about a certificate of this issuer.
pub fn status(
    lists: &[Crl],
    certificate: &Certificate,
    issuer: &Certificate,
    moment: Moment,
) -> Status {
    let mut why = "no CRL of its issuer".to_owned();
    let mut good: Option<Good> = None;
    for list in lists
        .iter()
        .filter(|list| list.issuer_der == certificate.issuer_der())
    {
        let refused = if !list.is_signed_by(issuer) {
            "the CRL is not signed by the key of its issuer"
        } else if !issuer.allows(x509_cert::ext::pkix::KeyUsage::crl_sign) {
            "its issuer may not sign CRLs"
        } else {
            ""
        };
        if !refused.is_empty() {
            why = refused.to_owned();
            continue;
        }
        let current = list.this_update <= moment.latest() && moment.at < list.next_update;
        match list.find(certificate) {
            // Only a hold ends: other entries count on lists of any age.
            Ok(Some((at, reason))) if current || reason != CERTIFICATE_HOLD => {
                return Status::Revoked { at, reason };
            }
            // An entry counts wherever the issuer put it; that there is none, only here.
            Ok(_) if !list.covers(certificate) => {
                why = "the CRL of its issuer does not cover it".to_owned();
            }
            Ok(_) if list.this_update > moment.latest() => {
                why = format!(
                    "the CRL is from the future ({})",
                    super::x509::time(list.this_update)
                );
            }
            Ok(_) if !current => {
                why = format!(
                    "the CRL is out of date since {}",
                    super::x509::time(list.next_update)
                );
            }
            Ok(_)
                if good
                    .as_ref()
                    .is_none_or(|known| known.this_update < list.this_update) =>
            {
                good = Some(Good {
                    this_update: list.this_update,
                    next_update: list.next_update,
                });
            }
            Ok(_) => {}
            Err(error) => why = error.to_string(),
        }
    }
    good.map_or(Status::Unknown(why), Status::Good)
}

impl Scope {
    fn read(der: &[u8]) -> Result<Self, Error> {
        let point = IssuingDistributionPoint::from_der(der).map_err(|_| Error::Scope)?;
        Ok(Self {
            only_user: point.only_contains_user_certs,
            only_ca: point.only_contains_ca_certs,
            urls: point.distribution_point.as_ref().map_or(Vec::new(), urls),
        })
    }
}

fn urls(point: &DistributionPointName) -> Vec<String> {
    let DistributionPointName::FullName(names) = point else {
        return Vec::new();
    };
    let url = |name: &GeneralName| match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    };
    names.iter().filter_map(url).collect()
}

/// What stands around the entries of a list.
struct Head<'a> {
    issuer: &'a [u8],
    this_update: Time,
    next_update: Time,
    extensions: Extensions,
}

impl<'a> Head<'a> {
    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut outer = inside(der)?;
        let mut list = inside(outer.tlv_bytes()?)?;
        element(&mut list, Tag::Integer)?;
        element(&mut list, Tag::Sequence)?;
        let issuer = list.tlv_bytes()?;
        let (this_update, next_update) = (list.decode()?, list.decode()?);
        if list.peek_tag()? == Tag::Sequence {
            list.tlv_bytes()?;
        }
        let extensions = list.context_specific(TagNumber::N0, TagMode::Explicit)?;
        Ok(Self {
            issuer,
            this_update,
            next_update,
            extensions: list.finish(extensions)?.unwrap_or_default(),
        })
    }
}

fn explain(error: &webpki::Error) -> Error {
    use webpki::Error as W;
    match error {
        W::UnsupportedCrlVersion => Error::Version,
        W::UnsupportedDeltaCrl => Error::Delta,
        W::UnsupportedIndirectCrl => Error::Indirect,
        W::UnsupportedRevocationReasonsPartitioning => Error::SomeReasons,
        W::UnsupportedCrlIssuingDistributionPoint => Error::Scope,
        W::UnsupportedCriticalExtension => Error::Critical,
        W::BadDerTime | W::MalformedExtensions => Error::Incomplete,
        W::BadDer | W::TrailingData(_) => Error::Malformed,
        other => Error::Other(other.to_string()),
    }
}

const DER_SEQUENCE: u8 = 0x30;
/// Reason of a revocation that may be taken back.
const CERTIFICATE_HOLD: u8 = 6;
