//! `push`: an image into a registry or a library.

mod docker;
mod library;
mod oras;
mod turned;

use super::pull::docker::LayerFormat;
use super::pull::layer_format;
use super::transfer::{RegistryArgs, split_uri};
use super::{Error, go, usage};
use crate::ui::{Ui, one_line};
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Upload an image to the provided URI
///
/// An OCI-SIF goes to docker:// as the image that it holds, with --with-cosign together with its
/// signatures and attestations: those that the registry has already stay. Any SIF goes to oras://
/// as it is, and to library:// if it is signed. The file is never changed.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif push [options] <image path> <URI>",
    after_help = "Examples:\n  \
                  $ sigsif push --with-cosign tools.oci.sif \\\n      \
                  docker://registry.example.org/tools:1\n  \
                  $ sigsif push tools.sif library://lab/default/tools:1\n  \
                  $ sigsif push tools.sif oras://registry.example.org/tools:1"
)]
pub(super) struct Args {
    /// push cosign signatures, attestations and bundles of the image, too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    with_cosign: Option<bool>,
    /// form of the layers: squashfs refuses others, tar converts squashfs for other programs
    #[arg(long, value_name = "string", value_parser = layer_format, allow_hyphen_values = true)]
    layer_format: Option<LayerFormat>,
    /// folder for layers while they are converted
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    tmpdir: Option<PathBuf>,
    /// a repository of the same registry that may have the layers already
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    mount_from: Option<String>,
    /// the library to push to, instead of the endpoint's
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    library: Option<String>,
    /// description of the image, for a library
    #[arg(short = 'D', long, value_name = "string", allow_hyphen_values = true)]
    description: Option<String>,
    /// push to a library without a look at signatures
    #[arg(short = 'U', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    allow_unsigned: Option<bool>,
    /// print what was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// path of the image, and URI
    #[arg(value_name = "image path> <URI")]
    args: Vec<OsString>,
}

/// What a push did.
#[derive(Default, Serialize)]
struct Summary {
    source: String,
    destination: String,
    /// Digest of the manifest or index.
    digest: String,
    seconds: f64,
    /// Whether layers were converted, so that it is another image than that of the file.
    converted: bool,
    /// Bytes that went to the registry.
    sent: u64,
    /// Bytes of blobs that it had.
    present: u64,
    signatures: Vec<Signatures>,
}

/// What became of signatures.
#[derive(Serialize)]
struct Signatures {
    name: String,
    before: usize,
    added: usize,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    usage::exactly(&["push"], 2, &args.args)?;
    let [file, uri] = args.args.as_slice() else {
        return usage::exactly(&["push"], 2, &args.args);
    };
    let file = PathBuf::from(file);
    let uri = uri
        .to_str()
        .ok_or_else(|| Error::fatal("the URI is not UTF-8 text"))?;
    let (transport, rest) = split_uri(uri);
    if transport.is_empty() {
        return Err(Error::fatal(format!("bad uri {}", one_line(uri))));
    }
    let with_cosign = super::switch(args.with_cosign, "with-cosign", "WITH_COSIGN")?;
    let allow_unsigned = super::switch(args.allow_unsigned, "allow-unsigned", "ALLOW_UNSIGNED")?;
    let layer_format = args
        .layer_format
        .map_or_else(super::pull::environment_format, |format| Ok(Some(format)))?;
    args.tell_idle(ui, transport);
    let tmpdir = args
        .tmpdir
        .clone()
        .or_else(|| super::env_value("TMPDIR").map(PathBuf::from))
        .unwrap_or_else(std::env::temp_dir);
    let layers = docker::Wanted {
        with_cosign,
        format: layer_format,
        tmpdir: &tmpdir,
        mount_from: args.mount_from.as_deref(),
    };
    let begin = Instant::now();
    let mut summary = match transport {
        "docker" => docker::run(ui, &args.registry.connect()?, &file, rest, &layers)?,
        "oras" => oras::run(ui, &args.registry.connect()?, &file, rest)?,
        "library" => {
            let named = args.library.clone().or_else(|| {
                super::env_value("LIBRARY").map(|value| value.to_string_lossy().into_owned())
            });
            let wanted = library::Wanted {
                library: named.as_deref().filter(|uri| !uri.is_empty()),
                description: args.description.as_deref().unwrap_or_default(),
                allow_unsigned,
                layers,
            };
            library::run(ui, &args.registry.connect()?, &file, rest, &wanted)?
        }
        other => {
            return Err(Error::fatal(format!(
                "Unsupported transport type: {}",
                one_line(other)
            )));
        }
    };
    ui.info("Upload complete");
    if args.json {
        summary.source = file.to_string_lossy().into_owned();
        summary.destination = uri.to_owned();
        summary.seconds = begin.elapsed().as_secs_f64();
        let text = serde_json::to_string_pretty(&summary).map_err(Error::fatal)?;
        return super::print(format!("{text}\n"));
    }
    Ok(())
}

impl Args {
    /// Tells of flags that have no effect where the image goes.
    fn tell_idle(&self, ui: &Ui, transport: &str) {
        let to_library = transport == "library";
        let of_layers = transport == "oras";
        for (flag, is_idle) in [
            ("--library", self.library.is_some() && !to_library),
            ("--description", self.description.is_some() && !to_library),
            (
                "--allow-unsigned",
                self.allow_unsigned == Some(true) && !to_library,
            ),
            ("--with-cosign", self.with_cosign == Some(true) && of_layers),
            ("--layer-format", self.layer_format.is_some() && of_layers),
            ("--tmpdir", self.tmpdir.is_some() && of_layers),
            ("--mount-from", self.mount_from.is_some() && of_layers),
        ] {
            if is_idle {
                ui.warning(format_args!("{flag} has no effect with {transport}://"));
            }
        }
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
