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
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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

    /// Takes this credential out of a text that a server sends back.
    pub fn redact(&self, text: &str) -> String {
        let credential = self.0.split_once(' ').map_or("", |(_, rest)| rest.trim());
        let mut out = Zeroizing::new(text.to_owned());
        let mut remove = |secret: &str| {
            if !secret.is_empty() && out.contains(secret) {
                out = Zeroizing::new(out.replace(secret, "***"));
            }
        };
        remove(credential);
        if let (false, Ok(pair)) = (self.is_bearer(), STANDARD.decode(credential)) {
            let pair = Zeroizing::new(pair);
            let pair = String::from_utf8_lossy(&pair);
            remove(pair.split_once(':').map_or("", |(_, password)| password));
        }
        out.to_string()
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
    /// PATCH.
    Patch,
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// One time for all of it: small texts.
    Total,
    /// A time without any progress: large bodies. The connection is used again.
    Idle,
}

/// Time that many requests may take together: each of them may be as slow as its own limits allow.
#[derive(Debug)]
pub struct Allowance {
    begun: Instant,
    free: Duration,
    rate: u64,
    read: AtomicU64,
}

impl Allowance {
    /// From now on this time, and a second more for each `rate` bytes that come.
    pub fn new(free: Duration, rate: u64) -> Self {
        Self {
            begun: Instant::now(),
            free,
            rate,
            read: AtomicU64::new(0),
        }
    }

    /// Takes note of bytes; an error when the time is over.
    fn passed(&self, count: usize) -> Result<(), Fault> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let bytes = self.read.fetch_add(count, Ordering::Relaxed);
        let bytes = bytes.saturating_add(count);
        let earned = Duration::from_secs(bytes.checked_div(self.rate).unwrap_or_default());
        let spent = self.begun.elapsed();
        match spent > self.free.saturating_add(earned) {
            true => Err(Fault::OutOfTime {
                bytes,
                seconds: spent.as_secs(),
            }),
            false => Ok(()),
        }
    }
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
    /// Time for all of it, redirects and body included; with [`Pace::Idle`] without progress.
    pub timeout: Duration,
    /// What `timeout` is the time of.
    pub pace: Pace,
    /// Whether a token may go unencrypted to another machine, because the user asked for http.
    pub plain: bool,
    /// Whether the body is a credential, which no redirect takes to another host.
    pub secret_body: bool,
    /// Largest accepted body in bytes, after decompression.
    pub max_body: u64,
    /// The time for this and other requests together.
    pub allowance: Option<Arc<Allowance>>,
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
            pace: Pace::Total,
            plain: false,
            secret_body: false,
            max_body: MAX_BODY,
            allowance: None,
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
    url: Url,
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

    /// Who answered in the end, behind all redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// A header field, if it is there and is ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All header fields of a name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let all = self.headers.get_all(name).into_iter();
        all.filter_map(|value| value.to_str().ok())
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

impl Error {
    /// The error without the query of its address, which may be a credential.
    #[must_use]
    pub fn without_query(mut self) -> Self {
        if let Self::Exchange { url, .. } = &mut self
            && let Some(at) = url.find('?')
        {
            url.truncate(at);
        }
        self
    }

    /// Whether the same request may well succeed a little later.
    pub fn is_transient(&self) -> bool {
        let Self::Exchange { fault, .. } = self else {
            return false;
        };
        match fault {
            Fault::Timeout | Fault::BodyTimeout | Fault::NoAnswer | Fault::Cut => true,
            Fault::Dial { reason, .. } => !reason.ends_with("connection refused"),
            Fault::Other(_) => true,
            _ => false,
        }
    }
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
    /// Redirected from a public server into a private network.
    #[error("redirect to {0}, an address of a private network, is not followed")]
    Private(String),
    /// Redirected to another host with a credential in the body.
    #[error("redirect to {0} is not followed, the request has a credential in it")]
    SecretBody(String),
    /// The other side sends or takes next to nothing.
    #[error("transfer is too slow: less than {MIN_BYTES} bytes in {} seconds", WINDOW.as_secs())]
    TooSlow,
    /// All requests together have taken longer than they may.
    #[error("servers are too slow: {bytes} bytes in {seconds} seconds")]
    OutOfTime {
        /// Bytes that came.
        bytes: u64,
        /// In so many seconds.
        seconds: u64,
    },
    /// What is to be sent cannot be read.
    #[error("{0}")]
    Source(String),
    /// A redirect that leads nowhere.
    #[error("failed to parse Location header {0:?}")]
    Location(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The client of one command; trust stores are loaded once.
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
        self.open(request)?.into_response(request.max_body)
    }

