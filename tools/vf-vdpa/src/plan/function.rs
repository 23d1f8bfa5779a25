// SPDX-License-Identifier: GPL-2.0

//! The steps of one device: away with what is in its way, and then to itself.

use super::*;
use crate::feature::Set;
use crate::step::Addition;

use super::compare::Difference;

impl<'s> Planner<'s> {
    /// Deletes what is in the way of a device: others on its function, and itself if it differs.
    /// Whether nothing of that has to stay.
    pub(super) fn clear(&mut self, wanted: &Wanted) -> bool {
        let before = self.problems.len();
        let Some(function) = self.function(wanted.at) else {
            return true;
        };
        let on_it: Vec<&'s Device> = self.seen.devices_on(function.address).collect();
        if !function.is_ours() {
            // A function that another vDPA driver has.
            if let Some(device) = on_it.first() {
                let driver = function.driver.as_deref().unwrap_or("another driver");
                self.refuse(
                    format!("{} of {} belongs to {driver}", device.name, wanted.at),
                    format!("vdpa dev del {}, and unbind {driver}", device.name),
                );
            }
            return self.problems.len() == before;
        }
        let features = self.features(wanted).ok().flatten().map(Set::bits);
        for device in on_it {
            if device.name != wanted.name.as_str() {
                let why = format!("{} carries one device, {}", wanted.at, wanted.name);
                self.delete(device, &why);
                continue;
            }
            let difference = Difference::between(device, wanted, features);
            let why = if !difference.fixed.is_empty() {
                difference.fixed.join(", ")
            } else if difference.mac && !can_set_mac(device, wanted) {
                "its address is another".to_owned()
            } else {
                continue;
            };
            self.delete(device, &why);
        }
        self.problems.len() == before
    }

    /// Brings a device to where it is wanted.
    pub(super) fn bring(&mut self, wanted: &Wanted) {
        if !self.can_be(wanted) {
            return;
        }
        let function = self.function(wanted.at);
        self.take(wanted.at, function);
        let there = self
            .seen
            .device(wanted.name.as_str())
            .filter(|device| !self.doomed.contains(device.name.as_str()));
        match there {
            Some(device) if function.is_some_and(|one| device.function == Some(one.address)) => {
                self.change(wanted, device);
            }
            Some(device) if self.kept.contains(device.name.as_str()) => {}
            Some(device) => {
                let holder = match (&device.parent, device.function) {
                    (Some(parent), _) => parent.clone(),
                    (None, Some(address)) => address.to_string(),
                    (None, None) => "another device".to_owned(),
                };
                self.impossible(
                    format!("the name {} is taken, by a device of {holder}", wanted.name),
                    format!(
                        "choose another, or take that away first: vdpa dev del {}",
                        wanted.name
                    ),
                );
            }
            None => self.add(wanted),
        }
    }

    /// Whether the device can be on that function at all. Says why not.
    fn can_be(&mut self, wanted: &Wanted) -> bool {
        let before = self.problems.len();
        let at = wanted.at;
        match at {
            Target::Function(address) => match self.seen.function(address) {
                None => self.impossible(
                    format!("there is no virtio function {address}"),
                    "vf-vdpa list --all shows those that there are",
                ),
                Some(one) if one.sriov.is_some_and(|sriov| sriov.enabled > 0) => self.impossible(
                    format!("{address} has VFs, which belong to its driver"),
                    "make devices of the VFs, or remove them first",
                ),
                Some(_) => {}
            },
            Target::Vf { pf, index } => self.vf_can_be(pf, index),
        }
        if self.problems.len() > before {
            return false;
        }
        let Some(class) = class_at(self.seen, at) else {
            self.impossible(
                format!("{at} is no virtio function"),
                "vf_vdpa drives virtio functions only (vendor 1af4)",
            );
            return false;
        };
        let net = wanted.mac.is_some() || wanted.mtu.is_some() || wanted.max_vqp.is_some();
        if net && class != DeviceId::NET {
            self.impossible(
                format!(
                    "{}: mac, mtu and max_vqp are for network devices, {at} is {class}",
                    wanted.name
                ),
                "leave them out",
            );
        }
        if let Err(problem) = self.features(wanted) {
            self.problems.push(problem);
        }
        self.problems.len() == before
    }

    fn vf_can_be(&mut self, pf: Address, index: u16) {
        let Some(sriov) = self.seen.function(pf).and_then(|one| one.sriov) else {
            // Said already if the file gives a number of VFs.
            if !self
                .problems
                .iter()
                .any(|problem| problem.what.contains(&pf.to_string()))
            {
                self.impossible(
                    format!("{pf} is no virtio function with VFs"),
                    "vf-vdpa list shows those that there are; is SR-IOV on in the firmware?",
                );
            }
            return;
        };
        let renewed = self.renewed.iter().find(|(one, _)| *one == pf);
        let count = renewed.map_or(sriov.enabled, |(_, count)| *count);
        if index >= count {
            self.impossible(
                format!("{pf} has {count} VFs, and so none with index {index}"),
                format!("vfs = {} or more in its [[pf]]", index.saturating_add(1)),
            );
        }
    }

