//! `verify-attestation`: judge what was attested about an image of an OCI-SIF.

use super::oci::Which;
use super::verify::cosign::{host, look, public_key};
use super::{Cause, Error, attest, usage};
use crate::disk::sif_file::Access;
use crate::oci::ocisif::OciSif;
use crate::payload::intoto::PredicateType;
use crate::sif::Image;
use crate::ui::{Ui, one_line};
use crate::verify::cosign::{self, Choice};
use std::ffi::OsString;
use std::path::PathBuf;

/// Verify attestations about the image in an OCI-SIF
///
/// At least one attestation of the type must be signed by one of the keys and
/// be about the image, whose blobs are all checked. The envelopes that count
/// go to standard output, one a line, as 'cosign verify-attestation' does.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif verify-attestation [options] <image path>",
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
    /// path of the image
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["verify-attestation"], 1, &args.image)?;
    let path = PathBuf::from(args.image.first().cloned().unwrap_or_default());
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
        .map(|path| public_key(path))
        .collect::<Result<_, _>>()?;
    let choice = Choice {
        digest: args.which.digest(),
        platform: args.which.platform(),
        host: host(),
    };
    let judge = |image: &Image<'_>| -> Result<Result<String, String>, Cause> {
        image.require_sound()?;
        let oci = OciSif::new(image).map_err(super::oci::cause)?;
        ui.info(format_args!(
            "Verifying digests for {} OCI Blobs",
            oci.blobs().count()
        ));
        let checked = cosign::check(&oci, super::threads()).map_err(Cause::plain)?;
        let report = checked.attestations(&choice, &keys).map_err(Cause::plain)?;
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
        let mut found = Vec::new();
        let mut output = String::new();
        for held in report.held() {
            found.push(one_line(&held.predicate_type));
            if held.predicate_type == kind.uri() {
                // One line each: line ends in JSON stand between its parts only.
                let envelope = String::from_utf8_lossy(held.envelope);
                output.push_str(&one_line(&envelope));
                output.push('\n');
            }
        }
        let refusals: Vec<_> = report.refusals().map(one_line).collect();
        // Zeros in the place of lost bytes must not be printed.
        image.still_there()?;
        Ok(if !output.is_empty() {
            Ok(output)
        } else if !found.is_empty() {
            Err(format!(
                "none of the attestations matched the predicate type: {}, found: {}",
                one_line(kind.name()),
                found.join(",")
            ))
        } else if refusals.is_empty() {
            Err("no attestations provided".to_owned())
        } else {
            Err(format!(
                "no matching attestations: {}",
                refusals.join("\n ")
            ))
        })
    };
    match look(&path, Access::Read, "not", judge).map_err(|cause| cause.fatal(""))? {
        Ok(envelopes) => super::print(envelopes),
        Err(reason) => Err(Error::fatal(reason)),
    }
}
