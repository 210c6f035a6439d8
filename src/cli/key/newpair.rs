//! `key newpair`: make a key pair.

use super::super::program::{Program, called_as};
use super::expiry::{self, Expiry};
use super::{failed, open_folder, remote, sentence};
use crate::cli::passphrase::{self, Secret, Source};
use crate::cli::{self, Error, go, usage};
use crate::disk::errno_text;
use crate::disk::keyring::{Purpose, Which};
use crate::key::pgp::{Entity, KeyType, Keyring, Params, generate};
use crate::ui::prompt::{Console, Prompt};
use crate::ui::{self, Ui};
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Create a new PGP key-pair
///
/// Makes a key that signs and a sub-key that encrypts, and stores them in the
/// local keyring, with a revocation certificate beside it. What no flag gives
/// is asked for.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key newpair [options]",
    after_help = "Examples:\n  \
                  $ sigsif key newpair\n  \
                  $ sigsif key newpair --name Alice --email alice@example.org --type ed25519"
)]
pub(super) struct Args {
    /// key owner name
    #[arg(short = 'N', long, value_name = "string", allow_hyphen_values = true)]
    name: Option<String>,
    /// key owner email
    #[arg(short = 'E', long, value_name = "string", allow_hyphen_values = true)]
    email: Option<String>,
    /// key comment
    #[arg(short = 'C', long, value_name = "string", allow_hyphen_values = true)]
    comment: Option<String>,
    /// key password; others can see it, better use --passphrase-file
    #[arg(short = 'P', long, value_name = "string", allow_hyphen_values = true)]
    password: Option<String>,
    /// specify key bit length (default 4096)
    #[arg(short, long, value_name = "int", value_parser = go::int, allow_hyphen_values = true)]
    bit_length: Option<i64>,
    /// kind of key: rsa2048, rsa3072, rsa4096 or ed25519 (default rsa4096)
    #[arg(long = "type", value_name = "string", value_parser = key_type)]
    key_type: Option<KeyType>,
    /// when the key expires: a time from now (90d, 12w, 6m, 1y), a date, or never (default never)
    #[arg(long, value_name = "string", value_parser = expiry::parse, allow_hyphen_values = true)]
    expires: Option<Expiry>,
    /// push the newly created key to a key server
    #[arg(short = 'U', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    push: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&["key", "newpair"], 0, &args.args)?;
    if args.key_type.is_some() && args.bit_length.is_some() {
        return Err(usage::bad_flags(
            &["key", "newpair"],
            "--type and --bit-length cannot be used together",
        ));
    }
    let mut prompt = Console;
    let asked = ask_for_pair(ui, args, &mut prompt);
    let (name, email, comment, passphrase, push) =
        asked.map_err(|text| failed(format!("could not collect user input: {text}")))?;
    cli::print("Generating Entity and OpenPGP Key Pair... ")?;
    let made = make_pair(ui, args, &name, &email, &comment, &passphrase);
    let (certificate, made) = match made {
        Ok(made) => made,
        Err(text) => {
            cli::print("\n")?;
            return Err(failed(format!("creating newpair failed: {text}")));
        }
    };
    cli::print("done\n")?;
    ui.info(format_args!(
        "Revocation certificate stored in {}",
        certificate.display()
    ));
    if !push && called_as() == Program::Apptainer {
        return Ok(());
    }
    if !push {
        return cli::print("NOT pushing newly created key to keystore\n");
    }
    // The pair is stored; whatever happens from here on takes nothing away.
    let (client, server) = remote::connect(ui, None).map_err(remote::NoConnection::fatal)?;
    let fingerprint = made.fingerprint().to_string();
    match remote::send(ui, &client, &server, &made, &fingerprint) {
        Ok(()) => cli::print("Key successfully pushed to keystore\n"),
        Err(text) => cli::print(format!(
            "Failed to push newly created key to keystore: {}\n",
            ui::one_line(&text)
        )),
    }
}

