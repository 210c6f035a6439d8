//! `pull`: an image from a registry, a library or a server into a file.

mod direct;
pub(super) mod docker;
mod library;

use super::transfer::library::{LibraryReference, open};
use super::transfer::{RegistryArgs, parse_reference, split_uri};
use super::verify::{Form, Judge, JudgeArgs, Verdict};
use super::{Cause, Error, go, usage};
use crate::disk::converter::Program;
use crate::disk::new_file::{self, NewFile};
use crate::disk::sif_file::Access;
use crate::net::{Url, http};
use crate::oci::manifest::Platform;
use crate::ui::{Ui, one_line};
use docker::{Converter, LayerFormat};
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pull an image from a URI
///
/// docker:// becomes an OCI-SIF; oras://, library:// and http(s):// give the SIF as it is stored
/// there. Every byte is checked against its digest where there is one, and the file gets its name
/// when it is whole.
///
/// The signatures of a SIF are verified and the answer is told; with --key, --certificate,
/// --require, --require-any or --policy an image that is not signed as demanded is refused, and
/// there is no file. cosign signatures come with --with-cosign, and are judged with --key,
/// --require or --policy.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif pull [options] [output file] <URI>",
    after_help = "Examples:\n  \
                  $ sigsif pull docker://registry.example.org/tools:1\n  \
                  $ sigsif pull --with-cosign --key cosign.pub \\\n      \
                  docker://registry.example.org/tools:1\n  \
                  $ sigsif pull tools.sif oras://registry.example.org/tools:1\n  \
                  $ sigsif pull library://lab/default/alpine:3.21"
)]
pub(super) struct Args {
    /// overwrite the output file if it exists
    #[arg(short = 'F', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    force: Option<bool>,
    /// download images from the provided library
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    library: Option<String>,
    #[arg(long, value_name = "string", allow_hyphen_values = true, hide = true)]
    name: Option<PathBuf>,
    /// download images to the specific directory
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    dir: Option<PathBuf>,
    /// architecture to pull: amd64, arm64, ...
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    arch: Option<String>,
    /// platform to pull: OS/Architecture[/Variant]
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    platform: Option<String>,
    /// an OCI-SIF is wanted (library://); docker:// always gives one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    oci: Option<bool>,
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool", hide = true)]
    no_oci: Option<bool>,
    /// keep layers separate instead of squashing them into one
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    keep_layers: Option<bool>,
    /// pull associated cosign signatures, attestations and bundles, too; layers stay as they are
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    with_cosign: Option<bool>,
    /// layers as squashfs (what SingularityCE runs) or as they are in the registry: squashfs or tar
    #[arg(long, value_name = "string", value_parser = layer_format, allow_hyphen_values = true)]
    layer_format: Option<LayerFormat>,
    /// what makes squashfs of layers: builtin, or the installed tar2sqfs or mksquashfs
    #[arg(long, value_name = "string", value_parser = converter, allow_hyphen_values = true)]
    converter: Option<Converter>,
    /// folder for layers while they are converted, instead of that of the output file
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    tmpdir: Option<PathBuf>,
    /// print what was done as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    /// do not warn about an image without signatures
    #[arg(short = 'U', long, alias = "allow-unauthenticated", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    allow_unsigned: Option<bool>,
    /// accepted for scripts: there is no cache
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    disable_cache: Option<bool>,
    /// output file and URI
    #[arg(value_name = "output file] [URI")]
    args: Vec<OsString>,
}

pub(in crate::cli) fn layer_format(text: &str) -> Result<LayerFormat, String> {
    match text {
        "squashfs" => Ok(LayerFormat::Squashfs),
        "tar" => Ok(LayerFormat::Tar),
        _ => Err("must be squashfs or tar".to_owned()),
    }
}

fn converter(text: &str) -> Result<Converter, String> {
    match text {
        "builtin" => Ok(Converter::Builtin),
        "tar2sqfs" => Ok(Converter::Program(Program::Tar2sqfs)),
        "mksquashfs" => Ok(Converter::Program(Program::Mksquashfs)),
        _ => Err("must be builtin, tar2sqfs or mksquashfs".to_owned()),
    }
}

/// What every kind of pull needs.
pub(super) struct Common<'a> {
    /// The file to make.
    output: &'a Path,
    /// Whether it may be there already.
    force: bool,
    /// Who decides whether it gets its name.
    judge: Judge,
}

/// What a pull did.
pub(super) struct Outcome {
    size: u64,
    verdict: Option<Verdict>,
    image: Option<serde_json::Value>,
}

