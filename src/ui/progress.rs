//! How far a long copy is: a bar on stderr, on a terminal, for large objects only.

use super::{Level, Ui};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// Copies below this many bytes are over before a bar could be read.
const LARGE: u64 = 64 << 20;

/// A bar, visible or not.
pub struct Progress {
    bar: ProgressBar,
    done: u64,
}

impl Ui {
    /// Starts a bar for `total` bytes, if that is known.
    pub fn progress(&self, what: &'static str, total: Option<u64>) -> Progress {
        let visible = self.level >= Level::Normal && self.moves && std::io::stderr().is_terminal();
        let hidden = || ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let (bar, template) = match total {
            _ if !visible => (hidden(), ""),
            Some(total) if total < LARGE => (hidden(), ""),
            Some(total) => (
                ProgressBar::new(total),
                "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{msg} {spinner} {bytes} {bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Progress { bar, done: 0 }
    }
}

impl Progress {
    /// Tells of more bytes.
    pub fn add(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        // A stream of unknown length shows itself only once it is large.
        if self.bar.length().is_some() || self.done >= LARGE {
            self.bar.set_position(self.done);
        }
    }
}

/// The bar goes with its value.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
