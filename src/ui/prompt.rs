//! Questions to the user: through the terminal or from a pipe.
//!
//! All answers come from one buffered reader of standard input, so that a
//! pipe with several lines answers several questions.

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use zeroize::Zeroizing;

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Where a question is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// OpenPGP questions, as in the originals.
    Stdout,
    /// Questions about PEM keys, as in the originals.
    Stderr,
}

/// Someone who answers questions.
pub trait Prompt {
    /// Prints `question` on stdout and reads one visible line.
    ///
    /// The end of the input gives an empty answer.
    ///
    /// # Errors
    /// The system's refusal to read or write.
    fn line(&mut self, question: &str) -> io::Result<String>;

    /// Prints `question` and reads one line that is not echoed.
    ///
    /// # Errors
    /// As [`Prompt::line`].
    fn hidden(&mut self, question: &str, stream: Stream) -> io::Result<Zeroizing<String>>;
}

/// Answers from standard input.
#[derive(Default)]
pub struct Console;

impl Prompt for Console {
    fn line(&mut self, question: &str) -> io::Result<String> {
        ask(question, Stream::Stdout)?;
        Ok(read_line()?.to_string())
    }

    fn hidden(&mut self, question: &str, stream: Stream) -> io::Result<Zeroizing<String>> {
        let answer = if io::stdin().is_terminal() {
            // Echo is off before the question can be seen.
            let quiet = NoEcho::new()?;
            ask(question, stream)?;
            let answer = read_typed(quiet);
            ask("\n", stream)?;
            answer?
        } else {
            ask(question, stream)?;
            let answer = read_line()?;
            ask("\n", stream)?;
            answer
        };
        Ok(answer)
    }
}

/// Reads standard input to its end, without the end of its last line.
///
/// # Errors
/// The system's refusal, or too much of it.
pub fn read_all() -> io::Result<Zeroizing<String>> {
    let room = usize::try_from(MAX_ANSWER).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    let mut input = io::stdin().lock().take(MAX_ANSWER.saturating_add(1));
    input.read_to_end(&mut bytes)?;
    if bytes.len() > room {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "answer is too long",
        ));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    text(&bytes)
}

fn ask(text: &str, stream: Stream) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()
        }
        Stream::Stderr => io::stderr().lock().write_all(text.as_bytes()),
    }
}

fn read_line() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    io::stdin()
        .lock()
        .take(MAX_ANSWER)
        .read_until(b'\n', &mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    text(&bytes)
}

fn text(bytes: &[u8]) -> io::Result<Zeroizing<String>> {
    std::str::from_utf8(bytes)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "answer is not UTF-8 text"))
}

/// Reads what is typed until Enter; editing keys work, Ctrl-C ends the program.
fn read_typed(quiet: NoEcho) -> io::Result<Zeroizing<String>> {
    let mut typed = Zeroizing::new(Vec::with_capacity(256));
    let mut input = io::stdin().lock();
    loop {
        let mut key = [0];
        if input.read(&mut key)? == 0 {
            break;
        }
        match key[0] {
            b'\n' | b'\r' => break,
            // Ctrl-C, Ctrl-\: with the terminal as it was found.
            0x03 | 0x1c => {
                drop(quiet);
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::INT,
                )?;
                return Err(io::ErrorKind::Interrupted.into());
            }
            0x04 if typed.is_empty() => break,
            0x04 => {}
            0x08 | 0x7f => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            0x15 => typed.clear(),
            byte if typed.len() < typed.capacity() => typed.push(byte),
            // Growing would leave a copy of the secret behind.
            byte => {
                let room = typed.len().saturating_mul(2);
                let mut larger = Zeroizing::new(Vec::with_capacity(room));
                larger.extend_from_slice(&typed);
                larger.push(byte);
                typed = larger;
            }
        }
    }
    text(&typed)
}

/// The terminal without echo, put back on drop.
struct NoEcho {
    before: Termios,
}

impl NoEcho {
    fn new() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Prepared answers, for tests.
pub struct Scripted {
    answers: std::collections::VecDeque<String>,
    /// Every question that was asked.
    pub asked: Vec<String>,
}

impl Scripted {
    /// Answers in the order of the questions; then empty ones.
    pub fn new(answers: &[&str]) -> Self {
        Self {
            answers: answers.iter().map(ToString::to_string).collect(),
            asked: Vec::new(),
        }
    }

    fn next(&mut self, question: &str) -> String {
        self.asked.push(question.to_owned());
        self.answers.pop_front().unwrap_or_default()
    }
}

impl Prompt for Scripted {
    fn line(&mut self, question: &str) -> io::Result<String> {
        Ok(self.next(question))
    }

    fn hidden(&mut self, question: &str, _: Stream) -> io::Result<Zeroizing<String>> {
        Ok(Zeroizing::new(self.next(question)))
    }
}
