//! Command lines: parsing, and wrong ones in the form of the originals.

use super::Cli;
use super::later::names_only;
use super::program::{Program, called_as};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};
use std::ffi::{OsStr, OsString};

/// A usage error, or a failed `sif` command, which is told in the same form.
#[derive(Debug)]
pub(crate) struct Error {
    /// Words of the command line that name the command: `["sif", "list"]`.
    path: Vec<String>,
    /// What is wrong; `None` prints only the usage.
    text: Option<String>,
    /// More about it.
    detail: Option<String>,
    block: Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// `Usage:` of the command.
    Usage,
    /// Its options.
    Options,
    /// Its help, on stdout, without an error.
    Help,
}

/// The command tree, for documentation and completions.
pub fn command() -> Command {
    // Longer lines are hard to read, on whatever screen.
    let command = Cli::command().max_term_width(100);
    match crate::ui::width_without_terminal() {
        Some(width) => command.term_width(width),
        None => command,
    }
}

/// Reads the command line.
pub(super) fn parse(args: &[OsString]) -> Result<Cli, super::Error> {
    let parse = |mut command: Command| {
        let matches = command.try_get_matches_from_mut(args);
        // It lives as long as the program; to take it apart costs more than to leave it.
        std::mem::forget(command);
        Cli::from_arg_matches(&matches?)
    };
    // Help and faults are told with everything that there is.
    parse(names_only(command))
        .or_else(|error| match error.kind() {
            ErrorKind::DisplayVersion => Err(error),
            _ => parse(command()),
        })
        .map_err(|error| explain(&error, args))
}

/// Checks the number of arguments, in the words of the originals.
pub(super) fn exactly(
    path: &[&str],
    wanted: usize,
    given: &[OsString],
) -> Result<(), super::Error> {
    if given.len() == wanted {
        return Ok(());
    }
    let text = format!("accepts {wanted} arg(s), received {}", given.len());
    Err(super::Error::Usage(failed(path, text, None)))
}

/// As [`exactly`], for a range.
pub(super) fn between(
    path: &[&str],
    (least, most): (usize, usize),
    given: &[OsString],
) -> Result<(), super::Error> {
    if (least..=most).contains(&given.len()) {
        return Ok(());
    }
    let received = given.len();
    let text = format!("accepts between {least} and {most} arg(s), received {received}");
    Err(super::Error::Usage(failed(path, text, None)))
}

/// A failure of a command that tells its usage.
pub(super) fn failed(path: &[&str], text: String, detail: Option<String>) -> Error {
    Error {
        path: path.iter().map(ToString::to_string).collect(),
        text: Some(text),
        detail,
        block: Block::Usage,
    }
}

/// A flag combination that cannot be.
pub(super) fn bad_flags(path: &[&str], text: &str) -> super::Error {
    super::Error::Usage(Error {
        path: path.iter().map(ToString::to_string).collect(),
        text: Some(text.to_owned()),
        detail: None,
        block: Block::Options,
    })
}

impl Error {
    /// Prints the error and returns the exit code.
    pub(super) fn tell(self) -> u8 {
        let mut current = named(&self.path);
        let name = current.get_name().to_owned();
        if self.block == Block::Help {
            let help = with_operands(&current, &current.clone().render_long_help().to_string());
            let code = match shown(&called(&help)) {
                super::Error::Quiet(code) => code,
                error => return super::tell(&super::default_ui(), error),
            };
            // The originals say nothing on stderr here.
            if let Some(detail) = self.detail.filter(|_| crate::ui::is_watched()) {
                crate::ui::note(format_args!("\n{}", crate::ui::message(&detail)));
            }
            return code;
        }
        if let Some(text) = &self.text {
            let text = crate::ui::message(text);
            if self.path.is_empty() {
                crate::ui::note(format_args!("Error: {text}\n"));
            } else {
                crate::ui::note(format_args!("Error for command \"{name}\": {text}"));
                if let Some(detail) = &self.detail {
                    crate::ui::note(format_args!("  {}", crate::ui::message(detail)));
                }
                crate::ui::note("");
            }
        }
        let block = match self.block {
            Block::Options => {
                let options = current.clone().help_template("{options}").render_help();
                format!(
                    "Options for {name} command:\n\n{}",
                    options.to_string().trim_end()
                )
            }
            _ => usage_block(&mut current),
        };
        let name = called_as().name();
        let block = format!(
            "{}\n\nRun '{name} --help' for more detailed usage information.\n",
            called(&block)
        );
        let is_long = self.block == Block::Options && crate::ui::is_watched();
        match called_as() {
            // A lost reader of a usage text is no other error.
            Program::Apptainer => drop(crate::ui::result(block.as_bytes())),
            _ => crate::ui::note(block.trim_end_matches('\n')),
        }
        // The list of options moves the sentence out of sight.
        if let (true, Some(text)) = (is_long, &self.text) {
            let text = crate::ui::message(text);
            let detail = self.detail.as_deref().map(crate::ui::message);
            let detail = detail
                .map(|detail| format!(" {detail}"))
                .unwrap_or_default();
            let called = current_words(&self.path);
            crate::ui::note(format_args!("\n{called}: {text}.{detail}"));
        }
        1
    }
}

