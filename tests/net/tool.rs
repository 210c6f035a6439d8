//! Runs the program in a folder of its own.

use crate::called::Called;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Folder(tempfile::TempDir, Called);

#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/peers")
        .join(path)
}

pub fn fixture_text(path: &str) -> String {
    std::fs::read_to_string(fixture(path)).unwrap()
}

impl Folder {
    pub fn new() -> Self {
        Self::called(Called::Sigsif)
    }

    /// For calls by a name.
    pub fn called(called: Called) -> Self {
        let this = Self(tempfile::tempdir().unwrap(), called);
        for name in ["home", "cfg", "sys"] {
            std::fs::create_dir(this.path(name)).unwrap();
        }
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Copies files of `fixtures/peers`.
    pub fn with(self, files: &[&str]) -> Self {
        for file in files {
            let from = fixture(file);
            std::fs::copy(&from, self.path("").join(from.file_name().unwrap())).unwrap();
        }
        self
    }

    /// Puts the public keys one and two into the local keyring.
    pub fn with_keyring(self) -> Self {
        let code = |name| {
            let file = fixture(name);
            self.run(&["key", "import", file.to_str().unwrap()], &[])
                .code
        };
        assert_eq!(code("keys/pgp-one.pub.asc"), 0);
        assert_eq!(code("keys/pgp-two.pub.asc"), 0);
        self
    }

    pub fn keyring(&self) -> Vec<u8> {
        std::fs::read(self.path("keys/pgp-public")).unwrap_or_default()
    }

    pub fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Outcome {
        self.run_under(&[], args, env)
    }

    /// Runs the program with another one in front, such as a tracer.
    pub fn run_under(&self, front: &[&str], args: &[&str], env: &[(&str, &str)]) -> Outcome {
        let program = self.1.program(&self.path("bin"));
        let words = [front, &[program.to_str().unwrap()], args].concat();
        let output = Command::new(words[0])
            .args(&words[1..])
            .current_dir(self.0.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env(self.1.config(), self.path("cfg"))
            .env("SIGSIF_SYSCONFDIR", self.path("sys"))
            .env(self.1.keys(), self.path("keys"))
            .env("TZ", "UTC")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(self.0.path().to_str().unwrap(), "$DIR")
        };
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}
