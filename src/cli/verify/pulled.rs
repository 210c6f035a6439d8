//! What `pull` judges: a file that came, before it gets its name.
//!
//! Without any demand the answer is only told, as the originals do; with one, whatever is not
//! proved is a refusal.

use super::super::{Cause, Error, usage};
use super::certificate::CertificateArgs;
use super::cosign;
use super::demands::{DemandArgs, Wanted};
use super::material::KeyArgs;
use super::output::{about, hint};
use super::policy::{Chosen, PolicyArgs};
use super::remote::Remote;
use super::{FAILED, Gathered, gather};
use crate::disk::sif_file::Access;
use crate::disk::trusted;
use crate::key::pem::PublicKey;
use crate::key::x509::Moment;
use crate::oci::manifest::Platform;
use crate::oci::ocisif::is_oci_sif;
use crate::policy::Demands;
use crate::report::{Report, Signer};
use crate::scope::Selection;
use crate::ui::text::signer_names;
use crate::ui::{Ui, one_line};
use crate::verify::cosign::{Choice, Request as CosignRequest};
use crate::verify::{self, KeyMaterial, Request};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Flags about who has to have signed.
#[derive(clap::Args, Default)]
pub(in crate::cli) struct JudgeArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    certificate: CertificateArgs,
    #[command(flatten)]
    demands: DemandArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// only verify with local key(s) in keyring
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = super::go::bool, value_name = "bool")]
    local: Option<bool>,
    /// key server that is asked for keys that no keyring has
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
}

/// The signatures that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// Those of SIF.
    Native,
    /// Those of cosign, in an OCI-SIF.
    Cosign,
    /// The file has none, by its making.
    Nothing,
}

/// What the signatures of a file are worth.
#[derive(Serialize)]
pub(in crate::cli) struct Verdict {
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    signers: Vec<String>,
}

/// Keys and demands, read before anything is fetched.
pub(in crate::cli) struct Judge {
    means: Means,
    /// Whether a file may be refused.
    demands: bool,
    allow_unsigned: bool,
    /// Where the file will be, links resolved, if its place decides.
    place: Option<PathBuf>,
}

enum Means {
    Native {
        material: Box<KeyMaterial>,
        demands: Demands,
        /// The key servers, if they may be asked, and the one that was named.
        servers: Option<Option<String>>,
        now: u64,
    },
    Cosign {
        keys: Vec<PublicKey>,
        demands: Demands,
    },
    /// There is nothing to judge, or nothing to judge it by.
    Nothing(Form),
}

impl JudgeArgs {
    /// Reads what the flags name; `output` is where the file will be.
    ///
    /// # Errors
    /// Flags that do not fit together or to the form, files that cannot be used, and a policy
    /// without a rule for the place.
    pub(in crate::cli) fn load(
        self,
        ui: &Ui,
        form: Form,
        output: &Path,
        allow_unsigned: bool,
    ) -> Result<Judge, Error> {
        let demanded = !self.key.key.is_empty()
            || self.certificate.is_given()
            || self.demands.is_given()
            || self.policy.is_given();
        let refuse = |text: &str| Err(usage::bad_flags(&["pull"], text));
        if demanded && allow_unsigned {
            return refuse("--allow-unsigned cannot be used with flags that name signers");
        }
        if demanded && form == Form::Nothing {
            return Err(Error::Fatal {
                text: "without --with-cosign the file has no signatures that could be judged"
                    .to_owned(),
                detail: Some(
                    "--with-cosign pulls the image as it was signed, with its signatures"
                        .to_owned(),
                ),
            });
        }
        if !demanded && form != Form::Native {
            self.tell_idle(ui);
        }
        let wanted = self.demands.load("pull")?;
        let policy = self.policy.load(
            ui,
            "pull",
            || place(output),
            &[
                ("--key", !self.key.key.is_empty()),
                ("--pgp", self.key.pgp == Some(true)),
                ("--certificate-roots", self.certificate.names_roots()),
                ("--ignore-unknown", wanted.ignores_unknown()),
            ],
        )?;
        let local = super::super::switch(self.local, "local", "LOCAL_VERIFY")?;
        let place = policy.as_ref().map(|policy| policy.image().to_owned());
        let means = match form {
            Form::Nothing => Means::Nothing(form),
            // Without a key nothing can be said about them.
            Form::Cosign if !demanded => Means::Nothing(form),
            Form::Cosign => {
                let others = cosign::Others {
                    certificate: self.certificate.is_given(),
                    local: self.local == Some(true),
                    url: self.url.is_some(),
                    selection: false,
                    legacy: false,
                    pgp: self.key.pgp == Some(true),
                };
                cosign_means(ui, &self.key.key, &wanted, policy.as_ref(), output, &others)?
            }
            Form::Native => {
                let servers = (!local).then(|| self.url.clone());
                let keys = (self.key, self.certificate);
                native_means(ui, keys, &wanted, policy.as_ref(), servers)?
            }
        };
        Ok(Judge {
            means,
            demands: demanded,
            allow_unsigned,
            place,
        })
    }
}

