//! Responders: OpenSSL's own, and one in this process that does what it is told.

use super::lab::Party;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is known of a serial number: `V` valid, `R` revoked.
pub type Entry = (char, u64);

/// Writes what `openssl ocsp` needs: database, issuer, the responder's certificate and key.
pub fn write_database(folder: &Path, entries: &[Entry], issuer: &Party, responder: &Party) {
    let lines: String = entries
        .iter()
        .map(|(state, serial)| {
            let revoked = if *state == 'R' {
                "210101000000Z,keyCompromise"
            } else {
                ""
            };
            format!("{state}\t491231235959Z\t{revoked}\t{serial:04X}\tunknown\t/CN={serial}\n")
        })
        .collect();
    let put = |name: &str, text: String| std::fs::write(folder.join(name), text).expect(name);
    put("index.txt", lines);
    put("issuer.pem", issuer.made.pem());
    put("responder.pem", responder.made.pem());
    put("responder.key", responder.issuer.key().serialize_pem());
}

/// Arguments of `openssl ocsp` for that database.
pub const RESPONDER: [&str; 9] = [
    "ocsp",
    "-index",
    "index.txt",
    "-CA",
    "issuer.pem",
    "-rsigner",
    "responder.pem",
    "-rkey",
    "responder.key",
];

/// OpenSSL's responder at a port of its own choice.
pub struct OpenSsl {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl OpenSsl {
    /// Starts it; `more` are arguments.
    pub fn start(entries: &[Entry], issuer: &Party, responder: &Party, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_database(folder.path(), entries, issuer, responder);
        let mut child = Command::new("openssl")
            .args(RESPONDER)
            .args(["-port", "0"])
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl ocsp");
        // "ACCEPT [::]:38473 PID=1234"
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let address = line.strip_prefix("ACCEPT ")?.split(' ').next()?.to_owned();
                address.rsplit(':').next()?.parse().ok()
            })
            .expect("a port");
        // Nobody reads the rest; a full pipe would stop the responder.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client sent.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: Vec<u8>,
}

/// A server in this process.
pub struct Server {
    port: u16,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request with the bytes that `answer` returns; nothing for silence.
    pub fn start(answer: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let this = Self {
            port: listener.local_addr().expect("an address").port(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (seen, connections) = (this.seen.clone(), this.connections.clone());
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::Relaxed);
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    seen.lock().expect("seen").push(request.clone());
                    match answer(&request) {
                        Some(bytes) => drop((&stream).write_all(&bytes)),
                        // Until the client gives up.
                        None => drop((&stream).read(&mut [0])),
                    }
                });
            }
        });
        this
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if head[before..].trim().is_empty() {
            break;
        }
    }
    let length = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some(Seen {
        method,
        path,
        head,
        body,
    })
}

/// An HTTP answer.
pub fn http(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
