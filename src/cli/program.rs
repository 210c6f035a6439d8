//! Which program this one is called as: a link with the name of an original takes its habits.

use super::Error;
use crate::disk::config;
use crate::remote::config::Config;
use crate::remote::endpoint::{APPTAINER_KEYSERVER, BUILT_IN_KEYSERVER};
use crate::ui::{Tables, Ui};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The name by which the program was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Program {
    /// Its own.
    #[default]
    Sigsif,
    /// `singularity`: SingularityCE.
    Singularity,
    /// `apptainer`.
    Apptainer,
}

static CALLED_AS: OnceLock<Program> = OnceLock::new();

/// How this process was called.
pub(super) fn called_as() -> Program {
    CALLED_AS.get().copied().unwrap_or_default()
}

/// Commands of the originals that are about running and building, which is not done here.
const NOT_HERE: &[&str] = &[
    "build",
    "cache",
    "capability",
    "checkpoint",
    "config",
    "data",
    "delete",
    "exec",
    "inspect",
    "instance",
    "oci",
    "overlay",
    "plugin",
    "run",
    "run-help",
    "search",
    "shell",
    "test",
];

impl Program {
    /// Notes how the process was called.
    pub(super) fn note(called: Option<&OsString>) -> Self {
        let name = called.map(Path::new).and_then(Path::file_name);
        let this = match name.and_then(|name| name.to_str()) {
            Some("singularity") => Self::Singularity,
            Some("apptainer") => Self::Apptainer,
            _ => Self::Sigsif,
        };
        *CALLED_AS.get_or_init(|| this)
    }

    /// What usage texts call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sigsif => "sigsif",
            Self::Singularity => "singularity",
            Self::Apptainer => "apptainer",
        }
    }

    /// The version that scripts look for: that of the original whose habits these are. What stands
    /// behind the plus sign, which counts for nothing in an order of versions, is the truth.
    fn version(self) -> Option<&'static str> {
        match self {
            Self::Sigsif => None,
            Self::Singularity => Some(concat!("4.5.1+sigsif.", env!("CARGO_PKG_VERSION"))),
            Self::Apptainer => Some(concat!("1.4.5+sigsif.", env!("CARGO_PKG_VERSION"))),
        }
    }

    /// Answers what only the originals have: `version`, and commands that are not here.
    ///
    /// # Errors
    /// That the command is not here.
    pub(super) fn answer(self, args: &[OsString]) -> Result<Option<String>, Error> {
        let Some(version) = self.version() else {
            return Ok(None);
        };
        let mut words = words_and_version(args);
        let first = match words.next() {
            // What the help of such a command would say is said of the command itself.
            Some("help") => words.next().filter(|word| NOT_HERE.contains(word)),
            first => first,
        };
        match first {
            Some("--version") => Ok(Some(match self {
                Self::Singularity => format!("singularity-ce version {version}\n"),
                _ => format!("{} version {version}\n", self.name()),
            })),
            Some("version") => Ok(Some(format!("{version}\n"))),
            Some(word) if NOT_HERE.contains(&word) => Err(Error::Fatal {
                text: format!(
                    "'{} {word}' is not done by this program: it is sigsif, which signs and \
                     verifies images",
                    self.name()
                ),
                detail: Some(format!(
                    "Install {} itself in front of this link in PATH",
                    match self {
                        Self::Apptainer => "Apptainer",
                        _ => "SingularityCE",
                    }
                )),
            }),
            _ => Ok(None),
        }
    }

    /// Command lines that Apptainer still takes, in the words that took their place, and what it
    /// says then.
    pub(super) fn in_new_words(self, mut args: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
        let is_flag = |word: &OsString| word.to_str().is_none_or(|word| word.starts_with('-'));
        let at = args.iter().skip(1).position(|word| !is_flag(word));
        let words = at.and_then(|at| args.get_mut(at.saturating_add(1)..));
        let (Self::Apptainer, Some([first, second, ..])) = (self, words) else {
            return (args, None);
        };
        let new = match (first.to_str(), second.to_str()) {
            (Some("remote"), Some("add-keyserver")) => "add",
            (Some("remote"), Some("remove-keyserver")) => "remove",
            _ => return (args, None),
        };
        *first = OsString::from("keyserver");
        *second = OsString::from(new);
        let told = format!(
            "'remote {new}-keyserver' is deprecated and will be removed in a future release; \
             running 'keyserver {new}'"
        );
        (args, Some(told))
    }

    /// In front of the names of variables; the first that is set counts.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Sigsif | Self::Singularity => &["SIGSIF_", "SINGULARITY_"],
            Self::Apptainer => &["SIGSIF_", "APPTAINER_", "SINGULARITY_"],
        }
    }

    /// Whether a variable is one of this name's.
    pub(super) fn knows(self, name: &str) -> bool {
        self.prefixes()
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    /// The value of a variable, by whichever of its names. An empty value does not count.
    pub(super) fn variable(self, name: &str) -> Option<OsString> {
        self.variable_named(name, name)
    }

    /// As [`Program::variable`], with another name behind the old prefix.
    pub(super) fn variable_named(self, name: &str, old: &str) -> Option<OsString> {
        let value = |prefix: &str| {
            let name = if prefix == "SINGULARITY_" { old } else { name };
            std::env::var_os(format!("{prefix}{name}")).filter(|value| !value.is_empty())
        };
        if self == Self::Apptainer {
            tell_prefix(
                name,
                old,
                value("APPTAINER_").as_ref(),
                value("SINGULARITY_").as_ref(),
            );
        }
        self.prefixes().iter().find_map(|prefix| value(prefix))
    }

    /// The user's configuration below their home.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Apptainer => ".apptainer",
            _ => ".singularity",
        }
    }

    /// The keyring below the configuration.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Self::Apptainer => "keys",
            _ => "sypgp",
        }
    }

    /// The administrator's folders: that of packages, that of source builds.
    pub(super) fn system_folders(self) -> [&'static str; 2] {
        match self {
            Self::Apptainer => ["/etc/apptainer", "/usr/local/etc/apptainer"],
            _ => ["/etc/singularity", "/usr/local/etc/singularity"],
        }
    }

    /// What the variable for the file with registry logins is called behind its prefix.
    pub(super) fn authfile(self) -> &'static str {
        match self {
            Self::Apptainer => "AUTH_FILE",
            _ => "AUTHFILE",
        }
    }

    /// Whose tables are drawn.
    pub(super) fn tables(self) -> Tables {
        match self {
            Self::Sigsif => Tables::Own,
            Self::Singularity => Tables::Singularity,
            Self::Apptainer => Tables::Apptainer,
        }
    }

    /// The endpoint that is there without any file.
    pub(super) fn built_in(self) -> Config {
        match self {
            Self::Apptainer => Config::built_in_apptainer(),
            _ => Config::built_in(),
        }
    }

    /// The key server where no endpoint names one.
    pub(super) fn built_in_keyserver(self) -> &'static str {
        match self {
            Self::Apptainer => APPTAINER_KEYSERVER,
            _ => BUILT_IN_KEYSERVER,
        }
    }

    /// A sentence that ends the program, in the capitals of the original.
    pub(super) fn sentence(self, text: String) -> String {
        let capital = ["failed to ", "error while "];
        match self == Self::Apptainer && capital.iter().any(|start| text.starts_with(start)) {
            true => {
                let mut chars = text.chars();
                let first = chars.next().map(|c| c.to_ascii_uppercase());
                first.into_iter().chain(chars).collect()
            }
            false => text,
        }
    }

    /// What the originals do before every command: the user's folder exists and is closed to
    /// others. Apptainer takes over what SingularityCE has left.
    pub(super) fn prepare(self, ui: &Ui) {
        if self == Self::Sigsif {
            return;
        }
        let folder = super::config_folder();
        let is_new = self == Self::Apptainer && !folder.exists();
        for warning in config::prepare(&folder) {
            ui.warning(warning);
        }
        let own_place = [
            "APPTAINER_CONFIGDIR",
            "SINGULARITY_CONFIGDIR",
            "SIGSIF_CONFIGDIR",
        ];
        if is_new
            && own_place
                .iter()
                .all(|name| std::env::var_os(name).is_none())
        {
            let old = folder.with_file_name(Self::Singularity.folder());
            for told in config::take_over(&old, &folder) {
                match told {
                    Ok(text) => ui.info(text),
                    Err(text) => ui.warning(text),
                }
            }
        }
    }
}

