// SPDX-License-Identifier: GPL-2.0

//! Made-up hosts, healthy and otherwise.

use super::machine::Limit;
use super::*;
use crate::seen::tests::Host;

const CONFIG: &str = "\
CONFIG_MODULES=y
CONFIG_RUST=y
CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.85.1 (x)\"
CONFIG_PCI_MSI=y
CONFIG_PCI_IOV=y
CONFIG_VDPA=m
CONFIG_VHOST_VDPA=m
CONFIG_VIRTIO_VDPA=m
CONFIG_VIRTIO_NET=m
CONFIG_AMD_IOMMU=y
# CONFIG_INTEL_IOMMU is not set
CONFIG_IRQ_REMAP=y
";

fn machine() -> Machine {
    Machine {
        release: "7.3.4-test".to_owned(),
        architecture: "x86_64".to_owned(),
        memlock: Limit::Infinite,
        unit: None,
        rustc: Some("rustc 1.85.1 (x)".to_owned()),
        config: Some(CONFIG.to_owned()),
    }
}

fn healthy() -> Host {
    let host = Host::with_vfs();
    let build = "lib/modules/7.3.4-test/build";
    host.file(&format!("{build}/rust/libkernel.rmeta"), "");
    host.file(&format!("{build}/include/generated/rustc_cfg"), "");
    host.file(
        "lib/modules/7.3.4-test/modules.dep",
        "updates/dkms/vf_vdpa.ko.xz: kernel/drivers/vdpa/vdpa.ko\n",
    );
    host.file(
        "proc/interrupts",
        " 46: 0 IR-PCI-MSIX-0000:01:00.1 0-edge x\n",
    );
    host.file(
        "sys/module/vhost_vdpa/parameters/max_iotlb_entries",
        "65536\n",
    );
    host.file(
        "sys/kernel/security/lockdown",
        "[none] integrity confidentiality\n",
    );
    host
}

fn examined(host: &Host, machine: &Machine) -> Vec<Finding> {
    all(&host.tree(), machine, &host.seen())
}

/// What is not as it has to be: the check, how it is, and its cure.
fn complaints(host: &Host, machine: &Machine) -> Vec<(&'static str, State, String)> {
    let bad = |finding: &Finding| finding.state != State::Ok;
    let all = examined(host, machine).into_iter().filter(bad);
    all.map(|one| (one.check, one.state, one.cure.unwrap_or_default()))
        .collect()
}

