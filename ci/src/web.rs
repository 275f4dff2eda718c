//! The page: its types, its unit tests, and what a visitor has to download.

use std::process::Stdio;

use anyhow::{Context, Result};

use crate::run::{Outcome, command, files, passes, root};
use crate::runners::node_tests;

/// What all files that the relay serves may weigh together, compressed.
const BUDGET: usize = 60 * 1024;

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
    outcome.add(Outcome::one(weight()?));
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

/// Every file that the relay serves to a guest, compressed one by one as a browser would get them.
fn weight() -> Result<bool> {
    let mut total = 0;
    println!("\n| file | bytes | gzip -9 |\n|---|---|---|");
    for path in served()? {
        let size = std::fs::metadata(root().join(&path))?.len();
        let packed = gzip(&path)?;
        total += packed;
        println!("| {path} | {size} | {packed} |");
    }
    println!("| all | | {total} |\n\npage weight: {total} of {BUDGET} bytes");
    Ok(total > 0 && total <= BUDGET)
}

/// What relay/build.rs packs into the binary: the direct children of three folders, by ending.
fn served() -> Result<Vec<String>> {
    let folders: [(&str, &[&str]); 3] = [
        ("web-shim", &["html", "css"]),
        ("web-shim/js", &["js"]),
        ("assets", &["json", "svg", "png", "webmanifest"]),
    ];
    let mut served = Vec::new();
    for (folder, endings) in folders {
        for entry in
            std::fs::read_dir(root().join(folder)).with_context(|| format!("could not list {folder}"))?
        {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending)) {
                served.push(format!("{folder}/{name}"));
            }
        }
    }
    served.sort();
    Ok(served)
}

fn gzip(path: &str) -> Result<usize> {
    let mut gzip = command("gzip", &["-9", "--to-stdout", path]);
    let packed = gzip.stderr(Stdio::inherit()).output().context("could not run gzip")?;
    anyhow::ensure!(packed.status.success(), "gzip failed on {path}");
    Ok(packed.stdout.len())
}