impl JudgeArgs {
    /// Tells of flags that have no effect where nothing is judged.
    fn tell_idle(&self, ui: &Ui) {
        for (flag, given) in [
            ("--local", self.local == Some(true)),
            ("--url", self.url.is_some()),
            ("--pgp", self.key.pgp == Some(true)),
            ("--keysdir", self.key.keysdir.is_some()),
            ("--ignore-unknown", self.demands.ignores_unknown()),
        ] {
            if given {
                ui.warning(format_args!(
                    "{flag} has no effect: no signature of SIF is looked for"
                ));
            }
        }
    }
}

/// Where a file will be, links resolved; one that has the name already is replaced, not followed.
fn place(output: &Path) -> Result<PathBuf, String> {
    let name = output
        .file_name()
        .ok_or_else(|| format!("{} names no file", output.display()))?;
    let folder = output.parent().filter(|f| !f.as_os_str().is_empty());
    Ok(trusted::resolve(folder.unwrap_or(Path::new(".")))?.join(name))
}

fn native_means(
    ui: &Ui,
    keys: (KeyArgs, CertificateArgs),
    wanted: &Wanted,
    policy: Option<&Chosen>,
    servers: Option<Option<String>>,
) -> Result<Means, Error> {
    let now = u64::try_from(super::super::wall_clock()).unwrap_or_default();
    let moment = Moment { at: now, now };
    // What it says about keys is told when they are used.
    match gather(&ui.without_info(), keys, wanted, policy, moment, &|| ())? {
        Gathered::Keys(material, demands) => Ok(Means::Native {
            servers: servers.filter(|_| material.keyrings.is_some()),
            material: Box::new(material),
            demands,
            now,
        }),
        Gathered::Refused(cause) => Err(cause.fatal(FAILED)),
        Gathered::NoRule(failure) => Err(Error::fatal(one_line(&format!("{FAILED}{failure}")))),
    }
}

fn cosign_means(
    ui: &Ui,
    keys: &[PathBuf],
    wanted: &Wanted,
    policy: Option<&Chosen>,
    output: &Path,
    others: &cosign::Others,
) -> Result<Means, Error> {
    let wanted = cosign::Wanted {
        path: output,
        keys,
        as_json: false,
        strict: false,
        demands: wanted,
        policy,
        registry: None,
    };
    cosign::require_sense(&wanted, others)?;
    let (keys, demands) = wanted.keys_and_demands(&ui.without_info())?;
    Ok(Means::Cosign { keys, demands })
}

impl Judge {
    /// Where the file has to be made, if its place decides who may sign it.
    pub(in crate::cli) fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Whether an image without signatures is nothing to warn of.
    pub(in crate::cli) fn allows_unsigned(&self) -> bool {
        self.allow_unsigned
    }

    /// Refuses whatever is not proved, although nobody named a signer.
    #[must_use]
    pub(in crate::cli) fn must_hold(self) -> Self {
        Self {
            demands: true,
            ..self
        }
    }

    /// Judges the file that `path` leads to now; `shown` is how people know it.
    ///
    /// # Errors
    /// It is refused.
    pub(in crate::cli) fn judge(
        self,
        ui: &Ui,
        path: &Path,
        shown: &Path,
        platform: Option<&Platform>,
    ) -> Result<Option<Verdict>, Cause> {
        let verdict = match self.means {
            Means::Nothing(Form::Cosign) => {
                ui.info("Signatures are not judged: --key or --policy says who may have signed");
                return Ok(None);
            }
            Means::Nothing(_) => return Ok(None),
            Means::Cosign { keys, demands } => by_cosign(ui, path, &keys, &demands, platform),
            Means::Native {
                material,
                demands,
                servers,
                now,
            } => {
                let request = Request {
                    selection: Selection::default(),
                    demands,
                    examine_all: false,
                    now,
                    threads: super::super::threads(),
                };
                by_sif(ui, path, *material, &request, servers).and_then(|report| {
                    let unsigned = report.signatures.is_empty();
                    native_verdict(ui, shown, &report, self.allow_unsigned && unsigned)
                })
            }
        };
        match verdict {
            Ok(verdict) => Ok(Some(verdict)),
            Err(cause) if self.demands => Err(cause),
            Err(cause) => {
                ui.warning(&cause.text);
                ui.warning("Skipping container verification");
                Ok(Some(Verdict::no(cause.text)))
            }
        }
    }
}

