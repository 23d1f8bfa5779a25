// SPDX-License-Identifier: GPL-2.0
//! The initramfs of the virtual machine: busybox, the modules that reach the root file system, `init`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::archive::Archive;
use crate::cache::Key;
use crate::context::Context;
use crate::kernel::Kernel;

/// First program of the machine.
const INIT: &str = include_str!("../init");
/// What the root file system needs; dependencies follow by themselves.
const MODULES: [&str; 3] = ["9p", "9pnet_virtio", "overlay"];

/// The initramfs, from the cache.
pub fn get(cx: &Context, kernel: &Kernel) -> Result<PathBuf> {
    let key = Key::default()
        .add(kernel.modules.as_os_str().as_encoded_bytes())
        .add(INIT)
        .add(MODULES.join(" "))
        .name();
    let dir = cx.cache.entry("initramfs", &key, |dir| {
        let mut archive = Archive::new();
        archive.busybox()?;
        archive.directory("modules");
        for (index, module) in load_order(&kernel.modules)?.iter().enumerate() {
            archive.file(
                &format!("modules/{index:02}.ko"),
                0o644,
                &read_module(module)?,
            );
        }
        archive.file("init", 0o755, INIT.as_bytes());
        fs::write(dir.join("initramfs"), archive.finish())?;
        Ok(())
    })?;
    Ok(dir.join("initramfs"))
}

/// Files of the modules, each after those it depends on.
fn load_order(root: &Path) -> Result<Vec<PathBuf>> {
    let built_in =
        fs::read_to_string(root.join("modules.builtin")).context("reading modules.builtin")?;
    let text = fs::read_to_string(root.join("modules.dep")).context("reading modules.dep")?;
    let mut order: Vec<PathBuf> = Vec::new();
    for wanted in MODULES {
        if built_in.lines().any(|line| stem(line) == wanted) {
            continue;
        }
        let line = text
            .lines()
            .find(|line| stem(line.split(':').next().unwrap_or_default()) == wanted)
            .with_context(|| format!("the kernel has no module {wanted}"))?;
        let (module, needs) = line.split_once(':').unwrap_or((line, ""));
        // modules.dep lists the nearest dependency first.
        for path in needs.split_whitespace().rev().chain([module]) {
            let path = root.join(path);
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// Name of a module without folder and extensions.
fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split('.').next().unwrap_or(name)
}

/// The module itself; the distribution may have compressed it.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(path).with_context(|| format!("reading {}", path.display())),
    };
    let done = Command::new(tool)
        .arg("-dc")
        .arg(path)
        .output()
        .with_context(|| format!("starting {tool}"))?;
    anyhow::ensure!(
        done.status.success(),
        "{tool} cannot read {}",
        path.display()
    );
    Ok(done.stdout)
}
