// SPDX-License-Identifier: GPL-2.0

//! What the kernel's own drivers have made of a device: network interfaces and disks.

use serde::Serialize;

use crate::tree::Tree;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// What it is called.
    pub name: String,
    /// Whether somebody has set it up.
    pub up: bool,
}

/// A virtio device of this kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtioDevice {
    /// What it is called: `virtio7`.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Its network interfaces in the name space of whoever looks.
    pub interfaces: Vec<Interface>,
    /// Its disks.
    pub disks: Vec<Disk>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What it is called: `vda`.
    pub name: String,
    /// Where it, or a part of it, is mounted, or what holds it.
    pub holder: Option<String>,
}

impl VirtioDevice {
    /// Who would miss it.
    pub fn user(&self) -> Option<String> {
        if let Some(up) = self.interfaces.iter().find(|interface| interface.up) {
            return Some(format!("the interface {} is up", up.name));
        }
        if self.driver.as_deref() == Some("virtio_net") && self.interfaces.is_empty() {
            return Some("its interface is in another network name space".to_owned());
        }
        self.disks.iter().find_map(|disk| {
            let holder = disk.holder.as_ref()?;
            Some(format!("{holder} holds the disk {}", disk.name))
        })
    }
}

/// The virtio devices whose parent is the folder `at`.
pub fn virtio_devices(tree: &Tree, at: &str) -> Vec<VirtioDevice> {
    let numbered = |name: &String| {
        let number = name.strip_prefix("virtio").unwrap_or_default();
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    };
    let names = tree.names(at).into_iter().filter(numbered);
    let read = |name: String| {
        let at = format!("{at}/{name}");
        VirtioDevice {
            driver: tree.link(&format!("{at}/driver")),
            interfaces: in_folder(tree, &at),
            disks: disks(tree, &at),
            name,
        }
    };
    names.map(read).collect()
}

fn in_folder(tree: &Tree, at: &str) -> Vec<Interface> {
    let names = tree.names(&format!("{at}/net")).into_iter();
    let read = |name: String| {
        let flags = tree.number(&format!("{at}/net/{name}/flags"));
        Interface {
            // IFF_UP is bit 0 (linux/if.h).
            up: flags.is_some_and(|flags| flags & 1 == 1),
            name,
        }
    };
    names.map(read).collect()
}

fn disks(tree: &Tree, at: &str) -> Vec<Disk> {
    let names = tree.names(&format!("{at}/block")).into_iter();
    let read = |name: String| Disk {
        holder: holder(tree, &format!("{at}/block/{name}"), &name),
        name,
    };
    names.map(read).collect()
}

/// Who keeps the disk in the folder `at`, or a partition of it: a mount, or a device on top.
fn holder(tree: &Tree, at: &str, disk: &str) -> Option<String> {
    let partitions = tree
        .names(at)
        .into_iter()
        .filter(|name| name.starts_with(disk))
        .map(|name| format!("{at}/{name}"));
    let mounts = tree.text("proc/self/mountinfo").unwrap_or_default();
    for part in std::iter::once(at.to_owned()).chain(partitions) {
        if let Some(above) = tree.names(&format!("{part}/holders")).first() {
            return Some(above.clone());
        }
        let Some(number) = tree.text(&format!("{part}/dev")) else {
            continue;
        };
        // Fields of mountinfo: ID, parent, major:minor, root, mount point (proc(5)).
        let mounted = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let same = fields.next() == Some(number.as_str());
            same.then(|| fields.nth(1).unwrap_or("/").to_owned())
        });
        if mounted.is_some() {
            return mounted;
        }
    }
    None
}
