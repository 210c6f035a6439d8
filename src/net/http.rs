//! One HTTP client with limits: on time, on size, on where credentials go.
//!
//! The sentences about connections are those of Go's `net/http`, because the originals print
//! them. Redirects are followed here and not by the library, so that every hop is looked at.
//!
//! Source: spec/cli.md 5.2 to 5.4, section 10; RFC 9110.

use super::Url;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client as Inner;
use reqwest::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, LOCATION};
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What identifies this program to servers: `sigsif/0.1.0 (Linux amd64)`.
pub fn user_agent() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("sigsif/{} (Linux {arch})", env!("CARGO_PKG_VERSION"))
}

/// A credential as the value of an `Authorization` header; wiped on drop.
#[derive(Clone)]
pub struct Authorization(Zeroizing<String>);

impl Authorization {
    /// A bearer token; nothing for an empty one.
    pub fn bearer(token: &str) -> Option<Self> {
        (!token.is_empty()).then(|| Self(Zeroizing::new(format!("Bearer {token}"))))
    }

    /// A user name and a password.
    pub fn basic(user: &str, password: &str) -> Self {
        let pair = Zeroizing::new(format!("{user}:{password}"));
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        Self(Zeroizing::new(format!("Basic {}", encoded.as_str())))
    }

    /// A stored header value, `Basic ...` or `Bearer ...`; nothing without a credential in it.
    pub fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        let credential = value.split_once(' ').map_or("", |(_, rest)| rest.trim());
        (!credential.is_empty()).then(|| Self(Zeroizing::new(value.to_owned())))
    }

    fn is_bearer(&self) -> bool {
        let scheme = self.0.split(' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("bearer")
    }

    fn header(&self) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::from_str(&self.0).map_err(|_| Error::Credential)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
}

/// One request with its limits.
pub struct Request {
    /// What to do.
    pub method: Method,
    /// Where; user and password in it become basic authorization.
    pub url: Url,
    /// More header fields; they are sent to every host that a redirect leads to, so no secrets.
    pub headers: Vec<(&'static str, String)>,
    /// Credential for the host of `url` and no other.
    pub authorization: Option<Authorization>,
    /// Body and its type.
    pub body: Option<(&'static str, Vec<u8>)>,
    /// Whether to accept any certificate.
    pub insecure: bool,
    /// Time for all of it, redirects and body included.
    pub timeout: Duration,
    /// Largest accepted body in bytes, after decompression.
    pub max_body: u64,
}

impl Request {
    /// A GET with the limits of small texts: 5 seconds, 4 MiB.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::Get,
            url,
            headers: Vec::new(),
            authorization: None,
            body: None,
            insecure: false,
            timeout: TIMEOUT,
            max_body: MAX_BODY,
        }
    }

    /// A POST with the same limits.
    pub fn post(url: Url, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            method: Method::Post,
            body: Some((content_type, body)),
            ..Self::get(url)
        }
    }
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The body, decompressed.
    pub body: Vec<u8>,
    headers: reqwest::header::HeaderMap,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and its standard phrase: `404 Not Found`.
    pub fn status_text(&self) -> String {
        let phrase = reqwest::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|code| code.canonical_reason());
        match phrase {
            Some(phrase) => format!("{} {phrase}", self.status),
            None => self.status.to_string(),
        }
    }

    /// A header field, if it is there and is ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exchange with a server failed. The address is without credentials.
    #[error("{verb} \"{url}\": {fault}")]
    Exchange {
        /// The method as Go writes it: `Get`.
        verb: &'static str,
        /// The address.
        url: String,
        /// What failed.
        fault: Fault,
    },
    /// A token would have gone over the network in clear.
    #[error("TLS required when auth token provided")]
    TokenWithoutTls,
    /// A credential that no header can carry.
    #[error("credential contains characters that cannot be sent")]
    Credential,
    /// A scheme other than http and https.
    #[error("unsupported protocol scheme {0}")]
    Scheme(String),
    /// An extra certificate authority cannot be read.
    #[error("no certificate found in extra CA file")]
    ExtraRoots,
}

