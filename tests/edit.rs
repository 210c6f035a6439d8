//! Changing images: `sif new`, `add`, `del`, `setprim`, `grow`, and `sign` where the table is full.
//!
//! What a crash leaves is tested by `tests/durability.rs`, what Apptainer
//! answered by `tests/replay.rs`.

mod support;

#[path = "edit/commands.rs"]
mod commands;
#[path = "edit/files.rs"]
mod files;
#[path = "edit/peers.rs"]
mod peers;
#[path = "edit/property.rs"]
mod property;

use std::path::{Path, PathBuf};
use support::table::{self, Object};
use support::{Home, Outcome, run};

/// `sigsif` with words, then paths, at a fixed time.
fn sigsif(home: &Home, words: &str, paths: &[&Path]) -> Outcome {
    let mut command = home.sigsif(words.split(' '));
    run(command.args(paths).env("SOURCE_DATE_EPOCH", support::TIME))
}

/// Adds a signature by the Ed25519 key of the fixtures.
fn sign(home: &Home, image: &Path) -> Outcome {
    let key = support::peers("keys/ed25519.key.pem");
    run(home.sigsif(["sign", "--key"]).arg(key).arg(image))
}

/// Verifies with the Ed25519 key of the fixtures; `more` flags in front.
fn verify(home: &Home, more: &[&str], image: &Path) -> Outcome {
    let key = support::peers("keys/ed25519.pub.pem");
    let mut command = home.sigsif(["verify"]);
    run(command.args(more).arg("--key").arg(key).arg(image))
}

/// An image of four slots: a text and a primary partition in group 1, a signature over it, and
/// one more object, in group 2.
fn full(home: &Home) -> PathBuf {
    let image = home.join("full.sif");
    let data = home.write("some-data", b"0123456789");
    sigsif(home, "sif new --capacity 4", &[&image]).expect(0);
    for words in [
        "sif add --datatype 1 --groupid 1",
        "sif add --datatype 4 --partfs 1 --parttype 2 --partarch 2 --groupid 1",
    ] {
        sigsif(home, words, &[&image, &data]).expect(0);
    }
    sign(home, &image).expect(0);
    sigsif(home, "sif add --datatype 6 --groupid 2", &[&image, &data]).expect(0);
    image
}

fn objects(image: &Path) -> Vec<Object> {
    table::objects(&std::fs::read(image).expect("the image"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}
