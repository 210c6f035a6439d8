//! A policy as a file: who may sign what, and how many have to.
//!
//! TOML, described in `docs/policy.md` and `docs/policy.schema.json`. Names that are not known are
//! refused: a misspelt demand would be none.

use super::pattern::{BadPattern, PathPattern, SubjectPattern};
use super::{KeyName, NotWhole};
use crate::key::pem::{self, PublicKey};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Largest policy that is read, in bytes.
pub const MAX_LEN: u64 = 1 << 20;

/// A policy that was read and is consistent in itself.
#[derive(Clone, Debug)]
pub struct Policy {
    signers: Vec<Signer>,
    rules: Vec<Rule>,
}

/// Somebody who may sign: one party, whatever number of keys they have.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The name that rules use.
    pub name: String,
    /// OpenPGP keys.
    pub pgp: Vec<KeyName>,
    /// Public keys that stand in the policy.
    pub keys: Vec<PublicKey>,
    /// Files with public keys.
    pub key_files: Vec<PathBuf>,
    /// Certificates; their owners are parties of their own.
    pub certificates: Option<Certificates>,
    /// Public keys for cosign signatures that stand in the policy.
    pub cosign_keys: Vec<PublicKey>,
    /// Files with public keys for cosign signatures.
    pub cosign_key_files: Vec<PathBuf>,
}

/// Certificates that are accepted.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// File with the roots.
    pub roots: PathBuf,
    /// File with certificates between them and the owners.
    pub intermediates: Option<PathBuf>,
    /// Files with certificates of owners, one each.
    pub files: Vec<PathBuf>,
    /// Whose certificates count.
    pub subjects: Vec<SubjectPattern>,
}

/// What images of some paths need.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Place in the file, from 1.
    pub number: usize,
    /// The paths; none for all.
    pub path: Option<PathPattern>,
    /// Names of those whose signatures count.
    pub signers: Vec<String>,
    /// Names of those who each have to sign.
    pub required: Vec<String>,
    /// How many distinct signers have to.
    pub at_least: usize,
    /// Whether signatures by unknown keys are passed over.
    pub ignore_unknown: bool,
}

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TOML, or another structure.
    #[error("{0}")]
    Toml(String),
    /// A version that is not known.
    #[error("version {0} is not known, only 1")]
    Version(i64),
    /// Nobody, or no rule.
    #[error("there is no [[{0}]]")]
    Nothing(&'static str),
    /// A fault of a signer.
    #[error("signer {0:?}: {1}")]
    Signer(String, SignerFault),
    /// A fault of a rule.
    #[error("rule {0}: {1}")]
    Rule(usize, RuleFault),
}

/// What is wrong with a signer.
#[derive(Debug, thiserror::Error)]
pub enum SignerFault {
    /// Without a name.
    #[error("a signer needs a name")]
    Nameless,
    /// Two of that name.
    #[error("the name is given twice")]
    Twice,
    /// Without any key.
    #[error("there is no key")]
    NoKey,
    /// One party and many owners in one.
    #[error(
        "keys are those of one signer, behind certificates every owner is one: make two signers of it"
    )]
    Mixed,
    /// A text that is no fingerprint.
    #[error("{0:?}: {NotWhole}")]
    Fingerprint(String),
    /// A text that is no public key.
    #[error("{0}")]
    Key(#[from] pem::Error),
    /// Nobody's certificate would count.
    #[error("certificates need subjects; \"*\" is any")]
    NoSubject,
    /// A subject that cannot be read.
    #[error("subject {0:?}: {1}")]
    Subject(String, BadPattern),
}

