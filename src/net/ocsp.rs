//! Asks OCSP responders about the certificates of a chain.
//!
//! Source: RFC 6960, appendix A; spec/cli.md 7.4.

use super::Url;
use super::http::{self, Client, Request};
use crate::key::crl::{self, Crl};
use crate::key::ocsp::{self, Answer, Query, Status};
use crate::key::x509::{Certificate, Chain, Link, Moment};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// Time for one responder.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer in bytes.
const MAX_ANSWER: u64 = 128 << 10;
/// Responders of one certificate that are asked.
const MAX_RESPONDERS: usize = 4;

/// Why a certificate cannot be taken for good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The signer's certificate is itself a root and not self-signed.
    #[error("cannot find issuer '{0}'")]
    NoIssuer(String),
    /// The certificate names no responder.
    #[error("OCSP Query err: certificate does not support OCSP")]
    NoResponder,
    /// An address that is none.
    #[error("OCSP Query err: responder address {0:?} is not http or https")]
    Address(String),
    /// No answer.
    #[error("OCSP Query err: OCSP Send Request err: {0}")]
    Http(#[from] http::Error),
    /// An answer with another status than 2xx.
    #[error("OCSP Query err: OCSP Send Request err: Post \"{url}\": {status}")]
    Status {
        /// The address.
        url: String,
        /// Code and phrase.
        status: String,
    },
    /// An answer that counts for nothing.
    #[error("OCSP Query err: {0}")]
    Answer(#[from] ocsp::Error),
    /// Revoked.
    #[error("certificate revoked at '{}'. Revocation reason code: '{reason}'", time(*at))]
    Revoked {
        /// Since, Unix seconds.
        at: u64,
        /// Reason code of RFC 5280, section 5.3.1.
        reason: u8,
    },
    /// The responder does not know the certificate.
    #[error("status unknown. certificate cannot be trusted")]
    Unknown,
    /// The delegate's own certificate is not known to be good.
    #[error("certificate of the OCSP responder '{subject}': {fault}")]
    Delegate {
        /// The responder.
        subject: String,
        /// What is wrong.
        fault: Box<Error>,
    },
    /// The answer about a responder's certificate comes from it, or from another that would
    /// have to be asked about.
    #[error("only responders that need checking themselves vouch for it")]
    Circle,
}

/// What was refused of a chain, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Why.
    pub error: Error,
    /// Index of the certificate in [`Chain::links`].
    pub link: usize,
}

/// What is told while certificates are checked.
pub enum Step<'a> {
    /// This one is asked about.
    Asks(Link<'a>),
    /// Nobody can be asked about this one, the root.
    Skips(&'a Certificate),
}

/// Whose certificate is asked about.
#[derive(Clone, Copy)]
enum About {
    /// One of the path.
    Path,
    /// That of a delegate which answered about one of the path.
    Responder,
}

/// What is needed to ask.
pub struct Inquiry<'a> {
    /// Connects.
    pub client: &'a Client,
    /// Lists that may tell about responders.
    pub crls: &'a [Crl],
    /// When.
    pub moment: Moment,
}

