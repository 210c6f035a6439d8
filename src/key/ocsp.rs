//! OCSP: the bytes of a question, and what an answer is worth.
//!
//! An answer counts if the issuer of the certificate signed it, or a responder that the issuer
//! certified for this, and if it is about this very certificate and current.
//!
//! Source: RFC 6960; RFC 9654 (nonce); spec/cli.md 7.4.

use super::signed::{ALGORITHMS, Signed, element, inside};
use super::x509::{Certificate, Moment};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use der::asn1::{AnyRef, ObjectIdentifier, OctetString};
use der::oid::AssociatedOid;
use der::{Decode, Encode, Reader, Tag, TagNumber};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::Digest as _;
use sha2::Digest as _;
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};
use x509_ocsp::builder::OcspRequestBuilder;
use x509_ocsp::ext::Nonce;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspResponse, OcspResponseStatus, Request, ResponderId,
    ResponseData, SingleResponse,
};

/// Certificates of an answer that are looked at.
const MAX_CERTIFICATES: usize = 8;
/// Bytes of a nonce. Source: RFC 9654, section 2.1.
const NONCE_LEN: usize = 32;
/// Age in seconds up to which an answer without an end and without our nonce counts.
const MAX_AGE: u64 = 24 * 60 * 60;

/// Why an answer is worth nothing.
///
/// The sentences are those of Go's `x/crypto/ocsp` and of the originals where they have one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No question can be asked about this certificate.
    #[error("OCSP request cannot be made: {0}")]
    Question(String),
    /// Not an answer.
    #[error("OCSP response err: asn1: structure error: {0}")]
    Malformed(String),
    /// The responder could not or would not answer.
    #[error("OCSP response err: ocsp: error from server: {0}")]
    Server(&'static str),
    /// An answer of a type other than the basic one.
    #[error("OCSP response err: bad OCSP response type")]
    Type,
    /// A critical extension that is not processed here.
    #[error("OCSP response err: unsupported critical extension")]
    Critical,
    /// The answer is not about the certificate.
    #[error("OCSP response err: no response matching the supplied certificate")]
    OtherCertificate,
    /// The answer speaks about the certificate more than once.
    #[error("OCSP response err: more than one response for the supplied certificate")]
    Ambiguous,
    /// Neither the issuer nor a certificate in the answer made the signature.
    #[error("OCSP response err: bad OCSP signature")]
    Signature,
    /// The answer is to another question.
    #[error("OCSP response err: nonce does not match")]
    Nonce,
    /// Too old, or from the future.
    #[error("unreliable OCSP response")]
    Unreliable,
    /// Signed by a responder that the issuer did not certify for this.
    #[error("ocsp response is rejected: {0}")]
    Responder(String),
}

/// A question about one certificate.
pub struct Query {
    issuer: Certificate,
    serial: Vec<u8>,
    nonce: Vec<u8>,
    request: Vec<u8>,
}

/// A trustworthy answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub status: Status,
    /// When that was known to be so, Unix seconds.
    pub this_update: u64,
    /// When there will be news, Unix seconds.
    pub next_update: Option<u64>,
    /// Who signed, if not the issuer itself.
    pub delegate: Option<Certificate>,
    /// Whether our nonce came back: the answer is fresh.
    pub nonce: bool,
}

/// Status of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not revoked.
    Good,
    /// Revoked or on hold.
    Revoked {
        /// Since, Unix seconds.
        at: u64,
        /// Reason code of RFC 5280, section 5.3.1; 0 if there is none.
        reason: u8,
    },
    /// The responder does not know the certificate.
    Unknown,
}

