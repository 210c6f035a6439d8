//! `attest`: state something about an image of an OCI-SIF, or of a registry.

use super::oci::{self, Which};
use super::transfer::sign::Statement;
use super::transfer::{self, RegistryArgs, SCHEME};
use super::{Error, passphrase, private_key, usage};
use crate::disk::{errno_text, files};
use crate::payload::intoto::PredicateType;
use crate::sign::cosign::{Claim, Request};
use crate::ui::Ui;
use crate::ui::prompt::Console;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Largest predicate, in bytes: in base64 it fits what cosign reads.
const MAX_PREDICATE: u64 = 64 << 20;

/// Subject of a statement that names none, as in-toto has it.
const NO_NAME: &str = "_";

/// Add an attestation about the image in an OCI-SIF or a registry
///
/// A predicate, such as a bill of materials, is signed together with the
/// digest of the image and stored beside it, as 'cosign attest' does. An image
/// in a registry stays there; attestations that it has stay, too.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif attest [options] <image path>",
    after_help = "Examples:\n  \
                  $ sigsif attest --cosign --key release.key --type cyclonedx \\\n      \
                  --predicate bom.json image.oci.sif\n  \
                  $ sigsif attest --cosign --key release.key --type cyclonedx \\\n      \
                  --predicate bom.json \
                  docker://registry.example.org/tools:1"
)]
pub(super) struct Args {
    /// make an attestation that cosign verifies
    #[arg(short, long)]
    cosign: bool,
    /// path to the private key file (PEM)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Option<PathBuf>,
    /// path of the predicate file, '-' for standard input
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        required = true
    )]
    predicate: PathBuf,
    /// kind of predicate: custom, slsaprovenance, slsaprovenance02, slsaprovenance1, spdx,
    /// spdxjson, cyclonedx, link, vuln, openvex or a URI (default custom)
    #[arg(long = "type", value_name = "string", value_parser = predicate_type)]
    kind: Option<PredicateType>,
    /// name of the image in a registry, the subject of the statement
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    reference: Option<String>,
    /// also make one for every image of an index
    #[arg(short = 'r', long)]
    recursive: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    passphrase: passphrase::Source,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// path of the image, or docker://REFERENCE
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

/// Resolves `--type`.
pub(super) fn predicate_type(text: &str) -> Result<PredicateType, String> {
    PredicateType::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["attest"], 1, &args.image)?;
    let path = PathBuf::from(args.image.first().cloned().unwrap_or_default());
    if !args.cosign {
        let text = "attestations are made in the manner of cosign: add --cosign";
        return Err(usage::bad_flags(&["attest"], text));
    }
    let key = args
        .key
        .clone()
        .or_else(|| super::env_value("SIGN_KEY").map(PathBuf::from));
    let key =
        key.ok_or_else(|| Error::fatal("attestations require a private --key to be specified"))?;
    let now = super::signing_time()?;
    let kind = match &args.kind {
        Some(kind) => kind.clone(),
        None => PredicateType::parse("custom").map_err(Error::fatal)?,
    };
    ui.info(format_args!(
        "Sigstore/cosign compatible attestation, using key material from '{}'",
        key.display()
    ));
    let uri = path.to_str().filter(|uri| uri.starts_with(SCHEME));
    match uri {
        Some(_) => args
            .which
            .require_none_for_registry(args.recursive, args.no_wait)?,
        None => {
            args.registry.tell_idle(ui);
            oci::require(&path).map_err(|cause| cause.fatal(""))?;
        }
    }
    let (file, predicate) = match args.predicate.as_os_str() == "-" {
        true => (Path::new("/dev/stdin"), files::read_stdin(MAX_PREDICATE)),
        false => (
            args.predicate.as_path(),
            files::read(&args.predicate, MAX_PREDICATE),
        ),
    };
    let predicate = predicate
        .map_err(|e| Error::fatal(format!("open {}: {}", file.display(), errno_text(&e))))?;
    let key = private_key::load(&key, &args.passphrase, &mut Console)?.key;
    if let Some(uri) = uri {
        let statement = Statement::Attestation {
            reference: args.reference.as_deref(),
            kind: &kind,
            predicate: &predicate,
            now,
        };
        return transfer::sign::sign(ui, &args.registry, uri, &key, &statement);
    }
    let request = Request {
        choice: &args.which.choice(),
        recursive: args.recursive,
        claim: &Claim::Attestation {
            kind: &kind,
            name: args.reference.as_deref().unwrap_or(NO_NAME),
            predicate: &predicate,
            now,
        },
        threads: super::threads(),
    };
    oci::sign(ui, &path, args.no_wait, &key, &request, now)
}
