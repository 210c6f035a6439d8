//! The execution control list, `ecl.toml`: who must have signed what is run.
//!
//! The two originals share the file and its validation. They differ in what a signature that
//! cannot be verified means, see [`Semantics`].
//!
//! Source: spec/cli.md 8; syecl of SingularityCE 4.5 and Apptainer 1.5.

use crate::policy::{Demands, Tolerated};
use crate::report::{Failure, Report};
use crate::scope::{self, Legacy, Selection};
use crate::sif::Image;
use crate::verify::{self, KeyMaterial, Request};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use toml::Value;

/// Largest list that is read, in bytes.
pub const MAX_LEN: u64 = 1 << 20;

/// A list as it stands in the file; nothing is validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Whether anything is checked at all.
    pub activated: bool,
    /// Whether the legacy signature of the primary system partition counts, and nothing else.
    pub legacy_insecure: bool,
    /// The groups, in the order of the file.
    pub groups: Vec<ExecGroup>,
    /// Names that the originals do not know and pass over, with the table that they stand in.
    pub unknown: Vec<String>,
}

/// The rule for the images of one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecGroup {
    /// A name for people.
    pub tag_name: String,
    /// What the signers have to be; one of [`Mode`] once it is validated.
    pub mode: String,
    /// Folder of the images, empty for any that no other group has.
    pub dir_path: String,
    /// OpenPGP fingerprints, hexadecimal in any case.
    pub fingerprints: Vec<String>,
}

/// What the signers of an image have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At least one listed key has signed every object group.
    Whitelist,
    /// Every listed key has signed every object group.
    Whitestrict,
    /// No listed key has signed any object group.
    Blacklist,
}

/// Whose program is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Semantics {
    /// One signature that cannot be verified refuses the image.
    #[default]
    Singularity,
    /// Signatures that cannot be verified are passed over; whoever they name cannot satisfy a list,
    /// but a blacklist still counts them.
    Apptainer,
}

/// Why a file is no list. The sentences are those of the originals but for [`Error::Toml`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not TOML.
    #[error("toml: {0}")]
    Toml(String),
    /// A value of another type than the name takes.
    #[error("toml: {name} must be {expected}, not {found}")]
    Type {
        /// The name.
        name: String,
        /// What it takes.
        expected: &'static str,
        /// What it has.
        found: &'static str,
    },
    /// The same name twice in different case.
    #[error("toml: {0} is given twice")]
    Twice(String),
    /// A folder of two groups.
    #[error("a specific dirpath can only appear in one execgroup: {0}")]
    SameFolder(String),
    /// A folder that cannot be looked at; the sentence is the system's.
    #[error("{0}")]
    Folder(String),
    /// A folder with `..`, a link, or a slash at the end.
    #[error("all execgroup dirpath`s should be fully cleaned with symlinks resolved")]
    NotClean,
    /// A mode that does not exist.
    #[error("the mode field can only be either: whitelist, whitestrict, blacklist")]
    Mode,
    /// Not 40 hexadecimal digits.
    #[error("expecting a 40 chars hex fingerprint string")]
    Fingerprint,
}

/// Why an image must not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No group for its folder.
    #[error("{0} not part of any execgroup")]
    NoGroup(String),
    /// The signatures do not hold.
    #[error("image signature not valid: integrity: {0}")]
    Signature(Failure),
    /// None, or not all, of those that are listed have signed.
    #[error("image not signed by required entities")]
    NotByRequired,
    /// Somebody who is listed has signed.
    #[error("image signed by a forbidden entity")]
    ByForbidden,
    /// A group without a mode; validation refuses it earlier.
    #[error("ecl config file invalid")]
    Mode,
}

/// Why an image could not be judged, which forbids it to run as well.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    /// Legacy signatures are those of the primary system partition, and there is not one.
    #[error("get primary system partition: {0}")]
    Primary(crate::sif::Lookup),
    /// Any other reason.
    #[error(transparent)]
    Verify(verify::Error),
}

