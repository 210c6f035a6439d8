//! `report`: what `verify` found out, for people.

use super::{Error, usage};
use crate::disk::{errno_text, files};
use crate::ui::html::Page;
use crate::ui::one_line;
use clap::Subcommand;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::path::Path;

/// Most bytes of one file of reports.
const MAX_REPORT: u64 = 4 << 30;

/// Present what verify has found out
#[derive(clap::Args)]
#[command(override_usage = "sigsif [global options...] report <subcommand>")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Html(HtmlArgs),
}

/// Write a page for a browser from reports
///
/// The reports are what 'verify --format json' prints, for as many images as
/// there are, one behind the other in any number of files; '-' is standard
/// input. The page is one file that needs no network: totals, charts by
/// verdict, signer and age, and a table to sort, search and filter.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] report html <page> <report path...>",
    after_help = "Examples:\n  \
                  $ for i in *.sif; do sigsif verify --format json $i; done >all.json\n  \
                  $ sigsif report html page.html all.json"
)]
struct HtmlArgs {
    /// where the page goes, and then the reports
    #[arg(value_name = "page and report paths", value_hint = clap::ValueHint::FilePath)]
    paths: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    let Command::Html(args) = &args.command;
    let [target, reports @ ..] = args.paths.as_slice() else {
        return usage::exactly(&["report", "html"], 2, &args.paths);
    };
    if reports.is_empty() {
        return usage::exactly(&["report", "html"], 2, &args.paths);
    }
    let mut page = Page::new(super::wall_clock());
    for report in reports {
        let path = match report == "-" {
            true => Path::new("/dev/stdin"),
            false => Path::new(report),
        };
        let bytes = files::read(path, MAX_REPORT)
            .map_err(|error| failed("reading", path, &errno_text(&error)))?;
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
    let mut text = Vec::new();
    let target = Path::new(target);
    page.write(&mut text)
        .and_then(|()| files::write_named(target, &text, 0o644))
        .map_err(|error| failed("writing", target, &errno_text(&error)))
}

fn failed(doing: &str, path: &Path, reason: &str) -> Error {
    Error::fatal(one_line(&format!(
        "while {doing} '{}': {reason}",
        path.display()
    )))
}