/// What is wrong with a rule.
#[derive(Debug, thiserror::Error)]
pub enum RuleFault {
    /// A path that cannot be read.
    #[error("path {0:?}: {1}")]
    Path(String, BadPattern),
    /// Nobody may sign.
    #[error("there are no signers")]
    NoSigner,
    /// A name that no signer has.
    #[error("there is no signer {0:?}")]
    Unknown(String),
    /// A name twice.
    #[error("{0:?} is given twice")]
    Twice(String),
    /// Somebody has to sign whose signature does not count.
    #[error("{0:?} is required and not among the signers")]
    NotAccepted(String),
    /// None at all.
    #[error("at-least must be 1 or more")]
    NotOne,
    /// More than there are.
    #[error("at-least is {wanted}, and there are {found} signers")]
    TooMany {
        /// How many are wanted.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: i64,
    #[serde(default)]
    signer: Vec<SignerTable>,
    #[serde(default)]
    rule: Vec<RuleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SignerTable {
    name: String,
    #[serde(default)]
    pgp: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    key_files: Vec<PathBuf>,
    certificates: Option<CertificatesTable>,
    #[serde(default)]
    cosign_keys: Vec<String>,
    #[serde(default)]
    cosign_key_files: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificatesTable {
    roots: PathBuf,
    intermediates: Option<PathBuf>,
    #[serde(default)]
    files: Vec<PathBuf>,
    #[serde(default)]
    subjects: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleTable {
    path: Option<String>,
    #[serde(default)]
    signers: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default = "one")]
    at_least: usize,
    #[serde(default)]
    ignore_unknown: bool,
}

fn one() -> usize {
    1
}

impl Policy {
    /// Reads a policy that lies in `folder`, an absolute path: relative paths in it begin there.
    ///
    /// # Errors
    /// [`Error`]; nothing is accepted in part.
    pub fn parse(text: &[u8], folder: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text).map_err(|e| Error::Toml(e.to_string()))?;
        let document: Document = toml::from_str(text).map_err(|error| {
            let reason = error.message().lines().collect::<Vec<_>>().join(", ");
            let before = error.span().and_then(|span| text.get(..span.start));
            Error::Toml(match before {
                Some(before) => {
                    let line = before.matches('\n').count().saturating_add(1);
                    format!("line {line}: {reason}")
                }
                None => reason,
            })
        })?;
        if document.version != 1 {
            return Err(Error::Version(document.version));
        }
        let mut signers: Vec<Signer> = Vec::new();
        for table in document.signer {
            let name = table.name.clone();
            let fault = |fault| Error::Signer(name.clone(), fault);
            if signers.iter().any(|known| known.name == table.name) {
                return Err(fault(SignerFault::Twice));
            }
            signers.push(Signer::read(table).map_err(fault)?);
        }
        if signers.is_empty() {
            return Err(Error::Nothing("signer"));
        }
        let mut rules = Vec::new();
        for (number, table) in (1..).zip(document.rule) {
            let rule = Rule::read(number, table, folder, &signers);
            rules.push(rule.map_err(|fault| Error::Rule(number, fault))?);
        }
        if rules.is_empty() {
            return Err(Error::Nothing("rule"));
        }
        Ok(Self { signers, rules })
    }

    /// The first rule for an image, whose path is absolute and free of links.
    pub fn rule(&self, image: &[u8]) -> Option<&Rule> {
        let fits = |rule: &&Rule| rule.path.as_ref().is_none_or(|path| path.matches(image));
        self.rules.iter().find(fits)
    }

    /// The files that it names, as they stand in it.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.signers.iter().flat_map(|signer| {
            let certificates = signer.certificates.iter().flat_map(|certificates| {
                let pools = [
                    Some(&certificates.roots),
                    certificates.intermediates.as_ref(),
                ];
                pools.into_iter().flatten().chain(&certificates.files)
            });
            let keys = signer.key_files.iter().chain(&signer.cosign_key_files);
            keys.chain(certificates).map(PathBuf::as_path)
        })
    }

    /// The signers of a rule, in its order.
    pub fn signers<'p>(&'p self, rule: &'p Rule) -> impl Iterator<Item = &'p Signer> {
        let named = |name: &String| self.signers.iter().find(|signer| signer.name == *name);
        rule.signers.iter().filter_map(named)
    }
}

