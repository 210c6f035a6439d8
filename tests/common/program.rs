//! Runs the program under test in an environment that holds nothing else.

use super::terminal::{self, Terminal};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One call of the program.
pub struct Call<'a> {
    /// What follows the program name.
    pub args: &'a [String],
    /// Working folder.
    pub folder: &'a Path,
    /// All environment variables.
    pub env: &'a [(String, String)],
    /// Where answers to questions come from.
    pub input: Input<'a>,
}

/// Standard input of a call.
pub enum Input<'a> {
    /// Nothing.
    Empty,
    /// A pipe with this text.
    Pipe(&'a str),
    /// Someone at a terminal.
    Terminal(Terminal<'a>),
}

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit code, or minus the signal that ended the program.
    pub exit: i32,
    /// Standard output, or everything the terminal showed.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Whether the terminal echoed, for each line typed.
    pub echo: Vec<bool>,
}

/// Folders that a call needs, in a temporary place of their own.
pub struct Sandbox {
    root: tempfile::TempDir,
}

impl Sandbox {
    /// Makes the folders: work, home, configuration, system configuration.
    pub fn new() -> Self {
        let this = Self {
            root: tempfile::tempdir().expect("temporary folder"),
        };
        for folder in [this.home(), this.config(), this.system()] {
            std::fs::create_dir_all(folder).expect("folder in the sandbox");
        }
        this
    }

    /// The working folder.
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.work().join("home")
    }

    /// The user's configuration.
    pub fn config(&self) -> PathBuf {
        self.work().join("cfg")
    }

    /// The local keyring; not made here.
    pub fn keys(&self) -> PathBuf {
        self.work().join("keys")
    }

    /// The administrator's configuration.
    pub fn system(&self) -> PathBuf {
        self.root.path().join("sys")
    }

    /// A link to the program with the name of an original.
    pub fn link(&self, name: &str) -> PathBuf {
        let folder = self.root.path().join("bin");
        std::fs::create_dir_all(&folder).expect("a folder");
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sigsif"), &link).expect("a link");
        }
        link
    }

    /// Variables that point the program at these folders and at nothing else.
    pub fn env(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_str().expect("UTF-8 path").to_owned();
        [
            ("HOME", text(self.home())),
            ("SINGULARITY_CONFIGDIR", text(self.config())),
            ("SIGSIF_KEYSDIR", text(self.keys())),
            ("SIGSIF_SYSCONFDIR", text(self.system())),
            ("TZ", "UTC".to_owned()),
            ("TERM", "xterm".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Runs the program to its end.
pub fn run(call: &Call<'_>) -> Answer {
    run_as(Path::new(env!("CARGO_BIN_EXE_sigsif")), call)
}

/// Runs the program to its end by another path that leads to it.
pub fn run_as(program: &Path, call: &Call<'_>) -> Answer {
    let mut command = Command::new(program);
    command
        .args(call.args)
        .current_dir(call.folder)
        .env_clear()
        .envs(call.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let text = match &call.input {
        Input::Terminal(terminal) => return terminal::run(command, terminal),
        Input::Empty => None,
        Input::Pipe(text) => {
            command.stdin(Stdio::piped());
            Some(*text)
        }
    };
    let mut child = command.spawn().expect("start sigsif");
    if let (Some(text), Some(mut pipe)) = (text, child.stdin.take()) {
        // A program that asks nothing closes the pipe: no error here.
        let _ = pipe.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().expect("end of sigsif");
    Answer {
        exit: exit_code(output.status),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        echo: Vec::new(),
    }
}

/// Exit code, or minus the number of the signal.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or_default())
}
