//! Where the answers of a run go: lines on stdout, the report, the page, the sum.

use super::super::super::{Error, print, usage};
use super::court::{Court, Told};
use crate::disk::find::{Found, Shard, state};
use crate::disk::report_file::{self, ReportFile};
use crate::disk::{errno_text, files};
use crate::ui::batch::{self, Meter};
use crate::ui::html::Page;
use crate::ui::line::{Entry, Line, Tally};
use crate::ui::{Ui, json, one_line};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The reports that are wanted.
pub(super) struct Reports {
    lines: Option<PathBuf>,
    page: Option<PathBuf>,
    resume: bool,
}

/// Reports that are open, before images are judged.
pub(super) struct Opened {
    lines: Option<ReportFile>,
    page: Option<(PathBuf, Page)>,
    tally: Tally,
    run: String,
    shard: Option<Shard>,
}

/// Takes the answers.
pub(super) struct Sink {
    opened: Opened,
    as_json: bool,
    color: bool,
    /// Whether somebody reads stdout.
    heard: bool,
    meter: Meter,
}

impl Reports {
    /// Looks at the names.
    ///
    /// # Errors
    /// A name that says nothing about the form, two of one form, `--resume` without a report.
    pub(super) fn check(paths: &[PathBuf], resume: bool) -> Result<Self, Error> {
        let refuse = |text: String| Err(usage::bad_flags(&["verify"], &text));
        let mut this = Self {
            lines: None,
            page: None,
            resume,
        };
        for path in paths {
            let place = match path.extension().and_then(|end| end.to_str()) {
                Some("jsonl") => &mut this.lines,
                Some("html") => &mut this.page,
                _ => {
                    return refuse(format!(
                        "--report {}: the name must end in .jsonl or .html",
                        one_line(&path.to_string_lossy())
                    ));
                }
            };
            if place.replace(path.clone()).is_some() {
                return refuse("--report names two files of one form".to_owned());
            }
        }
        match resume && this.lines.is_none() {
            true => refuse("--resume needs --report NAME.jsonl".to_owned()),
            false => Ok(this),
        }
    }

    /// Opens the reports; also tells which of the images have a line already that still counts.
    ///
    /// # Errors
    /// A report that cannot be written, that has lines although no run is resumed, or whose lines
    /// say what other keys or flags found out.
    pub(super) fn open(
        self,
        ui: &Ui,
        court: &Court<'_>,
        shard: Option<Shard>,
        images: &[Found],
    ) -> Result<(Opened, Vec<bool>), Error> {
        let mut done = vec![false; images.len()];
        let mut opened = Opened {
            lines: None,
            page: self
                .page
                .map(|path| (path, Page::new(super::super::super::wall_clock()))),
            tally: Tally::default(),
            run: court.run().to_owned(),
            shard,
        };
        let Some(path) = self.lines else {
            return Ok((opened, done));
        };
        let file = match self.resume && path.exists() {
            true => {
                let mut dropped = 0_usize;
                let file = opened.resume(&path, images, &mut done, &mut dropped);
                if dropped > 0 {
                    ui.info(format_args!(
                        "{dropped} line(s) of '{}' are judged anew or gone: the image changed, could \
                         not be judged, or is not meant any more",
                        path.display()
                    ));
                }
                file
            }
            false => ReportFile::create(&path),
        };
        opened.lines = Some(file.map_err(told)?);
        Ok((opened, done))
    }
}

/// An error of a report as that of the command.
fn told(error: report_file::Error) -> Error {
    let detail = match &error {
        report_file::Error::NotEmpty(_) => Some(
            "--resume goes on with it; for a new run take another name or remove it".to_owned(),
        ),
        _ => None,
    };
    Error::Fatal {
        text: one_line(&error.to_string()),
        detail,
    }
}

