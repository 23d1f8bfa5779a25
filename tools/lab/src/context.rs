// SPDX-License-Identifier: GPL-2.0
//! What every part of the lab needs to know: where things are, and which versions count.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::{Cache, Key};
use crate::versions::Versions;

/// How much longer everything may take when there is time for it.
const LONGER: u32 = 8;

/// The place and the pins of one run.
pub struct Context {
    /// The checkout.
    pub top: PathBuf,
    /// The cache outside the checkout.
    pub cache: Cache,
    /// The pinned versions.
    pub versions: Versions,
}

impl Context {
    /// The context of the checkout that the lab was built from.
    pub fn new() -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("the lab's own folder has no checkout above it")?
            .to_owned();
        let cache = env::var_os("VF_VDPA_CACHE")
            .context("VF_VDPA_CACHE is not set: start the lab with tools/bootstrap or make")?;
        let versions = Versions::read(&top.join("tools/versions"))?;
        Ok(Self {
            top,
            cache: Cache::new(PathBuf::from(cache))?,
            versions,
        })
    }

    /// Name part of everything in the cache that belongs to this checkout alone.
    pub fn checkout_key(&self) -> String {
        Key::default()
            .add(self.top.as_os_str().as_encoded_bytes())
            .name()
    }

    /// `make` in the kernel tree, or where something is built against one, with the toolchain that the
    /// kernel was built with.
    pub fn kernel_make(&self, dir: &Path) -> Result<Command> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(dir)
            .arg(format!("-j{jobs}"))
            .arg(format!("CC={}", self.versions.get("CC")?))
            .arg(format!("HOSTCC={}", self.versions.get("HOSTCC")?))
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS");
        Ok(make)
    }

    /// `cargo` for one of the project's own manifests.
    pub fn cargo(&self, goal: &str, manifest: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo
            .arg(goal)
            .arg("--locked")
            .arg("--quiet")
            .arg("--manifest-path")
            .arg(self.top.join(manifest));
        cargo
    }

    /// Whether there is time for all that can be tested (`VF_VDPA_LONG`).
    pub fn is_long() -> bool {
        env::var("VF_VDPA_LONG").is_ok_and(|text| !matches!(text.as_str(), "" | "0" | "no"))
    }

    /// Factor by which limits are stretched on a slow machine (`VF_VDPA_SLOW`, at least 1), and for long tests.
    pub fn slowness() -> u32 {
        env::var("VF_VDPA_SLOW")
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
            .unwrap_or(1)
            .max(1)
            .saturating_mul(if Self::is_long() { LONGER } else { 1 })
    }
}