impl Inquiry<'_> {
    /// Asks about every certificate of a chain but its root.
    ///
    /// A certificate that names no responder is taken for good only if a CRL says so. The
    /// answers are in the order of [`Chain::links`]; nothing for a certificate that a CRL
    /// vouches for. `tell` hears what is done.
    ///
    /// # Errors
    /// [`Refusal`] of the first certificate that is not known to be good.
    pub fn check(
        &self,
        chain: &Chain,
        tell: &dyn Fn(Step<'_>),
    ) -> Result<Vec<Option<Answer>>, Refusal> {
        if let [alone] = chain.certificates()
            && !alone.is_self_issued()
        {
            return Err(Refusal {
                error: Error::NoIssuer(alone.issuer()),
                link: 0,
            });
        }
        let mut answers = Vec::new();
        for (index, link) in chain.links().enumerate() {
            tell(Step::Asks(link));
            let by_crl = link.certificate.ocsp_urls().is_empty() && link.crl.is_some();
            answers.push(match by_crl {
                true => None,
                false => Some(
                    self.good(link.certificate, link.issuer, About::Path)
                        .map_err(|error| Refusal { error, link: index })?,
                ),
            });
        }
        if let Some(root) = chain.certificates().last() {
            tell(Step::Skips(root));
        }
        Ok(answers)
    }

    /// Asks the responders in turn until one gives an answer that counts.
    fn good(
        &self,
        certificate: &Certificate,
        issuer: &Certificate,
        about: About,
    ) -> Result<Answer, Error> {
        let mut last = Error::NoResponder;
        for url in certificate.ocsp_urls().iter().take(MAX_RESPONDERS) {
            match self.ask(url, certificate, issuer, about) {
                Ok(answer) => return Ok(answer),
                Err(revoked @ Error::Revoked { .. }) => return Err(revoked),
                Err(other) => last = other,
            }
        }
        Err(last)
    }

    fn ask(
        &self,
        url: &str,
        certificate: &Certificate,
        issuer: &Certificate,
        about: About,
    ) -> Result<Answer, Error> {
        let query = Query::new(certificate, issuer)?;
        let answer = query.judge(&exchange(self.client, url, query.request())?, self.moment)?;
        match answer.status {
            Status::Good => {}
            Status::Revoked { at, reason } => return Err(Error::Revoked { at, reason }),
            Status::Unknown => return Err(Error::Unknown),
        }
        if let Some(delegate) = &answer.delegate {
            self.require_good_delegate(delegate, issuer, about)
                .map_err(|fault| Error::Delegate {
                    subject: delegate.subject(),
                    fault: Box::new(fault),
                })?;
        }
        Ok(answer)
    }

    /// A delegate counts if its issuer says so, or says that nobody need ask.
    ///
    /// A certificate that names no way to ask is accepted: RFC 6960, section 4.2.2.2.1 leaves
    /// that to us.
    fn require_good_delegate(
        &self,
        delegate: &Certificate,
        issuer: &Certificate,
        about: About,
    ) -> Result<(), Error> {
        match crl::status(self.crls, delegate, issuer, self.moment) {
            crl::Status::Good(_) => return Ok(()),
            crl::Status::Revoked { at, reason } => return Err(Error::Revoked { at, reason }),
            crl::Status::Unknown(_) => {}
        }
        if delegate.has_ocsp_no_check() || delegate.ocsp_urls().is_empty() {
            return Ok(());
        }
        match about {
            About::Path => self.good(delegate, issuer, About::Responder).map(drop),
            // One step: who vouches for a responder needs nobody to vouch for it.
            About::Responder => Err(Error::Circle),
        }
    }
}

fn exchange(client: &Client, address: &str, question: &[u8]) -> Result<Vec<u8>, Error> {
    let mut url = Url::parse(address)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Error::Address(address.to_owned()))?;
    // Whoever wrote the certificate gives nobody credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let limited = |request: Request| Request {
        headers: vec![("Accept", "application/ocsp-response".to_owned())],
        timeout: TIMEOUT,
        max_body: MAX_ANSWER,
        ..request
    };
    let send = |request: &Request| {
        client.send(request).map_err(|error| match error {
            // Go prints an address as it was given, without the slash of an empty path.
            http::Error::Exchange { verb, url, fault } => http::Error::Exchange {
                verb,
                url: match url.strip_suffix('/') {
                    Some(start) if start == address => start.to_owned(),
                    _ => url,
                },
                fault,
            },
            other => other,
        })
    };
    let post = Request::post(url.clone(), "application/ocsp-request", question.to_vec());
    let mut response = send(&limited(post))?;
    if matches!(response.status, 405 | 501) {
        response = send(&limited(Request::get(with_question(&url, question))))?;
    }
    if response.is_success() {
        Ok(response.body)
    } else {
        Err(Error::Status {
            url: url.to_string(),
            status: response.status_text(),
        })
    }
}

/// Source: RFC 6960, appendix A.1.
fn with_question(url: &Url, question: &[u8]) -> Url {
    let mut encoded = String::new();
    for c in STANDARD.encode(question).chars() {
        match c {
            '+' => encoded.push_str("%2B"),
            '/' => encoded.push_str("%2F"),
            '=' => encoded.push_str("%3D"),
            c => encoded.push(c),
        }
    }
    let mut url = url.clone();
    url.set_path(&format!("{}/{encoded}", url.path().trim_end_matches('/')));
    url
}

/// A time as Go prints it with `%s`.
fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || seconds.to_string(),
            |time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        )
}
