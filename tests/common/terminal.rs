//! A pseudo-terminal with someone who types.

use super::program::{Answer, exit_code};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait for a question or for the end; generating a key takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal and who sits at it.
pub struct Terminal<'a> {
    /// What is connected to it.
    pub kind: Kind,
    /// Awaited end of a question, and the line typed then.
    pub typed: &'a [(String, String)],
}

/// What is connected to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Standard input; the rest are pipes.
    Stdin,
    /// All three streams.
    All,
}

/// Runs a command at a terminal. A question that never comes ends the typing;
/// the answer then shows fewer echo states than lines.
pub fn run(mut command: Command, terminal: &Terminal<'_>) -> Answer {
    let (master, slave) = open();
    command.stdin(copy_of(&slave));
    if terminal.kind == Kind::All {
        command.stdout(copy_of(&slave)).stderr(copy_of(&slave));
    }
    let mut child = command.spawn().expect("start sigsif");
    // Only the child may hold the other end, or no end of file would be seen.
    drop((command, slave));
    let stdout = match child.stdout.take() {
        Some(pipe) => Watched::new(pipe),
        None => Watched::new(master.try_clone().expect("second handle of the terminal")),
    };
    let stderr = child.stderr.take().map(Watched::new);
    let screens: Vec<&Watched> = [Some(&stdout), stderr.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let mut seen = vec![0; screens.len()];
    let mut echo = Vec::new();
    for (question, line) in terminal.typed {
        if !await_text(&screens, &mut seen, question) {
            break;
        }
        let modes = tcgetattr(&master)
            .expect("state of the terminal")
            .local_modes;
        echo.push(modes.contains(LocalModes::ECHO));
        (&master)
            .write_all(format!("{line}\n").as_bytes())
            .expect("type a line");
    }
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("state of sigsif") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("end sigsif");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Answer {
        exit: exit_code(status),
        stdout: stdout.finish(),
        stderr: stderr.map_or_else(String::new, |watched| {
            String::from_utf8_lossy(&watched.finish()).into_owned()
        }),
        echo,
    }
}

fn open() -> (File, File) {
    let master =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    grantpt(&master).expect("grantpt");
    unlockpt(&master).expect("unlockpt");
    let name = ptsname(&master, Vec::new()).expect("ptsname");
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(std::ffi::OsStr::from_bytes(name.as_bytes()))
        .expect("other end of the terminal");
    (File::from(master), slave)
}

fn copy_of(file: &File) -> Stdio {
    file.try_clone().expect("second handle").into()
}

/// Waits until one of the streams shows `text` behind what was seen of it.
fn await_text(screens: &[&Watched], seen: &mut [usize], text: &str) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Looked at first: what comes before the end is complete then.
        let ended = screens.iter().all(|screen| screen.ended());
        for (screen, seen) in screens.iter().zip(seen.iter_mut()) {
            let shown = screen.so_far();
            let news = shown.get(*seen..).unwrap_or_default();
            if let Some(at) = news.windows(text.len()).position(|w| w == text.as_bytes()) {
                *seen += at + text.len();
                return true;
            }
        }
        if ended || Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A stream that is read by a thread of its own.
struct Watched {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Watched {
    fn new(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end is closed gives an error: the end, too.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                shared
                    .lock()
                    .expect("output so far")
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("output so far").clone()
    }

    fn ended(&self) -> bool {
        self.reader.is_finished()
    }

    fn finish(self) -> Vec<u8> {
        self.reader.join().expect("reader of the output");
        let bytes = self.bytes.lock().expect("output so far");
        bytes.clone()
    }
}
