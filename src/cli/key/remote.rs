//! `key search`, `pull`, `push`, `refresh`: keys of a key server.

use super::import::{Target, merge_into};
use super::{Ring, failed};
use crate::cli::servers::{self, client, servers, tell_unauthorized, url_option};
use crate::cli::{self, Error, usage};
use crate::disk::keyring::{Purpose, Which};
use crate::key::pgp::Update;
use crate::key::pgp::{
    ArmorKind, Entity, Fingerprint, Keyring, Selector, encode_armor, updates_from_armored_or_binary,
};
use crate::net::http::Client;
use crate::net::keystore::{self, Server, Wanted};
use crate::ui::{Ui, json, text};
use std::ffi::OsString;
use std::path::PathBuf;

/// Search for keys on a key server
///
/// Prints the keys whose user ids contain the text. A fingerprint or key id
/// of 8 or more upper-case digits is searched as such.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key search [options] <search-string>",
    after_help = "Examples:\n  \
                  $ sigsif key search sylabs.io\n  \
                  $ sigsif key search --url hkps://keys.openpgp.org -l 8883491F4268F173"
)]
pub(super) struct SearchArgs {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// output long list when searching for keys
    #[arg(short, long)]
    long_list: bool,
    /// output the list as json
    #[arg(short, long, conflicts_with = "long_list")]
    json: bool,
    /// what to search for
    #[arg(value_name = "search-string")]
    args: Vec<OsString>,
}

/// Download a public key from a key server
///
/// The key is added to the local or the global keyring if it is the one that
/// was asked for.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key pull [options] <fingerprint>",
    after_help = "Examples:\n  \
                  $ sigsif key pull 31359731D5C34C90C977AAF822CC73292934D01F"
)]
pub(super) struct PullArgs {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// import key to the global keyring
    #[arg(short, long)]
    global: bool,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    /// fingerprint, 40 digits, or the last 8 of them
    #[arg(value_name = "fingerprint")]
    args: Vec<OsString>,
}

/// Upload a public key to a key server
///
/// Everyone can then read its user ids.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key push [options] <fingerprint>",
    after_help = "Examples:\n  \
                  $ sigsif key push 31359731D5C34C90C977AAF822CC73292934D01F"
)]
pub(super) struct PushArgs {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// push a public key from the global keyring
    #[arg(short, long)]
    global: bool,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    /// fingerprint, 40 digits, or the last 16 of them
    #[arg(value_name = "fingerprint")]
    args: Vec<OsString>,
}

/// Ask a key server for news about known keys
///
/// Adds new user ids, sub-keys, expiry times and revocations to public keys
/// of the keyring: to all of them, or to those that are named. The server
/// learns which keys are in the keyring.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif key refresh [options] [fingerprint...]",
    after_help = "Examples:\n  \
                  $ sigsif key refresh"
)]
pub(super) struct RefreshArgs {
    /// specify the key server URL
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    url: Option<String>,
    /// refresh keys of the global keyring
    #[arg(short, long)]
    global: bool,
    /// path of the local keyring folder
    #[arg(short = 'd', long, value_name = "string", allow_hyphen_values = true)]
    keysdir: Option<PathBuf>,
    /// fingerprint, or its last 16 or 8 digits
    #[arg(value_name = "fingerprint")]
    args: Vec<String>,
}

pub(super) fn search(ui: &Ui, args: &SearchArgs) -> Result<(), Error> {
    usage::exactly(&["key", "search"], 1, &args.args)?;
    let fail = |text: String| failed(format!("search failed: {text}"));
    let text = first(&args.args);
    let (client, server) =
        connect(ui, args.url.as_deref()).map_err(|error| error.unless_url(&fail))?;
    let index = keystore::search(&client, &server, &search_term(&text))
        .map_err(|error| fail(get_text(ui, &error)))?;
    if args.json {
        index.check_announced().map_err(|e| fail(e.to_string()))?;
        cli::print(json::listed_keys(&index.keys))?;
        return index.check_count().map_err(|e| fail(e.to_string()));
    }
    let table = index
        .check_announced()
        .and_then(|()| text::listed_keys(&index.keys, args.long_list));
    let (count, table, problem) = match (table, index.check_count()) {
        (Ok(table), Ok(())) => (index.keys.len().to_string(), table, None),
        (Ok(table), Err(problem)) => ("-1".to_owned(), table, Some(problem)),
        (Err(problem), _) => ("-1".to_owned(), String::new(), Some(problem)),
    };
    cli::print(format!("Showing {count} results\n\n{table}"))?;
    match problem {
        None => Ok(()),
        Some(problem) => Err(fail(problem.to_string())),
    }
}