impl Query {
    /// Makes a question with a nonce of its own.
    ///
    /// # Errors
    /// [`Error::Question`].
    pub fn new(certificate: &Certificate, issuer: &Certificate) -> Result<Self, Error> {
        let fail = |reason: &dyn std::fmt::Display| Error::Question(reason.to_string());
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| fail(&"no random numbers"))?;
        let build = || -> der::Result<_> {
            let serial = AnyRef::new(Tag::Integer, certificate.serial_bytes())?.to_der()?;
            // SHA-1 names the issuer here; every responder knows it.
            let id = CertId {
                hash_algorithm: AlgorithmIdentifierOwned {
                    oid: SHA1,
                    parameters: Some(AnyRef::NULL.into()),
                },
                issuer_name_hash: OctetString::new(
                    hash(SHA1, issuer.subject_der()).unwrap_or_default(),
                )?,
                issuer_key_hash: OctetString::new(
                    hash(SHA1, key_bits(issuer)?).unwrap_or_default(),
                )?,
                serial_number: Decode::from_der(&serial)?,
            };
            Ok((serial, id, Nonce::new(nonce)?))
        };
        let (serial, id, extension) = build().map_err(|e| fail(&e))?;
        let request = OcspRequestBuilder::default()
            .with_request(Request {
                req_cert: id,
                single_request_extensions: None,
            })
            .with_extension(extension.clone())
            .map_err(|e| fail(&e))?
            .build();
        Ok(Self {
            issuer: issuer.clone(),
            serial,
            nonce: extension.to_der().map_err(|e| fail(&e))?,
            request: request.to_der().map_err(|e| fail(&e))?,
        })
    }

    /// The question in DER.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Judges what a responder sent.
    ///
    /// # Errors
    /// [`Error`]: nothing was said about the certificate that counts.
    pub fn judge(&self, answer: &[u8], moment: Moment) -> Result<Answer, Error> {
        let malformed = |e: der::Error| Error::Malformed(e.to_string());
        let outer = OcspResponse::from_der(answer).map_err(malformed)?;
        if let Some(refusal) = refusal(outer.response_status) {
            return Err(Error::Server(refusal));
        }
        let bytes = outer.response_bytes.ok_or(Error::Type)?;
        if bytes.response_type != BasicOcspResponse::OID {
            return Err(Error::Type);
        }
        let mut reader = inside(bytes.response.as_bytes()).map_err(malformed)?;
        let signed = Signed::read(&mut reader).map_err(malformed)?;
        let certificates = embedded(&mut reader).map_err(malformed)?;
        let data = ResponseData::from_der(signed.data()).map_err(malformed)?;
        // Who speaks comes before what is said.
        let delegate = self.signer(&signed, &data.responder_id, &certificates, moment)?;
        let nonce = self.check_extensions(&data)?;
        let single = self.about_us(&data)?;
        if single
            .single_extensions
            .iter()
            .flatten()
            .any(|e| e.critical)
        {
            return Err(Error::Critical);
        }
        let this_update = seconds(single.this_update);
        let next_update = single.next_update.map(seconds);
        let last = moment.at.max(moment.now);
        let current = match next_update {
            Some(next) => last <= next,
            // A fresh answer tells about now, not about a time to come.
            None => {
                let asked_now = moment.at <= Moment::now(moment.now).latest();
                nonce && asked_now || last <= this_update.saturating_add(MAX_AGE)
            }
        };
        if !current || this_update > moment.latest() {
            return Err(Error::Unreliable);
        }
        Ok(Answer {
            status: match single.cert_status {
                CertStatus::Good(_) => Status::Good,
                CertStatus::Unknown(_) => Status::Unknown,
                CertStatus::Revoked(info) => Status::Revoked {
                    at: seconds(info.revocation_time),
                    reason: info.revocation_reason.map_or(0, |reason| reason as u8),
                },
            },
            this_update,
            next_update,
            delegate,
            nonce,
        })
    }

    /// Whether our nonce is in the answer; another one is refused, none is not.
    fn check_extensions(&self, data: &ResponseData) -> Result<bool, Error> {
        let mut found = false;
        for extension in data.response_extensions.iter().flatten() {
            if extension.extn_id == Nonce::OID {
                if found || extension.extn_value.as_bytes() != self.nonce {
                    return Err(Error::Nonce);
                }
                found = true;
            } else if extension.critical {
                return Err(Error::Critical);
            }
        }
        Ok(found)
    }

    fn about_us<'a>(&self, data: &'a ResponseData) -> Result<&'a SingleResponse, Error> {
        let mut ours = data
            .responses
            .iter()
            .filter(|single| self.names_us(&single.cert_id));
        let first = ours.next().ok_or(Error::OtherCertificate)?;
        match ours.next() {
            None => Ok(first),
            Some(_) => Err(Error::Ambiguous),
        }
    }

    /// Any known hash may name the issuer, whichever was in the question.
    fn names_us(&self, id: &CertId) -> bool {
        let algorithm = id.hash_algorithm.oid;
        let name = hash(algorithm, self.issuer.subject_der());
        let key = key_bits(&self.issuer)
            .ok()
            .and_then(|key| hash(algorithm, key));
        let serial = id.serial_number.to_der();
        serial.is_ok_and(|serial| serial == self.serial)
            && name.is_some_and(|name| name == id.issuer_name_hash.as_bytes())
            && key.is_some_and(|key| key == id.issuer_key_hash.as_bytes())
    }

    /// Who signed: nobody but the issuer or its delegate.
    fn signer(
        &self,
        signed: &Signed<'_>,
        id: &ResponderId,
        certificates: &[Certificate],
        moment: Moment,
    ) -> Result<Option<Certificate>, Error> {
        if is_named(&self.issuer, id) && signed.holds(self.issuer.spki()) {
            return Ok(None);
        }
        let mut refused = Error::Signature;
        for certificate in certificates {
            if !is_named(certificate, id) || !signed.holds(certificate.spki()) {
                continue;
            }
            match self.require_delegation(certificate, moment) {
                Ok(()) => return Ok(Some(certificate.clone())),
                Err(reason) => refused = Error::Responder(reason),
            }
        }
        Err(refused)
    }

    /// A delegate's certificate comes from the issuer itself and is for this use alone.
    ///
    /// Source: RFC 6960, section 4.2.2.2.
    fn require_delegation(&self, delegate: &Certificate, moment: Moment) -> Result<(), String> {
        let issuer = CertificateDer::from(self.issuer.der());
        let anchor = webpki::anchor_from_trusted_cert(&issuer).map_err(|e| e.to_string())?;
        let der = CertificateDer::from(delegate.der());
        EndEntityCert::try_from(&der)
            .and_then(|entity| {
                // Answers are made now, whatever time is asked about.
                let now = UnixTime::since_unix_epoch(Duration::from_secs(moment.now));
                let usage = KeyUsage::required(OCSP_SIGNING);
                let between: &[CertificateDer<'_>] = &[];
                entity
                    .verify_for_usage(ALGORITHMS, &[anchor], between, now, usage, None, None)
                    .map(drop)
            })
            .map_err(|e| format!("certificate of the responder: {e}"))?;
        use x509_cert::ext::pkix::KeyUsage as Bits;
        if delegate.allows(|bits: &Bits| bits.digital_signature() || bits.non_repudiation()) {
            Ok(())
        } else {
            Err("certificate of the responder: key usage".to_owned())
        }
    }
}

