// SPDX-License-Identifier: GPL-2.0

//! The way back: devices go, functions are given back.

use std::str::FromStr;

use anyhow::{Error, Result};

use super::*;

/// Something that shall be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A device, by its name
    Device(String),
    /// A function, with what is on it
    Function(Address),
}

impl FromStr for What {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The name of a device has no colon, and an address has one.
        if text.contains([':', '/']) {
            return Ok(Self::Function(text.parse()?));
        }
        Ok(Self::Device(text.to_owned()))
    }
}

impl Plan {
    /// The way back, for these or, if there are none, for everything that `vf_vdpa` has.
    /// With `give_back`, other drivers may have the functions then.
    pub fn down(what: &[What], seen: &Seen, policy: Policy, give_back: bool) -> Self {
        let mut planner = Planner::new(seen, policy, "--force");
        let mut functions = BTreeSet::new();
        for one in what {
            functions.extend(planner.function_of(one));
        }
        if what.is_empty() {
            let ours = seen.functions.iter().filter(|one| one.is_ours());
            functions.extend(ours.map(|one| one.address));
        }
        for address in functions {
            planner.give_up(address, give_back);
        }
        planner.finish()
    }
}

impl Planner<'_> {
    fn function_of(&mut self, what: &What) -> Option<Address> {
        let name = match what {
            What::Device(name) => name,
            What::Function(address) if self.seen.function(*address).is_some() => {
                return Some(*address);
            }
            What::Function(address) => {
                self.impossible(
                    format!("there is no virtio function {address}"),
                    "vf-vdpa list --all shows those that there are",
                );
                return None;
            }
        };
        let Some(device) = self.seen.device(name) else {
            self.refuse(
                format!("there is no device {name}"),
                "vf-vdpa list shows those that there are",
            );
            return None;
        };
        if device.function.is_none() {
            let parent = device.parent.as_deref().unwrap_or("another driver");
            self.refuse(
                format!("{name} belongs to {parent}"),
                format!("vdpa dev del {name}"),
            );
        }
        device.function
    }

    fn give_up(&mut self, address: Address, give_back: bool) {
        let Some(function) = self.seen.function(address) else {
            return;
        };
        if !function.is_ours() {
            if let Some(device) = self.seen.devices_on(address).next() {
                let driver = function.driver.as_deref().unwrap_or("another driver");
                return self.refuse(
                    format!("{} of {address} belongs to {driver}", device.name),
                    format!("vdpa dev del {}", device.name),
                );
            }
        }
        for device in self.seen.devices_on(address) {
            self.delete(device, "it shall be taken back");
        }
        let at = Target::Function(address);
        if function.is_ours() {
            self.others.push(Step::Unbind {
                at,
                driver: DRIVER.to_owned(),
            });
        }
        let promised = function.driver_override.as_deref() == Some(DRIVER);
        if promised {
            self.others.push(Step::Promise {
                at,
                driver: None,
                was: function.driver_override.clone(),
            });
        }
        if give_back && (promised || function.is_ours()) {
            self.others.push(Step::Return { at, driver: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::tests::Host;

    fn down(what: &[&str], seen: &Seen, policy: Policy) -> Plan {
        let what: Vec<What> = what.iter().map(|text| text.parse().unwrap()).collect();
        Plan::down(&what, seen, policy, false)
    }

    fn steps(plan: &Plan) -> Vec<String> {
        assert_eq!(plan.problems, []);
        plan.steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn a_device_goes_and_its_function_is_free() {
        let host = Host::with_vfs();
        host.file("sys/devices/pci0/0000:01:00.1/driver_override", "vf_vdpa\n");
        let seen = host.seen();
        let expected = [
            "delete the device c0",
            "take 0000:01:00.1 from vf_vdpa",
            "let any driver have 0000:01:00.1",
        ];
        for what in [&["c0"][..], &["pci/0000:01:00.1"], &["c0", "01:00.1"]] {
            let plan = down(what, &seen, Policy::ReplaceUnused);
            assert_eq!(steps(&plan), expected);
        }
        let plan = Plan::down(
            &[What::Device("c0".to_owned())],
            &seen,
            Policy::Replace,
            true,
        );
        let last = plan.steps.last().unwrap().to_string();
        assert_eq!(last, "give 0000:01:00.1 to whichever driver wants it");
    }

    #[test]
    fn all_is_what_this_driver_has() {
        let host = Host::with_vfs();
        host.link(
            "sys/devices/pci0/0000:01:00.3/driver",
            "sys/bus/pci/drivers/vp_vdpa",
        );
        host.device("0000:01:00.3", "vp0", "vhost_vdpa");
        let seen = host.seen();
        let steps = steps(&down(&[], &seen, Policy::ReplaceUnused));
        assert_eq!(steps.len(), 4, "{steps:?}");
        let refused = down(&["vp0"], &seen, Policy::Replace);
        assert_eq!(refused.problems[0].cure, "vdpa dev del vp0");
    }

    #[test]
    fn what_is_in_use_stays() {
        let host = Host::with_vfs();
        host.opener(42, "qemu", "vhost-vdpa-0");
        let seen = host.seen();
        let refused = down(&["g0"], &seen, Policy::ReplaceUnused);
        assert_eq!(refused.steps, []);
        assert!(refused.problems[0].cure.contains("--force"), "{refused:?}");
        let forced = steps(&down(&["g0"], &seen, Policy::Replace));
        assert_eq!(
            forced[0],
            "delete the device g0 as soon as it is closed, \
             qemu (PID 42) has /dev/vhost-vdpa-0 open"
        );
    }

    #[test]
    fn what_is_not_there_is_said_and_what_is_done_is_done() {
        let seen = Host::with_vfs().seen();
        let plan = down(&["oops"], &seen, Policy::Replace);
        assert!(plan.problems[0].what.contains("no device oops"));
        assert!(!plan.is_impossible());
        assert!(down(&["09:00.0"], &seen, Policy::Replace).is_impossible());
        assert_eq!(down(&["01:00.3"], &seen, Policy::Replace), Plan::default());
    }
}