    /// As [`Client::send`], but the body of the answer is left to be read while it comes.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, request: &Request) -> Result<Incoming, Error> {
        self.follow(request, None)
    }

    /// As [`Client::send`] with a body that is read while it is sent; the pace is that of
    /// [`Pace::Idle`].
    ///
    /// # Errors
    /// As there, and [`Fault::Source`].
    pub fn upload(&self, request: &Request, upload: &Upload<'_>) -> Result<Response, Error> {
        self.follow(request, Some(upload))?
            .into_response(request.max_body)
    }

    fn follow(&self, request: &Request, upload: Option<&Upload<'_>>) -> Result<Incoming, Error> {
        let deadline = match request.pace {
            Pace::Total => Instant::now().checked_add(request.timeout),
            Pace::Idle => None,
        };
        let mut url = request.url.clone();
        let mut authorization = take_userinfo(&mut url);
        if let Some(given) = &request.authorization {
            authorization = Some(given.clone());
        }
        let mut seen = vec![url.clone()];
        loop {
            let place = Place {
                verb: request.method.verb(),
                url: shown(&url, seen.len() > 1),
            };
            let fail = |fault| place.fail(fault);
            let left = deadline.map_or(request.timeout, |at| {
                at.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Err(fail(Fault::Timeout));
            }
            if let Some(allowance) = &request.allowance {
                allowance.passed(0).map_err(fail)?;
            }
            let answer = self.hop(request, upload, &url, authorization.as_ref(), left, &place)?;
            let Some(location) = redirect(request.method, &answer) else {
                return Ok(Incoming {
                    answer,
                    place,
                    url,
                    deadline,
                    window: (request.pace == Pace::Idle).then(Window::new),
                    allowance: request.allowance.clone(),
                });
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
            check_hop(&request.url, &url, &next).map_err(fail)?;
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
                if request.secret_body {
                    let host = next.host_str().unwrap_or_default().to_owned();
                    return Err(fail(Fault::SecretBody(host)));
                }
            }
            seen.push(next.clone());
            url = next;
        }
    }

    fn hop(
        &self,
        request: &Request,
        upload: Option<&Upload<'_>>,
        url: &Url,
        authorization: Option<&Authorization>,
        left: Duration,
        place: &Place,
    ) -> Result<reqwest::blocking::Response, Error> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(Error::Scheme(other.to_owned())),
        };
        let local = is_loopback(url);
        let wait = match (request.pace, upload) {
            (_, Some(_)) => Wait::Watched,
            (Pace::Idle, None) => Wait::Each(left),
            (Pace::Total, None) => Wait::Whole,
        };
        let client = self
            .inner(Kind {
                tls,
                insecure: request.insecure,
                // As Go: no proxy for this machine.
                direct: local,
                wait,
            })
            .map_err(|fault| place.fail(fault))?;
        let mut sent = client.request(request.method.into(), url.clone());
        if wait == Wait::Whole {
            sent = sent.timeout(left).header(CONNECTION, "close");
        }
        for (name, value) in &request.headers {
            sent = sent.header(*name, value);
        }
        if let Some(authorization) = authorization {
            if authorization.is_bearer() && !tls && !local && !request.plain {
                return Err(Error::TokenWithoutTls);
            }
            sent = sent.header(AUTHORIZATION, authorization.header()?);
        }
        if let Some((content_type, body)) = &request.body {
            sent = sent.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        let sent = match upload {
            None => sent.send(),
            Some(upload) => return send_watched(sent, upload, left, url, place),
        };
        sent.map_err(|error| {
            if error.is_timeout() {
                // Waiting for a name server that is silent would hold up the end of the program.
                std::mem::forget(client);
            }
            place.fail(explain(&error, url, Stage::Headers))
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
            // The digest of a blob is that of the bytes that are sent.
            .gzip(kind.wait == Wait::Whole)
            .connect_timeout(TIMEOUT)
            .pool_max_idle_per_host(if kind.wait == Wait::Whole { 0 } else { KEPT })
            .pool_idle_timeout(KEPT_FOR)
            .timeout(match kind.wait {
                // Each request has its own.
                Wait::Whole | Wait::Watched => None,
                Wait::Each(time) => Some(time),
            })
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

/// Whether an address is written as a number of this machine or of a private network, which means
/// something else to every client.
pub fn is_private(url: &Url) -> bool {
    let v4 = |ip: Ipv4Addr| {
        ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
    };
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(ip)) => v4(ip),
        Some(url::Host::Ipv6(ip)) => match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(ip) => v4(ip),
            IpAddr::V6(ip) => {
                ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_unique_local()
                    || ip.is_unicast_link_local()
            }
        },
        None => false,
    }
}