/// The summary of `--json`.
#[derive(Serialize)]
struct Summary {
    source: String,
    file: String,
    size: u64,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures: Option<Verdict>,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    usage::between(&["pull"], (1, 2), &args.args)?;
    let uri = args.args.last().and_then(|uri| uri.to_str());
    let uri = uri.ok_or_else(|| Error::fatal("the URI is not UTF-8 text"))?;
    let (transport, rest) = split_uri(uri);
    if rest.is_empty() {
        return Err(Error::fatal(format!("Bad URI {}", one_line(uri))));
    }
    let flag = |given, name, variable| super::switch(given, name, variable);
    let no_oci = flag(args.no_oci, "no-oci", "NO_OCI")?;
    let oci = flag(args.oci, "oci", "OCI")?;
    if oci && no_oci {
        let text = "--oci and --no-oci cannot be used together";
        return Err(usage::bad_flags(&["pull"], text));
    }
    if no_oci && transport == "docker" {
        return Err(Error::fatal(
            "--no-oci is not supported: docker:// images become OCI-SIF files, no native ones are built",
        ));
    }
    let force = flag(args.force, "force", "FORCE")?;
    let with_cosign = flag(args.with_cosign, "with-cosign", "WITH_COSIGN")?;
    let keep_layers = flag(args.keep_layers, "keep-layers", "KEEP_LAYERS")?;
    let platform = platform(&args)?;
    let output = output(&args, uri, oci || transport == "docker");
    new_file::check(&output, force).map_err(Error::fatal)?;
    let begin = Instant::now();
    let form = match (transport, with_cosign) {
        (_, true) => Form::Cosign,
        ("docker", false) => Form::Nothing,
        ("library" | "", false) if oci => Form::Nothing,
        _ => Form::Native,
    };
    let may_be_unsigned = flag(args.allow_unsigned, "allow-unsigned", "ALLOW_UNSIGNED")?
        || flag(None, "allow-unauthenticated", "ALLOW_UNAUTHENTICATED")?;
    let judge = args.judge.load(ui, form, &output, may_be_unsigned)?;
    let connection = args.registry.connect()?;
    let common = Common {
        output: &output,
        force,
        judge,
    };
    let wanted = docker::Wanted {
        with_cosign,
        keep_layers,
        format: args
            .layer_format
            .map_or_else(environment_format, |f| Ok(Some(f)))?,
        platform,
        tmpdir: args
            .tmpdir
            .clone()
            .or_else(|| super::env_value("TMPDIR").map(PathBuf::from)),
        converter: args.converter,
    };
    let no_effect = |what: &str, given: bool, flags: &str| {
        if given {
            ui.warning(format_args!(
                "Pull from {what} is a direct download, {flags} no effect."
            ));
        }
    };
    if args.library.is_some() && !matches!(transport, "library" | "") {
        ui.warning("--library has no effect on URIs that do not begin with library://");
    }
    let outcome = match transport {
        "docker" => {
            let reference = parse_reference(rest).map_err(|error| {
                Error::fatal(format!("While making image from oci registry: {error}"))
            })?;
            docker::run(ui, &connection, &reference, &wanted, common)?
        }
        "library" | "" => {
            let reference = LibraryReference::parse(rest)
                .map_err(|error| Error::fatal(format!("Malformed library reference: {error}")))?;
            let given = args.library.clone().or_else(|| {
                let value = super::env_value("LIBRARY")?;
                Some(value.to_string_lossy().into_owned())
            });
            let opened = open(ui, &connection, given.as_deref(), &reference)?;
            library::run(ui, &opened, &reference, oci, &wanted, common)?
        }
        "oras" => {
            no_effect("oras:// URIs", oci, "--oci has");
            no_effect(
                "oras://",
                wanted.platform.is_some(),
                "--arch and --platform have",
            );
            no_effect("oras://", wanted.is_about_layers(), ABOUT_LAYERS);
            direct::oras(ui, &connection, rest, common)?
        }
        "http" | "https" => {
            no_effect("http[s]:// URIs", oci, "--oci has");
            no_effect(
                "http[s]://",
                wanted.platform.is_some(),
                "--arch and --platform have",
            );
            no_effect("http[s]://", wanted.is_about_layers(), ABOUT_LAYERS);
            direct::http(ui, &connection, uri, common)?
        }
        other => {
            return Err(Error::fatal(format!(
                "Unsupported transport type: {}",
                one_line(other)
            )));
        }
    };
    if args.json {
        let summary = Summary {
            source: match transport {
                "http" | "https" => Url::parse(uri).map_or_else(|_| String::new(), told),
                _ => uri.to_owned(),
            },
            file: output.to_string_lossy().into_owned(),
            size: outcome.size,
            seconds: begin.elapsed().as_secs_f64(),
            image: outcome.image,
            signatures: outcome.verdict,
        };
        let text = serde_json::to_string_pretty(&summary).map_err(Error::fatal)?;
        return super::print(format!("{text}\n"));
    }
    Ok(())
}

const ABOUT_LAYERS: &str = "--keep-layers, --layer-format and --converter have";

fn told(url: Url) -> String {
    http::told(&url).to_string()
}

pub(super) fn environment_format() -> Result<Option<LayerFormat>, Error> {
    super::env_value("LAYER_FORMAT")
        .map(|text| {
            let text = text.to_string_lossy().into_owned();
            layer_format(&text).map_err(|reason| {
                Error::fatal(format!(
                    "unsupported layer format: {}: {reason}",
                    one_line(&text)
                ))
            })
        })
        .transpose()
}

