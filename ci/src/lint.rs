//! What a reviewer should never have to say: formatting, warnings, forbidden calls, unfinished work, endless files.

use anyhow::Result;

use crate::run::{Outcome, command, files, passes, read};

/// The longest a file of code may be, in lines.
const LONGEST: usize = 1500;

/// Ways to turn text into markup or code: with none of them in the page, a name or a chat message can never become a script.
const MARKUP: [&str; 6] =
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "new Function(", "document.write("];

/// Written in two halves so that this file does not find itself.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
];

pub(crate) fn run() -> Result<Outcome> {
    let mut outcome = Outcome::one(passes(command("cargo", &["fmt", "--all", "--check"])));
    outcome.add(Outcome::one(passes(command(
        "cargo",
        &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
    ))));

    let page = files(&[".js", ".html"])?;
    let page: Vec<_> =
        page.iter().filter(|path| path.starts_with("web-shim/") && !path.contains("test")).collect();
    outcome.add(Outcome::one(none("turns text into markup or code", &page, &MARKUP)?));

    let code = files(&[".rs", ".js", ".mjs", ".ts", ".html", ".css", ".toml", ".sh"])?;
    outcome.add(Outcome::one(none("is unfinished", &code.iter().collect::<Vec<_>>(), &UNFINISHED)?));

    let mut short = true;
    for path in &code {
        let lines = read(path)?.lines().count();
        if lines > LONGEST {
            println!("{path}: {lines} lines, more than {LONGEST}: split it by subject");
            short = false;
        }
    }
    outcome.add(Outcome::one(short));
    Ok(outcome)
}

/// Whether none of these files has any of these texts; prints where they are.
fn none(what: &str, paths: &[&String], forbidden: &[&str]) -> Result<bool> {
    let mut clean = true;
    for path in paths {
        for (number, line) in read(path)?.lines().enumerate() {
            if let Some(found) = forbidden.iter().find(|text| line.contains(**text)) {
                println!("{path}:{}: `{found}` {what}", number + 1);
                clean = false;
            }
        }
    }
    Ok(clean)
}