/// What failed in an exchange; the sentences are Go's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("dial tcp {address}: {reason}")]
    Dial {
        /// Address and port that were tried, or the host's name.
        address: String,
        /// `connect: connection refused`.
        reason: String,
    },
    /// The host's name does not resolve.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// `no such host`.
        reason: String,
    },
    /// The time was over before an answer began.
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout,
    /// The time was over within the answer.
    #[error(
        "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
    )]
    BodyTimeout,
    /// The server's certificate is not accepted.
    #[error("tls: failed to verify certificate: x509: {0}")]
    Certificate(String),
    /// No TLS connection for another reason.
    #[error("tls: {0}")]
    Tls(String),
    /// The server went away without an answer.
    #[error("EOF")]
    NoAnswer,
    /// The answer ends too early.
    #[error("unexpected EOF")]
    Cut,
    /// The answer is larger than was asked for.
    #[error("answer is larger than {0} bytes")]
    TooLarge(u64),
    /// Redirected again and again.
    #[error("stopped after {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
    /// Redirected to where it came from.
    #[error("redirect loop")]
    RedirectLoop,
    /// Redirected from https to http.
    #[error("redirect from https to http is not followed")]
    Downgrade,
    /// A redirect that leads nowhere.
    #[error("failed to parse Location header {0:?}")]
    Location(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The client of one command: connections are not kept, trust stores are loaded once.
pub struct Client {
    extra_roots: Vec<reqwest::Certificate>,
    made: Mutex<HashMap<Kind, Inner>>,
}

impl Client {
    /// A client that trusts the certificates of the system, or of `SSL_CERT_FILE` instead, and
    /// those of `extra_roots` (PEM).
    ///
    /// # Errors
    /// [`Error::ExtraRoots`].
    pub fn new(extra_roots: Option<&[u8]>) -> Result<Self, Error> {
        let extra_roots = match extra_roots {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|certificates| !certificates.is_empty())
                .ok_or(Error::ExtraRoots)?,
            None => Vec::new(),
        };
        Ok(Self {
            extra_roots,
            made: Mutex::new(HashMap::new()),
        })
    }

    /// Sends a request and reads the whole answer; a status other than 2xx is an answer, too.
    ///
    /// Redirects of GET and HEAD are followed, and those that keep method and body (307, 308); a
    /// credential stays with the host that it is for.
    ///
    /// # Errors
    /// [`Error`]: no usable answer in time and size.
    pub fn send(&self, request: &Request) -> Result<Response, Error> {
        let deadline = Instant::now().checked_add(request.timeout);
        let mut url = request.url.clone();
        let mut authorization = take_userinfo(&mut url);
        if let Some(given) = &request.authorization {
            authorization = Some(given.clone());
        }
        let mut seen = vec![url.clone()];
        loop {
            let fail = |fault| Error::Exchange {
                verb: request.method.verb(),
                url: url.to_string(),
                fault,
            };
            let left = deadline.map_or(Duration::ZERO, |at| {
                at.saturating_duration_since(Instant::now())
            });
            let answer = self.hop(request, &url, authorization.as_ref(), left)?;
            let Some(location) = redirect(request.method, &answer) else {
                let mut reader = Limited { answer, deadline };
                return reader.read(request.max_body).map_err(fail);
            };
            let mut next = location
                .to_str()
                .ok()
                .and_then(|text| url.join(text).ok())
                .filter(|next| next.has_host())
                .ok_or_else(|| {
                    fail(Fault::Location(
                        String::from_utf8_lossy(location.as_bytes()).into_owned(),
                    ))
                })?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(fail(Fault::Downgrade));
            }
            // What a server puts there is no credential of the user.
            let _ = take_userinfo(&mut next);
            next.set_fragment(None);
            if seen.contains(&next) {
                return Err(fail(Fault::RedirectLoop));
            }
            if seen.len() > MAX_REDIRECTS {
                return Err(fail(Fault::TooManyRedirects));
            }
            if next.origin() != url.origin() {
                authorization = None;
            }
            seen.push(next.clone());
            url = next;
        }
    }

    fn hop(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&Authorization>,
        left: Duration,
    ) -> Result<reqwest::blocking::Response, Error> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(Error::Scheme(other.to_owned())),
        };
        let fail = |fault| Error::Exchange {
            verb: request.method.verb(),
            url: url.to_string(),
            fault,
        };
        if left.is_zero() {
            return Err(fail(Fault::Timeout));
        }
        let local = is_loopback(url);
        let client = self
            .inner(Kind {
                tls,
                insecure: request.insecure,
                // As Go: no proxy for this machine.
                direct: local,
            })
            .map_err(&fail)?;
        let mut sent = client
            .request(request.method.into(), url.clone())
            .timeout(left)
            .header(CONNECTION, "close");
        for (name, value) in &request.headers {
            sent = sent.header(*name, value);
        }
        if let Some(authorization) = authorization {
            if authorization.is_bearer() && !tls && !local {
                return Err(Error::TokenWithoutTls);
            }
            sent = sent.header(AUTHORIZATION, authorization.header()?);
        }
        if let Some((content_type, body)) = &request.body {
            sent = sent.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        sent.send().map_err(|error| {
            if error.is_timeout() {
                // Waiting for a name server that is silent would hold up the end of the program.
                std::mem::forget(client);
            }
            fail(explain(&error, url, Stage::Headers))
        })
    }

    fn inner(&self, kind: Kind) -> Result<Inner, Fault> {
        let mut made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = made.get(&kind) {
            return Ok(known.clone());
        }
        let client = self
            .build(kind, false)
            // Machines without a trust store can still talk http.
            .or_else(|error| {
                if kind.tls {
                    Err(error)
                } else {
                    self.build(kind, true)
                }
            })
            .map_err(|error| Fault::Tls(innermost(&error)))?;
        made.insert(kind, client.clone());
        Ok(client)
    }

    fn build(&self, kind: Kind, no_roots: bool) -> reqwest::Result<Inner> {
        let mut builder = Inner::builder()
            .user_agent(user_agent())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .gzip(true)
            .connect_timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .tls_danger_accept_invalid_certs(kind.insecure);
        if no_roots || (kind.direct && !kind.tls) {
            builder = builder.tls_certs_only([]);
        } else if !self.extra_roots.is_empty() {
            builder = builder.tls_certs_merge(self.extra_roots.iter().cloned());
        }
        if kind.direct {
            builder = builder.no_proxy();
        }
        builder.build()
    }
}

