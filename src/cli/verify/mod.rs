//! `verify`: judge the signatures of an image.

mod certificate;
pub(super) mod cosign;
mod demands;
pub(super) mod layout;
mod many;
mod material;
mod output;
mod policy;
mod pulled;
mod remote;
mod strict;

pub(super) use self::many::{all_verified, write_page};
pub(super) use self::material::load_keyrings;
pub(super) use self::pulled::{Form, Judge, JudgeArgs, Verdict};

use self::certificate::CertificateArgs;
use self::cosign::CosignArgs;
use self::demands::DemandArgs;
use self::many::ManyArgs;
use self::material::KeyArgs;
use self::output::{Format, Output, about, hint, outside_rule};
use self::policy::PolicyArgs;
use self::remote::Remote;
use self::strict::Judged;
use super::sign::tell_deprecated;
use super::transfer::RegistryArgs;
use super::{Cause, Error, go, usage};
use crate::disk::sif_file::Access;
use crate::disk::trusted;
use crate::key::x509::{self, Moment};
use crate::oci::ocisif::is_oci_sif;
use crate::policy::Demands;
use crate::report::{Failure, Report};
use crate::scope::{Legacy, Selection};
use crate::ui::{Ui, one_line};
use crate::verify::{self, KeyMaterial, Request};
use std::ffi::OsString;
use std::path::PathBuf;

const FAILED: &str = "failed to verify container: ";

/// Verify digital signature(s) within an image
///
/// Every signature of every object group must hold, made by a key of the
/// global or the local keyring or of a key server; or, if these are given, by
/// a key of --key or of a --certificate that a root vouches for, with --pgp
/// also by the keyrings. The exit code is 0 only then. A key server is asked
/// only for keys that no keyring has, and never with --local.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif verify [options] <image path>...",
    after_help = "Examples:\n  \
                  $ sigsif verify image.sif\n  \
                  $ sigsif verify --key signer.pub.pem image.sif\n  \
                  $ sigsif verify --strict --local image.sif\n  \
                  $ sigsif verify --cosign --key cosign.pub image.oci.sif\n  \
                  $ sigsif verify --cosign --key cosign.pub --local-layout folder\n  \
                  $ sigsif verify --cosign --key cosign.pub \\\n      \
                  docker://registry.example.org/tools:1\n  \
                  $ sigsif verify --format json image.sif\n  \
                  $ sigsif verify --recursive --report all.jsonl images"
)]
pub(super) struct Args {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// verify objects with the specified group ID
    #[arg(short, long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    group_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    groupid: Option<u32>,
    /// verify object with the specified ID
    #[arg(short = 'i', long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    sif_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    id: Option<u32>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
    #[command(flatten)]
    cosign: CosignArgs,
    #[command(flatten)]
    demands: DemandArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// judge validity of keys and certificates as of this time (RFC 3339)
    #[arg(long, value_name = "time", value_parser = go::time, allow_hyphen_values = true)]
    at: Option<u64>,
    /// only verify with local key(s) in keyring
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    local: Option<bool>,
    /// output json as the originals do
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    json: Option<bool>,
    /// output format: text, or json with every signature and reason
    #[arg(long, value_name = "string", value_parser = output::format, allow_hyphen_values = true)]
    format: Option<Format>,
    /// verify all objects (only with --legacy-insecure)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    all: Option<bool>,
    /// enable verification of (insecure) legacy signatures
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    legacy_insecure: Option<bool>,
    /// also refuse the image if any byte of the file is not accounted for
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    strict: Option<bool>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    many: ManyArgs,
    /// path of the image, or of several; with --cosign also docker://REFERENCE
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

impl Args {
    /// What is to be verified.
    fn selection(&self) -> Selection {
        Selection {
            groups: self.groupid.or(self.group_id).into_iter().collect(),
            objects: self.id.or(self.sif_id).into_iter().collect(),
            legacy: match (self.legacy_insecure, self.all) {
                (Some(true), Some(true)) => Legacy::All,
                (Some(true), _) => Legacy::Selected,
                _ => Legacy::No,
            },
        }
    }

    /// Whether less or something else is to be verified than the whole image.
    fn selects(&self) -> bool {
        let numbers = [self.group_id, self.groupid, self.sif_id, self.id];
        numbers.iter().any(Option::is_some) || self.all == Some(true)
    }

