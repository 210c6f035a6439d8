//! The keyring folder of the originals: `pgp-public` and `pgp-secret`.
//!
//! Files hold concatenated binary OpenPGP keys. Writers hold the lock of the
//! folder and replace a file in one step, so that readers need no lock.
//!
//! Source: spec/cli.md 4.1 to 4.3.

use super::errno_text;
use super::files::{self, Lock, MAX_KEYRING};
use super::trusted::{self, Distrust};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `pgp-public`.
    Public,
    /// `pgp-secret`.
    Secret,
}

/// What a caller wants to do with the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Read public keys; a folder that cannot be created counts as empty.
    Read,
    /// Use or change keys.
    Write,
}

/// The user's keyring folder.
#[derive(Clone)]
pub struct KeyringFolder {
    path: PathBuf,
}

/// Why a keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{what} {}: {}", path.display(), errno_text(source))]
    System {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another user could put keys there.
    #[error("keyring folder {} belongs to user {owner}, not to user {user} who runs this", path.display())]
    ForeignOwner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Another user could change the keys.
    #[error("{} {why}, its keys cannot be trusted", path.display())]
    Untrusted {
        /// The file or folder.
        path: PathBuf,
        /// How.
        why: Distrust,
    },
    /// The path is no folder.
    #[error("mkdir {}: not a directory", .0.display())]
    NotAFolder(PathBuf),
}

impl KeyringFolder {
    /// Creates folder and files where missing and repairs their modes.
    ///
    /// Every repair is told by a sentence in `warnings`.
    ///
    /// # Errors
    /// As [`Error`] says. For [`Purpose::Read`] a place that cannot be written
    /// is no error.
    pub fn open(path: &Path, purpose: Purpose, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let this = Self {
            path: path.to_owned(),
        };
        this.prepare_folder(purpose, warnings)?;
        for which in [Which::Secret, Which::Public] {
            this.prepare_file(which, purpose, warnings)?;
        }
        Ok(this)
    }

    /// Path of a file.
    pub fn file(&self, which: Which) -> PathBuf {
        self.path.join(match which {
            Which::Public => "pgp-public",
            Which::Secret => "pgp-secret",
        })
    }

    /// Content of a file; empty if it is missing.
    ///
    /// # Errors
    /// The system's refusal; a symbolic link is refused.
    pub fn read(&self, which: Which) -> Result<Zeroizing<Vec<u8>>, Error> {
        read_or_empty(&self.file(which))
    }

