//! EDGE: flags become a request, a request calls the core, the ui renders.

mod attest;
mod completion;
mod ecl;
mod endpoint;
mod go;
mod hint;
mod key;
mod keyserver;
mod later;
mod login;
mod man;
mod oci;
mod passphrase;
mod private_key;
mod program;
mod public_key;
mod pull;
mod push;
mod registry;
mod remote;
mod report;
mod servers;
mod sif;
mod sign;
mod transfer;
mod usage;
mod verify;
mod verify_attestation;

use crate::disk::{keyring, sif_file};
use crate::sif::edit::{self, Method, Patch};
use crate::ui::{self, Level, Ui};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub use usage::command;

use self::later::Later;
use self::program::{Program, called_as};

/// Exit code of every FATAL line.
const FATAL: u8 = 255;

#[derive(Parser)]
#[command(
    name = "sigsif",
    version,
    about = "Sign and verify container images in the SIF format",
    long_about = "Sign and verify container images in the SIF format, as 'singularity sign' and\n\
                  'singularity verify' do, without Singularity or Apptainer.\n\n\
                  Keys and keyrings are those of SingularityCE: ~/.singularity/sypgp.",
    override_usage = "sigsif [global options...] <command>",
    args_override_self = true,
    infer_subcommands = false,
    after_help = "Examples:\n  \
                  $ sigsif key newpair\n  \
                  $ sigsif sign image.sif\n  \
                  $ sigsif verify image.sif\n  \
                  $ sigsif verify --key signer.pub.pem image.sif"
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct GlobalArgs {
    /// print debugging information
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool", hide = false)]
    debug: Option<bool>,
    /// print additional information
    #[arg(short, long)]
    verbose: bool,
    /// suppress informational messages
    #[arg(short, long)]
    quiet: bool,
    /// only print errors
    #[arg(short, long)]
    silent: bool,
    /// print without colour
    #[arg(long)]
    nocolor: bool,
    /// for screen readers: no drawings and colours, one fact per line
    #[arg(long)]
    plain: bool,
    /// the originals' configuration, which says nothing about signatures
    #[arg(short, long, value_name = "file", hide = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    Sign(Later<sign::Args>),
    Verify(Box<Later<verify::Args>>),
    Attest(Later<attest::Args>),
    VerifyAttestation(Later<verify_attestation::Args>),
    Key(Later<key::Args>),
    Remote(Later<remote::Args>),
    Keyserver(Later<keyserver::Args>),
    Registry(Later<registry::Args>),
    Pull(Later<pull::Args>),
    Push(Later<push::Args>),
    Sif(Later<sif::Args>),
    Ecl(Later<ecl::Args>),
    Report(Later<report::Args>),
    Completion(Later<completion::Args>),
    Man(Later<man::Args>),
}

/// Why a command failed, and how that is told.
#[derive(Debug)]
pub(crate) enum Error {
    /// `FATAL:`, exit code 255; `detail` tells more on a line of its own.
    Fatal {
        text: String,
        detail: Option<String>,
    },
    /// `ERROR:` and the exit code of the key group.
    Failed { code: u8, text: String },
    /// A wrong command line, or a failed `sif` command: exit code 1.
    Usage(usage::Error),
    /// Nothing more to print.
    Quiet(u8),
}

impl Error {
    fn fatal(text: impl ToString) -> Self {
        Self::Fatal {
            text: text.to_string(),
            detail: None,
        }
    }
}

/// A sentence with the detail that the core has about it.
struct Cause {
    text: String,
    detail: Option<String>,
}

impl From<sif_file::Error> for Cause {
    fn from(error: sif_file::Error) -> Self {
        Self {
            text: error.to_string(),
            detail: None,
        }
    }
}

impl From<crate::sif::Error> for Cause {
    fn from(error: crate::sif::Error) -> Self {
        Self {
            text: error.to_string(),
            detail: error.detail(),
        }
    }
}

impl From<edit::Error> for Cause {
    fn from(error: edit::Error) -> Self {
        match error {
            edit::Error::Image(error) => error.into(),
            other => Self::plain(other),
        }
    }
}

impl Cause {
    fn plain(text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            detail: None,
        }
    }

    fn fatal(self, prefix: &str) -> Error {
        Error::Fatal {
            text: format!("{prefix}{}", self.text),
            detail: self.detail,
        }
    }
}

