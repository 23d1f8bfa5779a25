// SPDX-License-Identifier: GPL-2.0

//! What somebody wants: devices, each on a function, and how many virtual functions there are.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::bus::Bus;
use crate::feature::Wish;
use crate::mac::Mac;
use crate::name::Name;
use crate::pci::Address;

/// Everything that is wanted. What is not mentioned is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Physical functions, each with the number of virtual ones that it shall have.
    pub pfs: Vec<(Address, u16)>,
    /// Devices.
    pub devices: Vec<Wanted>,
}

/// A device that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The function that carries it.
    pub at: Target,
    /// What it is called.
    pub name: Name,
    /// Who takes it.
    pub bus: Bus,
    /// Its address, if it matters.
    pub mac: Option<Mac>,
    /// Its MTU, if it matters.
    pub mtu: Option<u16>,
    /// Its queue pairs, if that matters.
    pub max_vqp: Option<u16>,
    /// Its features, if they matter.
    pub features: Option<Wish>,
}

/// A function, which may not be there yet: where a virtual function will be is known only when it
/// has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// By its address
    Function(Address),
    /// By its number
    Vf {
        /// The physical function
        pf: Address,
        /// From 0
        index: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(address) => write!(f, "{address}"),
            Self::Vf { pf, index } => write!(f, "VF {index} of {pf}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Least MTU that the kernel takes (its netlink policy).
pub const LEAST_MTU: u16 = virtio::net::MIN_MTU;

impl Desired {
    /// What contradicts itself, whatever the host looks like.
    pub fn contradictions(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut pfs = BTreeSet::new();
        for (pf, _) in &self.pfs {
            if !pfs.insert(pf) {
                all.push(format!(
                    "{pf} is there twice: write its VFs below one [[pf]]"
                ));
            }
        }
        let mut targets = BTreeSet::new();
        let mut names = BTreeSet::new();
        for wanted in &self.devices {
            if !targets.insert(wanted.at) {
                let at = wanted.at;
                all.push(format!(
                    "{at} is there twice: a function carries one device"
                ));
            }
            if !names.insert(&wanted.name) {
                let name = &wanted.name;
                all.push(format!(
                    "the name {name} is there twice: choose another for one"
                ));
            }
            if wanted.mtu.is_some_and(|mtu| mtu < LEAST_MTU) {
                all.push(format!("{}: an mtu is at least {LEAST_MTU}", wanted.name));
            }
            let pairs = 1..=virtio::net::MAX_PAIRS;
            if wanted.max_vqp.is_some_and(|count| !pairs.contains(&count)) {
                let most = virtio::net::MAX_PAIRS;
                all.push(format!("{}: max_vqp is between 1 and {most}", wanted.name));
            }
        }
        all
    }
}