impl From<verify::Error> for Unjudged {
    fn from(error: verify::Error) -> Self {
        match error {
            verify::Error::Scope(scope::Error::Primary(lookup)) => Self::Primary(lookup),
            other => Self::Verify(other),
        }
    }
}

/// The time of judgement, and the threads for hashing.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// Time at which keys must be valid, Unix seconds.
    pub now: u64,
    /// Threads.
    pub threads: usize,
}

/// The judgement of one image.
#[derive(Debug)]
pub struct Answer {
    /// What was found out about the signatures.
    pub report: Report,
    /// Why the image must not run; nothing if it may.
    pub refusal: Option<Refusal>,
}

impl Answer {
    /// Whether the image may run although no signature of it was verified.
    pub fn is_blind(&self) -> bool {
        self.refusal.is_none() && self.report.signatures.iter().all(|s| s.failure.is_some())
    }
}

impl Config {
    /// Reads a list.
    ///
    /// # Errors
    /// [`Error::Toml`], [`Error::Type`], [`Error::Twice`].
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text).map_err(|e| Error::Toml(e.to_string()))?;
        let root: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| Error::Toml(position(&e, text)))?;
        let mut config = Self::default();
        let mut seen = BTreeSet::new();
        for (key, value) in root {
            let name = folded(&key);
            once(&mut seen, &name)?;
            match name.as_str() {
                "activated" => config.activated = boolean(&key, value)?,
                "legacyinsecure" => config.legacy_insecure = boolean(&key, value)?,
                "execgroup" => config.groups = config.groups_of(&key, value)?,
                _ => config.unknown.push(key),
            }
        }
        Ok(config)
    }

    fn groups_of(&mut self, key: &str, value: Value) -> Result<Vec<ExecGroup>, Error> {
        let groups = match value {
            Value::Array(groups) => groups,
            // The originals take one table for a list of one.
            Value::Table(group) => vec![Value::Table(group)],
            other => return Err(wrong(key, "a list of tables", &other)),
        };
        groups
            .into_iter()
            .map(|group| match group {
                Value::Table(group) => self.group_of(key, group),
                other => Err(wrong(key, "a list of tables", &other)),
            })
            .collect()
    }

    fn group_of(&mut self, table: &str, group: toml::Table) -> Result<ExecGroup, Error> {
        let mut parsed = ExecGroup::default();
        let mut seen = BTreeSet::new();
        for (key, value) in group {
            let name = folded(&key);
            once(&mut seen, &name)?;
            match name.as_str() {
                "tagname" => parsed.tag_name = string(&key, value)?,
                "mode" => parsed.mode = string(&key, value)?,
                "dirpath" => parsed.dir_path = string(&key, value)?,
                "keyfp" => {
                    let Value::Array(list) = value else {
                        return Err(wrong(&key, "a list of strings", &value));
                    };
                    let list = list.into_iter().map(|entry| string(&key, entry));
                    parsed.fingerprints = list.collect::<Result<_, _>>()?;
                }
                _ => self.unknown.push(format!("{table}.{key}")),
            }
        }
        Ok(parsed)
    }

    /// Checks every group, also of a list that is not activated.
    ///
    /// `resolve` gives the absolute form of a path without links, or the system's sentence.
    ///
    /// # Errors
    /// The first problem in the order of the file.
    ///
    /// Source: spec/cli.md 8.3.
    pub fn validate(&self, resolve: impl Fn(&str) -> Result<String, String>) -> Result<(), Error> {
        let mut folders = BTreeSet::new();
        for group in &self.groups {
            if !folders.insert(&group.dir_path) {
                return Err(Error::SameFolder(group.dir_path.clone()));
            }
            if !group.dir_path.is_empty() {
                let resolved = resolve(&group.dir_path).map_err(Error::Folder)?;
                if resolved != group.dir_path {
                    return Err(Error::NotClean);
                }
            }
            if group.mode().is_none() {
                return Err(Error::Mode);
            }
            for fingerprint in &group.fingerprints {
                if fingerprint.len() != 40 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(Error::Fingerprint);
                }
            }
        }
        Ok(())
    }

    /// The group of an image: that of its folder, else the one for any folder.
    ///
    /// `image` is absolute and free of links. Folders below a folder do not belong to it.
    pub fn group(&self, image: &Path) -> Option<&ExecGroup> {
        let folder = image.parent();
        let of_folder = |group: &&ExecGroup| {
            !group.dir_path.is_empty()
                && folder.is_some_and(|folder| folder.as_os_str() == group.dir_path.as_str())
        };
        let groups = || self.groups.iter();
        groups()
            .find(of_folder)
            .or_else(|| groups().find(|group| group.dir_path.is_empty()))
    }
}

