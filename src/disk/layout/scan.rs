//! Reading all of a layout: which blobs there are, and whether they are what
//! their names say.

use super::{Error, Layout, MAX_DOCUMENT, system};
use crate::digest::{Digest, HashAlgorithm};
use rustix::fs::Dir;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;

/// Most blobs of one folder that are looked at.
const MAX_BLOBS: usize = 1 << 20;

impl Layout {
    /// A blob of at most `limit` bytes, with the digest checked; nothing if it
    /// is missing.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let path = self.path(digest);
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(system("read", &path))?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
            return Err(Error::TooLong { path, limit });
        }
        self.require(digest, HashAlgorithm::Sha256.digest(&bytes))?;
        Ok(Some(bytes))
    }

    /// The blobs that may be JSON documents, by name and in order: small files
    /// that begin with a brace. Files with other names are passed over.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn documents(&self) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        for digest in self.blobs()? {
            let Some(mut file) = self.open_blob(&digest)? else {
                continue;
            };
            let path = self.path(&digest);
            let length = file.metadata().map_err(system("stat", &path))?.len();
            let mut first = [0];
            let read = file.read(&mut first).map_err(system("read", &path))?;
            if length <= MAX_DOCUMENT && read == 1 && first == [b'{'] {
                found.push(digest);
            }
        }
        Ok(found)
    }

    /// Names of all blobs, in order.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn blobs(&self) -> Result<Vec<Digest>, Error> {
        let path = self.folder.join("blobs").join(super::ALGORITHM);
        let mut found = Vec::new();
        let entries = Dir::read_from(&self.blobs).map_err(system("read", &path))?;
        for entry in entries {
            let entry = entry.map_err(system("read", &path))?;
            let name = String::from_utf8_lossy(entry.file_name().to_bytes()).into_owned();
            let text = format!("{}:{name}", super::ALGORITHM);
            let digest = Digest::parse(&text).ok();
            // Of two spellings of a name only one is a blob.
            found.extend(digest.filter(|digest| digest.to_string() == text));
            if found.len() > MAX_BLOBS {
                return Err(Error::TooMany(path));
            }
        }
        found.sort_by_key(ToString::to_string);
        Ok(found)
    }

    /// Checks that blobs are there, of that length, and what their names say;
    /// each is read once, the largest first, by at most `threads` threads.
    ///
    /// # Errors
    /// The first fault that was found, as [`Error`] says.
    pub fn check(&self, blobs: &[(Digest, u64)], threads: usize) -> Result<(), Error> {
        let mut work: Vec<_> = blobs.iter().collect();
        work.sort_by_key(|(digest, length)| (std::cmp::Reverse(*length), digest.to_string()));
        work.dedup();
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let lock = || {
            failed
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        let run = || {
            let mut window = vec![0; WINDOW];
            while let Some((digest, length)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = self.check_one(digest, *length, &mut window) {
                    lock().get_or_insert(error);
                    next.store(work.len(), Ordering::Relaxed);
                }
            }
        };
        let large = work.iter().filter(|(_, len)| *len > 1 << 18).count();
        let helpers = threads.min(large).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                // Too few threads left: this one does the work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
        match lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn check_one(&self, digest: &Digest, length: u64, window: &mut [u8]) -> Result<(), Error> {
        let path = self.path(digest);
        let Some(file) = self.open_blob(digest)? else {
            let digest = digest.clone();
            return Err(Error::Missing { digest, path });
        };
        let found = file.metadata().map_err(system("stat", &path))?.len();
        if found != length {
            return Err(Error::Length {
                path,
                expected: length,
                found,
            });
        }
        self.require(digest, hash(file, window).map_err(system("read", &path))?)
    }

    fn require(&self, expected: &Digest, found: Digest) -> Result<(), Error> {
        match found == *expected {
            true => Ok(()),
            false => Err(Error::Mismatch {
                path: self.path(expected),
                expected: expected.clone(),
                found,
            }),
        }
    }
}

fn hash(mut file: File, window: &mut [u8]) -> std::io::Result<Digest> {
    file.rewind()?;
    let mut hasher = HashAlgorithm::Sha256.hasher();
    loop {
        match file.read(window) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => hasher.update(window.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn finds_documents_and_faults() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(
            folder.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let put = |bytes: &[u8]| {
            let digest = HashAlgorithm::Sha256.digest(bytes);
            fs::write(blobs.join(hex::encode(digest.bytes())), bytes).unwrap();
            (digest, u64::try_from(bytes.len()).unwrap())
        };
        let (document, layer) = (put(b"{}"), put(&vec![7; 3 << 18]));
        fs::write(blobs.join("README"), "{}").unwrap();
        fs::write(blobs.join("AB".repeat(32)), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", blobs.join("00".repeat(32))).unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        assert_eq!(layout.blobs().unwrap().len(), 3);
        // A link among the blobs is a fault, not a way out of the folder.
        assert!(layout.documents().is_err());
        fs::remove_file(blobs.join("00".repeat(32))).unwrap();
        assert_eq!(
            layout.documents().unwrap(),
            std::slice::from_ref(&document.0)
        );
        layout
            .check(&[layer.clone(), document.clone(), layer.clone()], 2)
            .unwrap();
        let (digest, length) = layer;
        let wrong = layout.check(&[(digest.clone(), length - 1)], 2);
        assert!(matches!(wrong, Err(Error::Length { .. })));
        fs::write(layout.path(&digest), vec![8; 3 << 18]).unwrap();
        let changed = layout.check(&[(digest.clone(), length)], 2);
        assert!(matches!(changed, Err(Error::Mismatch { .. })));
        assert!(layout.blob(&digest, length).is_err());
        assert!(matches!(
            layout.blob(&digest, 5),
            Err(Error::TooLong { .. })
        ));
        fs::remove_file(layout.path(&digest)).unwrap();
        let gone = layout.check(&[(digest.clone(), length)], 2);
        assert!(matches!(gone, Err(Error::Missing { .. })));
        assert_eq!(layout.blob(&digest, 5).unwrap(), None);
    }
}
