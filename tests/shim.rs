//! Called through a link named `singularity` or `apptainer`.

#[allow(dead_code, reason = "every test binary uses only a part")]
mod common;
#[path = "shim/logins.rs"]
mod logins;
#[path = "net/server.rs"]
#[allow(dead_code, reason = "this test needs a part of it")]
mod server;
mod support;

use common::program::{Answer, Call, Input, Sandbox, run_as};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A sandbox without any variable but the home and the administrator's folder.
struct Desk(Sandbox);

impl Desk {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        // The originals make it.
        fs::remove_dir(sandbox.config()).expect("the empty folder");
        Self(sandbox)
    }

    fn run(&self, name: &str, args: &[&str], more: &[(&str, &str)]) -> Answer {
        let mut env: Vec<_> = self
            .0
            .env()
            .into_iter()
            .filter(|(name, _)| !name.contains("CONFIGDIR") && !name.contains("KEYSDIR"))
            .collect();
        env.extend(more.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())));
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        run_as(
            &self.0.link(name),
            &Call {
                args: &args,
                folder: &self.0.work(),
                env: &env,
                input: Input::Empty,
            },
        )
    }

    /// Stdout of a call that succeeds.
    fn says(&self, name: &str, args: &[&str], more: &[(&str, &str)]) -> String {
        let answer = self.run(name, args, more);
        assert_eq!(answer.exit, 0, "{name} {args:?}: {answer:?}");
        String::from_utf8(answer.stdout).expect("UTF-8")
    }

    fn home(&self, path: &str) -> std::path::PathBuf {
        self.0.home().join(path)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn each_name_has_its_folders() {
    for (name, folder) in [
        ("sigsif", ".singularity/sypgp"),
        ("singularity", ".singularity/sypgp"),
        ("apptainer", ".apptainer/keys"),
        ("singularity-ce", ".singularity/sypgp"),
    ] {
        let desk = Desk::new();
        let keyring = desk.home(folder).join("pgp-public");
        let listing = format!("Public key listing ({}):\n\n", keyring.display());
        assert_eq!(desk.says(name, &["key", "list"], &[]), listing);
        if name != "sigsif" && name != "singularity-ce" {
            let top = folder.split('/').next().expect("a folder");
            assert_eq!(mode(&desk.home(top)), 0o700);
        }
    }
}

#[test]
fn each_name_has_its_variables() {
    let desk = Desk::new();
    let at = |folder: &str| {
        let path = desk.0.work().join(folder);
        format!("Public key listing ({}/pgp-public):\n\n", path.display())
    };
    let path = |folder: &str| desk.0.work().join(folder).display().to_string();
    let (one, two) = (path("one"), path("two"));
    for (name, variables, wanted) in [
        ("apptainer", vec![("APPTAINER_KEYSDIR", &one)], "one"),
        ("apptainer", vec![("SINGULARITY_SYPGPDIR", &one)], "one"),
        (
            "apptainer",
            vec![("APPTAINER_KEYSDIR", &one), ("SINGULARITY_SYPGPDIR", &two)],
            "one",
        ),
        ("apptainer", vec![("APPTAINER_CONFIGDIR", &one)], "one/keys"),
        (
            "apptainer",
            vec![("SINGULARITY_CONFIGDIR", &one)],
            "one/keys",
        ),
        ("singularity", vec![("SINGULARITY_SYPGPDIR", &one)], "one"),
        (
            "singularity",
            vec![("SINGULARITY_CONFIGDIR", &one)],
            "one/sypgp",
        ),
        (
            "singularity",
            vec![("SINGULARITY_SYPGPDIR", &one), ("APPTAINER_KEYSDIR", &two)],
            "one",
        ),
    ] {
        let more: Vec<_> = variables.iter().map(|(a, b)| (*a, b.as_str())).collect();
        let said = desk.says(name, &["key", "list"], &more);
        assert_eq!(said, at(wanted), "{name} {variables:?}");
    }
}

#[test]
fn apptainer_says_which_prefix_it_prefers() {
    let desk = Desk::new();
    let folder = desk.0.work().display().to_string();
    let answer = desk.run(
        "apptainer",
        &["key", "list"],
        &[("SINGULARITY_CONFIGDIR", &folder)],
    );
    let told = "INFO:    Environment variable SINGULARITY_CONFIGDIR is set, but \
                APPTAINER_CONFIGDIR is preferred\n";
    assert_eq!(answer.stderr.matches(told).count(), 1, "{}", answer.stderr);
    let both = [
        ("SINGULARITY_CONFIGDIR", "/x"),
        ("APPTAINER_CONFIGDIR", folder.as_str()),
    ];
    let answer = desk.run("apptainer", &["key", "list"], &both);
    assert!(answer.stderr.contains(
        "WARNING: SINGULARITY_CONFIGDIR and APPTAINER_CONFIGDIR have different values, using the \
         latter\n"
    ));
    let answer = desk.run("singularity", &["key", "list"], &both[1..]);
    assert!(answer.stderr.is_empty(), "{}", answer.stderr);
}

#[test]
fn apptainer_takes_over_the_keys_of_singularity_once() {
    let desk = Desk::new();
    let old = desk.home(".singularity/sypgp");
    fs::create_dir_all(&old).expect("a folder");
    let keys = support::read_peers("keys/keyring/pgp-public");
    fs::write(old.join("pgp-public"), &keys).expect("a keyring");
    fs::write(
        desk.home(".singularity/remote.yaml"),
        "Active: \"\"\nRemotes: {}\n",
    )
    .expect("yaml");
    let answer = desk.run("apptainer", &["key", "list"], &[]);
    assert_eq!(answer.exit, 0, "{answer:?}");
    for told in [
        "INFO:    Detected Singularity user configuration directory\n",
        "INFO:    Detected Singularity remote configuration, migrating...\n",
        "INFO:    Detected public Singularity pgp keyring, migrating...\n",
    ] {
        assert!(answer.stderr.contains(told), "{}", answer.stderr);
    }
    let new = desk.home(".apptainer/keys/pgp-public");
    assert_eq!(fs::read(&new).expect("a keyring"), keys);
    assert_eq!(mode(&new), 0o600);
    assert_eq!(mode(&desk.home(".apptainer/remote.yaml")), 0o600);
    assert_eq!(fs::read(old.join("pgp-public")).expect("the old one"), keys);
    // Another time there is nothing to do.
    fs::remove_file(&new).expect("remove");
    let again = desk.run("apptainer", &["key", "list"], &[]);
    assert!(!again.stderr.contains("Detected"), "{}", again.stderr);
}

#[test]
fn apptainer_takes_over_nothing_that_others_could_have_written() {
    let take_over = |prepare: &dyn Fn(&Path)| {
        let desk = Desk::new();
        let old = desk.home(".singularity/sypgp");
        fs::create_dir_all(&old).expect("a folder");
        let file = old.join("pgp-public");
        let keys = support::read_peers("keys/keyring/pgp-public");
        fs::write(&file, keys).expect("a keyring");
        prepare(&file);
        let answer = desk.run("apptainer", &["key", "list"], &[]);
        assert!(
            answer.stderr.contains("its keys cannot be trusted")
                || answer.stderr.contains("it is not taken over"),
            "{}",
            answer.stderr
        );
        let new = desk.home(".apptainer/keys/pgp-public");
        assert_eq!(fs::read(new).unwrap_or_default(), b"");
    };
    take_over(&|file| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o666)).expect("a mode");
    });
    take_over(&|file| {
        fs::remove_file(file).expect("remove");
        let made = std::process::Command::new("mkfifo").arg(file).status();
        assert!(made.expect("mkfifo").success());
    });
    // Only the administrator can give files away.
    if rustix::process::geteuid().is_root() {
        take_over(&|file| std::os::unix::fs::chown(file, Some(65_534), None).expect("chown"));
    }
}

