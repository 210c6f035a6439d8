//! `verify --cosign`: judge the cosign signatures of an OCI-SIF.

use super::super::program::call;
use super::super::transfer::RegistryArgs;
use super::super::{Cause, Error, go, oci, public_key, threads, usage};
use super::demands;
use super::policy::Chosen;
use crate::disk::sif_file::{self, Access};
use crate::key::pem::PublicKey;
use crate::oci::manifest::Platform;
use crate::oci::ocisif::{self, OciSif, is_oci_sif};
use crate::policy::{self, Demands};
use crate::report::{CosignReport, Standing};
use crate::sif::types::DataType;
use crate::sif::{self, Image};
use crate::ui::json::Judged as Subject;
use crate::ui::text::signer_names;
use crate::ui::{Ui, cosign as render, one_line};
use crate::verify::cosign::{self, Choice, Request};
use std::path::{Path, PathBuf};

/// How often an image is looked at again that is changed meanwhile.
const LOOKS: u32 = 20;

#[derive(clap::Args)]
pub(super) struct CosignArgs {
    /// verify sigstore/cosign signatures of an OCI-SIF, with --key
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    cosign: Option<bool>,
    /// with --cosign: an annotation that signatures must have; may be given again
    #[arg(long, value_name = "name=value", value_parser = annotation, allow_hyphen_values = true)]
    annotation: Vec<(String, String)>,
    /// with --cosign: the reference that signatures must name
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    reference: Option<String>,
    /// with --cosign: the platform whose image is meant, of an index
    #[arg(long, value_name = "os/arch[/variant]", value_parser = oci::platform, allow_hyphen_values = true)]
    platform: Option<Platform>,
    /// with --cosign: the digest of the image that is meant
    #[arg(long, value_name = "sha256:hex", value_parser = oci::digest, allow_hyphen_values = true)]
    digest: Option<crate::digest::Digest>,
    /// with --cosign: verify the image in this OCI layout folder instead of a file
    #[arg(long, value_name = "folder", allow_hyphen_values = true)]
    local_layout: Option<PathBuf>,
}

/// The flags of the command that have no meaning beside --cosign.
pub(super) struct Others {
    /// A flag about certificates.
    pub(super) certificate: bool,
    /// `--local`.
    pub(super) local: bool,
    /// `--url`.
    pub(super) url: bool,
    /// An object or a group, or `--all`.
    pub(super) selection: bool,
    /// `--legacy-insecure`.
    pub(super) legacy: bool,
    /// `--pgp`.
    pub(super) pgp: bool,
}

/// What the command line asks for.
pub(super) struct Wanted<'a> {
    /// The OCI-SIF, or the folder with a layout.
    pub(super) path: &'a Path,
    /// Files of public keys.
    pub(super) keys: &'a [PathBuf],
    /// `--format json`.
    pub(super) as_json: bool,
    /// `--strict`.
    pub(super) strict: bool,
    /// Signers that are demanded.
    pub(super) demands: &'a demands::Wanted,
    /// `--policy`: it names the keys.
    pub(super) policy: Option<&'a Chosen>,
    /// How the registry is reached where the image is, if it is in one.
    pub(super) registry: Option<&'a RegistryArgs>,
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be name=value".to_owned()),
    }
}

impl CosignArgs {
    /// Whether cosign signatures are meant.
    ///
    /// # Errors
    /// A flag that only makes sense with `--cosign` stands alone.
    pub(super) fn is_wanted(&self) -> Result<bool, Error> {
        let wanted = self.cosign.unwrap_or(false);
        let alone = [
            ("--annotation", !self.annotation.is_empty()),
            ("--reference", self.reference.is_some()),
            ("--platform", self.platform.is_some()),
            ("--digest", self.digest.is_some()),
            ("--local-layout", self.local_layout.is_some()),
        ];
        match alone.iter().find(|(_, given)| *given) {
            Some((flag, _)) if !wanted => Err(usage::bad_flags(
                &["verify"],
                &format!("{flag} needs --cosign"),
            )),
            _ => Ok(wanted),
        }
    }

