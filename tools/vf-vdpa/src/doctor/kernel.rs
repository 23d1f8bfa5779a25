// SPDX-License-Identifier: GPL-2.0

//! The kernel: its configuration, and whether modules can be built for it.

use super::{Finding, Machine, State};
use crate::function::DRIVER;
use crate::seen::Seen;
use crate::tree::Tree;

/// The series whose API the driver is written against.
const SERIES: &str = "7.3.";

pub(super) fn examine(tree: &Tree, machine: &Machine, seen: &Seen) -> Vec<Finding> {
    let mut all = vec![config(machine)];
    let Machine { release, .. } = machine;
    // A module that is there needs neither a certain kernel nor what it is built from.
    let installed = seen.drivers.contains(DRIVER) || super::driver::is_installed(tree, release);
    let series = format!("{release}.");
    if installed || series.starts_with(SERIES) {
        all.push(Finding::ok("kernel-version", format!("this is {release}")));
    } else {
        let wrong = Finding::new(
            "kernel-version",
            State::Warning,
            format!("this is {release}, and the driver is written for 7.3"),
        );
        all.push(
            wrong
                .why("the interfaces of the kernel's Rust code change from one series to the next")
                .cure("boot a 7.3 kernel (Debian 13: apt install -t trixie-backports linux-image-amd64)"),
        );
    }
    all.push(metadata(tree, machine, installed));
    all
}

/// What a configuration says of an option: `y`, `m` or a text.
fn option<'c>(config: &'c str, name: &str) -> Option<&'c str> {
    config.lines().find_map(|line| {
        let rest = line.strip_prefix("CONFIG_")?.strip_prefix(name)?;
        Some(rest.strip_prefix('=')?.trim_matches('"'))
    })
}

/// Options without which nothing works. On one architecture one of several is enough.
fn needed(architecture: &str) -> Vec<&'static [&'static str]> {
    let mut all: Vec<&[&str]> = vec![
        &["MODULES"],
        &["RUST"],
        &["PCI_MSI"],
        &["PCI_IOV"],
        &["VDPA"],
        &["VHOST_VDPA", "VIRTIO_VDPA"],
    ];
    match architecture {
        "x86_64" => {
            all.push(&["INTEL_IOMMU", "AMD_IOMMU"]);
            all.push(&["IRQ_REMAP"]);
        }
        "aarch64" => all.push(&["ARM_SMMU_V3"]),
        _ => all.push(&["IOMMU_API"]),
    }
    all
}

/// Options without which one kind of consumer is missing.
const USEFUL: [(&str, &str); 3] = [
    ("VHOST_VDPA", "no guests"),
    ("VIRTIO_VDPA", "no containers"),
    ("VIRTIO_NET", "no interfaces for containers"),
];

fn config(machine: &Machine) -> Finding {
    const CHECK: &str = "kernel-config";
    let Some(config) = &machine.config else {
        let release = &machine.release;
        return Finding::new(
            CHECK,
            State::Unknown,
            format!("the configuration of {release} is nowhere to be found"),
        )
        .why("looked for in /lib/modules, /boot and /proc/config.gz")
        .cure("install the package of the kernel's headers");
    };
    let on = |name: &str| matches!(option(config, name), Some("y" | "m"));
    let missing: Vec<String> = needed(&machine.architecture)
        .into_iter()
        .filter(|names| !names.iter().any(|name| on(name)))
        .map(|names| format!("CONFIG_{}", names.join(" or CONFIG_")))
        .collect();
    if !missing.is_empty() {
        return Finding::new(
            CHECK,
            State::Problem,
            format!("off: {}", missing.join(", ")),
        )
        .why("the driver cannot be built or used without it")
        .cure("another kernel: .config.fragment of vf_vdpa has the options");
    }
    let without: Vec<String> = USEFUL
        .iter()
        .filter(|(name, _)| !on(name))
        .map(|(name, what)| format!("CONFIG_{name} ({what})"))
        .collect();
    if !without.is_empty() {
        return Finding::new(
            CHECK,
            State::Warning,
            format!("off: {}", without.join(", ")),
        )
        .why("the other kind of consumer works")
        .cure("another kernel, if that is wanted");
    }
    Finding::ok(CHECK, "everything is on that is needed")
}

/// Whether modules in Rust can be built for this kernel. That does not matter to one that has them.
fn metadata(tree: &Tree, machine: &Machine, installed: bool) -> Finding {
    const CHECK: &str = "rust-metadata";
    const WHY: &str = "modules in Rust are built from it; one that is built already needs none";
    let Machine { release, .. } = machine;
    let build = format!("lib/modules/{release}/build");
    // Where vf-vdpa-kernel-metadata puts it.
    let made = format!("usr/lib/vf-vdpa/kernel/{release}");
    let state = match installed {
        true => State::Warning,
        false => State::Problem,
    };
    let files = ["rust/libkernel.rmeta", "include/generated/rustc_cfg"];
    let missing: Vec<&str> = files
        .into_iter()
        .filter(|file| {
            [&build, &made]
                .iter()
                .all(|dir| !tree.exists(&format!("{dir}/{file}")))
        })
        .collect();
    if !missing.is_empty() {
        return Finding::new(
            CHECK,
            state,
            format!("/{build} has no {}", missing.join(", no ")),
        )
        .why(WHY)
        .cure(
            "Ubuntu: apt install linux-lib-rust-$(uname -r); Arch: linux-headers; Debian: \
                 vf-vdpa-kernel-metadata, of the package vf-vdpa-dkms; \
                 or tools/bootstrap build, in a checkout of vf_vdpa",
        );
    }
    let wanted = machine
        .config
        .as_deref()
        .and_then(|config| option(config, "RUSTC_VERSION_TEXT"));
    match (wanted, &machine.rustc) {
        (Some(wanted), Some(rustc)) if wanted == rustc => {
            Finding::ok(CHECK, format!("is there, and so is {wanted}"))
        }
        (Some(wanted), rustc) => {
            let here = rustc.as_deref().unwrap_or("none");
            Finding::new(
                CHECK,
                State::Warning,
                format!("is there for {wanted}, here is {here}"),
            )
            .why("the compiler has to be exactly the kernel's")
            .cure("install that compiler (Debian, Ubuntu: apt install rustc; else rustup)")
        }
        (None, _) => Finding::ok(CHECK, "is there"),
    }
}