/// Runs the program and returns its exit code.
pub fn run(args: Vec<OsString>) -> u8 {
    crate::disk::no_core_file();
    let program = Program::note(args.first());
    ui::draw_tables_of(program.tables());
    match program.answer(&args) {
        Ok(None) => {}
        Ok(Some(answer)) => {
            return print(answer).map_or_else(|error| tell(&default_ui(), error), |()| 0);
        }
        Err(error) => return tell(&default_ui(), error),
    }
    let (args, deprecated) = program.in_new_words(args);
    match usage::parse(&args) {
        Ok(cli) => {
            if cli.global.plain {
                crate::ui::be_plain();
            }
            let level = match level(&cli.global) {
                Ok(level) => level,
                Err(error) => return tell(&default_ui(), error),
            };
            let ui = Ui::new(level, !cli.global.nocolor, plain_environment());
            if let Some(error) = config_flag(&ui, &cli.global) {
                return tell(&ui, error);
            }
            if level == Level::Debug {
                tell_places(&ui, program);
            }
            if let Some(told) = deprecated {
                ui.warning(told);
            }
            program.prepare(&ui);
            match dispatch(&ui, cli.command) {
                Ok(()) => 0,
                Err(error) => tell(&ui, error),
            }
        }
        Err(error) => tell(&default_ui(), error),
    }
}

/// With `--debug`: who answers, and where that name looks. No value of a variable is told, it may be
/// a secret.
fn tell_places(ui: &Ui, program: Program) {
    ui.debug(format_args!(
        "sigsif {}, called as {}",
        env!("CARGO_PKG_VERSION"),
        program.name()
    ));
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| program.knows(name))
        .collect();
    names.sort();
    if !names.is_empty() {
        ui.debug(format_args!("Variables that are set: {}", names.join(", ")));
    }
    for (what, place) in [
        ("User's folder", config_folder()),
        ("Keyring", keyring_folder(None)),
        ("Administrator's folder", system_folder()),
        ("Registry logins", program::docker_file()),
    ] {
        ui.debug(format_args!("{what}: {}", place.display()));
    }
}

/// `--config` is for scripts of the originals; under this program's own name nothing would read it.
fn config_flag(ui: &Ui, args: &GlobalArgs) -> Option<Error> {
    let file = args.config.as_ref()?;
    if called_as() == Program::Sigsif {
        return Some(usage::bad_flags(&[], "unknown flag: --config"));
    }
    ui.verbose(format_args!(
        "'{}' is not read: it says nothing about signatures",
        file.display()
    ));
    None
}

fn dispatch(ui: &Ui, command: Command) -> Result<(), Error> {
    match command {
        Command::Sign(args) => sign::run(ui, args.0),
        Command::Verify(args) => verify::run(ui, args.0),
        Command::Attest(args) => attest::run(ui, &args.0),
        Command::VerifyAttestation(args) => verify_attestation::run(ui, &args.0),
        Command::Key(args) => key::run(ui, args.0),
        Command::Remote(args) => remote::run(ui, args.0),
        Command::Keyserver(args) => keyserver::run(ui, args.0),
        Command::Registry(args) => registry::run(ui, args.0),
        Command::Pull(args) => pull::run(ui, args.0),
        Command::Push(args) => push::run(ui, args.0),
        Command::Sif(args) => sif::run(ui, args.0),
        Command::Ecl(args) => ecl::run(ui, args.0),
        Command::Report(args) => report::run(ui, &args.0),
        Command::Completion(args) => completion::run(&args.0),
        Command::Man(args) => man::run(&args.0),
    }
}

fn tell(ui: &Ui, error: Error) -> u8 {
    match error {
        Error::Fatal { text, detail } => {
            if let Some(detail) = detail.or_else(|| watched_hint(&text)) {
                ui.info(detail);
            }
            ui.fatal(called_as().sentence(text));
            FATAL
        }
        Error::Failed { code, text } => {
            if let Some(hint) = watched_hint(&text) {
                ui.info(hint);
            }
            ui.error(text);
            code
        }
        Error::Usage(error) => error.tell(),
        Error::Quiet(code) => code,
    }
}

/// What to do next, if somebody looks on.
fn watched_hint(sentence: &str) -> Option<String> {
    hint::of(sentence).filter(|_| ui::is_watched())
}

fn default_ui() -> Ui {
    Ui::new(Level::Normal, true, plain_environment())
}

fn plain_environment() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn level(args: &GlobalArgs) -> Result<Level, Error> {
    let debug = switch(args.debug, "debug", "DEBUG")?;
    Ok(if debug {
        Level::Debug
    } else if args.verbose {
        Level::Verbose
    } else if args.quiet {
        Level::Quiet
    } else if args.silent {
        Level::Silent
    } else {
        Level::Normal
    })
}

/// Value of an environment variable that stands for a flag.
///
/// `SIGSIF_NAME` wins over `SINGULARITY_NAME`, called as `apptainer` also over `APPTAINER_NAME`,
/// which wins over the old one; blanks around are cut, and an empty value does not count.
fn env_value(name: &str) -> Option<OsString> {
    let value = called_as().variable(name)?;
    let trimmed = match value.to_str() {
        Some(text) => OsString::from(text.trim()),
        None => value,
    };
    (!trimmed.is_empty()).then_some(trimmed)
}

