// SPDX-License-Identifier: GPL-2.0
//! A kernel of our own that looks for mistakes while the cases run: use of memory that is not there,
//! locks in the wrong order, sleep where there must be none, leaks.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::cache::Key;
use crate::context::{Context, Flavour};
use crate::kernel::Kernel;
use crate::packages::{self, Packages};
use crate::step;

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

/// Returns the options that the kernel of `source` does not take as they are asked for.
///
/// The result is put into `dir`: `source` stays as it is.
pub fn configure(cx: &Context, source: &Path, dir: &Path) -> Result<Vec<String>> {
    let config = dir.join(".config");
    let make = |goal: &str| -> Result<()> {
        let mut make = cx.kernel_make(Flavour::Debug, source)?;
        // Not what the tree's own tools were built with would have them built again.
        make.arg(format!("HOSTCC={}", cx.versions.get("HOSTCC")?))
            .arg(format!("KCONFIG_CONFIG={}", config.display()))
            .arg(goal);
        let log = cx.cache.log(&format!("debug-config-{}", cx.checkout_key()));
        step::run("configuring the debug kernel", &log, &mut make).map(drop)
    };

    make("tinyconfig")?;
    let options = options(cx)?;
    let mut text = fs::read_to_string(&config)?;
    // Of two lines for one option the last one counts.
    text.push_str(&options);
    fs::write(&config, text)?;
    make("olddefconfig")?;
    Ok(refused(&options, &fs::read_to_string(&config)?))
}

/// All that is asked for.
fn options(cx: &Context) -> Result<String> {
    let fragment =
        fs::read_to_string(cx.top.join(FRAGMENT)).with_context(|| format!("reading {FRAGMENT}"))?;
    Ok(format!("{fragment}\n{CONFIG}"))
}

/// The options that are not in a configuration as they were asked for.
fn refused(options: &str, config: &str) -> Vec<String> {
    options
        .lines()
        .filter(|line| match line.strip_prefix("# ") {
            Some(rest) => rest.ends_with(" is not set"),
            None => line.starts_with("CONFIG_"),
        })
        // What depends on something that is not there is not mentioned.
        .filter(|line| match line.strip_suffix(" is not set") {
            Some(name) => {
                let set = format!("{}=", name.trim_start_matches("# "));
                config.lines().any(|line| line.starts_with(&set))
            }
            None => !config.lines().any(|had| had == *line),
        })
        .map(str::to_owned)
        .collect()
}

fn build(cx: &Context, packages: &Packages, dir: &Path) -> Result<()> {
    let source = dir.join("source");
    packages.unpack_source(
        "unpacking the debug kernel's source",
        &cx.cache.log("debug-unpack"),
        &source,
    )?;
    fs::write(source.join("localversion"), "-vf-debug\n")?;
    let refused = configure(cx, &source, &source)?;
    ensure!(
        refused.is_empty(),
        "the debug kernel does not take {}",
        refused.join(", ")
    );
    let log = cx.cache.log("debug");
    step::run(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_named() {
        let options =
            "# A comment.\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=m\n";
        assert_eq!(
            refused(options, config),
            ["CONFIG_B=m", "# CONFIG_C is not set"]
        );
        assert!(refused(options, "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n").is_empty());
    }
}