    /// The features that are wanted, if any, as far as they can be had.
    fn features(&self, wanted: &Wanted) -> Result<Option<Set>, Problem> {
        let Some(wish) = &wanted.features else {
            return Ok(None);
        };
        let class = class_at(self.seen, wanted.at).unwrap_or(DeviceId::new(0));
        let problem = |what: String, cure: &str| Problem {
            kind: Kind::Impossible,
            what,
            cure: cure.to_owned(),
        };
        let mask = wish
            .mask(class)
            .map_err(|error| problem(format!("{}: {error:#}", wanted.name), "correct the name"))?;
        let handle = self
            .function(wanted.at)
            .map(|one| format!("pci/{}", one.address));
        let offered = self
            .seen
            .parents
            .iter()
            .find(|parent| Some(&parent.handle) == handle.as_ref())
            .and_then(|parent| parent.features);
        let missing = offered.map_or(0, |offered| mask & !offered);
        if missing != 0 {
            let missing = Set::new(missing, class);
            return Err(problem(
                format!("{}: {} does not offer {missing}", wanted.name, wanted.at),
                "take them out of its features",
            ));
        }
        Ok(Some(Set::new(mask, class)))
    }

    /// Gives a function to `vf_vdpa`.
    fn take(&mut self, at: Target, function: Option<&'s Function>) {
        if function.is_some_and(Function::is_ours) {
            return;
        }
        self.need(DRIVER);
        if let Some(driver) = function.and_then(|one| one.driver.clone()) {
            if let Some(user) = function.and_then(|one| self.user_of(one)) {
                self.refuse(
                    format!("{at} belongs to {driver}, {user}"),
                    format!("stop what uses it, or say {}", self.insist),
                );
            }
            self.others.push(Step::Unbind { at, driver });
        }
        let was = function.and_then(|one| one.driver_override.clone());
        if was.as_deref() != Some(DRIVER) {
            let driver = Some(DRIVER.to_owned());
            self.others.push(Step::Promise { at, driver, was });
        }
        self.others.push(Step::Bind { at });
    }

    /// Who would miss a function that another driver has, unless that does not matter.
    fn user_of(&self, function: &Function) -> Option<String> {
        if self.policy == Policy::Replace {
            return None;
        }
        match function.driver.as_deref() {
            Some("virtio-pci") => function
                .virtio
                .iter()
                .find_map(crate::interface::VirtioDevice::user),
            _ => Some("which may have given it to a process".to_owned()),
        }
    }

    /// Makes a device.
    fn add(&mut self, wanted: &Wanted) {
        let Ok(features) = self.features(wanted) else {
            // `can_be` has said so.
            return;
        };
        self.others.push(Step::Add(Addition {
            at: wanted.at,
            device: wanted.name.clone(),
            mac: wanted.mac,
            mtu: wanted.mtu,
            max_vqp: wanted.max_vqp,
            features,
        }));
        self.hand(wanted, None);
    }

    /// Changes what can be changed of a device that stays.
    fn change(&mut self, wanted: &Wanted, device: &'s Device) {
        let difference = Difference::between(device, wanted, None);
        if let Some(mac) = wanted.mac.filter(|_| difference.mac) {
            self.others.push(Step::SetMac {
                device: wanted.name.clone(),
                mac,
            });
        }
        if !difference.bus {
            return;
        }
        let usage = device.usage();
        if let (true, Use::Busy(user) | Use::Unknown(user)) =
            (self.policy != Policy::Replace, usage)
        {
            return self.refuse(
                format!(
                    "{} shall be given to {}, and is in use: {user}",
                    wanted.name, wanted.bus
                ),
                format!("stop what uses it, or say {}", self.insist),
            );
        }
        self.hand(wanted, device.driver.clone());
    }

    fn hand(&mut self, wanted: &Wanted, was: Option<String>) {
        self.need(wanted.bus.driver());
        if wanted.bus == Bus::Virtio {
            let class = class_at(self.seen, wanted.at);
            if let Some(driver) = class.and_then(class_driver) {
                self.need(driver);
            }
        }
        self.others.push(Step::Hand {
            device: wanted.name.clone(),
            bus: wanted.bus,
            was,
        });
    }
}

/// Whether the address can be changed without making the device anew: nobody must use it, and to
/// the driver virtio-net is somebody.
fn can_set_mac(device: &Device, wanted: &Wanted) -> bool {
    wanted.bus == Bus::Vhost && device.bus() == Some(Bus::Vhost) && device.usage() == Use::Free
}
