// SPDX-License-Identifier: GPL-2.0
//! The distribution's packages of the kernel under test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Key;
use crate::context::Context;
use crate::step;

/// Raise when the way the packages, or the tree that belongs to them, are made changes.
const RECIPE: &str = "1";

/// The file of its source, among the packages.
pub const SOURCE: &str = "source.tar.xz";

/// The distribution's kernel, unpacked.
pub struct Packages {
    /// Where they are unpacked.
    pub dir: PathBuf,
    /// Output of `uname -r` in that kernel.
    pub release: String,
}

impl Packages {
    /// The packages, from the cache or from the archive.
    pub fn get(cx: &Context) -> Result<Self> {
        let dir = cx
            .cache
            .entry("packages", &key(cx)?, |dir| fetch(cx, dir))?;
        let release = fs::read_to_string(dir.join("release"))?.trim().to_owned();
        Ok(Self { dir, release })
    }

    /// The kernel image.
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The stock modules: what belongs at `/lib/modules/<release>`.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.release)
    }

    /// Unpacks the kernel's source into `into`.
    pub fn unpack_source(&self, text: &str, log: &Path, into: &Path) -> Result<()> {
        fs::create_dir_all(into)?;
        let mut tar = Command::new("tar");
        tar.arg("-C")
            .arg(into)
            .args(["--strip-components=1", "-xf"])
            .arg(self.dir.join(SOURCE));
        step::run(text, log, &mut tar).map(drop)
    }
}

/// Key of everything that comes from the kernel alone.
pub fn key(cx: &Context) -> Result<String> {
    let mut key = Key::default().add(RECIPE);
    for name in [
        "SUITE",
        "BACKPORTS",
        "RUSTC",
        "CC",
        "HOSTCC",
        "KERNEL",
        "KERNEL_SERIES",
        "KERNEL_ABI",
        "KERNEL_FLAVOUR",
        "KERNEL_SOURCE",
    ] {
        key = key.add(cx.versions.get(name)?);
    }
    Ok(key.name())
}

/// `apt-get` or `apt-cache` with its state in the cache: the sysroot stays as it was made.
pub fn apt(cx: &Context, tool: &str) -> Result<Command> {
    let state = cx.cache.path("apt");
    fs::create_dir_all(state.join("lists/partial"))?;
    fs::create_dir_all(state.join("archives/partial"))?;
    let mut apt = Command::new(tool);
    apt.args(["-q", "-o", "APT::Sandbox::User=root"])
        .arg("-o")
        .arg(format!(
            "Dir::State::lists={}",
            state.join("lists").display()
        ))
        .arg("-o")
        .arg(format!("Dir::Cache={}", state.display()));
    Ok(apt)
}

/// What the archive's package lists say.
fn ask_archive(cx: &Context, words: &[&str]) -> Result<String> {
    step::output(
        "asking the package lists",
        &cx.cache.log("apt-cache"),
        apt(cx, "apt-cache")?.args(words),
    )
}

/// The kernel to take: the pinned one, else the newest of its series whose source is there as well.
fn choose(cx: &Context) -> Result<(String, String)> {
    let versions = &cx.versions;
    let (abi, flavour) = (versions.get("KERNEL_ABI")?, versions.get("KERNEL_FLAVOUR")?);
    let wanted = versions.get("KERNEL")?;
    let prefix = format!("linux-image-{}.", versions.get("KERNEL_SERIES")?);
    let suffix = format!("+{abi}-{flavour}");
    let names = ask_archive(cx, &["pkgnames", &prefix])?;
    let mut found: Vec<(u32, String)> = names
        .lines()
        .filter_map(|name| {
            let patch = name
                .strip_prefix(&prefix)?
                .strip_suffix(&suffix)?
                .parse()
                .ok()?;
            Some((patch, name.strip_prefix("linux-image-")?.to_owned()))
        })
        .collect();
    found.sort();
    found.reverse();
    let pinned = format!("{wanted}{suffix}");
    found.sort_by_key(|(_, release)| *release != pinned);
    for (_, release) in found {
        let image = archive_versions(cx, &format!("linux-image-{release}"))?;
        let source = archive_versions(cx, versions.get("KERNEL_SOURCE")?)?;
        if let Some(version) = image.intersection(&source).last() {
            if release != pinned {
                eprintln!("kernel {wanted} has left the archive: taking {release} instead");
            }
            return Ok((release, version.clone()));
        }
    }
    bail!(
        "the archive has no kernel like {pinned} together with its source: correct KERNEL in tools/versions"
    )
}

