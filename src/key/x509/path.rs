//! From a certificate to a root: by rustls-webpki, and what it leaves to its callers.
//!
//! webpki builds paths and checks signatures, validity, basic constraints, path length, names
//! (DNS and IP constraints; other kinds refuse) and critical extensions. Checked here on every
//! path that it finds: the root itself, key usage, extended key usage as Go reads it, and CRLs.
//!
//! Source: RFC 5280, section 6; Go `x509.Certificate.Verify`; spec/cli.md 7.3.

use super::{Certificate, Error};
use crate::key::crl::{self, Crl};
use crate::key::pem::{self, PublicKey};
use crate::key::signed::ALGORITHMS;
use der::asn1::ObjectIdentifier;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::cell::RefCell;
use std::time::Duration;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

/// Paths that are looked at when the first one is not enough.
const MAX_CHAINS: usize = 8;

/// When certificates are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Validity is judged as of this time, Unix seconds.
    pub at: u64,
    /// The clock, Unix seconds. What is known of revocation may be as young as this.
    pub now: u64,
}

impl Moment {
    /// Judges as of the clock's time.
    pub fn now(now: u64) -> Self {
        Self { at: now, now }
    }

    /// The youngest time that a statement about revocation may bear.
    pub(in crate::key) fn latest(self) -> u64 {
        self.at.max(self.now).saturating_add(CLOCK_SKEW)
    }
}

/// Seconds that the clock of a certification authority may be ahead.
const CLOCK_SKEW: u64 = 300;

/// Who is trusted, and what is known.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Certificates that are trusted whatever they are: of a root, of an intermediate CA, or of
    /// the signer.
    pub roots: Vec<Certificate>,
    /// Certificates that may be between; trusted in nothing.
    pub intermediates: Vec<Certificate>,
    /// If there are any, they must tell about every certificate of a path but its root.
    pub crls: Vec<Crl>,
}

/// A path from a signer's certificate to a root, checked at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    certificates: Vec<Certificate>,
    revocation: Vec<Option<crl::Good>>,
}

/// A certificate of a chain and the one that issued it.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// Its issuer, the next of the chain.
    pub issuer: &'a Certificate,
    /// What a CRL says about it; nothing if none tells.
    pub crl: Option<&'a crl::Good>,
}

impl Chain {
    /// The signer's certificate first, the root last; one if the signer's is itself the root.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Every certificate but the root, with its issuer.
    pub fn links(&self) -> impl Iterator<Item = Link<'_>> {
        let issuers = self.certificates.iter().skip(1);
        let pairs = self.certificates.iter().zip(issuers);
        pairs
            .zip(&self.revocation)
            .map(|((certificate, issuer), crl)| Link {
                certificate,
                issuer,
                crl: crl.as_ref(),
            })
    }

    /// The key of the signer's certificate.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki_der`]: a kind of key that no signature is checked with.
    pub fn public_key(&self) -> Result<PublicKey, pem::Error> {
        // A chain is never empty.
        let leaf = self.certificates.first().ok_or(pem::Error::Unsupported)?;
        leaf.public_key()
    }
}

/// What certificates must be good for: an extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(pub ObjectIdentifier);

impl Usage {
    /// Signing of code, and of images.
    pub const CODE_SIGNING: Self = Self(ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3"));
}

/// What a search is for.
#[derive(Clone, Copy)]
struct Search {
    moment: Moment,
    usage: Usage,
    /// Whether a CRL must cover each certificate once there are CRLs.
    covered: bool,
    limit: usize,
}

impl Trust {
    /// Finds a path from `leaf` to a root that allows code signing.
    ///
    /// # Errors
    /// [`Error`]: the certificate does not count, in Go's words.
    pub fn validate(&self, leaf: &Certificate, moment: Moment) -> Result<Chain, Error> {
        self.validate_for(leaf, Usage::CODE_SIGNING, moment)
    }

    /// As [`Trust::validate`], for another usage.
    ///
    /// # Errors
    /// As [`Trust::validate`].
    pub fn validate_for(
        &self,
        leaf: &Certificate,
        usage: Usage,
        moment: Moment,
    ) -> Result<Chain, Error> {
        let search = Search {
            moment,
            usage,
            covered: true,
            limit: 1,
        };
        let found = self.search(leaf, &search)?;
        found
            .into_iter()
            .next()
            .ok_or(Error::UnknownAuthority { possibly: None })
    }

    /// All paths that [`Trust::validate`] would accept, up to a few, for a check of revocation
    /// by other means: certificates that no CRL covers are in them. Never empty.
    ///
    /// # Errors
    /// As [`Trust::validate`].
    pub fn candidates(&self, leaf: &Certificate, moment: Moment) -> Result<Vec<Chain>, Error> {
        let search = Search {
            moment,
            usage: Usage::CODE_SIGNING,
            covered: false,
            limit: MAX_CHAINS,
        };
        self.search(leaf, &search)
    }

