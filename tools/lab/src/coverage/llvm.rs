// SPDX-License-Identifier: GPL-2.0
//! LLVM's own tools for profiles.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::step;

/// What `llvm-cov` knows, in the format of lcov, of all `objects` with all `profiles`. `dir` is for what is
/// made on the way.
pub fn lcov(cx: &Context, dir: &Path, profiles: &[PathBuf], objects: &[PathBuf]) -> Result<String> {
    let log = cx
        .cache
        .log(&format!("coverage-llvm-{}", cx.checkout_key()));
    let merged = dir.join("merged.profdata");
    let mut merge = Command::new("llvm-profdata");
    merge
        .args(["merge", "--sparse", "--output"])
        .arg(&merged)
        .args(profiles);
    step::run("merging profiles", &log, &mut merge)?;
    let (first, others) = objects.split_first().context("nothing was instrumented")?;
    let mut export = Command::new("llvm-cov");
    export
        .args(["export", "--format=lcov", "--instr-profile"])
        .arg(&merged)
        .arg(first);
    for object in others {
        export.arg("--object").arg(object);
    }
    step::output("reading profiles", &log, &mut export)
}
