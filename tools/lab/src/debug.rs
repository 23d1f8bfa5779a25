// SPDX-License-Identifier: GPL-2.0
//! A kernel of our own that looks for mistakes while the cases run: use of memory that is not there,
//! locks in the wrong order, sleep where there must be none, leaks.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cache::Key;
use crate::context::{Context, Flavour};
use crate::kernel::Kernel;
use crate::packages::{self, Packages};
use crate::{kconfig, step};

/// Its options, over `tinyconfig` and the options that the project needs.
const CONFIG: &str = include_str!("../debug.config");
/// The latter, in the checkout.
const FRAGMENT: &str = ".config.fragment";

/// The kernel, from the cache.
pub fn kernel(cx: &Context, packages: &Packages) -> Result<Kernel> {
    let key = Key::default()
        .add(packages::key(cx)?)
        .add(options(cx)?)
        .name();
    let dir = cx
        .cache
        .entry("debug", &key, |dir| build(cx, packages, dir))?;
    let release = fs::read_to_string(dir.join("release"))?.trim().to_owned();
    Ok(Kernel {
        image: dir.join("vmlinuz"),
        modules: dir.join("lib/modules").join(&release),
        tree: dir.join("source"),
        release,
    })
}

/// Returns the options that the kernel of `source` does not take as they are asked for. The
/// configuration is put into `dir`.
pub fn configure(cx: &Context, source: &Path, dir: &Path) -> Result<Vec<String>> {
    kconfig::tiny(cx, Flavour::Debug, source, dir, &options(cx)?, &[])
}

/// All that is asked for.
fn options(cx: &Context) -> Result<String> {
    Ok(format!("{}\n{CONFIG}", fragment(cx)?))
}

/// What the project needs of a kernel.
pub fn fragment(cx: &Context) -> Result<String> {
    fs::read_to_string(cx.top.join(FRAGMENT)).with_context(|| format!("reading {FRAGMENT}"))
}

fn build(cx: &Context, packages: &Packages, dir: &Path) -> Result<()> {
    let source = kconfig::source(
        cx,
        packages,
        "debug",
        Flavour::Debug,
        dir,
        &options(cx)?,
        &[],
    )?;
    fs::write(source.join("localversion"), "-vf-debug\n")?;
    let log = cx.cache.log("debug");
    step::run_long(
        "building the debug kernel (once, half an hour)",
        &log,
        cx.kernel_make(Flavour::Debug, &source)?
            .args(["bzImage", "modules"]),
    )?;
    let mut install = cx.kernel_make(Flavour::Debug, &source)?;
    install
        .arg(format!("INSTALL_MOD_PATH={}", dir.display()))
        .arg("modules_install");
    step::run("installing the debug kernel's modules", &log, &mut install)?;
    fs::copy(source.join("arch/x86/boot/bzImage"), dir.join("vmlinuz"))?;
    fs::copy(
        source.join("include/config/kernel.release"),
        dir.join("release"),
    )?;
    Ok(())
}
