//! `completion`: scripts with which a shell completes command lines.

use super::{Error, usage};
use clap_complete::{Shell, generate};

/// Print the script that completes command lines in a shell
///
/// Packages bring the scripts along. Without a package, load one at the start of
/// the shell, or store it where the shell looks for it.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif completion <shell>",
    after_help = "Examples:\n  \
                  $ sigsif completion bash >~/.local/share/bash-completion/completions/sigsif\n  \
                  $ sigsif completion zsh >~/.zfunc/_sigsif\n  \
                  $ sigsif completion fish >~/.config/fish/completions/sigsif.fish"
)]
pub(super) struct Args {
    /// the shell
    #[arg(value_name = "shell", value_parser = ["bash", "zsh", "fish"])]
    shell: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Error> {
    let shell = match args.shell.as_slice() {
        [name] if name == "bash" => Shell::Bash,
        [name] if name == "zsh" => Shell::Zsh,
        [name] if name == "fish" => Shell::Fish,
        other => {
            let text = format!("accepts 1 arg(s), received {}", other.len());
            return Err(Error::Usage(usage::failed(&["completion"], text, None)));
        }
    };
    let mut script = Vec::new();
    generate(shell, &mut usage::command(), "sigsif", &mut script);
    super::print(script)
}
