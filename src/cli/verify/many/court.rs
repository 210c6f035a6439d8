//! What decides about every image, read once.

use super::super::super::{self as cli, Cause, Error, usage};
use super::super::cosign::{self, CosignArgs};
use super::super::demands::Wanted;
use super::super::output::{Format, Output};
use super::super::policy::{Chosen, Loaded};
use super::super::pulled::sentence;
use super::super::remote::Remote;
use super::super::strict::Judged;
use super::super::{Args, FAILED, Gathered, cause, gather};
use crate::digest::HashAlgorithm;
use crate::disk::find::{Found, State, state};
use crate::disk::sif_file::Access;
use crate::disk::trusted;
use crate::key::pem::PublicKey;
use crate::key::x509::{self, Moment};
use crate::oci::ocisif::is_oci_sif;
use crate::policy::Demands;
use crate::report::Report;
use crate::scope::Selection;
use crate::ui::json::{Facts, Judged as Subject};
use crate::ui::line::Line;
use crate::ui::{self, Ui, cosign as render, one_line};
use crate::verify::cosign::{Choice, Request as CosignRequest};
use crate::verify::{self, KeyMaterial, Request};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How often an image is judged anew that changed meanwhile.
const TRIES: usize = 3;

/// The judge of every image.
pub(super) struct Court<'a> {
    ui: &'a Ui,
    means: Means,
    selection: Selection,
    strict: bool,
    at: Option<u64>,
    now: u64,
    remote: Option<Remote<'a>>,
    run: String,
}

/// What images are judged by.
enum Means {
    Native(Box<KeyMaterial>, Demands),
    NativeByPolicy(Box<NativePolicy>),
    Cosign(CosignArgs, Vec<PublicKey>, Demands),
    CosignByPolicy(CosignArgs, Box<CosignPolicy>),
}

/// The keys of a rule, or why there are none.
type Kept<K> = Mutex<HashMap<usize, Result<Arc<(K, Demands)>, String>>>;

struct NativePolicy {
    loaded: Arc<Loaded>,
    offered: super::super::certificate::Offered,
    wanted: Wanted,
    keysdir: Option<PathBuf>,
    moment: Moment,
    rules: Kept<KeyMaterial>,
}

struct CosignPolicy {
    loaded: Arc<Loaded>,
    wanted: Wanted,
    rules: Kept<Vec<PublicKey>>,
}

/// The answer about one image.
pub(super) struct Told {
    /// The line of the report.
    pub(super) json: String,
    /// The same, read.
    pub(super) line: Line,
    /// What stands behind the reason on a line for people.
    pub(super) hint: &'static str,
}

/// What is known of an image before it is judged.
struct Case<'f> {
    path: &'f Path,
    facts: Facts,
    threads: usize,
}

impl<'a> Court<'a> {
    /// Reads all keys; `args` has no paths any more.
    ///
    /// # Errors
    /// Flags that do not fit together, files that cannot be used.
    pub(super) fn new(ui: &'a Ui, args: Args) -> Result<Self, Error> {
        let strict = args.strict.unwrap_or(false);
        if strict && args.legacy_insecure == Some(true) {
            return Err(usage::bad_flags(
                &["verify"],
                "--strict and --legacy-insecure cannot be used together",
            ));
        }
        let local = cli::switch(args.local, "local", "LOCAL_VERIFY")?;
        let (conflicts, selection, others) = (args.conflicts(), args.selection(), args.others());
        let wanted = args.demands.load("verify")?;
        let loaded = args.policy.read("verify", &conflicts)?;
        let loaded = loaded.map(Arc::new);
        let now = u64::try_from(cli::wall_clock()).unwrap_or_default();
        let moment = Moment {
            at: args.at.unwrap_or(now),
            now,
        };
        let mut identity = Identity::default();
        identity.add(format!("{selection:?} {strict} {local} {:?}", args.at).as_bytes());
        identity.add(args.url.as_deref().unwrap_or_default().as_bytes());
        if let Some(loaded) = &loaded {
            loaded.identify(&mut |bytes| identity.add(bytes));
        }
        let by_cosign = args.cosign.is_wanted()?;
        let means = match (by_cosign, loaded) {
            (true, loaded) => {
                if args.at.is_some() {
                    return Err(Error::fatal(
                        "--at not supported: --cosign verification knows no validity of keys",
                    ));
                }
                args.cosign.identify(&mut |bytes| identity.add(bytes));
                cosign_means(ui, args.cosign, args.key.key, loaded, wanted, &others)?
            }
            (false, Some(loaded)) => {
                let offered = args
                    .certificate
                    .offer_to_policy(ui, wanted.certificates())?;
                for (_, certificate) in &offered.signers {
                    identity.add(certificate.fingerprint().as_bytes());
                }
                Means::NativeByPolicy(Box::new(NativePolicy {
                    loaded,
                    offered,
                    wanted,
                    keysdir: args.key.keysdir,
                    moment,
                    rules: Mutex::default(),
                }))
            }
            (false, None) => {
                let keys = (args.key, args.certificate);
                match gather(ui, keys, &wanted, None, moment, &|| ())? {
                    Gathered::Keys(material, demands) => Means::Native(Box::new(material), demands),
                    Gathered::Refused(cause) => return Err(cause.fatal(FAILED)),
                    Gathered::NoRule(failure) => {
                        return Err(Error::fatal(one_line(&format!("{FAILED}{failure}"))));
                    }
                }
            }
        };
        if let Some(at) = args.at {
            ui.warning(format_args!(
                "Keys and certificates are judged as of {}, not as of now",
                x509::time(at)
            ));
        }
        means.identify(ui, &mut identity);
        let asks = match &means {
            Means::Native(material, _) => material.keyrings.is_some(),
            Means::NativeByPolicy(_) => true,
            _ => false,
        };
        let remote = match asks && !local {
            true => Some(Remote::new(ui, args.url.as_deref())?),
            false => None,
        };
        Ok(Self {
            ui,
            means,
            selection,
            strict,
            at: args.at,
            now: moment.at,
            remote,
            run: identity.finish(),
        })
    }

