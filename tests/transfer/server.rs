//! A registry in this process that does what it is told, faults included.

use sigsif::digest::HashAlgorithm;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ended within the body.
    pub cut: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sends only so many bytes of the body, then goes away.
    pub cut: Option<usize>,
    /// Says that the body has another length.
    pub length: Option<usize>,
    /// Waits before it answers.
    pub pause: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// In pieces, without a length in front.
    pub fn chunked(mut self) -> Self {
        let mut body = format!("{:x}\r\n", self.body.len()).into_bytes();
        body.append(&mut self.body);
        body.extend_from_slice(b"\r\n0\r\n\r\n");
        self.body = body;
        self
    }

    pub fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }
}

/// What the server has and does.
#[derive(Default)]
pub struct Store {
    pub blobs: HashMap<String, Vec<u8>>,
    /// By tag and by digest: media type and bytes.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    uploads: HashMap<String, Vec<u8>>,
    begun: usize,
    /// Whether it has the list of referrers.
    pub referrers: bool,
    /// Goes away within the next PATCH, behind so many bytes, which it keeps.
    pub break_patch: Option<usize>,
}

type Fault = dyn Fn(&Seen, usize, &mut Store) -> Option<Reply> + Send + Sync;

/// A registry that runs until the test ends. All repositories are one.
pub struct Registry {
    pub port: u16,
    pub store: Arc<Mutex<Store>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Registry {
    pub fn new() -> Self {
        Self::with(|_, _, _| None)
    }

    /// `fault` sees a request and how many of the same method and path came before it.
    pub fn with(
        fault: impl Fn(&Seen, usize, &mut Store) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let this = Self {
            port: listener.local_addr().unwrap().port(),
            store: Arc::default(),
            seen: Arc::default(),
        };
        let (store, seen) = (Arc::clone(&this.store), Arc::clone(&this.seen));
        let fault: Arc<Fault> = Arc::new(fault);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (store, seen, fault) = (store.clone(), seen.clone(), fault.clone());
                // A client that goes away is no failure of the server.
                thread::spawn(move || {
                    let _ = serve(stream, &store, &seen, &*fault);
                });
            }
        });
        this
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests of a method whose path has this text.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.seen();
        let fits = |s: &&Seen| s.method == method && s.path.contains(part);
        seen.iter().filter(fits).count()
    }

    pub fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let mut store = self.store.lock().unwrap();
        store.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    pub fn put_manifest(&self, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let mut store = self.store.lock().unwrap();
        store.put_manifest(tag, kind, bytes)
    }
}

impl Store {
    pub fn put_manifest(&mut self, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        for name in [tag, digest.as_str()] {
            self.manifests
                .insert(name.to_owned(), (kind.to_owned(), bytes.to_vec()));
        }
        digest
    }
}

pub fn digest(bytes: &[u8]) -> String {
    HashAlgorithm::Sha256.digest(bytes).to_string()
}

fn serve(
    stream: TcpStream,
    store: &Mutex<Store>,
    log: &Mutex<Vec<Seen>>,
    fault: &Fault,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let seen = request(&mut reader, store)?;
        let before = {
            let mut log = log.lock().unwrap();
            let same = |s: &&Seen| s.method == seen.method && s.path == seen.path;
            let before = log.iter().filter(same).count();
            log.push(seen.clone());
            before
        };
        let reply = {
            let mut store = store.lock().unwrap();
            if seen.cut {
                store.keep_part(&seen);
                return Ok(());
            }
            fault(&seen, before, &mut store).or_else(|| Some(store.answer(&seen)))
        };
        let Some(reply) = reply else { return Ok(()) };
        thread::sleep(reply.pause);
        let length = reply.length.unwrap_or(reply.body.len());
        let mut head = format!("HTTP/1.1 {} Reason\r\n", reply.status);
        if reply.status != 204 && !reply.headers.iter().any(|(n, _)| n == "Transfer-Encoding") {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        out.write_all(head.as_bytes())?;
        if seen.method != "HEAD" {
            let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
            out.write_all(&reply.body[..sent])?;
            out.flush()?;
            if reply.cut.is_some() || reply.length.is_some() {
                return Ok(());
            }
        }
        out.flush()?;
    }
}

fn request(reader: &mut impl BufRead, store: &Mutex<Store>) -> io::Result<Seen> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut words = line.trim_end().split(' ');
    let mut seen = Seen {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        ..Seen::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        seen.headers.push((name.to_owned(), value.to_owned()));
    }
    let length: u64 = seen
        .header("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut read = length;
    if seen.method == "PATCH"
        && let Some(at) = store.lock().unwrap().break_patch.take()
    {
        read = length.min(at as u64);
    }
    reader.take(read).read_to_end(&mut seen.body)?;
    seen.cut = (seen.body.len() as u64) < length;
    Ok(seen)
}