    /// The flags that a policy leaves no room for.
    fn conflicts(&self) -> [(&'static str, bool); 6] {
        [
            ("--key", !self.key.key.is_empty()),
            ("--pgp", self.key.pgp == Some(true)),
            ("--certificate-roots", self.certificate.names_roots()),
            ("--ignore-unknown", self.demands.ignores_unknown()),
            ("--group-id or --sif-id", self.selects()),
            ("--legacy-insecure", self.legacy_insecure == Some(true)),
        ]
    }

    /// The flags that have no meaning beside --cosign.
    fn others(&self) -> cosign::Others {
        cosign::Others {
            certificate: self.certificate.is_given(),
            local: self.local == Some(true),
            url: self.url.is_some(),
            selection: self.selects(),
            legacy: self.legacy_insecure == Some(true),
            pgp: self.key.pgp == Some(true),
        }
    }
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    if args.many.is_wanted(&args.image) {
        return many::run(ui, args);
    }
    let folder = args.cosign.layout().map(PathBuf::from);
    usage::exactly(&["verify"], usize::from(folder.is_none()), &args.image)?;
    let image = args.image.first().cloned().unwrap_or_default();
    let path = folder.unwrap_or_else(|| PathBuf::from(image));
    let format = match (args.json.unwrap_or(false), args.format) {
        (true, Some(_)) => {
            return Err(usage::bad_flags(
                &["verify"],
                "--json and --format cannot be used together",
            ));
        }
        (true, None) => Format::Original,
        (false, format) => format.unwrap_or(Format::Text),
    };
    let strict = args.strict.unwrap_or(false);
    if strict && args.legacy_insecure == Some(true) {
        return Err(usage::bad_flags(
            &["verify"],
            "--strict and --legacy-insecure cannot be used together",
        ));
    }
    let local = super::switch(args.local, "local", "LOCAL_VERIFY")?;
    let (conflicts, selection, others) = (args.conflicts(), args.selection(), args.others());
    let demanded = args.demands.load("verify")?;
    let in_registry = args.cosign.layout().is_none()
        && path
            .to_str()
            .is_some_and(|path| path.starts_with(super::transfer::SCHEME));
    if in_registry && !args.cosign.is_wanted()? {
        return Err(Error::Fatal {
            text: "an image in a registry has no signatures of SIF".to_owned(),
            detail: Some("--cosign --key FILE verifies its cosign signatures".to_owned()),
        });
    }
    if in_registry && args.policy.is_given() {
        return Err(Error::fatal(
            "--policy not supported: its rules are about paths of files, and this is a registry",
        ));
    }
    if !in_registry && args.registry.is_given() {
        ui.warning("Flags about registries have no effect: the image is a file");
    }
    let policy = args
        .policy
        .load(ui, "verify", || trusted::resolve(&path), &conflicts)?;
    // What was judged by its place is opened there, and nowhere else.
    let path = policy.as_ref().map_or(path, |p| p.image().to_owned());
    if args.cosign.is_wanted()? {
        if args.at.is_some() {
            return Err(Error::fatal(
                "--at not supported: --cosign verification knows no validity of keys",
            ));
        }
        let mut keys: Vec<PathBuf> = args.key.key.clone();
        if keys.is_empty() && demanded.keys().next().is_none() && policy.is_none() {
            keys.extend(super::env_value("VERIFY_KEY").map(PathBuf::from));
        }
        let wanted = cosign::Wanted {
            path: &path,
            keys: &keys,
            as_json: format == Format::Json,
            strict,
            demands: &demanded,
            policy: policy.as_ref(),
            registry: in_registry.then_some(&args.registry),
        };
        return args.cosign.run(ui, &wanted, &others);
    }
    tell_deprecated(args.groupid, "groupid", "use '--group-id'");
    tell_deprecated(args.id, "id", "use '--sif-id'");
    let now = u64::try_from(super::wall_clock()).unwrap_or_default();
    let moment = Moment {
        at: args.at.unwrap_or(now),
        now,
    };
    let mut request = Request {
        selection,
        demands: Demands::default(),
        examine_all: format == Format::Json,
        now: moment.at,
        threads: super::threads(),
    };
    let tell_time = || {
        if let Some(at) = args.at {
            ui.warning(format_args!(
                "Keys and certificates are judged as of {}, not as of now",
                x509::time(at)
            ));
        }
    };
    let output = Output {
        path: &path,
        format,
        color: ui.color_tags(),
        at: args.at,
        facts: None,
    };
    let gathered = gather(
        ui,
        (args.key, args.certificate),
        &demanded,
        policy.as_ref(),
        moment,
        &tell_time,
    )?;
    let outcome = match gathered {
        Gathered::NoRule(failure) => return refuse(&output, failure),
        Gathered::Keys(material, demands) => {
            request.demands = demands;
            let remote = match (&material.keyrings, local) {
                (Some(_), false) => Some(Remote::new(ui, args.url.as_deref())?),
                _ => None,
            };
            judge(ui, &output, material, &request, remote, strict)?
        }
        Gathered::Refused(refused) => Err(refused),
    };
    let outcome = outcome.map(|mut judged| {
        judged.report.rule = policy.as_ref().and_then(policy::Chosen::name);
        judged
    });
    output.render(&outcome)?;
    let judged = outcome.map_err(|cause| cause.fatal(FAILED))?;
    let report = &judged.report;
    match report.failure() {
        Some(failure) => Err(Error::Fatal {
            text: one_line(&format!("{FAILED}{}{failure}", about(failure))),
            detail: match report.by_unknown(failure).filter(|_| policy.is_some()) {
                Some(signature) => Some(outside_rule(signature)),
                None => hint(report, failure),
            },
        }),
        // No task without a signature gets here; stay on the safe side.
        None if !report.is_verified() => Err(Error::fatal(format!(
            "{FAILED}integrity: signature not found"
        ))),
        None => {
            judged.require_complete()?;
            if format == Format::Text {
                ui.info(format_args!(
                    "Verified signature(s) from image '{}'",
                    path.display()
                ));
            }
            Ok(())
        }
    }
}

/// What an image is judged by.
enum Gathered {
    /// These keys, and what is demanded of their owners.
    Keys(KeyMaterial, Demands),
    /// A certificate is not good.
    Refused(Cause),
    /// The policy has no rule for the image.
    NoRule(Failure),
}

/// Reads the keys that the flags name, or the policy. Certificates are judged once all else is in
/// order, after `ready`.
fn gather(
    ui: &Ui,
    (key, certificate): (KeyArgs, CertificateArgs),
    demanded: &demands::Wanted,
    policy: Option<&policy::Chosen>,
    moment: Moment,
    ready: &dyn Fn(),
) -> Result<Gathered, Error> {
    let keys = match policy {
        Some(policy) => {
            let offered = certificate.offer_to_policy(ui, demanded.certificates())?;
            ready();
            match policy.rule() {
                Some(rule) => policy.native(ui, rule, &offered, demanded, key.keysdir, moment)?,
                None => return Ok(Gathered::NoRule(policy.no_rule())),
            }
        }
        None => {
            let by_environment = key.key.is_empty() && demanded.keys().next().is_none();
            let required = demanded.certificates();
            let last = required.len();
            let certificates = certificate.load(ui, by_environment, required)?;
            let mut material = key.load(ui, certificates.is_some(), demanded)?;
            ready();
            let certified = certificates.map_or(Ok(Vec::new()), |all| all.keys(ui, moment));
            certified.map(|keys| {
                let first = keys.len().saturating_sub(last);
                let demands = demanded.demands(keys.iter().skip(first));
                material.keys.extend(keys);
                (material, demands)
            })
        }
    };
    Ok(match keys {
        Ok((material, demands)) => Gathered::Keys(material, demands),
        Err(cause) => Gathered::Refused(cause),
    })
}

/// Refuses an image without looking at it.
fn refuse(output: &Output<'_>, failure: Failure) -> Result<(), Error> {
    let mut report = Report::default();
    report.refuse(failure.clone());
    let coverage = None;
    output.render(&Ok(Judged { report, coverage }))?;
    Err(Error::fatal(one_line(&format!("{FAILED}{failure}"))))
}

/// The outer error is about key servers and ends the command at once.
fn judge(
    ui: &Ui,
    output: &Output<'_>,
    mut material: KeyMaterial,
    request: &Request,
    remote: Option<Remote<'_>>,
    strict: bool,
) -> Result<Result<Judged, Cause>, Error> {
    let judged = super::with_image(output.path, Access::Read, |_, image| {
        if is_oci_sif(image) {
            ui.info("Image is an OCI-SIF, use `--cosign` to verify cosign compatible signatures.");
        }
        if let Some(remote) = remote {
            // Without a usable configuration nobody can be asked; the rest of
            // the answer is still wanted as data.
            let asked = remote.add_missing(image, &mut material, request);
            if let (Err(error), Format::Json | Format::Original) = (&asked, output.format) {
                let text = match error {
                    Error::Fatal { text, .. } => text.clone(),
                    _ => String::new(),
                };
                output.render(&Err(Cause::plain(text)))?;
            }
            asked?;
        }
        let report = verify::native(image, &material, request).map_err(cause);
        Ok(report.and_then(|report| Ok(Judged::new(image, report, strict)?)))
    });
    judged.unwrap_or_else(|unreadable| Ok(Err(unreadable)))
}

fn cause(error: verify::Error) -> Cause {
    match error {
        verify::Error::Image(inner) => Cause {
            text: format!("integrity: {inner}"),
            detail: inner.detail(),
        },
        other => Cause::plain(other),
    }
}
