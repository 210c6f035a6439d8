//! Apptainer's answers in SingularityCE's words, and masks for what varies.

use super::advice;
use super::common::called::Called;
use super::common::program::Answer;
use super::record::Record;

/// The answer that is expected: the recorded one with SingularityCE's wording.
///
/// Source: `fixtures/README.md`, spec/cli.md 0.4, 0.6, 0.7.
pub fn expected(record: &Record, called: Called) -> Answer {
    if record.origin == Called::Singularity {
        let name = format!("\"{}\"", called.name());
        let stderr = match record.exit {
            // Only the sentence was kept.
            1 => record.stderr.trim_end().replace("\"singularity\"", &name),
            _ => record.stderr.clone(),
        };
        return Answer {
            exit: record.exit,
            stdout: record.stdout.clone(),
            stderr,
            echo: Vec::new(),
        };
    }
    let (stdout, stderr) = match (record.exit, called) {
        (1, _) => usage_apart(record, called),
        (_, Called::Apptainer) => (record.stdout.clone(), without_early_colour(&record.stderr)),
        _ => (record.stdout.clone(), diagnostics(&record.stderr)),
    };
    Answer {
        exit: record.exit,
        stdout: match called {
            Called::Apptainer => stdout,
            _ => folders(stdout),
        },
        stderr,
        echo: record.echo.clone(),
    }
}

/// What the program answered, in the same form.
///
/// # Errors
/// The form of a usage error is broken.
pub fn found(answer: &Answer, recorded: &Record, called: Called) -> Result<Answer, String> {
    let mut answer = answer.clone();
    if answer.exit == 1 {
        // Apptainer's usage stands on the other stream.
        let whole = match (called, usage_start(&answer.stdout)) {
            (Called::Apptainer, Some(at)) => {
                let block = String::from_utf8_lossy(&answer.stdout[at..]).into_owned();
                answer.stdout.truncate(at);
                format!("{}\n\n{block}", answer.stderr.trim_end())
            }
            _ => answer.stderr.clone(),
        };
        answer.stderr = usage_sentence(&whole, recorded, called)?;
    }
    answer.stderr = advice::checked(&answer.stderr, recorded)?;
    Ok(answer)
}

/// Apptainer colours what it says before it has read its flags, on pipes as well.
fn without_early_colour(stderr: &str) -> String {
    let mut out = stderr.to_owned();
    for code in ["\x1b[33m", "\x1b[34m", "\x1b[0m"] {
        out = out.replace(code, "");
    }
    out
}

fn diagnostics(stderr: &str) -> String {
    let mut out = String::new();
    for line in stderr.split_inclusive('\n') {
        // Notes about the prefix of variables: this program has both prefixes
        // without a preference of Apptainer's.
        if line.contains(" is set, but APPTAINER_") || line.contains("have different values, using")
        {
            continue;
        }
        let line = line.strip_prefix("\x1b[33mWARNING:\x1b[0m ").map_or_else(
            || line.to_owned(),
            |text| match text.starts_with("Flag --") {
                true => text.to_owned(),
                false => line.to_owned(),
            },
        );
        match line.strip_prefix("FATAL:   Failed to ") {
            Some(rest) => out.push_str(&format!("FATAL:   failed to {rest}")),
            None => out.push_str(&line),
        }
    }
    out
}