/// The one complaint there is.
fn complaint(host: &Host, machine: &Machine) -> (&'static str, State, String) {
    let mut all = complaints(host, machine);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_healthy_host_has_nothing_to_complain_of() {
    let findings = examined(&healthy(), &machine());
    assert!(is_healthy(&findings), "{findings:?}");
    assert!(
        findings.iter().all(|one| one.state == State::Ok),
        "{findings:?}"
    );
    assert!(findings.iter().all(|one| one.cure.is_none()));
}

#[test]
fn what_a_kernel_lacks_is_named() {
    let without = |name: &str| {
        let mut machine = machine();
        machine.config = Some(CONFIG.replace(name, "# "));
        machine
    };
    let host = healthy();
    let (check, state, _) = complaint(&host, &without("CONFIG_PCI_IOV"));
    assert_eq!((check, state), ("kernel-config", State::Problem));
    let findings = examined(&host, &without("CONFIG_AMD_IOMMU"));
    let expected = "off: CONFIG_INTEL_IOMMU or CONFIG_AMD_IOMMU";
    assert_eq!(findings[0].what, expected);
    let (_, state, _) = complaint(&host, &without("CONFIG_VIRTIO_VDPA"));
    assert_eq!(state, State::Warning);
    let mut nowhere = machine();
    nowhere.config = None;
    assert_eq!(complaint(&host, &nowhere).1, State::Unknown);
}

#[test]
fn metadata_matters_until_there_is_a_module() {
    let host = Host::with_vfs();
    let all = complaints(&host, &machine());
    let find = |check| all.iter().find(|(known, ..)| *known == check).unwrap();
    assert_eq!(find("driver").1, State::Problem);
    let metadata = find("rust-metadata");
    assert_eq!(metadata.1, State::Problem);
    assert!(metadata.2.contains("tools/bootstrap build"));
    // A tree that was made for it will do.
    for file in ["rust/libkernel.rmeta", "include/generated/rustc_cfg"] {
        let release = machine().release;
        host.file(&format!("usr/lib/vf-vdpa/kernel/{release}/{file}"), "");
    }
    let all = complaints(&host, &machine());
    assert!(!all.iter().any(|(known, ..)| *known == "rust-metadata"));
    // A module that was inserted by hand is there as well.
    host.file("sys/bus/pci/drivers/vf_vdpa/new_id", "");
    let all = complaints(&host, &machine());
    let states: Vec<_> = all.iter().map(|(_, state, _)| *state).collect();
    assert!(!states.contains(&State::Problem), "{all:?}");
    let mut other = machine();
    other.rustc = Some("rustc 1.95.0 (y)".to_owned());
    let (check, state, _) = complaint(&healthy(), &other);
    assert_eq!((check, state), ("rust-metadata", State::Warning));
    other.release = "6.12.1".to_owned();
    let checks: Vec<_> = complaints(&healthy(), &other)
        .into_iter()
        .map(|one| one.0)
        .collect();
    assert!(checks.contains(&"kernel-version"), "{checks:?}");
}

#[test]
fn a_host_without_isolation_is_told_how_to_get_it() {
    let host = healthy();
    host.file("proc/interrupts", " 46: 0 PCI-MSIX-0000:01:00.1 0-edge x\n");
    let (check, state, cure) = complaint(&host, &machine());
    assert_eq!((check, state), ("irq-remapping", State::Problem));
    assert!(cure.contains("intel_iommu=on"));

    let host = healthy();
    std::fs::remove_dir_all(host.root().join("sys/kernel/iommu_groups")).unwrap();
    assert_eq!(complaint(&host, &machine()).0, "iommu");

    let host = healthy();
    host.link(
        "sys/kernel/iommu_groups/000001003/devices/0000:05:00.0",
        "sys/devices/pci0/0000:01:00.0",
    );
    let (check, state, _) = complaint(&host, &machine());
    assert_eq!((check, state), ("iommu-groups", State::Warning));
}

#[test]
fn limits_are_told_with_their_cures() {
    let host = healthy();
    let mut small = machine();
    small.memlock = Limit::Bytes(8 << 20);
    assert!(complaint(&host, &small).2.contains("ulimit -l unlimited"));
    let mut unit = machine();
    unit.unit = Some(("libvirtd.service".to_owned(), Some(Limit::Bytes(64 << 20))));
    let (_, _, cure) = complaint(&host, &unit);
    assert!(
        cure.starts_with("systemctl edit libvirtd.service"),
        "{cure}"
    );
    unit.unit = Some(("oops.service".to_owned(), None));
    assert_eq!(complaint(&host, &unit).1, State::Unknown);

    host.file(
        "sys/module/vhost_vdpa/parameters/max_iotlb_entries",
        "2048\n",
    );
    let (check, _, cure) = complaint(&host, &machine());
    assert_eq!(check, "iotlb-entries");
    assert!(
        cure.contains("options vhost_vdpa max_iotlb_entries=65536"),
        "{cure}"
    );
}

#[test]
fn secure_boot_and_autoprobe_are_noticed() {
    let host = healthy();
    host.file(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    assert_eq!(complaint(&host, &machine()).0, "signature");
    let host = healthy();
    host.file(
        "sys/devices/pci0/0000:01:00.0/sriov_drivers_autoprobe",
        "1\n",
    );
    let (check, _, cure) = complaint(&host, &machine());
    assert_eq!(check, "functions");
    assert!(cure.contains("0000:01:00.0/sriov_drivers_autoprobe"));
    host.file(
        "sys/devices/pci0/0000:01:00.0/sriov_drivers_autoprobe",
        "0\n",
    );
    host.file("sys/bus/vdpa/drivers_autoprobe", "0\n");
    assert_eq!(complaint(&host, &machine()).0, "vdpa-autoprobe");
}

#[test]
fn programs_get_names_that_stay() {
    let mut small = machine();
    small.memlock = Limit::Bytes(8 << 20);
    let findings = examined(&healthy(), &small);
    let last = serde_json::to_value(findings.last().unwrap()).unwrap();
    assert_eq!(last["check"], "memlock");
    assert_eq!(last["state"], "warning");
    assert!(last["what"].as_str().unwrap().contains("8 MiB"));
    assert!(last["why"].is_string() && last["cure"].is_string());
}