fn archive_versions(cx: &Context, package: &str) -> Result<BTreeSet<String>> {
    let table = ask_archive(cx, &["madison", package])?;
    Ok(table
        .lines()
        .filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned()))
        .collect())
}

fn fetch(cx: &Context, dir: &Path) -> Result<()> {
    step::run(
        "reading the package lists",
        &cx.cache.log("apt-update"),
        apt(cx, "apt-get")?.arg("update"),
    )?;
    let (release, version) = choose(cx)?;
    let known = ask_archive(cx, &["pkgnames", "linux-"])?;
    let known: BTreeSet<&str> = known.lines().collect();
    // Newer packaging splits the image; older has all of it in linux-image.
    let packages: Vec<String> = [
        "linux-image-",
        "linux-base-",
        "linux-binary-",
        "linux-modules-",
        "linux-headers-",
    ]
    .iter()
    .map(|kind| format!("{kind}{release}"))
    .chain([cx.versions.get("KERNEL_SOURCE")?.to_owned()])
    .filter(|name| known.contains(name.as_str()))
    .collect();
    let debs = dir.join("debs");
    fs::create_dir(&debs)?;
    // apt checks the archive's signature and each package's digest.
    let mut download = apt(cx, "apt-get")?;
    download.arg("download").current_dir(&debs);
    download.args(packages.iter().map(|name| format!("{name}={version}")));
    step::run(
        &format!("fetching the packages of kernel {release}"),
        &cx.cache.log("kernel-packages"),
        &mut download,
    )?;

    let unpacked = dir.join("unpacked");
    for deb in fs::read_dir(&debs)? {
        let deb = deb?.path();
        let name = deb
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&deb).arg(&unpacked);
        step::run(
            &format!("unpacking {name}"),
            &cx.cache.log("kernel-unpack"),
            &mut unpack,
        )?;
    }
    let pick = |from: &str, to: &str| -> Result<()> {
        let from = unpacked.join(from);
        fs::rename(&from, dir.join(to))
            .with_context(|| format!("the kernel's packages hold no {}", from.display()))
    };
    pick(
        &format!("usr/src/linux-headers-{release}/.config"),
        "config",
    )?;
    pick(
        &format!("usr/src/linux-headers-{release}/Module.symvers"),
        "Module.symvers",
    )?;
    pick(
        &format!("usr/src/{}.tar.xz", cx.versions.get("KERNEL_SOURCE")?),
        SOURCE,
    )?;
    fs::create_dir_all(dir.join("lib/modules"))?;
    let modules = format!("lib/modules/{release}");
    pick(&format!("usr/{modules}"), &modules).or_else(|_| pick(&modules, &modules))?;
    // Newer packaging keeps the image among the modules.
    fs::rename(dir.join(&modules).join("vmlinuz"), dir.join("vmlinuz"))
        .or_else(|_| pick(&format!("boot/vmlinuz-{release}"), "vmlinuz"))?;
    fs::remove_dir_all(&debs)?;
    fs::remove_dir_all(&unpacked)?;
    let mut depmod = Command::new("depmod");
    depmod.arg("-b").arg(dir).arg(&release);
    step::run(
        "indexing the kernel's modules",
        &cx.cache.log("depmod"),
        &mut depmod,
    )?;
    fs::write(dir.join("release"), format!("{release}\n"))?;
    Ok(())
}
