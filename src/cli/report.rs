//! `report`: what `verify` found out, for people.

use super::verify::{all_verified, write_page};
use super::{Error, usage};
use crate::disk::report_file::{self, lines, write_whole};
use crate::disk::{errno_text, files};
use crate::ui::html::Page;
use crate::ui::line::{End, Entry, Line, Tally};
use crate::ui::{Ui, json, one_line};
use clap::Subcommand;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;

/// Most bytes of one file of reports.
const MAX_REPORT: u64 = 4 << 30;

/// Present what verify has found out
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif report <subcommand>",
    after_help = "Examples:\n  \
                  $ sigsif report html page.html all.jsonl\n  \
                  $ sigsif report merge all.jsonl 1.jsonl 2.jsonl"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Html(HtmlArgs),
    Merge(MergeArgs),
}

/// Write a page for a browser from reports
///
/// The reports are what 'verify --format json' prints, for as many images as
/// there are, one behind the other in any number of files; '-' is standard
/// input. The page is one file that needs no network: totals, charts by
/// verdict, signer and age, and a table to sort, search and filter.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif report html <page> <report path...>",
    after_help = "Examples:\n  \
                  $ for i in *.sif; do sigsif verify --format json $i; done >all.json\n  \
                  $ sigsif report html page.html all.json"
)]
struct HtmlArgs {
    /// where the page goes, and then the reports
    #[arg(value_name = "page and reports", value_hint = clap::ValueHint::FilePath)]
    paths: Vec<OsString>,
}

/// Join the reports of several runs of verify
///
/// The reports are what 'verify --report NAME.jsonl' writes, of runs with the
/// same keys and flags that have all come to their end: the shards of one list,
/// every one of them, or of lists that have no image in common. The output is
/// such a report too, or, if its name ends in .html, a page. The exit code is 0
/// only if every image is verified.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif report merge <output> <report path...>",
    after_help = "Examples:\n  \
                  $ sigsif verify --recursive --shard 1/2 --report 1.jsonl images\n  \
                  $ sigsif verify --recursive --shard 2/2 --report 2.jsonl images\n  \
                  $ sigsif report merge all.jsonl 1.jsonl 2.jsonl"
)]
struct MergeArgs {
    /// where the joined report goes, and then the reports
    #[arg(value_name = "output and reports", value_hint = clap::ValueHint::FilePath)]
    paths: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    let (name, paths) = match &args.command {
        Command::Html(args) => ("html", &args.paths),
        Command::Merge(args) => ("merge", &args.paths),
    };
    let [target, reports @ ..] = paths.as_slice() else {
        return usage::exactly(&["report", name], 2, paths);
    };
    if reports.is_empty() {
        return usage::exactly(&["report", name], 2, paths);
    }
    let target = Path::new(target);
    match &args.command {
        Command::Html(_) => html(target, reports),
        Command::Merge(_) => merge(ui, target, reports),
    }
}

fn html(target: &Path, reports: &[OsString]) -> Result<(), Error> {
    let mut page = Page::new(super::wall_clock());
    for report in reports {
        let (path, bytes) = match report == "-" {
            true => (Path::new("/dev/stdin"), files::read_stdin(MAX_REPORT)),
            false => (
                Path::new(report),
                files::read(Path::new(report), MAX_REPORT),
            ),
        };
        let bytes = bytes.map_err(|error| failed("reading", path, &errno_text(&error)))?;
        let documents = serde_json::Deserializer::from_slice(&bytes).into_iter::<&RawValue>();
        for (index, document) in documents.enumerate() {
            document
                .map_err(|error| error.to_string())
                .and_then(|text| page.add(text.get()).map_err(|error| error.to_string()))
                .map_err(|reason| {
                    failed("reading", path, &format!("report {}: {reason}", index + 1))
                })?;
        }
    }
    write_page(target, &page)
}

impl From<report_file::Error> for Error {
    fn from(error: report_file::Error) -> Self {
        Self::fatal(one_line(&error.to_string()))
    }
}

fn merge(ui: &Ui, target: &Path, reports: &[OsString]) -> Result<(), Error> {
    let ending = target.extension().and_then(|end| end.to_str());
    let mut page = match ending {
        Some("html") => Some(Page::new(super::wall_clock())),
        Some("jsonl") => None,
        _ => {
            return Err(failed(
                "writing",
                target,
                "the name must end in .jsonl or .html",
            ));
        }
    };
    let mut merger = Merger::default();
    match &mut page {
        Some(page) => {
            merger.join_all(reports, &mut |_, line| {
                page.add_line(line);
                Ok(())
            })?;
            write_page(target, page)?;
        }
        None => write_whole(target, |write| {
            merger.join_all(reports, &mut |text, _| write(text))?;
            let run = merger.run.as_deref().unwrap_or_default();
            write(&json::end(&merger.tally.end(run, None)))?;
            Ok::<_, Error>(())
        })?,
    }
    ui.info(merger.tally.told());
    all_verified(&merger.tally)
}

