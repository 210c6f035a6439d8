//! Puts a new file in the place of an image, where it cannot be changed as it is.

use super::in_place::put;
use super::spool::copy_range;
use super::{Error, Note, SifFile, lock};
use crate::sif::Backing;
use crate::sif::edit::{Method, Patch, Rewrite};
use rustix::fs::{FlockOperation, Gid, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Largest list of names, or value, of extended attributes in bytes.
const MAX_ATTRIBUTES: usize = 1 << 16;

impl SifFile {
    /// Writes the new file beside the old one and gives it its name.
    pub(super) fn rewrite(
        &self,
        new: &Rewrite,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Note>, Error> {
        let old = self
            .file
            .metadata()
            .map_err(|source| self.system("stat", source))?;
        let written = self.write_beside(new, progress);
        let temporary = written.map_err(|source| self.system("write new file for", source))?;
        keep_owner(temporary.as_file(), &self.file).map_err(|source| Error::Owner {
            path: self.path.clone(),
            source,
        })?;
        self.finish(temporary)
            .map_err(|source| self.system("replace", source))?;
        Ok(match old.nlink().saturating_sub(1) {
            0 => Vec::new(),
            count => vec![Note::OtherNames(count)],
        })
    }

    /// Carries a patch that writes a new file out into another file; this one stays as it is.
    ///
    /// The other file gets its name when it is complete, and the permissions of
    /// this one less the umask. `progress` is as with [`SifFile::apply`].
    ///
    /// # Errors
    /// As [`Error`] says; a file of that name is none that is replaced.
    pub fn apply_to(
        &self,
        patch: &Patch,
        path: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let open = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        if path.symlink_metadata().is_ok() {
            return Err(open(io::Error::from_raw_os_error(libc::EEXIST)));
        }
        let mode = self.file.metadata().map_err(open)?.permissions().mode() & 0o777;
        let temporary = tempfile::Builder::new()
            .prefix(".sigsif-image-new-")
            .permissions(PermissionsExt::from_mode(mode))
            .tempfile_in(folder_of(path))
            // The path in it is that of the temporary file.
            .map_err(|error| {
                let code = error.raw_os_error();
                open(code.map_or(error, io::Error::from_raw_os_error))
            })?;
        let written = match &patch.method {
            Method::Rewrite(new) => self.fill(temporary.as_file(), new, progress),
            Method::InPlace(_) => Err(io::Error::other("a change in place has one file only")),
        };
        if !patch.before.matches(self.bytes()) || self.lost() {
            return Err(Error::Changed(self.path.clone()));
        }
        let written = written.and_then(|()| {
            temporary.as_file().sync_all()?;
            temporary.persist_noclobber(path).map_err(|e| e.error)?;
            File::open(folder_of(path))?.sync_all()
        });
        written.map_err(|source| Error::System {
            what: "write",
            path: path.to_owned(),
            source,
        })
    }

    fn write_beside(
        &self,
        new: &Rewrite,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<NamedTempFile> {
        let temporary = temporary(&self.place, &self.file)?;
        self.fill(temporary.as_file(), new, progress)?;
        Ok(temporary)
    }

    fn fill(&self, file: &File, new: &Rewrite, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        file.set_len(new.len)?;
        for copy in &new.copies {
            copy_range(&self.file, copy.from, file, copy.to, copy.len, progress)?;
        }
        for write in &new.writes {
            put(file, write)?;
        }
        Ok(())
    }

    fn finish(&self, temporary: NamedTempFile) -> io::Result<()> {
        keep_attributes(temporary.as_file(), &self.file)?;
        temporary.as_file().sync_all()?;
        if !lock::is_same(&self.file, &self.place)? {
            return Err(io::Error::other(
                "another program replaced the file meanwhile",
            ));
        }
        temporary
            .persist(&self.place)
            .map_err(|error| error.error)?;
        File::open(folder_of(&self.place))?.sync_all()
    }

    /// Removes new files of this image that killed writers left.
    ///
    /// Their names tell the file that they were to replace, whose lock is held
    /// here. Best effort: what stays is read by nobody.
    pub(super) fn sweep(&self) {
        let Ok(prefix) = prefix(&self.file) else {
            return;
        };
        let entries = std::fs::read_dir(folder_of(&self.place));
        for entry in entries.into_iter().flatten().flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
            if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// A file beside `place`, locked, which nobody but its owner can read.
pub(super) fn temporary(place: &Path, old: &File) -> io::Result<NamedTempFile> {
    let temporary = tempfile::Builder::new()
        .prefix(&prefix(old)?)
        .permissions(PermissionsExt::from_mode(0o600))
        .tempfile_in(folder_of(place))?;
    // Whoever opens the new name waits until all is done.
    rustix::fs::flock(
        temporary.as_file(),
        FlockOperation::NonBlockingLockExclusive,
    )?;
    Ok(temporary)
}

/// Start of the names of new files for an old one.
fn prefix(old: &File) -> io::Result<String> {
    let data = old.metadata()?;
    Ok(format!(".sigsif-image-{:x}-{:x}-", data.dev(), data.ino()))
}

/// Gives a new file the owner and the group of the old one.
pub(super) fn keep_owner(new: &File, old: &File) -> io::Result<()> {
    let (to, from) = (new.metadata()?, old.metadata()?);
    if (to.uid(), to.gid()) == (from.uid(), from.gid()) {
        return Ok(());
    }
    let owner = Uid::from_raw(from.uid());
    let group = Gid::from_raw(from.gid());
    Ok(rustix::fs::fchown(new, Some(owner), Some(group))?)
}

/// Gives a new file the mode and the extended attributes of the old one.
pub(super) fn keep_attributes(new: &File, old: &File) -> io::Result<()> {
    let mode = old.metadata()?.permissions().mode() & 0o7777;
    new.set_permissions(PermissionsExt::from_mode(mode))?;
    let mut names = vec![0; MAX_ATTRIBUTES];
    let len = match rustix::fs::flistxattr(old, &mut names) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    names.truncate(len);
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let bytes = name.to_bytes();
        // Labels that the system gives by its own rules, or computes from the content.
        let optional = bytes.starts_with(b"security.") || bytes.starts_with(b"trusted.");
        if optional && bytes != b"security.selinux" {
            continue;
        }
        let mut value = vec![0; MAX_ATTRIBUTES];
        let kept = rustix::fs::fgetxattr(old, name, &mut value).and_then(|len| {
            let value = value.get(..len).unwrap_or_default();
            rustix::fs::fsetxattr(new, name, value, XattrFlags::empty())
        });
        match kept {
            Err(error) if !optional => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn folder_of(path: &Path) -> PathBuf {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}