impl ExecGroup {
    /// The mode, if it is one.
    pub fn mode(&self) -> Option<Mode> {
        match self.mode.as_str() {
            "whitelist" => Some(Mode::Whitelist),
            "whitestrict" => Some(Mode::Whitestrict),
            "blacklist" => Some(Mode::Blacklist),
            _ => None,
        }
    }
}

/// Judges the signatures of an image by the rule of its group.
///
/// `global` is the keyring of all users; other keys never count.
///
/// # Errors
/// No judgement is possible, [`Unjudged`].
///
/// Source: spec/cli.md 8.4.
pub fn check(
    image: &Image<'_>,
    global: &KeyMaterial,
    config: &Config,
    group: &ExecGroup,
    semantics: Semantics,
    means: Means,
) -> Result<Answer, Unjudged> {
    let request = Request {
        selection: Selection {
            legacy: match config.legacy_insecure {
                true => Legacy::Selected,
                false => Legacy::No,
            },
            ..Selection::default()
        },
        demands: Demands {
            tolerated: match semantics {
                Semantics::Singularity => Tolerated::Nothing,
                Semantics::Apptainer => Tolerated::NotValid,
            },
            ..Demands::default()
        },
        examine_all: false,
        now: means.now,
        threads: means.threads,
    };
    let report = verify::native(image, global, &request)?;
    let refusal = match report.failure() {
        Some(failure) => Some(Refusal::Signature(failure.clone())),
        None => decide(&named_signers(image, &report), group),
    };
    Ok(Answer { report, refusal })
}

/// Whom the descriptors of signatures name; for those that hold it is who made them.
#[derive(Default)]
struct Named {
    /// In every object group.
    all: BTreeSet<String>,
    /// In some object group.
    any: BTreeSet<String>,
    /// In some signature that was passed over.
    unverified: BTreeSet<String>,
}

fn named_signers(image: &Image<'_>, report: &Report) -> Named {
    let mut named = Named::default();
    let mut by_subject: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for subject in &report.checked {
        by_subject.entry(*subject).or_default();
    }
    let descriptors: HashMap<_, _> = image.signatures().map(|o| (o.raw_id(), o)).collect();
    for signature in &report.signatures {
        let descriptor = descriptors.get(&signature.object);
        let fingerprint = descriptor.and_then(|object| object.signature_fingerprint());
        let Some(fingerprint) = fingerprint.map(hex::encode) else {
            continue;
        };
        if signature.failure.is_some() {
            named.unverified.insert(fingerprint.clone());
        }
        named.any.insert(fingerprint.clone());
        by_subject
            .entry(signature.subject())
            .or_default()
            .insert(fingerprint);
    }
    let mut sets = by_subject.into_values();
    let first = sets.next().unwrap_or_default();
    named.all = sets.fold(first, |all, of_one| &all & &of_one);
    named
}

fn decide(named: &Named, group: &ExecGroup) -> Option<Refusal> {
    let listed = || {
        let listed = group.fingerprints.iter();
        listed.map(|fingerprint| fingerprint.to_ascii_lowercase())
    };
    let satisfied = |f: String| named.all.contains(&f) && !named.unverified.contains(&f);
    match group.mode() {
        Some(Mode::Whitelist) => (!listed().any(satisfied)).then_some(Refusal::NotByRequired),
        Some(Mode::Whitestrict) => (!listed().all(satisfied)).then_some(Refusal::NotByRequired),
        Some(Mode::Blacklist) => listed()
            .any(|f| named.any.contains(&f))
            .then_some(Refusal::ByForbidden),
        None => Some(Refusal::Mode),
    }
}

