// SPDX-License-Identifier: GPL-2.0

//! What of a machine is not in its files.

use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use crate::tree::Tree;

/// A limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// That many
    Bytes(u64),
    /// None
    Infinite,
}

/// What of a machine is not in its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub architecture: String,
    /// How much memory this process may have pinned.
    pub memlock: Limit,
    /// The same of a unit that was asked for, and its name; `None` if systemd does not tell.
    pub unit: Option<(String, Option<Limit>)>,
    /// The first line of `rustc --version`, if there is a compiler.
    pub rustc: Option<String>,
    /// The kernel's configuration.
    pub config: Option<String>,
}

impl Machine {
    /// Looks at this machine.
    pub fn read(tree: &Tree, unit: Option<&str>) -> Result<Self> {
        let uname = nix::sys::utsname::uname().context("uname")?;
        let release = uname.release().to_string_lossy().into_owned();
        let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).context("reading RLIMIT_MEMLOCK")?;
        let memlock = match soft {
            RLIM_INFINITY => Limit::Infinite,
            bytes => Limit::Bytes(bytes),
        };
        Ok(Self {
            config: config(tree, &release),
            architecture: uname.machine().to_string_lossy().into_owned(),
            memlock,
            unit: unit.map(|unit| (unit.to_owned(), limit_of(unit))),
            rustc: output("rustc", &["--version"]),
            release,
        })
    }
}

/// The kernel's configuration, from wherever its distribution has put it.
fn config(tree: &Tree, release: &str) -> Option<String> {
    let places = [
        format!("lib/modules/{release}/config"),
        format!("boot/config-{release}"),
        format!("lib/modules/{release}/build/.config"),
    ];
    let found = places.iter().find_map(|place| tree.text(place));
    found.or_else(|| {
        let file = tree.path("proc/config.gz");
        let there = file.exists();
        there.then(|| output("gzip", &["-dc", &file.to_string_lossy()]))?
    })
}

/// How much memory a unit's processes may have pinned.
fn limit_of(unit: &str) -> Option<Limit> {
    let said = output(
        "systemctl",
        &["show", "--property=LimitMEMLOCK", "--value", "--", unit],
    )?;
    match said.trim() {
        "infinity" => Some(Limit::Infinite),
        bytes => bytes.parse().ok().map(Limit::Bytes),
    }
}

/// What a program prints, if it is there and succeeds.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
