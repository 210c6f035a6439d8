//! Helpers of the reliability tests: fixtures, the program, its end.
#![allow(dead_code, reason = "every test binary uses only a part")]

pub mod table;

use sigsif::key::pem::PublicKey;
use sigsif::key::pgp::Keyring;
use sigsif::report::Origin;
use sigsif::verify::KeyMaterial;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A time after every signature of the fixtures, when their keys are still valid.
pub const NOW: u64 = 1_900_000_000;

/// Makes every change repeatable in time.
pub const TIME: &str = "1795000000";

/// Top folder of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `fixtures/peers`.
pub fn peers(path: &str) -> PathBuf {
    project().join("fixtures/peers").join(path)
}

/// Bytes of a file of `fixtures/peers`.
pub fn read_peers(path: &str) -> Vec<u8> {
    let path = peers(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The public key `fixtures/peers/keys/NAME.pub.pem`.
pub fn public_key(name: &str) -> KeyMaterial {
    let pem = read_peers(&format!("keys/{name}.pub.pem"));
    let key = PublicKey::from_pem(&pem).expect("a public key");
    KeyMaterial::of_keys(vec![key.into()])
}

/// The public keyring that Apptainer wrote.
pub fn keyring() -> KeyMaterial {
    let keyring = Keyring::parse(&read_peers("keys/keyring/pgp-public")).expect("a keyring");
    KeyMaterial::of_keyrings(vec![(Origin::Local, keyring)])
}

/// Whether a missing peer is a failure.
pub fn peers_required() -> bool {
    std::env::var_os("SIGSIF_PEERS").is_some_and(|value| value == "required")
}

/// Says that a test does nothing here, and why; fails if peers are required.
pub fn skip_without(tool: &str) {
    assert!(
        !peers_required(),
        "{tool} is missing and SIGSIF_PEERS=required"
    );
    skip(&format!("{tool} is not installed"));
}

/// Says that a test does nothing here, and why.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

/// Finds a program in `PATH`.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// An empty home folder with a keyring folder, thrown away at the end.
pub struct Home(TempDir);

impl Home {
    /// Without any key.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// In a folder that exists.
    pub fn in_folder(folder: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        Self(tempfile::tempdir_in(folder).expect("a temporary folder"))
    }

    /// With the keys of the fixtures: one without, two with a passphrase.
    pub fn with_keys() -> Self {
        let this = Self::new();
        this.reset_keys("keys/keyring");
        this
    }

    /// Replaces the keyring by a folder of the fixtures.
    pub fn reset_keys(&self, from: &str) {
        let folder = self.keys();
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a keyring folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("chmod");
        for name in ["pgp-public", "pgp-secret"] {
            let file = folder.join(name);
            fs::copy(peers(from).join(name), &file).expect("a keyring file");
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod");
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A path in the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The keyring folder.
    pub fn keys(&self) -> PathBuf {
        self.join("keys")
    }

    /// Copies a file of `fixtures/peers` here, writable.
    pub fn copy(&self, from: &str, name: &str) -> PathBuf {
        self.write(name, &read_peers(from))
    }

    /// Writes a file here.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// `sigsif` with arguments, this home and no other environment.
    pub fn sigsif<I, S>(&self, args: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.clean(env!("CARGO_BIN_EXE_sigsif"));
        command.args(args);
        command
    }

    /// Any program with this home and little other environment.
    pub fn clean(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("LC_ALL", "C")
            .env("SIGSIF_KEYSDIR", self.keys())
            .env("SIGSIF_SYSCONFDIR", self.join("etc"))
            .current_dir(self.path());
        command
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code, `None` after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Fails with everything that was said unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless stderr has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in: {self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {:?}, signal {:?}\nstdout: {}\nstderr: {}",
            self.code,
            self.signal,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}

/// Runs a program to its end without standard input; fails after a minute.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    finish(
        start(command),
        Duration::from_secs(60),
        &format!("{command:?}"),
    )
}

/// Starts a program without standard input, its output in pipes.
pub fn start(command: &mut Command) -> std::process::Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The same command under `strace` with some options.
pub fn strace(command: &Command, options: &[String]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]);
    traced.arg(command.get_current_dir().expect("a folder").join("trace"));
    traced
        .args(options)
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    traced.current_dir(command.get_current_dir().expect("a folder"));
    traced.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    traced
}

/// Waits for a started program; it must end in time.
#[track_caller]
pub fn finish(mut child: std::process::Child, limit: Duration, what: &str) -> Outcome {
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if begin.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{what}: still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Outcome {
        code: status.code(),
        signal: status.signal(),
        stdout: stdout.join().expect("stdout"),
        stderr: String::from_utf8_lossy(&stderr.join().expect("stderr")).into_owned(),
    }
}

fn drain(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        all
    })
}

/// Runs `work` for every item, on all cores, and returns the results in order.
pub fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = items.len().div_ceil(threads).max(1);
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| match part.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}