fn folded(key: &str) -> String {
    key.to_lowercase()
}

fn once(seen: &mut BTreeSet<String>, name: &str) -> Result<(), Error> {
    match seen.insert(name.to_owned()) {
        true => Ok(()),
        false => Err(Error::Twice(name.to_owned())),
    }
}

fn boolean(name: &str, value: Value) -> Result<bool, Error> {
    value
        .as_bool()
        .ok_or_else(|| wrong(name, "true or false", &value))
}

fn string(name: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(name, "a string", &other)),
    }
}

fn wrong(name: &str, expected: &'static str, found: &Value) -> Error {
    Error::Type {
        name: name.to_owned(),
        expected,
        found: found.type_str(),
    }
}

/// The parser's reason in one line, with the place.
fn position(error: &toml::de::Error, text: &str) -> String {
    let reason = error.message().lines().collect::<Vec<_>>().join(", ");
    let start = error.span().map(|span| span.start);
    match start.and_then(|at| text.get(..at)) {
        Some(before) => {
            let line = before.matches('\n').count().saturating_add(1);
            format!("line {line}: {reason}")
        }
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text.as_bytes())
    }

    fn known(path: &str) -> Result<String, String> {
        match path {
            "/link" => Ok("/data".to_owned()),
            "/data" | "/data/" => Ok("/data".to_owned()),
            other => Err(format!("lstat {other}: no such file or directory")),
        }
    }

    /// Source: the two originals, asked with the same text.
    #[test]
    fn names_are_read_as_the_originals_read_them() {
        for text in [
            "activated = true",
            "Activated = true",
            "ACTIVATED=true\nfoo = 1\n[bar]",
        ] {
            assert!(parse(text).unwrap().activated, "{text}");
        }
        assert_eq!(parse(""), Ok(Config::default()));
        let one = parse("[execgroup]\ntagname = 'x'").unwrap();
        assert_eq!(one.groups.len(), 1);
        assert_eq!(one.groups[0].tag_name, "x");
        let inline = parse("execgroup = [{mode = 'whitelist'}]").unwrap();
        assert_eq!(inline.groups[0].mode(), Some(Mode::Whitelist));
        assert_eq!(
            parse("x = 1\n[[execgroup]]\ny = 2").unwrap().unknown,
            ["execgroup.y", "x"]
        );
        for wrong in [
            "activated = 'true'",
            "activated = 1",
            "activated = true\nactivated = false",
            "activated = true\nActivated = false",
            "execgroup = 1",
            "execgroup = [1]",
            "[[execgroup]]\nkeyfp = 'F3'",
            "[[execgroup]]\nkeyfp = ['F3', 1]",
            "[[execgroup]]\nmode = 1",
            "x",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let told = parse("\n\nactivated = yes").unwrap_err().to_string();
        assert!(told.starts_with("toml: line 3: "), "{told}");
        assert!(Config::parse(b"x = \"\xff\"").is_err());
    }

    #[test]
    fn the_first_problem_of_the_file_is_told() {
        let told = |text: &str| {
            let validated = parse(text).unwrap().validate(known);
            validated.map_err(|error| error.to_string())
        };
        let group = |dir: &str, mode: &str, key: &str| {
            format!("[[execgroup]]\ndirpath = '{dir}'\nmode = '{mode}'\nkeyfp = ['{key}']\n")
        };
        let key = "f34371d0acd5d09eb9bd853a80600a5fa11bbd29";
        assert_eq!(told(&group("/data", "whitelist", key)), Ok(()));
        assert_eq!(told(&group("", "blacklist", &key.to_uppercase())), Ok(()));
        let two = |a: &str, b: &str| group(a, "whitelist", key) + &group(b, "whitelist", key);
        let same = "a specific dirpath can only appear in one execgroup: ";
        assert_eq!(told(&two("/data", "/data")), Err(format!("{same}/data")));
        assert_eq!(told(&two("", "")), Err(same.to_owned()));
        let unclean = "all execgroup dirpath`s should be fully cleaned with symlinks resolved";
        for path in ["/data/", "/link"] {
            assert_eq!(
                told(&group(path, "whitelist", key)),
                Err(unclean.to_owned())
            );
        }
        assert_eq!(
            told(&group("/gone", "bad", "x")),
            Err("lstat /gone: no such file or directory".to_owned())
        );
        let modes = "the mode field can only be either: whitelist, whitestrict, blacklist";
        for mode in ["", "Whitelist", "greylist"] {
            assert_eq!(told(&group("", mode, "x")), Err(modes.to_owned()));
        }
        let digits = "expecting a 40 chars hex fingerprint string";
        for bad in [
            "",
            "x",
            &key[1..],
            &format!("{key} "),
            &format!("{key}0"),
            &"ä".repeat(20),
        ] {
            assert_eq!(
                told(&group("", "whitelist", bad)),
                Err(digits.to_owned()),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_folder_itself_chooses_the_group() {
        let list = "[[execgroup]]\ntagname = 'any'\n[[execgroup]]\ntagname = 'data'\n\
                    dirpath = '/data'\n[[execgroup]]\ntagname = 'root'\ndirpath = '/'";
        let list = parse(list).unwrap();
        let tag = |path: &str| list.group(Path::new(path)).map(|g| g.tag_name.as_str());
        assert_eq!(tag("/data/a.sif"), Some("data"));
        assert_eq!(tag("/data/below/a.sif"), Some("any"));
        assert_eq!(tag("/database/a.sif"), Some("any"));
        assert_eq!(tag("/a.sif"), Some("root"));
        let only = parse("[[execgroup]]\ndirpath = '/data'").unwrap();
        assert_eq!(only.group(Path::new("/data/below/a.sif")), None);
        assert_eq!(only.group(Path::new("/data")), None);
    }

    fn named(all: &[&str], any: &[&str], unverified: &[&str]) -> Named {
        let set = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
        Named {
            all: set(all),
            any: set(any),
            unverified: set(unverified),
        }
    }

    #[test]
    fn who_is_listed_decides() {
        let decided = |mode: &str, listed: &[&str], by: &Named| {
            let group = ExecGroup {
                mode: mode.to_owned(),
                fingerprints: listed.iter().map(ToString::to_string).collect(),
                ..ExecGroup::default()
            };
            decide(by, &group)
        };
        let both = named(&["a"], &["a", "b"], &[]);
        let required = Some(Refusal::NotByRequired);
        let forbidden = Some(Refusal::ByForbidden);
        for (mode, listed, expected) in [
            ("whitelist", &[][..], &required),
            ("whitelist", &["A"], &None),
            ("whitelist", &["b"], &required),
            ("whitelist", &["b", "a"], &None),
            ("whitestrict", &[], &None),
            ("whitestrict", &["A"], &None),
            ("whitestrict", &["a", "b"], &required),
            ("blacklist", &[], &None),
            ("blacklist", &["c"], &None),
            ("blacklist", &["B"], &forbidden),
            ("", &[], &Some(Refusal::Mode)),
        ] {
            assert_eq!(&decided(mode, listed, &both), expected, "{mode} {listed:?}");
        }
        // Who is named by a signature that was passed over satisfies no list.
        let passed = named(&["a", "b"], &["a", "b"], &["b"]);
        assert_eq!(decided("whitelist", &["b"], &passed), required);
        assert_eq!(decided("whitelist", &["b", "a"], &passed), None);
        assert_eq!(decided("whitestrict", &["a", "b"], &passed), required);
        assert_eq!(decided("blacklist", &["b"], &passed), forbidden);
    }
}
