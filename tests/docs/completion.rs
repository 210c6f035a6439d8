//! Completions, asked of the shells themselves.

use crate::support::{self, Home};
use std::path::PathBuf;
use std::process::Command;

/// What is typed, and what the shell has to offer, among others.
const ASKED: &[(&str, &[&str])] = &[
    ("sigsif ver", &["verify", "verify-attestation"]),
    ("sigsif key new", &["newpair"]),
    (
        "sigsif sign --pass",
        &["--passphrase-file", "--passphrase-fd"],
    ),
    ("sigsif sif add --parta", &["--partarch"]),
    ("sigsif verify --legacy", &["--legacy-insecure"]),
];

/// Asks `shell` about every line; `ask` makes the command for a script and a line.
fn shell_offers(shell: &str, ask: impl Fn(&Home, PathBuf, &str) -> Command) {
    let home = Home::new();
    let made = home.sigsif(["completion", shell]).output().expect("sigsif");
    assert!(made.status.success(), "{made:?}");
    // The name by which zsh finds it.
    let script = home.write("_sigsif", &made.stdout);
    for (line, wanted) in ASKED {
        let answer = support::run(&mut ask(&home, script.clone(), line));
        let said = String::from_utf8_lossy(&answer.stdout);
        let offers: Vec<_> = said
            .lines()
            .filter_map(|line| line.strip_prefix("offer:"))
            .collect();
        assert!(answer.stderr.is_empty(), "{line}: {answer}");
        assert!(!offers.contains(&"sigsif"), "{line}: {said}");
        for word in *wanted {
            assert!(offers.contains(word), "{line}: no {word} in {said}");
        }
    }
}

#[test]
fn bash_completes_commands_and_options() {
    let Some(bash) = support::tool("bash") else {
        return support::skip_without("bash");
    };
    // As the shell does at TAB: the function gets command, word and the word before.
    let program = r#"source "$1"
        read -ra COMP_WORDS <<<"$2"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        COMP_LINE=$2 COMP_POINT=${#2}
        function=$(complete -p sigsif | sed 's/.*-F \([^ ]*\) .*/\1/')
        "$function" sigsif "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf 'offer:%s\n' "${COMPREPLY[@]}""#;
    shell_offers("bash", |home, script, line| {
        let mut command = home.clean(&bash);
        command
            .args(["--norc", "-c", program, "bash"])
            .arg(script)
            .arg(line);
        command
    });
}

#[test]
fn fish_completes_commands_and_options() {
    let Some(fish) = support::tool("fish") else {
        return support::skip_without("fish");
    };
    let program = r#"source $argv[1]
        for word in (complete -C $argv[2]); echo offer:(string split -m1 -- \t $word)[1]; end"#;
    shell_offers("fish", |home, script, line| {
        let mut command = home.clean(&fish);
        command
            .args(["--no-config", "-c", program])
            .arg(script)
            .arg(line);
        command
    });
}

#[test]
fn zsh_completes_commands_and_options() {
    let Some(zsh) = support::tool("zsh") else {
        return support::skip_without("zsh");
    };
    let capture = support::project().join("tests/docs/capture.zsh");
    shell_offers("zsh", |home, script, line| {
        let mut command = home.clean(&zsh);
        command.arg("-f").arg(&capture);
        command.arg(script.parent().expect("a folder")).arg(line);
        command
    });
}

#[test]
fn another_shell_is_refused_with_the_choice() {
    let home = Home::new();
    let failed = home
        .sigsif(["completion", "tcsh"])
        .output()
        .expect("sigsif");
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr);
    let text = "invalid argument \"tcsh\": must be one of bash, zsh, fish";
    assert!(said.contains(text), "{said}");
}
