//! `verify`: judge the signatures of an image.

mod certificate;
mod strict;

use self::certificate::CertificateArgs;
use self::strict::Judged;
use super::servers::{self, Asked, tell_unauthorized, url_option};
use super::sign::{KeyringError, parse_keyring, tell_deprecated};
use super::{Cause, Error, go, passphrase, usage};
use crate::disk::errno_text;
use crate::disk::files::{self, MAX_KEY_FILE};
use crate::disk::keyring::{KeyringFolder, Purpose, Which};
use crate::disk::sif_file::Access;
use crate::key::pem::PublicKey;
use crate::key::pgp::{Entity, Keyring, merge, updates_from_armored_or_binary};
use crate::key::x509::{self, Moment};
use crate::net::http::Client;
use crate::net::keystore::{self, Server};
use crate::report::{Failure, Origin, Report};
use crate::scope::{Legacy, Selection};
use crate::sif::Image;
use crate::ui::{Ui, coverage, json, one_line, text};
use crate::verify::{self, KeyMaterial, Request};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const FAILED: &str = "failed to verify container: ";
const NO_KEY: &str = "failed to load key material: ";

/// Verify digital signature(s) within an image
///
/// Every signature of every object group must hold, made by a key of the
/// global or the local keyring or of a key server, or by the key of --key, or
/// by that of a --certificate that a root vouches for. The exit code is 0 only
/// then. A key server is asked only for keys that no
/// keyring has, and never with --local.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif [global options...] verify [verify options...] <image path>",
    after_help = "Examples:\n  \
                  $ sigsif verify image.sif\n  \
                  $ sigsif verify --key signer.pub.pem image.sif\n  \
                  $ sigsif verify --strict --local image.sif\n  \
                  $ sigsif verify --format json image.sif"
)]
pub(super) struct Args {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// verify objects with the specified group ID
    #[arg(short, long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    group_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    groupid: Option<u32>,
    /// verify object with the specified ID
    #[arg(short = 'i', long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    sif_id: Option<u32>,
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true, hide = true)]
    id: Option<u32>,
    /// path to the public key file (PEM)
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    key: Option<PathBuf>,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// judge validity of keys and certificates as of this time (RFC 3339)
    #[arg(long, value_name = "time", value_parser = go::time, allow_hyphen_values = true)]
    at: Option<u64>,
    /// only verify with local key(s) in keyring
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    local: Option<bool>,
    /// output json as the originals do
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    json: Option<bool>,
    /// output format: text, or json with every signature and reason
    #[arg(long, value_name = "string", value_parser = format, allow_hyphen_values = true)]
    format: Option<Format>,
    /// verify all objects (only with --legacy-insecure)
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    all: Option<bool>,
    /// enable verification of (insecure) legacy signatures
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    legacy_insecure: Option<bool>,
    /// also refuse the image if any byte of the file is not accounted for
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go::bool, value_name = "bool")]
    strict: Option<bool>,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    /// path of the image
    #[arg(value_name = "image path")]
    image: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Original,
    Json,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