/// Whether an address names this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// Time for one request, as the originals.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body that is read unless a request says otherwise.
const MAX_BODY: u64 = 4 << 20;
const MAX_REDIRECTS: usize = 10;

/// Requests that can share a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    tls: bool,
    insecure: bool,
    direct: bool,
}

impl Method {
    fn verb(self) -> &'static str {
        match self {
            Self::Get => "Get",
            Self::Head => "Head",
            Self::Post => "Post",
            Self::Put => "Put",
        }
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
        }
    }
}

/// Takes user and password out of an address.
fn take_userinfo(url: &mut Url) -> Option<Authorization> {
    let decode = |text: &str| {
        // The form decoder would turn `+` into a blank.
        let text = text.replace('+', "%2B");
        let pair = url::form_urlencoded::parse(text.as_bytes()).next();
        Zeroizing::new(pair.map(|(name, _)| name.into_owned()).unwrap_or_default())
    };
    let user = decode(url.username());
    let password = url.password().map(decode);
    // Fails only for addresses that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if user.is_empty() && password.is_none() {
        return None;
    }
    let password = password.unwrap_or_default();
    Some(Authorization::basic(&user, &password))
}

/// Where an answer sends us, if it does so in a way that is followed.
fn redirect(method: Method, answer: &reqwest::blocking::Response) -> Option<HeaderValue> {
    let followed = match answer.status().as_u16() {
        301..=303 => matches!(method, Method::Get | Method::Head),
        307 | 308 => true,
        _ => false,
    };
    let location = answer.headers().get(LOCATION)?;
    followed.then(|| location.clone())
}

/// An answer that is read up to a size and a time.
struct Limited {
    answer: reqwest::blocking::Response,
    deadline: Option<Instant>,
}

