//! `man`: a manual page for every command, from the definition that parses them.

use super::{Error, usage};
use crate::disk::{errno_text, files};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::ffi::OsString;
use std::path::Path;

const EXIT: &[(&str, &str)] = &[
    (
        "0",
        "success; for 'verify': every signature that was asked for holds",
    ),
    ("1", "wrong command line; any failure of a 'sif' command"),
    (
        "2",
        "'key newpair', 'import', 'search', 'pull', 'push' or 'refresh' failed",
    ),
    ("10", "'key export' failed"),
    ("255", "every other failure"),
];

const FILES: &[(&str, &str)] = &[
    (
        "~/.singularity/sypgp",
        "keyring of the user; SIGSIF_KEYSDIR names another folder",
    ),
    (
        "~/.singularity/remote.yaml, ~/.singularity/docker-config.json",
        "endpoints, key servers and logins; SIGSIF_CONFIGDIR names another folder",
    ),
    (
        "/etc/singularity/global-pgp-public",
        "keyring of all users; SIGSIF_SYSCONFDIR names another folder",
    ),
    (
        "/etc/singularity/ecl.toml",
        "execution control list, see sigsif-ecl(1)",
    ),
];

/// Write the manual pages of all commands into a folder
///
/// Packages bring the pages along. The folder must exist; pages that are there
/// are replaced.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif man <folder>",
    after_help = "Examples:\n  \
                  $ sigsif man ~/.local/share/man/man1"
)]
pub(super) struct Args {
    /// where the pages go
    #[arg(value_name = "folder", value_hint = clap::ValueHint::DirPath)]
    folder: Vec<OsString>,
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    usage::exactly(&["man"], 1, &args.folder)?;
    let folder = Path::new(args.folder.first().map_or("".as_ref(), |f| f.as_os_str()));
    for (name, page) in pages() {
        let file = folder.join(name);
        files::write_named(&file, &page, 0o644).map_err(|error| {
            Error::fatal(format!(
                "while writing '{}': {}",
                file.display(),
                errno_text(&error)
            ))
        })?;
    }
    Ok(())
}

/// Name and text of every page: one for each command that help shows.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut root = usage::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    let mut rest = vec![(root, None)];
    while let Some((command, parent)) = rest.pop() {
        let name = full_name(&command);
        pages.push((format!("{name}.1"), page(&command, parent.as_deref())));
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        rest.extend(shown.map(|sub| (sub.clone(), Some(name.clone()))));
    }
    pages
}

/// `sigsif-key-newpair`.
fn full_name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command, parent: Option<&str>) -> Vec<u8> {
    let man = Man::new(command.clone())
        .source(concat!("sigsif ", env!("CARGO_PKG_VERSION")))
        .manual("sigsif manual");
    let mut out = Vec::new();
    // Writing into memory cannot fail.
    let _ = man.render_title(&mut out);
    let _ = man.render_name_section(&mut out);
    let _ = man.render_synopsis_section(&mut out);
    let _ = man.render_description_section(&mut out);
    let mut options = Vec::new();
    let _ = man.render_options_section(&mut options);
    if let Some((name, tail)) = usage::operands(command) {
        let options = String::from_utf8_lossy(&options);
        let theirs = format!("[\\fI{name}\\fR]");
        out.extend(options.replacen(&theirs, &tail, 1).into_bytes());
    } else {
        out.extend(options);
    }
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut out);
    }
    let mut end = Roff::new();
    if let Some(examples) = command.get_after_help() {
        let text = examples.to_string();
        section(&mut end, "EXAMPLES");
        end.control("nf", []);
        for line in text.lines().skip_while(|line| *line == "Examples:") {
            end.text([roman(line.trim_start())]);
        }
        end.control("fi", []);
    }
    match parent {
        None => {
            list(&mut end, "FILES", FILES);
            list(&mut end, "EXIT STATUS", EXIT);
        }
        Some(parent) => {
            section(&mut end, "EXIT STATUS");
            end.text([roman("See "), bold("sigsif"), roman("(1).")]);
            section(&mut end, "SEE ALSO");
            end.text([bold(parent), roman("(1)")]);
        }
    }
    let _ = end.to_writer(&mut out);
    out
}

fn section(roff: &mut Roff, name: &str) {
    roff.control("SH", [name]);
}

fn list(roff: &mut Roff, name: &str, rows: &[(&str, &str)]) {
    section(roff, name);
    for (term, what) in rows {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
}