    /// The folder that is judged instead of a file.
    pub(super) fn layout(&self) -> Option<&Path> {
        self.local_layout.as_deref()
    }

    /// What the flags say of the signatures that count.
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            keys: &[],
            annotations: &self.annotation,
            reference: self.reference.as_deref(),
            strict: false,
        }
    }

    /// Which image of several is meant.
    pub(super) fn choice(&self) -> Choice {
        Choice {
            digest: self.digest.clone(),
            platform: self.platform.clone(),
            host: host(),
        }
    }

    /// Hashes what decides.
    pub(super) fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        let flags = (
            &self.annotation,
            &self.reference,
            &self.platform,
            &self.digest,
        );
        add(format!("{flags:?}").as_bytes());
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The image is refused, or cannot be judged.
    pub(super) fn run(self, ui: &Ui, wanted: &Wanted<'_>, others: &Others) -> Result<(), Error> {
        require_sense(wanted, others)?;
        let outcome = wanted.keys_and_demands(ui);
        if let (Err(Error::Fatal { text, .. }), true) = (&outcome, wanted.as_json) {
            let path = wanted.path.to_string_lossy();
            print(render::json(&named(&path), Err(text), None, None, None))?;
        }
        let (keys, demands) = outcome?;
        let rule = wanted.policy.and_then(Chosen::name);
        let request = Request {
            keys: &keys,
            strict: wanted.strict,
            ..self.request()
        };
        let choice = self.choice();
        let uri = wanted.path.to_string_lossy();
        let judged = match (&self.local_layout, wanted.registry) {
            (Some(folder), _) => super::layout::signatures(ui, folder, &choice, &request),
            (None, Some(registry)) => {
                super::super::transfer::judge::signatures(ui, registry, &uri, &choice, &request)?
                    .map(|report| (report, None))
            }
            (None, None) => look(wanted.path, Access::Read, "not", |image| {
                judge(ui, image, wanted.strict, &choice, &request, threads())
            }),
        };
        let path = wanted.path.to_string_lossy();
        let (report, refusal) = match judged {
            Ok(judged) => judged,
            Err(cause) => {
                if wanted.as_json {
                    print(render::json(
                        &named(&path),
                        Err(&cause.text),
                        None,
                        None,
                        None,
                    ))?;
                }
                return Err(cause.fatal(""));
            }
        };
        let (standing, refusal) = conclude(ui, &report, refusal, &demands);
        if wanted.as_json {
            print(render::json(
                &named(&path),
                Ok(&report),
                refusal.as_deref(),
                standing.as_ref(),
                rule.as_ref(),
            ))?;
        }
        match refusal {
            Some(reason) => Err(Error::Fatal {
                text: one_line(&reason),
                detail: hint(&report),
            }),
            None if wanted.as_json => Ok(()),
            None => print(render::payloads(&report)),
        }
    }
}

/// Tells what is to be told, and says why the image is refused, if it is.
pub(super) fn conclude(
    ui: &Ui,
    report: &CosignReport,
    refusal: Option<String>,
    demands: &Demands,
) -> (Option<Standing>, Option<String>) {
    tell(ui, report);
    let refusal =
        refusal.or_else(|| (!report.is_verified()).then(|| "no valid signatures found".to_owned()));
    let standing = policy::cosign(report, demands);
    for signer in standing.iter().flat_map(|s| &s.signers) {
        for name in signer_names(signer) {
            ui.info(format_args!("Signer that counts: {}", one_line(&name)));
        }
    }
    let unmet = standing.as_ref().and_then(|s| s.unmet.first());
    let refusal = refusal.or_else(|| unmet.map(|unmet| format!("policy: {unmet}")));
    (standing, refusal)
}