impl Signer {
    fn read(table: SignerTable) -> Result<Self, SignerFault> {
        if table.name.trim().is_empty() {
            return Err(SignerFault::Nameless);
        }
        let pgp = table
            .pgp
            .into_iter()
            .map(|text| match KeyName::fingerprint(&text) {
                Some(Ok(name)) => Ok(name),
                Some(Err(NotWhole)) | None => Err(SignerFault::Fingerprint(text)),
            });
        let keys = |texts: Vec<String>| {
            let keys = texts
                .iter()
                .map(|text| PublicKey::from_pem(text.as_bytes()));
            keys.collect::<Result<Vec<_>, _>>()
        };
        let certificates = table.certificates.map(Certificates::read).transpose()?;
        let signer = Self {
            name: table.name,
            pgp: pgp.collect::<Result<_, _>>()?,
            keys: keys(table.keys)?,
            key_files: table.key_files,
            certificates,
            cosign_keys: keys(table.cosign_keys)?,
            cosign_key_files: table.cosign_key_files,
        };
        let is_empty = signer.pgp.is_empty()
            && signer.keys.is_empty()
            && signer.key_files.is_empty()
            && signer.certificates.is_none()
            && signer.cosign_keys.is_empty()
            && signer.cosign_key_files.is_empty();
        let has_keys =
            !(signer.pgp.is_empty() && signer.keys.is_empty() && signer.key_files.is_empty());
        if is_empty {
            return Err(SignerFault::NoKey);
        }
        // Else somebody who signs with key and certificate is two signers for `at-least`.
        match has_keys && signer.certificates.is_some() {
            true => Err(SignerFault::Mixed),
            false => Ok(signer),
        }
    }
}

impl Certificates {
    fn read(table: CertificatesTable) -> Result<Self, SignerFault> {
        if table.subjects.is_empty() {
            return Err(SignerFault::NoSubject);
        }
        let subjects = table.subjects.into_iter().map(|text| {
            SubjectPattern::parse(&text).map_err(|fault| SignerFault::Subject(text, fault))
        });
        Ok(Self {
            roots: table.roots,
            intermediates: table.intermediates,
            files: table.files,
            subjects: subjects.collect::<Result<_, _>>()?,
        })
    }
}

impl Rule {
    fn read(
        number: usize,
        table: RuleTable,
        folder: &[u8],
        known: &[Signer],
    ) -> Result<Self, RuleFault> {
        let path = table.path.map(|text| {
            PathPattern::parse(&text, folder).map_err(|fault| RuleFault::Path(text, fault))
        });
        let rule = Self {
            number,
            path: path.transpose()?,
            signers: table.signers,
            required: table.required,
            at_least: table.at_least,
            ignore_unknown: table.ignore_unknown,
        };
        if rule.signers.is_empty() {
            return Err(RuleFault::NoSigner);
        }
        for names in [&rule.signers, &rule.required] {
            let mut seen = BTreeSet::new();
            if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
                return Err(RuleFault::Twice(twice.clone()));
            }
        }
        let mut many = false;
        for name in &rule.signers {
            let signer = known.iter().find(|signer| signer.name == *name);
            let signer = signer.ok_or_else(|| RuleFault::Unknown(name.clone()))?;
            many |= signer.certificates.is_some();
        }
        if let Some(other) = rule
            .required
            .iter()
            .find(|name| !rule.signers.contains(name))
        {
            return Err(RuleFault::NotAccepted(other.clone()));
        }
        match rule.at_least {
            0 => Err(RuleFault::NotOne),
            wanted if wanted > rule.signers.len() && !many => Err(RuleFault::TooMany {
                wanted,
                found: rule.signers.len(),
            }),
            _ => Ok(rule),
        }
    }
}

