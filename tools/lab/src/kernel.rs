// SPDX-License-Identifier: GPL-2.0
//! The kernel under test: what is booted, and the tree that modules are built against. The
//! distribution's has its Rust metadata made anew, as the packages lack it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::context::{Context, Flavour};
use crate::packages::{self, Packages};
use crate::{debug, step};

/// A kernel that can be booted, and modules be built for.
pub struct Kernel {
    /// Output of `uname -r` in it.
    pub release: String,
    /// The image.
    pub image: PathBuf,
    /// Its modules: what belongs at `/lib/modules/<release>`.
    pub modules: PathBuf,
    /// The tree that further modules are built against.
    pub tree: PathBuf,
}

impl Kernel {
    /// The kernel that the run is about, from the cache.
    pub fn get(cx: &Context) -> Result<Self> {
        let packages = Packages::get(cx)?;
        match cx.flavour {
            Flavour::Stock => Ok(Self {
                tree: tree(cx, &packages)?,
                image: packages.image(),
                modules: packages.modules(),
                release: packages.release,
            }),
            Flavour::Debug => debug::kernel(cx, &packages),
        }
    }
}

/// The distribution's configuration of its source, and the metadata.
fn tree(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    cx.cache.entry("tree", &packages::key(cx)?, |dir| {
        prepare(cx, packages, dir)
    })
}

fn prepare(cx: &Context, packages: &Packages, tree: &Path) -> Result<()> {
    packages.unpack_source(
        "unpacking the kernel's source",
        &cx.cache.log("tree-unpack"),
        tree,
    )?;
    for (from, to) in [("config", ".config"), ("Module.symvers", "Module.symvers")] {
        fs::copy(packages.dir.join(from), tree.join(to))?;
    }
    let local = packages
        .release
        .find('+')
        .map_or("", |at| packages.release.split_at(at).1);
    fs::write(tree.join("localversion"), format!("{local}\n"))?;
    let log = cx.cache.log("tree");
    step::run(
        "making the kernel's Rust metadata (once, several minutes)",
        &log,
        cx.kernel_make(Flavour::Stock, tree)?.arg("modules_prepare"),
    )?;
    let made = fs::read_to_string(tree.join("include/config/kernel.release"))?;
    if made.trim() != packages.release {
        bail!(
            "the prepared tree calls itself {}, not {}",
            made.trim(),
            packages.release
        );
    }
    check_symbols(tree)
}

/// Modules may load only if our build of the Rust core exports what the distribution's does.
fn check_symbols(tree: &Path) -> Result<()> {
    let symvers = fs::read_to_string(tree.join("Module.symvers"))?;
    let theirs: BTreeSet<&str> = symvers
        .lines()
        .map(|line| line.split('\t').skip(1))
        .filter_map(|mut fields| Some((fields.next()?, fields.next()?)))
        .filter(|(name, owner)| *owner == "vmlinux" && is_rust(name))
        .map(|(name, _)| name)
        .collect();
    let mut ours = BTreeSet::new();
    for file in fs::read_dir(tree.join("rust"))? {
        let path = file?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with("exports_") && name.ends_with("_generated.h") {
            ours.extend(exported(&fs::read_to_string(&path)?));
        }
    }
    if let Some(difference) = compare_symbols(&ours, &theirs) {
        bail!(
            "the Rust metadata does not match the distribution's kernel, modules would not load: {difference}"
        );
    }
    Ok(())
}

fn is_rust(name: &str) -> bool {
    name.starts_with("_R") || name.starts_with("rust_helper_")
}

/// Symbols of one `exports_*_generated.h`.
fn exported(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_once('(')?.1.split_once(')'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| is_rust(name))
        .collect()
}

/// Says how the sets differ; `None` when they are equal and not empty.
fn compare_symbols(ours: &BTreeSet<String>, theirs: &BTreeSet<&str>) -> Option<String> {
    if ours.is_empty() {
        return Some("it exports nothing".to_owned());
    }
    let extra = ours.iter().find(|name| !theirs.contains(name.as_str()));
    let missing = theirs.iter().find(|name| !ours.contains(**name));
    match (extra, missing) {
        (None, None) => None,
        (Some(name), _) => Some(format!(
            "{name} is in ours only ({} of ours, {} of theirs)",
            ours.len(),
            theirs.len()
        )),
        (None, Some(name)) => Some(format!(
            "{name} is in theirs only ({} of ours, {} of theirs)",
            ours.len(),
            theirs.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_symbols_are_told() {
        let ours: BTreeSet<String> =
            exported("EXPORT_SYMBOL_RUST_GPL(_RNvA);\nEXPORT_SYMBOL_RUST_GPL(rust_helper_b);\n")
                .into_iter()
                .collect();
        assert_eq!(
            compare_symbols(&ours, &BTreeSet::from(["_RNvA", "rust_helper_b"])),
            None
        );
        assert!(
            compare_symbols(&ours, &BTreeSet::from(["_RNvA"]))
                .unwrap()
                .contains("rust_helper_b is in ours only")
        );
        assert!(
            compare_symbols(&ours, &BTreeSet::from(["_RNvA", "rust_helper_b", "_RNvC"]))
                .unwrap()
                .contains("_RNvC is in theirs only")
        );
        assert!(compare_symbols(&BTreeSet::new(), &BTreeSet::new()).is_some());
    }
}