/// As [`is_private`], or in the range that providers share among their customers and keep services
/// of their own in; nobody is asked by plain http there without being told to.
///
/// Source: RFC 6598.
pub fn is_inside(url: &Url) -> bool {
    let shared = |ip: Ipv4Addr| {
        let [first, second, ..] = ip.octets();
        first == 0 || (first == 100 && second & 0xc0 == 64)
    };
    let is_shared = match url.host() {
        Some(url::Host::Ipv4(ip)) => shared(ip),
        Some(url::Host::Ipv6(ip)) => ip.to_ipv4_mapped().is_some_and(shared),
        Some(url::Host::Domain(_)) | None => false,
    };
    is_shared || is_private(url)
}

/// Whether a server may send us from `from` to `to`; `first` is what the user named.
///
/// # Errors
/// [`Fault::Downgrade`], [`Fault::Private`].
pub fn check_hop(first: &Url, from: &Url, to: &Url) -> Result<(), Fault> {
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(Fault::Downgrade);
    }
    if is_inside(to) && !is_inside(first) && to.origin() != first.origin() {
        return Err(Fault::Private(to.host_str().unwrap_or_default().to_owned()));
    }
    Ok(())
}

/// Time for one request, as the originals.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body that is read unless a request says otherwise.
const MAX_BODY: u64 = 4 << 20;
const MAX_REDIRECTS: usize = 10;
/// Connections to one server that wait for the next request, and how long.
const KEPT: usize = 8;
const KEPT_FOR: Duration = Duration::from_secs(15);
/// A large transfer has to bring so many bytes in such a time.
const MIN_BYTES: u64 = 16 << 10;
const WINDOW: Duration = match cfg!(test) {
    true => Duration::from_secs(1),
    false => Duration::from_secs(60),
};

/// Requests that can share a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    tls: bool,
    insecure: bool,
    direct: bool,
    wait: Wait,
}

/// How a request comes to an end in time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Wait {
    /// One time for all.
    Whole,
    /// A time for the head and for each piece of the body.
    Each(Duration),
    /// Somebody looks at the progress.
    Watched,
}

impl Method {
    /// The method as HTTP writes it: `GET`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Get => "Get",
            Self::Head => "Head",
            Self::Post => "Post",
            Self::Put => "Put",
            Self::Patch => "Patch",
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
            Method::Patch => Self::PATCH,
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

/// A body that is read while it is sent.
pub struct Upload<'a> {
    /// Its length in bytes.
    pub len: u64,
    /// Opens it at its beginning; called again when a redirect asks for it.
    pub open: &'a dyn Fn() -> io::Result<Box<dyn Read + Send>>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Incoming {
    answer: reqwest::blocking::Response,
    place: Place,
    url: Url,
    deadline: Option<Instant>,
    window: Option<Window>,
    allowance: Option<Arc<Allowance>>,
}

