// SPDX-License-Identifier: GPL-2.0
//! The cases that need no machine: host tests, format, build, lints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::case::Selection;
use crate::context::{Context, Flavour};
use crate::kernel::{self, Kernel};
use crate::ktap::Verdict;
use crate::step::{self, Failed};
use crate::{arm, debug, modinfo, module, package, source};

type Check = fn(&Context) -> Result<Vec<String>>;

/// When a check is run, if there are cases for a machine, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before there is a machine: it makes what the machine needs, is over at once, or has a machine of
    /// its own.
    Before,
    /// While it runs.
    Beside,
}

/// Each check returns what is wrong, one item a line.
const CHECKS: [(&str, When, Check); 16] = [
    ("host/virtio", When::Beside, virtio),
    ("host/tools", When::Beside, tools),
    ("host/clippy", When::Beside, tools_clippy),
    ("host/shellcheck", When::Beside, shellcheck),
    ("build/unsafe", When::Before, no_unsafe),
    ("build/fmt", When::Before, fmt),
    ("build/modules", When::Before, modules),
    ("build/clippy", When::Before, clippy),
    ("build/doc", When::Beside, doc),
    ("build/modinfo", When::Before, module_info),
    ("build/make", When::Beside, make),
    ("build/debug_config", When::Beside, debug_config),
    (BUILDS, When::Beside, package::builds),
    (
        "package/installs_builds_and_goes",
        When::Beside,
        package::installs,
    ),
    (METADATA, When::Beside, package::metadata),
    (ARM, When::Before, arm::check),
];

/// What takes long: part of `make check-long`; of `make check` only if selected by this name.
const LONG: [&str; 3] = [ARM, BUILDS, METADATA];
const ARM: &str = "arm/interrupts_follow_the_domain";
const BUILDS: &str = "package/builds";
const METADATA: &str = "package/metadata_is_made";

/// The only one that depends on which kernel it is about, besides the cases in the machine.
const OF_EACH_KERNEL: &str = "build/modules";

/// Names of all checks.
pub fn names() -> Vec<String> {
    CHECKS.iter().map(|(name, ..)| (*name).to_owned()).collect()
}

/// Whether there is no time for a check.
pub fn is_late(name: &str, selection: &Selection) -> bool {
    LONG.contains(&name) && !Context::is_long() && !selection.names(name)
}

/// Runs the selected checks, or only those that are due `when`; `done` is told of each.
pub fn run(
    cx: &Context,
    selection: &Selection,
    when: Option<When>,
    mut done: impl FnMut(&'static str, Duration, Verdict, Option<PathBuf>),
) {
    let due = |name: &str| {
        (cx.flavour == Flavour::Stock || name == OF_EACH_KERNEL) && !is_late(name, selection)
    };
    for &(name, _, check) in CHECKS
        .iter()
        .filter(|(_, its, _)| when.is_none_or(|when| when == *its))
        .filter(|(name, ..)| selection.has(name) && due(name))
    {
        let began = Instant::now();
        let (verdict, log) = judge(check(cx));
        done(name, began.elapsed(), verdict, log);
    }
}

/// What comes of a check that says what is wrong, and where its log is.
pub fn judge(result: Result<Vec<String>>) -> (Verdict, Option<PathBuf>) {
    match result {
        Ok(wrong) if wrong.is_empty() => (Verdict::Passed, None),
        Ok(wrong) => (Verdict::Failed(wrong), None),
        Err(error) => match error.downcast::<Failed>() {
            Ok(failed) => (
                Verdict::Failed(failed.tail.lines().map(str::to_owned).collect()),
                Some(failed.log),
            ),
            Err(error) => (
                Verdict::Failed(format!("{error:#}").lines().map(str::to_owned).collect()),
                None,
            ),
        },
    }
}

fn cargo(cx: &Context, name: &str, mut command: Command) -> Result<Vec<String>> {
    step::run(
        &format!("running {name}"),
        &cx.cache.log(&format!("{name}-{}", cx.checkout_key())),
        &mut command,
    )?;
    Ok(Vec::new())
}

fn virtio(cx: &Context) -> Result<Vec<String>> {
    cargo(
        cx,
        "host-virtio",
        cx.cargo("test", "rust/virtio/Cargo.toml"),
    )
}

fn tools(cx: &Context) -> Result<Vec<String>> {
    let mut command = cx.cargo("test", "tools/Cargo.toml");
    command.arg("--workspace");
    cargo(cx, "host-tools", command)
}

fn tools_clippy(cx: &Context) -> Result<Vec<String>> {
    let mut command = cx.cargo("clippy", "tools/Cargo.toml");
    command.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo(cx, "host-clippy", command)
}

fn shellcheck(cx: &Context) -> Result<Vec<String>> {
    let mut command = Command::new("shellcheck");
    command
        .current_dir(&cx.top)
        // A variable that a group sets may be for a file that it sources.
        .args(["--severity=warning", "--exclude=SC2034"])
        .args([
            "--external-sources",
            "--source-path=tools/cases:tools/lab/package",
        ]);
    command.args([
        "tools/bootstrap",
        "tools/lab/init",
        "tools/lab/guest.init",
        "tools/lab/guest.measure",
        "tools/lab/arm.init",
        "tools/lab/agent",
        "tools/lab/wires",
        "tools/lab/inroot",
        ".ci/run",
        kernel::METADATA,
    ]);
    for folder in ["tools/cases", "tools/lab/package"] {
        for script in fs::read_dir(cx.top.join(folder))? {
            command.arg(Path::new(folder).join(script?.file_name()));
        }
    }
    for script in ["postinst", "postrm"] {
        command.arg(format!("debian/vf-vdpa-dkms.{script}"));
    }
    cargo(cx, "host-shellcheck", command)
}

fn tree(cx: &Context) -> Result<PathBuf> {
    Kernel::get(cx).map(|kernel| kernel.tree)
}

fn no_unsafe(cx: &Context) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in source::rust_files(&cx.top, &["drivers", "samples", "rust/virtio"])? {
        let text = fs::read_to_string(&file)?;
        let name = file
            .strip_prefix(&cx.top)
            .unwrap_or(&file)
            .display()
            .to_string();
        wrong.extend(
            source::unsafe_lines(&text)
                .into_iter()
                .map(|line| format!("{name}:{line}: `unsafe` outside rust/vdpa")),
        );
    }
    Ok(wrong)
}