fn refusal(status: OcspResponseStatus) -> Option<&'static str> {
    match status {
        OcspResponseStatus::Successful => None,
        OcspResponseStatus::MalformedRequest => Some("malformed"),
        OcspResponseStatus::InternalError => Some("internal error"),
        OcspResponseStatus::TryLater => Some("try later"),
        OcspResponseStatus::SigRequired => Some("signature required"),
        OcspResponseStatus::Unauthorized => Some("unauthorized"),
    }
}

/// The certificates behind the signature; those that cannot be read are passed over.
fn embedded<'a>(reader: &mut der::SliceReader<'a>) -> der::Result<Vec<Certificate>> {
    if reader.is_finished() {
        return Ok(Vec::new());
    }
    let tag = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber::N0,
    };
    let all = element(reader, tag)?;
    if !reader.is_finished() {
        return Err(tag.length_error());
    }
    let mut all = inside(all.value())?;
    let mut found = Vec::new();
    while !all.is_finished() && found.len() < MAX_CERTIFICATES {
        found.extend(Certificate::from_der(all.tlv_bytes()?).ok());
    }
    Ok(found)
}

fn is_named(certificate: &Certificate, id: &ResponderId) -> bool {
    match id {
        ResponderId::ByName(name) => name
            .to_der()
            .is_ok_and(|name| name == certificate.subject_der()),
        ResponderId::ByKey(key) => key_bits(certificate)
            .ok()
            .and_then(|bits| hash(SHA1, bits))
            .is_some_and(|hash| hash == key.as_bytes()),
    }
}

/// The key without its algorithm, as hashes name it.
fn key_bits(certificate: &Certificate) -> der::Result<&[u8]> {
    let key = SubjectPublicKeyInfoRef::from_der(certificate.spki())?;
    Ok(key.subject_public_key.raw_bytes())
}

fn hash(algorithm: ObjectIdentifier, data: &[u8]) -> Option<Vec<u8>> {
    Some(match algorithm {
        SHA1 => sha1::Sha1::digest(data).to_vec(),
        SHA256 => sha2::Sha256::digest(data).to_vec(),
        SHA384 => sha2::Sha384::digest(data).to_vec(),
        SHA512 => sha2::Sha512::digest(data).to_vec(),
        _ => return None,
    })
}

fn seconds(time: x509_ocsp::OcspGeneralizedTime) -> u64 {
    time.0.to_unix_duration().as_secs()
}

const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// Content of the object identifier 1.3.6.1.5.5.7.3.9.
const OCSP_SIGNING: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 9];