pub(super) fn pull(ui: &Ui, args: &PullArgs) -> Result<(), Error> {
    usage::exactly(&["key", "pull"], 1, &args.args)?;
    let fail = |text: String| {
        failed(format!(
            "pull failed: unable to pull key from server: {text}"
        ))
    };
    let wanted = pull_wanted(&first(&args.args)).map_err(fail)?;
    let (client, server) =
        connect(ui, args.url.as_deref()).map_err(|error| error.unless_url(&fail))?;
    let entity =
        keystore::get(&client, &server, &wanted).map_err(|error| fail(get_text(ui, &error)))?;
    let fail = |text: String| failed(format!("pull failed: {text}"));
    let (added, file) = store(ui, args, &entity).map_err(fail)?;
    cli::print(format!(
        "{} key(s) added to keyring of trust {}\n",
        u8::from(added),
        file.display()
    ))
}

pub(super) fn push(ui: &Ui, args: &PushArgs) -> Result<(), Error> {
    usage::exactly(&["key", "push"], 1, &args.args)?;
    let fail = |text: String| failed(format!("push failed: {text}"));
    let typed = first(&args.args);
    let keyring = Target::open(ui, args.global, args.keysdir.clone(), Purpose::Read)
        .and_then(|target| target.public().load(ui))
        .map_err(fail)?;
    let entity = push_choice(&keyring, &typed).map_err(fail)?;
    let (client, server) =
        connect(ui, args.url.as_deref()).map_err(|error| error.unless_url(&fail))?;
    send(ui, &client, &server, entity, &typed).map_err(fail)?;
    cli::print(format!(
        "public key `{typed}' pushed to server successfully\n"
    ))
}

pub(super) fn refresh(ui: &Ui, args: &RefreshArgs) -> Result<(), Error> {
    let fail = |text: String| failed(format!("refresh failed: {text}"));
    let target =
        Target::open(ui, args.global, args.keysdir.clone(), Purpose::Write).map_err(fail)?;
    let keyring = target.public().load(ui).map_err(fail)?;
    let chosen = refresh_choice(&keyring, &args.args).map_err(fail)?;
    if chosen.is_empty() {
        return Ok(());
    }
    let (client, server) =
        connect(ui, args.url.as_deref()).map_err(|error| error.unless_url(&fail))?;
    let mut useless = 0_usize;
    for fingerprint in &chosen {
        let wanted = Wanted::Fingerprint(*fingerprint);
        let told = match keystore::fetch(&client, &server, &wanted) {
            Ok(answer) => match refresh_one(ui, &target, &keyring, fingerprint, &answer) {
                Ok(told) => told,
                Err(Useless(text)) => {
                    ui.warning(format_args!("key {fingerprint}: {text}"));
                    useless = useless.saturating_add(1);
                    continue;
                }
            },
            Err(error) if error.status() == Some(404) => "not found on the key server",
            Err(error) if error.is_about_this_key() => {
                ui.warning(format_args!("key {fingerprint}: {error}"));
                useless = useless.saturating_add(1);
                continue;
            }
            // The next request would end no better.
            Err(error) => return Err(fail(get_text(ui, &error))),
        };
        cli::print(format!("Key with fingerprint {fingerprint} {told}\n"))?;
    }
    match useless {
        0 => Ok(()),
        number => Err(fail(format!(
            "no useful answer for {number} of {} keys",
            chosen.len()
        ))),
    }
}