impl Wanted<'_> {
    /// The keys that may have signed, and the demands on them.
    pub(super) fn keys_and_demands(&self, ui: &Ui) -> Result<(Vec<PublicKey>, Demands), Error> {
        if let Some(policy) = self.policy {
            return policy.cosign(self.demands);
        }
        let required = self.demands.keys();
        let files = self.keys.iter().chain(required.map(|(path, _)| path));
        let names: Vec<_> = files.map(|key| key.display().to_string()).collect();
        ui.info(format_args!(
            "Verifying image with sigstore/cosign signature, using key material from '{}'",
            names.join("', '")
        ));
        let keys = self.keys.iter().map(|path| public_key::load(path));
        let mut keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        let required = self.demands.keys();
        keys.extend(required.map(|(_, trusted)| trusted.key.clone()));
        Ok((keys, self.demands.demands([])))
    }
}

fn named(image: &str) -> Subject<'_> {
    Subject { image, facts: None }
}

/// The verdict counts even if nobody reads the report.
fn print(text: String) -> Result<(), Error> {
    match super::super::print(text) {
        Err(Error::Quiet(_)) => Ok(()),
        other => other,
    }
}

pub(super) fn require_sense(wanted: &Wanted<'_>, others: &Others) -> Result<(), Error> {
    let refuse = |text: &str| Err(Error::fatal(text));
    if wanted.registry.is_some() && wanted.strict {
        refuse("--strict not supported: the layers stay in the registry")
    } else if wanted.demands.names_pgp() || !wanted.demands.certificates().is_empty() {
        refuse(
            "--require of an OpenPGP key or a certificate not supported: cosign signatures are made with PEM keys",
        )
    } else if wanted.demands.ignores_unknown() {
        refuse(
            "--ignore-unknown not supported: --cosign verification ignores other signatures anyway",
        )
    } else if others.pgp {
        refuse("--pgp not supported: --cosign verification uses a public --key")
    } else if wanted.policy.is_none()
        && wanted.keys.is_empty()
        && wanted.demands.keys().next().is_none()
    {
        refuse("--cosign verification requires a public --key to be specified")
    } else if others.certificate {
        refuse("certificate not supported: --cosign verification uses a public --key")
    } else if others.local {
        refuse("--local not supported: --cosign verification uses a public --key")
    } else if others.url {
        refuse("key server not supported: --cosign verification uses a public --key")
    } else if others.selection {
        refuse(
            "--cosign signatures apply to an OCI image, specifying SIF descriptors / groups is not supported",
        )
    } else if others.legacy {
        refuse("--legacy-insecure not supported: not applicable to --cosign verification")
    } else {
        Ok(())
    }
}