/// What is known of the reports that were joined so far.
#[derive(Default)]
struct Merger {
    tally: Tally,
    names: HashSet<Vec<u8>>,
    run: Option<String>,
    /// For each shard the report that has it, and how many shards there are.
    shards: BTreeMap<u64, String>,
    of: Option<u64>,
    /// A report that is no shard.
    whole: Option<String>,
}

/// Takes a line that was joined.
type Add<'a> = &'a mut dyn FnMut(&str, Line) -> Result<(), report_file::Error>;

impl Merger {
    /// Joins the reports.
    fn join_all(&mut self, reports: &[OsString], add: Add<'_>) -> Result<(), Error> {
        for report in reports {
            self.join(Path::new(report), add)?;
        }
        self.require_all()
    }

    /// Joins one report.
    fn join(&mut self, path: &Path, add: Add<'_>) -> Result<(), Error> {
        let mut tally = Tally::default();
        let mut end: Option<End> = None;
        let mut unwritten = None;
        let read = lines(path, &mut |text| {
            if end.is_some() {
                return Err("stands behind the end of the run".to_owned());
            }
            match Entry::parse(text).map_err(|error| error.to_string())? {
                Entry::End(last) => {
                    self.same_run(&last.run)?;
                    end = Some(last);
                }
                Entry::Image(line) => {
                    self.same_run(line.run.as_deref().unwrap_or_default())?;
                    if !self.names.insert(line.name()) {
                        return Err(format!("'{}' has a line already", line.image));
                    }
                    tally.add(line.verdict());
                    self.tally.add(line.verdict());
                    add(text, *line).map_err(|error| {
                        let reason = error.to_string();
                        unwritten = Some(error);
                        reason
                    })?;
                }
            }
            Ok(())
        });
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        read?;
        let Some(end) = end else {
            return Err(Error::Fatal {
                text: one_line(&format!(
                    "report '{}' does not tell of its end: the run was interrupted",
                    path.display()
                )),
                detail: Some("'verify' with the same flags and --resume ends it".to_owned()),
            });
        };
        if end.images != tally.images() {
            return Err(failed(
                "reading",
                path,
                &format!("it has {} of {} images", tally.images(), end.images),
            ));
        }
        self.shard(path, end.shard.as_deref())
    }

    fn same_run(&mut self, run: &str) -> Result<(), String> {
        match &self.run {
            None => {
                self.run = Some(run.to_owned());
                Ok(())
            }
            Some(known) if known == run => Ok(()),
            Some(_) => Err(
                "made with other keys, flags or another version of the program than the line before"
                    .to_owned(),
            ),
        }
    }

    fn shard(&mut self, path: &Path, shard: Option<&str>) -> Result<(), Error> {
        let fail = |reason: &str| Err(failed("reading", path, reason));
        let shown = path.display().to_string();
        let Some(shard) = shard else {
            self.whole = Some(shown);
            return match self.of {
                Some(_) => fail("it is no shard, others are"),
                None => Ok(()),
            };
        };
        let parts = shard.split_once('/');
        let parts = parts.and_then(|(i, n)| Some((i.parse::<u64>().ok()?, n.parse::<u64>().ok()?)));
        let Some((number, of)) = parts.filter(|(number, of)| (1..=*of).contains(number)) else {
            return fail(&format!("no shard: {shard:?}"));
        };
        if self.whole.is_some() {
            return fail(&format!("it is shard {shard}, others are no shards"));
        }
        if self.of.replace(of).is_some_and(|known| known != of) {
            return fail(&format!(
                "it is shard {shard}, others are parts of another number"
            ));
        }
        match self.shards.insert(number, shown) {
            Some(other) => fail(&format!("it is shard {shard}, and so is '{other}'")),
            None => Ok(()),
        }
    }

    /// Shards are joined all or not at all.
    fn require_all(&self) -> Result<(), Error> {
        let of = self.of.unwrap_or_default();
        let mut missing = (1..=of).filter(|number| !self.shards.contains_key(number));
        match missing.next() {
            Some(number) => Err(Error::fatal(format!(
                "the report of shard {number}/{of} is missing"
            ))),
            None => Ok(()),
        }
    }
}

fn failed(doing: &str, path: &Path, reason: &str) -> Error {
    Error::fatal(one_line(&format!(
        "while {doing} '{}': {reason}",
        path.display()
    )))
}