/// Why an answer changed nothing.
struct Useless(String);

impl From<String> for Useless {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn refresh_choice(keyring: &Keyring, named: &[String]) -> Result<Vec<Fingerprint>, String> {
    let mut chosen = Vec::new();
    let mut choose = |fingerprint| {
        if !chosen.contains(&fingerprint) {
            chosen.push(fingerprint);
        }
    };
    if named.is_empty() {
        keyring
            .entities()
            .iter()
            .for_each(|entity| choose(entity.fingerprint()));
    }
    for text in named {
        let (_, entity) = Selector::new(text)
            .find(keyring.entities())
            .map_err(|error| format!("{text}: {error}"))?;
        choose(entity.fingerprint());
    }
    Ok(chosen)
}

/// Merges what an answer says about a key into the keyrings; other keys in it do not count.
fn refresh_one(
    ui: &Ui,
    target: &Target,
    keyring: &Keyring,
    fingerprint: &Fingerprint,
    answer: &[u8],
) -> Result<&'static str, Useless> {
    let updates = updates_from_armored_or_binary(answer).map_err(|e| Useless(e.to_string()))?;
    let stored = keyring
        .position(fingerprint)
        .and_then(|at| keyring.entities().get(at));
    // Hockeypuck answers for a revoked key with the bare revocation.
    let about: Vec<Update> = updates
        .into_iter()
        .filter(|update| stored.is_some_and(|stored| update.is_about(stored)))
        .take(MAX_UPDATES)
        .map(Update::without_foreign_signatures)
        .collect();
    if about.is_empty() {
        return Err(Useless("the key server did not send this key".to_owned()));
    }
    let lock = target.public().lock()?;
    // A revocation must also stop the secret key from signing.
    let secret = match target {
        Target::Local(folder) => Some(Ring::Local(folder, Which::Secret)),
        Target::Global(_) => None,
    };
    let mut changed = false;
    for ring in secret.into_iter().chain([target.public()]) {
        let merged = merge_into(ui, &lock, ring, &about)?;
        changed |= merged.is_some_and(|(_, changed)| changed);
    }
    Ok(if changed { "changed" } else { "unchanged" })
}

/// Copies of one key, and revocations of it, that are looked at in one answer.
const MAX_UPDATES: usize = 16;

/// Why there is no server to ask.
pub(super) struct NoConnection(servers::Error);

impl NoConnection {
    /// A bad address is told as the command's failure, all else is fatal.
    fn unless_url(self, fail: &dyn Fn(String) -> Error) -> Error {
        match self.0 {
            servers::Error::Url(error) => fail(error.to_string()),
            error => self::fatal(&error),
        }
    }

    /// The sentence of a command that goes on.
    pub(super) fn fatal(self) -> Error {
        fatal(&self.0)
    }
}

fn fatal(error: &servers::Error) -> Error {
    Error::fatal(format!("Keyserver client failed: {error}"))
}

/// The client and the one server of a key command.
pub(super) fn connect(ui: &Ui, url: Option<&str>) -> Result<(Client, Server), NoConnection> {
    let url = url_option(url);
    let found = servers(ui, url.as_deref(), servers::Asked::Primary).map_err(NoConnection)?;
    let client = client().map_err(NoConnection)?;
    let first = found.into_iter().next();
    first
        .map(|server| (client, server))
        .ok_or_else(|| NoConnection(servers::Error::Config("no keyserver configured".to_owned())))
}

/// Sends a public key and passes on what the server says about it.
pub(super) fn send(
    ui: &Ui,
    client: &Client,
    server: &Server,
    entity: &Entity,
    typed: &str,
) -> Result<(), String> {
    let armored = encode_armor(ArmorKind::Public, &entity.public_bytes());
    match keystore::add(client, server, &armored) {
        Ok(answer) if answer.trim().is_empty() => Ok(()),
        Ok(answer) => {
            // Lines behind the first are set off, so that none looks like ours.
            let answer = answer.trim_end().replace('\n', "\n         ");
            ui.info(format_args!("Key server response: {answer}"));
            Ok(())
        }
        Err(error) if error.status() == Some(401) => {
            tell_unauthorized(ui, Some(typed));
            Err(UNAUTHORIZED.to_owned())
        }
        Err(error) => Err(format!("key server did not accept PGP key: {error}")),
    }
}

