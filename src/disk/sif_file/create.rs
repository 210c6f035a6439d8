//! A new image file.

use super::rewrite::{folder_of, keep_attributes, keep_owner, temporary};
use super::{Error, Note, SifFile, Wait};
use crate::sif::Header;
use crate::sif::edit::Patch;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed one after the other.
const MAX_LINKS: usize = 40;

/// Permissions of a new file, less the umask.
const MODE: u32 = 0o755;

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
        let made = match without_name(&place, header) {
            Err(error) if is_unable(&error) => with_name(&place, header),
            made => made,
        };
        match made {
            // Another program made it at this moment.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => wait = Wait::Silently,
            made => return made.map(|()| Vec::new()).map_err(open),
        }
    }
}

/// Makes a file that has no name before it is complete: nothing stays of it if the program is killed.
fn without_name(place: &Path, header: &Header) -> io::Result<()> {
    let folder = folder_of(place);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(&folder, flags, Mode::from_raw_mode(MODE))?);
    fill(&file, header)?;
    file.sync_all()?;
    let open_file = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, open_file, CWD, place, AtFlags::SYMLINK_FOLLOW)?;
    File::open(folder)?.sync_all()
}

/// Whether the file system, or a system without `/proc`, knows no files without names.
fn is_unable(error: &io::Error) -> bool {
    let unable = [
        Errno::OPNOTSUPP,
        Errno::ISDIR,
        Errno::INVAL,
        Errno::NOENT,
        Errno::PERM,
        Errno::NOSYS,
    ];
    unable
        .iter()
        .any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}

fn with_name(place: &Path, header: &Header) -> io::Result<()> {
    let folder = folder_of(place);
    let temporary = tempfile::Builder::new()
        .prefix(".sigsif-image-new-")
        .permissions(PermissionsExt::from_mode(MODE))
        .tempfile_in(&folder)
        // The path in it is that of the temporary file.
        .map_err(|error| {
            let number = error.raw_os_error();
            number.map_or(error, io::Error::from_raw_os_error)
        })?;
    fill(temporary.as_file(), header)?;
    temporary.as_file().sync_all()?;
    temporary
        .persist_noclobber(place)
        .map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Makes an image with objects, which gets its name when it is complete.
///
/// `plan` gets the new file without objects and says what comes into it; data
/// may be spooled meanwhile. The mode is 0755 less the umask.
///
/// # Errors
/// As [`Error`] says; [`Error::Open`] with [`io::ErrorKind::AlreadyExists`] if
/// there is a file. Then nothing was made.
pub fn create_filled<E: From<Error>>(
    path: &Path,
    header: &Header,
    plan: impl FnOnce(&SifFile) -> Result<Patch, E>,
) -> Result<(), E> {
    let open = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    if path.symlink_metadata().is_ok() {
        return Err(open(io::ErrorKind::AlreadyExists.into()).into());
    }
    let temporary = tempfile::Builder::new()
        .prefix(".sigsif-image-new-")
        .permissions(PermissionsExt::from_mode(MODE))
        .tempfile_in(folder_of(path))
        .map_err(open)?;
    fill(temporary.as_file(), header).map_err(open)?;
    let file = SifFile::lock(temporary.path(), Wait::Silently)?;
    let patch = plan(&file)?;
    file.apply(&patch, &mut |_| ())?;
    temporary
        .into_temp_path()
        .persist_noclobber(path)
        .map_err(|error| error.error)
        .and_then(|()| File::open(folder_of(path))?.sync_all())
        .map_err(open)?;
    Ok(())
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
    fill(temporary.as_file(), header).map_err(write)?;
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

fn fill(file: &File, header: &Header) -> io::Result<()> {
    let len = u64::try_from(header.data_offset()).map_err(io::Error::other)?;
    file.set_len(len)?;
    file.write_all_at(header.as_bytes(), 0)
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