/// A path in a policy, seen from where the policy lies.
pub fn beside(policy: &Path, path: &Path) -> PathBuf {
    policy
        .parent()
        .map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "F34371D0ACD5D09EB9BD853A80600A5FA11BBD29";

    fn parse(text: &str) -> Result<Policy, Error> {
        Policy::parse(text.as_bytes(), b"/policies")
    }

    fn told(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    fn with_rule(rule: &str) -> String {
        format!(
            "version = 1\n[[signer]]\nname = 'a'\npgp = ['{KEY}']\n[[signer]]\nname = 'b'\n\
             key-files = ['b.pem']\n[[rule]]\n{rule}\n"
        )
    }

    fn with_signer(signer: &str) -> String {
        format!("version = 1\n[[signer]]\nname = 'a'\n{signer}\n[[rule]]\nsigners = ['a']\n")
    }

    #[test]
    fn the_first_rule_that_fits_is_the_rule() {
        let policy = parse(&with_rule(
            "path = '/srv/*.sif'\nsigners = ['a']\n[[rule]]\npath = '/srv/**'\nsigners = ['b']\n\
             [[rule]]\npath = 'own/*'\nsigners = ['b', 'a']\nat-least = 2",
        ))
        .unwrap();
        let number = |path: &str| policy.rule(path.as_bytes()).map(|rule| rule.number);
        assert_eq!(number("/srv/a.sif"), Some(1));
        assert_eq!(number("/srv/b/a.sif"), Some(2));
        assert_eq!(number("/policies/own/a"), Some(3));
        assert_eq!(number("/other"), None);
        let rule = policy.rule(b"/policies/own/a").unwrap();
        let names: Vec<_> = policy.signers(rule).map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let any = parse(&with_rule("signers = ['a']")).unwrap();
        let rule = any.rule(b"/anything").unwrap();
        assert_eq!((rule.at_least, rule.ignore_unknown), (1, false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (rule, reason) in [
            ("", "rule 1: there are no signers"),
            ("signers = ['c']", "rule 1: there is no signer \"c\""),
            ("signers = ['a', 'a']", "rule 1: \"a\" is given twice"),
            (
                "signers = ['a']\nrequired = ['b']",
                "rule 1: \"b\" is required and not among the signers",
            ),
            (
                "signers = ['a']\nat-least = 0",
                "rule 1: at-least must be 1 or more",
            ),
            (
                "signers = ['a', 'b']\nat-least = 3",
                "rule 1: at-least is 3, and there are 2 signers",
            ),
            (
                "signers = ['a']\npath = '/a/'",
                "rule 1: path \"/a/\": the elements",
            ),
        ] {
            let text = told(&with_rule(rule));
            assert!(text.starts_with(reason), "{text}");
        }
        for (signer, reason) in [
            ("", "signer \"a\": there is no key"),
            (
                "pgp = ['A11BBD29']",
                "signer \"a\": \"A11BBD29\": a signer is named by its whole",
            ),
            (
                "pgp = ['x']",
                "signer \"a\": \"x\": a signer is named by its whole",
            ),
            ("keys = ['x']", "signer \"a\": "),
            (
                &format!("pgp = ['{KEY}']\ncertificates = {{ roots = 'r.pem', subjects = ['*'] }}"),
                "signer \"a\": keys are those of one signer, behind certificates every owner is one",
            ),
            (
                "certificates = { roots = 'r.pem' }",
                "signer \"a\": certificates need subjects",
            ),
            (
                "certificates = { roots = 'r.pem', subjects = ['x'] }",
                "signer \"a\": subject \"x\": a subject pattern",
            ),
        ] {
            let text = told(&with_signer(signer));
            assert!(text.starts_with(reason), "{text}");
        }
        for (text, reason) in [
            ("", "line 1: missing field `version`"),
            ("version = 2", "version 2 is not known, only 1"),
            ("version = 1", "there is no [[signer]]"),
            (
                "version = 1\nsigners = []",
                "line 2: unknown field `signers`",
            ),
            ("version = 'x'", "line 1: "),
        ] {
            assert!(told(text).starts_with(reason), "{text}: {}", told(text));
        }
        let twice = with_signer(&format!("pgp = ['{KEY}']\n[[signer]]\nname = 'a'"));
        assert_eq!(told(&twice), "signer \"a\": the name is given twice");
        // A misspelt demand is none, so it must not pass.
        for misspelt in [
            "require = ['a']",
            "atleast = 2",
            "at_least = 2",
            "ignore-unkown = false",
        ] {
            let text = told(&with_rule(&format!("signers = ['a']\n{misspelt}")));
            assert!(text.contains("unknown field"), "{text}");
        }
        let no_rule = with_signer(&format!("pgp = ['{KEY}']"));
        let no_rule = no_rule.split("[[rule]]").next().unwrap();
        assert_eq!(told(no_rule), "there is no [[rule]]");
    }
}
