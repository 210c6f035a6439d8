//! The configuration folder: `remote.yaml`, `docker-config.json` and what
//! endpoints said about themselves.
//!
//! Writers hold the lock of the folder and replace a file in one step, so that
//! readers need no lock. No symbolic link is followed at the end of a path.
//!
//! Source: spec/cli.md 0.7, 6.1, 6.2 and 6.5.

use super::errno_text;
use super::files::{self, Lock};
use super::trusted;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// Name of the file with endpoints and logins.
pub const REMOTE_FILE: &str = "remote.yaml";
/// Name of the file with registry logins.
pub const DOCKER_FILE: &str = "docker-config.json";

/// Age at which a stored discovery document is no longer used.
const CACHE_TIME: Duration = Duration::from_secs(720 * 60 * 60);
/// Bytes of a token: too short and too long ones cannot be valid.
const TOKEN_SIZE: std::ops::RangeInclusive<usize> = 200..=4096;

/// Creates the user's configuration folder, closes it to others, and closes
/// its `remote.yaml`. Returns what has to be told.
pub fn prepare(folder: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    match fs::metadata(folder) {
        Ok(data) if data.is_dir() && data.mode() & 0o7777 != 0o700 => {
            if let Err(error) = fs::set_permissions(folder, Permissions::from_mode(0o700)) {
                warnings.push(format!(
                    "Couldn't enforce permission 0700 on {}: {}",
                    folder.display(),
                    errno_text(&error)
                ));
            }
        }
        Ok(_) => {}
        // What needs the folder will say that it is missing.
        Err(_) => drop(DirBuilder::new().recursive(true).mode(0o700).create(folder)),
    }
    let file = folder.join(REMOTE_FILE);
    if let Ok(data) = fs::symlink_metadata(&file)
        && data.is_file()
        && data.mode() & 0o7777 != 0o600
    {
        warnings.push(format!(
            "File mode ({:o}) on {} needs to be 600, fixing that...",
            data.mode() & 0o7777,
            file.display()
        ));
        if let Err(error) = fs::set_permissions(&file, Permissions::from_mode(0o600)) {
            warnings.push(format!("chmod {}: {}", file.display(), errno_text(&error)));
        }
    }
    warnings
}

/// Copies what another program has left for the same user: logins, endpoints, keys. What is there
/// already stays. Returns what is to be told, faults as errors.
pub fn take_over(old: &Path, new: &Path) -> Vec<Result<String, String>> {
    let mut told = Vec::new();
    if !old.is_dir() {
        return told;
    }
    told.push(Ok(
        "Detected Singularity user configuration directory".to_owned()
    ));
    let keys = new.join("keys");
    for (from, to, what) in [
        (
            old.join(REMOTE_FILE),
            new.join(REMOTE_FILE),
            "Singularity remote configuration",
        ),
        (
            old.join("docker-config.json"),
            new.join("docker-config.json"),
            "Singularity docker configuration",
        ),
        (
            old.join("sypgp/pgp-public"),
            keys.join("pgp-public"),
            "public Singularity pgp keyring",
        ),
        (
            old.join("sypgp/pgp-secret"),
            keys.join("pgp-secret"),
            "private Singularity pgp keyring",
        ),
    ] {
        let bytes = match trusted::read_own(&from, files::MAX_KEYRING) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(distrust)) => {
                told.push(Err(format!(
                    "{} {distrust}, it is not taken over",
                    from.display()
                )));
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                told.push(Err(format!(
                    "open {}: {}",
                    from.display(),
                    errno_text(&error)
                )));
                continue;
            }
        };
        told.push(Ok(format!("Detected {what}, migrating...")));
        let folder = to.parent().unwrap_or(new);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        if let Err(error) = made.and_then(|()| files::create_new(&to, &bytes, 0o600)) {
            told.push(Err(format!(
                "create {}: {}",
                to.display(),
                errno_text(&error)
            )));
        }
    }
    told
}

/// A small file that programs read and rewrite.
#[derive(Clone)]
pub struct ConfigFile {
    path: PathBuf,
    mode: u32,
    max: u64,
}

/// The system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {}", path.display(), errno_text(source))]
pub struct Error {
    /// What was tried.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

impl ConfigFile {
    /// A file of at most `max` bytes that is created with `mode`.
    pub fn new(path: PathBuf, mode: u32, max: u64) -> Self {
        Self { path, mode, max }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content; none if it does not exist.
    ///
    /// # Errors
    /// The system's refusal; a symbolic link; a file that is too large.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match files::read_no_follow(&self.path, self.max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed("open", source)),
        }
    }

