// SPDX-License-Identifier: GPL-2.0

//! How much memory a guest can have.

use super::machine::Limit;
use super::{Finding, Machine, State};
use crate::tree::Tree;

/// Entries that a guest of some gigabytes in small pages needs at most.
const ENTRIES: u64 = 65_536;

pub(super) fn examine(tree: &Tree, machine: &Machine) -> Vec<Finding> {
    let mut all = vec![entries(tree)];
    let this = memlock(
        "this shell".to_owned(),
        machine.memlock,
        "ulimit -l unlimited (bash), or \
        memlock in /etc/security/limits.conf",
    );
    all.push(this);
    if let Some((unit, limit)) = &machine.unit {
        all.push(match limit {
            Some(limit) => {
                let cure = format!("systemctl edit {unit}: [Service] LimitMEMLOCK=infinity");
                memlock(unit.clone(), *limit, &cure)
            }
            None => Finding::new(
                "memlock",
                State::Unknown,
                format!("systemd knows no {unit}"),
            ),
        });
    }
    all
}

fn entries(tree: &Tree) -> Finding {
    const CHECK: &str = "iotlb-entries";
    // In 7.3 it is the parameter of vhost_vdpa, in others that of vhost.
    let found = ["vhost_vdpa", "vhost"].into_iter().find_map(|module| {
        let file = format!("sys/module/{module}/parameters/max_iotlb_entries");
        Some((module, tree.number(&file)?))
    });
    match found {
        None => Finding::new(CHECK, State::Unknown, "vhost_vdpa is not loaded")
            .why("its max_iotlb_entries says in how many pieces a guest's memory may lie")
            .cure("modprobe vhost_vdpa"),
        Some((module, entries)) if entries < ENTRIES => Finding::new(
            CHECK,
            State::Warning,
            format!("{module} takes {entries} pieces of memory"),
        )
        .why("a guest whose memory lies in more does not start: No space left on device")
        .cure(format!(
            "huge pages for guests, or: echo options {module} max_iotlb_entries={ENTRIES} > \
                     /etc/modprobe.d/vf-vdpa.conf, and load {module} anew"
        )),
        Some((module, entries)) => {
            Finding::ok(CHECK, format!("{module} takes {entries} pieces of memory"))
        }
    }
}

fn memlock(who: String, limit: Limit, cure: &str) -> Finding {
    const CHECK: &str = "memlock";
    match limit {
        Limit::Infinite => Finding::ok(CHECK, format!("{who} may have any amount pinned")),
        Limit::Bytes(bytes) => {
            let mebibytes = bytes / (1024 * 1024);
            Finding::new(
                CHECK,
                State::Warning,
                format!("{who} may have {mebibytes} MiB pinned"),
            )
            .why(
                "a guest's memory is pinned, once for each of its devices; libvirt raises the \
                     limit of its guests itself",
            )
            .cure(cure)
        }
    }
}
