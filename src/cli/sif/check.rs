//! `sif check`: what is wrong with an image.

use super::super::{self as cli, Cause, Error, usage};
use super::Failure;
use crate::check::{self, Finding, Severity};
use crate::disk::sif_file::{Access, SifFile};
use crate::ui::{findings, one_line};
use std::ffi::OsString;
use std::path::Path;

/// Examine an image for inconsistencies
///
/// Looks at header, descriptor table and data: numbers that contradict each
/// other, objects that overlap or are cut off, bytes that should be unused; of
/// an OCI-SIF also at the root index and the digests of all blobs. Nothing is
/// changed. The exit code is 0 if there is nothing worse than notes,
/// which tell of ordinary things such as what a deletion left behind.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif check [options] <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif check image.sif\n  \
                  $ sigsif sif check --json image.sif"
)]
pub(super) struct Args {
    /// print the findings as JSON
    #[arg(short, long)]
    json: bool,
    /// path of the image
    #[arg(value_name = "sif_path")]
    args: Vec<OsString>,
}

/// Exit code if something is wrong.
const FOUND: u8 = 1;
const PATH: [&str; 2] = ["sif", "check"];

pub(super) fn run(args: &Args) -> Result<(), Error> {
    usage::exactly(&PATH, 1, &args.args)?;
    let path = args.args.first().map(Path::new).unwrap_or(Path::new(""));
    let (objects, findings) = examine(path).map_err(|cause| Failure::Cause(cause).told(&PATH))?;
    let name = path.to_string_lossy();
    let printed = match args.json {
        true => findings::check(&name, objects, &findings),
        false => {
            let text = findings::text(&findings);
            format!(
                "{text}{}: {}\n",
                one_line(&name),
                summary(objects, &findings)
            )
        }
    };
    let printing = cli::print(printed);
    let is_clean = findings.iter().all(|f| f.severity == Severity::Note);
    match (printing, is_clean) {
        // The answer counts even if nobody reads the list.
        (Ok(()) | Err(Error::Quiet(_)), true) => Ok(()),
        (Ok(()) | Err(Error::Quiet(_)), false) => Err(Error::Quiet(FOUND)),
        (failed, _) => failed,
    }
}

/// The number of objects, and what is wrong.
fn examine(path: &Path) -> Result<(usize, Vec<Finding>), Cause> {
    let examined = cli::with_image(path, Access::Read, |_, image| {
        let findings = check::examine(image, cli::threads())?;
        Ok::<_, crate::sif::Error>((image.objects().len(), findings))
    });
    match examined {
        Ok(examined) => Ok(examined?),
        // What does not load is a finding; what cannot be opened is not.
        Err(cause) => match SifFile::open(path, Access::Read)?.image() {
            Err(error) => Ok((0, vec![check::unreadable(&error)])),
            Ok(_) => Err(cause),
        },
    }
}

pub(super) fn summary(objects: usize, findings: &[Finding]) -> String {
    let count = |severity, one: &str| {
        let count = findings.iter().filter(|f| f.severity == severity).count();
        match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {one}s")),
        }
    };
    let counts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    let plural = if objects == 1 { "" } else { "s" };
    match counts.is_empty() {
        true => format!("clean, {objects} object{plural}"),
        false => counts.join(", "),
    }
}
