// SPDX-License-Identifier: GPL-2.0
//! What every part of the lab needs to know: where things are, and which versions count.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::{Cache, Key};
use crate::case::Has;
use crate::versions::Versions;

/// How much longer everything may take when there is time for it.
const LONGER: u32 = 8;

/// The names of variables that are numbers.
const SOAK: &str = "VF_VDPA_SOAK";
const SLOW: &str = "VF_VDPA_SLOW";

/// A kernel to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The distribution's.
    Stock,
    /// One of our own, from the same source, that looks for mistakes (`VF_VDPA_KERNEL=debug`).
    Debug,
}

impl Flavour {
    fn from_environment() -> Result<Self> {
        match env::var("VF_VDPA_KERNEL").as_deref() {
            Err(_) | Ok("" | "stock") => Ok(Self::Stock),
            Ok("debug") => Ok(Self::Debug),
            Ok(other) => bail!("VF_VDPA_KERNEL is `{other}`: stock and debug are known"),
        }
    }
}

/// The number that a variable says, if it says one. What is no number is refused when the run begins.
fn number(name: &str) -> Result<Option<u32>> {
    parse(name, &env::var(name).unwrap_or_default())
}

fn parse(name: &str, text: &str) -> Result<Option<u32>> {
    match (text, text.parse()) {
        ("", _) => Ok(None),
        (_, Ok(number)) if number > 0 => Ok(Some(number)),
        _ => bail!("{name} is `{text}`: a number from 1 on is expected"),
    }
}

/// The place and the pins of one run.
pub struct Context {
    /// The checkout.
    pub top: PathBuf,
    /// The cache outside the checkout.
    pub cache: Cache,
    /// The pinned versions.
    pub versions: Versions,
    /// The kernel that modules are built for, and that is booted.
    pub flavour: Flavour,
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
        number(SOAK)?;
        number(SLOW)?;
        Ok(Self {
            top,
            cache: Cache::new(PathBuf::from(cache))?,
            versions,
            flavour: Flavour::from_environment()?,
        })
    }

    /// Name part of everything in the cache that belongs to this checkout, and this kernel, alone.
    pub fn checkout_key(&self) -> String {
        let key = Key::default().add(self.top.as_os_str().as_encoded_bytes());
        match self.flavour {
            Flavour::Stock => key.name(),
            Flavour::Debug => key.add("debug").name(),
        }
    }

    /// `make` in a tree of the `flavour` of kernel, or where something is built against one, with the
    /// toolchain that the kernel was built with.
    pub fn kernel_make(&self, flavour: Flavour, dir: &Path) -> Result<Command> {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C").arg(dir).arg(format!("-j{jobs}"));
        match flavour {
            Flavour::Stock => {
                make.arg(format!("CC={}", self.versions.get("CC")?))
                    .arg(format!("HOSTCC={}", self.versions.get("HOSTCC")?));
            }
            // KASAN knows Rust only if all is compiled by LLVM.
            Flavour::Debug => {
                make.arg("LLVM=1");
            }
        }
        make.env_remove("MAKEFLAGS").env_remove("MFLAGS");
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

    /// What this run has for its cases.
    pub fn has(&self) -> Has {
        Has {
            time: Self::is_long(),
            debug: self.flavour == Flavour::Debug,
        }
    }

    /// Whether there is time for all that can be tested (`VF_VDPA_LONG`).
    pub fn is_long() -> bool {
        env::var("VF_VDPA_LONG").is_ok_and(|text| !matches!(text.as_str(), "" | "0" | "no"))
    }

    /// Seconds that a soak takes, if somebody has said so (`VF_VDPA_SOAK`).
    pub fn soak() -> Option<u32> {
        number(SOAK).ok().flatten()
    }

    /// Factor by which limits are stretched on a slow machine (`VF_VDPA_SLOW`, at least 1), and for long tests.
    pub fn slowness() -> u32 {
        number(SLOW)
            .ok()
            .flatten()
            .unwrap_or(1)
            .saturating_mul(if Self::is_long() { LONGER } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_from_1_on() {
        assert_eq!(parse(SOAK, "").unwrap(), None);
        assert_eq!(parse(SOAK, "1").unwrap(), Some(1));
        assert_eq!(parse(SOAK, "600").unwrap(), Some(600));
        for text in ["0", "-1", "1.5", "ten", "10 s", "4294967296"] {
            let error = parse(SOAK, text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("VF_VDPA_SOAK is `{text}`: a number from 1 on is expected")
            );
        }
    }
}