impl Incoming {
    /// Status code.
    pub fn status(&self) -> u16 {
        self.answer.status().as_u16()
    }

    /// A header field, if it is there and is ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// All header fields of a name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let all = self.answer.headers().get_all(name).into_iter();
        all.filter_map(|value| value.to_str().ok())
    }

    /// Who answered in the end, behind all redirects.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads the next bytes of the body; 0 at its end.
    ///
    /// # Errors
    /// [`Error::Exchange`]: cut, or too slow.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let count = loop {
            match self.answer.read(buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let fault = explain(&error, &self.url, Stage::Body);
                    return Err(self.place.fail(fault));
                }
            }
        };
        if self.deadline.is_some_and(|at| Instant::now() > at) {
            return Err(self.place.fail(Fault::BodyTimeout));
        }
        let window = self.window.as_mut().map(|window| window.passed(count));
        let whole = self.allowance.as_ref().map(|all| all.passed(count));
        for passed in [window, whole].into_iter().flatten() {
            passed.map_err(|fault| self.place.fail(fault))?;
        }
        Ok(count)
    }

    /// Reads the rest, at most `max` bytes.
    ///
    /// # Errors
    /// [`Error::Exchange`].
    pub fn into_response(mut self, max: u64) -> Result<Response, Error> {
        let mut body = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            let count = self.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            body.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if u64::try_from(body.len()).is_ok_and(|len| len > max) {
                return Err(self.place.fail(Fault::TooLarge(max)));
            }
        }
        Ok(Response {
            status: self.status(),
            body,
            headers: std::mem::take(self.answer.headers_mut()),
            url: self.url,
        })
    }
}

/// What an exchange is about, for errors.
#[derive(Debug)]
struct Place {
    verb: &'static str,
    url: String,
}

impl Place {
    fn fail(&self, fault: Fault) -> Error {
        Error::Exchange {
            verb: self.verb,
            url: self.url.clone(),
            fault,
        }
    }
}

/// An address without credentials: user, password and query.
pub fn told(url: &Url) -> Url {
    let mut url = url.clone();
    let _ = take_userinfo(&mut url);
    if url.query().is_some() {
        url.set_query(Some("..."));
    }
    url
}

/// An address as it may be told; the query of a redirect is often a credential.
fn shown(url: &Url, is_redirect: bool) -> String {
    let mut url = url.clone();
    if is_redirect && url.query().is_some() {
        url.set_query(Some("..."));
    }
    url.to_string()
}

/// Sees to it that a transfer moves.
#[derive(Debug)]
struct Window {
    since: Instant,
    bytes: u64,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn passed(&mut self, count: usize) -> Result<(), Fault> {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if count > 0 && self.since.elapsed() > WINDOW {
            if self.bytes < MIN_BYTES {
                return Err(Fault::TooSlow);
            }
            *self = Self::new();
        }
        Ok(())
    }
}