#[test]
fn the_endpoint_without_any_file_is_that_of_the_original() {
    for (name, endpoint) in [
        ("singularity", "SylabsCloud"),
        ("apptainer", "DefaultRemote"),
    ] {
        let desk = Desk::new();
        let said = desk.says(name, &["remote", "list"], &[]);
        assert!(said.contains(endpoint), "{name}: {said}");
    }
}

#[test]
fn versions_are_those_that_scripts_look_for_and_say_who_answers() {
    let desk = Desk::new();
    let ours = env!("CARGO_PKG_VERSION");
    let says = |name: &str, word: &str| desk.says(name, &[word], &[]);
    assert_eq!(
        says("singularity", "--version"),
        format!("singularity-ce version 4.5.1+sigsif.{ours}\n")
    );
    assert_eq!(
        says("singularity", "version"),
        format!("4.5.1+sigsif.{ours}\n")
    );
    assert_eq!(
        says("apptainer", "--version"),
        format!("apptainer version 1.4.5+sigsif.{ours}\n")
    );
    assert_eq!(
        says("apptainer", "version"),
        format!("1.4.5+sigsif.{ours}\n")
    );
    assert_eq!(says("sigsif", "--version"), format!("sigsif {ours}\n"));
    // The file of a global flag is no command, whatever its name.
    for file in ["/etc/x.conf", "run"] {
        assert_eq!(
            desk.says("apptainer", &["-c", file, "version"], &[]),
            format!("1.4.5+sigsif.{ours}\n")
        );
        assert_eq!(
            desk.says("singularity", &["--config", file, "--version"], &[]),
            format!("singularity-ce version 4.5.1+sigsif.{ours}\n")
        );
    }
}