impl Opened {
    fn resume(
        &mut self,
        path: &Path,
        images: &[Found],
        done: &mut [bool],
        dropped: &mut usize,
    ) -> Result<ReportFile, report_file::Error> {
        let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(images.len());
        for (at, image) in images.iter().enumerate() {
            places.insert(image.path.as_os_str().as_bytes(), at);
        }
        ReportFile::resume(path, &mut |text| {
            let line = match Entry::parse(text).map_err(|error| error.to_string())? {
                Entry::Image(line) => line,
                // The end comes again.
                Entry::End(_) => return Ok(false),
            };
            if line.run.as_deref() != Some(&self.run) {
                return Err(
                    "made with other keys, flags or another version of the program: a new run needs \
                     another report"
                        .to_owned(),
                );
            }
            let at = places.get(line.name().as_slice()).copied();
            let image = at.and_then(|at| Some((images.get(at)?, done.get_mut(at)?)));
            match image {
                Some((image, done)) if !*done && still_holds(&line, image) => {
                    *done = true;
                    self.count(*line);
                    Ok(true)
                }
                _ => {
                    *dropped = dropped.saturating_add(1);
                    Ok(false)
                }
            }
        })
    }

    fn count(&mut self, line: Line) {
        self.tally.add(line.verdict());
        if let Some((_, page)) = &mut self.page {
            page.add_line(line);
        }
    }

    /// Gets ready to take answers.
    pub(super) fn told(self, as_json: bool, color: bool, meter: Meter) -> Sink {
        Sink {
            opened: self,
            as_json,
            color,
            heard: true,
            meter,
        }
    }
}

/// Whether the file is the one that the line is about, and could be judged.
fn still_holds(line: &Line, image: &Found) -> bool {
    if line.is_error() || image.problem.is_some() {
        return false;
    }
    let (Some(size), Some(changed)) = (line.size, &line.changed) else {
        return false;
    };
    state(&image.path).is_some_and(|now| now.size == size && now.changed == *changed)
}

impl Sink {
    /// Takes an answer.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn take(&mut self, image: &Found, answer: Told) -> Result<(), Error> {
        if let Some(lines) = &mut self.opened.lines {
            lines.add(&answer.json).map_err(told)?;
        }
        if self.heard {
            let name = image.path.as_os_str().as_bytes();
            let printed = match self.as_json {
                true => print(format!("{}\n", answer.json)),
                false => print(batch::line(name, &answer.line, answer.hint, self.color)),
            };
            match printed {
                Ok(()) => {}
                // The report is still wanted.
                Err(Error::Quiet(_)) if self.opened.has_report() => self.heard = false,
                Err(error) => return Err(error),
            }
        }
        self.opened.count(answer.line);
        self.meter.advance(image.size);
        Ok(())
    }

    /// Ends the reports; returns the sum.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn finish(self, ui: &Ui) -> Result<Tally, Error> {
        let Self { opened, meter, .. } = self;
        drop(meter);
        let Opened {
            lines,
            page,
            tally,
            run,
            shard,
        } = opened;
        if let Some(mut lines) = lines {
            let end = tally.end(&run, shard.map(|shard| shard.to_string()));
            lines.add(&json::end(&end)).map_err(told)?;
            lines.finish().map_err(told)?;
        }
        if let Some((path, page)) = page {
            write_page(&path, &page)?;
            ui.info(format_args!("Report in '{}'", path.display()));
        }
        Ok(tally)
    }
}

impl Opened {
    fn has_report(&self) -> bool {
        self.lines.is_some() || self.page.is_some()
    }
}

/// Writes a page.
///
/// # Errors
/// The system's refusal.
pub(in crate::cli) fn write_page(path: &Path, page: &Page) -> Result<(), Error> {
    let mut text = Vec::new();
    page.write(&mut text)
        .and_then(|()| files::write_named(path, &text, 0o644))
        .map_err(|error| {
            Error::fatal(one_line(&format!(
                "while writing '{}': {}",
                path.display(),
                errno_text(&error)
            )))
        })
}
