// SPDX-License-Identifier: GPL-2.0
//! The project's modules: built out of a copy, so that nothing is left in the checkout.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::context::{Context, Flavour};
use crate::step;

/// Parts of the checkout that Kbuild needs.
const SOURCES: [&str; 5] = ["Kbuild", "VERSION", "rust", "drivers", "samples"];

/// Has the compiler count what is executed. The kernel has no runtime for profiles and needs none: nothing
/// but the counters is of interest. Interrupts and other processors count, too.
const COUNTING: &str = "KRUSTFLAGS=-Cinstrument-coverage -Zno-profiler-runtime -Cllvm-args=-instrprof-atomic-counter-update-all";

/// Where modules that count are built.
const COUNTING_KIND: &str = "coverage-modules";

/// File that is in a folder while no warning is known of what was compiled there.
const QUIET: &str = ".quiet";

/// Copies the sources into the cache; unchanged files keep their time, so a build is incremental.
fn copy_sources(cx: &Context, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let mut rsync = Command::new("rsync");
    rsync
        .args(["--archive", "--checksum", "--no-times", "--delete"])
        // What the build makes there stays.
        .args([
            "--exclude=target",
            "--exclude=generated.rs",
            "--exclude=doc",
            "--exclude=bindgen.mk",
        ])
        .args([
            "--exclude=*.o",
            "--exclude=*.ko",
            "--exclude=.*.cmd",
            "--exclude=*.rmeta",
            "--exclude=*.mod",
            "--exclude=.*.d",
        ])
        .args(SOURCES.iter().map(|name| cx.top.join(name)))
        .arg(to);
    step::run(
        "copying the sources",
        &cx.cache.log(&format!("copy-{}", cx.checkout_key())),
        &mut rsync,
    )
    .map(drop)
}

fn kbuild(cx: &Context, tree: &Path, kind: &str, text: &str, more: &[&str]) -> Result<PathBuf> {
    kbuild_with(cx, tree, cx.flavour, kind, text, more)
}

fn kbuild_with(
    cx: &Context,
    tree: &Path,
    flavour: Flavour,
    kind: &str,
    text: &str,
    more: &[&str],
) -> Result<PathBuf> {
    let name = format!("{kind}-{}", cx.checkout_key());
    let _lock = cx
        .cache
        .lock(&name, "it builds the modules of this checkout")?;
    let log = cx.cache.log(&name);
    let dir = cx.cache.path(&name);
    quietly(&dir, text, &log, || {
        copy_sources(cx, &dir)?;
        let mut make = cx.kernel_make(flavour, tree)?;
        make.arg(format!("M={}", dir.display()))
            .args(more)
            .arg("modules");
        step::run(text, &log, &mut make).map(drop)
    })?;
    Ok(dir)
}

/// Builds in `dir`, and fails if that prints a warning to `log`.
///
/// The compiler warns when it makes an object, and not when the object is up to date. So nothing is
/// kept of a build that has printed a warning, or that was interrupted: not even if it failed for
/// something else.
fn quietly(dir: &Path, text: &str, log: &Path, build: impl FnOnce() -> Result<()>) -> Result<()> {
    let mark = dir.join(QUIET);
    if mark.exists() {
        fs::remove_file(&mark)?;
    } else if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let built = build();
    let output = match fs::read(log) {
        Ok(output) => output,
        Err(error) => {
            built?;
            return Err(error).with_context(|| format!("reading {}", log.display()));
        }
    };
    let output = String::from_utf8_lossy(&output);
    let warning = first_warning(&output);
    if warning.is_none() && dir.exists() {
        File::create(&mark)?;
    }
    built?;
    if let Some(line) = warning {
        bail!(
            "{text} printed a warning: {line}; full log: {}",
            log.display()
        );
    }
    Ok(())
}

/// The first line of a build that complains.
fn first_warning(output: &str) -> Option<&str> {
    output
        .lines()
        .skip(1)
        .find(|line| line.to_ascii_lowercase().contains("warning"))
}

/// Builds the modules and returns their files. Any warning is an error.
pub fn build(cx: &Context, tree: &Path) -> Result<Vec<PathBuf>> {
    made(&kbuild(cx, tree, "modules", "building the modules", &[])?)
}

/// The same, of modules that count what they execute.
pub fn build_counting(cx: &Context, tree: &Path) -> Result<Vec<PathBuf>> {
    made(&kbuild(
        cx,
        tree,
        COUNTING_KIND,
        "building the modules that count",
        &[COUNTING],
    )?)
}

/// Where the sources are that [`build_counting`] compiles: the files know themselves by these names.
pub fn counting_sources(cx: &Context) -> PathBuf {
    cx.cache
        .path(&format!("{COUNTING_KIND}-{}", cx.checkout_key()))
}

/// The modules that a build has left in `dir`.
fn made(dir: &Path) -> Result<Vec<PathBuf>> {
    let list =
        fs::read_to_string(dir.join("modules.order")).context("the build left no modules.order")?;
    let files: Vec<PathBuf> = list
        .lines()
        .filter_map(|line| Path::new(line).file_name())
        .map(|name| dir.join(name).with_extension("ko"))
        .collect();
    anyhow::ensure!(!files.is_empty(), "Kbuild makes no module");
    Ok(files)
}

/// Builds the modules with the toolchain of a `flavour` and words for `make`, apart from others as
/// `kind`. Returns where they are.
pub fn build_with(
    cx: &Context,
    tree: &Path,
    flavour: Flavour,
    kind: &str,
    more: &[&str],
) -> Result<PathBuf> {
    kbuild_with(cx, tree, flavour, kind, "building the modules", more)
}