    /// Names everything that decides: a run with the same name would answer the same, but for the
    /// time and what key servers say.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Judges an image; whatever happens is an answer.
    pub(super) fn judge(&self, image: &Found, threads: usize) -> Told {
        let name = image.path.as_os_str().as_bytes();
        ui::about(name, || {
            let judged = catch_unwind(AssertUnwindSafe(|| match &image.problem {
                Some(problem) => self.error(&image.path, None, problem),
                None => self.steady(&image.path, threads),
            }));
            judged.unwrap_or_else(|_| self.error(&image.path, None, "internal error"))
        })
    }

    /// Judges an image that does not change meanwhile.
    fn steady(&self, path: &Path, threads: usize) -> Told {
        for _ in 0..TRIES {
            let before = state(path);
            let mut case = Case {
                path,
                facts: self.facts(path, before.as_ref()),
                threads,
            };
            // What is judged by its place is opened there, and nowhere else.
            let place = match self.means.is_by_place() {
                false => Ok(path.to_owned()),
                true => trusted::resolve(path),
            };
            if self.means.is_by_place() {
                let place = place.as_ref().ok();
                case.facts.path = place.map(|place| place.to_string_lossy().into_owned());
            }
            let told = match (&self.means, place) {
                (_, Err(text)) => self.error(path, Some(case.facts), &text),
                (Means::Native(material, demands), Ok(place)) => {
                    self.native(&case, &place, material, demands, None)
                }
                (Means::NativeByPolicy(policy), Ok(place)) => {
                    self.native_by_policy(&case, &place, policy)
                }
                (Means::Cosign(flags, keys, demands), Ok(place)) => {
                    self.cosign(&case, &place, flags, (keys, demands), None)
                }
                (Means::CosignByPolicy(flags, policy), Ok(place)) => {
                    self.cosign_by_policy(&case, &place, flags, policy)
                }
            };
            if state(path) == before {
                return told;
            }
        }
        self.error(path, None, "the file changes while it is verified")
    }

    fn facts(&self, path: &Path, state: Option<&State>) -> Facts {
        let name = path.as_os_str();
        Facts {
            image_bytes: name
                .to_str()
                .is_none()
                .then(|| hex::encode(name.as_bytes())),
            path: None,
            size: state.map(|state| state.size),
            changed: state.map(|state| state.changed.clone()),
            run: self.run.clone(),
        }
    }

    /// The answer of an image that cannot be judged.
    fn error(&self, path: &Path, facts: Option<Facts>, reason: &str) -> Told {
        let facts = facts.unwrap_or_else(|| self.facts(path, None));
        let json = match &self.means {
            Means::Native(..) | Means::NativeByPolicy(_) => {
                self.output(path, &facts).json(&Err(Cause::plain(reason)))
            }
            Means::Cosign(..) | Means::CosignByPolicy(..) => {
                let name = path.to_string_lossy();
                let subject = Subject {
                    image: &name,
                    facts: Some(&facts),
                };
                render::json(&subject, Err(reason), None, None, None)
            }
        };
        Told::new(json, "")
    }

