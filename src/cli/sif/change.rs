//! `sif new`, `sif del`, `sif setprim`, `sif grow`: changes without new data.

use super::super::{self as cli, Cause, Error, go, usage};
use super::{Failure, endangered, id_list};
use crate::disk::sif_file::{self, Wait};
use crate::sif::edit::{DEFAULT_CAPACITY, Edit, Error as EditError, MAX_CAPACITY, Wipe};
use crate::sif::{Header, Image};
use crate::ui::Ui;
use std::ffi::OsString;
use std::path::Path;

/// Create SIF image
///
/// Makes an image without objects. A file of that name is replaced, in one
/// step and only when the new image is complete.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif new [options] <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif new image.sif\n  \
                  $ sigsif sif new --capacity 200 image.sif"
)]
pub(super) struct NewArgs {
    /// number of descriptors in the table [default: 48]
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    capacity: Option<u32>,
    /// fail at once if another program is changing an image of that name
    #[arg(long)]
    no_wait: bool,
    /// path of the image
    #[arg(value_name = "sif_path")]
    args: Vec<OsString>,
}

/// Delete data object
///
/// The data stays in the file until other data takes its place, as with the
/// originals; see --zero and --compact.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif del [options] <id> <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif del 3 image.sif"
)]
pub(super) struct DelArgs {
    /// overwrite the data with zeros
    #[arg(long)]
    zero: bool,
    /// end the file behind the last object that is left
    #[arg(long)]
    compact: bool,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    /// id of the object and path of the image
    #[arg(value_name = "id> <sif_path")]
    args: Vec<OsString>,
}

/// Set primary system partition
///
/// The partition that was primary becomes an ordinary system partition.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif setprim [options] <id> <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif setprim 4 image.sif"
)]
pub(super) struct SetprimArgs {
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    /// id of the object and path of the image
    #[arg(value_name = "id> <sif_path")]
    args: Vec<OsString>,
}

/// Give the descriptor table more slots
///
/// 'sign' and 'sif add' do this by themselves when the table is full. All data
/// moves back, so the image is written to a new file, which takes the place of
/// the old one. Signatures stay valid.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif grow --capacity <uint32> [options] <sif_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif grow --capacity 200 image.sif"
)]
pub(super) struct GrowArgs {
    /// number of descriptors in the new table [NEEDED, no default]
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    capacity: Option<u32>,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    /// path of the image
    #[arg(value_name = "sif_path")]
    args: Vec<OsString>,
}

pub(super) fn new(ui: &Ui, args: &NewArgs) -> Result<(), Error> {
    const PATH: [&str; 2] = ["sif", "new"];
    usage::exactly(&PATH, 1, &args.args)?;
    let now = cli::signing_time()?;
    let path = args.args.first().map(Path::new).unwrap_or(Path::new(""));
    let create = || -> Result<(), Cause> {
        let capacity = args.capacity.map_or(Ok(DEFAULT_CAPACITY), slots)?;
        let header = Header::empty(uuid::Uuid::new_v4().into_bytes(), now, capacity);
        let mut tell = cli::waiting(ui, path);
        let wait = match args.no_wait {
            true => Wait::No,
            false => Wait::Telling(&mut tell),
        };
        for note in sif_file::create(path, &header, wait)? {
            ui.warning(format_args!("{}: {note}", path.display()));
        }
        Ok(())
    };
    create().map_err(|cause| Failure::Cause(cause).told(&PATH))
}

pub(super) fn del(ui: &Ui, args: &DelArgs) -> Result<(), Error> {
    const PATH: [&str; 2] = ["sif", "del"];
    on_object(ui, &PATH, &args.args, args.no_wait, |edit, image, id| {
        let wipe = match args.zero {
            true => Wipe::Zero,
            false => Wipe::Keep,
        };
        edit.delete(id, wipe)?;
        if args.compact {
            edit.cut();
        }
        Ok(Some(endangered(image, &[id], true)))
    })
}

pub(super) fn setprim(ui: &Ui, args: &SetprimArgs) -> Result<(), Error> {
    const PATH: [&str; 2] = ["sif", "setprim"];
    on_object(ui, &PATH, &args.args, args.no_wait, |edit, image, id| {
        if !edit.set_primary(id)? {
            return Ok(None);
        }
        let old = image.primary_partition().ok().map(|old| old.raw_id());
        let changed: Vec<_> = old.into_iter().chain([id]).collect();
        Ok(Some(endangered(image, &changed, false)))
    })
}

pub(super) fn grow(ui: &Ui, args: &GrowArgs) -> Result<(), Error> {
    const PATH: [&str; 2] = ["sif", "grow"];
    usage::exactly(&PATH, 1, &args.args)?;
    let Some(capacity) = args.capacity else {
        return Err(usage::bad_flags(&PATH, "--capacity is needed"));
    };
    let now = cli::signing_time()?;
    let path = args.args.first().map(Path::new).unwrap_or(Path::new(""));
    let grow = || -> Result<(), Cause> {
        let capacity = slots(capacity)?;
        let file = cli::lock(ui, path, args.no_wait)?;
        let patch = {
            let image = file.image()?;
            if image.capacity() == capacity {
                ui.info(format_args!(
                    "The table of '{}' has {capacity} slots already",
                    path.display()
                ));
                return Ok(());
            }
            let mut edit = Edit::new(&image, now);
            edit.grow(capacity)?;
            edit.plan()?
        };
        cli::apply(ui, path, file, &patch)
    };
    grow().map_err(|cause| Failure::Cause(cause).told(&PATH))
}

/// Does something to one object of an image.
///
/// `change` returns the signatures that stop to hold; nothing if there is nothing to do.
fn on_object(
    ui: &Ui,
    command: &[&str; 2],
    args: &[OsString],
    no_wait: bool,
    change: impl FnOnce(&mut Edit<'_>, &Image<'_>, u32) -> Result<Option<Vec<u32>>, EditError>,
) -> Result<(), Error> {
    usage::exactly(command, 2, args)?;
    let now = cli::signing_time()?;
    let [id, path] = args else {
        return Ok(());
    };
    let path = Path::new(path);
    let work = || -> Result<(), Cause> {
        let id = go::decimal_uint32(&id.to_string_lossy())
            .map_err(|reason| Cause::plain(format!("while converting id: {reason}")))?;
        let file = cli::lock(ui, path, no_wait)?;
        let (patch, signatures) = {
            let image = file.image()?;
            let mut edit = Edit::new(&image, now);
            match change(&mut edit, &image, id)? {
                Some(signatures) => (edit.plan()?, signatures),
                None => return Ok(()),
            }
        };
        cli::apply(ui, path, file, &patch)?;
        if !signatures.is_empty() {
            ui.warning(format_args!(
                "{} no longer: the signed objects changed",
                id_list("Signature", &signatures, "holds", "hold")
            ));
        }
        Ok(())
    };
    work().map_err(|cause| Failure::Cause(cause).told(command))
}

fn slots(capacity: u32) -> Result<usize, Cause> {
    usize::try_from(capacity)
        .ok()
        .filter(|capacity| *capacity <= MAX_CAPACITY)
        .ok_or_else(|| EditError::Capacity(capacity.into()).into())
}
