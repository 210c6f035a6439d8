//! What the program says about itself: every command teaches by example, and fits the screen.

use crate::support::{Home, run};
use clap::Command;
use unicode_width::UnicodeWidthStr;

/// Widest line of a help text, in columns.
const WIDTH: usize = 80;

/// Every command that people call, with the words that name it.
fn commands() -> Vec<(Vec<String>, Command)> {
    let mut root = sigsif::cli::command().term_width(WIDTH);
    root.build();
    let mut all = Vec::new();
    let mut todo = vec![(vec!["sigsif".to_owned()], root)];
    while let Some((words, command)) = todo.pop() {
        for sub in command.get_subcommands() {
            if sub.get_name() == "help" || sub.is_hide_set() {
                continue;
            }
            let mut words = words.clone();
            words.push(sub.get_name().to_owned());
            todo.push((words, sub.clone()));
        }
        all.push((words, command));
    }
    assert!(all.len() > 50, "{} commands", all.len());
    all
}

fn text_behind(command: &Command) -> String {
    let text = command.get_after_help().or(command.get_after_long_help());
    text.map(ToString::to_string).unwrap_or_default()
}

/// The command lines that a help text shows.
fn examples(command: &Command) -> Vec<String> {
    let text = text_behind(command);
    // A line that ends with a backslash goes on.
    let text = text.replace("\\\n", " ");
    let lines = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("$ "));
    lines.map(ToOwned::to_owned).collect()
}

