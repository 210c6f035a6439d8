//! EDGE: alone may print or ask.
//!
//! stdout is the result; stderr is the rest: lines with a level in front.

pub mod attestation;
pub(crate) mod batch;
pub mod cosign;
pub mod coverage;
pub mod findings;
pub mod html;
pub mod json;
pub(crate) mod line;
pub mod listing;
pub mod progress;
pub mod prompt;
pub mod text;
pub mod transfer;
pub mod tree;

use std::cell::RefCell;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use unicode_width::UnicodeWidthChar as _;

/// How much is printed, in the numbers of the originals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `--silent`: only ERROR and FATAL.
    Silent = -3,
    /// `--quiet`: no INFO.
    Quiet = -1,
    /// The default.
    Normal = 1,
    /// `--verbose`.
    Verbose = 4,
    /// `--debug`.
    Debug = 5,
}

/// Whether somebody listens instead of looking: `--plain`.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// No drawings, no colours, nothing that is drawn again: one fact per line, for screen readers.
/// Holds until the end of the process.
pub fn be_plain() {
    PLAIN.store(true, Ordering::Relaxed);
}

fn is_plain() -> bool {
    PLAIN.load(Ordering::Relaxed)
}

/// Whose tables are drawn, where they are not the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// Our own, which are SingularityCE's.
    #[default]
    Own,
    /// SingularityCE's, for programs that read them.
    Singularity,
    /// Apptainer's, for programs that read them.
    Apptainer,
}

static TABLES: OnceLock<Tables> = OnceLock::new();

/// Draws the tables of a program. Holds until the end of the process.
pub fn draw_tables_of(program: Tables) {
    // The first word counts: a process is called by one name.
    let _ = TABLES.set(program);
}

fn tables() -> Tables {
    TABLES.get().copied().unwrap_or_default()
}

/// Whether tables that programs may read are to be heard instead.
fn is_heard() -> bool {
    is_plain() && tables() == Tables::Own
}

/// The two output streams and their settings.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    level: Level,
    color_labels: bool,
    color_tags: bool,
    /// Whether a line may be drawn again.
    moves: bool,
}

impl Ui {
    /// Looks at the terminal; `color` is false for `--nocolor`.
    ///
    /// As in the originals the switch is about labels on stderr, the
    /// environment (`NO_COLOR`, `TERM=dumb`) about tags on stdout; here both
    /// obey the environment.
    pub fn new(level: Level, color: bool, plain_environment: bool) -> Self {
        let plain_environment = plain_environment || is_plain();
        Self {
            level,
            color_labels: color && !plain_environment && io::stderr().is_terminal(),
            color_tags: !plain_environment && io::stdout().is_terminal(),
            moves: !plain_environment,
        }
    }

    /// The same without INFO lines, for what is told later.
    pub fn without_info(self) -> Self {
        Self {
            level: self.level.min(Level::Quiet),
            ..self
        }
    }

    /// Whether tags on stdout are coloured.
    pub fn color_tags(&self) -> bool {
        self.color_tags
    }

    /// Tells something of interest.
    pub fn info(&self, text: impl Display) {
        self.line(Level::Normal, "INFO", 34, &text);
    }

    /// Tells something that only `--verbose` shows.
    pub fn verbose(&self, text: impl Display) {
        self.line(Level::Verbose, "VERBOSE", 34, &text);
    }

    /// Tells what only somebody who looks for a fault wants to know.
    pub fn debug(&self, text: impl Display) {
        self.line(Level::Debug, "DEBUG", 90, &text);
    }

    /// Tells something unexpected that does not stop the work.
    pub fn warning(&self, text: impl Display) {
        if self.level >= Level::Quiet {
            self.print("WARNING", 33, &text);
        }
    }

    /// Tells a failure of the command.
    pub fn error(&self, text: impl Display) {
        self.print("ERROR", 31, &text);
    }

    /// Tells a failure that ends the program with exit code 255.
    pub fn fatal(&self, text: impl Display) {
        self.print("FATAL", 31, &text);
    }

    fn line(&self, at: Level, label: &str, color: u8, text: &dyn Display) {
        if self.level >= at {
            self.print(label, color, text);
        }
    }

    fn print(&self, label: &str, color: u8, text: &dyn Display) {
        let text = message(&text.to_string());
        let text = text.trim_end_matches('\n');
        let label = if self.level == Level::Debug {
            let user = rustix::process::geteuid().as_raw();
            let process = format!("[U={user},P={}]", std::process::id());
            format!("{label:<8}{process:<19}{:<30}", "sigsif()")
        } else {
            format!("{:<8}", format!("{label}:"))
        };
        let label = if self.color_labels {
            format!("\x1b[{color}m{label}\x1b[0m")
        } else {
            label
        };
        let about = ABOUT.with_borrow(|about| match about {
            Some(about) => format!("{about}: "),
            None => String::new(),
        });
        // Nothing sensible can be done if stderr is gone.
        batch::beside_bar(|| {
            let _ = writeln!(io::stderr().lock(), "{label} {about}{text}");
        });
    }
}