/// The words of a command line without its global flags and their values, but for `--version`.
fn words_and_version(args: &[OsString]) -> impl Iterator<Item = &str> {
    let mut is_value = false;
    args.iter().skip(1).filter_map(move |word| {
        // A path need not be UTF-8; it is a value all the same.
        let word = word.to_str().unwrap_or_default();
        if std::mem::take(&mut is_value) {
            return None;
        }
        // In a cluster of short flags `-c` takes what stands behind it, or else the next word.
        is_value = word == "--config"
            || word.strip_prefix('-').is_some_and(|short| {
                !short.starts_with('-') && short.find('c').is_some_and(|at| short.len() == at + 1)
            });
        (!word.starts_with('-') || word == "--version").then_some(word)
    })
}

/// What Apptainer says of variables with the old prefix, once for each.
fn tell_prefix(name: &str, old: &str, new_value: Option<&OsString>, old_value: Option<&OsString>) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let (old, new) = (format!("SINGULARITY_{old}"), format!("APPTAINER_{name}"));
    let ui = super::default_ui();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    match (new_value, old_value) {
        (None, Some(_)) if told.insert(old.clone()) => ui.info(format_args!(
            "Environment variable {old} is set, but {new} is preferred"
        )),
        (Some(value), Some(other)) if value != other && told.insert(old.clone()) => {
            ui.warning(format_args!(
                "{old} and {new} have different values, using the latter"
            ));
        }
        _ => {}
    }
}

/// A command line of this program, by the name that the user knows.
pub(super) fn call(words: &str) -> String {
    format!("{} {words}", called_as().name())
}

/// The file with registry logins.
///
/// Apptainer takes Docker's own where it has none itself.
pub(super) fn docker_file() -> PathBuf {
    let folder = super::config_folder();
    let own = folder.join(config::DOCKER_FILE);
    if called_as() != Program::Apptainer || own.exists() {
        return own;
    }
    match super::env_value("CONFIGDIR") {
        Some(_) => folder.join("config.json"),
        None => home().join(".docker/config.json"),
    }
}

/// The path at which a file with logins is opened: links are followed but for the file of our own,
/// for Docker's often is one.
pub(super) fn followed(file: &Path) -> PathBuf {
    if file == super::config_folder().join(config::DOCKER_FILE) {
        return file.to_owned();
    }
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

/// The user's home.
pub(super) fn home() -> PathBuf {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    home.unwrap_or_else(|| PathBuf::from("/"))
}
