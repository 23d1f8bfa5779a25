// SPDX-License-Identifier: GPL-2.0

//! A made-up host, and what is read from it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use virtio::device_id::DeviceId;

use super::*;
use crate::bus::Bus;
use crate::device::Use;

/// A folder that looks like the root of a host.
pub struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    /// A host with nothing in it.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The tree to read it with.
    pub fn tree(&self) -> Tree {
        Tree::new(self.root())
    }

    /// Makes a file.
    pub fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a link, to a path below the root unless it begins with a slash.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.root().join(target), path).unwrap();
    }

    /// A virtio-net function on the first bus, `driver` being what it is bound to.
    pub fn function(&self, name: &str, driver: Option<&str>) {
        let at = format!("sys/devices/pci0/{name}");
        self.file(&format!("{at}/vendor"), "0x1af4\n");
        self.file(&format!("{at}/device"), "0x1041\n");
        self.file(&format!("{at}/subsystem_device"), "0x1100\n");
        self.file(&format!("{at}/driver_override"), "(null)\n");
        self.link(&format!("{at}/subsystem"), "sys/bus/pci");
        self.link(&format!("sys/bus/pci/devices/{name}"), &at);
        let group = format!("sys/kernel/iommu_groups/{}", name.replace([':', '.'], ""));
        self.link(&format!("{group}/devices/{name}"), &at);
        self.link(&format!("{at}/iommu_group"), &group);
        if let Some(driver) = driver {
            self.link(
                &format!("{at}/driver"),
                &format!("sys/bus/pci/drivers/{driver}"),
            );
        }
    }

    /// Function 01:00.0 with three virtual ones; the first two have vDPA devices.
    pub fn with_vfs() -> Self {
        let host = Self::new();
        host.function("0000:01:00.0", Some("virtio-pci"));
        let pf = "sys/devices/pci0/0000:01:00.0";
        host.file(&format!("{pf}/sriov_totalvfs"), "8\n");
        host.file(&format!("{pf}/sriov_numvfs"), "3\n");
        host.file(&format!("{pf}/sriov_drivers_autoprobe"), "0\n");
        host.file(&format!("{pf}/virtio0/net/eth0/flags"), "0x1003\n");
        for (index, driver) in [(0, Some(DRIVER)), (1, Some(DRIVER)), (2, None)] {
            let name = format!("0000:01:00.{}", index + 1);
            host.function(&name, driver);
            let at = format!("sys/devices/pci0/{name}");
            host.link(&format!("{at}/physfn"), pf);
            host.link(&format!("{pf}/virtfn{index}"), &at);
        }
        host.device("0000:01:00.1", "c0", "virtio_vdpa");
        host.file(
            "sys/devices/pci0/0000:01:00.1/virtio7/net/eth2/flags",
            "0x1002\n",
        );
        host.link(
            "sys/devices/pci0/0000:01:00.1/virtio7/driver",
            "sys/bus/virtio/drivers/virtio_net",
        );
        host.device("0000:01:00.2", "g0", "vhost_vdpa");
        host.file(
            "sys/devices/pci0/0000:01:00.2/g0/vhost-vdpa-0/dev",
            "243:0\n",
        );
        host
    }

    /// A vDPA device of a function.
    pub fn device(&self, function: &str, name: &str, driver: &str) {
        let at = format!("sys/devices/pci0/{function}/{name}");
        self.file(&format!("{at}/driver_override"), &format!("{driver}\n"));
        self.link(
            &format!("{at}/driver"),
            &format!("sys/bus/vdpa/drivers/{driver}"),
        );
        self.link(&format!("sys/bus/vdpa/devices/{name}"), &at);
    }

    /// A process that has `/dev/` + `node` open.
    pub fn opener(&self, pid: u32, command: &str, node: &str) {
        self.file(&format!("proc/{pid}/comm"), command);
        self.link(&format!("proc/{pid}/fd/7"), &format!("/dev/{node}"));
    }

    /// What is seen of it, but for netlink, which is this machine's own.
    pub fn seen(&self) -> Seen {
        let tree = self.tree();
        let devices = Device::read_all(&tree);
        let carriers = devices
            .iter()
            .filter_map(|device| device.function)
            .collect();
        Seen {
            functions: Function::read_all(&tree, &carriers, false),
            devices,
            drivers: loaded(&tree),
            ..Seen::default()
        }
    }
}

