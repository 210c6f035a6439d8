//! A real registry on this machine, and the programs that fill and read it.
//!
//! The registry is the `docker-registry` of `SIGSIF_DOCKER_REGISTRY` or `PATH`; other programs
//! are found the same way: `SIGSIF_SKOPEO`, `SIGSIF_ORAS`, `SIGSIF_COSIGN`,
//! `SIGSIF_SINGULARITY`, `SIGSIF_CE_COSIGN`.
#![allow(dead_code, reason = "push and pull use different parts")]

use crate::support::{self, Home, Outcome, run};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A registry that ends with this value; its data are thrown away.
pub struct Peer {
    port: u16,
    child: Child,
    /// A folder for the test; programs get it as their home.
    pub home: Home,
}

/// What `SIGSIF_...` or `PATH` has.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| support::tool(name))
}

/// As [`program`]; says that a test does nothing without it. `.ci/run` installs those that are
/// `needed`.
pub fn program_or_skip(variable: &str, name: &str, needed: bool) -> Option<PathBuf> {
    let found = program(variable, name);
    match (&found, needed) {
        (Some(_), _) => {}
        (None, true) => support::skip_without(name),
        (None, false) => support::skip(&format!("neither {variable} nor PATH has {name}")),
    }
    found
}

impl Peer {
    /// Starts a registry without logins; nothing, and a line, where it is not installed.
    pub fn start() -> Option<Self> {
        Self::with("")
    }

    /// As [`Peer::start`], with more lines of its configuration.
    pub fn with(settings: &str) -> Option<Self> {
        let program = program_or_skip("SIGSIF_DOCKER_REGISTRY", "docker-registry", true)?;
        // Between choosing a port and using it, somebody else may take it.
        for _ in 0..5 {
            if let Some(peer) = Self::try_start(&program, settings) {
                return Some(peer);
            }
        }
        panic!("docker-registry does not start");
    }

    fn try_start(program: &PathBuf, settings: &str) -> Option<Self> {
        let home = Home::new();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let data = home.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n{settings}",
            data.display()
        );
        let config = home.write("registry.yml", config.as_bytes());
        let log = File::create(home.join("registry.log")).expect("a file");
        let child = home
            .clean(program)
            .env("OTEL_TRACES_EXPORTER", "none")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("docker-registry");
        let mut peer = Self { port, child, home };
        for _ in 0..500 {
            if peer.child.try_wait().expect("wait").is_some() {
                eprintln!("{}", peer.log());
                return None;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(peer);
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("docker-registry does not answer: {}", peer.log());
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("registry.log")).unwrap_or_default()
    }

    /// Runs `skopeo` without encryption; nothing where it is missing.
    pub fn skopeo(&self, args: &[&str]) -> Option<Outcome> {
        let program = program_or_skip("SIGSIF_SKOPEO", "skopeo", true)?;
        let mut command = self.home.clean(program);
        // Images of tests are signed by nobody that skopeo knows.
        command.arg("--insecure-policy").args(args);
        Some(run(&mut command))
    }

    /// Copies an image of an OCI layout (`FOLDER` or `FOLDER:TAG`) to `NAME:TAG` of the registry,
    /// byte for byte; false where skopeo is missing.
    pub fn fill(&self, layout: &str, name: &str) -> bool {
        let from = format!("oci:{layout}");
        let to = format!("docker://{}/{name}", self.host());
        let args = [
            "copy",
            "-q",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &from,
            &to,
        ];
        match self.skopeo(&args) {
            Some(outcome) => {
                outcome.expect(0);
                true
            }
            None => false,
        }
    }

    /// A command of a peer that only some machines have, with the home of this test; nothing,
    /// and a line, where it is missing.
    pub fn command(&self, variable: &str, name: &str) -> Option<Command> {
        let program = program_or_skip(variable, name, false)?;
        Some(self.home.clean(program))
    }

    /// The real cosign.
    pub fn cosign(&self) -> Option<Command> {
        self.command("SIGSIF_COSIGN", "cosign")
    }

    /// The real oras.
    pub fn oras(&self) -> Option<Command> {
        self.command("SIGSIF_ORAS", "oras")
    }

    /// SingularityCE, with a configuration of its own.
    pub fn singularity(&self) -> Option<Command> {
        let mut command = self.command("SIGSIF_SINGULARITY", "singularity")?;
        command
            .env("SINGULARITY_CONFIGDIR", self.home.join("singularity"))
            .env("SINGULARITY_SYPGPDIR", self.home.join("singularity/keys"))
            .env("SINGULARITY_CACHEDIR", self.home.join("singularity/cache"));
        Some(command)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