#[test]
fn commands_that_are_not_here_say_so() {
    let desk = Desk::new();
    for (name, args) in [
        ("singularity", &["run", "image.sif"][..]),
        ("apptainer", &["exec", "image.sif", "true"]),
        ("apptainer", &["--quiet", "build", "a", "b"]),
        ("singularity", &["-c", "/etc/x.conf", "run", "image.sif"]),
        ("apptainer", &["--config", "/etc/x.conf", "exec", "a"]),
        ("singularity", &["--config=/etc/x.conf", "shell", "a"]),
        ("singularity", &["-qc", "/etc/x.conf", "run", "a"]),
        ("singularity", &["-c/etc/x.conf", "run", "a"]),
        ("apptainer", &["help", "run"]),
    ] {
        let answer = desk.run(name, args, &[]);
        assert_eq!(answer.exit, 255);
        let words = ["run", "exec", "shell", "build"];
        let word = args.iter().find(|arg| words.contains(arg)).expect("one");
        let told = format!("FATAL:   '{name} {word}' is not done by this program: it is sigsif");
        assert!(answer.stderr.contains(&told), "{}", answer.stderr);
    }
    // Under its own name it does not know them at all.
    let answer = desk.run("sigsif", &["run", "image.sif"], &[]);
    assert_eq!(answer.exit, 1);
    assert!(
        answer
            .stderr
            .contains("unknown command \"run\" for \"sigsif\"")
    );
}

