//! `--certificate`: the flags, and the keys that come of them.

use super::super::{Cause, Error, go, passphrase, servers};
use crate::disk::files::{self, MAX_KEY_FILE};
use crate::disk::{errno_text, roots};
use crate::key::crl::Crl;
use crate::key::ocsp::Answer;
use crate::key::x509::{self, Certificate, Chain, Moment, Trust};
use crate::net::ocsp::{Inquiry, Step};
use crate::report::{CertificateFacts, Revocation};
use crate::ui::{Ui, one_line};
use crate::verify::TrustedKey;
use std::path::{Path, PathBuf};

/// Largest file of many certificates, in bytes.
pub(super) const MAX_POOL: u64 = 16 << 20;
/// Largest file of revocation lists, in bytes.
const MAX_CRL: u64 = 64 << 20;

#[derive(clap::Args, Default)]
pub(super) struct CertificateArgs {
    /// path to the certificate
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    certificate: Vec<PathBuf>,
    /// path to pool of intermediate certificates
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    certificate_intermediates: Option<PathBuf>,
    /// path to pool of root certificates, instead of the system's
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    certificate_roots: Option<PathBuf>,
    /// enable online revocation check for certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    ocsp_verify: Option<bool>,
    /// path to certificate revocation lists (PEM or DER); may be given again
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    crl: Vec<PathBuf>,
}

/// What the flags name but for the roots, read and parsed; judged in nothing.
pub(super) struct Offered {
    /// The certificates of signers, with their files.
    pub(super) signers: Vec<(PathBuf, Certificate)>,
    pub(super) intermediates: Vec<Certificate>,
    pub(super) crls: Vec<Crl>,
    pub(super) ocsp: bool,
}

/// Certificates of signers, and what they are judged by.
pub(super) struct Certificates {
    signers: Vec<Certificate>,
    trust: Trust,
    ocsp: bool,
}

impl CertificateArgs {
    /// Whether a flag is about certificates.
    pub(super) fn is_given(&self) -> bool {
        !self.certificate.is_empty()
            || self.certificate_intermediates.is_some()
            || self.certificate_roots.is_some()
            || self.ocsp_verify.is_some()
            || !self.crl.is_empty()
    }

    /// Reads the files; nothing if no certificate is named, by a flag or, if that may name key
    /// material, by the environment. Those of `required` come last.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub(super) fn load(
        self,
        ui: &Ui,
        environment: bool,
        required: Vec<PathBuf>,
    ) -> Result<Option<Certificates>, Error> {
        let env = |name| super::super::env_value(name).map(PathBuf::from);
        let mut certificates = self.certificate.clone();
        if certificates.is_empty() && required.is_empty() && environment {
            certificates.extend(env("VERIFY_CERTIFICATE"));
        }
        certificates.extend(required);
        if certificates.is_empty() {
            for (flag, given) in [
                (
                    "--certificate-intermediates",
                    self.certificate_intermediates.is_some(),
                ),
                ("--certificate-roots", self.certificate_roots.is_some()),
                ("--ocsp-verify", self.ocsp_verify == Some(true)),
                ("--crl", !self.crl.is_empty()),
            ] {
                if given {
                    ui.warning(format_args!("{flag} has no effect without --certificate"));
                }
            }
            return Ok(None);
        }
        let roots = self
            .certificate_roots
            .clone()
            .or_else(|| env("VERIFY_ROOTS"));
        let offered = self.offer(ui, certificates)?;
        let roots = match roots {
            Some(path) => pool(&path, "failed to load root certificates: ")?,
            None => system_roots(ui),
        };
        Ok(Some(Certificates {
            signers: offered.signers.into_iter().map(|(_, leaf)| leaf).collect(),
            trust: Trust {
                roots,
                intermediates: offered.intermediates,
                crls: offered.crls,
            },
            ocsp: offered.ocsp,
        }))
    }

    /// Reads the files for a policy, which has roots of its own; those of `required` come last.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub(super) fn offer_to_policy(self, ui: &Ui, required: Vec<PathBuf>) -> Result<Offered, Error> {
        let mut certificates = self.certificate.clone();
        certificates.extend(required);
        self.offer(ui, certificates)
    }

    fn offer(self, ui: &Ui, certificates: Vec<PathBuf>) -> Result<Offered, Error> {
        let ocsp = super::super::switch(self.ocsp_verify, "ocsp-verify", "VERIFY_OCSP")?;
        let mut signers = Vec::new();
        for path in certificates {
            ui.info(format_args!(
                "Verifying image with key material from certificate '{}'",
                path.display()
            ));
            let certificate = leaf(&path)?;
            signers.push((path, certificate));
        }
        let intermediates = self
            .certificate_intermediates
            .or_else(|| super::super::env_value("VERIFY_INTERMEDIATES").map(PathBuf::from));
        let intermediates = match intermediates {
            Some(path) => pool(&path, "failed to load intermediate certificates: ")?,
            None => Vec::new(),
        };
        let mut crls = Vec::new();
        for path in &self.crl {
            let bytes = read(path, MAX_CRL, "failed to load CRL: ")?;
            crls.extend(Crl::all_from_file(&bytes).map_err(|e| {
                Error::fatal(format!("failed to load CRL: {}: {e}", path.display()))
            })?);
        }
        Ok(Offered {
            signers,
            intermediates,
            crls,
            ocsp,
        })
    }

    /// Whether `--certificate-roots` is there.
    pub(super) fn names_roots(&self) -> bool {
        self.certificate_roots.is_some()
    }
}

