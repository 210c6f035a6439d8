//! `sign`: add signatures to an image.

mod cosign;

use super::passphrase::{self, Source};
use super::program::{Program, call, called_as};
use super::transfer::RegistryArgs;
use super::{Cause, Error, go, private_key, usage};
use crate::disk::keyring::{KeyringFolder, Purpose, Which};
use crate::disk::sif_file::Access;
use crate::disk::{errno_text, keyring};
use crate::key;
use crate::key::pgp::{Entity, Keyring, SecretState, Selector, SigningKey};
use crate::scope::{Legacy, Selection};
use crate::sign::{self, NativeSigner};
use crate::ui::prompt::{Console, Prompt, Stream};
use crate::ui::{self, Ui, text};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const FAILED: &str = "failed to sign container: ";

/// Add digital signature(s) to an image
///
/// Adds one signature per object group of the image, or only for what
/// --group-id and --sif-id name. Without --key the OpenPGP key comes from the
/// local keyring. Nothing is written before every signature is made, and the
/// image is whole at every moment.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sign [options] <image path>",
    after_help = "Examples:\n  \
                  $ sigsif sign image.sif\n  \
                  $ sigsif sign --keyidx 1 image.sif\n  \
                  $ sigsif sign --key private.pem image.sif\n  \
                  $ sigsif sign --cosign --key release.key image.oci.sif"
)]
pub(super) struct Args {
    /// sign objects with the specified group ID
    #[arg(short, long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    group_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    groupid: Option<u32>,
    /// sign object with the specified ID
    #[arg(short = 'i', long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    sif_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    id: Option<u32>,
    #[arg(short, long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    all: Option<bool>,
    /// path to the private key file (PEM)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Option<PathBuf>,
    /// PGP private key to use (index from 'key list --secret')
    #[arg(short, long, value_name = "int", value_parser = go::int, allow_hyphen_values = true)]
    keyidx: Option<i64>,
    /// PGP private key to use (fingerprint, or key id of 16 or 8 digits)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    fingerprint: Option<String>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    cosign: cosign::CosignArgs,
    #[command(flatten)]
    passphrase: Source,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// path of the image; with --cosign also docker://REFERENCE
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    usage::exactly(&["sign"], 1, &args.image)?;
    let path = PathBuf::from(args.image.first().cloned().unwrap_or_default());
    tell_deprecated(args.groupid, "groupid", "use '--group-id'");
    tell_deprecated(args.id, "id", "use '--sif-id'");
    tell_deprecated(args.all, "all", "now the default behavior");
    let key = args
        .key
        .clone()
        .or_else(|| super::env_value("SIGN_KEY").map(PathBuf::from));
    if args.fingerprint.is_some() && (args.keyidx.is_some() || key.is_some()) {
        let other = if key.is_some() { "--key" } else { "--keyidx" };
        let text = format!("--fingerprint and {other} cannot be used together");
        return Err(usage::bad_flags(&["sign"], &text));
    }
    if args.cosign.cosign {
        return cosign::run(ui, &args, key.as_deref(), &path);
    }
    args.cosign.require_none()?;
    if path
        .to_str()
        .is_some_and(|path| path.starts_with(super::transfer::SCHEME))
    {
        return Err(Error::Fatal {
            text: "an image in a registry has no signatures of SIF".to_owned(),
            detail: Some("--cosign --key FILE signs it in the manner of cosign".to_owned()),
        });
    }
    if args.registry.is_given() {
        ui.warning("Flags about registries have no effect: the image is a file");
    }
    match &key {
        Some(key) => ui.info(format_args!(
            "Signing image with key material from '{}'",
            key.display()
        )),
        None => ui.info("Signing image with PGP key material"),
    }
    let selection = Selection {
        groups: args.groupid.or(args.group_id).into_iter().collect(),
        objects: args.id.or(args.sif_id).into_iter().collect(),
        legacy: Legacy::No,
    };
    let now = super::signing_time()?;
    // Faults of the file come before questions about keys.
    require_signable(&path, &selection).map_err(|cause| cause.fatal(FAILED))?;
    let mut prompt = Console;
    match key {
        Some(key) => {
            let key = private_key::load(&key, &args.passphrase, &mut prompt)?
        .key;
            sign(ui, &path, args.no_wait, &NativeSigner::Dsse(&[&key]), &selection, now)
        }
        None => {
            let key = choose_pgp_key(ui, &args, &mut prompt)?;
            if now > super::wall_clock() {
                ui.warning("SOURCE_DATE_EPOCH lies in the future: verifiers refuse the signature until then");
            }
            let signer = NativeSigner::Pgp {
                key: &key,
                // Who fixes the time wants the same bytes every time.
                salt: std::env::var_os("SOURCE_DATE_EPOCH").is_none(),
            };
            sign(ui, &path, args.no_wait, &signer, &selection, now)
        }
    }
    .map_err(|cause| cause.fatal(FAILED))?;
    ui.info(format_args!(
        "Signature created and applied to image '{}'",
        path.display()
    ));
    Ok(())
}

pub(super) fn tell_deprecated<T>(flag: Option<T>, name: &str, hint: &str) {
    if flag.is_some() {
        let text = format!("Flag --{name} has been deprecated, {hint}");
        match called_as() {
            Program::Apptainer => super::default_ui().warning(text),
            _ => ui::note(text),
        }
    }
}