#[test]
fn global_flags_of_scripts_are_taken() {
    let desk = Desk::new();
    fs::copy(
        support::peers("native/pgp-one.sif"),
        desk.0.work().join("pgp-one.sif"),
    )
    .expect("an image");
    let key = support::peers("keys/ed25519.pub.pem").display().to_string();
    fs::copy(
        support::peers("native/dsse-ed25519.sif"),
        desk.0.work().join("image.sif"),
    )
    .expect("an image");
    for name in ["singularity", "apptainer"] {
        for flags in [
            &["--quiet"][..],
            &["-q"],
            &["-s"],
            &["--silent"],
            &["--nocolor"],
            &["-c", "/etc/none.conf"],
            &["--config", "/etc/none.conf", "--nocolor"],
        ] {
            let mut args = flags.to_vec();
            args.extend(["verify", "--key", &key, "image.sif"]);
            let answer = desk.run(name, &args, &[]);
            assert_eq!(answer.exit, 0, "{args:?}: {answer:?}");
            let quiet = flags[0].contains('q') || flags[0].contains('s');
            assert_eq!(answer.stderr.is_empty(), quiet, "{args:?}: {answer:?}");
        }
    }
    let answer = desk.run("sigsif", &["--config", "x", "key", "list"], &[]);
    assert_eq!(answer.exit, 1, "{answer:?}");
    assert!(
        answer.stderr.contains("unknown flag: --config"),
        "{answer:?}"
    );
}

#[test]
fn usage_texts_have_the_name_that_was_called() {
    let desk = Desk::new();
    let answer = desk.run("singularity", &["verify"], &[]);
    assert_eq!(answer.exit, 1);
    assert!(answer.stderr.contains("\n  singularity verify"));
    assert!(
        answer
            .stderr
            .ends_with("Run 'singularity --help' for more detailed usage information.\n")
    );
    let desk = Desk::new();
    let answer = desk.run("apptainer", &["verify"], &[]);
    let stdout = String::from_utf8(answer.stdout).expect("UTF-8");
    assert!(stdout.contains("\n  apptainer verify"), "{stdout}");
    assert_eq!(
        answer.stderr.trim_end(),
        "Error for command \"verify\": accepts 1 arg(s), received 0"
    );
    let help = desk.says("apptainer", &["verify", "--help"], &[]);
    assert!(help.contains("$ apptainer verify image.sif"), "{help}");
    assert!(!help.contains("sigsif "), "{help}");
}

#[test]
fn debug_lines_say_where_a_name_looks_and_tell_no_secret() {
    let desk = Desk::new();
    for (name, folder, keys, system) in [
        ("apptainer", ".apptainer", "keys", "APPTAINER_"),
        ("singularity", ".singularity", "sypgp", "SINGULARITY_"),
        ("sigsif", ".singularity", "sypgp", "SIGSIF_"),
    ] {
        let secret = [
            (format!("{system}DOCKER_PASSWORD"), "hunter2"),
            (format!("{system}LOCAL_VERIFY"), "true"),
        ];
        let secret: Vec<_> = secret.iter().map(|(a, b)| (a.as_str(), *b)).collect();
        let answer = desk.run(name, &["-d", "key", "list"], &secret);
        assert_eq!(answer.exit, 0, "{answer:?}");
        let folder = desk.home(folder);
        for told in [
            format!("called as {name}\n"),
            format!("User's folder: {}\n", folder.display()),
            format!("Keyring: {}\n", folder.join(keys).display()),
            format!("{system}DOCKER_PASSWORD, {system}LOCAL_VERIFY"),
            format!("Administrator's folder: {}\n", desk.0.system().display()),
        ] {
            let lines = answer.stderr.lines();
            let found = lines.filter(|line| format!("{line}\n").contains(&told));
            assert!(
                found.clone().count() == 1 && found.clone().all(|l| l.starts_with("DEBUG   [U=")),
                "{told:?}: {}",
                answer.stderr
            );
        }
        assert!(!answer.stderr.contains("hunter2"), "{}", answer.stderr);
    }
    // Nobody asked.
    let answer = desk.run("apptainer", &["key", "list"], &[]);
    assert!(answer.stderr.is_empty(), "{}", answer.stderr);
}

/// `--plain` is no flag of the originals: what their scripts read stays as it is.
#[test]
fn plain_leaves_the_tables_of_the_originals() {
    let desk = Desk::new();
    let image = support::peers("native/pgp-one.sif").display().to_string();
    for args in [&["sif", "list", &image][..], &["verify", "--local", &image]] {
        for name in ["apptainer", "singularity"] {
            let drawn = desk.run(name, args, &[]);
            let plain = desk.run(name, &[&["--plain"], args].concat(), &[]);
            assert_eq!(plain.stdout, drawn.stdout);
        }
    }
}

