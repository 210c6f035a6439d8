//! Commands whose options are defined once they are called.
//!
//! A run needs those of one command; to define all of them is most of what
//! start-up costs.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::cell::Cell;

thread_local! {
    static DEFERS: Cell<bool> = const { Cell::new(false) };
}

/// Makes a tree of commands in which those that are [`Later`] are only names.
///
/// Good for command lines without a fault; nothing in it knows its help.
pub(super) fn names_only(make: impl FnOnce() -> Command) -> Command {
    DEFERS.set(true);
    let command = make();
    DEFERS.set(false);
    command
}

/// Options of a command, defined once it is called if [`names_only`] makes the tree.
pub(super) struct Later<T>(pub T);

impl<T: Args> Args for Later<T> {
    fn augment_args(command: Command) -> Command {
        match DEFERS.get() {
            true => command.defer(T::augment_args),
            false => T::augment_args(command),
        }
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "tool")]
    struct Tool {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(clap::Subcommand)]
    enum Sub {
        Work(Later<WorkArgs>),
    }

    #[derive(clap::Args)]
    struct WorkArgs {
        #[arg(long)]
        hard: bool,
    }

    #[test]
    fn names_come_first_and_options_when_they_are_needed() {
        use clap::CommandFactory;
        let whole = Tool::command();
        let mut quick = names_only(Tool::command);
        let options = |command: &Command| {
            let work = command.find_subcommand("work").expect("the command");
            work.get_arguments().count()
        };
        assert_eq!((options(&whole), options(&quick)), (1, 0));
        let matches = quick
            .try_get_matches_from_mut(["tool", "work", "--hard"])
            .expect("matches");
        let Sub::Work(args) = Tool::from_arg_matches(&matches).expect("a tool").command;
        assert!(args.0.hard);
    }
}