#[test]
fn every_command_has_examples_of_itself() {
    let mut faults = Vec::new();
    for (words, command) in commands() {
        let name = words.join(" ");
        let shown = examples(&command);
        if shown.is_empty() {
            faults.push(format!("{name}: no example"));
        }
        if !shown.iter().any(|line| line.contains(&name)) {
            faults.push(format!("{name}: no example has it: {shown:?}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_example_is_a_command_line() {
    let mut faults = Vec::new();
    for (words, command) in commands() {
        for line in examples(&command) {
            // Pipes, redirections and loops belong to the shell.
            let parts = line.split(['|', ';', '&']).map(str::trim);
            let ours = parts.filter_map(|part| part.split_once("sigsif ").map(|(_, rest)| rest));
            let mut any = false;
            for part in ours {
                any = true;
                let part = part.split(['>', '<']).next().unwrap_or_default();
                let args = std::iter::once("sigsif").chain(part.split_whitespace());
                let args = args.map(|word| word.trim_matches(['\'', '"']));
                if let Err(error) = sigsif::cli::command().try_get_matches_from(args) {
                    faults.push(format!("{}: {line}: {error}", words.join(" ")));
                }
            }
            // Other programs have a part in some.
            if !any && !line.starts_with("cosign ") {
                faults.push(format!("{}: not ours: {line}", words.join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_flag_is_explained_and_every_line_fits() {
    let mut faults = Vec::new();
    for (words, mut command) in commands() {
        let name = words.join(" ");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if arg.get_help().or(arg.get_long_help()).is_none() {
                faults.push(format!("{name}: {} has no help", arg.get_id()));
            }
        }
        // Wrapped by a program, an example can no longer be copied.
        let behind = text_behind(&command);
        for line in behind.lines().filter(|line| line.width() > WIDTH) {
            if line.contains('$') || line.starts_with("    ") {
                faults.push(format!("{name}: example is too wide: {line}"));
            }
        }
        if command.get_about().is_none() {
            faults.push(format!("{name}: says not what it does"));
        }
        for help in [command.render_help(), command.render_long_help()] {
            for line in help.to_string().lines().filter(|line| line.width() > WIDTH) {
                faults.push(format!("{name}: {line}"));
            }
        }
    }
    faults.dedup();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Help that nobody looks at is as wide as that of the originals; `COLUMNS` is obeyed.
#[test]
fn help_in_a_pipe_fits_as_well() {
    let home = Home::new();
    let mut faults = Vec::new();
    let mut says = |args: &[String], columns: Option<&str>, most: usize| {
        let mut command = home.sigsif(args);
        command
            .env_remove("COLUMNS")
            .stdin(std::process::Stdio::null());
        if let Some(columns) = columns {
            command.env("COLUMNS", columns);
        }
        let outcome = run(&mut command).expect(0);
        let text = String::from_utf8(outcome.stdout).expect("UTF-8");
        let widest = text.lines().map(UnicodeWidthStr::width).max();
        let widest = widest.unwrap_or_default();
        if widest > most {
            faults.push(format!(
                "{args:?} with COLUMNS {columns:?}: {widest} columns"
            ));
        }
        widest
    };
    for (words, _) in commands() {
        let mut args = words[1..].to_vec();
        args.push("--help".to_owned());
        says(&args, None, WIDTH);
    }
    let verify = ["verify".to_owned(), "--help".to_owned()];
    let wide = says(&verify, Some("120"), 120);
    assert!(wide > WIDTH, "COLUMNS does nothing: {wide}");
    // Help says what it wants as the usage does, not how the parser sees it.
    for (args, wanted) in [
        (
            &["sif", "add"][..],
            "\nArguments:\n  <sif_path> <object_path>\n",
        ),
        (&["sif", "export"], "\nArguments:\n  <sif_path>\n"),
        (&["pull"], "\nArguments:\n  [output file] <URI>\n"),
        (&["sif", "dump"], "\nArguments:\n  <id> <sif_path>  id of"),
        (&["verify"], "\nArguments:\n  <image path>...\n"),
    ] {
        for words in [&[args, &["--help"]].concat(), &[&["help"], args].concat()] {
            let outcome = run(&mut home.sigsif(words)).expect(0);
            let text = String::from_utf8(outcome.stdout).expect("UTF-8");
            assert!(text.contains(wanted), "{words:?}: {text}");
        }
    }
    // No number.
    says(&verify, Some("wide"), WIDTH);
    // What stands behind a wrong flag is a part of it, on another stream.
    let outcome = run(home.sigsif(["verify", "--nosuch"]).env_remove("COLUMNS")).expect(1);
    let unknown = run(home.sigsif(["frobnicate"]).env_remove("COLUMNS")).expect(1);
    let key = run(home.sigsif(["key"]).env_remove("COLUMNS")).expect(1);
    assert!(
        key.stderr
            .contains("\n  generate-cosign-key-pair  Generate a key-pair"),
        "{}",
        key.stderr
    );
    let all = [outcome.stderr, unknown.stderr, key.stderr].concat();
    for line in all.lines() {
        if line.width() > WIDTH {
            faults.push(format!("a wrong command line: {line}"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_mistyped_word_is_met_with_the_right_one() {
    let home = Home::new();
    home.copy("native/pgp-one.sif", "image.sif");
    for (args, near) in [
        (&["verfy", "x"][..], "Did you mean this?\n\tverify"),
        (
            &["verify", "--recursve", "x"],
            "Did you mean '--recursive'?",
        ),
        (&["key", "list", "--secrt"], "Did you mean '--secret'?"),
        (&["key", "lst"], "  Did you mean 'list'?"),
        (
            &["sif", "info", "9", "image.sif"],
            "  'sigsif sif list IMAGE' shows the ids",
        ),
        (
            &["sif", "add", "image.sif", "x"],
            "  'sigsif sif add --help' has the numbers",
        ),
        (
            &["pull", "--platfrm", "a/b", "x"],
            "Did you mean '--platform'?",
        ),
    ] {
        run(&mut home.sigsif(args)).expect(1).says(near);
    }
    run(&mut home.sigsif(["verify", "--format", "jsn", "x"]))
        .expect(1)
        .says("must be text or json");
}

#[test]
fn plain_output_has_facts_and_no_drawings() {
    let home = Home::with_keys();
    let image = home.copy("native/pgp-one.sif", "image.sif");
    let oci = home.copy("cosign/sif/key-p384.oci.sif", "image.oci.sif");
    let says = |args: &[&str], path: Option<&std::path::Path>| {
        let mut command = home.sigsif(args);
        command.args(path);
        let outcome = run(&mut command).expect(0);
        String::from_utf8(outcome.stdout).expect("UTF-8")
    };
    let drawn = says(&["sif", "tree"], Some(&oci));
    let plain = says(&["--plain", "sif", "tree"], Some(&oci));
    assert!(drawn.contains("|-- ") && drawn.contains("`-- "), "{drawn}");
    let bare = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.trim_start_matches([' ', '|', '`', '-']));
        lines.map(ToOwned::to_owned).collect()
    };
    assert!(!plain.contains('|') && !plain.contains('`'), "{plain}");
    assert_eq!(bare(&plain), bare(&drawn));

    let drawn = says(&["sif", "list", "--coverage"], Some(&image));
    let plain = says(&["--plain", "sif", "list", "--coverage"], Some(&image));
    let (bar, rest) = drawn.split_once('\n').expect("a bar");
    assert!(bar.starts_with('[') && bar.ends_with(']'), "{drawn}");
    assert_eq!(plain, rest);

    let plain = says(&["--plain", "sif", "list"], Some(&image));
    assert!(!plain.contains('|') && !plain.contains("--"), "{plain}");
    let objects: Vec<&str> = plain.split("\n\n").collect();
    assert_eq!(objects.len(), 4);
    assert_eq!(
        objects[3],
        "Object: 4\nType: Signature (SHA-256)\nGroup: none\nLinked to: group 1\n\
         Bytes: 36864 to 38529\n"
    );
    let plain = says(&["--plain", "verify", "--local"], Some(&image));
    assert_eq!(
        plain,
        "Signing entity: Alice Builder (fixture) <alice@example.org>\n\
         Fingerprint: 31359731D5C34C90C977AAF822CC73292934D01F\n\
         Key: from your keyring\n\
         Object verified: 1, Def.FILE, group 1\n\
         Object verified: 2, JSON.Generic, group 1\n\
         Object verified: 3, FS, group 1\n"
    );
    // What is said is the same: every word of the drawn answer that is no drawing.
    let drawn = says(&["verify", "--local"], Some(&image));
    for word in [
        "Alice",
        "31359731D5C34C90C977AAF822CC73292934D01F",
        "Def.FILE",
        "FS",
    ] {
        assert!(drawn.contains(word) && plain.contains(word), "{word}");
    }

    assert!(says(&["remote", "list"], None).contains("SylabsCloud  cloud.sylabs.io  ✓"));
    assert_eq!(
        says(&["--plain", "remote", "list"], None),
        "\nNAME: SylabsCloud\nURI: cloud.sylabs.io\nDEFAULT: yes\nGLOBAL: yes\nSECURE: yes\n"
    );
}
