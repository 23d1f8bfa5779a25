// SPDX-License-Identifier: GPL-2.0

//! PCI functions that a vDPA device can be made of, and those that have them.

use std::collections::BTreeSet;

use serde::Serialize;
use virtio::device_id::{DeviceId, PCI_VENDOR};

use crate::interface::{VirtioDevice, virtio_devices};
use crate::pci::Address;
use crate::tree::Tree;

/// The driver of this project.
pub const DRIVER: &str = "vf_vdpa";

/// A PCI function, as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// The function that it is a virtual one of, and its number there.
    pub vf_of: Option<VfOf>,
    /// Its virtual functions, if it can have some.
    pub sriov: Option<Sriov>,
    /// Its virtio device type; `None` if it is no virtio function.
    #[serde(serialize_with = "class_name")]
    pub class: Option<DeviceId>,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The only driver that may take it.
    pub driver_override: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<String>,
    /// How many functions are in that group, itself included.
    pub iommu_group_size: usize,
    /// What the kernel's own drivers have made of it; empty if it is this project's driver, where
    /// that belongs to the vDPA device.
    pub virtio: Vec<VirtioDevice>,
}

/// Which virtual function one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VfOf {
    /// The physical function.
    pub pf: Address,
    /// Its number there, from 0.
    pub index: u16,
}

/// What a physical function says of its virtual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sriov {
    /// How many it can have.
    pub total: u16,
    /// How many it has.
    pub enabled: u16,
    /// Whether the kernel looks for a driver for new ones.
    pub autoprobe: bool,
}

fn class_name<S: serde::Serializer>(
    class: &Option<DeviceId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match class {
        Some(class) => serializer.collect_str(class),
        None => serializer.serialize_none(),
    }
}

/// The folder of a PCI function.
pub fn folder(address: Address) -> String {
    format!("sys/bus/pci/devices/{address}")
}

/// The PCI function that the folder or link `path` is, if it is one.
pub fn address_of(tree: &Tree, path: &str) -> Option<Address> {
    tree.link(path)?.parse().ok()
}

/// What `driver_override` holds, in a folder of whatever bus.
pub fn override_of(tree: &Tree, folder: &str) -> Option<String> {
    tree.text(&format!("{folder}/driver_override"))
        .filter(|name| name != "(null)")
}

impl Function {
    /// Reads one function; `None` if there is none at this address.
    pub fn read(tree: &Tree, address: Address) -> Option<Self> {
        let at = folder(address);
        if !tree.exists(&at) {
            return None;
        }
        let group = tree.link(&format!("{at}/iommu_group"));
        let members = format!("{at}/iommu_group/devices");
        let driver = tree.link(&format!("{at}/driver"));
        let virtio = match driver.as_deref() {
            Some(DRIVER) => Vec::new(),
            _ => virtio_devices(tree, &at),
        };
        Some(Self {
            address,
            vf_of: vf_of(tree, address),
            sriov: sriov(tree, &at),
            class: class(tree, &at),
            driver,
            driver_override: override_of(tree, &at),
            iommu_group: group,
            iommu_group_size: tree.names(&members).len(),
            virtio,
        })
    }

    /// Reads those that matter: virtio functions with virtual ones, these, those that belong to
    /// `vf_vdpa` or are promised to it, and those in `others`. With `all`, every virtio function.
    pub fn read_all(tree: &Tree, others: &BTreeSet<Address>, all: bool) -> Vec<Self> {
        let mut found = Vec::new();
        for name in tree.names("sys/bus/pci/devices") {
            let Ok(address) = name.parse() else { continue };
            let at = folder(address);
            let virtio = tree.number(&format!("{at}/vendor")) == Some(u64::from(PCI_VENDOR));
            if !virtio && !others.contains(&address) {
                continue;
            }
            let Some(function) = Self::read(tree, address) else {
                continue;
            };
            let matters = function.sriov.is_some()
                || function.vf_of.is_some()
                || function.is_ours()
                || function.driver_override.as_deref() == Some(DRIVER);
            if all || matters || others.contains(&address) {
                found.push(function);
            }
        }
        found.sort_by_key(|function| match function.vf_of {
            // Virtual functions follow theirs, in the order of their numbers.
            Some(vf) => (vf.pf, 1, vf.index),
            None => (function.address, 0, 0),
        });
        found
    }

    /// Whether this project's driver has it.
    pub fn is_ours(&self) -> bool {
        self.driver.as_deref() == Some(DRIVER)
    }
}

fn sriov(tree: &Tree, at: &str) -> Option<Sriov> {
    let number = |file: &str| tree.number(&format!("{at}/{file}"));
    Some(Sriov {
        total: u16::try_from(number("sriov_totalvfs")?).ok()?,
        enabled: u16::try_from(number("sriov_numvfs")?).ok()?,
        // Kernels without the file always probe.
        autoprobe: number("sriov_drivers_autoprobe") != Some(0),
    })
}

fn class(tree: &Tree, at: &str) -> Option<DeviceId> {
    let id =
        |file: &str| -> Option<u16> { u16::try_from(tree.number(&format!("{at}/{file}"))?).ok() };
    DeviceId::from_pci(id("vendor")?, id("device")?, id("subsystem_device")?)
}

fn vf_of(tree: &Tree, address: Address) -> Option<VfOf> {
    let pf = address_of(tree, &format!("{}/physfn", folder(address)))?;
    let at = folder(pf);
    let index = tree.names(&at).into_iter().find_map(|name| {
        let index = name.strip_prefix("virtfn")?.parse().ok()?;
        let points_here = address_of(tree, &format!("{at}/{name}")) == Some(address);
        points_here.then_some(index)
    })?;
    Some(VfOf { pf, index })
}