impl Limited {
    fn read(&mut self, max: u64) -> Result<Response, Fault> {
        let url = self.answer.url().clone();
        let mut body = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            let count = match self.answer.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(explain(&error, &url, Stage::Body)),
            };
            if self.deadline.is_some_and(|at| Instant::now() > at) {
                return Err(Fault::BodyTimeout);
            }
            body.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if u64::try_from(body.len()).is_ok_and(|len| len > max) {
                return Err(Fault::TooLarge(max));
            }
        }
        Ok(Response {
            status: self.answer.status().as_u16(),
            body,
            headers: std::mem::take(self.answer.headers_mut()),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Headers,
    Body,
}

/// Finds the cause in a chain of errors and puts it into Go's words.
fn explain(error: &(dyn std::error::Error + 'static), url: &Url, stage: Stage) -> Fault {
    let mut chain = Vec::new();
    unfold(error, &mut chain);
    let timed_out = chain.iter().any(|link| {
        link.downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_timeout)
            || link
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    });
    if timed_out {
        return match stage {
            Stage::Headers => Fault::Timeout,
            Stage::Body => Fault::BodyTimeout,
        };
    }
    if let Some(tls) = chain.iter().find_map(|link| link.downcast_ref()) {
        return explain_tls(tls, url);
    }
    let texts: Vec<String> = chain.iter().map(ToString::to_string).collect();
    let system = chain.iter().rev().find_map(|link| {
        let error = link.downcast_ref::<io::Error>()?;
        Some((error, errno_text(error)))
    });
    if texts.iter().any(|text| text == "dns error") {
        let reason = match texts.last() {
            Some(text) if text.contains("emporary failure") => {
                "Temporary failure in name resolution".to_owned()
            }
            _ => "no such host".to_owned(),
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        return Fault::Lookup { host, reason };
    }
    let is_connect = chain.iter().any(|link| {
        link.downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_connect)
    });
    match (is_connect, system) {
        (true, Some((_, text))) => Fault::Dial {
            address: tried_address(error, url),
            reason: format!("connect: {text}"),
        },
        (false, _)
            if stage == Stage::Headers
                && texts
                    .iter()
                    .any(|text| text == "connection closed before message completed") =>
        {
            Fault::NoAnswer
        }
        (_, Some((error, _)))
            if stage == Stage::Body && error.kind() == io::ErrorKind::UnexpectedEof =>
        {
            Fault::Cut
        }
        (_, Some((error, text))) if error.raw_os_error().is_some() => {
            Fault::Other(format!("read tcp: {text}"))
        }
        _ if stage == Stage::Body
            && texts.iter().any(|text| {
                text.contains("end of file before message length")
                    || text.contains("connection closed before message")
                    || text.contains("unexpected EOF")
            }) =>
        {
            Fault::Cut
        }
        _ => Fault::Other(texts.last().cloned().unwrap_or_default()),
    }
}

/// An error and its causes, those inside of system errors included.
fn unfold<'a>(
    error: &'a (dyn std::error::Error + 'static),
    chain: &mut Vec<&'a (dyn std::error::Error + 'static)>,
) {
    // A chain that ends nowhere is cut.
    if chain.len() > 16 {
        return;
    }
    chain.push(error);
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    if let Some(inner) = inner {
        unfold(inner, chain);
    } else if let Some(source) = error.source() {
        unfold(source, chain);
    }
}

fn explain_tls(error: &rustls::Error, url: &Url) -> Fault {
    use rustls::CertificateError as C;
    let rustls::Error::InvalidCertificate(reason) = error else {
        return Fault::Tls(error.to_string());
    };
    let validity = |now: u64, word: &str, limit: u64| {
        let time = |seconds: u64| {
            i64::try_from(seconds)
                .ok()
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .map_or_else(|| seconds.to_string(), |time| time.to_string())
        };
        format!(
            "certificate has expired or is not yet valid: current time {} is {word} {}",
            time(now),
            time(limit)
        )
    };
    let host = url.host_str().unwrap_or_default();
    Fault::Certificate(match reason {
        // Another authority of the same name fails by its signature.
        C::UnknownIssuer | C::BadSignature => "certificate signed by unknown authority".to_owned(),
        C::Expired | C::NotValidYet => "certificate has expired or is not yet valid".to_owned(),
        C::ExpiredContext { time, not_after } => {
            validity(time.as_secs(), "after", not_after.as_secs())
        }
        C::NotValidYetContext { time, not_before } => {
            validity(time.as_secs(), "before", not_before.as_secs())
        }
        C::NotValidForName => format!("certificate is not valid for {host}"),
        C::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            if names.is_empty() {
                format!("certificate is not valid for any names, but wanted to match {host}")
            } else {
                format!("certificate is valid for {}, not {host}", names.join(", "))
            }
        }
        other => other.to_string(),
    })
}

/// `DnsName("a.example")` becomes `a.example`.
fn plain_name(name: &str) -> &str {
    name.split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(name, |name| name.trim_matches('"'))
}

/// The address of the last attempt to connect, a proxy's perhaps.
///
/// Only the debugging text of the error has it; without it the host must do.
fn tried_address(error: &dyn std::error::Error, url: &Url) -> String {
    let text = format!("{error:?}");
    text.split([',', '(', ')', ' '])
        .find_map(|word| word.parse::<SocketAddr>().ok())
        .map_or_else(
            || {
                format!(
                    "{}:{}",
                    url.host_str().unwrap_or_default(),
                    url.port_or_known_default().unwrap_or_default()
                )
            },
            |address| address.to_string(),
        )
}

/// The text of a system error as Go prints it.
fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

fn innermost(error: &reqwest::Error) -> String {
    let mut chain = Vec::new();
    unfold(error, &mut chain);
    chain.last().map(ToString::to_string).unwrap_or_default()
}
