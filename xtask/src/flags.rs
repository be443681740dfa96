//! Command line flags, checked before anything is built.

use crate::process::Outcome;

/// One `--flag VALUE` of a command.
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    /// Allowed values; empty when any text will do.
    pub(crate) allowed: &'static [&'static str],
}

/// `(flag, value)` pairs and the switches that are on.
pub(crate) type Parsed<'a> = (Vec<(&'static str, &'a str)>, Vec<&'static str>);

/// Refuses every argument.
pub(crate) fn none(command: &str, arguments: &[String]) -> Outcome {
    switches(command, arguments, &[]).map(|_| ())
}

/// The switches that are on; any other argument is an error.
pub(crate) fn switches(
    command: &str,
    arguments: &[String],
    known: &[&'static str],
) -> Outcome<Vec<&'static str>> {
    arguments.iter().map(|argument| switch(command, argument, known)).collect()
}

fn switch(command: &str, argument: &str, known: &[&'static str]) -> Outcome<&'static str> {
    known.iter().find(|name| **name == argument).copied().ok_or_else(|| {
        let allowed = if known.is_empty() { "no arguments".to_owned() } else { known.join(", ") };
        format!("`cargo xtask {command}`: unexpected argument '{argument}' (allowed: {allowed})")
    })
}

/// Splits arguments into `(flag, value)` pairs and switches, refusing whatever is not listed.
pub(crate) fn parse<'a>(
    command: &str,
    arguments: &'a [String],
    flags: &[Flag],
    known_switches: &[&'static str],
) -> Outcome<Parsed<'a>> {
    let (mut pairs, mut on) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
            let mut allowed: Vec<&str> = flags.iter().map(|flag| flag.name).collect();
            allowed.extend(known_switches);
            match known_switches.iter().find(|known| **known == argument.as_str()) {
                Some(known) => on.push(*known),
                None => {
                    return Err(format!(
                        "`cargo xtask {command}`: unexpected argument '{argument}' (allowed: {})",
                        allowed.join(", ")
                    ));
                }
            }
            continue;
        };
        let value = inline
            .or_else(|| rest.next().map(String::as_str))
            .ok_or_else(|| format!("`cargo xtask {command}`: {name} needs a value"))?;
        if !flag.allowed.is_empty() && !flag.allowed.contains(&value) {
            return Err(format!(
                "`cargo xtask {command}`: {name} '{value}' is not one of {}",
                flag.allowed.join(", ")
            ));
        }
        if pairs.iter().any(|(given, _)| *given == flag.name) {
            return Err(format!("`cargo xtask {command}`: {name} is given twice"));
        }
        pairs.push((flag.name, value));
    }
    Ok((pairs, on))
}

#[cfg(test)]
mod tests {
    use super::{Flag, parse};

    const FLAGS: &[Flag] =
        &[Flag { name: "--scale", allowed: &["smoke", "desk"] }, Flag { name: "--out", allowed: &[] }];

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn pairs_and_switches_are_told_apart() {
        let arguments = words("--scale desk --dev --out=somewhere");
        let (pairs, on) = parse("c", &arguments, FLAGS, &["--dev"]).unwrap();
        assert_eq!(pairs, [("--scale", "desk"), ("--out", "somewhere")]);
        assert_eq!(on, ["--dev"]);
    }

    #[test]
    fn bad_arguments_are_named() {
        for (text, named) in [
            ("--scale huge", "'huge' is not one of smoke, desk"),
            ("--scael desk", "unexpected argument '--scael'"),
            ("--scale", "--scale needs a value"),
            ("--out a --out b", "--out is given twice"),
        ] {
            let message = parse("c", &words(text), FLAGS, &[]).unwrap_err();
            assert!(message.contains(named), "{text}: {message}");
        }
    }
}