    /// Waits for the lock that writers hold.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn lock(&self) -> Result<Lock, Error> {
        let lock = files::lock_folder(&self.path).map_err(|source| Error::System {
            what: "lock",
            path: self.path.clone(),
            source,
        })?;
        files::sweep(&self.path, &lock);
        Ok(lock)
    }

    /// Adds keys at the end of a file, in one step. The caller holds the lock.
    ///
    /// # Errors
    /// The system's refusal; then the file is unchanged.
    pub fn append(&self, lock: &Lock, which: Which, keys: &[u8]) -> Result<(), Error> {
        let mut all = self.read(which)?;
        all.reserve_exact(keys.len());
        all.extend_from_slice(keys);
        self.replace(lock, which, &all)
    }

    /// Gives a file new content, in one step. The caller holds the lock.
    ///
    /// # Errors
    /// The system's refusal; then the file is unchanged.
    pub fn replace(&self, _lock: &Lock, which: Which, keys: &[u8]) -> Result<(), Error> {
        replace(&self.file(which), keys, 0o600)
    }

    /// Stores the revocation certificate of a key beside the keyring; returns its path.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn store_revocation(
        &self,
        _lock: &Lock,
        fingerprint: &str,
        text: &str,
    ) -> Result<PathBuf, Error> {
        let folder = self.path.join("revocations");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::System {
                    what: "mkdir",
                    path: folder,
                    source,
                });
            }
            _ => {}
        }
        let file = folder.join(format!("{fingerprint}.asc"));
        replace(&file, text.as_bytes(), 0o600)?;
        Ok(file)
    }

    fn prepare_folder(&self, purpose: Purpose, warnings: &mut Vec<String>) -> Result<(), Error> {
        let system = |what: &'static str| {
            move |source: io::Error| Error::System {
                what,
                path: self.path.clone(),
                source,
            }
        };
        let data = match fs::metadata(&self.path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.path);
                return match made {
                    Err(_) if purpose == Purpose::Read => Ok(()),
                    other => other.map_err(system("mkdir")),
                };
            }
            Err(error) => return Err(system("stat")(error)),
        };
        if !data.is_dir() {
            return Err(Error::NotAFolder(self.path.clone()));
        }
        let user = rustix::process::geteuid().as_raw();
        let trusted = data.uid() == user || (purpose == Purpose::Read && data.uid() == 0);
        if !trusted {
            return Err(Error::ForeignOwner {
                path: self.path.clone(),
                owner: data.uid(),
                user,
            });
        }
        if data.uid() != user {
            return match data.mode() & 0o022 {
                0 => Ok(()),
                _ => Err(Error::Untrusted {
                    path: self.path.clone(),
                    why: Distrust::OpenToOthers,
                }),
            };
        }
        let mode = data.mode() & 0o7777;
        if mode != 0o700 {
            warnings.push(format!(
                "Directory mode ({mode:o}) on {} needs to be 700, fixing that...",
                self.path.display()
            ));
            let fixed = fs::set_permissions(&self.path, Permissions::from_mode(0o700));
            if purpose == Purpose::Write {
                fixed.map_err(system("chmod"))?;
            }
        }
        Ok(())
    }

    fn prepare_file(
        &self,
        which: Which,
        purpose: Purpose,
        warnings: &mut Vec<String>,
    ) -> Result<(), Error> {
        let path = self.file(which);
        let system = |what: &'static str| {
            let path = path.clone();
            move |source: io::Error| Error::System { what, path, source }
        };
        let data = match fs::symlink_metadata(&path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path);
                return match made {
                    // Another process was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    Err(_) if purpose == Purpose::Read => Ok(()),
                    other => other.map(drop).map_err(system("open")),
                };
            }
            Err(_) if purpose == Purpose::Read => return Ok(()),
            Err(error) => return Err(system("stat")(error)),
        };
        let mode = data.mode() & 0o7777;
        let ours = data.uid() == rustix::process::geteuid().as_raw();
        if data.is_file() && ours && mode != 0o600 {
            warnings.push(format!(
                "File mode ({mode:o}) on {} needs to be 600, fixing that...",
                path.display()
            ));
            let fixed = fs::set_permissions(&path, Permissions::from_mode(0o600));
            if purpose == Purpose::Write {
                fixed.map_err(system("chmod"))?;
            }
        }
        Ok(())
    }
}

/// The administrator's keyring, one file; never created by a reader.
pub struct GlobalKeyring {
    path: PathBuf,
}

impl GlobalKeyring {
    /// The keyring of a system configuration folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join("global-pgp-public"),
        }
    }

    /// Path of the file.
    pub fn file(&self) -> &Path {
        &self.path
    }

    /// Content; empty if it is missing.
    ///
    /// # Errors
    /// The system's refusal; a symbolic link is refused.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        read_or_empty(&self.path)
    }

    /// Waits for the lock that writers hold.
    ///
    /// # Errors
    /// The system's refusal, for example because the folder is missing.
    pub fn lock(&self) -> Result<Lock, Error> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let lock = files::lock_folder(folder).map_err(|source| Error::System {
            what: "open",
            path: self.path.clone(),
            source,
        })?;
        files::sweep(folder, &lock);
        Ok(lock)
    }

    /// Adds keys at the end, in one step. The caller holds the lock.
    ///
    /// # Errors
    /// The system's refusal; then the file is unchanged.
    pub fn append(&self, lock: &Lock, keys: &[u8]) -> Result<(), Error> {
        let mut all = self.read()?;
        all.extend_from_slice(keys);
        self.replace(lock, &all)
    }

    /// Gives the file new content, in one step. The caller holds the lock.
    ///
    /// # Errors
    /// The system's refusal; then the file is unchanged.
    pub fn replace(&self, _lock: &Lock, keys: &[u8]) -> Result<(), Error> {
        replace(&self.path, keys, 0o644)
    }
}

fn read_or_empty(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Own files were repaired before; what is left is another user's doing.
    match trusted::read_own(path, MAX_KEYRING) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Zeroizing::new(Vec::new()))
        }
        Err(source) => Err(Error::System {
            what: "open",
            path: path.to_owned(),
            source,
        }),
        Ok(read) => read.map_err(|why| Error::Untrusted {
            path: path.to_owned(),
            why,
        }),
    }
}

fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    // What could not be read again is not written.
    if u64::try_from(content.len()).map_or(true, |len| len > MAX_KEYRING) {
        return Err(Error::System {
            what: "write",
            path: path.to_owned(),
            source: io::Error::from(io::ErrorKind::FileTooLarge),
        });
    }
    files::replace(path, content, mode).map_err(|source| Error::System {
        what: "write",
        path: path.to_owned(),
        source,
    })
}