const UNAUTHORIZED: &str = "unauthorized or missing token";

/// A failed search or download in the words of the originals.
fn get_text(ui: &Ui, error: &keystore::Error) -> String {
    match error.status() {
        Some(401) => {
            tell_unauthorized(ui, None);
            UNAUTHORIZED.to_owned()
        }
        Some(404) => "no matching keys found for fingerprint".to_owned(),
        Some(_) => format!("failed to get key: {error}"),
        None => match error {
            keystore::Error::Http(_) => format!("failed to get key: {error}"),
            _ => error.to_string(),
        },
    }
}

/// A text that looks like a fingerprint gets `0x` in front.
fn search_term(text: &str) -> String {
    let is_digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if text.len() >= 8 && is_digits {
        format!("0x{text}")
    } else {
        text.to_owned()
    }
}

/// Source: spec/cli.md 3.4; sentences of Go's `encoding/hex`.
fn pull_wanted(text: &str) -> Result<Wanted, String> {
    let fail = |reason: String| format!("failed to decode fingerprint: encoding/hex: {reason}");
    if let Some(bad) = text.bytes().find(|b| !b.is_ascii_hexdigit()) {
        // Go names the byte, printed as the character of that number.
        return Err(fail(format!(
            "invalid byte: U+{:04X} '{}'",
            bad,
            char::from(bad)
        )));
    }
    let bytes = hex::decode(text).map_err(|_| fail("odd length hex string".to_owned()))?;
    let short = <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_be_bytes);
    let full = Fingerprint::from_bytes(&bytes).filter(|f| f.as_bytes().len() == 20);
    match (short, full) {
        (Ok(id), _) => Ok(Wanted::ShortId(id)),
        (_, Some(fingerprint)) => Ok(Wanted::Fingerprint(fingerprint)),
        _ => Err("not a valid key length: only accepts 8, or 40 chars".to_owned()),
    }
}

/// Adds a key unless it is there; tells whether it was added, and where.
fn store(ui: &Ui, args: &PullArgs, entity: &Entity) -> Result<(bool, PathBuf), String> {
    let target = Target::open(ui, args.global, args.keysdir.clone(), Purpose::Write)?;
    let ring = target.public();
    let lock = ring.lock()?;
    let known = ring.load(ui)?.position(&entity.fingerprint()).is_some();
    if !known {
        ring.append(&lock, &entity.public_bytes())?;
    }
    Ok((!known, ring.file()))
}

/// The key that is to be pushed. Source: spec/cli.md 3.5.
fn push_choice<'a>(keyring: &'a Keyring, typed: &str) -> Result<&'a Entity, String> {
    const WANTED: &str = "please provide a keyid(16 chars) or a full fingerprint(40 chars)";
    if keyring.entities().is_empty() {
        return Err("no public keys in local store to choose from".to_owned());
    }
    if !matches!(typed.len(), 16 | 40) {
        return Err(WANTED.to_owned());
    }
    let tail = typed.len().saturating_sub(16);
    let digits = typed.get(tail..).unwrap_or(typed);
    let id = Some(digits)
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| {
            format!("{WANTED}: strconv.ParseUint: parsing {digits:?}: invalid syntax")
        })?;
    let fits = |entity: &&Entity| match typed.len() {
        // All that was typed counts, not only its end.
        40 => entity.has_fingerprint(typed),
        _ => entity.has_key_id(id),
    };
    let mut found = keyring.entities().iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(entity), None) => Ok(entity),
        _ => Err("could not find the requested key".to_owned()),
    }
}

fn first(args: &[OsString]) -> String {
    args.first()
        .map(|arg| arg.to_string_lossy().into_owned())
        .unwrap_or_default()
}
