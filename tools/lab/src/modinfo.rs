// SPDX-License-Identifier: GPL-2.0
//! What the built modules say about themselves.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::{module, step, version};

/// What `modinfo` must say about each module.
pub fn check(cx: &Context, tree: &Path, stock: &Path) -> Result<Vec<String>> {
    let mut wrong = version::disagreements(&cx.top)?;
    let reference = fs::read_dir(stock.join("kernel/drivers/vdpa"))
        .context("the stock kernel has no vdpa module")?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().contains("/vdpa.ko"))
        .context("the stock kernel has no vdpa.ko")?;
    let vermagic = field(cx, &reference, "vermagic")?;
    let version = version::ours(&cx.top)?;
    for file in module::build(cx, tree)? {
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut expect = |what: &str, good: bool, found: &str| {
            if !good {
                wrong.push(format!("{name}: {what}; found `{}`", found.trim()));
            }
        };
        let license = field(cx, &file, "license")?;
        expect(
            "the license must be GPL",
            license.trim().starts_with("GPL"),
            &license,
        );
        let alias = field(cx, &file, "alias")?;
        expect(
            "an alias for virtio functions would race virtio_pci",
            !alias.to_ascii_lowercase().contains("1af4"),
            &alias,
        );
        let magic = field(cx, &file, "vermagic")?;
        expect(
            &format!("vermagic must be `{}`", vermagic.trim()),
            magic == vermagic,
            &magic,
        );
        let found = field(cx, &file, "version")?;
        expect(
            &format!("the version must be `{version}`"),
            found.trim() == version,
            &found,
        );
        for what in ["description", "author"] {
            let text = field(cx, &file, what)?;
            expect(&format!("it has no {what}"), !text.trim().is_empty(), &text);
        }
    }
    Ok(wrong)
}

fn field(cx: &Context, file: &Path, name: &str) -> Result<String> {
    step::output(
        &format!("reading {name} of {}", file.display()),
        &cx.cache.log(&format!("modinfo-{}", cx.checkout_key())),
        Command::new("modinfo").arg("-F").arg(name).arg(file),
    )
}