impl Verdict {
    fn no(reason: String) -> Self {
        Self {
            verified: false,
            reason: Some(reason),
            signers: Vec::new(),
        }
    }

    fn yes(signers: impl Iterator<Item = String>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in signers.map(|name| one_line(&name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self {
            verified: true,
            reason: None,
            signers: names,
        }
    }
}

fn by_sif(
    ui: &Ui,
    path: &Path,
    mut material: KeyMaterial,
    request: &Request,
    servers: Option<Option<String>>,
) -> Result<Report, Cause> {
    if !material.keys.is_empty() {
        let count = material.keys.len();
        ui.info(format_args!("Verifying image with {count} public key(s)"));
    }
    if material.keyrings.is_some() {
        ui.info("Verifying image with PGP key material");
    }
    super::super::with_image(path, Access::Read, |_, image| {
        if let Some(url) = servers {
            Remote::new(ui, url.as_deref())
                .and_then(|remote| remote.add_missing(image, &mut material, request))
                .map_err(sentence)?;
        }
        let report = verify::native(image, &material, request).map_err(super::cause)?;
        image.still_there()?;
        Ok(report)
    })?
}

/// The refusal of a command as that of this one.
pub(super) fn sentence(error: Error) -> Cause {
    match error {
        Error::Fatal { text, detail } => Cause { text, detail },
        Error::Failed { text, .. } => Cause::plain(text),
        Error::Usage(_) | Error::Quiet(_) => Cause::plain("key servers cannot be asked"),
    }
}

/// Tells what the report says; `fine` is an image without signatures that is not to be spoken of.
fn native_verdict(ui: &Ui, shown: &Path, report: &Report, fine: bool) -> Result<Verdict, Cause> {
    match report.failure() {
        Some(failure) if fine => Ok(Verdict::no(one_line(&failure.to_string()))),
        Some(failure) => Err(Cause {
            text: one_line(&format!("{FAILED}{}{failure}", about(failure))),
            detail: hint(report, failure),
        }),
        None if !report.is_verified() => Err(Cause::plain(format!(
            "{FAILED}integrity: signature not found"
        ))),
        None => {
            let good = report.signatures.iter().filter(|s| s.failure.is_none());
            let names = good
                .filter_map(|s| s.signer.as_ref())
                .flat_map(signer_names);
            let verdict = Verdict::yes(names);
            ui.info(format_args!(
                "Verified signature(s) from image '{}'",
                shown.display()
            ));
            for name in &verdict.signers {
                ui.info(format_args!("Signed by {name}"));
            }
            Ok(verdict)
        }
    }
}

fn by_cosign(
    ui: &Ui,
    path: &Path,
    keys: &[PublicKey],
    demands: &Demands,
    platform: Option<&Platform>,
) -> Result<Verdict, Cause> {
    ui.info(format_args!(
        "Verifying image with sigstore/cosign signature, using {} public key(s)",
        keys.len()
    ));
    let choice = Choice {
        digest: None,
        platform: platform.cloned(),
        host: cosign::host(),
    };
    let request = CosignRequest {
        keys,
        annotations: &[],
        reference: None,
        strict: false,
    };
    let (report, refusal) =
        super::super::with_image(path, Access::Read, |_, image| match is_oci_sif(image) {
            true => {
                let threads = super::super::threads();
                cosign::judge(ui, image, false, &choice, &request, threads)
            }
            false => Err(Cause::plain(
                "not an OCI-SIF: it has no cosign signatures, --with-cosign does not fit",
            )),
        })??;
    let (_, refusal) = cosign::conclude(ui, &report, refusal, demands);
    match refusal {
        Some(reason) => Err(Cause {
            text: one_line(&format!("{FAILED}{reason}")),
            detail: cosign::hint(&report),
        }),
        None => {
            let signers = report.valid().filter_map(|s| s.signer.clone());
            let names = signers.flat_map(|s| signer_names(&Signer::Keys(vec![s])));
            Ok(Verdict::yes(names))
        }
    }
}
