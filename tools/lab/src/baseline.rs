// SPDX-License-Identifier: GPL-2.0
//! The in-tree C driver `vp_vdpa`, which the stock kernel does not build: the same cases run against it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cache::Key;
use crate::context::Context;
use crate::{kernel, step};

/// Builds `vp_vdpa.ko` from the kernel's own source.
pub fn build(cx: &Context, tree: &Path) -> Result<Vec<PathBuf>> {
    let key = Key::default().add("vp_vdpa").add(kernel::key(cx)?).name();
    let dir = cx.cache.entry("baseline", &key, |dir| {
        let source = tree.join("drivers/vdpa/virtio_pci");
        for entry in
            fs::read_dir(&source).with_context(|| format!("reading {}", source.display()))?
        {
            let entry = entry?;
            fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
        let mut make = cx.kernel_make(tree)?;
        make.arg(format!("M={}", dir.display()))
            .args(["CONFIG_VP_VDPA=m", "modules"]);
        step::run(
            "building the C driver vp_vdpa",
            &cx.cache.log("baseline"),
            &mut make,
        )?;
        Ok(())
    })?;
    Ok(vec![dir.join("vp_vdpa.ko")])
}