/// Opens the image, in the words of the originals; of one that is no OCI-SIF
/// they say that it is `not` one.
///
/// If another program changes the image meanwhile, `work` is done again.
pub(in crate::cli) fn look<T>(
    path: &Path,
    access: Access,
    not: &str,
    work: impl Fn(&Image<'_>) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let shown = path.display();
    let mut looks = 0;
    let checked = loop {
        let mut is_current = true;
        let checked = super::super::with_image(path, access, |_, image| {
            let checked = match is_oci_sif(image) {
                true => work(image),
                false => Err(not_oci_sif(path, not)),
            };
            is_current = image.is_current();
            checked
        });
        // A writer that came meanwhile puts new data where old data was.
        if is_current || looks == LOOKS {
            break checked;
        }
        looks += 1;
    };
    match checked {
        Ok(outcome) => outcome,
        Err(cause) => Err(match sif_file::SifFile::open(path, access) {
            Err(sif_file::Error::Directory(_)) => not_oci_sif(path, not),
            Err(sif_file::Error::Open { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                Cause::plain(format!(
                    "while checking OCI-SIF: could not open image {shown}: failed to retrieve \
                     path for {shown}: lstat {}: no such file or directory",
                    whole.display()
                ))
            }
            Ok(file)
                if matches!(
                    file.image(),
                    Err(sif::Error::Magic | sif::Error::HeaderCut { .. })
                ) =>
            {
                Cause::plain(format!(
                    "while checking OCI-SIF: could not open image {shown}: image format not recognized"
                ))
            }
            _ => Cause {
                text: format!(
                    "while checking OCI-SIF: could not open image {shown}: {}",
                    cause.text
                ),
                detail: cause.detail,
            },
        }),
    }
}

fn not_oci_sif(path: &Path, not: &str) -> Cause {
    Cause {
        text: format!("{not} an OCI-SIF: \"{}\"", path.display()),
        detail: Some(format!(
            "The file has no (single) OCI root index; '{}' tells whether one was lost",
            call("sif check")
        )),
    }
}

type Judged = (CosignReport, Option<String>);

/// Judges the image of an OCI-SIF; with `strict` also what nobody signed.
pub(super) fn judge(
    ui: &Ui,
    image: &Image<'_>,
    strict: bool,
    choice: &Choice,
    request: &Request<'_>,
    threads: usize,
) -> Result<Judged, Cause> {
    image.require_sound()?;
    let fetch = |error: ocisif::Error| match error {
        ocisif::Error::Extra { fault, .. } => {
            Cause::plain(format!("failed to fetch digest: {fault}"))
        }
        other => Cause::plain(format!("while fetching image from OCI-SIF: {other}")),
    };
    let blobs = image
        .objects()
        .iter()
        .filter(|o| o.data_type() == DataType::OciBlob);
    ui.info(format_args!(
        "Verifying digests for {} OCI Blobs",
        blobs.count()
    ));
    let oci = OciSif::new(image).map_err(fetch)?;
    let checked = cosign::check(&oci, threads).map_err(Cause::plain)?;
    let report = checked.judge(choice, request).map_err(Cause::plain)?;
    let refusal = match strict {
        true => checked.uncovered(&report),
        false => None,
    };
    image.still_there()?;
    Ok((report, refusal))
}

/// The lines of the originals, and what they leave out.
fn tell(ui: &Ui, report: &CosignReport) {
    ui.info(format_args!("Image digest: {}", report.image));
    ui.info(format_args!(
        "Image has {} associated signatures",
        report.signatures.len()
    ));
    for (at, signature) in report.signatures.iter().enumerate() {
        if let Some(reason) = signature.reason() {
            ui.verbose(format_args!("signature {at} {}", one_line(&reason)));
        }
    }
    for problem in &report.problems {
        ui.warning(one_line(problem));
    }
    ui.info(format_args!(
        "Image has {} signatures that are valid with provided key material",
        report.valid().count()
    ));
    let other = report
        .valid()
        .find(|signature| signature.subject != report.image);
    if let Some(signature) = other.filter(|_| report.by_index) {
        ui.info(format_args!(
            "The signatures are for the index {}, which the image was chosen from",
            signature.subject
        ));
    } else if let Some(signature) = other {
        ui.info(format_args!(
            "The signatures are for {} of the index, not for the index and its other images",
            signature.subject
        ));
    }
}

/// What to do about a refusal.
pub(super) fn hint(report: &CosignReport) -> Option<String> {
    if report.is_verified() {
        return None;
    }
    if report.signatures.is_empty() {
        return Some("The image is not signed in the way of cosign".to_owned());
    }
    let mut reasons = report
        .signatures
        .iter()
        .filter_map(|signature| signature.reason());
    let reason = one_line(&reasons.next()?);
    Some(match report.signatures.len() {
        1 => format!("The signature is {reason}"),
        count => format!("The first of {count} signatures is {reason}; --verbose tells about each"),
    })
}

/// The platform of this machine, in Go's names.
pub(in crate::cli) fn host() -> Platform {
    Platform {
        os: match std::env::consts::OS {
            "macos" => "darwin",
            os => os,
        }
        .to_owned(),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        }
        .to_owned(),
        variant: String::new(),
    }
}
