// SPDX-License-Identifier: GPL-2.0
//! What the tests of `rust/virtio` execute, on the host.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::lines::{self, FileCoverage};
use super::{llvm, ours};
use crate::context::Context;
use crate::step;

/// The crate, and the part of it that is there to test the rest.
const CRATE: &str = "rust/virtio";
const TESTS: &str = "rust/virtio/tests";

/// Runs the tests and says which lines of the crate they execute. Examples in comments are run by rustdoc,
/// which cannot count on a stable compiler: they are left out.
pub fn run(cx: &Context) -> Result<Vec<FileCoverage>> {
    let name = format!("coverage-virtio-{}", cx.checkout_key());
    let _lock = cx
        .cache
        .lock(&name, "it looks at what the tests of this checkout execute")?;
    let dir = cx.cache.path(&name);
    let profiles = dir.join("profiles");
    let cargo = |more: &[&str]| {
        let mut cargo = cx.cargo("test", &format!("{CRATE}/Cargo.toml"));
        cargo
            .args(["--lib", "--tests"])
            .args(more)
            .env("CARGO_TARGET_DIR", dir.join("target"))
            .env("RUSTFLAGS", "-Cinstrument-coverage")
            // One file for each program: %m is its digest.
            .env("LLVM_PROFILE_FILE", profiles.join("%m.profraw"));
        cargo
    };
    let log = cx.cache.log(&name);
    let mut build = cargo(&["--no-run"]);
    step::run("building the tests of rust/virtio", &log, &mut build)?;
    let mut ask = cargo(&["--no-run", "--message-format=json"]);
    let built = step::output("asking for the tests of rust/virtio", &log, &mut ask)?;
    let programs = programs(&built)?;
    // Neither what an earlier run has executed counts, nor what the build has.
    let _ = fs::remove_dir_all(&profiles);
    step::run("running the tests of rust/virtio", &log, &mut cargo(&[]))?;
    let files = fs::read_dir(&profiles)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .with_context(|| format!("the profiles of {CRATE} in {}", profiles.display()))?;
    let lcov = llvm::lcov(cx, &dir, &files, &programs)?;
    let sources = ours(cx, &[CRATE])?;
    lines::read(&lcov, |path| {
        let name = path.strip_prefix(&cx.top).ok()?;
        (sources.contains(name) && !name.starts_with(TESTS)).then(|| name.to_owned())
    })
}

/// The programs that cargo says it has built.
fn programs(messages: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("what cargo says is no JSON")?;
        if let Some(program) = message.get("executable").and_then(Value::as_str) {
            found.push(Path::new(program).to_owned());
        }
    }
    ensure!(!found.is_empty(), "cargo has built no test");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_what_cargo_says() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/a-1\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(programs(messages).unwrap(), [Path::new("/t/a-1")]);
        assert!(programs("{}").is_err());
        assert!(programs("warning: x").is_err());
    }
}