    fn search(&self, leaf: &Certificate, search: &Search) -> Result<Vec<Chain>, Error> {
        // As Go: the signer's certificate first.
        if leaf.extensions.unhandled_critical {
            return Err(Error::UnhandledCritical);
        }
        leaf.require_validity(search.moment.at)?;
        if self.roots.iter().any(|root| root.der == leaf.der) {
            return Ok(vec![self.accept(vec![leaf.clone()], search)?]);
        }
        if leaf.is_ca() {
            return Err(match leaf.version {
                x509_cert::Version::V3 => Error::CaAsLeaf,
                version => Error::OldVersion(version as u8 + 1),
            });
        }
        let der = CertificateDer::from(leaf.der.as_slice());
        let entity = EndEntityCert::try_from(&der).map_err(|e| self.explain(&e, leaf, search))?;
        let roots: Vec<_> = self
            .roots
            .iter()
            .map(|r| CertificateDer::from(r.der.as_slice()))
            .collect();
        let mut anchors = Vec::new();
        let mut owners = Vec::new();
        for (root, der) in self.roots.iter().zip(&roots) {
            // A root that webpki cannot read ends no path.
            if let Ok(anchor) = webpki::anchor_from_trusted_cert(der) {
                anchors.push(anchor);
                owners.push(root);
            }
        }
        let between: Vec<_> = self
            .intermediates
            .iter()
            .map(|c| CertificateDer::from(c.der.as_slice()))
            .collect();
        let found = RefCell::new(Vec::new());
        let refused = RefCell::new(None);
        let judge = |path: &VerifiedPath<'_>| {
            let chain = self.certificates(leaf, path, &anchors, &owners);
            match chain.and_then(|chain| self.accept(chain, search)) {
                Ok(chain) => found.borrow_mut().push(chain),
                Err(error) => {
                    refused.borrow_mut().get_or_insert(error);
                }
            }
            if found.borrow().len() >= search.limit {
                Ok(())
            } else {
                Err(webpki::Error::UnknownIssuer)
            }
        };
        let outcome = entity.verify_for_usage(
            ALGORITHMS,
            &anchors,
            &between,
            UnixTime::since_unix_epoch(Duration::from_secs(search.moment.at)),
            LaterChecked,
            None,
            Some(&judge),
        );
        let found = found.take();
        match (outcome, refused.take()) {
            _ if !found.is_empty() => Ok(found),
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(self.explain(&error, leaf, search)),
            // A path that was not judged cannot be.
            (Ok(_), None) => Err(Error::UnknownAuthority { possibly: None }),
        }
    }