/// Whether somebody looks at stderr.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// How wide help is where nobody looks: as wide as that of the originals. `None` where there is a
/// terminal or a `COLUMNS`, which decide then.
pub fn width_without_terminal() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok();
    let is_told = columns.is_some_and(|columns| columns.parse::<usize>().is_ok());
    let is_seen =
        io::stdout().is_terminal() || io::stderr().is_terminal() || io::stdin().is_terminal();
    (!is_told && !is_seen).then_some(80)
}

/// Prints plain text on stderr, without a label.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a result to stdout.
///
/// # Errors
/// The system's refusal; a reader that went away is reported as an error of
/// kind [`io::ErrorKind::BrokenPipe`] for the caller to end quietly.
pub fn result(bytes: &[u8]) -> io::Result<()> {
    batch::beside_bar(|| {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    })
}

thread_local! {
    /// What the lines of this thread are about, where that is not plain.
    static ABOUT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does something whose messages, those of this thread, get a name in front.
pub(crate) fn about<T>(name: &[u8], work: impl FnOnce() -> T) -> T {
    ABOUT.set(Some(escaped(name)));
    let done = work();
    ABOUT.set(None);
    done
}

/// Removes what could steer a terminal: control characters but the line feed
/// and the tab, and the marks that change the direction of text.
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !is_steering(*c))
        .collect()
}

/// As [`printable`], for messages with a name in them that may be anybody's, such as that of a
/// file: no line but the first begins like one of this program's own.
pub fn message(text: &str) -> String {
    // Longer than any of these.
    const LABEL: usize = 8;
    const SOFT_HYPHEN: char = '\u{ad}';
    const OURS: &[&str] = &[
        "INFO", "WARNING", "ERROR", "FATAL", "VERBOSE", "DEBUG", "Error", "[",
    ];
    let mut out = String::new();
    for (number, line) in printable(text).split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
            // What takes no room is not seen, and makes no other line of it.
            let seen = line
                .chars()
                .filter(|c| *c != SOFT_HYPHEN && c.width() != Some(0));
            let seen: String = seen.take(LABEL).collect();
            if OURS.iter().any(|start| seen.starts_with(start)) {
                out.push(' ');
            }
        }
        out.push_str(line);
    }
    out
}

/// As [`printable`], for text that has to stay on its line.
pub fn one_line(text: &str) -> String {
    text.chars().filter(|c| !is_steering(*c)).collect()
}

/// Makes raw bytes visible on one line: `\n`, `\t`, `\x1b`, else UTF-8.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if is_steering(c) && u32::from(c) < 0x100 => {
                    let _ = write!(out, "\\x{:02x}", u32::from(c));
                }
                c if is_steering(c) => {
                    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes lines of `label value` with the values in one column.
pub struct Columns {
    rows: Vec<(String, String)>,
}

impl Columns {
    /// An empty block.
    pub fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, label: &str, value: impl Display) {
        self.rows.push((label.to_owned(), value.to_string()));
    }

    /// Renders the block: each line is `indent`, the label padded to the
    /// longest one plus `gap`, the value.
    pub fn render(&self, indent: &str, gap: usize) -> String {
        let width = self.rows.iter().map(|(label, _)| label.len()).max();
        let width = width.unwrap_or_default().saturating_add(gap);
        let mut out = String::new();
        for (label, value) in &self.rows {
            let _ = writeln!(out, "{indent}{label:<width$}{value}");
        }
        out
    }
}

impl Default for Columns {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Silent => "silent",
            Self::Quiet => "quiet",
            Self::Normal => "normal",
            Self::Verbose => "verbose",
            Self::Debug => "debug",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        let evil = "a\x1b[2Jb\u{202e}c\u{9b}d\x07\ne\r";
        assert_eq!(printable(evil), "a[2Jbcd\ne");
        assert_eq!(one_line(evil), "a[2Jbcde");
        let forged = "open x\nINFO:    Verified\nFATAL: no\n[LOCAL] Alice\nmore\n  INFO";
        let seen = "open x\n INFO:    Verified\n FATAL: no\n [LOCAL] Alice\nmore\n  INFO";
        assert_eq!(message(forged), seen);
        for unseen in [
            '\u{200b}',
            '\u{feff}',
            '\u{2060}',
            '\u{ad}',
            '\u{34f}',
            '\u{e0020}',
        ] {
            let forged = format!("x\n{unseen}IN{unseen}FO: y\nmore");
            let seen = format!("x\n {unseen}IN{unseen}FO: y\nmore");
            assert_eq!(message(&forged), seen, "{unseen:?}");
        }
        assert_eq!(escaped(b"a\x1b[2J\n\xff\tz"), "a\\x1b[2J\\n\\xff\\tz");
        assert_eq!(escaped("é\u{202e}".as_bytes()), "é\\u{202e}");
    }
}
