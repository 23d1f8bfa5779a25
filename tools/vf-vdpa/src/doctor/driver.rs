// SPDX-License-Identifier: GPL-2.0

//! The modules, and what of the host they have to do with.

use super::{Finding, Machine, State};
use crate::function::DRIVER;
use crate::seen::Seen;
use crate::tree::Tree;

pub(super) fn examine(tree: &Tree, machine: &Machine, seen: &Seen) -> Vec<Finding> {
    let mut all = vec![module(tree, machine, seen)];
    all.extend(signature(tree, seen));
    all.push(bus_drivers(seen));
    all.extend(vdpa_autoprobe(tree));
    all.extend(functions(seen));
    all
}

/// Whether modprobe finds the driver.
pub(super) fn is_installed(tree: &Tree, release: &str) -> bool {
    let list = tree.text(&format!("lib/modules/{release}/modules.dep"));
    list.is_some_and(|list| {
        let files = list.lines().filter_map(|line| line.split(':').next());
        let names = files.filter_map(|file| file.rsplit('/').next());
        names
            .into_iter()
            .any(|name| name.split('.').next() == Some(DRIVER))
    })
}

fn module(tree: &Tree, machine: &Machine, seen: &Seen) -> Finding {
    const CHECK: &str = "driver";
    let Machine { release, .. } = machine;
    if seen.drivers.contains(DRIVER) {
        return Finding::ok(CHECK, "vf_vdpa is loaded");
    }
    if is_installed(tree, release) {
        return Finding::ok(CHECK, "vf_vdpa is installed; up and apply load it");
    }
    Finding::new(
        CHECK,
        State::Problem,
        format!("there is no vf_vdpa for {release}"),
    )
    .why("nothing else puts a virtio function on the vDPA bus as this project does")
    .cure("make && make install, in a checkout of vf_vdpa; README.md says what that needs")
}

/// Whether the kernel takes modules without a signature that it knows.
fn signature(tree: &Tree, seen: &Seen) -> Option<Finding> {
    const CHECK: &str = "signature";
    if seen.drivers.contains(DRIVER) {
        return None;
    }
    // The one in brackets is in force: `none [integrity] confidentiality`.
    let lockdown = tree
        .text("sys/kernel/security/lockdown")
        .is_some_and(|text| !text.contains("[none]"));
    let enforced = tree
        .text("sys/module/module/parameters/sig_enforce")
        .as_deref()
        == Some("Y");
    if !lockdown && !enforced {
        return Some(Finding::ok(CHECK, "modules need none"));
    }
    let finding = Finding::new(
        CHECK,
        State::Warning,
        "the kernel takes signed modules only (Secure Boot)",
    );
    Some(
        finding
            .why("without a signature: Key was rejected by service")
            .cure(
                "sign vf_vdpa.ko with a key of your own (kmodsign), and enroll it: mokutil --import \
                 KEY.der, then reboot. DKMS does both with /var/lib/dkms/mok.pub",
            ),
    )
}

fn bus_drivers(seen: &Seen) -> Finding {
    const CHECK: &str = "bus-drivers";
    let loaded: Vec<&str> = ["vhost_vdpa", "virtio_vdpa"]
        .into_iter()
        .filter(|driver| seen.drivers.contains(driver))
        .collect();
    match loaded.as_slice() {
        [] => Finding::ok(CHECK, "none is loaded; up and apply load what they need"),
        [one] => Finding::ok(CHECK, format!("{one} is loaded")),
        _ => Finding::ok(CHECK, "vhost_vdpa and virtio_vdpa are loaded")
            .why("a device of vdpa dev add goes to whichever came first; up and apply choose"),
    }
}

/// Whether the vDPA bus looks for drivers of new devices.
fn vdpa_autoprobe(tree: &Tree) -> Option<Finding> {
    let off = tree.number("sys/bus/vdpa/drivers_autoprobe") == Some(0);
    off.then(|| {
        Finding::new(
            "vdpa-autoprobe",
            State::Warning,
            "the vDPA bus binds no new device by itself",
        )
        .why("a device of vdpa dev add has no consumer; up and apply bind theirs all the same")
        .cure("echo 1 > /sys/bus/vdpa/drivers_autoprobe")
    })
}

fn functions(seen: &Seen) -> Vec<Finding> {
    const CHECK: &str = "functions";
    let mut all = Vec::new();
    for function in &seen.functions {
        let Some(sriov) = function.sriov else {
            continue;
        };
        let address = function.address;
        let what = format!("{address} has {} of {} VFs", sriov.enabled, sriov.total);
        if !sriov.autoprobe {
            all.push(Finding::ok(CHECK, what));
            continue;
        }
        all.push(
            Finding::new(
                CHECK,
                State::Warning,
                format!("{what}, and virtio-pci takes new ones"),
            )
            .why("each has an interface for a moment; apply turns that off before it makes VFs")
            .cure(format!(
                "echo 0 > /sys/bus/pci/devices/{address}/sriov_drivers_autoprobe"
            )),
        );
    }
    let ours = seen.functions.iter().filter(|one| one.is_ours()).count();
    if all.is_empty() && ours == 0 {
        all.push(
            Finding::new(
                CHECK,
                State::Warning,
                "there is no virtio function with VFs",
            )
            .why("a function that is no VF can be used as well")
            .cure("look for it: lspci -d 1af4: ; SR-IOV has to be on in the firmware, too"),
        );
    }
    all
}
