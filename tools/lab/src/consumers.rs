// SPDX-License-Identifier: GPL-2.0
//! A layer over the sysroot with those who use the devices: what is large, and few cases need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cache::Key;
use crate::context::Context;
use crate::{packages, step};

/// Its packages.
const LIST: &str = include_str!("../consumers");
/// What the kernel's command line has in a machine with the layer.
pub const WORD: &str = "lab.consumers=1";
/// Raise when the way the layer is made changes.
const RECIPE: &str = "1";

/// The layer, from the cache.
pub fn get(cx: &Context) -> Result<PathBuf> {
    // What the sysroot has is not in the layer.
    let there = fs::read_to_string("/var/lib/dpkg/status").context("reading what is installed")?;
    let key = Key::default()
        .add(RECIPE)
        .add(packages::key(cx)?)
        .add(LIST)
        .add(there)
        .name();
    let dir = cx.cache.entry("consumers", &key, |dir| make(cx, dir))?;
    Ok(dir.join("root"))
}

fn make(cx: &Context, dir: &Path) -> Result<()> {
    let archives = dir.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    let root = dir.join("root");
    fs::create_dir(&root)?;
    let log = cx.cache.log("consumers");
    step::run(
        "reading the package lists",
        &log,
        packages::apt(cx, "apt-get")?.arg("update"),
    )?;
    let list = List::parse(LIST, cx.versions.get("BACKPORTS")?)?;
    let mut download = packages::apt(cx, "apt-get")?;
    download
        .args([
            "install",
            "-y",
            "--no-install-recommends",
            "--download-only",
        ])
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(list.whole);
    let text = "fetching the packages of those who use devices";
    step::run(text, &log, &mut download)?;
    let mut download = packages::apt(cx, "apt-get")?;
    download
        .arg("download")
        .args(list.alone)
        .current_dir(&archives);
    step::run(text, &log, &mut download)?;
    for deb in fs::read_dir(&archives)? {
        let deb = deb?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            // No script of theirs runs: what one would do, the cases do.
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&deb).arg(&root);
            step::run(&format!("unpacking {}", deb.display()), &log, &mut unpack)?;
        }
    }
    fs::remove_dir_all(&archives)?;
    // It lies over a root file system in which these are links to what is below /usr.
    for name in ["bin", "lib", "lib64", "sbin"] {
        ensure!(
            !root.join(name).exists(),
            "a package of tools/lab/consumers has files in /{name}"
        );
    }
    Ok(())
}

/// The packages of a list, as apt-get is to be told.
#[derive(Default)]
struct List {
    /// With what they depend on.
    whole: Vec<String>,
    /// Without.
    alone: Vec<String>,
}

impl List {
    fn parse(text: &str, backports: &str) -> Result<Self> {
        let mut list = Self::default();
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] | ["#", ..] => {}
                [name] => list.whole.push(name.to_owned()),
                ["backports", name] => list.whole.push(format!("{name}/{backports}")),
                ["alone", name] => list.alone.push(name.to_owned()),
                _ => bail!("`{line}` in tools/lab/consumers names no package"),
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn lists_are_read() {
        let list = List::parse("# why\n\ncrun\nbackports virsh\nalone pmd\n", "later").unwrap();
        assert_eq!(list.whole, ["crun", "virsh/later"]);
        assert_eq!(list.alone, ["pmd"]);
        assert!(List::parse("crun 1.21\n", "later").is_err());
        assert!(List::parse(LIST, "later").unwrap().whole.len() > 1);
    }
    /// What the page says Kubernetes looks for, the case looks for, and nothing else.
    #[test]
    fn page_and_case_look_for_the_same() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |name: &str| fs::read_to_string(top.join(name)).unwrap();
        let is_path = |word: &&str| word.starts_with("/sys/bus/") || word.starts_with("/dev/vhost");
        let page = read("Documentation/containers.md");
        let (_, table) = page.split_once("### What is looked for").unwrap();
        let said: BTreeSet<&str> = table.split('`').filter(is_path).collect();
        let case = read("tools/cases/container.sh");
        let done: BTreeSet<&str> = case
            .lines()
            .filter_map(|line| line.trim().split_once(' ').map(|(path, _)| path))
            .filter(is_path)
            .collect();
        assert!(said.len() > 10);
        assert_eq!(said, done);
    }
}