pub(super) fn run(ui: &Ui, args: Args) -> Result<(), Error> {
    usage::exactly(&["verify"], 1, &args.image)?;
    let path = PathBuf::from(args.image.first().cloned().unwrap_or_default());
    let format = match (args.json.unwrap_or(false), args.format) {
        (true, Some(_)) => {
            return Err(usage::bad_flags(
                &["verify"],
                "--json and --format cannot be used together",
            ));
        }
        (true, None) => Format::Original,
        (false, format) => format.unwrap_or(Format::Text),
    };
    let strict = args.strict.unwrap_or(false);
    if strict && args.legacy_insecure == Some(true) {
        return Err(usage::bad_flags(
            &["verify"],
            "--strict and --legacy-insecure cannot be used together",
        ));
    }
    let local = super::switch(args.local, "local", "LOCAL_VERIFY")?;
    tell_deprecated(args.groupid, "groupid", "use '--group-id'");
    tell_deprecated(args.id, "id", "use '--sif-id'");
    let key = args
        .key
        .clone()
        .or_else(|| super::env_value("VERIFY_KEY").map(PathBuf::from));
    let now = u64::try_from(super::wall_clock()).unwrap_or_default();
    let moment = Moment {
        at: args.at.unwrap_or(now),
        now,
    };
    let certificates = args.certificate.load(ui)?;
    let material = match (&certificates, &key) {
        // Its keys come of a judgement of its own, once all else is in order.
        (Some(_), _) => KeyMaterial::PublicKeys(Vec::new()),
        (None, Some(key)) => {
            ui.info(format_args!(
                "Verifying image with key material from '{}'",
                key.display()
            ));
            load_public_key(key)?
        }
        (None, None) => {
            ui.info("Verifying image with PGP key material");
            load_keyrings(ui, args.keysdir.clone())
                .map_err(|error| Cause::plain(error).fatal(FAILED))?
        }
    };
    let request = Request {
        selection: Selection {
            groups: args.groupid.or(args.group_id).into_iter().collect(),
            objects: args.id.or(args.sif_id).into_iter().collect(),
            legacy: match (args.legacy_insecure, args.all) {
                (Some(true), Some(true)) => Legacy::All,
                (Some(true), _) => Legacy::Selected,
                _ => Legacy::No,
            },
        },
        examine_all: format == Format::Json,
        now: moment.at,
        threads: super::threads(),
    };
    if let Some(at) = args.at {
        ui.warning(format_args!(
            "Keys and certificates are judged as of {}, not as of now",
            x509::time(at)
        ));
    }
    let remote = match (&material, local) {
        (KeyMaterial::Keyrings(_), false) => Some(Remote::new(ui, args.url.as_deref())?),
        _ => None,
    };
    let material = match &certificates {
        Some(certificates) => certificates.keys(ui, moment).map(KeyMaterial::PublicKeys),
        None => Ok(material),
    };
    let output = Output {
        path: &path,
        format,
        color: ui.color_tags(),
        at: args.at,
    };
    let outcome = match material {
        Ok(material) => judge(&output, material, &request, remote, strict)?,
        Err(refused) => Err(refused),
    };
    output.render(&outcome)?;
    let judged = outcome.map_err(|cause| cause.fatal(FAILED))?;
    let report = &judged.report;
    match report.failure() {
        Some(failure) => Err(Error::Fatal {
            text: one_line(&format!("{FAILED}integrity: {failure}")),
            detail: hint(failure),
        }),
        // No task without a signature gets here; stay on the safe side.
        None if !report.is_verified() => Err(Error::fatal(format!(
            "{FAILED}integrity: signature not found"
        ))),
        None => {
            judged.require_complete()?;
            if format == Format::Text {
                ui.info(format_args!(
                    "Verified signature(s) from image '{}'",
                    path.display()
                ));
            }
            Ok(())
        }
    }
}

/// The outer error is about key servers and ends the command at once.
fn judge(
    output: &Output<'_>,
    mut material: KeyMaterial,
    request: &Request,
    remote: Option<Remote<'_>>,
    strict: bool,
) -> Result<Result<Judged, Cause>, Error> {
    let judged = super::with_image(output.path, Access::Read, |_, image| {
        if let Some(remote) = remote {
            // Without a usable configuration nobody can be asked; the rest of
            // the answer is still wanted as data.
            let asked = remote.add_missing(image, &mut material, request);
            if let (Err(error), Format::Json | Format::Original) = (&asked, output.format) {
                let text = match error {
                    Error::Fatal { text, .. } => text.clone(),
                    _ => String::new(),
                };
                output.render(&Err(Cause::plain(text)))?;
            }
            asked?;
        }
        let report = verify::native(image, &material, request).map_err(cause);
        Ok(report.and_then(|report| Ok(Judged::new(image, report, strict)?)))
    });
    judged.unwrap_or_else(|unreadable| Ok(Err(unreadable)))
}

fn cause(error: verify::Error) -> Cause {
    match error {
        verify::Error::Image(inner) => Cause {
            text: format!("integrity: {inner}"),
            detail: inner.detail(),
        },
        other => Cause::plain(other),
    }
}

/// The key servers, for keys that no keyring has.
struct Remote<'a> {
    ui: &'a Ui,
    url: Option<String>,
}

impl<'a> Remote<'a> {
    /// Connects to nothing; a bad `--url` is told before the image is opened.
    fn new(ui: &'a Ui, url: Option<&str>) -> Result<Self, Error> {
        let url = url_option(url);
        if let Some(url) = &url {
            keystore::parse_url(url).map_err(|e| Cause::plain(e).fatal(FAILED))?;
        }
        Ok(Self { ui, url })
    }