/// Checks the format of the modules with the kernel's settings, and of the tools with cargo's.
fn fmt(cx: &Context) -> Result<Vec<String>> {
    format(cx, true).map(|()| Vec::new())
}

/// Formats everything, or only says what is not formatted.
pub fn format(cx: &Context, check: bool) -> Result<()> {
    let mode: &[&str] = if check { &["--check"] } else { &[] };
    let tree = tree(cx)?;
    let mut rustfmt = Command::new("rustfmt");
    rustfmt
        .args(mode)
        .args(["--edition", "2021", "--config-path"])
        .arg(tree.join(".rustfmt.toml"));
    rustfmt.args(source::rust_files(
        &cx.top,
        &["drivers", "samples", "rust"],
    )?);
    step::run(
        "formatting the modules",
        &cx.cache.log(&format!("fmt-modules-{}", cx.checkout_key())),
        &mut rustfmt,
    )?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["fmt", "--all", "--manifest-path"])
        .arg(cx.top.join("tools/Cargo.toml"))
        .args(mode);
    step::run(
        "formatting the tools",
        &cx.cache.log(&format!("fmt-tools-{}", cx.checkout_key())),
        &mut cargo,
    )?;
    Ok(())
}

fn modules(cx: &Context) -> Result<Vec<String>> {
    module::build(cx, &tree(cx)?).map(|_| Vec::new())
}

fn clippy(cx: &Context) -> Result<Vec<String>> {
    module::clippy(cx, &tree(cx)?).map(|()| Vec::new())
}

fn doc(cx: &Context) -> Result<Vec<String>> {
    module::doc(cx, &tree(cx)?).map(|_| Vec::new())
}

fn make(cx: &Context) -> Result<Vec<String>> {
    module::check_make(cx, &tree(cx)?)
}

fn module_info(cx: &Context) -> Result<Vec<String>> {
    let kernel = Kernel::get(cx)?;
    modinfo::check(cx, &kernel.tree, &kernel.modules)
}

/// Whether the kernel of `make check-debug` still can be had as it is asked for.
fn debug_config(cx: &Context) -> Result<Vec<String>> {
    let dir = cx.cache.path(&format!("config-{}", cx.checkout_key()));
    fs::create_dir_all(&dir)?;
    let refused = debug::configure(cx, &tree(cx)?, &dir)?;
    fs::remove_dir_all(&dir)?;
    Ok(refused
        .into_iter()
        .map(|option| format!("the kernel does not take {option}"))
        .collect())
}
