//! What is told while many images are judged: a line for each, a bar, a sum.

use super::line::{Line, Verdict};
use super::{Level, Ui, escaped, one_line};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// The bar at the bottom of the terminal, if there is one.
static SHOWN: RwLock<Option<ProgressBar>> = RwLock::new(None);

/// Lets the bar make room while something is printed.
pub(super) fn beside_bar<T>(print: impl FnOnce() -> T) -> T {
    let shown = SHOWN.read().unwrap_or_else(PoisonError::into_inner);
    match shown.as_ref() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// The bar of a run over many images: how many, how many bytes, how fast, how long still.
pub(crate) struct Meter {
    images: usize,
    done: usize,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// Shows a bar if somebody looks at stderr and wants to be told.
    pub fn new(ui: &Ui, images: usize, bytes: u64) -> Self {
        let visible = ui.level >= Level::Normal && ui.moves && io::stderr().is_terminal();
        let bar = visible.then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(8));
            bar.set_style(style());
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        let mut shown = SHOWN.write().unwrap_or_else(PoisonError::into_inner);
        shown.clone_from(&bar);
        let this = Self {
            images,
            done: 0,
            bar,
        };
        this.tell();
        this
    }

    /// Notes that an image of so many bytes is done.
    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(1);
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
        self.tell();
    }

    fn tell(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}/{} images", self.done, self.images));
        }
    }
}

/// The bar goes with its value.
impl Drop for Meter {
    fn drop(&mut self) {
        let mut shown = SHOWN.write().unwrap_or_else(PoisonError::into_inner);
        *shown = None;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str =
    "{msg} [{wide_bar}] {binary_bytes} / {binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// A broken template is a bar without form, not a failure.
fn style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// The line about an image: verdict, path, and who has signed or why not. `name` is the path as
/// bytes; `hint` stands behind the reason.
pub(crate) fn line(name: &[u8], line: &Line, hint: &str, color: bool) -> String {
    let verdict = line.verdict();
    let word = format!("{:<9}", verdict.word());
    let word = match (color, verdict) {
        (false, _) => word,
        (true, Verdict::Verified) => format!("\x1b[32m{word}\x1b[0m"),
        (true, Verdict::Unsigned | Verdict::Unknown) => format!("\x1b[33m{word}\x1b[0m"),
        (true, _) => format!("\x1b[31m{word}\x1b[0m"),
    };
    let reason = match verdict {
        Verdict::Verified => line.signers().join("; "),
        _ => format!("{}{hint}", line.reason.as_deref().unwrap_or_default()),
    };
    format!("{word} {}: {}\n", escaped(name), one_line(&reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_well_formed() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        let json = r#"{"schema":"sigsif-verify-1","image":"x","verdict":"verified",
            "signatures":[{"object":3,"group":1,"verdict":"valid","signer":{"kind":"pgp",
            "fingerprint":"AA","userId":"Eve\nverified  /other.sif: Alice","origin":"local",
            "signedAt":1}}]}"#;
        let parsed: Line = serde_json::from_str(json).unwrap();
        let told = line(b"a\nverified  b.sif: Bob\x1b[2J", &parsed, "", false);
        assert_eq!(
            told,
            "verified  a\\nverified  b.sif: Bob\\x1b[2J: Eveverified  /other.sif: Alice AA\n"
        );
    }
}