    fn output<'o>(&self, path: &'o Path, facts: &'o Facts) -> Output<'o> {
        Output {
            path,
            format: Format::Json,
            color: false,
            at: self.at,
            facts: Some(facts),
        }
    }

    fn native_by_policy(&self, case: &Case<'_>, place: &Path, policy: &NativePolicy) -> Told {
        let chosen = Chosen::new(&policy.loaded, place.to_owned());
        let Some(rule) = chosen.rule() else {
            let mut report = Report::default();
            report.refuse(chosen.no_rule());
            let coverage = None;
            let outcome = Ok(Judged { report, coverage });
            return Told::new(self.output(case.path, &case.facts).json(&outcome), "");
        };
        let keys = kept(&policy.rules, rule.number, || {
            let ui = &self.ui.without_info();
            let keysdir = policy.keysdir.clone();
            let (offered, wanted) = (&policy.offered, &policy.wanted);
            let keys = chosen.native(ui, rule, offered, wanted, keysdir, policy.moment);
            match keys.map_err(sentence) {
                Ok(Ok(keys)) => Ok(keys),
                Ok(Err(cause)) | Err(cause) => Err(cause.text),
            }
        });
        match keys {
            Ok(keys) => self.native(case, place, &keys.0, &keys.1, Some(&chosen)),
            Err(reason) => self.error(case.path, Some(case.facts.clone()), &reason),
        }
    }

    fn native(
        &self,
        case: &Case<'_>,
        place: &Path,
        material: &KeyMaterial,
        demands: &Demands,
        policy: Option<&Chosen>,
    ) -> Told {
        let request = Request {
            selection: self.selection.clone(),
            demands: demands.clone(),
            examine_all: true,
            now: self.now,
            threads: case.threads,
        };
        let mut hint = "";
        let mut material = material.clone();
        let judged = cli::with_image(place, Access::Read, |_, image| {
            if is_oci_sif(image) {
                hint = "; an OCI-SIF: --cosign verifies its cosign signatures";
            }
            let remote = self.remote.as_ref().filter(|_| material.keyrings.is_some());
            if let Some(remote) = remote {
                let asked = remote.add_missing(image, &mut material, &request);
                asked.map_err(sentence)?;
            }
            let report = verify::native(image, &material, &request).map_err(cause)?;
            Ok(Judged::new(image, report, self.strict)?)
        });
        let mut outcome = judged.unwrap_or_else(Err);
        if let Ok(judged) = &mut outcome {
            judged.report.rule = policy.and_then(Chosen::name);
        }
        Told::new(self.output(case.path, &case.facts).json(&outcome), hint)
    }

    fn cosign_by_policy(
        &self,
        case: &Case<'_>,
        place: &Path,
        flags: &CosignArgs,
        policy: &CosignPolicy,
    ) -> Told {
        let chosen = Chosen::new(&policy.loaded, place.to_owned());
        // Without a rule there is no key either, and the sentence says so.
        let number = chosen.rule().map_or(0, |rule| rule.number);
        let keys = match number {
            0 => Err(chosen.no_rule().to_string()),
            number => kept(&policy.rules, number, || {
                let keys = chosen.cosign(&policy.wanted);
                keys.map_err(|error| sentence(error).text)
            }),
        };
        match keys {
            Ok(keys) => self.cosign(case, place, flags, (&keys.0, &keys.1), Some(&chosen)),
            Err(reason) => self.error(case.path, Some(case.facts.clone()), &reason),
        }
    }

    fn cosign(
        &self,
        case: &Case<'_>,
        place: &Path,
        flags: &CosignArgs,
        (keys, demands): (&[PublicKey], &Demands),
        policy: Option<&Chosen>,
    ) -> Told {
        let ui = &self.ui.without_info();
        let request = CosignRequest {
            keys,
            strict: self.strict,
            ..flags.request()
        };
        let choice: Choice = flags.choice();
        let judged = cosign::look(place, Access::Read, "not", |image| {
            cosign::judge(ui, image, self.strict, &choice, &request, case.threads)
        });
        let (report, refusal) = match judged {
            Ok(judged) => judged,
            Err(cause) => return self.error(case.path, Some(case.facts.clone()), &cause.text),
        };
        let (standing, refusal) = cosign::conclude(ui, &report, refusal, demands);
        let name = case.path.to_string_lossy();
        let subject = Subject {
            image: &name,
            facts: Some(&case.facts),
        };
        let rule = policy.and_then(Chosen::name);
        let json = render::json(
            &subject,
            Ok(&report),
            refusal.as_deref(),
            standing.as_ref(),
            rule.as_ref(),
        );
        Told::new(json, "")
    }
}

