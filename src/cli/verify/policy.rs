//! `--policy`: a file says who may sign.

use super::super::{Cause, Error, public_key, usage};
use super::FAILED;
use super::certificate::{Certificates, MAX_POOL, Offered, leaf, pool};
use super::demands::Wanted;
use super::material::load_keyrings;
use crate::disk::{errno_text, files, trusted};
use crate::key::pem::PublicKey;
use crate::key::pgp::Keyring;
use crate::key::x509::{Certificate, Moment, Trust};
use crate::policy::file::{self, MAX_LEN, Policy, Rule};
use crate::policy::{Accepted, Demands, KeyName, Required, Tolerated};
use crate::report::{Failure, RuleName, Unmet};
use crate::ui::{Ui, one_line};
use crate::verify::{KeyMaterial, Keyrings, TrustedKey};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const NO_POLICY: &str = "failed to load policy: ";

#[derive(clap::Args, Default)]
pub(super) struct PolicyArgs {
    /// file that says who may sign which images (TOML)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    policy: Option<PathBuf>,
}

/// Flags that a policy leaves no room for, and whether they are there.
pub(super) type Conflicts = [(&'static str, bool)];

/// A policy that was read.
pub(super) struct Loaded {
    /// Where the policy lies, links resolved.
    path: PathBuf,
    policy: Policy,
    /// The policy as the user named it.
    shown: String,
    /// What it says, byte for byte.
    bytes: Vec<u8>,
}

/// A policy, and its rule for the image.
pub(super) struct Chosen {
    loaded: Arc<Loaded>,
    /// Where the image lies, links resolved.
    image: PathBuf,
    rule: Option<Rule>,
}

impl PolicyArgs {
    /// Whether there is one.
    pub(super) fn is_given(&self) -> bool {
        self.policy.is_some()
    }

    /// Reads the policy; nothing without the flag. `command` is for errors about the command line.
    ///
    /// # Errors
    /// Another flag says who may sign; the file is no policy.
    pub(super) fn read(
        self,
        command: &str,
        conflicts: &Conflicts,
    ) -> Result<Option<Loaded>, Error> {
        let Some(named) = self.policy else {
            return Ok(None);
        };
        if let Some((flag, _)) = conflicts.iter().find(|(_, given)| *given) {
            let text = format!("--policy and {flag} cannot be used together");
            return Err(usage::bad_flags(&[command], &text));
        }
        let shown = one_line(&named.to_string_lossy());
        let fail = |text: String| Error::fatal(format!("{NO_POLICY}{}", one_line(&text)));
        let path = trusted::resolve(&named).map_err(fail)?;
        let bytes = files::read(&path, MAX_LEN)
            .map_err(|e| fail(format!("open {}: {}", named.display(), errno_text(&e))))?;
        let folder = path.parent().unwrap_or(Path::new("/")).as_os_str();
        let policy = Policy::parse(&bytes, folder.as_bytes())
            .map_err(|error| fail(format!("{}: {error}", named.display())))?;
        Ok(Some(Loaded {
            path,
            policy,
            shown,
            bytes: bytes.to_vec(),
        }))
    }

    /// Reads the policy and looks for the rule; nothing without the flag. `image` tells where the
    /// image lies, links resolved.
    ///
    /// # Errors
    /// As [`PolicyArgs::read`]; the image has no place.
    pub(super) fn load(
        self,
        ui: &Ui,
        command: &str,
        image: impl FnOnce() -> Result<PathBuf, String>,
        conflicts: &Conflicts,
    ) -> Result<Option<Chosen>, Error> {
        let Some(loaded) = self.read(command, conflicts)? else {
            return Ok(None);
        };
        let resolved =
            image().map_err(|text| Error::fatal(format!("{FAILED}{}", one_line(&text))))?;
        let chosen = Chosen::new(&Arc::new(loaded), resolved);
        if let Some(rule) = &chosen.rule {
            ui.info(format_args!(
                "Verifying image by rule {} of policy '{}'",
                rule.number, chosen.loaded.shown
            ));
        }
        Ok(Some(chosen))
    }
}

impl Loaded {
    /// Hashes what decides: the policy and every file that it names, as far as they can be read.
    pub(super) fn identify(&self, add: &mut dyn FnMut(&[u8])) {
        add(self.path.as_os_str().as_bytes());
        add(&self.bytes);
        for path in self.policy.files() {
            let content = files::read(&file::beside(&self.path, path), MAX_POOL);
            add(content.as_ref().map_or(&[], |bytes| bytes.as_slice()));
        }
    }
}

/// Keys and demands of a rule.
#[derive(Default)]
struct Gathered {
    keys: Vec<TrustedKey>,
    accepted: Vec<Accepted>,
    required: Vec<Required>,
}

impl Gathered {
    /// Adds the keys of one signer.
    fn add(&mut self, rule: &Rule, signer: &str, names: Vec<Accepted>) {
        if rule.required.iter().any(|required| required == signer) {
            self.required.push(Required {
                label: format!("{signer:?}"),
                keys: names.iter().map(|accepted| accepted.key.clone()).collect(),
            });
        }
        self.accepted.extend(names);
    }

    /// The demands of the rule, and those of the command line, which only make it stricter.
    fn demands(&self, rule: &Rule, typed: Demands) -> Result<Demands, Error> {
        for wanted in &typed.required {
            let accepted = |key: &KeyName| self.accepted.iter().any(|a| a.key == *key);
            if wanted.keys.is_empty() || !wanted.keys.iter().all(accepted) {
                return Err(Error::fatal(one_line(&format!(
                    "{FAILED}--require {}: the policy does not accept this signer",
                    wanted.label
                ))));
            }
        }
        let mut required = self.required.clone();
        required.extend(typed.required);
        Ok(Demands {
            required,
            at_least: rule.at_least.max(typed.at_least),
            accepted: Some(self.accepted.clone()),
            tolerated: match rule.ignore_unknown {
                true => Tolerated::UnknownSigners,
                false => Tolerated::Nothing,
            },
        })
    }
}

fn spki(key: &PublicKey) -> KeyName {
    KeyName::Spki(key.spki_sha256())
}

impl Chosen {
    /// The rule of the policy for an image whose links are resolved.
    pub(super) fn new(loaded: &Arc<Loaded>, image: PathBuf) -> Self {
        let rule = loaded.policy.rule(image.as_os_str().as_bytes()).cloned();
        Self {
            loaded: Arc::clone(loaded),
            image,
            rule,
        }
    }

    /// The policy.
    pub(super) fn into_loaded(self) -> Arc<Loaded> {
        self.loaded
    }

    /// The rule, if there is one for the image.
    pub(super) fn rule(&self) -> Option<&Rule> {
        self.rule.as_ref()
    }

    /// Where the image lies, links resolved.
    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// Why an image without a rule is refused.
    pub(super) fn no_rule(&self) -> Failure {
        Failure::Policy(Unmet::NoRule(self.image.display().to_string()))
    }

    /// How reports name the rule.
    pub(super) fn name(&self) -> Option<RuleName> {
        Some(RuleName {
            file: self.loaded.shown.clone(),
            number: self.rule.as_ref()?.number,
        })
    }

    /// Public keys of files, which lie beside the policy.
    fn key_files(&self, paths: &[PathBuf]) -> Result<Vec<PublicKey>, Error> {
        let read = |path: &PathBuf| public_key::load(&file::beside(&self.loaded.path, path));
        paths.iter().map(read).collect()
    }

    /// Keys and demands for native signatures. `typed` makes the demands of the command line
    /// from the keys of the certificates that it requires.
    ///
    /// # Errors
    /// The outer one: a file cannot be used, or a demand does not fit the policy. The inner one:
    /// a certificate of the command line is not accepted.
    pub(super) fn native(
        &self,
        ui: &Ui,
        rule: &Rule,
        offered: &Offered,
        typed: &Wanted,
        keysdir: Option<PathBuf>,
        moment: Moment,
    ) -> Result<Result<(KeyMaterial, Demands), Cause>, Error> {
        let mut gathered = Gathered::default();
        let mut offers: Vec<Result<TrustedKey, Cause>> = offered
            .signers
            .iter()
            .map(|_| Err(Cause::plain("the rule has no signers with certificates")))
            .collect();
        for signer in self.loaded.policy.signers(rule) {
            let own = |key: KeyName| Accepted {
                key,
                party: Some(signer.name.clone()),
            };
            let mut names: Vec<_> = signer.pgp.iter().cloned().map(own).collect();
            let mut keys = signer.keys.clone();
            keys.extend(self.key_files(&signer.key_files)?);
            names.extend(keys.iter().map(|key| own(spki(key))));
            gathered.keys.extend(keys.into_iter().map(TrustedKey::from));
            if let Some(certificates) = &signer.certificates {
                let trust = self.trust(certificates, offered)?;
                let judge = |leaf: &Certificate| {
                    let name = leaf.subject_elements();
                    if !certificates.subjects.iter().any(|s| s.matches(&name)) {
                        let subject = one_line(&leaf.subject());
                        return Err(Cause::plain(format!("its subject is {subject}")));
                    }
                    let keys = Certificates::new(leaf.clone(), trust.clone(), offered.ocsp);
                    let mut keys = keys.keys(ui, moment)?;
                    keys.pop().ok_or_else(|| Cause::plain("it has no key"))
                };
                let mut good = Vec::new();
                for path in &certificates.files {
                    let path = file::beside(&self.loaded.path, path);
                    match judge(&leaf(&path)?) {
                        Ok(key) => good.push(key),
                        Err(cause) => ui.warning(format_args!(
                            "certificate '{}' of signer {:?} is not accepted: {}",
                            path.display(),
                            signer.name,
                            cause.text
                        )),
                    }
                }
                for (offer, (_, leaf)) in offers.iter_mut().zip(&offered.signers) {
                    match judge(leaf) {
                        Ok(key) => {
                            good.push(key.clone());
                            *offer = Ok(key);
                        }
                        Err(cause) if offer.is_err() => *offer = Err(cause),
                        Err(_) => {}
                    }
                }
                // Each owner is a party of their own; reports tell owners apart.
                names.extend(good.iter().map(|trusted| Accepted {
                    key: spki(&trusted.key),
                    party: None,
                }));
                gathered.keys.extend(good);
            }
            gathered.add(rule, &signer.name, names);
        }
        let mut certified = Vec::new();
        for (offer, (path, _)) in offers.into_iter().zip(&offered.signers) {
            match offer {
                Ok(key) => certified.push(key),
                Err(cause) => {
                    return Ok(Err(Cause::plain(one_line(&format!(
                        "certificate '{}' is not accepted by the policy: {}",
                        path.display(),
                        cause.text
                    )))));
                }
            }
        }
        let first = certified.len().saturating_sub(typed.certificates().len());
        let demands = gathered.demands(rule, typed.demands(certified.iter().skip(first)))?;
        let material = KeyMaterial {
            keyrings: self.keyrings(ui, &gathered.accepted, keysdir)?,
            keys: gathered.keys,
        };
        Ok(Ok((material, demands)))
    }

    fn trust(&self, certificates: &file::Certificates, offered: &Offered) -> Result<Trust, Error> {
        let beside = |path: &PathBuf| file::beside(&self.loaded.path, path);
        let mut intermediates = match &certificates.intermediates {
            Some(path) => pool(&beside(path), "failed to load intermediate certificates: ")?,
            None => Vec::new(),
        };
        intermediates.extend(offered.intermediates.iter().cloned());
        Ok(Trust {
            roots: pool(
                &beside(&certificates.roots),
                "failed to load root certificates: ",
            )?,
            intermediates,
            crls: offered.crls.clone(),
        })
    }

    /// The keyrings without the keys that are not accepted; nothing if no OpenPGP key is.
    fn keyrings(
        &self,
        ui: &Ui,
        accepted: &[Accepted],
        keysdir: Option<PathBuf>,
    ) -> Result<Option<Keyrings>, Error> {
        let is_accepted = |fingerprint: String| {
            let name = KeyName::Pgp(fingerprint);
            accepted.iter().any(|accepted| accepted.key == name)
        };
        if !accepted.iter().any(|a| matches!(a.key, KeyName::Pgp(_))) {
            return Ok(None);
        }
        let all = load_keyrings(ui, keysdir).map_err(|e| Cause::plain(e).fatal(FAILED))?;
        let only_accepted = all.into_iter().map(|(origin, ring)| {
            let entities = ring.into_entities().into_iter();
            let kept = entities.filter(|entity| is_accepted(entity.fingerprint().to_string()));
            (origin, Arc::new(Keyring::from_entities(kept)))
        });
        Ok(Some(only_accepted.collect()))
    }

    /// Keys and demands for cosign signatures.
    ///
    /// # Errors
    /// A file cannot be used, or a demand does not fit the policy.
    pub(super) fn cosign(&self, typed: &Wanted) -> Result<(Vec<PublicKey>, Demands), Error> {
        let Some(rule) = &self.rule else {
            return Err(Error::fatal(one_line(&self.no_rule().to_string())));
        };
        let mut gathered = Gathered::default();
        let mut all = Vec::new();
        for signer in self.loaded.policy.signers(rule) {
            let mut keys = signer.cosign_keys.clone();
            keys.extend(self.key_files(&signer.cosign_key_files)?);
            let names = keys.iter().map(|key| Accepted {
                key: spki(key),
                party: Some(signer.name.clone()),
            });
            gathered.add(rule, &signer.name, names.collect());
            all.extend(keys);
        }
        let demands = gathered.demands(rule, typed.demands([]))?;
        Ok((all, demands))
    }
}
