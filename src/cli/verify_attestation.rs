//! `verify-attestation`: judge what was attested about an image of an OCI-SIF, a layout or a registry.

use super::oci::Which;
use super::transfer::{self, RegistryArgs, SCHEME};
use super::verify::cosign::{host, look};
use super::verify::layout;
use super::{Cause, Error, attest, public_key, usage};
use crate::disk::sif_file::Access;
use crate::key::pem::PublicKey;
use crate::oci::ocisif::OciSif;
use crate::payload::intoto::PredicateType;
use crate::report::AttestationReport;
use crate::sif::Image;
use crate::ui::{Ui, attestation as render, one_line};
use crate::verify::cosign::{self, Choice};
use std::ffi::OsString;
use std::path::PathBuf;

/// Verify attestations about the image in an OCI-SIF, a layout or a registry
///
/// At least one attestation of the type must be signed by one of the keys and
/// be about the image, whose blobs are all checked. The envelopes that count
/// go to standard output, one a line, as 'cosign verify-attestation' does.
/// The layers of an image in a registry stay there.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif verify-attestation [options] <image path>\n       \
                      sigsif verify-attestation [options] --local-layout <folder>",
    after_help = "Examples:\n  \
                  $ sigsif verify-attestation --key release.pub --type cyclonedx image.oci.sif\n  \
                  $ sigsif verify-attestation --key release.pub --type cyclonedx image.oci.sif \\\n      \
                  | jq -r .payload | base64 -d | jq .predicate"
)]
pub(super) struct Args {
    /// path to the public key file (PEM); may be given again
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Vec<PathBuf>,
    /// kind of predicate, as in 'attest' (default custom)
    #[arg(long = "type", value_name = "string", value_parser = attest::predicate_type)]
    kind: Option<PredicateType>,
    #[command(flatten)]
    which: Which,
    /// print a report on all attestations as JSON instead of the envelopes
    #[arg(long)]
    json: bool,
    /// verify the image in this OCI layout folder instead of a file
    #[arg(long, value_name = "folder", allow_hyphen_values = true)]
    local_layout: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryArgs,
    /// path of the image, or docker://REFERENCE
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    let folder = args.local_layout.as_deref();
    usage::exactly(
        &["verify-attestation"],
        usize::from(folder.is_none()),
        &args.image,
    )?;
    let image = args.image.first().cloned().unwrap_or_default();
    let path = folder.map_or_else(|| PathBuf::from(image), PathBuf::from);
    let mut paths = args.key.clone();
    if paths.is_empty() {
        paths.extend(super::env_value("VERIFY_KEY").map(PathBuf::from));
    }
    if paths.is_empty() {
        return Err(Error::fatal(
            "verification of attestations requires a public --key to be specified",
        ));
    }
    let kind = match &args.kind {
        Some(kind) => kind.clone(),
        None => PredicateType::parse("custom").map_err(Error::fatal)?,
    };
    let names: Vec<_> = paths.iter().map(|key| key.display().to_string()).collect();
    ui.info(format_args!(
        "Verifying attestations of image, using key material from '{}'",
        names.join("', '")
    ));
    let keys: Vec<_> = paths
        .iter()
        .map(|path| public_key::load(path))
        .collect::<Result<_, _>>()?;
    let choice = Choice {
        digest: args.which.digest(),
        platform: args.which.platform(),
        host: host(),
    };
    let shown = path.to_string_lossy();
    let tell = |report: &AttestationReport<'_>| {
        tell(ui, report);
        let reason = refusal(report, &kind);
        let text = match args.json {
            true => render::json(&shown, Ok(report), reason.as_deref(), kind.uri()),
            false => render::envelopes(report, kind.uri()),
        };
        (text, reason)
    };
    let judged = match (folder, shown.starts_with(SCHEME)) {
        (Some(folder), _) => {
            args.registry.tell_idle(ui);
            layout::look(ui, folder, &choice, |image, documents, _| {
                let report = image.attestations(documents, &keys);
                report.map(|report| tell(&report)).map_err(Cause::plain)
            })
        }
        (None, true) => transfer::judge::attestations(ui, &args.registry, &shown, &choice, &keys)?
            .map(|report| tell(&report)),
        (None, false) => {
            args.registry.tell_idle(ui);
            look(&path, Access::Read, "not", |image| {
                judge(ui, image, &choice, &keys, &tell)
            })
        }
    };
    match judged {
        Ok((text, None)) => super::print(text),
        Ok((text, Some(reason))) => {
            if args.json {
                super::print(text)?;
            }
            Err(Error::fatal(reason))
        }
        Err(cause) => {
            if args.json {
                super::print(render::json(&shown, Err(&cause.text), None, kind.uri()))?;
            }
            Err(cause.fatal(""))
        }
    }
}

/// Judges a file; what `tell` makes of the report is made while the file is known to be whole.
fn judge<T>(
    ui: &Ui,
    image: &Image<'_>,
    choice: &Choice,
    keys: &[PublicKey],
    tell: &dyn Fn(&AttestationReport<'_>) -> T,
) -> Result<T, Cause> {
    image.require_sound()?;
    let oci = OciSif::new(image).map_err(super::oci::cause)?;
    ui.info(format_args!(
        "Verifying digests for {} OCI Blobs",
        oci.blobs().count()
    ));
    let checked = cosign::check(&oci, super::threads()).map_err(Cause::plain)?;
    let report = checked.attestations(choice, keys).map_err(Cause::plain)?;
    let told = tell(&report);
    // Zeros in the place of lost bytes must not be printed.
    image.still_there()?;
    Ok(told)
}

fn tell(ui: &Ui, report: &AttestationReport<'_>) {
    ui.info(format_args!("Image digest: {}", report.image));
    ui.info(format_args!(
        "Image has {} associated attestations",
        report.attestations.len()
    ));
    for (at, attestation) in report.attestations.iter().enumerate() {
        match &attestation.outcome {
            Ok(held) => ui.verbose(format_args!(
                "attestation {at} is valid for {}: {}",
                attestation.subject,
                one_line(&held.predicate_type)
            )),
            Err(reason) => ui.verbose(format_args!(
                "attestation {at} is not valid: {}",
                one_line(reason)
            )),
        }
    }
    for problem in &report.problems {
        ui.warning(one_line(problem));
    }
    ui.info(format_args!(
        "Image has {} attestations that are valid with provided key material",
        report.held().count()
    ));
}

/// Why the image is refused, if no attestation of that kind holds.
fn refusal(report: &AttestationReport<'_>, kind: &PredicateType) -> Option<String> {
    if report.held().any(|held| held.predicate_type == kind.uri()) {
        return None;
    }
    let found: Vec<_> = report
        .held()
        .map(|held| one_line(&held.predicate_type))
        .collect();
    let refusals: Vec<_> = report.refusals().map(one_line).collect();
    Some(if !found.is_empty() {
        format!(
            "none of the attestations matched the predicate type: {}, found: {}",
            one_line(kind.name()),
            found.join(",")
        )
    } else if refusals.is_empty() {
        "no attestations provided".to_owned()
    } else {
        format!("no matching attestations: {}", refusals.join("\n "))
    })
}