fn require_signable(path: &Path, selection: &Selection) -> Result<(), Cause> {
    super::with_image(path, Access::Write, |_, image| {
        sign::plan(image, selection).map_err(cause)?;
        Ok(image.still_there()?)
    })?
}

fn sign(
    ui: &Ui,
    path: &Path,
    no_wait: bool,
    signer: &NativeSigner<'_>,
    selection: &Selection,
    now: i64,
) -> Result<(), Cause> {
    let file = super::lock(ui, path, no_wait)?;
    let patch = {
        let image = file.image()?;
        sign::native(&image, signer, selection, now, super::threads()).map_err(cause)?
    };
    super::apply(ui, path, file, &patch)
}

fn cause(error: sign::Error) -> Cause {
    let detail = match &error {
        sign::Error::Image(error) => error.detail(),
        _ => None,
    };
    Cause {
        text: error.to_string(),
        detail,
    }
}

fn choose_pgp_key(ui: &Ui, args: &Args, prompt: &mut dyn Prompt) -> Result<SigningKey, Error> {
    let fail = passphrase::fatal(FAILED);
    let folder = super::keyring_folder(args.keysdir.clone());
    let keyring = load_secret_keyring(ui, &folder).map_err(|text| fail(text.to_string()))?;
    if keyring.entities().is_empty() && args.keyidx.is_none() {
        let cause = Cause {
            text: "keyring is empty".to_owned(),
            detail: Some(format!(
                "{} holds no key: make one with '{}', or add one with '{}'",
                folder.join("pgp-secret").display(),
                call("key newpair"),
                call("key import")
            )),
        };
        return Err(cause.fatal(FAILED));
    }
    let entity = match &args.fingerprint {
        Some(text) => Selector::new(text)
            .find(keyring.entities())
            .map(|(_, entity)| entity)
            .map_err(|error| fail(error.to_string()))?,
        None => choose(keyring.entities(), args.keyidx, prompt).map_err(&fail)?,
    };
    let now = u64::try_from(super::wall_clock()).unwrap_or_default();
    entity.usable_for_signing(now).map_err(|reason| {
        fail(format!(
            "no verifier would accept a signature by key {}: {reason}",
            entity.fingerprint()
        ))
    })?;
    let passphrase = match entity.secret_state() {
        SecretState::Encrypted => Some(match args.passphrase.given().map_err(&fail)? {
            Some(given) => given,
            None => {
                passphrase::ask(prompt, "Enter key passphrase : ", Stream::Stdout).map_err(&fail)?
            }
        }),
        _ => None,
    };
    entity
        .unlock(passphrase.as_ref().map(|p| p.as_slice()))
        .map_err(|error| unlock_cause(&error, passphrase.is_some()).fatal(FAILED))
}

/// A failed unlock, with what the sentence of the originals does not tell.
fn unlock_cause(error: &key::pgp::Error, with_passphrase: bool) -> Cause {
    let wrong = with_passphrase && matches!(error, key::pgp::Error::Checksum);
    Cause {
        text: error.to_string(),
        detail: wrong.then(|| "The passphrase is wrong".to_owned()),
    }
}

/// Why a keyring cannot be loaded, with a hint for a frequent mistake.
pub(super) enum KeyringError {
    Folder(keyring::Error),
    Content(crate::key::pgp::Error),
}

impl std::fmt::Display for KeyringError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(error) => error.fmt(f),
            Self::Content(error) => error.fmt(f),
        }
    }
}

fn load_secret_keyring(ui: &Ui, folder: &Path) -> Result<Keyring, KeyringError> {
    let mut warnings = Vec::new();
    let opened = KeyringFolder::open(folder, Purpose::Write, &mut warnings);
    for warning in warnings {
        ui.warning(warning);
    }
    let opened = opened.map_err(KeyringError::Folder)?;
    let bytes = opened.read(Which::Secret).map_err(KeyringError::Folder)?;
    parse_keyring(ui, &bytes, &opened.file(Which::Secret))
}

/// Parses a keyring file and tells what in it cannot be used.
pub(super) fn parse_keyring(ui: &Ui, bytes: &[u8], file: &Path) -> Result<Keyring, KeyringError> {
    let keyring = Keyring::parse(bytes).map_err(|error| {
        if bytes.starts_with(b"-----BEGIN PGP") {
            ui.info(format_args!(
                "{} holds armored text; move it away and use '{}' on it",
                file.display(),
                call("key import")
            ));
        }
        KeyringError::Content(error)
    })?;
    for reason in keyring.skipped() {
        ui.verbose(format_args!("{}: key skipped: {reason}", file.display()));
    }
    Ok(keyring)
}

fn choose<'e>(
    entities: &'e [Entity],
    index: Option<i64>,
    prompt: &mut dyn Prompt,
) -> Result<&'e Entity, String> {
    let at = |index: i64| usize::try_from(index).ok().and_then(|i| entities.get(i));
    if let Some(index) = index {
        return at(index).ok_or_else(|| "index out of range".to_owned());
    }
    match entities {
        [only] => Ok(only),
        several => {
            let question = format!(
                "{}Enter # of private key to use : ",
                text::key_choices(several)
            );
            let answer = prompt.line(&question).map_err(|e| errno_text(&e))?;
            let index = go::decimal_int(&answer)?;
            at(index).ok_or_else(|| "invalid choice".to_owned())
        }
    }
}
