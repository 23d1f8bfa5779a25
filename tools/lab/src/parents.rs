// SPDX-License-Identifier: GPL-2.0
//! C drivers of the kernel's own tree that the stock kernel does not build: the same cases run against
//! them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::Key;
use crate::context::Context;
use crate::kernel::Kernel;
use crate::step;

/// Where their source is: `vp_vdpa`, the simulators and what these are made of, and the driver of
/// devices that are programs.
const SOURCES: [&str; 4] = [
    "drivers/vdpa/virtio_pci",
    "drivers/vdpa/vdpa_sim",
    "drivers/vdpa/vdpa_user",
    "drivers/vhost/vringh.c",
];

/// Modules, in an order in which they can be loaded.
const MODULES: [&str; 6] = [
    "vringh",
    "vp_vdpa",
    "vdpa_sim",
    "vdpa_sim_net",
    "vdpa_sim_blk",
    "vduse",
];

/// The objects of modules that are made of several.
const PARTS: &str = "vduse-y := vduse_dev.o iova_domain.o";

/// Builds them from the kernel's own source, and returns their files.
pub fn build(cx: &Context, kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let key = Key::default()
        .add(MODULES.join(" "))
        .add(PARTS)
        .add(kernel.tree.as_os_str().as_encoded_bytes())
        .name();
    let dir = cx.cache.entry("parents", &key, |dir| {
        for source in SOURCES {
            copy(&kernel.tree.join(source), dir)?;
        }
        let objects: Vec<String> = MODULES.iter().map(|name| format!("{name}.o")).collect();
        fs::write(
            dir.join("Makefile"),
            format!("obj-m := {}\n{PARTS}\n", objects.join(" ")),
        )?;
        let mut make = cx.kernel_make(cx.flavour, &kernel.tree)?;
        make.arg(format!("M={}", dir.display())).arg("modules");
        step::run(
            "building the kernel's C drivers",
            &cx.cache.log("parents"),
            &mut make,
        )?;
        Ok(())
    })?;
    Ok(MODULES
        .iter()
        .map(|name| dir.join(format!("{name}.ko")))
        .collect())
}

/// Copies a file, or the files of a directory, into `dir`.
fn copy(source: &Path, dir: &Path) -> Result<()> {
    let reading = || format!("reading {}", source.display());
    let files = if source.is_dir() {
        fs::read_dir(source)
            .with_context(reading)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?
    } else {
        vec![source.to_owned()]
    };
    for file in files {
        let name = file.file_name().context("a source without a name")?;
        fs::copy(&file, dir.join(name)).with_context(reading)?;
    }
    Ok(())
}