/// Names of folders in listings: `~/.apptainer/keys` is `~/.singularity/sypgp`.
fn folders(stdout: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(stdout) {
        Ok(text) => text
            .replace("$DIR/cfg/keys/", "$DIR/cfg/sypgp/")
            .replace(
                "$DIR/home/.apptainer/keys/",
                "$DIR/home/.singularity/sypgp/",
            )
            .into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Apptainer prints its usage on stdout, SingularityCE on stderr; only the
/// sentence is compared.
fn usage_apart(record: &Record, called: Called) -> (Vec<u8>, String) {
    let at = usage_start(&record.stdout).unwrap_or(record.stdout.len());
    let sentence = record
        .stderr
        .trim_end()
        .replace("\"apptainer\"", &format!("{:?}", called.name()));
    (record.stdout[..at].to_vec(), sentence)
}

fn usage_start(stdout: &[u8]) -> Option<usize> {
    let find = |text: &[u8]| stdout.windows(text.len()).rposition(|w| w == text);
    find(b"Usage:\n").or_else(|| find(b"Options for "))
}

/// The sentence of a usage error, when all that surrounds it is in order.
fn usage_sentence(stderr: &str, recorded: &Record, called: Called) -> Result<String, String> {
    let (head, rest) = stderr
        .split_once("\n\n")
        .ok_or_else(|| format!("no blank line after the sentence: {stderr:?}"))?;
    let options = usage_start(&recorded.stdout)
        .is_some_and(|at| recorded.stdout[at..].starts_with(b"Options for "));
    let options = match recorded.origin {
        Called::Singularity => rest.starts_with("Options for "),
        _ => options,
    };
    let block = if options { "Options for " } else { "Usage:\n" };
    if !rest.starts_with(block) {
        return Err(format!(
            "{block:?} does not follow the sentence: {stderr:?}"
        ));
    }
    let hint = format!(
        "\nRun '{} --help' for more detailed usage information.\n",
        called.name()
    );
    if !rest.ends_with(&hint) {
        return Err(format!("the hint at --help is not the end: {stderr:?}"));
    }
    // More about the reason stands on indented lines of its own.
    let mut lines = head.lines();
    let sentence = lines.next().unwrap_or_default();
    match lines.find(|line| !line.starts_with("  ")) {
        Some(line) => Err(format!("unexpected line {line:?}")),
        None => Ok(sentence.to_owned()),
    }
}

/// Replaces the time of judgement in sentences about expired certificates.
pub fn mask_current_time(text: &str) -> String {
    let mut parts = text.split("current time ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || "-:TZ".contains(c));
        out.push_str("current time NOW");
        out.push_str(rest);
    }
    out
}

/// Replaces every fingerprint, for keys that are new in every run.
pub fn mask_fingerprints(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain(['\0']) {
        if matches!(c, '0'..='9' | 'A'..='F') {
            run.push(c);
            continue;
        }
        match run.len() {
            40 => out.push_str("<fingerprint>"),
            _ => out.push_str(&run),
        }
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// Replaces the positions of signatures in a `sif list`: their size varies.
pub fn mask_signature_positions(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let cells: Vec<&str> = line.split('|').collect();
        match cells.as_slice() {
            [id, group, link, _, kind] if kind.starts_with("Signature (") => {
                out.push_str(&format!("{id}|{group}|{link}|<position>|{kind}"));
            }
            _ => out.push_str(line),
        }
    }
    out
}

/// Replaces times and the image id in `sif header` and `sif info`.
pub fn mask_image(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let (label, value) = line.split_once(':').unwrap_or((line, ""));
        let varies = match label.trim() {
            "Created At" | "Modified At" => true,
            "ID" => value.trim().len() == 36,
            _ => false,
        };
        match varies {
            true => out.push_str(&format!("{label}:<varies>\n")),
            false => out.push_str(line),
        }
    }
    out
}

#[test]
fn masks_hide_only_what_varies() {
    let print = "0123456789ABCDEF0123456789ABCDEF01234567";
    assert_eq!(
        mask_fingerprints(&format!("F: {print}\n")),
        "F: <fingerprint>\n"
    );
    let longer = format!("{print}0 {}", &print[1..]);
    assert_eq!(mask_fingerprints(&longer), longer);
    assert_eq!(
        mask_signature_positions("4 |NONE |1 (G) |1-2 |Signature (SHA-256)\n3 |1 |NONE |5-6 |FS\n"),
        "4 |NONE |1 (G) |<position>|Signature (SHA-256)\n3 |1 |NONE |5-6 |FS\n"
    );
    assert_eq!(
        mask_image("  ID:  1\n  Created At:  2020\nID: 6ecc76b7-a497-4f7f-9ebd-8da2a04c6be1\n"),
        "  ID:  1\n  Created At:<varies>\nID:<varies>\n"
    );
}
