//! `sif`: look at the objects of an image.

mod check;
mod coverage;
mod tree;

use super::{Cause, Error, go, usage};
use crate::disk::sif_file::{Access, SifFile};
use crate::sif::{Backing, Descriptor, Image};
use crate::ui::{Ui, text};
use clap::Subcommand;
use std::ffi::OsString;
use std::path::Path;

/// Faults that are told one by one.
const TOLD: usize = 10;

/// Manipulate Singularity Image Format (SIF) images
#[derive(clap::Args)]
#[command(
    visible_alias = "siftool",
    override_usage = "sigsif [global options...] sif <subcommand>"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Display global header
    #[command(override_usage = "sigsif [global options...] sif header <sif_path>")]
    Header {
        /// path of the image
        #[arg(value_name = "sif_path")]
        args: Vec<OsString>,
    },
    /// List data objects
    #[command(override_usage = "sigsif [global options...] sif list <sif_path>")]
    List {
        /// draw the file as a bar: which bytes are signed by whom
        #[arg(long)]
        coverage: bool,
        #[command(flatten)]
        keys: coverage::Keys,
        /// path of the image
        #[arg(value_name = "sif_path")]
        args: Vec<OsString>,
    },
    /// Display data object info
    #[command(override_usage = "sigsif [global options...] sif info <id> <sif_path>")]
    Info {
        /// id of the object and path of the image
        #[arg(value_name = "id> <sif_path")]
        args: Vec<OsString>,
    },
    /// Dump data object
    #[command(override_usage = "sigsif [global options...] sif dump <id> <sif_path>")]
    Dump {
        /// id of the object and path of the image
        #[arg(value_name = "id> <sif_path")]
        args: Vec<OsString>,
    },
    Check(check::Args),
    Tree(tree::Args),
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    let (name, args, with_id) = match args.command {
        Command::Header { args } => ("header", args, false),
        Command::List {
            coverage: true,
            keys,
            args,
        } => return coverage::run(ui, keys, &args),
        Command::List { args, keys, .. } => {
            keys.require_none()?;
            ("list", args, false)
        }
        Command::Check(args) => return check::run(&args),
        Command::Tree(args) => return tree::run(&args),
        Command::Info { args } => ("info", args, true),
        Command::Dump { args } => ("dump", args, true),
    };
    let path = ["sif", name];
    usage::exactly(&path, if with_id { 2 } else { 1 }, &args)?;
    view(ui, name, &args).map_err(|failure| failure.told(&path))
}

enum Failure {
    Cause(Cause),
    Output(Error),
}

impl Failure {
    /// The error of a command, named by its words.
    fn told(self, path: &[&str]) -> Error {
        match self {
            Self::Cause(cause) => Error::Usage(usage::failed(path, cause.text, cause.detail)),
            Self::Output(error) => error,
        }
    }
}

impl<T: Into<Cause>> From<T> for Failure {
    fn from(cause: T) -> Self {
        Self::Cause(cause.into())
    }
}

fn view(ui: &Ui, name: &str, args: &[OsString]) -> Result<(), Failure> {
    let plain = |text: String| Failure::Cause(Cause::plain(text));
    let (id, path) = match args {
        [id, path] => {
            let id = go::decimal_uint32(&id.to_string_lossy())
                .map_err(|reason| plain(format!("while converting id: {reason}")))?;
            (Some(id), Path::new(path))
        }
        [path] => (None, Path::new(path)),
        _ => (None, Path::new("")),
    };
    super::with_image(path, Access::Read, |file, image| {
        show(ui, name, id, file, image)
    })?
}

fn show(
    ui: &Ui,
    name: &str,
    id: Option<u32>,
    file: &SifFile,
    image: &Image<'_>,
) -> Result<(), Failure> {
    let plain = |text: String| Failure::Cause(Cause::plain(text));
    let object = match id {
        Some(id) => Some(image.object(id).map_err(|error| plain(error.to_string()))?),
        None => None,
    };
    let output = match (name, object) {
        ("dump", Some(object)) => return dump(file, image, object),
        (_, Some(object)) => text::info(object).map_err(|error| plain(error.to_string()))?,
        ("header", None) => text::header(image),
        _ => text::list(image),
    };
    image.still_there()?;
    super::print(output).map_err(Failure::Output)?;
    tell_faults(ui, image);
    Ok(())
}

/// Copies the data in windows, so that memory stays small.
fn dump(file: &SifFile, image: &Image<'_>, object: &Descriptor) -> Result<(), Failure> {
    const WINDOW: usize = 1 << 20;
    let (data, fault) = image.data_so_far(object);
    let base = file.bytes().as_ptr().addr();
    for window in data.chunks(WINDOW) {
        super::print(window).map_err(Failure::Output)?;
        let start = window.as_ptr().addr().saturating_sub(base);
        file.release(start..start.saturating_add(window.len()));
        image.still_there()?;
    }
    match fault {
        None => Ok(()),
        Some(fault) => Err(Failure::Cause(Cause {
            text: "EOF".to_owned(),
            detail: Some(fault.to_string()),
        })),
    }
}

/// A damaged image is shown as far as it is sound; the rest is told.
fn tell_faults(ui: &Ui, image: &Image<'_>) {
    let faults = image.faults();
    for fault in faults.iter().take(TOLD) {
        ui.warning(fault);
    }
    let more = faults.len().saturating_sub(TOLD);
    if more > 0 {
        ui.warning(format_args!("... and {more} more faults"));
    }
}
