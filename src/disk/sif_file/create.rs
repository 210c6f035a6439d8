//! A new image file.

use super::rewrite::{folder_of, keep_attributes, keep_owner, temporary};
use super::{Error, Note, SifFile, Wait};
use crate::sif::Header;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Symbolic links that are followed one after the other.
const MAX_LINKS: usize = 40;

/// Makes an image without objects, in the place of a file if there is one.
///
/// The new file gets its name when it is complete, so a failure leaves what
/// was there. An old file is locked meanwhile and passes on its owner, mode
/// and attributes; else the mode is 0755 less the umask. A symbolic link is
/// followed, also one that leads nowhere yet.
///
/// # Errors
/// As [`Error`] says.
pub fn create(path: &Path, header: &Header, mut wait: Wait<'_>) -> Result<Vec<Note>, Error> {
    let open = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    let place = target_of(path).map_err(open)?;
    loop {
        match std::fs::metadata(&place) {
            Ok(_) => return replace(path, header, wait),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(open(error)),
        }
        match create_new(&place, header) {
            // Another program made it at this moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => wait = Wait::Silently,
            done => return done.map(|()| Vec::new()).map_err(open),
        }
    }
}

fn create_new(place: &Path, header: &Header) -> io::Result<()> {
    let temporary = tempfile::Builder::new()
        .prefix(".sigsif-image-new-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempfile_in(folder_of(place))
        // The path in it is that of the temporary file.
        .map_err(|error| {
            error
                .raw_os_error()
                .map_or(error, io::Error::from_raw_os_error)
        })?;
    fill(&temporary, header)?;
    temporary.as_file().sync_all()?;
    temporary
        .persist_noclobber(place)
        .map_err(|error| error.error)?;
    File::open(folder_of(place))?.sync_all()
}

fn replace(path: &Path, header: &Header, wait: Wait<'_>) -> Result<Vec<Note>, Error> {
    let old = match SifFile::lock(path, wait) {
        Err(Error::Directory(path)) => {
            let source = io::Error::from_raw_os_error(libc::EISDIR);
            return Err(Error::Open { path, source });
        }
        old => old?,
    };
    let write = |source| old.system("write", source);
    let others = old
        .file
        .metadata()
        .map_err(write)?
        .nlink()
        .saturating_sub(1);
    let temporary = temporary(&old.place, &old.file).map_err(write)?;
    fill(&temporary, header).map_err(write)?;
    keep_owner(temporary.as_file(), &old.file).map_err(|source| Error::Owner {
        path: path.to_owned(),
        source,
    })?;
    keep_attributes(temporary.as_file(), &old.file)
        .and_then(|()| temporary.as_file().sync_all())
        .map_err(write)?;
    temporary
        .persist(&old.place)
        .map_err(|error| error.error)
        .and_then(|_| File::open(folder_of(&old.place))?.sync_all())
        .map_err(write)?;
    Ok(match others {
        0 => Vec::new(),
        count => vec![Note::OtherNames(count)],
    })
}

fn fill(temporary: &NamedTempFile, header: &Header) -> io::Result<()> {
    let len = u64::try_from(header.data_offset()).map_err(io::Error::other)?;
    temporary.as_file().set_len(len)?;
    temporary.as_file().write_all_at(header.as_bytes(), 0)
}

/// The end of a chain of symbolic links, whether there is a file or not.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&place) {
            Ok(target) => place = folder_of(&place).join(target),
            Err(_) => return Ok(place),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}
