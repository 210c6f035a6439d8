//! Where test data lies, and copies of it that a test may change.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The folder of this package.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Images, keys and recorded answers of the real tools.
pub fn peers() -> PathBuf {
    package().join("fixtures/peers")
}

/// Keys made with OpenSSL.
pub fn openssl() -> PathBuf {
    package().join("fixtures/openssl")
}

/// Test images of the sylabs/sif project. They are under a licence of their
/// own and not part of this repository.
///
/// `SIGSIF_CORPUS` names the folder, else it is looked for beside the
/// repository.
pub fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("SIGSIF_CORPUS")
        .map_or_else(|| package().join("../shared/corpus/sif"), PathBuf::from);
    folder.join("MANIFEST.md").is_file().then_some(folder)
}

/// Copies a file; the copy can be written whatever the original's mode is.
pub fn copy(from: &Path, to: &Path) {
    let bytes = fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    fs::write(to, bytes).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
}

/// Copies files of the recorded keyring, with the modes that a keyring has.
pub fn keyring(to: &Path, files: &[&str]) {
    fs::create_dir_all(to).expect("keyring folder");
    mode(to, 0o700);
    for file in files {
        let copied = to.join(file);
        copy(&peers().join("keys/keyring").join(file), &copied);
        mode(&copied, 0o600);
    }
}

/// Sets the permission bits of a file or folder.
pub fn mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