/// The platform that was named.
fn platform(args: &Args) -> Result<Option<Platform>, Error> {
    let text = |flag: &Option<String>, names: &[&str]| {
        flag.clone().or_else(|| {
            let value = names.iter().find_map(|name| super::env_value(name))?;
            Some(value.to_string_lossy().into_owned())
        })
    };
    let arch = text(&args.arch, &["PULL_ARCH", "ARCH"]);
    let platform = text(&args.platform, &["PLATFORM"]);
    match (arch, platform) {
        (Some(_), Some(_)) => Err(Error::fatal(
            "--arch and --platform cannot be used together",
        )),
        (Some(arch), None) => architecture(&arch).map(Some),
        (None, Some(text)) => {
            let platform = Platform::parse(&text).filter(|platform| platform.os == "linux");
            platform.map(Some).ok_or_else(|| {
                Error::fatal(format!(
                    "{:?} is no platform: must be linux/architecture or \
                     linux/architecture/variant",
                    one_line(&text)
                ))
            })
        }
        (None, None) => Ok(None),
    }
}

/// Names of architectures as users know them.
///
/// Source: SingularityCE `internal/pkg/ociplatform`.
fn architecture(name: &str) -> Result<Platform, Error> {
    let name = name.trim().to_lowercase();
    let (name, variant) = match name.as_str() {
        "x86_64" | "x86-64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "i386" => ("386", ""),
        "armhf" | "arm" => ("arm", "v7"),
        "armel" => ("arm", "v6"),
        other => (other, ""),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(is_word) {
        return Err(Error::fatal(format!("{name:?} is no architecture")));
    }
    Ok(Platform {
        os: "linux".to_owned(),
        architecture: name.to_owned(),
        variant: variant.to_owned(),
    })
}

/// The file that is made.
fn output(args: &Args, uri: &str, oci: bool) -> PathBuf {
    let text = |name| super::env_value(name).map(PathBuf::from);
    let given =
        args.name
            .clone()
            .or_else(|| text("PULL_NAME"))
            .or_else(|| match args.args.as_slice() {
                [output, _] => Some(PathBuf::from(output)),
                _ => None,
            });
    let file = given.unwrap_or_else(|| PathBuf::from(file_name(uri, oci)));
    let folder = args
        .dir
        .clone()
        .or_else(|| text("PULLDIR"))
        .or_else(|| text("PULLFOLDER"));
    match folder {
        Some(folder) => folder.join(file),
        None => file,
    }
}

/// `docker://lab/alpine:3` becomes `alpine_3.oci.sif`.
///
/// Source: SingularityCE `internal/pkg/util/uri`.
fn file_name(uri: &str, oci: bool) -> String {
    let (transport, rest) = split_uri(uri);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let last = rest.rsplit('/').next().unwrap_or_default();
    if matches!(transport, "http" | "https") {
        return last.to_owned();
    }
    let (name, tag) = match last.split_once('@') {
        Some((name, digest)) => (
            name.split(':').next().unwrap_or_default(),
            digest.replace(':', "-"),
        ),
        None => match last.split_once(':') {
            Some((name, tags)) => (name, tags.split(',').next().unwrap_or_default().to_owned()),
            None => (last, "latest".to_owned()),
        },
    };
    let end = if oci { "oci.sif" } else { "sif" };
    format!("{name}_{tag}.{end}")
}

/// What came must be an image, whatever it is called.
fn require_sif(file: &NewFile) -> Result<(), Cause> {
    super::with_image(&file.path_now(), Access::Read, |_, _| ()).map_err(|cause| Cause {
        text: format!("what came is not a SIF: {}", cause.text),
        detail: cause.detail,
    })
}

impl Common<'_> {
    /// The file to make, with links resolved where its place decides who may sign it.
    fn place(&self) -> PathBuf {
        let place = self.judge.place();
        place.map_or_else(|| self.output.to_owned(), Path::to_owned)
    }

    /// Judges a file before it gets its name.
    fn judge(
        self,
        ui: &Ui,
        file: &NewFile,
        platform: Option<&Platform>,
    ) -> Result<Option<Verdict>, Cause> {
        let path = file.path_now();
        self.judge.judge(ui, &path, self.output, platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_those_of_the_originals() {
        for (uri, oci, name) in [
            ("docker://lab/alpine:3", true, "alpine_3.oci.sif"),
            ("docker://alpine", true, "alpine_latest.oci.sif"),
            (
                "docker://127.0.0.1:5000/a/b@sha256:ab",
                true,
                "b_sha256-ab.oci.sif",
            ),
            ("oras://r.test/a:v1", false, "a_v1.sif"),
            ("library://lab/default/x:1,2", false, "x_1.sif"),
            ("lab/x", false, "x_latest.sif"),
            ("https://h/files/x.sif?token=y", false, "x.sif"),
        ] {
            assert_eq!(file_name(uri, oci), name);
        }
    }

    #[test]
    fn architectures_have_many_names() {
        let named = |name: &str| architecture(name).map(|p| p.to_string()).ok();
        assert_eq!(named("x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(named("ARM").as_deref(), Some("linux/arm/v7"));
        assert_eq!(named("armel").as_deref(), Some("linux/arm/v6"));
        assert_eq!(named("a/b"), None);
        assert_eq!(named(""), None);
    }
}
