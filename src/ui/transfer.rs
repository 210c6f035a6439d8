//! Progress of transfers: one bar per blob on a terminal, nothing in a pipe.

use super::{Level, Ui, one_line};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// Longest name in front of a bar.
const NAME: usize = 24;

/// The bars of one command.
pub struct Bars(Option<MultiProgress>);

/// One bar; it ends when it is dropped.
pub struct Bar(Option<ProgressBar>);

impl Bars {
    /// Shows bars if somebody looks at stderr and wants to be told.
    pub fn new(ui: &Ui) -> Self {
        let shown = ui.level >= Level::Normal && ui.moves && io::stderr().is_terminal();
        Self(shown.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8))))
    }

    /// Whether bars are shown; else the end of a transfer is worth a line.
    pub fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// A bar that is not shown.
    pub fn none() -> Bar {
        Bar(None)
    }

    /// Adds a bar for so many bytes, if their number is known.
    pub fn bar(&self, name: &str, total: Option<u64>) -> Bar {
        let Some(all) = &self.0 else { return Bar(None) };
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix:24} [{bar:24}] {binary_bytes:>11} / {binary_total_bytes:<11} {binary_bytes_per_sec:>13} {eta:>4}",
            )),
            None => ProgressBar::no_length().with_style(style(
                "{prefix:24} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13}",
            )),
        };
        let name: String = one_line(name).chars().take(NAME).collect();
        Bar(Some(all.add(bar.with_prefix(name))))
    }
}

impl Bar {
    /// Notes that so many more bytes are through.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Notes that the transfer began again at this byte.
    pub fn set(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }

    /// Puts a word where the bytes were: nothing had to be done.
    pub fn skip(&self, word: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_style(style("{prefix:24} {msg}"));
            bar.finish_with_message(word);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0
            && !bar.is_finished()
        {
            bar.abandon();
        }
    }
}

/// A broken template is a bar without form, not a failure.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_well_formed_and_a_pipe_sees_nothing() {
        for template in [
            "{prefix:24} [{bar:24}] {binary_bytes:>11} / {binary_total_bytes:<11} {binary_bytes_per_sec:>13} {eta:>4}",
            "{prefix:24} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13}",
            "{prefix:24} {msg}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
        let hidden = Bars(None);
        let bar = hidden.bar("x", Some(3));
        bar.advance(3);
        bar.set(1);
        bar.skip("there");
        assert!(!hidden.is_shown() && bar.0.is_none());
    }
}