    /// Its content; an empty file is created where there is none.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn read_or_create(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        if let Some(bytes) = self.read()? {
            return Ok(bytes);
        }
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&self.path);
        match made {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(self.read()?.unwrap_or_default())
            }
            other => other
                .map(|_| Zeroizing::default())
                .map_err(|source| self.failed("open", source)),
        }
    }

    /// Creates the folder of the file if it is missing, closed to others.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn make_folder(&self) -> Result<(), Error> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.folder());
        made.map_err(|source| self.failed("mkdir", source))
    }

    /// Waits for the lock that writers hold.
    ///
    /// # Errors
    /// The system's refusal, for example because the folder is missing.
    pub fn lock(&self) -> Result<Lock, Error> {
        files::lock_folder(self.folder()).map_err(|source| self.failed("open", source))
    }

    /// Replaces the file in one step; an existing one keeps its owner, and its mode as far as it is
    /// not wider than that of a new one.
    /// The caller holds the lock and has read the file under it.
    ///
    /// # Errors
    /// The system's refusal; then the file is unchanged.
    pub fn replace(&self, _lock: &Lock, content: &[u8]) -> Result<(), Error> {
        let old = fs::symlink_metadata(&self.path).ok();
        // Tokens are for nobody else, whatever mode the file came with.
        let mode = old.as_ref().map_or(self.mode, |old| old.mode() & self.mode);
        files::replace(&self.path, content, mode).map_err(|source| self.failed("open", source))?;
        let owner = old.map(|old| (old.uid(), old.gid()));
        match owner {
            // Only root can give it back.
            Some((user, group)) if user != rustix::process::geteuid().as_raw() => {
                std::os::unix::fs::lchown(&self.path, Some(user), Some(group))
                    .map_err(|source| self.failed("chown", source))
            }
            _ => Ok(()),
        }
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

/// Discovery documents of endpoints, kept for 30 days.
pub struct DiscoveryCache {
    folder: PathBuf,
}

impl DiscoveryCache {
    /// The cache of a configuration folder.
    pub fn new(config_folder: &Path) -> Self {
        Self {
            folder: config_folder.join("remote-cache"),
        }
    }

    /// A stored document that is not too old.
    pub fn read(&self, name: &str, max: u64) -> Option<Zeroizing<Vec<u8>>> {
        let path = self.folder.join(name);
        let written = fs::symlink_metadata(&path).ok()?.modified().ok()?;
        let age = SystemTime::now().duration_since(written);
        if age.is_ok_and(|age| age > CACHE_TIME) {
            return None;
        }
        files::read_no_follow(&path, max).ok()
    }

    /// Stores a document.
    ///
    /// # Errors
    /// The system's refusal; a caller can do without.
    pub fn write(&self, name: &str, document: &[u8]) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        files::replace(&self.folder.join(name), document, 0o600)
    }
}

/// Why a token file gives no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("authentication token file not found")]
    Missing,
    /// It cannot be read.
    #[error("couldn't read your Sylabs authentication token")]
    Unreadable,
    /// Its first line is too short.
    #[error("token is too short to be valid")]
    Short,
    /// Its first line is too long.
    #[error("token is too large to be valid")]
    Long,
}

/// Reads the token in the first line of a file.
///
/// # Errors
/// As [`TokenError`] says.
pub fn read_token(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let line = files::read_first_line(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            TokenError::Missing
        } else {
            TokenError::Unreadable
        }
    })?;
    let line = line.trim_ascii();
    if line.len() < *TOKEN_SIZE.start() {
        return Err(TokenError::Short);
    }
    if line.len() > *TOKEN_SIZE.end() {
        return Err(TokenError::Long);
    }
    std::str::from_utf8(line)
        .map(|token| Zeroizing::new(token.to_owned()))
        .map_err(|_| TokenError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn file(path: &Path) -> ConfigFile {
        ConfigFile::new(path.to_owned(), 0o600, 1000)
    }

    #[test]
    fn folder_and_file_are_closed_to_others() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/cfg");
        assert!(prepare(&folder).is_empty());
        assert_eq!(mode(&folder), 0o700);
        let path = folder.join(REMOTE_FILE);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            prepare(&folder),
            [format!(
                "File mode (644) on {} needs to be 600, fixing that...",
                path.display()
            )]
        );
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        assert!(prepare(&folder).is_empty());
    }

    #[test]
    fn a_file_with_tokens_is_closed_to_others_when_it_is_written() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("f");
        let file = file(&path);
        assert!(file.read().unwrap().is_none());
        assert!(file.read_or_create().unwrap().is_empty());
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let lock = file.lock().unwrap();
        file.replace(&lock, b"new").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(file.read().unwrap().unwrap().as_slice(), b"new");
        file.replace(&lock, &[b' '; 2000]).unwrap();
        assert!(file.read().is_err());
    }

    #[test]
    fn links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("link");
        std::os::unix::fs::symlink("gone", &path).unwrap();
        let error = file(&path).read_or_create().unwrap_err().to_string();
        assert!(
            error.ends_with("too many levels of symbolic links"),
            "{error}"
        );
        let cache = DiscoveryCache::new(base.path());
        cache.write("x.json", b"{}").unwrap();
        assert!(cache.read("x.json", 10).is_some());
        assert_eq!(mode(&base.path().join("remote-cache/x.json")), 0o600);
        fs::rename(&path, base.path().join("remote-cache/y.json")).unwrap();
        assert!(cache.read("y.json", 10).is_none());
    }

    #[test]
    fn an_old_document_is_not_used() {
        let base = tempfile::tempdir().unwrap();
        let cache = DiscoveryCache::new(base.path());
        cache.write("x.json", b"{}").unwrap();
        let age = |hours: u64| {
            let then = SystemTime::now() - Duration::from_secs(hours * 3600);
            let file = fs::File::options()
                .write(true)
                .open(base.path().join("remote-cache/x.json"))
                .unwrap();
            file.set_modified(then).unwrap();
        };
        age(719);
        assert!(cache.read("x.json", 10).is_some());
        age(721);
        assert!(cache.read("x.json", 10).is_none());
    }

    #[test]
    fn a_token_has_a_plausible_length() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("tok");
        let read = |content: &str| {
            fs::write(&path, content).unwrap();
            read_token(&path)
                .map(|token| token.len())
                .map_err(|e| e.to_string())
        };
        assert_eq!(read(&format!("{}\nmore", "t".repeat(200))), Ok(200));
        assert_eq!(read(&"t".repeat(4096)), Ok(4096));
        assert_eq!(read("short").unwrap_err(), "token is too short to be valid");
        assert_eq!(
            read(&"t".repeat(4097)).unwrap_err(),
            "token is too large to be valid"
        );
        assert_eq!(
            read_token(Path::new("/nonexistent"))
                .unwrap_err()
                .to_string(),
            "authentication token file not found"
        );
    }
}