/// Sentences are those of the originals; who looks on is told more.
#[test]
fn who_looks_on_is_told_what_to_do_next() {
    use common::terminal::{Kind, Terminal};
    let desk = Desk::new();
    for (args, exit, told) in [
        (
            &["key", "remove", "abc"][..],
            255,
            "'{} key list' shows fingerprints",
        ),
        (&["key", "pull", "zz"], 2, "'{} key search NAME' finds it"),
        (
            &["remote", "use", "nosuch"],
            255,
            "'{} remote list' shows the endpoints",
        ),
        (
            &["registry", "login", "-p", "x", "docker://h"],
            255,
            "Give the name with --username",
        ),
        (
            &["registry", "login", "-u", "x", "-p", "x", "h"],
            255,
            "begin with docker:// or oras://",
        ),
        (&["pull", "ftp://x"], 255, "There are docker://, oras://"),
        (&["sif", "lst"], 0, "Did you mean 'list'?"),
    ] {
        for name in ["sigsif", "singularity", "apptainer"] {
            let told = told.replace("{}", name);
            let quiet = desk.run(name, args, &[]);
            assert_eq!(quiet.exit, exit, "{args:?}: {quiet:?}");
            assert!(!quiet.stderr.contains(&told), "{quiet:?}");
            let words: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
            let watched = run_as(
                &desk.0.link(name),
                &Call {
                    args: &words,
                    folder: &desk.0.work(),
                    env: &desk.0.env(),
                    input: Input::Terminal(Terminal {
                        kind: Kind::All,
                        typed: &[],
                    }),
                },
            );
            let seen = String::from_utf8_lossy(&watched.stdout).into_owned();
            assert_eq!(watched.exit, exit, "{seen}");
            assert!(seen.contains(&told), "{args:?}: {seen}");
        }
    }
}

/// Apptainer 1.4.5 says so and does it; a script must not get help and exit code 0 instead.
#[test]
fn apptainer_still_knows_key_servers_of_remote() {
    let desk = Desk::new();
    if !rustix::process::getuid().is_root() {
        eprintln!("not root: what the administrator does is not tested");
        return;
    }
    let file = desk.0.system().join("remote.yaml");
    fs::write(
        &file,
        "Active: a\nRemotes:\n  a:\n    URI: h.test\n    System: true\n    Keyservers:\n    \
         - URI: https://keys.test\n",
    )
    .expect("endpoints");
    let told = |what: &str| {
        format!(
            "WARNING: 'remote {what}-keyserver' is deprecated and will be removed in a future \
             release; running 'keyserver {what}'\n"
        )
    };
    let args = [
        "--nocolor",
        "remote",
        "add-keyserver",
        "--insecure",
        "a",
        "https://x.test",
    ];
    let answer = desk.run("apptainer", &args, &[]);
    assert_eq!((answer.exit, answer.stderr), (0, told("add")));
    let text = fs::read_to_string(&file).expect("endpoints");
    assert!(text.contains("https://x.test"), "{text}");
    let args = ["remote", "remove-keyserver", "https://x.test"];
    let answer = desk.run("apptainer", &args, &[]);
    assert_eq!((answer.exit, answer.stderr), (0, told("remove")));
    let text = fs::read_to_string(&file).expect("endpoints");
    assert!(!text.contains("https://x.test"), "{text}");
    let answer = desk.run("apptainer", &args, &[]);
    let refused = "FATAL:   keyserver https://x.test is not configured\n";
    assert_eq!(
        (answer.exit, answer.stderr),
        (255, told("remove") + refused)
    );
    // The others never did.
    let answer = desk.run("singularity", &args, &[]);
    assert!(
        answer
            .stdout
            .starts_with(b"Manage singularity remote endpoints")
    );
}
