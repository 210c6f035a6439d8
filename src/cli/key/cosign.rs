//! `key generate-cosign-key-pair`, `import-key-pair`, `public-key`: PEM keys
//! in files, sealed as cosign seals them.

use crate::cli::passphrase::{self, Secret, Source};
use crate::cli::private_key::NO_KEY;
use crate::cli::{self, Error, private_key, usage};
use crate::disk::{errno_text, files};
use crate::key::cosign::{PEM_LABEL, seal};
use crate::key::generate::KeyType;
use crate::key::pem::{PrivateKey, encode_block};
use crate::ui::Ui;
use crate::ui::prompt::Console;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Generate a key-pair for sigstore/cosign compatible signatures
///
/// Writes PREFIX.key, encrypted with a password, and PREFIX.pub. Files that
/// are there are never overwritten.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key generate-cosign-key-pair [options]",
    after_help = "Examples:\n  \
                  $ sigsif key generate-cosign-key-pair\n  \
                  $ sigsif key generate-cosign-key-pair --output-key-prefix release \\\n      \
                  --type ed25519"
)]
pub(super) struct GenerateArgs {
    /// path and name of the key files, less '.key' and '.pub'
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        default_value = "singularity-cosign",
        hide_default_value = true
    )]
    output_key_prefix: OsString,
    /// kind of key: p256, p384, p521, ed25519, rsa3072 or rsa4096 (default p256)
    #[arg(long = "type", value_name = "string", value_parser = key_type)]
    key_type: Option<KeyType>,
    #[command(flatten)]
    passphrase: Source,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// Import a PEM private key as a key-pair for cosign signatures
///
/// Writes PREFIX.key, encrypted with a password, and PREFIX.pub. A key that is
/// encrypted keeps its password. Files that are there are never overwritten.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key import-key-pair [options]",
    after_help = "Examples:\n  \
                  $ sigsif key import-key-pair --key openssl.pem --output-key-prefix release"
)]
pub(super) struct ImportArgs {
    /// path of the private key file (PEM)
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        required = true
    )]
    key: PathBuf,
    /// path and name of the key files, less '.key' and '.pub'
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        default_value = "import-cosign",
        hide_default_value = true
    )]
    output_key_prefix: OsString,
    #[command(flatten)]
    passphrase: Source,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

/// Print the public key of a private key
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key public-key [options]",
    after_help = "Examples:\n  \
                  $ sigsif key public-key --key release.key > release.pub"
)]
pub(super) struct PublicArgs {
    /// path of the private key file (PEM)
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        required = true
    )]
    key: PathBuf,
    #[command(flatten)]
    passphrase: Source,
    #[arg(hide = true)]
    args: Vec<OsString>,
}

pub(super) fn generate(ui: &Ui, args: &GenerateArgs) -> Result<(), Error> {
    usage::exactly(&["key", "generate-cosign-key-pair"], 0, &args.args)?;
    let pair = PairFiles::new(&args.output_key_prefix);
    pair.require_absent()?;
    ui.info(format_args!("Creating cosign key-pair {pair}"));
    let password =
        private_key::new_password(&args.passphrase, &mut Console).map_err(passphrase::fatal(""))?;
    let key = PrivateKey::generate(args.key_type.unwrap_or(KeyType::P256)).map_err(Error::fatal)?;
    pair.write(ui, &key, &password)
}

pub(super) fn import(ui: &Ui, args: &ImportArgs) -> Result<(), Error> {
    usage::exactly(&["key", "import-key-pair"], 0, &args.args)?;
    let pair = PairFiles::new(&args.output_key_prefix);
    pair.require_absent()?;
    let mut prompt = Console;
    let unlocked = private_key::load(&args.key, &args.passphrase, &mut prompt)?;
    if !unlocked.key.is_for_cosign() {
        return Err(Error::fatal(format!(
            "{NO_KEY}{} is no kind of key for cosign: must be ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048, 3072 or 4096 bits",
            unlocked.key.public().algorithm()
        )));
    }
    ui.info(format_args!("Creating cosign key-pair {pair}"));
    let password = match unlocked.password {
        Some(password) => password,
        None => private_key::new_password(&args.passphrase, &mut prompt)
            .map_err(passphrase::fatal(""))?,
    };
    pair.write(ui, &unlocked.key, &password)
}

pub(super) fn public(args: &PublicArgs) -> Result<(), Error> {
    usage::exactly(&["key", "public-key"], 0, &args.args)?;
    let unlocked = private_key::load(&args.key, &args.passphrase, &mut Console)?;
    cli::print(unlocked.key.public().to_pem())
}

fn key_type(text: &str) -> Result<KeyType, String> {
    match text {
        "p256" => Ok(KeyType::P256),
        "p384" => Ok(KeyType::P384),
        "p521" => Ok(KeyType::P521),
        "ed25519" => Ok(KeyType::Ed25519),
        "rsa3072" => Ok(KeyType::Rsa3072),
        "rsa4096" => Ok(KeyType::Rsa4096),
        _ => Err("must be p256, p384, p521, ed25519, rsa3072 or rsa4096".to_owned()),
    }
}

/// Where a key pair is written.
struct PairFiles {
    prefix: PathBuf,
    private: PathBuf,
    public: PathBuf,
}

impl std::fmt::Display for PairFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.key/.pub", self.prefix.display())
    }
}

impl PairFiles {
    fn new(prefix: &OsStr) -> Self {
        let with = |end: &str| {
            let mut name = prefix.to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        Self {
            prefix: PathBuf::from(prefix),
            private: with(".key"),
            public: with(".pub"),
        }
    }

    /// Before any question. A symbolic link counts, wherever it leads.
    fn require_absent(&self) -> Result<(), Error> {
        [&self.private, &self.public]
            .into_iter()
            .find(|path| path.symlink_metadata().is_ok())
            .map_or(Ok(()), |path| Err(exists(path)))
    }

    /// Private first: from it the public key can be made again.
    fn write(&self, ui: &Ui, key: &PrivateKey, password: &Secret) -> Result<(), Error> {
        if password.is_empty() {
            ui.warning(
                "the password is empty: whoever can read the private key file can use the key",
            );
        }
        let sealed = key.to_pkcs8_der().map_err(Error::fatal)?;
        let sealed = seal(&sealed, password).map_err(Error::fatal)?;
        let failed = |path: &Path, error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(path),
            _ => Error::fatal(format!("open {}: {}", path.display(), errno_text(&error))),
        };
        files::create_new(
            &self.private,
            encode_block(PEM_LABEL, &sealed).as_bytes(),
            0o600,
        )
        .map_err(|error| failed(&self.private, error))?;
        files::create_new(&self.public, key.public().to_pem().as_bytes(), 0o644).map_err(|error| {
            // A private key of its own would stand in the way of the next try.
            let _ = files::remove(&self.private);
            failed(&self.public, error)
        })
    }
}

fn exists(path: &Path) -> Error {
    Error::fatal(format!(
        "file exists, will not overwrite: {}",
        path.display()
    ))
}