#[test]
fn functions_are_read() {
    let seen = Host::with_vfs().seen();
    let addresses: Vec<String> = seen
        .functions
        .iter()
        .map(|function| function.address.to_string())
        .collect();
    let expected = [
        "0000:01:00.0",
        "0000:01:00.1",
        "0000:01:00.2",
        "0000:01:00.3",
    ];
    assert_eq!(addresses, expected);
    let pf = &seen.functions[0];
    let sriov = pf.sriov.unwrap();
    assert_eq!((sriov.total, sriov.enabled, sriov.autoprobe), (8, 3, false));
    assert_eq!(pf.virtio[0].interfaces[0].name, "eth0");
    assert!(pf.virtio[0].interfaces[0].up);
    assert_eq!(pf.class, Some(DeviceId::NET));
    let vf = seen.vf(pf.address, 1).unwrap();
    assert!(vf.is_ours());
    assert_eq!(vf.driver_override, None);
    assert_eq!(vf.iommu_group.as_deref(), Some("000001002"));
    assert_eq!(vf.iommu_group_size, 1);
    assert_eq!(seen.vfs(pf.address).count(), 3);
    assert_eq!(seen.function("02:00.0".parse().unwrap()), None);
}

#[test]
fn devices_and_who_has_them_are_read() {
    let host = Host::with_vfs();
    let seen = host.seen();
    let c0 = seen.device("c0").unwrap();
    assert_eq!(c0.function, Some("01:00.1".parse().unwrap()));
    assert_eq!(c0.bus(), Some(Bus::Virtio));
    assert_eq!(c0.virtio[0].interfaces[0].name, "eth2");
    assert_eq!(c0.usage(), Use::Free);
    let g0 = seen.device("g0").unwrap();
    assert_eq!(g0.node.as_deref(), Some("vhost-vdpa-0"));
    assert_eq!(g0.usage(), Use::Free);
    assert_eq!(seen.devices_on("01:00.2".parse().unwrap()).count(), 1);

    host.opener(41, "cat", "null");
    host.opener(42, "qemu", "vhost-vdpa-0");
    let seen = host.seen();
    let usage = seen.device("g0").unwrap().usage();
    let busy = "qemu (PID 42) has /dev/vhost-vdpa-0 open";
    assert_eq!(usage, Use::Busy(busy.to_owned()));
}

#[test]
fn an_interface_that_is_up_or_away_is_in_use() {
    let host = Host::with_vfs();
    let flags = "sys/devices/pci0/0000:01:00.1/virtio7/net/eth2/flags";
    host.file(flags, "0x1003\n");
    let usage = |host: &Host| host.seen().device("c0").unwrap().usage();
    assert_eq!(
        usage(&host),
        Use::Busy("the interface eth2 is up".to_owned())
    );
    fs::remove_dir_all(
        host.root()
            .join("sys/devices/pci0/0000:01:00.1/virtio7/net"),
    )
    .unwrap();
    let away = "its interface is in another network name space";
    assert_eq!(usage(&host), Use::Busy(away.to_owned()));
}

#[test]
fn a_disk_that_is_mounted_is_in_use() {
    let host = Host::with_vfs();
    fs::remove_dir_all(host.root().join("sys/devices/pci0/0000:01:00.1/virtio7")).unwrap();
    host.file(
        "sys/devices/pci0/0000:01:00.1/virtio7/block/vdb/dev",
        "254:16\n",
    );
    host.file(
        "sys/devices/pci0/0000:01:00.1/virtio7/block/vdb/vdb1/dev",
        "254:17\n",
    );
    let usage = |host: &Host| host.seen().device("c0").unwrap().usage();
    assert_eq!(usage(&host), Use::Free);
    host.file(
        "proc/self/mountinfo",
        "36 35 254:17 / /srv rw - ext4 /dev/vdb1 rw\n",
    );
    assert_eq!(
        usage(&host),
        Use::Busy("/srv holds the disk vdb".to_owned())
    );
}

#[test]
fn a_user_that_cannot_be_seen_is_one() {
    let host = Host::with_vfs();
    let mut seen = host.seen();
    let g0 = seen
        .devices
        .iter_mut()
        .find(|device| device.name == "g0")
        .unwrap();
    g0.openers_complete = false;
    assert!(matches!(g0.usage(), Use::Unknown(_)));
    let config = crate::message::Config {
        negotiated: Some(1),
        ..Default::default()
    };
    g0.config = Some(config);
    assert!(matches!(g0.usage(), Use::Busy(_)));
}

#[test]
fn a_host_without_anything_is_empty() {
    assert_eq!(Host::new().seen(), Seen::default());
}
