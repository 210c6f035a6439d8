//! `sif`: look at the objects of an image, and change them.

mod add;
mod change;
mod check;
mod coverage;
mod layout;
mod repair;
mod tree;

use super::{Cause, Error, go, usage};
use crate::coverage::Evidence;
use crate::disk::sif_file::{Access, SifFile};
use crate::sif::{Backing, Descriptor, GroupId, Image, Link};
use crate::ui::{Ui, text};
use clap::Subcommand;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// Faults that are told one by one.
const TOLD: usize = 10;

/// Manipulate Singularity Image Format (SIF) images
#[derive(clap::Args)]
#[command(
    visible_alias = "siftool",
    override_usage = "sigsif sif <subcommand>",
    after_help = "Examples:\n  \
                  $ sigsif sif list image.sif\n  \
                  $ sigsif sif check image.sif"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Display global header
    #[command(
        override_usage = "sigsif sif header <sif_path>",
        after_help = "Examples:\n  \
                  $ sigsif sif header image.sif"
    )]
    Header {
        /// path of the image
        #[arg(value_name = "sif_path")]
        args: Vec<OsString>,
    },
    /// List data objects
    #[command(
        override_usage = "sigsif sif list [options] <sif_path>",
        after_help = "Examples:\n  \
                  $ sigsif sif list image.sif\n  \
                  $ sigsif sif list --coverage image.sif"
    )]
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
    #[command(
        override_usage = "sigsif sif info <id> <sif_path>",
        after_help = "Examples:\n  \
                  $ sigsif sif info 1 image.sif"
    )]
    Info {
        /// id of the object and path of the image
        #[arg(value_name = "id> <sif_path")]
        args: Vec<OsString>,
    },
    /// Dump data object
    #[command(
        override_usage = "sigsif sif dump <id> <sif_path>",
        after_help = "Examples:\n  \
                  $ sigsif sif dump 1 image.sif > definition"
    )]
    Dump {
        /// id of the object and path of the image
        #[arg(value_name = "id> <sif_path")]
        args: Vec<OsString>,
    },
    New(change::NewArgs),
    Add(add::Args),
    Del(change::DelArgs),
    Setprim(change::SetprimArgs),
    Grow(change::GrowArgs),
    Check(check::Args),
    Export(layout::ExportArgs),
    ImportLayout(layout::ImportArgs),
    Repair(repair::Args),
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
        Command::New(args) => return change::new(ui, &args),
        Command::Add(args) => return add::run(ui, &args),
        Command::Del(args) => return change::del(ui, &args),
        Command::Setprim(args) => return change::setprim(ui, &args),
        Command::Grow(args) => return change::grow(ui, &args),
        Command::Check(args) => return check::run(&args),
        Command::Export(args) => return layout::export(ui, &args),
        Command::ImportLayout(args) => return layout::import(ui, &args),
        Command::Repair(args) => return repair::run(ui, &args),
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
            Self::Cause(cause) => {
                let command = path.last().copied().unwrap_or_default();
                let hint = || super::hint::of_sif(command, &cause.text);
                let detail = cause.detail.clone().or_else(hint);
                Error::Usage(usage::failed(path, cause.text, detail))
            }
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

/// Signatures that hold no longer when these objects change or are deleted, by what they say.
fn endangered(image: &Image<'_>, objects: &[u32], deleted: bool) -> Vec<u32> {
    let mut evidence = Evidence::default();
    let claiming: Vec<_> = image
        .signatures()
        .filter(|signature| evidence.claim(image, signature))
        .map(|signature| (signature.raw_id(), signature.link()))
        .collect();
    let mut lost = BTreeSet::new();
    for id in objects {
        lost.extend(evidence.signatures_of(*id));
        // Ids are signed as distances from the smallest one of the group.
        let group = image.object(*id).ok().and_then(Descriptor::group);
        let first = group.filter(|group| image.lowest_id(*group) == *id);
        if let Some(group) = first.filter(|_| deleted) {
            let linked = |(_, link): &&(u32, Link)| *link == Link::Group(group);
            lost.extend(claiming.iter().filter(linked).map(|(id, _)| *id));
        }
    }
    lost.retain(|id| !deleted || !objects.contains(id));
    lost.into_iter().collect()
}

/// Signatures over a group, by what they say.
fn endangered_by_new(image: &Image<'_>, group: GroupId) -> Vec<u32> {
    image
        .signatures()
        .filter(|signature| signature.link() == Link::Group(group))
        .filter(|signature| Evidence::default().claim(image, signature))
        .map(Descriptor::raw_id)
        .collect()
}

/// `signature 3 does`, `signatures 3, 4 do`.
fn id_list(what: &str, ids: &[u32], one: &str, several: &str) -> String {
    let numbers: Vec<_> = ids.iter().map(u32::to_string).collect();
    match ids {
        [id] => format!("{what} {id} {one}"),
        _ => format!("{what}s {} {several}", numbers.join(", ")),
    }
}
