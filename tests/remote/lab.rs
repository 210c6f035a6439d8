//! A folder to run the program in, and a server that is every host.
//!
//! Host names such as `cloud.lab.test` are reached through a proxy on the
//! loopback interface (`HTTPS_PROXY`): it answers `CONNECT` and then is that
//! host, with a certificate of an authority that `SIGSIF_CA_FILE` names.
//! `http://localhost:<port>` is reached directly: the recorded ports become
//! free ones with as many digits, so that tables keep their widths.

use crate::called::Called;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// `http:11371` or `https:443`, in the recording's numbers.
    pub server: String,
    pub method: String,
    pub path: String,
    pub host: String,
    pub authorization: Option<String>,
}

/// Status, header fields and body.
pub type Answer = (u16, Vec<(&'static str, String)>, String);
type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

pub struct Lab {
    base: tempfile::TempDir,
    /// Recorded port and real one.
    ports: Vec<(u16, u16)>,
    proxy: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Mutex<Box<Handler>>>,
    called: Called,
}

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Lab {
    pub fn new() -> Self {
        Self::called(Called::Sigsif)
    }

    /// For calls by a name.
    pub fn called(called: Called) -> Self {
        let base = tempfile::tempdir().unwrap();
        for name in ["home", "cfg", "sys", "bin"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        let authority = Arc::new(Authority::new());
        std::fs::write(base.path().join("ca.pem"), &authority.pem).unwrap();
        let mut lab = Self {
            base,
            ports: Vec::new(),
            proxy: 0,
            seen: Arc::default(),
            handler: Arc::new(Mutex::new(Box::new(|_| (404, Vec::new(), String::new())))),
            called,
        };
        let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        lab.proxy = proxy.local_addr().unwrap().port();
        lab.serve(proxy, "https:443".to_owned(), Some(authority));
        for recorded in [11371, 8081] {
            let listener = loopback(recorded);
            let port = listener.local_addr().unwrap().port();
            lab.ports.push((recorded, port));
            lab.serve(listener, format!("http:{recorded}"), None);
        }
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.shown(&std::fs::read_to_string(self.path(name)).unwrap())
    }

    /// What the servers answer from now on.
    pub fn answer(&self, handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    /// Requests since the last call, sorted.
    pub fn take_seen(&self) -> Vec<Seen> {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort();
        seen
    }

    /// Recorded ports and names become those of this folder.
    ///
    /// The default port of `hkp://` is the first one.
    pub fn real(&self, text: &str) -> String {
        let text = match text {
            "hkp://localhost" => "hkp://localhost:11371",
            other => other,
        };
        let text = text.replace("$SYS", self.path("sys").to_str().unwrap());
        let text = text.replace("$DIR", self.base.path().to_str().unwrap());
        self.ports.iter().fold(text, |text, (recorded, real)| {
            text.replace(
                &format!("localhost:{recorded}"),
                &format!("localhost:{real}"),
            )
        })
    }

    /// The opposite of [`Lab::real`].
    pub fn shown(&self, text: &str) -> String {
        let text = text.replace(self.path("sys").to_str().unwrap(), "$SYS");
        let text = text.replace(self.base.path().to_str().unwrap(), "$DIR");
        let text = text.replace(
            &format!("hkp://localhost:{}", self.ports[0].1),
            "hkp://localhost",
        );
        self.ports.iter().fold(text, |text, (recorded, real)| {
            text.replace(
                &format!("localhost:{real}"),
                &format!("localhost:{recorded}"),
            )
        })
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.called.program(&self.path("links")));
        command.args(args.iter().map(|arg| self.real(arg)));
        self.set_up(&mut command);
        command
    }

    pub fn set_up(&self, command: &mut Command) {
        command
            .current_dir(self.base.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.path("bin").display()),
            )
            .env(self.called.config(), self.path("cfg"))
            .env("SIGSIF_SYSCONFDIR", self.path("sys"))
            .env(self.called.keys(), self.path("keys"))
            .env("SIGSIF_CA_FILE", self.path("ca.pem"))
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", self.proxy))
            .env("TZ", "UTC");
    }

    pub fn run(&self, args: &[&str], stdin: &str) -> Outcome {
        self.finish(self.command(args), stdin)
    }

    pub fn ok(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args, "");
        assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
        outcome
    }

    pub fn refused(&self, args: &[&str]) -> String {
        let outcome = self.run(args, "");
        assert_eq!(outcome.code, 255, "{args:?}: {}", outcome.stdout);
        outcome.stderr
    }

    /// As another user; only root can do that.
    pub fn run_as(&self, user: u32, args: &[&str]) -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.base.path(), open).unwrap();
        let program = self.path("bin/sigsif");
        if !program.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_sigsif"), &program).unwrap();
        }
        let folder = self.path("user-cfg");
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            std::os::unix::fs::chown(&folder, Some(user), Some(user)).unwrap();
        }
        let mut command = Command::new(program);
        command.args(args.iter().map(|arg| self.real(arg)));
        self.set_up(&mut command);
        command
            .env("SIGSIF_CONFIGDIR", folder)
            .env("SIGSIF_KEYSDIR", self.path("user-cfg/keys"))
            .uid(user)
            .gid(user);
        self.finish(command, "")
    }

    fn finish(&self, mut command: Command, stdin: &str) -> Outcome {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                // A process that another test is starting still has the copy open.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                other => break other.unwrap(),
            }
        };
        let mut pipe = child.stdin.take().unwrap();
        // A program that reads nothing may be gone already.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| self.shown(std::str::from_utf8(bytes).unwrap());
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn serve(&self, listener: TcpListener, name: String, tls: Option<Arc<Authority>>) {
        let (seen, handler) = (Arc::clone(&self.seen), Arc::clone(&self.handler));
        let ports = self.ports.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
                let (name, tls, ports) = (name.clone(), tls.clone(), ports.clone());
                thread::spawn(move || {
                    let connection = Connection {
                        name,
                        ports,
                        seen,
                        handler,
                    };
                    // A client that goes away is no failure of the server.
                    let _ = connection.run(stream, tls.as_deref());
                });
            }
        });
    }
}

