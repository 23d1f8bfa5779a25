// SPDX-License-Identifier: GPL-2.0
//! The project's own user-space programs that run in the machine, or beside it.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::step;

/// Members of the workspace `tools` that go into the machine, and the one that the host runs.
const PROGRAMS: [&str; 4] = ["vdpa-conform", "vf-vdpa", "vhost-client", MODEL];

/// The function that misbehaves on command.
pub const MODEL: &str = "devmodel";

/// Compiles the programs and returns their files.
pub fn build(cx: &Context) -> Result<Vec<PathBuf>> {
    let target = env::var_os("CARGO_TARGET_DIR")
        .context("CARGO_TARGET_DIR is not set: start the lab with tools/bootstrap or make")?;
    let target = PathBuf::from(target);
    let mut files = Vec::new();
    for name in PROGRAMS {
        let mut cargo = cx.cargo("build", "tools/Cargo.toml");
        cargo.args(["--package", name]);
        step::run(
            &format!("building {name}"),
            &cx.cache.log(&format!("{name}-{}", cx.checkout_key())),
            &mut cargo,
        )?;
        files.push(target.join("debug").join(name));
    }
    Ok(files)
}