    /// Adds the keys that the judgement would stop for, as far as servers have them.
    ///
    /// They are used once and not stored.
    fn add_missing(
        &self,
        image: &Image<'_>,
        material: &mut KeyMaterial,
        request: &Request,
    ) -> Result<(), Error> {
        let mut found: Vec<Entity> = Vec::new();
        let mut asked = Vec::new();
        let mut connection = None;
        loop {
            // What cannot be judged needs no keys; the judgement tells why.
            let missing = verify::missing_keys(image, material, request).unwrap_or_default();
            let Some(id) = missing.into_iter().find(|id| !asked.contains(id)) else {
                return Ok(());
            };
            if asked.len() >= MAX_LOOKUPS {
                self.ui.warning(format_args!(
                    "{NO_MATERIAL}the image names more than {MAX_LOOKUPS} unknown keys"
                ));
                return Ok(());
            }
            asked.push(id);
            let (client, servers) = match &connection {
                Some(connection) => connection,
                None => connection.insert(self.connect()?),
            };
            match keystore::find_signers(client, servers, id) {
                Ok(keys) => {
                    for key in keys {
                        match with_what_is_known(key, material) {
                            Ok(key) => found.push(key),
                            Err(text) => self.ui.warning(format_args!("{NO_MATERIAL}{text}")),
                        }
                    }
                }
                Err(error) => {
                    if error.status() == Some(401) {
                        tell_unauthorized(self.ui, None);
                    }
                    self.ui.warning(format_args!("{NO_MATERIAL}{error}"));
                    continue;
                }
            }
            if let KeyMaterial::Keyrings(keyrings) = material {
                keyrings.retain(|(origin, _)| *origin != Origin::Remote);
                let ring = Keyring::from_entities(found.iter().cloned());
                keyrings.push((Origin::Remote, ring));
            }
        }
    }

    fn connect(&self) -> Result<(Client, Vec<Server>), Error> {
        let servers = servers::servers(self.ui, self.url.as_deref(), Asked::All);
        let connected = servers.and_then(|servers| Ok((servers::client()?, servers)));
        connected.map_err(|error| match error {
            servers::Error::Url(error) => Cause::plain(error).fatal(FAILED),
            servers::Error::Config(text) => Error::fatal(format!(
                "error while getting keyserver client config: {text}"
            )),
        })
    }
}

/// Joins a fetched key with the copies in the user's keyrings.
///
/// A server may leave out what is known here: a revocation, an end.
fn with_what_is_known(fetched: Entity, material: &KeyMaterial) -> Result<Entity, String> {
    let KeyMaterial::Keyrings(keyrings) = material else {
        return Ok(fetched);
    };
    let fingerprint = fetched.fingerprint();
    let mut joined = fetched;
    for (origin, ring) in keyrings {
        let stored = ring
            .position(&fingerprint)
            .and_then(|at| ring.entities().get(at));
        let (Some(stored), false) = (stored, *origin == Origin::Remote) else {
            continue;
        };
        let text = |error: crate::key::pgp::Error| error.to_string();
        let mut all = stored.clone();
        for update in updates_from_armored_or_binary(joined.raw()).map_err(text)? {
            if let Some(packets) = merge(&all, &update).map_err(text)? {
                let merged = Keyring::parse(&packets).map_err(text)?.into_entities();
                all = merged
                    .into_iter()
                    .next()
                    .ok_or_else(|| format!("key {fingerprint} cannot be joined with its copy"))?;
            }
        }
        joined = all;
    }
    Ok(joined)
}

/// Keys that are looked up at most for one image; an attacker can name any number.
const MAX_LOOKUPS: usize = 16;
const NO_MATERIAL: &str = "failed to get key material: ";

/// How the answer is told.
struct Output<'a> {
    path: &'a Path,
    format: Format,
    color: bool,
    /// The time of judgement, if it is not now.
    at: Option<u64>,
}