fn cosign_means(
    ui: &Ui,
    flags: CosignArgs,
    mut keys: Vec<PathBuf>,
    loaded: Option<Arc<Loaded>>,
    wanted: Wanted,
    others: &cosign::Others,
) -> Result<Means, Error> {
    if keys.is_empty() && wanted.keys().next().is_none() && loaded.is_none() {
        keys.extend(cli::env_value("VERIFY_KEY").map(PathBuf::from));
    }
    // The checks look at whether there is a policy, not at its rule.
    let policy = loaded.map(|loaded| Chosen::new(&loaded, PathBuf::new()));
    let typed = cosign::Wanted {
        path: Path::new(""),
        keys: &keys,
        as_json: false,
        strict: false,
        demands: &wanted,
        policy: policy.as_ref(),
        registry: None,
    };
    cosign::require_sense(&typed, others)?;
    if let Some(policy) = policy {
        return Ok(Means::CosignByPolicy(
            flags,
            Box::new(CosignPolicy {
                loaded: policy.into_loaded(),
                wanted,
                rules: Mutex::default(),
            }),
        ));
    }
    let (keys, demands) = typed.keys_and_demands(ui)?;
    Ok(Means::Cosign(flags, keys, demands))
}

/// The keys of a rule, which are read once.
fn kept<K>(
    rules: &Kept<K>,
    number: usize,
    read: impl FnOnce() -> Result<(K, Demands), String>,
) -> Result<Arc<(K, Demands)>, String> {
    let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
    rules
        .entry(number)
        .or_insert_with(|| read().map(Arc::new))
        .clone()
}

impl Told {
    fn new(json: String, hint: &'static str) -> Self {
        let line = Line::own(&json);
        let json = json.trim_end_matches('\n').to_owned();
        Self { json, line, hint }
    }
}

impl Means {
    /// Whether it matters where an image lies.
    fn is_by_place(&self) -> bool {
        matches!(self, Self::NativeByPolicy(_) | Self::CosignByPolicy(..))
    }

    fn identify(&self, ui: &Ui, identity: &mut Identity) {
        let mut rings = |material: &KeyMaterial| {
            for (origin, ring) in material.keyrings.iter().flatten() {
                identity.add(origin.to_string().as_bytes());
                for entity in ring.entities() {
                    identity.add(entity.raw());
                }
            }
            for trusted in &material.keys {
                identity.add(trusted.key.spki_sha256().as_bytes());
                let certificate = trusted.certificate.as_ref();
                identity.add(certificate.map_or(b"", |facts| facts.fingerprint.as_bytes()));
            }
        };
        match self {
            Self::Native(material, demands) => {
                rings(material);
                identity.add(format!("native {demands:?}").as_bytes());
            }
            Self::NativeByPolicy(policy) => {
                let ui = &ui.without_info();
                let all = super::super::load_keyrings(ui, policy.keysdir.clone());
                rings(&KeyMaterial::of_keyrings(all.unwrap_or_default()));
                let demands = policy.wanted.demands([]);
                identity.add(format!("native policy {demands:?}").as_bytes());
            }
            Self::Cosign(_, keys, demands) => {
                for key in keys {
                    identity.add(key.spki_sha256().as_bytes());
                }
                identity.add(format!("cosign {demands:?}").as_bytes());
            }
            Self::CosignByPolicy(_, policy) => {
                let demands = policy.wanted.demands([]);
                identity.add(format!("cosign policy {demands:?}").as_bytes());
            }
        }
    }
}

/// A hash of what decides.
struct Identity(crate::digest::Hasher);

impl Default for Identity {
    fn default() -> Self {
        let mut hasher = HashAlgorithm::Sha256.hasher();
        hasher.update(concat!("sigsif ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
        Self(hasher)
    }
}

impl Identity {
    /// Adds a part, whose length goes in front so that no two lists are the same bytes.
    fn add(&mut self, bytes: &[u8]) {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(&len.to_be_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        let digest = self.0.finish();
        hex::encode(digest.bytes().get(..16).unwrap_or_default())
    }
}
