// SPDX-License-Identifier: GPL-2.0
//! The project's own packages: built and installed as anybody does it, in a root above the sysroot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Key;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::packages::{self, Packages};
use crate::step;

/// What that takes besides the sysroot.
const LIST: &str = include_str!("../packagers");
/// Runs a command in such a root.
const IN_ROOT: &str = "tools/lab/inroot";
/// Raise when the way the layer is made changes.
const RECIPE: &str = "1";
/// The name of the export; cargo remembers paths.
const EXPORT: &str = "vf-vdpa";

/// The packages are built, and have in them what they should.
pub fn builds(cx: &Context) -> Result<Vec<String>> {
    check(cx, "builds", "building the packages", &[])
}

/// The module's package is installed, with and without metadata, upgraded, and removed.
pub fn installs(cx: &Context) -> Result<Vec<String>> {
    let kernel = Kernel::get(cx)?;
    let text = "installing, upgrading and removing the package";
    check(cx, "installs", text, &[("TREE", &kernel.tree)])
}

/// A user makes the metadata of the distribution's source.
pub fn metadata(cx: &Context) -> Result<Vec<String>> {
    let source = Packages::get(cx)?.dir.join(packages::SOURCE);
    let text = "making the metadata as a user does";
    check(cx, "metadata", text, &[("SOURCE", &source)])
}

/// Runs `tools/lab/package/NAME.sh`, which fails with what is wrong at the end of its output.
fn check(cx: &Context, name: &str, text: &str, paths: &[(&str, &Path)]) -> Result<Vec<String>> {
    let packages = Packages::get(cx)?;
    let layer = layer(cx, &packages)?;
    let key = cx.checkout_key();
    let _lock = cx
        .cache
        .lock(&format!("package-{key}"), "it builds the packages")?;
    let dir = export(cx)?;
    let mut root = in_root(cx);
    root.arg("--layer").arg(layer);
    root.arg("--modules").arg(packages.modules());
    root.arg("--bind").arg(format!("{}:/lab", dir.display()));
    // Optimising a program takes minutes, and makes no other package.
    let options = if Context::is_long() { "" } else { "noopt" };
    root.args(["--", "env"])
        .arg(format!("DEB_BUILD_OPTIONS=noautodbgsym {options}"))
        .arg(format!("TOP=/lab/{EXPORT}"))
        .arg(format!("RELEASE={}", packages.release))
        .args(
            paths
                .iter()
                .map(|(name, path)| format!("{name}={}", path.display())),
        )
        .args(["sh", &format!("/lab/{EXPORT}/tools/lab/package/{name}.sh")]);
    let log = cx.cache.log(&format!("package-{name}-{key}"));
    step::run(text, &log, &mut root).map(|_| Vec::new())
}

/// A copy of the checkout without what git does not know.
fn export(cx: &Context) -> Result<PathBuf> {
    let dir = cx.cache.path(&format!("package-{}", cx.checkout_key()));
    fs::create_dir_all(&dir)?;
    let mut rsync = Command::new("rsync");
    rsync
        .args(["--archive", "--delete", "--delete-excluded"])
        .args(["--exclude=/.git", "--filter=:- .gitignore"])
        .arg(format!("{}/", cx.top.display()))
        .arg(dir.join(EXPORT));
    step::run(
        "copying the checkout",
        &cx.cache.log(&format!("package-copy-{}", cx.checkout_key())),
        &mut rsync,
    )?;
    Ok(dir)
}

/// A root that has the cache in it, and no more to begin with than the sysroot.
fn in_root(cx: &Context) -> Command {
    let mut root = Command::new(cx.top.join(IN_ROOT));
    root.arg("--bind").arg(cx.cache.path(""));
    root
}

/// The layer with the packages of the list, from the cache.
fn layer(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    let there = fs::read_to_string("/var/lib/dpkg/status").context("reading what is installed")?;
    let key = Key::default()
        .add(RECIPE)
        .add(packages::key(cx)?)
        .add(LIST)
        .add(there)
        .name();
    let dir = cx
        .cache
        .entry("packagers", &key, |dir| make(cx, packages, dir))?;
    Ok(dir.join("root"))
}

/// Installs them, with all scripts that belong to it, and keeps what that has changed.
fn make(cx: &Context, packages: &Packages, dir: &Path) -> Result<()> {
    let save = dir.join("root");
    fs::create_dir(&save)?;
    let log = cx.cache.log("packagers");
    step::run(
        "reading the package lists",
        &log,
        packages::apt(cx, "apt-get")?.arg("update"),
    )?;
    let apt = packages::apt(cx, "apt-get")?;
    let mut root = in_root(cx);
    root.arg("--save").arg(&save);
    root.args(["--", "env", "DEBIAN_FRONTEND=noninteractive"])
        .arg(apt.get_program())
        .args(apt.get_args())
        .args(["-y", "--no-install-recommends"])
        .args(["-o", "DPkg::Options::=--force-unsafe-io", "install"])
        .args(names(&packages.release));
    let text = "installing what packages are built with";
    step::run(text, &log, &mut root).map(drop)
}

fn names(release: &str) -> Vec<String> {
    LIST.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.replace("KERNEL", release))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_the_kernel() {
        let names = names("7.3.4-x");
        assert!(names.contains(&"dkms".to_owned()));
        assert!(names.contains(&"linux-headers-7.3.4-x".to_owned()));
    }
}