fn key_type(text: &str) -> Result<KeyType, String> {
    match text {
        "rsa2048" => Ok(KeyType::Rsa(2048)),
        "rsa3072" => Ok(KeyType::Rsa(3072)),
        "rsa4096" => Ok(KeyType::Rsa(4096)),
        "ed25519" => Ok(KeyType::Ed25519),
        _ => Err("must be rsa2048, rsa3072, rsa4096 or ed25519".to_owned()),
    }
}

fn ask_for_pair(
    ui: &Ui,
    args: &Args,
    prompt: &mut dyn Prompt,
) -> Result<(String, String, String, Secret, bool), String> {
    let mut part = |given: &Option<String>, question: &str| match given {
        Some(given) => Ok(given.clone()),
        None => prompt.line(question).map_err(|e| errno_text(&e)),
    };
    let name = part(&args.name, "Enter your name (e.g., John Doe) : ")?;
    let email = part(
        &args.email,
        "Enter your email address (e.g., john.doe@example.com) : ",
    )?;
    let comment = part(
        &args.comment,
        "Enter optional comment (e.g., development keys) : ",
    )?;
    let passphrase = match (&args.password, args.passphrase.given()?) {
        (Some(given), _) => Zeroizing::new(given.clone().into_bytes()),
        (None, Some(given)) => given,
        (None, None) => passphrase::ask_new(ui, prompt, "Enter a passphrase : ")?,
    };
    let push = match args.push {
        Some(push) => push,
        None if called_as() == Program::Apptainer => false,
        None => ask_to_push(prompt)?,
    };
    Ok((name, email, comment, passphrase, push))
}

/// Yes is the default on a terminal only: a script that says nothing publishes nothing.
fn ask_to_push(prompt: &mut dyn Prompt) -> Result<bool, String> {
    let answer = prompt
        .line("Would you like to push it to the keystore? [Y,n] ")
        .map_err(|e| errno_text(&e))?;
    match answer.to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        "" => Ok(std::io::stdin().is_terminal()),
        _ => Err(format!("invalid answer: {answer:?}")),
    }
}

/// Makes and stores the pair; returns the path of the revocation certificate and the public key.
fn make_pair(
    ui: &Ui,
    args: &Args,
    name: &str,
    email: &str,
    comment: &str,
    passphrase: &Secret,
) -> Result<(PathBuf, Entity), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // A keyring that cannot be used is found before the long work.
    let folder = open_folder(ui, args.keysdir.clone(), Purpose::Write)?;
    let now = cli::signing_time().map_err(sentence)?;
    let lifetime = args.expires.unwrap_or(Expiry::Never).lifetime(now)?;
    let pair = generate(&Params {
        name,
        comment,
        email,
        key_type: args
            .key_type
            .unwrap_or(KeyType::Rsa(args.bit_length.unwrap_or(4096))),
        lifetime,
        passphrase: (!passphrase.is_empty()).then_some(passphrase.as_slice()),
        now: u64::try_from(now).unwrap_or_default(),
    })
    .map_err(|e| text(&e))?;
    let lock = folder.lock().map_err(|e| text(&e))?;
    let certificate = folder
        .store_revocation(
            &lock,
            &pair.fingerprint.to_string(),
            &pair.revocation_certificate,
        )
        .map_err(|e| text(&e))?;
    // Public first: a crash in between leaves a key that can be removed, not
    // a secret that nobody can verify.
    folder
        .append(&lock, Which::Public, &pair.public_bytes)
        .and_then(|()| folder.append(&lock, Which::Secret, &pair.secret_bytes))
        .map_err(|e| text(&e))?;
    let made = Keyring::parse(&pair.public_bytes).map_err(|e| text(&e))?;
    let made = made.into_entities().into_iter().next();
    made.map(|made| (certificate, made))
        .ok_or_else(|| "the new key cannot be read".to_owned())
}
