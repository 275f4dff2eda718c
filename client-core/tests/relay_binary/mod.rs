//! The project's relay as a program, for the tests of this crate and of snug-rtc that run it. It never starts one itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The relay of the sources as they are, beside the tests. Building it is a matter of a second when nothing changed.
pub fn relay_binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("this test has a path");
        let folder = test.parent().and_then(Path::parent).expect("a build folder");
        let mut cargo = Command::new(env!("CARGO"));
        // With the whole workspace's features, as its tests are built.
        cargo.args(["build", "--quiet", "--locked", "--workspace", "--bin", "snug-relay", "--target-dir"]);
        cargo.arg(folder.parent().expect("a target folder"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "the relay does not build");
        folder.join(format!("snug-relay{}", std::env::consts::EXE_SUFFIX))
    })
}