/// A free port with as many digits as the recorded one.
fn loopback(recorded: u16) -> TcpListener {
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    if recorded > 9999 {
        return any();
    }
    let start = 2000 + std::process::id() as u16 % 7000;
    (start..=9999)
        .chain(2000..start)
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .unwrap()
}

struct Connection {
    name: String,
    ports: Vec<(u16, u16)>,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Mutex<Box<Handler>>>,
}

impl Connection {
    fn run(&self, mut stream: TcpStream, tls: Option<&Authority>) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let Some(authority) = tls else {
            let head = read_head(&mut stream)?;
            return self.exchange(&head, &mut stream);
        };
        let head = read_head(&mut stream)?;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let host = target.split(':').next().unwrap_or_default();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let config = Arc::new(authority.config(host));
        let connection = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(connection, stream);
        let head = read_head(&mut stream)?;
        self.exchange(&head, &mut stream)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn exchange(&self, head: &str, stream: &mut impl Write) -> io::Result<()> {
        let mut first = head.lines().next().unwrap_or_default().split(' ');
        let header = |wanted: &str| {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.to_owned())
        };
        let mut host = header("host").unwrap_or_default();
        for (recorded, real) in &self.ports {
            host = host.replace(&real.to_string(), &recorded.to_string());
        }
        let seen = Seen {
            server: self.name.clone(),
            method: first.next().unwrap_or_default().to_owned(),
            path: first.next().unwrap_or_default().to_owned(),
            host: if host.starts_with("localhost") {
                format!("localhost:{}", self.name.trim_start_matches("http:"))
            } else {
                host
            },
            authorization: header("authorization"),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let (status, headers, body) = self.handler.lock().unwrap()(&seen);
        write!(
            stream,
            "HTTP/1.1 {status} R\r\nContent-Length: {}\r\n",
            body.len()
        )?;
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        write!(stream, "\r\n{body}")?;
        stream.flush()
    }
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
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
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
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

/// Whether this process may act for all users.
pub fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("not root: what the administrator does is not tested");
    }
    root
}

/// Permission bits of a file.
pub fn mode(path: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let data = std::fs::symlink_metadata(path).unwrap();
    format!("{:04o}", data.permissions().mode() & 0o7777)
}

/// What the recording's cloud answers: discovery, versions, token, user.
pub fn cloud(seen: &Seen, token_status: u16) -> Answer {
    let here = format!("https://{}", seen.host);
    let body = match seen.path.as_str() {
        "/assets/config/config.prod.json" => format!(
            r#"{{"libraryAPI":{{"uri":"{here}/library"}},"tokenAPI":{{"uri":"{here}/token"}},"keystoreAPI":{{"uri":"{here}/keystore"}}}}"#
        ),
        "/token/v1/token-status" => return (token_status, Vec::new(), String::new()),
        "/library/v1/rbac/users/current" => {
            r#"{"oidc_user_meta":{"secret":"SeCrEt"},"email":"joe@example.com","realname":"Joe","username":"joe"}"#.to_owned()
        }
        path if path.ends_with("/version") => r#"{"data":{"version":"v1.2.3"}}"#.to_owned(),
        _ => return (404, Vec::new(), String::new()),
    };
    (200, Vec::new(), body)
}

const JOE: &str = "Basic am9lOnB3";

/// A registry that wants `joe` and `pw`, by `basic` or through a token service.
pub fn registry(seen: &Seen, basic: bool) -> Answer {
    let challenge = if basic {
        "Basic realm=\"r\"".to_owned()
    } else {
        format!(
            "Bearer realm=\"https://{}/token\",service=\"svc\"",
            seen.host
        )
    };
    let given = seen.authorization.as_deref();
    let good = if basic { JOE } else { "Bearer T0K" };
    match seen.path.split('?').next().unwrap_or_default() {
        "/v2/" if given == Some(good) => (200, Vec::new(), "{}".to_owned()),
        "/v2/" => (401, vec![("WWW-Authenticate", challenge)], String::new()),
        "/token" if given == Some(JOE) => (200, Vec::new(), r#"{"token":"T0K"}"#.to_owned()),
        "/token" => (
            401,
            Vec::new(),
            r#"{"details":"incorrect username or password"}"#.to_owned(),
        ),
        _ => (404, Vec::new(), String::new()),
    }
}