/// What a user does who has a kernel tree that knows Rust: `make`, `make install`, `make clean`. Returns
/// what does not come of it.
pub fn check_make(cx: &Context, tree: &Path) -> Result<Vec<String>> {
    let name = format!("kdir-{}", cx.checkout_key());
    let _lock = cx
        .cache
        .lock(&name, "it builds the modules of this checkout")?;
    let dir = cx.cache.path(&name);
    copy_sources(cx, &dir)?;
    let root = dir.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::copy(cx.top.join("Makefile"), dir.join("Makefile")).context("copying the Makefile")?;
    let before = files(&dir)?;
    let make = |goal: &str| -> Result<()> {
        let mut make = cx.kernel_make(cx.flavour, &dir)?;
        make.arg(format!("KDIR={}", tree.display()))
            .arg(format!("INSTALL_MOD_PATH={}", root.display()))
            .arg(goal);
        let log = cx.cache.log(&format!("make-{goal}-{}", cx.checkout_key()));
        step::run(&format!("running make {goal}"), &log, &mut make).map(drop)
    };

    make("all")?;
    make("install")?;
    let mut wrong = Vec::new();
    let installed = files(&root)?;
    let list = installed
        .iter()
        .find(|path| path.ends_with("modules.dep"))
        .map_or_else(String::new, |path| {
            fs::read_to_string(path).unwrap_or_default()
        });
    for name in ["vf_vdpa.ko", "rust_vdpa_loopback.ko"] {
        if !installed
            .iter()
            .any(|path| path.to_string_lossy().contains(name))
        {
            wrong.push(format!("make install does not install {name}"));
        }
        if !list.contains(name) {
            wrong.push(format!("make install does not tell depmod of {name}"));
        }
    }
    make("clean")?;
    fs::remove_dir_all(&root).context("removing what was installed")?;
    wrong.extend(
        files(&dir)?
            .difference(&before)
            .map(|path| format!("make clean leaves {}", path.display())),
    );
    Ok(wrong)
}

/// All files below a folder.
fn files(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path());
            }
        }
    }
    Ok(found)
}

/// Runs the kernel's set of clippy lints.
pub fn clippy(cx: &Context, tree: &Path) -> Result<()> {
    kbuild(
        cx,
        tree,
        "clippy",
        "running clippy on the modules",
        &["CLIPPY=1"],
    )
    .map(drop)
}

/// Builds the documentation of the crates and returns its folder.
pub fn doc(cx: &Context, tree: &Path) -> Result<PathBuf> {
    Ok(kbuild(cx, tree, "doc", "building the documentation", &["DOC=y"])?.join("doc"))
}

/// Writes `rust-project.json` into the checkout, the one thing that belongs there: editors look for it.
pub fn rust_analyzer(cx: &Context, tree: &Path) -> Result<()> {
    let mut make = cx.kernel_make(cx.flavour, tree)?;
    make.arg(format!("M={}", cx.top.display()))
        .arg("rust-analyzer");
    step::run(
        "writing rust-project.json",
        &cx.cache.log("rust-analyzer"),
        &mut make,
    )?;
    step::run(
        "adding our crates to rust-project.json",
        &cx.cache.log("rust-project"),
        &mut Command::new(cx.top.join("tools/rust-project")),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_found() {
        // The first line is the command itself.
        let quiet = "$ make W=1 # warning\n  RUSTC x.o\n  MODPOST Module.symvers\n";
        assert_eq!(first_warning(quiet), None);
        let loud = format!("{quiet}warning: unused variable: `x`\n");
        assert_eq!(first_warning(&loud), Some("warning: unused variable: `x`"));
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("module-{}-{name}", std::process::id()))
    }

    /// Builds two objects: the first one warns, if `warns`, and the second one fails, if `fails`.
    /// Returns what came of it, and whether the first one was compiled.
    fn two_objects(top: &Path, warns: bool, fails: bool) -> (String, bool) {
        let (dir, log) = (top.join("build"), top.join("log"));
        let first = dir.join("first.o");
        let mut compiled = false;
        let built = quietly(&dir, "building", &log, || {
            fs::create_dir_all(&dir)?;
            compiled = !first.exists();
            File::create(&first)?;
            let said = if compiled && warns { "warning: x" } else { "" };
            fs::write(&log, format!("$ make\n{said}\n"))?;
            anyhow::ensure!(!fails, "the second one is wrong");
            Ok(())
        });
        (
            built.map_or_else(|error| error.to_string(), |()| "built".to_owned()),
            compiled,
        )
    }

    #[test]
    fn a_warning_before_an_error_is_not_lost() {
        let top = scratch("warning");
        let build = |warns, fails| two_objects(&top, warns, fails);
        assert_eq!(build(true, true), ("the second one is wrong".into(), true));
        for _ in 0..2 {
            let (result, compiled) = build(true, false);
            assert!(result.contains("warning: x") && compiled, "{result}");
        }
        assert_eq!(build(false, false), ("built".into(), true));
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_is_quiet_is_not_compiled_again() {
        let top = scratch("quiet");
        let build = |fails| two_objects(&top, false, fails);
        assert_eq!(build(true), ("the second one is wrong".into(), true));
        assert_eq!(build(false), ("built".into(), false));
        assert_eq!(build(false), ("built".into(), false));
        fs::remove_dir_all(top).unwrap();
    }
}
