//! `verify` of many images: one run answers for all of them, on all cores.
//!
//! Keys are read once; each image is judged alone, and whatever is wrong with it is its answer, not
//! the end of the run.

mod court;
mod sink;

pub(in crate::cli) use self::sink::write_page;

use self::court::Court;
use self::sink::{Reports, Sink};
use super::super::{Error, go, threads, transfer, usage};
use super::Args;
use super::output::Format;
use crate::disk::find::{self, Found, Listing, Shard};
use crate::ui::batch::Meter;
use crate::ui::line::Tally;
use crate::ui::{Ui, escaped, one_line};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Images that are judged at one time at most; each has a map of its own.
const MAX_JOBS: usize = 128;

/// Images from this size on are begun first, the largest first of all, so that in the end no core
/// waits for the last one. In bytes.
const LARGE: u64 = 16 << 20;

/// Flags about many images.
#[derive(clap::Args, Default)]
pub(super) struct ManyArgs {
    /// verify every image below the folders that are named
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    recursive: Option<bool>,
    /// verify the images in this list, one path per line; '-' is standard input; may be given again
    #[arg(long, value_name = "file", allow_hyphen_values = true)]
    from_file: Vec<PathBuf>,
    /// with --from-file: a zero byte ends each path, as after 'find -print0'
    #[arg(short = '0', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    null: Option<bool>,
    /// verify what the pattern fits: *, ?, [a-z], and ** for any folders; may be given again
    #[arg(long, value_name = "pattern", allow_hyphen_values = true)]
    glob: Vec<OsString>,
    /// how many images are judged at the same time (default: as many as there are cores)
    #[arg(long, value_name = "number", value_parser = jobs)]
    jobs: Option<usize>,
    /// write a report: NAME.jsonl, a line for each image, or NAME.html, a page; may be given again
    #[arg(long, value_name = "file", allow_hyphen_values = true)]
    report: Vec<PathBuf>,
    /// go on with the report (NAME.jsonl) of a run that was interrupted
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    resume: Option<bool>,
    /// verify the I-th of N parts of the images, as a hash of the path tells
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<Shard>,
}

fn jobs(text: &str) -> Result<usize, String> {
    let number = go::count(text)?;
    match number <= MAX_JOBS {
        true => Ok(number),
        false => Err(format!("must be at most {MAX_JOBS}")),
    }
}

fn shard(text: &str) -> Result<Shard, String> {
    let number = |text: &str| go::count(text).ok().and_then(|n| u64::try_from(n).ok());
    let parts = text.split_once('/');
    let parts = parts.and_then(|(number_text, of)| Some((number(number_text)?, number(of)?)));
    match parts {
        Some((number, of)) if number <= of => Ok(Shard { number, of }),
        _ => Err("must be I/N, I from 1 to N".to_owned()),
    }
}

impl ManyArgs {
    /// Whether a flag or several paths ask for a run over many images.
    pub(super) fn is_wanted(&self, paths: &[OsString]) -> bool {
        paths.len() > 1
            || self.recursive.is_some()
            || !self.from_file.is_empty()
            || self.null.is_some()
            || !self.glob.is_empty()
            || self.jobs.is_some()
            || !self.report.is_empty()
            || self.resume.is_some()
            || self.shard.is_some()
    }

    /// Whether images are named.
    fn names_images(&self, paths: &[OsString]) -> bool {
        !paths.is_empty() || !self.from_file.is_empty() || !self.glob.is_empty()
    }

    /// Looks for the images.
    fn list(&self, paths: &[OsString]) -> Result<Listing, find::Error> {
        let recursive = self.recursive == Some(true);
        let mut listing = Listing::new(self.shard);
        for path in paths {
            listing.path(PathBuf::from(path), recursive)?;
        }
        for list in &self.from_file {
            listing.list(list, self.null == Some(true), recursive)?;
        }
        for pattern in &self.glob {
            let text = pattern.to_str().ok_or_else(|| find::Error::Pattern {
                pattern: pattern.to_string_lossy().into_owned(),
                reason: "must be UTF-8".to_owned(),
            })?;
            listing.glob(text, recursive)?;
        }
        Ok(listing)
    }
}

