//! What a line of the user means: something to say, or a command.

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Forget the conversation; the system prompt stays.
    Clear,
    /// Answer the last message once more.
    Regen,
    /// Set the system prompt, or remove it.
    System(String),
    Save(String),
    Load(String),
    /// Let the model think before it answers, or not.
    Think(bool),
    Help,
    Exit,
}

/// What the user entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Message(String),
    Command(Command),
    /// A command that does not exist or lacks something; says why.
    Mistake(String),
    Nothing,
}

pub(super) const HELP: &str = "\
/clear          forget the conversation
/regen          another answer to the last message
/system TEXT    set the system prompt; without a text remove it
/think on|off   let the model think before it answers, or not
/save FILE      write the conversation as JSON
/load FILE      read a conversation
/exit           leave, as Ctrl-D does
Ctrl-C stops an answer. A line that ends in \\ goes on in the next one, and so do all
lines between two lines of \"\"\". A message that begins with / is written with two.";

impl Entry {
    /// Reads what was entered.
    pub(super) fn parse(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Nothing;
        }
        let Some(command) = text.strip_prefix('/') else {
            return Self::Message(text.to_owned());
        };
        if command.starts_with('/') {
            return Self::Message(command.to_owned());
        }
        let (name, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        let with_file = |command: fn(String) -> Command| match rest {
            "" => Self::Mistake(format!("/{name} needs a file name")),
            file => Self::Command(command(file.to_owned())),
        };
        Self::Command(match name {
            "clear" => Command::Clear,
            "regen" => Command::Regen,
            "system" => Command::System(rest.to_owned()),
            "save" => return with_file(Command::Save),
            "load" => return with_file(Command::Load),
            "think" => match rest {
                "on" => Command::Think(true),
                "off" => Command::Think(false),
                _ => return Self::Mistake("/think needs `on` or `off`".to_owned()),
            },
            "help" | "?" => Command::Help,
            "exit" | "quit" | "bye" => Command::Exit,
            _ => return Self::Mistake(format!("no command /{name}; /help lists them")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        let message = |text: &str| Entry::Message(text.to_owned());
        assert_eq!(Entry::parse("hello /clear"), message("hello /clear"));
        assert_eq!(Entry::parse("//etc"), message("/etc"));
        assert_eq!(Entry::parse(" \n"), Entry::Nothing);
        assert_eq!(Entry::parse("/clear"), Entry::Command(Command::Clear));
        let system = Command::System("Be brief.\nAlways.".to_owned());
        assert_eq!(
            Entry::parse("/system Be brief.\nAlways."),
            Entry::Command(system)
        );
        assert_eq!(
            Entry::parse("/think off"),
            Entry::Command(Command::Think(false))
        );
        for mistake in ["/think", "/save", "/load ", "/frobnicate"] {
            assert!(
                matches!(Entry::parse(mistake), Entry::Mistake(_)),
                "{mistake}"
            );
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in ["clear", "regen", "system", "think", "save", "load", "exit"] {
            assert!(HELP.contains(&format!("/{name} ")), "{name}");
        }
    }
}
