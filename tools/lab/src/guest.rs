// SPDX-License-Identifier: GPL-2.0
//! The tiny guest that runs inside the virtual machine: its kernel and its initramfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::archive::Archive;
use crate::cache::Key;
use crate::context::{Context, Flavour};
use crate::packages::{self, Packages};
use crate::{kconfig, step};

/// Options of the guest's kernel, over `tinyconfig`.
const CONFIG: &str = include_str!("../guest.config");
/// First program of the guest.
const INIT: &str = include_str!("../guest.init");
/// What measures how fast it can send and receive.
const MEASURE: &str = include_str!("../guest.measure");

/// The guest's kernel, from the cache.
pub fn kernel(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    let key = Key::default().add(packages::key(cx)?).add(CONFIG).name();
    let dir = cx
        .cache
        .entry("guest", &key, |dir| build(cx, packages, dir))?;
    Ok(dir.join("vmlinux"))
}

/// The guest's initramfs.
pub fn initramfs() -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.busybox()?;
    for dir in ["proc", "sys", "tmp"] {
        archive.directory(dir);
    }
    // Its shell knows all others by itself, as soon as there is /proc.
    for name in ["sh", "mount"] {
        archive.link(&format!("bin/{name}"), "busybox");
    }
    archive.file("bin/measure", 0o755, MEASURE.as_bytes());
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}

fn build(cx: &Context, packages: &Packages, dir: &Path) -> Result<()> {
    let source = kconfig::source(cx, packages, "guest", Flavour::Stock, dir, CONFIG, &[])?;
    let log = cx.cache.log("guest");
    step::run(
        "building the guest's kernel (once, several minutes)",
        &log,
        cx.kernel_make(Flavour::Stock, &source)?.arg("vmlinux"),
    )?;
    // Not compressed: it is unpacked by a machine that may be emulated twice.
    let mut strip = Command::new("strip");
    strip
        .arg("-o")
        .arg(dir.join("vmlinux"))
        .arg(source.join("vmlinux"));
    step::run("stripping the guest's kernel", &log, &mut strip)?;
    fs::remove_dir_all(&source)?;
    Ok(())
}
