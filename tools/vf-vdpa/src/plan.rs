// SPDX-License-Identifier: GPL-2.0

//! From what is wanted and what is there to the steps between. Nothing here does anything.

use std::collections::BTreeSet;

use serde::Serialize;
use virtio::device_id::DeviceId;

use crate::bus::Bus;
use crate::desired::{Desired, Target, Wanted};
use crate::device::{Device, Use};
use crate::function::{DRIVER, Function};
use crate::pci::Address;
use crate::seen::Seen;
use crate::step::Step;

mod compare;
mod down;
mod function;

pub use down::What;

/// What may be taken away to get what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Nothing that anybody has made
    Keep,
    /// What nobody uses
    ReplaceUnused,
    /// Whatever is in the way, also while it is in use
    Replace,
}

/// The steps to what is wanted, or why there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// With one of these nothing is done.
    pub problems: Vec<Problem>,
}

/// Something that keeps a plan from being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it can be had at all.
    pub kind: Kind,
    /// What is in the way.
    pub what: String,
    /// What to do.
    pub cure: String,
}

/// Whether something can be had at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What is asked for cannot be
    Impossible,
    /// It can be, but only if somebody insists
    Refused,
}

impl Plan {
    /// The way from what is there to what is wanted.
    pub fn new(desired: &Desired, seen: &Seen, policy: Policy) -> Self {
        let mut planner = Planner::new(seen, policy, "--replace");
        for (pf, count) in &desired.pfs {
            planner.vfs(*pf, *count);
        }
        planner.distinct(desired);
        // All that is in the way of any goes before the first is made.
        let cleared: Vec<&Wanted> = desired
            .devices
            .iter()
            .filter(|wanted| planner.clear(wanted))
            .collect();
        for wanted in cleared {
            planner.bring(wanted);
        }
        planner.finish()
    }

    /// Whether it asks for what cannot be.
    pub fn is_impossible(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.kind == Kind::Impossible)
    }
}

/// A plan in the making.
struct Planner<'s> {
    seen: &'s Seen,
    policy: Policy,
    /// The option with which somebody insists.
    insist: &'static str,
    modules: Vec<&'static str>,
    deletions: Vec<Step>,
    creations: Vec<Step>,
    others: Vec<Step>,
    problems: Vec<Problem>,
    /// Devices that are gone when others are made.
    doomed: BTreeSet<&'s str>,
    /// Devices that are in the way and have to stay, which has been said.
    kept: BTreeSet<&'s str>,
    /// Physical functions whose virtual ones are all made anew, and how many there are then.
    renewed: Vec<(Address, u16)>,
}

impl<'s> Planner<'s> {
    fn new(seen: &'s Seen, policy: Policy, insist: &'static str) -> Self {
        Self {
            seen,
            policy,
            insist,
            modules: Vec::new(),
            deletions: Vec::new(),
            creations: Vec::new(),
            others: Vec::new(),
            problems: Vec::new(),
            doomed: BTreeSet::new(),
            kept: BTreeSet::new(),
            renewed: Vec::new(),
        }
    }

    /// All steps: what is in the way goes first, so that names and functions are free.
    fn finish(self) -> Plan {
        if !self.problems.is_empty() {
            // Steps towards something else than what is wanted would only mislead.
            return Plan {
                steps: Vec::new(),
                problems: self.problems,
            };
        }
        let load = |module| Step::Load { module };
        let mut steps: Vec<Step> = self.modules.into_iter().map(load).collect();
        steps.extend(self.deletions);
        steps.extend(self.creations);
        steps.extend(self.others);
        Plan {
            steps,
            problems: Vec::new(),
        }
    }

    fn impossible(&mut self, what: String, cure: impl Into<String>) {
        self.problems.push(Problem {
            kind: Kind::Impossible,
            what,
            cure: cure.into(),
        });
    }

    fn refuse(&mut self, what: String, cure: impl Into<String>) {
        self.problems.push(Problem {
            kind: Kind::Refused,
            what,
            cure: cure.into(),
        });
    }

    /// Has a driver loaded, unless it is there.
    fn need(&mut self, driver: &'static str) {
        if !self.seen.drivers.contains(driver) && !self.modules.contains(&driver) {
            self.modules.push(driver);
        }
    }

    /// Sees whether a function is meant twice: by its number, and by its address.
    fn distinct(&mut self, desired: &Desired) {
        let mut taken = BTreeSet::new();
        for wanted in &desired.devices {
            let Target::Function(address) = wanted.at else {
                let function = self.function(wanted.at);
                taken.extend(function.map(|function| function.address));
                continue;
            };
            let vf = self.seen.function(address).and_then(|one| one.vf_of);
            if let Some(vf) = vf.filter(|vf| self.is_renewed(vf.pf)) {
                self.impossible(
                    format!(
                        "{address} is VF {} of {}, whose VFs are made anew",
                        vf.index, vf.pf
                    ),
                    "write it below that [[pf]], with its index",
                );
            }
        }
        for wanted in &desired.devices {
            if let Target::Function(address) = wanted.at {
                if !taken.insert(address) {
                    self.impossible(
                        format!("{address} is meant twice, by its address and by its index"),
                        "a function carries one device: leave one of them out",
                    );
                }
            }
        }
    }