/// Runs the command.
pub(super) fn run(ui: &Ui, mut args: Args) -> Result<(), Error> {
    let many = std::mem::take(&mut args.many);
    let paths = std::mem::take(&mut args.image);
    let refuse = |text: &str| Err(usage::bad_flags(&["verify"], text));
    if !many.names_images(&paths) {
        return usage::exactly(&["verify"], 1, &paths);
    }
    if args.json == Some(true) {
        return refuse(
            "--json is the answer about one image; --format json prints a line for each of many",
        );
    }
    if many.null.is_some() && many.from_file.is_empty() {
        return refuse("--null needs --from-file");
    }
    if args.cosign.layout().is_some() {
        return refuse("--local-layout is one image, and cannot be used with many");
    }
    let in_registry = |path: &&OsString| path.as_bytes().starts_with(transfer::SCHEME.as_bytes());
    if let Some(reference) = paths.iter().find(in_registry) {
        let reference = escaped(reference.as_bytes());
        return refuse(&format!(
            "{reference}: an image in a registry is verified alone, not with others"
        ));
    }
    if args.registry.is_given() {
        ui.warning("Flags about registries have no effect: the images are files");
    }
    let as_json = args.format == Some(Format::Json);
    let reports = Reports::check(&many.report, many.resume == Some(true))?;
    let court = Court::new(ui, args)?;
    let listing = many
        .list(&paths)
        .map_err(|error| Error::fatal(one_line(&error.to_string())))?;
    if listing.total == 0 {
        return Err(Error::fatal("there is no image to verify"));
    }
    for link in &listing.links {
        ui.warning(format_args!(
            "'{}' is a link to a folder and is not followed: name it to verify what is in it",
            link.display()
        ));
    }
    let (sink, done) = reports.open(ui, &court, many.shard, &listing.images)?;
    let todo: Vec<&Found> = listing
        .images
        .iter()
        .zip(&done)
        .filter_map(|(image, done)| (!done).then_some(image))
        .collect();
    let skipped = listing.images.len().saturating_sub(todo.len());
    if skipped > 0 {
        ui.info(format_args!(
            "{skipped} image(s) are in the report already and have not changed"
        ));
    }
    let sink = sink.told(as_json, ui.color_tags(), meter(ui, &todo));
    let sink = judge_all(&court, todo, many.jobs.unwrap_or_else(threads), sink)?;
    let tally = sink.finish(ui)?;
    conclude(ui, &tally, &listing)
}

fn meter(ui: &Ui, todo: &[&Found]) -> Meter {
    let bytes = todo
        .iter()
        .fold(0_u64, |sum, image| sum.saturating_add(image.size));
    Meter::new(ui, todo.len(), bytes)
}

/// Judges the images, several at a time; a report that cannot be written ends it.
fn judge_all(
    court: &Court<'_>,
    mut todo: Vec<&Found>,
    jobs: usize,
    sink: Sink,
) -> Result<Sink, Error> {
    let jobs = jobs.clamp(1, MAX_JOBS);
    if jobs > 1 {
        // Stable: the small ones keep their order.
        todo.sort_by_key(|image| std::cmp::Reverse(Some(image.size).filter(|s| *s >= LARGE)));
    }
    let sink = Mutex::new(sink);
    let failed = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let running = AtomicUsize::new(0);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(image) = todo.get(at) else { return };
            let waiting = todo.len().saturating_sub(at).saturating_sub(1);
            let running_now = running.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            // The last ones share the cores.
            let threads = jobs
                .checked_div(running_now.saturating_add(waiting))
                .map_or(1, |share| share.max(1));
            let told = court.judge(image, threads);
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = sink.take(image, told) {
                stop.store(true, Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
            }
            drop(sink);
            running.fetch_sub(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(todo.len()) {
            // Fewer threads than were asked for do the work as well.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(sink.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Tells the sum; only a run in which every image is verified is a success.
fn conclude(ui: &Ui, tally: &Tally, listing: &Listing) -> Result<(), Error> {
    if listing.others > 0 {
        ui.info(format_args!(
            "{} file(s) in the folders are no images",
            listing.others
        ));
    }
    ui.info(tally.told());
    all_verified(tally)
}

/// Only verified images are a success.
///
/// # Errors
/// How many are not.
pub(in crate::cli) fn all_verified(tally: &Tally) -> Result<(), Error> {
    let images = tally.images();
    match images.saturating_sub(tally.verified()) {
        0 => Ok(()),
        bad => Err(Error::fatal(format!(
            "{bad} of {images} image(s) not verified"
        ))),
    }
}
