//! A scriptable HTTP server, plain or TLS, and an HKP server on top of it.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sigsif::key::pgp::{Entity, entities_from_armored_or_binary};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Handler = dyn Fn(&Seen, &mut dyn Stream) -> io::Result<()> + Send + Sync;

/// A server that runs until the test ends.
pub struct Server {
    pub port: u16,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn http(
        handler: impl Fn(&Seen, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(handler))
    }

    pub fn https(
        authority: &Authority,
        name: &str,
        handler: impl Fn(&Seen, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(Arc::new(authority.config(name))), Arc::new(handler))
    }

    /// Always the same answer.
    pub fn answering(answer: Vec<u8>) -> Self {
        Self::http(move |_, out| out.write_all(&answer))
    }

    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    fn start(tls: Option<Arc<rustls::ServerConfig>>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, handler, tls) = (Arc::clone(&log), Arc::clone(&handler), tls.clone());
                // A client that goes away is no failure of the server.
                thread::spawn(move || {
                    let _ = serve(stream, tls, &log, &*handler);
                });
            }
        });
        Self { port, scheme, seen }
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    log: &Mutex<Vec<Seen>>,
    handler: &Handler,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    match tls {
        None => exchange(&mut &stream, log, handler),
        Some(config) => {
            let connection = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(connection, stream);
            exchange(&mut stream, log, handler)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn exchange(
    mut stream: &mut dyn Stream,
    log: &Mutex<Vec<Seen>>,
    handler: &Handler,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut seen = Seen {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    };
    let length = seen.header("content-length").and_then(|n| n.parse().ok());
    seen.body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut seen.body)?;
    log.lock().unwrap().push(seen.clone());
    handler(&seen, &mut stream)?;
    stream.flush()
}

/// A whole answer.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!(
        "HTTP/1.1 {status} Reason\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    [out.as_bytes(), body].concat()
}

/// A certificate authority of the test.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    fn config(&self, name: &str) -> rustls::ServerConfig {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        if name.starts_with("expired") {
            params.subject_alt_names = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
                .unwrap()
                .subject_alt_names;
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(leaf.der().to_vec())], key)
            .unwrap()
    }
}

/// A key server that keeps what it is sent and answers with what fits.
pub fn hkp(keys: &[&str]) -> Server {
    let store = Mutex::new(keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
    Server::http(move |seen, out| {
        let url = url::Url::parse(&format!("http://h{}", seen.path)).unwrap();
        let query = |name: &str| {
            url.query_pairs()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let mut store = store.lock().unwrap();
        let reply = match (seen.method.as_str(), url.path()) {
            ("POST", "/pks/add") => {
                let key = url::form_urlencoded::parse(&seen.body)
                    .find(|(name, _)| name == "keytext")
                    .map(|(_, text)| text.into_owned())
                    .unwrap_or_default();
                match entities_from_armored_or_binary(key.as_bytes()) {
                    Ok(entities) if !entities.is_empty() => {
                        store.push(key);
                        answer(200, &[], "")
                    }
                    _ => answer(400, &[], "no key"),
                }
            }
            ("GET", "/pks/lookup") => {
                let wanted = query("search").to_uppercase();
                let found: Vec<_> = store
                    .iter()
                    .filter(|key| entities(key).iter().any(|entity| fits(entity, &wanted)))
                    .cloned()
                    .collect();
                match query("op").as_str() {
                    _ if found.is_empty() => answer(404, &[], "not found"),
                    "index" => answer(200, &[("Content-Type", "text/plain")], index(&found)),
                    _ => answer(
                        200,
                        &[("Content-Type", "application/pgp-keys")],
                        found.join("\n"),
                    ),
                }
            }
            _ => answer(404, &[], ""),
        };
        out.write_all(&reply)
    })
}

fn entities(armored: &str) -> Vec<Entity> {
    entities_from_armored_or_binary(armored.as_bytes()).unwrap_or_default()
}

fn fits(entity: &Entity, wanted: &str) -> bool {
    match wanted.strip_prefix("0X") {
        Some(digits) => entity.fingerprint().to_string().ends_with(digits),
        None => entity
            .user_ids()
            .any(|user| user.raw.to_uppercase().contains(wanted)),
    }
}

fn index(armored: &[String]) -> String {
    let mut out = format!("info:1:{}\r\n", armored.len());
    for entity in armored.iter().flat_map(|key| entities(key)) {
        out.push_str(&format!(
            "pub:{}:1:{}:{}::\r\n",
            entity.fingerprint(),
            entity.bit_length(),
            entity.created()
        ));
        for user in entity.user_ids() {
            let encoded: String = url::form_urlencoded::byte_serialize(user.raw.as_bytes())
                .collect::<String>()
                .replace('+', "%20");
            out.push_str(&format!("uid:{encoded}:{}::\r\n", entity.created()));
        }
    }
    out
}