impl Output<'_> {
    fn render(&self, outcome: &Result<Judged, Cause>) -> Result<(), Error> {
        let printed = match (self.format, outcome) {
            (Format::Text, Err(_)) => return Ok(()),
            (Format::Text, Ok(judged)) => {
                let blocks = judged
                    .report
                    .signatures
                    .iter()
                    .filter(|s| s.failure.as_ref().is_none_or(Failure::is_about_content))
                    .map(|signature| text::signature(signature, self.color));
                let head = self.at.map(text::judged_at);
                let mut printed: String = head.into_iter().chain(blocks).collect();
                if let Some(coverage) = judged.coverage_of_verified() {
                    printed.push_str(&coverage::text(coverage));
                }
                printed
            }
            (Format::Original, Ok(judged)) => json::original(&judged.report),
            (Format::Original, Err(_)) => json::original(&Report::default()),
            (Format::Json, outcome) => {
                let coverage = outcome.as_ref().ok().and_then(|j| j.coverage.as_ref());
                let outcome = outcome.as_ref().map(|judged| &judged.report);
                let outcome = outcome.map_err(|cause| cause.text.as_str());
                let refusal = coverage.filter(|c| !c.is_complete()).map(strict::refusal);
                json::full(
                    &self.path.to_string_lossy(),
                    self.at,
                    outcome,
                    coverage.zip(Some(refusal)),
                )
            }
        };
        match super::print(printed) {
            // The verdict counts even if nobody reads the report.
            Err(Error::Quiet(_)) => Ok(()),
            other => other,
        }
    }
}

/// What to do about a refusal whose sentence alone does not tell.
fn hint(failure: &Failure) -> Option<String> {
    match failure {
        Failure::NoSignatureForGroup(group) => Some(format!(
            "No signature of the current format names group {group}: it is not signed, or only \
             with a legacy signature"
        )),
        Failure::UngroupedObject(id) => Some(format!(
            "Object {id} is in no group, so no signature can cover it"
        )),
        Failure::SignatureCut(id) => Some(format!(
            "Signature object {id} reaches past the end of the file: the image is cut short"
        )),
        Failure::NoKeyForDsse => {
            Some("The signature was made with a PEM key; give its public key with --key".to_owned())
        }
        Failure::NoKeyForPgp => {
            Some("The signature was made with an OpenPGP key; leave out --key".to_owned())
        }
        _ => None,
    }
}

pub(super) fn load_public_key(path: &Path) -> Result<KeyMaterial, Error> {
    let fail = passphrase::fatal(NO_KEY);
    let pem = files::read(path, MAX_KEY_FILE)
        .map_err(|e| fail(format!("open {}: {}", path.display(), errno_text(&e))))?;
    let key = PublicKey::from_pem(&pem).map_err(|e| fail(e.to_string()))?;
    Ok(KeyMaterial::PublicKeys(vec![key.into()]))
}

/// Global keyring first, then the user's.
pub(super) fn load_keyrings(ui: &Ui, flag: Option<PathBuf>) -> Result<KeyMaterial, KeyringError> {
    let global = super::global_keyring();
    let bytes = global.read().map_err(KeyringError::Folder)?;
    let global = parse_keyring(ui, &bytes, global.file())?;
    let mut warnings = Vec::new();
    let folder = super::keyring_folder(flag);
    let opened = KeyringFolder::open(&folder, Purpose::Read, &mut warnings);
    for warning in warnings {
        ui.warning(warning);
    }
    let opened = opened.map_err(KeyringError::Folder)?;
    let bytes = opened.read(Which::Public).map_err(KeyringError::Folder)?;
    let local = parse_keyring(ui, &bytes, &opened.file(Which::Public))?;
    Ok(KeyMaterial::Keyrings(vec![
        (Origin::Global, global),
        (Origin::Local, local),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::pgp::{KeyType, Params, generate};

    #[test]
    fn what_is_known_here_outweighs_the_copy_of_a_server() {
        let now = 1_700_000_000;
        let pair = generate(&Params {
            name: "A",
            key_type: KeyType::Ed25519,
            now,
            ..Params::default()
        })
        .unwrap();
        let fresh = || Keyring::parse(&pair.public_bytes).unwrap().into_entities();
        let updates = updates_from_armored_or_binary(pair.revocation_certificate.as_bytes());
        let revoked = merge(&fresh()[0], &updates.unwrap()[0]).unwrap().unwrap();
        for origin in [Origin::Global, Origin::Local] {
            let ring = Keyring::parse(&revoked).unwrap();
            let material = KeyMaterial::Keyrings(vec![(origin, ring)]);
            let joined = with_what_is_known(fresh().remove(0), &material).unwrap();
            assert!(joined.usable_for_signing(now + 1).is_err(), "{origin}");
        }
        let nothing = KeyMaterial::Keyrings(Vec::new());
        let alone = with_what_is_known(fresh().remove(0), &nothing).unwrap();
        assert!(alone.usable_for_signing(now + 1).is_ok());
    }
}
