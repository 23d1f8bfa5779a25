// SPDX-License-Identifier: GPL-2.0

//! Everything that there is: what plans and lists are made from.

use std::collections::BTreeSet;

use anyhow::Result;
use nix::errno::Errno;

use crate::device::Device;
use crate::function::{DRIVER, Function};
use crate::message::Parent;
use crate::netlink::{self, Socket};
use crate::pci::Address;
use crate::queue::Queues;
use crate::tree::Tree;

/// What was seen of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// PCI functions, each followed by its virtual ones.
    pub functions: Vec<Function>,
    /// vDPA devices.
    pub devices: Vec<Device>,
    /// Management devices.
    pub parents: Vec<Parent>,
    /// Drivers that are loaded, of those that this tool loads.
    pub drivers: BTreeSet<&'static str>,
    /// What could not be seen, and why, for people.
    pub unseen: Vec<String>,
}

/// What somebody wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Virtio functions that have nothing to do with vDPA, too.
    pub all: bool,
    /// The mode of each virtqueue, which takes a request for each.
    pub queues: bool,
}

impl Seen {
    /// Looks at the host.
    pub fn read(tree: &Tree, interest: Interest) -> Result<Self> {
        let mut unseen = Vec::new();
        let mut devices = Device::read_all(tree);
        let mut parents = Vec::new();
        match Socket::connect()? {
            Some(socket) => {
                parents = socket.parents()?;
                learn(&socket, &mut devices, interest.queues)?;
            }
            None => unseen.extend(why_no_family(tree)),
        }
        let carriers: BTreeSet<Address> = devices
            .iter()
            .filter_map(|device| device.function)
            .collect();
        let functions = Function::read_all(tree, &carriers, interest.all);
        if devices
            .iter()
            .any(|device| device.queues == Queues::Forbidden)
        {
            unseen.push("what the virtqueues do: only root is told (CAP_NET_ADMIN)".to_owned());
        }
        if devices.iter().any(|device| !device.openers_complete) {
            unseen.push("who has a device open: only root sees other users' processes".to_owned());
        }
        Ok(Self {
            functions,
            devices,
            parents,
            drivers: loaded(tree),
            unseen,
        })
    }

    /// The function at this address.
    pub fn function(&self, address: Address) -> Option<&Function> {
        self.functions
            .iter()
            .find(|function| function.address == address)
    }

    /// The virtual function number `index` of `pf`.
    pub fn vf(&self, pf: Address, index: u16) -> Option<&Function> {
        self.functions.iter().find(|function| {
            function
                .vf_of
                .is_some_and(|vf| vf.pf == pf && vf.index == index)
        })
    }

    /// The virtual functions of `pf`.
    pub fn vfs(&self, pf: Address) -> impl Iterator<Item = &Function> {
        self.functions
            .iter()
            .filter(move |function| function.vf_of.is_some_and(|vf| vf.pf == pf))
    }

    /// The device with this name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// The devices that a function carries.
    pub fn devices_on(&self, address: Address) -> impl Iterator<Item = &Device> {
        self.devices
            .iter()
            .filter(move |device| device.function == Some(address))
    }
}

/// Adds what netlink knows to what sysfs has shown.
fn learn(socket: &Socket, devices: &mut [Device], queues: bool) -> Result<()> {
    for told in socket.devices()? {
        let Some(device) = devices.iter_mut().find(|device| device.name == told.name) else {
            // It has come since sysfs was read.
            continue;
        };
        // The core knows the configuration of two types only, and a device may go at any moment.
        let config = match socket.config(&told.name) {
            Ok(config) => Some(config),
            Err(error) if netlink::errno(&error).is_some() => None,
            // What cannot be read is not taken for what is not there.
            Err(error) => return Err(error),
        };
        let state = if queues {
            Queues::read(told.max_vqs, |index| {
                socket
                    .queue(&told.name, index)
                    .map_err(|error| netlink::errno(&error).unwrap_or(Errno::EIO))
            })
        } else {
            Queues::Unknown
        };
        device.learn(&told, config, state);
    }
    Ok(())
}

/// Drivers that this tool needs, with their buses.
const NEEDED: [(&str, &str); 5] = [
    ("pci", DRIVER),
    ("vdpa", "vhost_vdpa"),
    ("vdpa", "virtio_vdpa"),
    ("virtio", "virtio_net"),
    ("virtio", "virtio_blk"),
];

/// Those of them that are there. A module that is built in has no folder below `/sys/module`, but
/// its driver is on its bus.
fn loaded(tree: &Tree) -> BTreeSet<&'static str> {
    NEEDED
        .into_iter()
        .filter(|(bus, driver)| tree.exists(&format!("sys/bus/{bus}/drivers/{driver}")))
        .map(|(_, driver)| driver)
        .collect()
}

/// What it means that the family is not there, if it should be.
fn why_no_family(tree: &Tree) -> Option<String> {
    tree.exists("sys/bus/vdpa").then(|| {
        "what netlink knows (types, addresses, features): the kernel answers in the initial network \
         name space only; in a container: nsenter --net=/proc/1/ns/net vf-vdpa list"
            .to_owned()
    })
}

#[cfg(test)]
pub mod tests;