/// Sends a body on a thread of its own and gives up when nothing moves any more.
fn send_watched(
    request: reqwest::blocking::RequestBuilder,
    upload: &Upload<'_>,
    idle: Duration,
    url: &Url,
    place: &Place,
) -> Result<reqwest::blocking::Response, Error> {
    let source = |error: &io::Error| place.fail(Fault::Source(errno_text(error)));
    let inner = (upload.open)().map_err(|error| source(&error))?;
    let watch = Arc::new(Watch::default());
    let body = Watched {
        inner,
        watch: Arc::clone(&watch),
    };
    let request = request.body(reqwest::blocking::Body::sized(body, upload.len));
    let (answer, answered) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits any more if it was given up.
        let _ = answer.send(request.send());
    });
    let mut moved = (watch.sent.load(Ordering::Relaxed), Instant::now());
    let mut window = moved;
    loop {
        match answered.recv_timeout(idle.min(LOOK)) {
            Ok(result) => {
                return result.map_err(|error| match watch.failed() {
                    Some(text) => place.fail(Fault::Source(text)),
                    None => place.fail(explain(&error, url, Stage::Headers)),
                });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(place.fail(Fault::NoAnswer));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let sent = watch.sent.load(Ordering::Relaxed);
        // Whoever has all of it may take its time.
        if sent < upload.len && window.1.elapsed() > WINDOW {
            if sent.saturating_sub(window.0) < MIN_BYTES {
                watch.given_up.store(true, Ordering::Relaxed);
                return Err(place.fail(Fault::TooSlow));
            }
            window = (sent, Instant::now());
        }
        if sent != moved.0 {
            moved = (sent, Instant::now());
        } else if moved.1.elapsed() >= idle {
            watch.given_up.store(true, Ordering::Relaxed);
            return Err(place.fail(Fault::Timeout));
        }
    }
}

/// How often the progress of an upload is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What the sender of a body and its watcher tell each other.
#[derive(Default)]
struct Watch {
    sent: AtomicU64,
    given_up: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Watch {
    fn failed(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
    }
}

struct Watched {
    inner: Box<dyn Read + Send>,
    watch: Arc<Watch>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.given_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let count = self.inner.read(buffer).inspect_err(|error| {
            let failure = self.watch.failure.lock();
            *failure.unwrap_or_else(std::sync::PoisonError::into_inner) = Some(errno_text(error));
        })?;
        let passed = u64::try_from(count).unwrap_or(u64::MAX);
        self.watch.sent.fetch_add(passed, Ordering::Relaxed);
        Ok(count)
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

/// The text of a system error as Go prints it; of another one, as it is.
pub(super) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(_) => {
            let text = text.split(" (os error").next().unwrap_or_default();
            text.to_lowercase()
        }
        None => text,
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut chain = Vec::new();
    unfold(error, &mut chain);
    chain.last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Each answer is short and comes soon, and they do not end.
    #[test]
    fn requests_together_have_an_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while line != "\r\n" && reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    line = if line == "\r\n" { line } else { String::new() };
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n";
                std::thread::sleep(Duration::from_millis(100));
                let body = [answer.as_slice(), &[b'x'; 100]].concat();
                let _ = reader.into_inner().write_all(&body);
            }
        });
        let client = Client::new(None).unwrap();
        let asked = |rate: u64, most: usize| {
            let allowance = Arc::new(Allowance::new(Duration::from_millis(500), rate));
            (0..most).find_map(|_| {
                let request = Request {
                    pace: Pace::Idle,
                    allowance: Some(allowance.clone()),
                    ..Request::get(Url::parse(&format!("http://127.0.0.1:{port}/x")).unwrap())
                };
                client.send(&request).err()
            })
        };
        let error = asked(1 << 20, 100).unwrap();
        assert!(!error.is_transient());
        let told = error.to_string();
        assert!(told.contains("servers are too slow: "), "{told}");
        // What comes pays for its time.
        assert!(asked(10, 20).is_none());
    }

    /// Takes a body so slowly that it never stands still and never ends.
    #[test]
    fn a_server_that_takes_next_to_nothing_is_given_up() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::with_capacity(1, stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            while reader.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let request = Request {
            method: Method::Put,
            timeout: Duration::from_secs(20),
            pace: Pace::Idle,
            ..Request::get(Url::parse(&format!("http://127.0.0.1:{port}/x")).unwrap())
        };
        // The body comes as slowly: what the system keeps on its way is no progress of the server.
        struct Slow;
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(20));
                let some = buffer.len().min(64);
                buffer.get_mut(..some).unwrap_or_default().fill(7);
                Ok(some)
            }
        }
        let open = || Ok(Box::new(Slow) as Box<dyn Read + Send>);
        let upload = Upload {
            len: 64 << 10,
            open: &open,
        };
        let begin = Instant::now();
        let client = Client::new(None).unwrap();
        let error = client.upload(&request, &upload).unwrap_err().to_string();
        assert!(error.contains("transfer is too slow"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}
