//! The installed programs that make squashfs of tar.
//!
//! They get a clean archive through a pipe and write into a file that has no name; no shell is
//! between.

use super::{errno_text, without_secrets};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Most bytes of what a program says on stderr that are kept.
const SAID: u64 = 8 << 10;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Of squashfs-tools-ng; SingularityCE's choice.
    Tar2sqfs,
    /// Of squashfs-tools.
    Mksquashfs,
}

/// What the root directory has: not every program takes it from the archive.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    /// The lower twelve bits of the mode.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Why a program made nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// What it should convert is not right.
    #[error(transparent)]
    Feed(E),
    /// It does not run.
    #[error("{program}: {}", errno_text(source))]
    Run {
        /// Its name.
        program: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program}: {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
}

impl Program {
    /// Its name, which is looked for in `PATH`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tar2sqfs => "tar2sqfs",
            Self::Mksquashfs => "mksquashfs",
        }
    }

    fn command(self, out: &File, root: Root, threads: usize) -> Command {
        // The program opens the file itself, by our number of it: it has no name.
        let out = format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd());
        let threads = threads.to_string();
        let mut command = Command::new(self.name());
        match self {
            Self::Tar2sqfs => command
                .args(["--quiet", "--force", "--no-skip", "--compressor", "gzip"])
                .args(["--num-jobs", &threads, &out]),
            Self::Mksquashfs => command
                .args(["-", &out, "-tar", "-noappend", "-no-progress", "-quiet"])
                .args(["-comp", "gzip", "-mkfs-time", "0", "-processors", &threads])
                // It passes over the entry of the root.
                .args(["-root-mode", &format!("{:o}", root.mode)])
                .args(["-root-uid", &root.uid.to_string()])
                .args(["-root-gid", &root.gid.to_string()])
                .args(["-root-time", "0"]),
        };
        // Secrets are nothing for it.
        without_secrets(&mut command);
        command
            // It would set the time of the file system twice.
            .env_remove("SOURCE_DATE_EPOCH")
            .env("LC_ALL", "C");
        command
    }

    /// Converts what `feed` writes, an archive whose root is `root`; what is in `out` is of use only if this succeeds.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn run<E>(
        self,
        out: &File,
        root: Root,
        threads: usize,
        feed: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), Error<E>> {
        let program = self.name();
        let fail = |source| Error::Run { program, source };
        let mut child = self
            .command(out, root, threads)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map(Running)
            .map_err(fail)?;
        let said = child.0.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut stderr = stderr;
                let mut said = Vec::new();
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said);
                // One that cannot speak would wait for ever.
                let _ = io::copy(&mut stderr, &mut io::sink());
                said
            })
        });
        let broken = match child.0.stdin.take() {
            Some(stdin) => {
                let mut pipe = Pipe {
                    inner: BufWriter::with_capacity(256 << 10, stdin),
                    broken: false,
                };
                let fed = feed(&mut pipe);
                let broken = pipe.flush().is_err() || pipe.broken;
                match fed {
                    // Half an archive must not become a file system.
                    Err(error) if !broken => return Err(Error::Feed(error)),
                    _ => broken,
                }
            }
            None => true,
        };
        let status = child.0.wait().map_err(fail)?;
        if status.success() && !broken {
            return Ok(());
        }
        let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines = said.lines().filter(|line| !line.trim().is_empty());
        Err(Error::Failed {
            program,
            status,
            said: lines.collect::<Vec<_>>().join("; "),
        })
    }
}

/// A program that is ended when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Of one that ended both do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe that remembers that nobody reads it.
struct Pipe<W: Write> {
    inner: BufWriter<W>,
    broken: bool,
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        self.broken |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.broken |= flushed.is_err();
        flushed
    }
}