    /// Gives `pf` that many virtual functions.
    fn vfs(&mut self, pf: Address, count: u16) {
        let Some(function) = self.seen.function(pf) else {
            return self.impossible(
                format!("{pf} is no virtio function with VFs"),
                "vf-vdpa list shows those that there are; is SR-IOV on in the firmware?",
            );
        };
        let Some(sriov) = function.sriov else {
            return self.impossible(
                format!("{pf} cannot have VFs"),
                "write it as a [[function]], if it is to carry a device itself",
            );
        };
        if count > sriov.total {
            return self.impossible(
                format!("{pf} can have {} VFs, not {count}", sriov.total),
                "a smaller number for vfs",
            );
        }
        if count == sriov.enabled {
            return;
        }
        if sriov.autoprobe {
            self.creations.push(Step::KeepUnbound { pf });
        }
        self.creations.push(Step::MakeVfs {
            pf,
            count,
            was: sriov.enabled,
        });
        self.renewed.push((pf, count));
        let vfs: Vec<&'s Function> = self.seen.vfs(pf).collect();
        for vf in vfs {
            self.remove_vf(vf);
        }
    }

    /// Sees whether a virtual function can go, with what is on it.
    fn remove_vf(&mut self, vf: &'s Function) {
        let address = vf.address;
        let why = "the number of VFs can be changed only by removing all of them";
        for device in self.seen.devices_on(address) {
            self.delete(device, why);
        }
        if vf.is_ours() || vf.driver.is_none() || self.policy == Policy::Replace {
            return;
        }
        let driver = vf.driver.as_deref().unwrap_or_default();
        self.refuse(
            format!("{address} belongs to {driver}, and {why}"),
            format!("unbind it from {driver} first, or say {}", self.insist),
        );
    }

    /// Deletes a device if the policy allows it. `why` completes "it has to go: …".
    fn delete(&mut self, device: &'s Device, why: &str) {
        if self.doomed.contains(device.name.as_str()) {
            return;
        }
        let name = &device.name;
        let usage = device.usage();
        let waits_for = match &usage {
            Use::Busy(user) if device.bus() == Some(Bus::Vhost) => Some(user.clone()),
            _ => None,
        };
        match (self.policy, usage) {
            (Policy::Replace, _) | (Policy::ReplaceUnused, Use::Free) => {}
            (Policy::Keep, Use::Free) => {
                self.kept.insert(name);
                return self.refuse(
                    format!("there is the device {name}: {why}"),
                    format!(
                        "say {}, or take it away first: vf-vdpa down {name}",
                        self.insist
                    ),
                );
            }
            (_, Use::Busy(user) | Use::Unknown(user)) => {
                self.kept.insert(name);
                return self.refuse(
                    format!("the device {name} is in use, {user}: {why}"),
                    format!("stop what uses it, or say {}", self.insist),
                );
            }
        }
        match name.parse() {
            Ok(parsed) => {
                self.doomed.insert(name);
                self.deletions.push(Step::Delete {
                    device: parsed,
                    waits_for,
                });
            }
            Err(error) => self.refuse(
                format!("the device {name:?} was not made by this tool: {error:#}"),
                format!("vdpa dev del {name:?}"),
            ),
        }
    }

    /// The function as it is now, unless it will be made anew.
    fn function(&self, at: Target) -> Option<&'s Function> {
        match at {
            Target::Function(address) => self.seen.function(address),
            Target::Vf { pf, index } if !self.is_renewed(pf) => self.seen.vf(pf, index),
            Target::Vf { .. } => None,
        }
    }

    fn is_renewed(&self, pf: Address) -> bool {
        self.renewed.iter().any(|(renewed, _)| *renewed == pf)
    }
}

/// The type of the device that a function carries, also of one that is not there yet: virtual
/// functions of virtio are of the type of theirs.
fn class_at(seen: &Seen, at: Target) -> Option<DeviceId> {
    let function = match at {
        Target::Function(address) => seen.function(address),
        Target::Vf { pf, index } => seen.vf(pf, index).or_else(|| seen.function(pf)),
    };
    function?.class
}

/// The driver that makes something of a virtio device of this type.
fn class_driver(class: DeviceId) -> Option<&'static str> {
    match class {
        DeviceId::NET => Some("virtio_net"),
        DeviceId::BLOCK => Some("virtio_blk"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