/// Reads the certificate of a signer.
///
/// # Errors
/// The file cannot be read or used.
pub(super) fn leaf(path: &Path) -> Result<Certificate, Error> {
    let pem = read(path, MAX_KEY_FILE, "failed to load certificate: ")?;
    Certificate::from_pem(&pem)
        .map_err(|e| Error::fatal(format!("failed to load certificate: {e}")))
}

impl Certificates {
    /// One certificate.
    pub(super) fn new(signer: Certificate, trust: Trust, ocsp: bool) -> Self {
        Self {
            signers: vec![signer],
            trust,
            ocsp,
        }
    }

    /// The keys of the certificates, each of which must be good.
    ///
    /// # Errors
    /// The first certificate that is not, in the words of the originals.
    pub(super) fn keys(&self, ui: &Ui, moment: Moment) -> Result<Vec<TrustedKey>, Cause> {
        let keys = self.signers.iter().map(|signer| {
            let (chain, revocation) = match self.ocsp {
                true => self.online(ui, signer, moment)?,
                false => offline(self.trust.validate(signer, moment).map_err(Cause::plain)?),
            };
            Ok(TrustedKey {
                key: chain.public_key().map_err(Cause::plain)?,
                certificate: Some(facts(&chain, revocation)),
            })
        });
        keys.collect()
    }

    /// Asks responders; the first path whose certificates are all good counts.
    fn online(
        &self,
        ui: &Ui,
        signer: &Certificate,
        moment: Moment,
    ) -> Result<(Chain, Vec<Revocation>), Cause> {
        let chains = self
            .trust
            .candidates(signer, moment)
            .map_err(Cause::plain)?;
        let client = servers::client().map_err(|error| match error {
            servers::Error::Url(error) => Cause::plain(error),
            servers::Error::Config(text) => Cause::plain(text),
        })?;
        let inquiry = Inquiry {
            client: &client,
            crls: &self.trust.crls,
            moment,
        };
        let tell = |step: Step<'_>| match step {
            Step::Asks(link) => ui.info(format_args!(
                "Validate: cert:{}  issuer:{}",
                one_line(&link.certificate.short_name()),
                one_line(&link.certificate.issuer_short_name())
            )),
            Step::Skips(root) if root.is_self_issued() => {
                ui.info(format_args!(
                    "skip self-signed certificate ({})",
                    root.subject()
                ));
            }
            Step::Skips(root) => {
                ui.info(format_args!("skip root certificate ({})", root.subject()));
            }
        };
        let mut refused: Vec<(Certificate, Certificate)> = Vec::new();
        for chain in chains {
            // Another path may have the same certificate, and the answer would be the same.
            let pair = |link: x509::Link<'_>| (link.certificate.clone(), link.issuer.clone());
            if chain.links().any(|link| refused.contains(&pair(link))) {
                continue;
            }
            match inquiry.check(&chain, &tell) {
                Ok(answers) => {
                    let revocation = by_answers(&chain, answers);
                    return Ok((chain, revocation));
                }
                Err(refusal) => {
                    let error = one_line(&refusal.to_string());
                    ui.warning(format_args!("OCSP verification has failed. Err: {error}"));
                    refused.extend(chain.links().nth(refusal.link).map(pair));
                }
            }
        }
        Err(Cause::plain("OCSP verification has failed"))
    }
}

fn offline(chain: Chain) -> (Chain, Vec<Revocation>) {
    let revocation = chain.links().map(|link| by_crl(&link)).collect();
    (chain, revocation)
}

fn by_crl(link: &x509::Link<'_>) -> Revocation {
    link.crl
        .map_or(Revocation::NotChecked, |good| Revocation::Crl {
            this_update: good.this_update,
            next_update: good.next_update,
        })
}

fn by_answers(chain: &Chain, answers: Vec<Option<Answer>>) -> Vec<Revocation> {
    let links = chain.links().zip(answers);
    links
        .map(|(link, answer)| match answer {
            Some(answer) => Revocation::Ocsp {
                this_update: answer.this_update,
                next_update: answer.next_update,
                responder: answer.delegate.map(|delegate| delegate.subject()),
            },
            None => by_crl(&link),
        })
        .collect()
}

fn facts(chain: &Chain, revocation: Vec<Revocation>) -> CertificateFacts {
    let leaf = chain.certificates().first();
    let text = |get: fn(&Certificate) -> String| leaf.map(get).unwrap_or_default();
    CertificateFacts {
        subject: text(Certificate::subject),
        issuer: text(Certificate::issuer),
        serial: text(Certificate::serial),
        fingerprint: text(Certificate::fingerprint),
        not_before: leaf.map_or(0, Certificate::not_before),
        not_after: leaf.map_or(0, Certificate::not_after),
        chain: chain
            .certificates()
            .iter()
            .map(Certificate::subject)
            .collect(),
        revocation,
    }
}

fn read(
    path: &Path,
    cap: u64,
    what: &str,
) -> Result<impl AsRef<[u8]> + std::ops::Deref<Target = Vec<u8>>, Error> {
    let fail = passphrase::fatal(what);
    files::read(path, cap).map_err(|e| fail(format!("open {}: {}", path.display(), errno_text(&e))))
}

/// Reads a file of certificates.
///
/// # Errors
/// The file cannot be read or used.
pub(super) fn pool(path: &Path, what: &str) -> Result<Vec<Certificate>, Error> {
    let pem = read(path, MAX_POOL, what)?;
    Certificate::all_from_pem(&pem).map_err(|e| Error::fatal(format!("{what}{e}")))
}

/// What the machine trusts; a certificate in it that cannot be read is not there.
fn system_roots(ui: &Ui) -> Vec<Certificate> {
    let (found, faults) = roots::system();
    if found.is_empty() {
        for fault in faults {
            ui.warning(format_args!("trust store of the system: {fault}"));
        }
    }
    found
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}