/// A switch from the command line, else from the environment, else off.
fn switch(flag: Option<bool>, flag_name: &str, env_name: &str) -> Result<bool, Error> {
    if let Some(value) = flag {
        return Ok(value);
    }
    let Some(value) = env_value(env_name) else {
        return Ok(false);
    };
    let value = value.to_string_lossy();
    go::bool(&value).map_err(|reason| {
        Error::fatal(format!(
            "While parsing environment variables: while updating flags from environment: \n\
             unable to set flag {flag_name} to value {value}: {reason}"
        ))
    })
}

/// Folder with the user's configuration.
fn config_folder() -> PathBuf {
    env_value("CONFIGDIR").map_or_else(|| program::home().join(called_as().folder()), PathBuf::from)
}

/// Folder of the user's keyring.
fn keyring_folder(flag: Option<PathBuf>) -> PathBuf {
    flag.filter(|folder| !folder.as_os_str().is_empty())
        .or_else(|| {
            let named = called_as().variable_named("KEYSDIR", "SYPGPDIR");
            named.map(PathBuf::from)
        })
        .unwrap_or_else(|| config_folder().join(called_as().keys()))
}

/// The keyring of all users.
fn global_keyring() -> keyring::GlobalKeyring {
    keyring::GlobalKeyring::new(&system_folder())
}

/// The administrator's folder: that of packages, else that of source builds.
fn system_folder() -> PathBuf {
    std::env::var_os("SIGSIF_SYSCONFDIR")
        .map(PathBuf::from)
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| {
            let [packages, sources] = called_as().system_folders().map(PathBuf::from);
            match !packages.is_dir() && sources.is_dir() {
                true => sources,
                false => packages,
            }
        })
}

/// Seconds since 1970 by the clock of the machine.
fn wall_clock() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|time| i64::try_from(time.as_secs()).ok())
        .unwrap_or_default()
}

/// Time that is written into files: `SOURCE_DATE_EPOCH`, else the clock.
fn signing_time() -> Result<i64, Error> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(wall_clock());
    };
    let seconds = value.to_str().and_then(|text| text.parse::<i64>().ok());
    // OpenPGP times are 32-bit numbers.
    seconds
        .filter(|seconds| u32::try_from(*seconds).is_ok())
        .ok_or_else(|| {
            Error::fatal(format!(
                "SOURCE_DATE_EPOCH is '{}', must be seconds since 1970 below 4294967296",
                value.to_string_lossy()
            ))
        })
}

/// Opens an image that another process may be changing at this moment.
///
/// `work` gets the file and its parsed image; it runs once.
fn with_image<T>(
    path: &std::path::Path,
    access: sif_file::Access,
    work: impl FnOnce(&sif_file::SifFile, &crate::sif::Image<'_>) -> T,
) -> Result<T, Cause> {
    // A writer is past its commit long before that many looks.
    const LOOKS: u32 = 200;
    let mut looks = 0;
    loop {
        let file = sif_file::SifFile::open(path, access)?;
        let image = file.image();
        let torn = match &image {
            Ok(image) => !image.is_current() || (!image.faults().is_empty() && file.was_resized()),
            Err(_) => file.was_resized(),
        };
        if torn && looks < LOOKS {
            looks += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
            continue;
        }
        return Ok(work(&file, &image?));
    }
}

/// Opens an image to change it. If another program does, waits and says so.
fn lock(ui: &Ui, path: &std::path::Path, no_wait: bool) -> Result<sif_file::SifFile, Cause> {
    let mut tell = waiting(ui, path);
    let wait = match no_wait {
        true => sif_file::Wait::No,
        false => sif_file::Wait::Telling(&mut tell),
    };
    Ok(sif_file::SifFile::lock(path, wait)?)
}

/// Says that the program waits for another one.
fn waiting(ui: &Ui, path: &std::path::Path) -> impl FnMut() {
    let text = format!(
        "Another program is changing '{}', waiting for it",
        path.display()
    );
    let ui = *ui;
    move || ui.info(&text)
}

/// Carries out a planned change and tells what is unusual about it.
fn apply(
    ui: &Ui,
    path: &std::path::Path,
    file: sif_file::SifFile,
    patch: &Patch,
) -> Result<(), Cause> {
    let total = match &patch.method {
        Method::InPlace(_) => 0,
        Method::Rewrite(new) => new.len,
    };
    let notes = {
        let mut progress = ui.progress("Writing anew", Some(total));
        file.apply(patch, &mut |bytes| progress.add(bytes))?
    };
    if let Some(capacity) = patch.new_capacity() {
        ui.info(format_args!(
            "'{}' was written anew: its table of descriptors has {capacity} slots now",
            path.display()
        ));
    }
    for note in notes {
        ui.warning(format_args!("{}: {note}", path.display()));
    }
    Ok(())
}

/// Threads for hashing: one per core that this process may use.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Writes a result; a reader that went away ends the command quietly.
fn print(text: impl AsRef<[u8]>) -> Result<(), Error> {
    ui::result(text.as_ref()).map_err(|error| {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Error::Quiet(FATAL)
        } else {
            Error::fatal(format!(
                "write /dev/stdout: {}",
                crate::disk::errno_text(&error)
            ))
        }
    })
}