impl Store {
    /// What a registry without faults says.
    pub fn answer(&mut self, seen: &Seen) -> Reply {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let get = |name: &str| {
            url::form_urlencoded::parse(query.as_bytes())
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into_owned())
        };
        if path == "/v2/" {
            return Reply::status(200);
        }
        let method = seen.method.as_str();
        if let Some((_, name)) = path.rsplit_once("/manifests/") {
            return match method {
                "PUT" => {
                    let kind = seen.header("content-type").unwrap_or_default();
                    let digest = self.put_manifest(name, kind, &seen.body);
                    let reply = Reply::status(201).with("Docker-Content-Digest", digest);
                    match self.referrers.then(|| subject(&seen.body)).flatten() {
                        Some(subject) => reply.with("OCI-Subject", subject),
                        None => reply,
                    }
                }
                _ => match self.manifests.get(name) {
                    Some((kind, bytes)) => Reply::status(200)
                        .with("Content-Type", kind.clone())
                        .with("Docker-Content-Digest", digest(bytes))
                        .body(bytes.clone()),
                    None => not_found("MANIFEST_UNKNOWN"),
                },
            };
        }
        if let Some((_, subject_digest)) = path.rsplit_once("/referrers/") {
            if !self.referrers {
                return Reply::status(404).body("404 page not found");
            }
            let found = self.manifests.iter().filter(|(name, (_, bytes))| {
                name.starts_with("sha256:") && subject(bytes).as_deref() == Some(subject_digest)
            });
            let entries: Vec<_> = found
                .map(|(name, (kind, bytes))| {
                    serde_json::json!({"mediaType": kind, "digest": name, "size": bytes.len()})
                })
                .collect();
            let index = serde_json::json!({"schemaVersion": 2,
                "mediaType": INDEX, "manifests": entries});
            return Reply::status(200)
                .with("Content-Type", INDEX)
                .body(index.to_string());
        }
        if let Some((_, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(seen, id, path, &get);
        }
        if let Some((_, name)) = path.rsplit_once("/blobs/") {
            let Some(blob) = self.blobs.get(name) else {
                return not_found("BLOB_UNKNOWN");
            };
            let from = seen
                .header("range")
                .and_then(|range| range.strip_prefix("bytes="))
                .and_then(|range| range.split_once('-'));
            return match from.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to))) {
                Some((from, to)) if from < blob.len() => {
                    let last = blob.len() - 1;
                    let to = to.parse().unwrap_or(last).min(last);
                    Reply::status(206)
                        .with("Content-Range", format!("bytes {from}-{to}/{}", blob.len()))
                        .body(&blob[from..=to])
                }
                _ => Reply::status(200).body(blob.clone()),
            };
        }
        Reply::status(404)
    }

    fn upload(
        &mut self,
        seen: &Seen,
        id: &str,
        path: &str,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Reply {
        let range = |len: usize| format!("0-{}", len.saturating_sub(1));
        match seen.method.as_str() {
            "POST" => {
                if let Some(digest) = get("mount").filter(|d| self.blobs.contains_key(d)) {
                    return Reply::status(201).with("Docker-Content-Digest", digest);
                }
                // No number twice: uploads end while others go on.
                let id = format!("up{}", self.begun);
                self.begun += 1;
                self.uploads.insert(id.clone(), Vec::new());
                Reply::status(202).with("Location", format!("{path}{id}?state=secret"))
            }
            "GET" => match self.uploads.get(id) {
                Some(bytes) => Reply::status(204)
                    .with("Location", path.to_owned())
                    .with("Range", range(bytes.len())),
                None => not_found("BLOB_UPLOAD_UNKNOWN"),
            },
            method => {
                let Some(bytes) = self.uploads.get_mut(id) else {
                    return not_found("BLOB_UPLOAD_UNKNOWN");
                };
                let start = seen
                    .header("content-range")
                    .and_then(|range| range.split_once('-')?.0.parse::<usize>().ok());
                if start.is_some_and(|start| start != bytes.len()) {
                    return Reply::status(416);
                }
                bytes.extend_from_slice(&seen.body);
                if method == "PATCH" {
                    return Reply::status(202)
                        .with("Location", path.to_owned())
                        .with("Range", range(bytes.len()));
                }
                let bytes = self.uploads.remove(id).unwrap_or_default();
                let found = digest(&bytes);
                if get("digest") != Some(found.clone()) {
                    return Reply::status(400).body(
                        r#"{"errors":[{"code":"DIGEST_INVALID","message":"digest is wrong"}]}"#,
                    );
                }
                self.blobs.insert(found.clone(), bytes);
                Reply::status(201).with("Docker-Content-Digest", found)
            }
        }
    }

    /// Takes what came of a body that was cut.
    fn keep_part(&mut self, seen: &Seen) {
        let path = seen.path.split('?').next().unwrap_or_default();
        if let Some((_, id)) = path.split_once("/blobs/uploads/")
            && let Some(bytes) = self.uploads.get_mut(id)
        {
            bytes.extend_from_slice(&seen.body);
        }
    }
}

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn subject(manifest: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    Some(value.get("subject")?.get("digest")?.as_str()?.to_owned())
}

fn not_found(code: &str) -> Reply {
    Reply::status(404).body(format!(
        r#"{{"errors":[{{"code":"{code}","message":"it is not here"}}]}}"#
    ))
}
