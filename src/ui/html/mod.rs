//! Renders a report on many images as one page for a browser.
//!
//! The page is whole in itself: its policy forbids every request, and admits
//! only its own style and its own script, by their digests. All text that comes
//! from images, keys and paths goes through [`super::escaped`], so that nothing
//! in it can reorder or hide what stands beside it, and then through the
//! escaping of HTML or of JSON in a script. The script puts text into the page
//! as text only.
//!
//! Without a script there are the figures, the charts and a plain table.

mod row;
mod write;

pub use super::line::Error;

use super::line::{Entry, Line};
use row::Row;
use std::collections::HashMap;
use std::io::{self, Write};

/// A page that grows by one image at a time.
///
/// Holds about half a kibibyte per image: what the page shows of it.
#[derive(Debug)]
pub struct Page {
    made_at: i64,
    rows: Vec<Row>,
    texts: Names<String>,
    signers: Names<row::Signer>,
    facts: Names<row::Facts>,
}

impl Page {
    /// A page without images, made at a time in seconds since 1970: the age of signatures is
    /// counted to it.
    pub fn new(made_at: i64) -> Self {
        Self {
            made_at,
            rows: Vec::new(),
            texts: Names::default(),
            signers: Names::default(),
            facts: Names::default(),
        }
    }

    /// Adds an image by its line of the JSONL report; the line that ends a run adds nothing.
    ///
    /// # Errors
    /// [`Error`] if it is no line of such a report; the page is as before then.
    pub fn add(&mut self, line: &str) -> Result<(), Error> {
        if let Entry::Image(line) = Entry::parse(line)? {
            self.add_line(*line);
        }
        Ok(())
    }

    /// Adds an image.
    pub(crate) fn add_line(&mut self, line: Line) {
        let row = self.row(line);
        self.rows.push(row);
    }

    /// How many images it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no image.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the page, in UTF-8.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write::page(self, out)
    }
}

/// Values that are kept once and named by number.
#[derive(Debug)]
struct Names<T> {
    all: Vec<T>,
    numbers: HashMap<String, usize>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T> Names<T> {
    /// The number of the value that has this key; the first one with it stays.
    fn number(&mut self, key: String, value: impl FnOnce() -> T) -> usize {
        *self.numbers.entry(key).or_insert_with(|| {
            self.all.push(value());
            self.all.len() - 1
        })
    }
}
