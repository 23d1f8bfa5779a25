// SPDX-License-Identifier: GPL-2.0

//! What is written where, on a made-up host whose files do nothing.

use std::fs;

use super::*;
use crate::seen::tests::Host as MadeUp;

fn host() -> MadeUp {
    let host = MadeUp::with_vfs();
    fs::create_dir(host.root().join("run")).unwrap();
    host
}

fn read(host: &MadeUp, path: &str) -> String {
    fs::read_to_string(host.root().join(path)).unwrap()
}

fn pf() -> Address {
    "01:00.0".parse().unwrap()
}

fn vf(index: u16) -> Target {
    Target::Vf { pf: pf(), index }
}

#[test]
fn a_function_is_promised_by_its_present_address() {
    let made_up = host();
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    let promise = |driver: Option<&str>| Step::Promise {
        at: vf(2),
        driver: driver.map(str::to_owned),
        was: None,
    };
    host.perform(&promise(Some(DRIVER))).unwrap();
    let file = "sys/devices/pci0/0000:01:00.3/driver_override";
    assert!(read(&made_up, file).starts_with("vf_vdpa"));
    host.perform(&promise(None)).unwrap();
    assert!(read(&made_up, file).starts_with('\n'));
}

#[test]
fn a_driver_that_does_not_take_a_function_is_an_error() {
    let made_up = host();
    made_up.file("sys/bus/pci/drivers_probe", "");
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    let error = host.perform(&Step::Bind { at: vf(2) }).unwrap_err();
    assert_eq!(error.to_string(), "vf_vdpa does not take it");
    assert_eq!(read(&made_up, "sys/bus/pci/drivers_probe"), "0000:01:00.3");
    made_up.link(
        "sys/devices/pci0/0000:01:00.3/driver",
        "sys/bus/pci/drivers/vfio-pci",
    );
    let error = host.perform(&Step::Bind { at: vf(2) }).unwrap_err();
    assert_eq!(error.to_string(), "vfio-pci has taken it meanwhile");
    let error = host.perform(&Step::Bind { at: vf(7) }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the kernel has made no VF 7 of 0000:01:00.0"
    );
}

#[test]
fn vfs_are_counted_from_nothing() {
    let made_up = host();
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    host.perform(&Step::KeepUnbound { pf: pf() }).unwrap();
    let make = Step::MakeVfs {
        pf: pf(),
        count: 4,
        was: 3,
    };
    host.perform(&make).unwrap();
    // This file keeps what was written over what: "3", then "0", then "4", and its line's end.
    assert_eq!(
        read(&made_up, "sys/devices/pci0/0000:01:00.0/sriov_numvfs"),
        "4\n"
    );
}

#[test]
fn a_device_that_has_its_driver_is_only_told_to_keep_it() {
    let made_up = host();
    made_up.file("sys/bus/vdpa/drivers/vhost_vdpa/bind", "");
    made_up.file("sys/bus/vdpa/drivers/vhost_vdpa/unbind", "");
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    let hand = |bus| Step::Hand {
        device: "g0".parse().unwrap(),
        bus,
        was: None,
    };
    host.perform(&hand(Bus::Vhost)).unwrap();
    assert_eq!(read(&made_up, "sys/bus/vdpa/drivers/vhost_vdpa/bind"), "");
    // The other one is not there, and so nothing is taken from this one.
    let error = host.perform(&hand(Bus::Virtio)).unwrap_err();
    let said = error.to_string();
    assert_eq!(said, "virtio_vdpa is not loaded: modprobe virtio_vdpa");
    assert_eq!(read(&made_up, "sys/bus/vdpa/drivers/vhost_vdpa/unbind"), "");
}

#[test]
fn a_device_that_is_not_taken_is_promised_as_before() {
    let made_up = host();
    made_up.file("sys/bus/vdpa/drivers/vhost_vdpa/unbind", "");
    made_up.file("sys/bus/vdpa/drivers/virtio_vdpa/bind", "");
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    let step = Step::Hand {
        device: "g0".parse().unwrap(),
        bus: Bus::Virtio,
        was: None,
    };
    let said = host.perform(&step).unwrap_err().to_string();
    assert_eq!(said, "virtio_vdpa does not take g0: dmesg says why");
    assert_eq!(
        read(&made_up, "sys/bus/vdpa/drivers/vhost_vdpa/unbind"),
        "g0"
    );
    assert_eq!(
        read(&made_up, "sys/bus/vdpa/drivers/virtio_vdpa/bind"),
        "g0"
    );
    let promised = read(&made_up, "sys/devices/pci0/0000:01:00.2/g0/driver_override");
    assert!(promised.starts_with("vhost_vdpa"), "{promised}");
}

/// The plan has found nobody.
#[test]
fn a_device_that_somebody_has_opened_meanwhile_is_not_deleted() {
    let made_up = host();
    made_up.opener(42, "qemu", "vhost-vdpa-0");
    let tree = made_up.tree();
    let mut host = Host::take(&tree).unwrap();
    let delete = Step::Delete {
        device: "g0".parse().unwrap(),
        waits_for: None,
    };
    let said = host.perform(&delete).unwrap_err().to_string();
    assert!(said.starts_with("qemu (PID 42) has opened it"), "{said}");
}

#[test]
fn only_one_changes_the_host() {
    let made_up = host();
    let tree = made_up.tree();
    let first = Host::take(&tree).unwrap();
    let error = Host::take(&tree).err().unwrap().to_string();
    assert!(error.contains("another vf-vdpa is at work"), "{error}");
    drop(first);
    Host::take(&tree).unwrap();
}

#[test]
fn the_drivers_reason_comes_first() {
    let said = vec![
        "dev add refused: max_vqp 9".to_owned(),
        "enabling".to_owned(),
    ];
    let error = explained(anyhow!("Invalid argument"), said);
    assert_eq!(
        format!("{error:#}"),
        "dev add refused: max_vqp 9: Invalid argument"
    );
}
