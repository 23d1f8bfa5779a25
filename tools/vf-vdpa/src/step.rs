// SPDX-License-Identifier: GPL-2.0

//! One change to the host: what it is, how an administrator would make it by hand, and what takes it
//! back.

use std::fmt;

use serde::Serialize;

use crate::bus::Bus;
use crate::desired::Target;
use crate::feature::Set;
use crate::function::DRIVER;
use crate::mac::Mac;
use crate::name::Name;
use crate::pci::Address;

/// One change to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Step {
    /// Load a module
    Load {
        /// Its name
        module: &'static str,
    },
    /// Delete a vDPA device
    Delete {
        /// Its name
        device: Name,
        /// Who has to close it first: the kernel waits for that without a limit, and everybody who
        /// asks the vDPA bus something waits as well
        #[serde(skip_serializing_if = "Option::is_none")]
        waits_for: Option<String>,
    },
    /// Keep the kernel from looking for drivers for new virtual functions
    KeepUnbound {
        /// The physical function
        pf: Address,
    },
    /// Change the number of virtual functions
    MakeVfs {
        /// The physical function
        pf: Address,
        /// How many it shall have
        count: u16,
        /// How many it has
        was: u16,
    },
    /// Take a function from its driver
    Unbind {
        /// The function
        at: Target,
        /// The driver that it has
        driver: String,
    },
    /// Say which driver alone may have a function, or that any may
    Promise {
        /// The function
        at: Target,
        /// The driver
        driver: Option<String>,
        /// The one before
        was: Option<String>,
    },
    /// Bind a function to `vf_vdpa`
    Bind {
        /// The function
        at: Target,
    },
    /// Give a function back to a driver, or to whichever wants it
    Return {
        /// The function
        at: Target,
        /// The driver
        driver: Option<String>,
    },
    /// Make a vDPA device
    Add(Addition),
    /// Say who takes a device
    Hand {
        /// The device
        device: Name,
        /// Who takes it
        bus: Bus,
        /// Who had it
        was: Option<String>,
    },
    /// Change the MAC address of a device
    SetMac {
        /// The device
        device: Name,
        /// The address
        mac: Mac,
    },
}

/// A device that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Addition {
    /// The function that carries it
    pub at: Target,
    /// What it is called
    pub device: Name,
    /// Its address
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its MTU
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Its queue pairs
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_vqp: Option<u16>,
    /// Its features
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Set>,
}

impl Step {
    /// What takes the step back, if anything can: a device that was deleted is gone, and a module
    /// that was loaded does no harm.
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::Unbind { at, driver } => Some(Self::Return {
                at: *at,
                driver: Some(driver.clone()),
            }),
            Self::Promise { at, driver, was } => Some(Self::Promise {
                at: *at,
                driver: was.clone(),
                was: driver.clone(),
            }),
            Self::Bind { at } => Some(Self::Unbind {
                at: *at,
                driver: DRIVER.to_owned(),
            }),
            Self::Add(addition) => Some(Self::Delete {
                device: addition.device.clone(),
                waits_for: None,
            }),
            Self::Hand { device, bus, was } => {
                let was = was.as_deref().and_then(Bus::of_driver)?;
                Some(Self::Hand {
                    device: device.clone(),
                    bus: was,
                    was: Some(bus.driver().to_owned()),
                })
            }
            Self::MakeVfs { .. }
            | Self::KeepUnbound { .. }
            | Self::Load { .. }
            | Self::Delete { .. }
            | Self::Return { .. }
            | Self::SetMac { .. } => None,
        }
    }

    /// The same by hand.
    pub fn by_hand(&self) -> String {
        match self {
            Self::Load { module } => format!("modprobe {module}"),
            Self::Delete { device, .. } => format!("vdpa dev del {device}"),
            Self::KeepUnbound { pf } => {
                format!("echo 0 > /sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe")
            }
            Self::MakeVfs { pf, count, was } => {
                let file = format!("/sys/bus/pci/devices/{pf}/sriov_numvfs");
                let first = match (was, count) {
                    (0, _) | (_, 0) => String::new(),
                    _ => format!("echo 0 > {file}; "),
                };
                format!("{first}echo {count} > {file}")
            }
            Self::Unbind { at, .. } => {
                format!("echo {} > {}/driver/unbind", bdf(*at), path(*at))
            }
            Self::Promise { at, driver, .. } => {
                let driver = driver.as_deref().unwrap_or("''");
                format!("echo {driver} > {}/driver_override", path(*at))
            }
            Self::Bind { at } | Self::Return { at, driver: None } => {
                format!("echo {} > /sys/bus/pci/drivers_probe", bdf(*at))
            }
            Self::Return {
                at,
                driver: Some(driver),
            } => format!("echo {} > /sys/bus/pci/drivers/{driver}/bind", bdf(*at)),
            Self::Add(addition) => addition.by_hand(),
            Self::Hand { device, bus, was } => {
                let sys = format!("/sys/bus/vdpa/devices/{device}");
                let driver = bus.driver();
                // Most often the driver that is loaded first has taken it meanwhile.
                let unbind = match was {
                    Some(_) => format!("; echo {device} > {sys}/driver/unbind"),
                    None => format!("; echo {device} > {sys}/driver/unbind 2> /dev/null"),
                };
                format!(
                    "echo {driver} > {sys}/driver_override{unbind}; \
                     echo {device} > /sys/bus/vdpa/drivers/{driver}/bind"
                )
            }
            Self::SetMac { device, mac } => format!("vdpa dev set name {device} mac {mac}"),
        }
    }
}