/// The words of a command line that name its command.
fn current_words(path: &[String]) -> String {
    let words = std::iter::once(called_as().name()).chain(path.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// Prints help. A reader that went away has read enough; a full disk is an error.
fn shown(text: &str) -> super::Error {
    match super::print(text) {
        Ok(()) | Err(super::Error::Quiet(_)) => super::Error::Quiet(0),
        Err(error) => error,
    }
}

/// A text of ours by the name that the user knows.
fn called(text: &str) -> String {
    let other = match called_as() {
        Program::Sigsif => return text.to_owned(),
        other => other.name(),
    };
    let places = ["Usage: sigsif ", "\n  sigsif ", "$ sigsif "];
    places.iter().fold(text.to_owned(), |text, ours| {
        text.replace(ours, &ours.replace("sigsif", other))
    })
}

/// A command, by the words that name it.
fn named(path: &[String]) -> Command {
    let mut current = command();
    current.build();
    for word in path {
        match current.find_subcommand(word) {
            Some(next) => current = next.clone(),
            None => break,
        }
    }
    current
}

/// What stands behind the options of a command: as the help names it, and as its usage does.
///
/// Their number is checked with the words of the originals, so for the parser they are one
/// argument, which may be given any number of times; nobody wants to read that.
pub(super) fn operands(command: &Command) -> Option<(String, String)> {
    let argument = command.get_positionals().find(|arg| !arg.is_hide_set())?;
    let name = argument.get_value_names()?.first()?.to_string();
    let usage = command.clone().render_usage().to_string();
    let tail = match usage.split_once("[options] ") {
        Some((_, tail)) => tail,
        None => {
            // Behind the words of the command, and a flag that is needed with its value.
            let start = usage.find(['<', '['])?;
            let flag = usage.find(" --").filter(|flag| *flag < start);
            match flag {
                Some(_) => usage.split_once("> ")?.1,
                None => usage.get(start..)?,
            }
        }
    };
    Some((name, tail.trim_end().to_owned()))
}

/// A help text with the operands as the usage has them.
fn with_operands(command: &Command, help: &str) -> String {
    match operands(command) {
        Some((name, tail)) => help.replacen(&format!("\n  [{name}]..."), &format!("\n  {tail}"), 1),
        None => help.to_owned(),
    }
}

fn usage_block(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let mut out = format!("Usage:\n  {usage}");
    if command.has_subcommands() {
        out.push_str("\n\nAvailable Commands:\n");
        let commands = command
            .clone()
            .disable_help_subcommand(true)
            .help_template("{subcommands}");
        out.push_str(commands.clone().render_help().to_string().trim_end());
    }
    out
}

/// Turns clap's error into the originals' sentence.
fn explain(error: &clap::Error, args: &[OsString]) -> super::Error {
    let path = path_of(args);
    let usage = |text: Option<String>, block| {
        super::Error::Usage(Error {
            path: path.clone(),
            text,
            detail: None,
            block,
        })
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // 'help sif add' is about what stands behind it.
            let words = args.iter().filter(|word| *word != "help").cloned();
            let current = named(&path_of(&words.collect::<Vec<_>>()));
            let help = with_operands(&current, &error.render().to_string());
            shown(&called(&help))
        }
        ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::InvalidSubcommand => match path.first().map(String::as_str) {
            None if error.kind() == ErrorKind::InvalidSubcommand => {
                let word = context(error, ContextKind::InvalidSubcommand);
                let mut text = format!("unknown command \"{word}\" for \"{}\"", called_as().name());
                let near = context(error, ContextKind::SuggestedSubcommand);
                if !near.is_empty() {
                    text.push_str(&format!("\n\nDid you mean this?\n\t{near}"));
                }
                usage(Some(text), Block::Usage)
            }
            None => usage(None, Block::Usage),
            Some(first) => {
                let near = context(error, ContextKind::SuggestedSubcommand);
                let detail = (!near.is_empty()).then(|| format!("Did you mean '{near}'?"));
                // These show their help, as those of the originals.
                let group = [
                    "sif",
                    "siftool",
                    "remote",
                    "keyserver",
                    "registry",
                    "report",
                ];
                let (text, block) = match group.contains(&first) {
                    true => (None, Block::Help),
                    false => (Some("invalid command".to_owned()), Block::Usage),
                };
                super::Error::Usage(Error {
                    path: path.clone(),
                    text,
                    detail,
                    block,
                })
            }
        },
        _ => {
            let near = context(error, ContextKind::SuggestedArg);
            super::Error::Usage(Error {
                path: path.clone(),
                text: Some(sentence(error)),
                detail: (!near.is_empty()).then(|| format!("Did you mean '{near}'?")),
                block: Block::Options,
            })
        }
    }
}

fn sentence(error: &clap::Error) -> String {
    let flag = context(error, ContextKind::InvalidArg);
    let value = context(error, ContextKind::InvalidValue);
    match error.kind() {
        ErrorKind::UnknownArgument => match flag.strip_prefix('-') {
            Some(short) if !short.starts_with('-') => {
                let letter = short.chars().next().unwrap_or('-');
                format!("unknown shorthand flag: '{letter}' in {flag}")
            }
            _ => {
                let name = flag.split('=').next().unwrap_or_default();
                format!("unknown flag: {name}")
            }
        },
        ErrorKind::InvalidValue if value.is_empty() => {
            let name = flag.split_whitespace().next().unwrap_or_default();
            format!("flag needs an argument: {name}")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error)
                .map(ToString::to_string)
                .or_else(|| one_of(error))
                .unwrap_or_else(|| "invalid value".to_owned());
            match flag.starts_with('-') {
                true => format!(
                    "invalid argument {value:?} for \"{}\" flag: {reason}",
                    both_names(&flag)
                ),
                false => format!("invalid argument {value:?}: {reason}"),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let name = flag.split_whitespace().next().unwrap_or_default();
            format!(
                "required flag(s) {:?} not set",
                name.trim_start_matches('-')
            )
        }
        ErrorKind::TooManyValues => {
            format!("invalid argument {value:?} for {flag:?} flag: flag takes no value")
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            text.lines().next().unwrap_or_default().to_owned()
        }
    }
}

/// The values that a flag or an argument may have, if they are few.
fn one_of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            Some(format!("must be one of {}", values.join(", ")))
        }
        _ => None,
    }
}

/// `--group-id <uint32>` becomes `-g, --group-id`.
fn both_names(flag: &str) -> String {
    let long = flag
        .split([' ', '=', '['])
        .next()
        .unwrap_or_default()
        .to_owned();
    fn find(command: &Command, long: &str) -> Option<char> {
        command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(long))
            .and_then(clap::Arg::get_short)
            .or_else(|| command.get_subcommands().find_map(|sub| find(sub, long)))
    }
    match find(&command(), long.trim_start_matches('-')) {
        Some(short) => format!("-{short}, {long}"),
        None => long,
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        // Of several suggestions the last is the nearest.
        Some(ContextValue::Strings(texts)) => texts.last().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// The words that name a command, found without a full parse.
fn path_of(args: &[OsString]) -> Vec<String> {
    let root = command();
    let mut current = &root;
    let mut path = Vec::new();
    let mut words = args.iter().skip(1).filter_map(|arg| OsStr::to_str(arg));
    while let Some(word) = words.next() {
        match current.find_subcommand(word) {
            Some(next) => {
                path.push(word.to_owned());
                current = next;
            }
            None if matches!(word, "-c" | "--config") => drop(words.next()),
            None if word.starts_with('-') => {}
            None => break,
        }
    }
    path
}
