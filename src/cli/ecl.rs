//! `ecl`: the execution control list, and what it says about an image.

use super::sign::parse_keyring;
use super::{Cause, Error, usage};
use crate::disk::files::{self, MAX_KEYRING};
use crate::disk::sif_file::Access;
use crate::disk::{errno_text, trusted};
use crate::ecl::{self, Config, ExecGroup, MAX_LEN, Means, Semantics};
use crate::key::pgp::{Keyring, Selector};
use crate::report::Origin;
use crate::ui::{Ui, one_line, text};
use crate::verify::KeyMaterial;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Check images against the execution control list
///
/// The list, ecl.toml in the administrator's folder, says whose signatures an
/// image must have, or must not have, to be run from a folder.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif ecl <command>",
    after_help = "Examples:\n  \
                  $ sigsif ecl check /data/image.sif\n  \
                  $ sigsif ecl validate new-ecl.toml\n  \
                  $ sigsif ecl show"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(CheckArgs),
    Validate(ValidateArgs),
    Show(ShowArgs),
}

/// Tell whether the list lets an image run
///
/// The exit code is 0 if it does. Only keys of the global keyring count.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif ecl check [options] <image path>",
    after_help = "Examples:\n  \
                  $ sigsif ecl check image.sif\n  \
                  $ sigsif ecl check --semantics apptainer image.sif"
)]
struct CheckArgs {
    #[command(flatten)]
    file: FileArgs,
    /// keyring to verify with, instead of that of all users
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    keyring: Option<PathBuf>,
    /// path of the image
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

/// Check a list as the originals do when an image is run
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif ecl validate [options] [file]",
    after_help = "Examples:\n  \
                  $ sigsif ecl validate\n  \
                  $ sigsif ecl validate ecl.toml"
)]
struct ValidateArgs {
    #[command(flatten)]
    rules: RuleArgs,
    /// path of the list
    #[arg(value_name = "file")]
    file: Vec<OsString>,
}

/// Print the list, and which of its keys are known
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif ecl show [options]",
    after_help = "Examples:\n  \
                  $ sigsif ecl show\n  \
                  $ sigsif ecl show --config /etc/singularity/ecl.toml"
)]
struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// keyring to look the keys up in, instead of that of all users
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    keyring: Option<PathBuf>,
    #[arg(hide = true)]
    none: Vec<OsString>,
}

/// Which list, and by which rules.
#[derive(clap::Args)]
struct FileArgs {
    /// path of the list
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
}

#[derive(clap::Args)]
struct RuleArgs {
    /// whose rules: singularity or apptainer
    #[arg(long, value_name = "string", value_parser = semantics, default_value = "singularity", hide_default_value = true, allow_hyphen_values = true)]
    semantics: Semantics,
    /// as an installation with set-uid does: the list must belong to root
    #[arg(long)]
    strict_file: bool,
}

fn semantics(text: &str) -> Result<Semantics, String> {
    match text {
        "singularity" => Ok(Semantics::Singularity),
        "apptainer" => Ok(Semantics::Apptainer),
        _ => Err("must be singularity or apptainer".to_owned()),
    }
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    match args.command {
        Command::Check(args) => check(ui, args),
        Command::Validate(args) => validate(ui, args),
        Command::Show(args) => show(ui, args),
    }
}

fn default_file() -> PathBuf {
    super::system_folder().join("ecl.toml")
}

/// Why there is no list.
enum NoList {
    /// The file is missing or cannot be read.
    Unreadable(String),
    /// It is not what a list looks like.
    Malformed(String),
    /// Others may have written it.
    Untrusted(String),
}

/// Reads and parses; see spec/cli.md 8.2.
fn load(path: &Path, rules: &RuleArgs) -> Result<Config, NoList> {
    let (shown, apptainer) = (path.display(), rules.semantics == Semantics::Apptainer);
    let file = trusted::read(path, MAX_LEN, apptainer);
    let file = file.map_err(|error| match (apptainer, rules.strict_file) {
        (true, true) => NoList::Untrusted(format!("{shown} must be owned by root")),
        _ => NoList::Unreadable(format!("open {shown}: {}", errno_text(&error))),
    })?;
    if rules.strict_file {
        let fault = match file.owner {
            0 if apptainer => None,
            0 if !file.regular => Some("must be a regular file"),
            0 if file.open_to_others => Some("must not be writable by group or other"),
            0 => None,
            _ if apptainer => Some("must be owned by root"),
            _ => Some("must be owned by uid 0"),
        };
        if let Some(fault) = fault {
            return Err(NoList::Untrusted(format!("{shown} {fault}")));
        }
    }
    let parsed = Config::parse(&file.bytes);
    parsed.map_err(|e| NoList::Malformed(format!("while loading ECL configuration: {e}")))
}

impl NoList {
    fn fatal(self) -> Error {
        let (Self::Unreadable(text) | Self::Malformed(text) | Self::Untrusted(text)) = self;
        Error::fatal(one_line(&text))
    }
}

fn require_valid(config: &Config) -> Result<(), Error> {
    let resolve = |path: &str| {
        let resolved = trusted::resolve(Path::new(path))?;
        // No group can be of a folder whose name is not text.
        let resolved = resolved.into_os_string().into_string();
        Ok(resolved.unwrap_or_default())
    };
    config.validate(resolve).map_err(|error| {
        let text = format!("while validating ECL configuration: {error}");
        Error::fatal(one_line(&text))
    })
}

fn tell_unknown(ui: &Ui, path: &Path, config: &Config) {
    for name in &config.unknown {
        ui.warning(format_args!(
            "{}: {} is no name of an execution control list and has no effect",
            path.display(),
            one_line(name)
        ));
    }
}

