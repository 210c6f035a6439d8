//! The names by which the program is called, and what goes with each.
#![allow(dead_code, reason = "every test binary uses only a part")]

use std::path::{Path, PathBuf};

/// The name by which the program is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// Its own: answers are SingularityCE's.
    Sigsif,
    /// `singularity`.
    Singularity,
    /// `apptainer`: answers are the recorded ones, word for word.
    Apptainer,
}

impl Called {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sigsif, Self::Singularity, Self::Apptainer];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigsif => "sigsif",
            Self::Singularity => "singularity",
            Self::Apptainer => "apptainer",
        }
    }

    /// In front of variables that are set for this name.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Sigsif => "SIGSIF_",
            Self::Singularity => "SINGULARITY_",
            Self::Apptainer => "APPTAINER_",
        }
    }

    /// The variable that names the keyring.
    pub fn keys(self) -> &'static str {
        match self {
            Self::Sigsif => "SIGSIF_KEYSDIR",
            Self::Singularity => "SINGULARITY_SYPGPDIR",
            Self::Apptainer => "APPTAINER_KEYSDIR",
        }
    }

    /// The variable that names the user's folder.
    pub fn config(self) -> &'static str {
        match self {
            Self::Sigsif => "SIGSIF_CONFIGDIR",
            Self::Singularity => "SINGULARITY_CONFIGDIR",
            Self::Apptainer => "APPTAINER_CONFIGDIR",
        }
    }

    /// The program by this name: a link in `folder`, which is made.
    pub fn program(self, folder: &Path) -> PathBuf {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sigsif"));
        if self == Self::Sigsif {
            return program;
        }
        std::fs::create_dir_all(folder).expect("a folder");
        let link = folder.join(self.name());
        if !link.exists() {
            std::os::unix::fs::symlink(program, &link).expect("a link");
        }
        link
    }
}