    /// The certificates of a path that webpki found.
    fn certificates(
        &self,
        leaf: &Certificate,
        path: &VerifiedPath<'_>,
        anchors: &[TrustAnchor<'_>],
        owners: &[&Certificate],
    ) -> Result<Vec<Certificate>, Error> {
        let lost = || Error::UnknownAuthority { possibly: None };
        let mut chain = vec![leaf.clone()];
        for certificate in path.intermediate_certificates() {
            let der = certificate.der();
            let known = self
                .intermediates
                .iter()
                .find(|known| known.der == der.as_ref());
            chain.push(known.ok_or_else(lost)?.clone());
        }
        // Roots of one name and key differ in validity: the very one counts.
        let index = anchors
            .iter()
            .position(|anchor| std::ptr::eq(anchor, path.anchor()));
        let root = index.and_then(|index| owners.get(index)).ok_or_else(lost)?;
        chain.push((*root).clone());
        Ok(chain)
    }

    /// What webpki does not look at.
    fn accept(&self, certificates: Vec<Certificate>, search: &Search) -> Result<Chain, Error> {
        if let [leaf, between @ .., root] = certificates.as_slice() {
            require_fit_root(root, between.len(), search.moment)?;
            if let Some(unfit) = between.iter().chain([root]).find(|c| !may_issue(c)) {
                return Err(Error::UnknownAuthority {
                    possibly: Some((NOT_AN_ISSUER.to_owned(), unfit.short_name())),
                });
            }
            let constrains = |c: &Certificate| c.extensions.constrains_policies;
            if let Some(constraining) = between.iter().chain([leaf]).find(|c| constrains(c)) {
                return Err(Error::PolicyConstraints(constraining.subject()));
            }
        }
        let mut constrained = false;
        for certificate in certificates.iter().rev() {
            if constrained && certificate.has_address_in_subject() {
                return Err(Error::NameNotAuthorized);
            }
            constrained |= certificate.extensions.constrains_email;
        }
        let usable = certificates.iter().all(|c| c.may_be_used_for(search.usage));
        if !usable || !certificates.first().is_some_and(Certificate::may_sign_data) {
            return Err(Error::IncompatibleUsage);
        }
        let mut revocation = Vec::new();
        if !self.crls.is_empty() {
            self.require_known_issuer(&certificates)?;
        }
        for (certificate, issuer) in certificates.iter().zip(certificates.iter().skip(1)) {
            let status = crl::status(&self.crls, certificate, issuer, search.moment);
            revocation.push(match status {
                crl::Status::Good(good) => Some(good),
                crl::Status::Revoked { at, reason } => {
                    return Err(Error::Revoked {
                        subject: certificate.subject(),
                        at,
                        reason,
                    });
                }
                crl::Status::Unknown(why) if search.covered && !self.crls.is_empty() => {
                    return Err(Error::StatusUnknown {
                        subject: certificate.subject(),
                        why,
                    });
                }
                crl::Status::Unknown(_) => None,
            });
        }
        Ok(Chain {
            certificates,
            revocation,
        })
    }

    /// A signer's certificate that is itself a root has no issuer to tell about it.
    fn require_known_issuer(&self, certificates: &[Certificate]) -> Result<(), Error> {
        match certificates {
            [alone] if !alone.is_self_issued() => Err(Error::StatusUnknown {
                subject: alone.subject(),
                why: "it is itself a root, and its issuer is not at hand".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Puts webpki's reason into Go's words.
    fn explain(&self, error: &webpki::Error, leaf: &Certificate, search: &Search) -> Error {
        use webpki::Error as W;
        let at = search.moment.at;
        match error {
            W::CertExpired { not_after, .. } => Error::Expired {
                at,
                limit: not_after.as_secs(),
            },
            W::CertNotValidYet { not_before, .. } => Error::Expired {
                at,
                limit: not_before.as_secs(),
            },
            W::UnknownIssuer => Error::UnknownAuthority { possibly: None },
            W::InvalidSignatureForPublicKey
            | W::UnsupportedSignatureAlgorithmContext(_)
            | W::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | W::EndEntityUsedAsCa => Error::UnknownAuthority {
                possibly: self.culprit(leaf),
            },
            W::UnsupportedCertVersion => Error::NotAuthorizedToSign,
            W::PathLenConstraintViolated | W::MaximumPathDepthExceeded => {
                Error::TooManyIntermediates
            }
            W::NameConstraintViolation
            | W::MalformedNameConstraint
            | W::InvalidNetworkMaskConstraint
            | W::MaximumNameConstraintComparisonsExceeded => Error::NameNotAuthorized,
            W::UnsupportedCriticalExtension => Error::UnhandledCritical,
            W::MaximumSignatureChecksExceeded | W::MaximumPathBuildCallsExceeded => {
                Error::TooManyChecks
            }
            W::EmptyEkuExtension => Error::Extension("extended key usages"),
            other => Error::Other(other.to_string()),
        }
    }

    /// The first certificate that has the name of an issuer and is not accepted as one.
    fn culprit(&self, leaf: &Certificate) -> Option<(String, String)> {
        let mut current = leaf;
        for _ in 0..MAX_CHAINS {
            let candidates: Vec<_> = self
                .roots
                .iter()
                .chain(&self.intermediates)
                .filter(|c| c.subject_der == current.issuer_der && c.der != current.der)
                .collect();
            let issuer = candidates
                .iter()
                .find(|c| may_issue(c) && c.signed(current));
            match (issuer, candidates.first()) {
                (Some(issuer), _) => current = issuer,
                (None, Some(refused)) => {
                    let reason = match may_issue(refused) {
                        true => signature_failure(refused),
                        false => NOT_AN_ISSUER,
                    };
                    return Some((reason.to_owned(), refused.short_name()));
                }
                (None, None) => return None,
            }
        }
        None
    }
}

/// What webpki takes for granted: that the root itself is in order.
fn require_fit_root(root: &Certificate, between: usize, moment: Moment) -> Result<(), Error> {
    if root.extensions.unhandled_critical {
        return Err(Error::UnhandledCritical);
    }
    root.require_validity(moment.at)?;
    match root.extensions.path_len {
        Some(allowed) if between > usize::from(allowed) => Err(Error::TooManyIntermediates),
        _ => Ok(()),
    }
}

/// Whether a certificate may sign others.
fn may_issue(certificate: &Certificate) -> bool {
    certificate.is_ca() && certificate.allows(x509_cert::ext::pkix::KeyUsage::key_cert_sign)
}

/// What Go says about a signature that this key did not make.
fn signature_failure(issuer: &Certificate) -> &'static str {
    match issuer.public_key().map(|key| key.algorithm()) {
        Ok(algorithm) if algorithm.starts_with("RSA") => "crypto/rsa: verification error",
        Ok(algorithm) if algorithm.starts_with("ECDSA") => "x509: ECDSA verification failure",
        Ok(algorithm) if algorithm == "Ed25519" => "x509: Ed25519 verification failure",
        _ => "x509: cannot verify signature: algorithm unimplemented",
    }
}

const NOT_AN_ISSUER: &str =
    "x509: invalid signature: parent certificate cannot sign this kind of certificate";

/// Extended key usage is judged on whole paths, and with the root, by [`Trust::accept`].
struct LaterChecked;

impl ExtendedKeyUsageValidator for LaterChecked {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
