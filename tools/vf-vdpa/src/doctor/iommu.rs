// SPDX-License-Identifier: GPL-2.0

//! What keeps a function from memory that is not its consumer's.

use super::{Finding, Machine, State};
use crate::seen::Seen;
use crate::tree::Tree;

pub(super) fn examine(tree: &Tree, machine: &Machine, seen: &Seen) -> Vec<Finding> {
    let x86 = machine.architecture == "x86_64";
    let mut all = vec![iommu(tree, x86)];
    if x86 {
        all.push(remapping(tree));
    }
    all.extend(groups(seen));
    all
}

/// What turns an IOMMU on.
fn on(x86: bool) -> &'static str {
    match x86 {
        true => {
            "VT-d or AMD-Vi on in the firmware, and on Intel intel_iommu=on on the kernel's command \
             line (/etc/default/grub, update-grub, reboot)"
        }
        false => "the SMMU on in the firmware (IORT or device tree), and CONFIG_ARM_SMMU_V3",
    }
}

fn iommu(tree: &Tree, x86: bool) -> Finding {
    const CHECK: &str = "iommu";
    let groups = tree.names("sys/kernel/iommu_groups").len();
    if groups == 0 {
        return Finding::new(CHECK, State::Problem, "is off: there are no IOMMU groups")
            .why("without it no process can be given a function; containers work (virtio-vdpa)")
            .cure(on(x86));
    }
    Finding::ok(CHECK, format!("is on, with {groups} groups"))
}

/// Whether interrupts are remapped, from how their chip is called: `IR-PCI-MSI`.
fn remapping(tree: &Tree) -> Finding {
    const CHECK: &str = "irq-remapping";
    let interrupts = tree.text("proc/interrupts").unwrap_or_default();
    if interrupts.contains("IR-") {
        return Finding::ok(CHECK, "interrupts are remapped");
    }
    if !interrupts.contains("PCI-MSI") {
        return Finding::new(
            CHECK,
            State::Unknown,
            "no device has a message-signaled interrupt",
        );
    }
    Finding::new(CHECK, State::Problem, "interrupts are not remapped")
        .why("vf_vdpa gives no process a function then: it could raise any interrupt of the host")
        .cure(format!(
            "CONFIG_IRQ_REMAP, no intremap=off, and {}",
            on(true)
        ))
}

/// Functions that share their group with others cannot be given to a process.
fn groups(seen: &Seen) -> Option<Finding> {
    const CHECK: &str = "iommu-groups";
    let candidates = || {
        seen.functions
            .iter()
            .filter(|one| one.vf_of.is_some() || one.is_ours())
    };
    candidates().next()?;
    let shared: Vec<String> = candidates()
        .filter(|one| one.iommu_group_size > 1)
        .map(|one| one.address.to_string())
        .collect();
    if shared.is_empty() {
        return Some(Finding::ok(
            CHECK,
            "each function is alone in its own, or has none",
        ));
    }
    let what = format!("shared with other functions: {}", shared.join(" "));
    Some(
        Finding::new(CHECK, State::Warning, what)
            .why("vhost-vdpa cannot have these; containers can (virtio-vdpa)")
            .cure("another slot: something between them and the IOMMU has no ACS (lspci -vv)"),
    )
}
