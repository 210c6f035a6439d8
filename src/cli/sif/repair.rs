//! `sif repair`: puts right what can be put right without guessing.

use super::super::{self as cli, Cause, Error, usage};
use super::Failure;
use super::check::summary;
use crate::check::repair::{self, Plan};
use crate::disk::sif_file::Access;
use crate::sif::Image;
use crate::ui::{Ui, findings};
use std::ffi::OsString;
use std::path::Path;

/// Put right what 'sif check' finds, as far as that takes no guessing
///
/// Restores counts, sizes and the architecture in the header, a table that an
/// interrupted edit left behind the data, and the root index of an OCI-SIF
/// whose blobs are all there; clears unused bytes; merges blobs that are there
/// twice. Objects stay as they are, and so do their signatures. What cannot be
/// restored is named and left. The exit code is 0 if nothing but notes is left.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif repair [options] <sif_path> [<output_path>]",
    after_help = "Examples:\n  \
                  $ sigsif sif repair broken.sif repaired.sif\n  \
                  $ sigsif sif repair --in-place image.sif"
)]
pub(super) struct Args {
    /// replace the image by the repaired one, in one step
    #[arg(long)]
    in_place: bool,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    /// path of the image, and of a file that does not exist yet
    #[arg(value_name = "sif_path> [<output_path>")]
    args: Vec<OsString>,
}

const PATH: [&str; 2] = ["sif", "repair"];

/// Exit code if something worse than notes is left.
const LEFT: u8 = 1;

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::between(&PATH, (1, 2), &args.args)?;
    let paths: Vec<_> = args.args.iter().map(Path::new).collect();
    let told = |cause| Failure::Cause(cause).told(&PATH);
    let (image, output) = match (paths.as_slice(), args.in_place) {
        ([image], true) => (*image, None),
        ([image, output], false) => (*image, Some(*output)),
        ([_], false) => {
            return Err(usage::bad_flags(
                &PATH,
                "an output path or --in-place is needed",
            ));
        }
        _ => return Err(usage::bad_flags(&PATH, "--in-place takes no output path")),
    };
    let (plan, objects) = repair(ui, image, output, args.no_wait).map_err(told)?;
    let mut printed = findings::repaired(&plan);
    let to = output.unwrap_or(image).display();
    printed.push_str(&match (&plan.patch, plan.left.is_empty()) {
        (None, _) => format!("{}: nothing was changed\n", image.display()),
        (Some(_), true) => format!("{to}: {}\n", summary(objects, &[])),
        (Some(_), false) => format!("{to}: left {}\n", summary(objects, &plan.left)),
    });
    let printing = cli::print(crate::ui::message(&printed));
    match (printing, plan.leaves_only_notes()) {
        // The answer counts even if nobody reads the list.
        (Ok(()) | Err(Error::Quiet(_)), true) => Ok(()),
        (Ok(()) | Err(Error::Quiet(_)), false) => Err(Error::Quiet(LEFT)),
        (failed, _) => failed,
    }
}

/// What was done, and the number of objects.
fn repair(
    ui: &Ui,
    path: &Path,
    output: Option<&Path>,
    no_wait: bool,
) -> Result<(Plan, usize), Cause> {
    match output {
        Some(output) => cli::with_image(path, Access::Read, |file, image| {
            let planned = planned(image)?;
            if let Some(patch) = &planned.0.patch {
                file.apply_to(patch, output, &mut |_| ())?;
            }
            Ok(planned)
        })?,
        None => {
            let file = cli::lock(ui, path, no_wait)?;
            let image = file.image()?;
            let planned = planned(&image)?;
            drop(image);
            if let Some(patch) = &planned.0.patch {
                for note in file.apply(patch, &mut |_| ())? {
                    ui.warning(format_args!("{}: {note}", path.display()));
                }
            }
            Ok(planned)
        }
    }
}

fn planned(image: &Image<'_>) -> Result<(Plan, usize), Cause> {
    let plan = repair::plan(image, cli::threads()).map_err(Cause::plain)?;
    Ok((plan, image.objects().len()))
}
