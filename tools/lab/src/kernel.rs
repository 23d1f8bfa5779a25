// SPDX-License-Identifier: GPL-2.0
//! The kernel under test: what is booted, and the tree that modules are built against. The
//! distribution's has its Rust metadata made anew, as the packages lack it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::context::{Context, Flavour};
use crate::packages::{self, Packages};
use crate::{debug, step};

/// What makes the metadata.
pub const METADATA: &str = "packaging/vf-vdpa-kernel-metadata";

/// A kernel that can be booted, and modules be built for.
pub struct Kernel {
    /// Output of `uname -r` in it.
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// Its modules: what belongs at `/lib/modules/<release>`.
    pub modules: PathBuf,
    /// The tree that further modules are built against.
    pub tree: PathBuf,
}

impl Kernel {
    /// The kernel that the run is about, from the cache.
    pub fn get(cx: &Context) -> Result<Self> {
        let packages = Packages::get(cx)?;
        match cx.flavour {
            Flavour::Stock => Ok(Self {
                tree: tree(cx, &packages)?,
                image: packages.image(),
                modules: packages.modules(),
                release: packages.release,
            }),
            Flavour::Debug => debug::kernel(cx, &packages),
        }
    }
}

/// The distribution's configuration of its source, and the metadata.
fn tree(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    cx.cache.entry("tree", &packages::key(cx)?, |dir| {
        prepare(cx, packages, dir)
    })
}

/// Has the script do it that the package has for its users.
fn prepare(cx: &Context, packages: &Packages, tree: &Path) -> Result<()> {
    let mut script = Command::new(cx.top.join(METADATA));
    script.arg("--into").arg(tree);
    for (option, name) in [
        ("--source", packages::SOURCE),
        ("--config", "config"),
        ("--symvers", "Module.symvers"),
    ] {
        script.arg(option).arg(packages.dir.join(name));
    }
    step::run(
        "making the kernel's Rust metadata (once, several minutes)",
        &cx.cache.log("tree"),
        script.arg(&packages.release),
    )
    .map(drop)
}