impl Addition {
    fn by_hand(&self) -> String {
        let mut text = format!(
            "vdpa dev add name {} mgmtdev pci/{}",
            self.device,
            bdf(self.at)
        );
        if let Some(mac) = self.mac {
            text += &format!(" mac {mac}");
        }
        if let Some(mtu) = self.mtu {
            text += &format!(" mtu {mtu}");
        }
        if let Some(pairs) = self.max_vqp {
            text += &format!(" max_vqp {pairs}");
        }
        if let Some(features) = self.features {
            text += &format!(" device_features {:#x}", features.bits());
        }
        text
    }
}

/// The folder of a function in sysfs, whether or not its address is known.
fn path(at: Target) -> String {
    match at {
        Target::Function(address) => format!("/sys/bus/pci/devices/{address}"),
        Target::Vf { pf, index } => format!("/sys/bus/pci/devices/{pf}/virtfn{index}"),
    }
}

/// The address of a function, or the words of a shell that find it.
fn bdf(at: Target) -> String {
    match at {
        Target::Function(address) => address.to_string(),
        Target::Vf { .. } => format!("$(basename $(readlink {}))", path(at)),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module } => write!(f, "load the module {module}"),
            Self::Delete {
                device,
                waits_for: None,
            } => write!(f, "delete the device {device}"),
            Self::Delete {
                device,
                waits_for: Some(user),
            } => write!(
                f,
                "delete the device {device} as soon as it is closed, {user}"
            ),
            Self::KeepUnbound { pf } => {
                write!(f, "have the kernel leave new VFs of {pf} without a driver")
            }
            Self::MakeVfs { pf, count: 0, was } => write!(f, "remove all {was} VFs of {pf}"),
            Self::MakeVfs { pf, count, was: 0 } => write!(f, "make {count} VFs of {pf}"),
            Self::MakeVfs { pf, count, was } => {
                write!(f, "remove all {was} VFs of {pf}, and make {count} new ones")
            }
            Self::Unbind { at, driver } => write!(f, "take {at} from {driver}"),
            Self::Promise {
                at,
                driver: Some(driver),
                ..
            } => write!(f, "let no driver but {driver} have {at}"),
            Self::Promise {
                at, driver: None, ..
            } => write!(f, "let any driver have {at}"),
            Self::Bind { at } => write!(f, "bind {at} to {DRIVER}"),
            Self::Return {
                at,
                driver: Some(driver),
            } => write!(f, "give {at} back to {driver}"),
            Self::Return { at, driver: None } => {
                write!(f, "give {at} to whichever driver wants it")
            }
            Self::Add(addition) => addition.fmt(f),
            Self::Hand { device, bus, .. } => write!(f, "give {device} to {}", bus.driver()),
            Self::SetMac { device, mac } => write!(f, "set the address of {device} to {mac}"),
        }
    }
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make the device {} of {}", self.device, self.at)?;
        let mut separator = ": ";
        let mut word = |text: String| {
            let result = write!(f, "{separator}{text}");
            separator = ", ";
            result
        };
        if let Some(mac) = self.mac {
            word(format!("mac {mac}"))?;
        }
        if let Some(mtu) = self.mtu {
            word(format!("mtu {mtu}"))?;
        }
        if let Some(pairs) = self.max_vqp {
            word(format!("max_vqp {pairs}"))?;
        }
        if let Some(features) = self.features {
            word(format!("features {features}"))?;
        }
        Ok(())
    }
}