fn check(ui: &Ui, args: CheckArgs) -> Result<(), Error> {
    usage::exactly(&["ecl", "check"], 1, &args.image)?;
    let image = PathBuf::from(args.image.into_iter().next().unwrap_or_default());
    let file = args.file.config.unwrap_or_else(default_file);
    let semantics = args.file.rules.semantics;
    let config = match load(&file, &args.file.rules) {
        Ok(config) => config,
        // Apptainer runs whatever it cannot check.
        Err(NoList::Unreadable(text) | NoList::Malformed(text))
            if semantics == Semantics::Apptainer =>
        {
            ui.warning(format_args!(
                "{}; Apptainer checks nothing then",
                one_line(&text)
            ));
            return super::print("Verdict:    allowed, there is no list\n");
        }
        Err(error) => return Err(error.fatal()),
    };
    tell_unknown(ui, &file, &config);
    require_valid(&config)?;
    if !config.activated {
        return super::print("Verdict:    allowed, the list is not activated\n");
    }
    let keyring = global_keyring(ui, args.keyring)
        .map_err(|text| Error::fatal(format!("while obtaining keyring for ECL: {text}")))?;
    let fail = |cause: Cause| cause.fatal("while checking container image with ECL: ");
    let resolved = trusted::resolve(&image).map_err(|text| fail(Cause::plain(text)))?;
    let no_group = || ecl::Refusal::NoGroup(resolved.display().to_string());
    let group = config
        .group(&resolved)
        .ok_or_else(|| fail(Cause::plain(one_line(&no_group().to_string()))))?;
    let material = KeyMaterial::of_keyrings(vec![(Origin::Global, keyring)]);
    let means = Means {
        now: u64::try_from(super::wall_clock()).unwrap_or_default(),
        threads: super::threads(),
    };
    let judged = super::with_image(&resolved, Access::Read, |_, image| {
        ecl::check(image, &material, &config, group, semantics, means)
    });
    let answer = judged
        .map_err(fail)?
        .map_err(|error| fail(Cause::plain(error)))?;
    let mut printed = about_group(group);
    for signature in &answer.report.signatures {
        printed.push_str(&text::signature(signature, ui.color_tags()));
    }
    printed.push_str(match answer.refusal {
        None => "Verdict:    allowed\n",
        Some(_) => "Verdict:    refused\n",
    });
    match super::print(printed) {
        // The verdict counts even if nobody reads it.
        Ok(()) | Err(Error::Quiet(_)) => {}
        Err(error) => return Err(error),
    }
    if answer.is_blind() {
        ui.warning("Apptainer runs this image although no signature of it was verified");
    }
    match answer.refusal {
        None => Ok(()),
        Some(refusal) => Err(fail(Cause::plain(one_line(&refusal.to_string())))),
    }
}

fn global_keyring(ui: &Ui, file: Option<PathBuf>) -> Result<Keyring, String> {
    let global = super::global_keyring();
    let (bytes, path) = match &file {
        Some(path) => {
            let bytes = files::read(path, MAX_KEYRING);
            let bytes = bytes.map_err(|e| format!("open {}: {}", path.display(), errno_text(&e)));
            (bytes?, path.as_path())
        }
        None => (global.read().map_err(|e| e.to_string())?, global.file()),
    };
    parse_keyring(ui, &bytes, path).map_err(|error| error.to_string())
}

fn about_group(group: &ExecGroup) -> String {
    let folder = match group.dir_path.as_str() {
        "" => "any that no other group has",
        folder => folder,
    };
    format!(
        "Execgroup:  {}\nMode:       {}\nDirectory:  {}\n",
        one_line(&group.tag_name),
        one_line(&group.mode),
        one_line(folder)
    )
}

fn validate(ui: &Ui, args: ValidateArgs) -> Result<(), Error> {
    usage::between(&["ecl", "validate"], (0, 1), &args.file)?;
    let named = args.file.into_iter().next().map(PathBuf::from);
    let file = named.unwrap_or_else(default_file);
    let config = load(&file, &args.rules).map_err(NoList::fatal)?;
    tell_unknown(ui, &file, &config);
    require_valid(&config)?;
    ui.info(format_args!(
        "{} is valid: {}, {} execgroup{}",
        file.display(),
        if config.activated {
            "activated"
        } else {
            "not activated"
        },
        config.groups.len(),
        if config.groups.len() == 1 { "" } else { "s" },
    ));
    Ok(())
}

fn show(ui: &Ui, args: ShowArgs) -> Result<(), Error> {
    usage::exactly(&["ecl", "show"], 0, &args.none)?;
    let file = args.file.config.unwrap_or_else(default_file);
    let config = load(&file, &args.file.rules).map_err(NoList::fatal)?;
    tell_unknown(ui, &file, &config);
    let keyring = global_keyring(ui, args.keyring)
        .map_err(|text| Error::fatal(format!("while obtaining keyring for ECL: {text}")))?;
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    let mut printed = format!(
        "File:       {}\nActivated:  {}\nLegacy:     {}\n",
        one_line(&file.to_string_lossy()),
        yes_no(config.activated),
        yes_no(config.legacy_insecure)
    );
    for group in &config.groups {
        printed.push('\n');
        printed.push_str(&about_group(group));
        for fingerprint in &group.fingerprints {
            let found = Selector::new(fingerprint).find(keyring.entities());
            let user = match &found {
                Ok((_, entity)) => entity.primary_user_id().map_or("no user id", |id| &id.raw),
                Err(_) => "not in the global keyring",
            };
            let key = one_line(&fingerprint.to_uppercase());
            printed.push_str(&format!("Key:        {key}  {}\n", one_line(user)));
        }
    }
    super::print(printed)?;
    // The list is shown as it is; whether it is in order is told after it.
    require_valid(&config)
}
