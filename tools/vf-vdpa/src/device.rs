// SPDX-License-Identifier: GPL-2.0

//! vDPA devices, whoever has made them, and who uses them.

use std::fs;

use anyhow::Result;
use virtio::device_id::DeviceId;

use crate::bus::Bus;
use crate::function::override_of;
use crate::interface::{VirtioDevice, virtio_devices};
use crate::message::{self, Config};
use crate::opener::{Opener, Openers};
use crate::pci::Address;
use crate::queue::Queues;
use crate::tree::Tree;

/// A vDPA device, as netlink and sysfs show it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is called.
    pub name: String,
    /// The PCI function that carries it, if it is one.
    pub function: Option<Address>,
    /// Its management device, as netlink says.
    pub parent: Option<String>,
    /// Its type, as netlink says.
    pub class: Option<DeviceId>,
    /// How many virtqueues it has, as netlink says.
    pub max_vqs: u32,
    /// What it shows, if the kernel's core knows its type.
    pub config: Option<Config>,
    /// Its driver on the vDPA bus.
    pub driver: Option<String>,
    /// The only driver that may take it.
    pub driver_override: Option<String>,
    /// Its character device, below `/dev`, if vhost-vdpa has it.
    pub node: Option<String>,
    /// What virtio-vdpa has made of it.
    pub virtio: Vec<VirtioDevice>,
    /// Who has the character device open.
    pub openers: Vec<Opener>,
    /// Whether there can be no others.
    pub openers_complete: bool,
    /// What its virtqueues do.
    pub queues: Queues,
}

/// Whether somebody would miss a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nobody uses it
    Free,
    /// Somebody does: who
    Busy(String),
    /// Somebody may: why it cannot be known
    Unknown(String),
}

impl Device {
    /// Reads all devices that sysfs has. What netlink knows is added with [`Self::learn`].
    pub fn read_all(tree: &Tree) -> Vec<Self> {
        let names = tree.names("sys/bus/vdpa/devices");
        let mut all: Vec<(Self, String)> = names
            .into_iter()
            .map(|name| Self::read(tree, name))
            .collect();
        let parents: Vec<String> = all.iter().map(|(_, parent)| parent.clone()).collect();
        for (device, parent) in &mut all {
            // A virtio device is below the device that does DMA. That may be the parent, and
            // belongs to this device if it has no siblings there.
            let alone = parents.iter().filter(|other| *other == parent).count() == 1;
            if device.virtio.is_empty() && alone && device.driver.as_deref() == Some("virtio_vdpa")
            {
                device.virtio = virtio_devices(tree, parent);
            }
        }
        let nodes: Vec<(String, Option<String>)> = all
            .iter()
            .filter_map(|(device, _)| {
                let node = device.node.clone()?;
                let number = format!("sys/bus/vdpa/devices/{}/{node}/dev", device.name);
                Some((node, tree.text(&number)))
            })
            .collect();
        let openers = Openers::read(tree, &nodes);
        all.into_iter()
            .map(|(mut device, _)| {
                if let Some(node) = &device.node {
                    device.openers = openers.of(node);
                    device.openers_complete = openers.complete;
                }
                device
            })
            .collect()
    }

    /// Reads one device, and the folder of its parent.
    fn read(tree: &Tree, name: String) -> (Self, String) {
        let at = format!("sys/bus/vdpa/devices/{name}");
        let parent = parent_folder(tree, &at);
        let on_pci = tree.link(&format!("{parent}/subsystem")).as_deref() == Some("pci");
        let last = parent.rsplit('/').next().unwrap_or_default();
        let node = tree
            .names(&at)
            .into_iter()
            .find(|entry| entry.starts_with("vhost-vdpa-"));
        let device = Self {
            function: on_pci.then(|| last.parse().ok()).flatten(),
            parent: None,
            class: None,
            max_vqs: 0,
            config: None,
            driver: tree.link(&format!("{at}/driver")),
            driver_override: override_of(tree, &at),
            node,
            virtio: virtio_devices(tree, &at),
            openers: Vec::new(),
            openers_complete: true,
            queues: Queues::Unknown,
            name,
        };
        (device, parent)
    }

    /// Adds what netlink says of it.
    pub fn learn(&mut self, told: &message::Device, config: Option<Config>, queues: Queues) {
        self.parent.clone_from(&told.parent);
        self.class = Some(DeviceId::new(told.class));
        self.max_vqs = told.max_vqs;
        self.config = config;
        self.queues = queues;
    }

    /// The driver on the vDPA bus, if it is one that this tool knows.
    pub fn bus(&self) -> Option<Bus> {
        self.driver.as_deref().and_then(Bus::of_driver)
    }

    /// Whether somebody would miss it.
    pub fn usage(&self) -> Use {
        match self.bus() {
            None => Use::Free,
            Some(Bus::Vhost) => self.usage_by_processes(),
            Some(Bus::Virtio) => self.usage_by_kernel(),
        }
    }

    fn usage_by_processes(&self) -> Use {
        let node = self.node.as_deref().unwrap_or("its character device");
        if !self.openers.is_empty() {
            let words: Vec<String> = self
                .openers
                .iter()
                .map(|opener| format!("{} (PID {})", opener.command, opener.pid))
                .collect();
            return Use::Busy(format!("{} has /dev/{node} open", words.join(", ")));
        }
        // vhost-vdpa resets a device that is closed, and then nothing is negotiated any more.
        if self.negotiated().is_some() {
            return Use::Busy(format!(
                "/dev/{node} is open in a process that cannot be seen from here"
            ));
        }
        if self.openers_complete {
            Use::Free
        } else {
            Use::Unknown("only root sees what other users' processes have open".to_owned())
        }
    }

    fn usage_by_kernel(&self) -> Use {
        let user = self.virtio.iter().find_map(VirtioDevice::user);
        user.map_or(Use::Free, Use::Busy)
    }

    /// The features that its user has taken.
    pub fn negotiated(&self) -> Option<u64> {
        self.config.as_ref().and_then(|config| config.negotiated)
    }

    /// Its type, as far as it is known; names of features depend on it.
    pub fn class_or_none(&self) -> DeviceId {
        self.class.unwrap_or(DeviceId::new(0))
    }
}

/// The folder of the parent of the device whose link is `at`, relative to the root.
fn parent_folder(tree: &Tree, at: &str) -> String {
    let find = || -> Result<String> {
        let device = fs::canonicalize(tree.path(at))?;
        let root = fs::canonicalize(tree.path(""))?;
        let inside = device.strip_prefix(root)?;
        let parent = inside.parent().unwrap_or(inside);
        Ok(parent.to_string_lossy().into_owned())
    };
    find().unwrap_or_default()
}
