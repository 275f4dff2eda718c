//! The page: its types, its unit tests, and what a visitor has to download.

use anyhow::Result;

use crate::run::{Outcome, command, files, passes, root};
use crate::runners::node_tests;

pub(crate) fn run() -> Result<Outcome> {
    let mut outcome = Outcome::one(types());
    let tests: Vec<String> =
        files(&[".test.js", ".test.mjs"])?.into_iter().filter(|path| path.starts_with("web-shim/")).collect();
    outcome.add(if tests.is_empty() {
        println!("no unit test of the page was found");
        Outcome::one(false)
    } else {
        node_tests(&tests)?
    });
    outcome.add(Outcome::one(weight()));
    Ok(outcome)
}

/// Strict type checking of the plain JavaScript.
fn types() -> bool {
    let compiler = "web-shim/node_modules/typescript/bin/tsc";
    if !root().join(compiler).exists() {
        println!("the type checker is not installed: run `npm ci` in web-shim/");
        return false;
    }
    passes(command("node", &[compiler, "--noEmit", "--project", "web-shim"]))
}

/// The page as the relay serves it: its own test holds the budget and prints the table, since only its build knows what is served.
fn weight() -> bool {
    let test = "page::tests::what_one_guest_loads_weighs_at_most_sixty_kilobytes_compressed";
    passes(command(
        "cargo",
        // With the whole workspace's features, as the tests are built: another set would compile a hundred crates again.
        &[
            "test",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "snug-relay",
            "--",
            "--exact",
            test,
            "--nocapture",
        ],
    ))
}
