// SPDX-License-Identifier: GPL-2.0

//! The host that steps change: sysfs, netlink and modprobe.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::bus::Bus;
use crate::desired::Target;
use crate::device::Device;
use crate::execute::Perform;
use crate::function::{DRIVER, address_of, folder, override_of};
use crate::kmsg::Kmsg;
use crate::message::{Add, Request};
use crate::name::Name;
use crate::netlink::{self, Socket};
use crate::pci::Address;
use crate::step::{Addition, Step};
use crate::tree::Tree;

/// The host, for whoever changes it. While it exists, no other `vf-vdpa` changes anything.
pub struct Host<'t> {
    tree: &'t Tree,
    socket: Option<Socket>,
    _lock: Flock<File>,
}

/// What keeps two of these from working at the same time, as at boot and by hand.
const LOCK: &str = "run/vf-vdpa.lock";

impl<'t> Host<'t> {
    /// Takes the host.
    pub fn take(tree: &'t Tree) -> Result<Self> {
        let open = OpenOptions::new()
            .create(true)
            .append(true)
            // Whoever may open it may lock it, and keep root from working.
            .mode(0o600)
            .open(tree.path(LOCK));
        let file = match open {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("this changes the host: it needs root (list, doctor and --dry-run do not)")
            }
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => bail!(
                "/{LOCK} cannot be made, as /run is read-only: in a unit with ProtectSystem=strict, \
                 ReadWritePaths=/run"
            ),
            other => other.with_context(|| format!("opening /{LOCK}"))?,
        };
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EAGAIN)) => {
                bail!("another vf-vdpa is at work: wait for it (fuser -v /{LOCK})")
            }
            Err((_, errno)) => return Err(errno).with_context(|| format!("locking /{LOCK}")),
        };
        Ok(Self {
            tree,
            socket: None,
            _lock: lock,
        })
    }

    /// Where a function is now.
    fn address(&self, at: Target) -> Result<Address> {
        match at {
            Target::Function(address) => Ok(address),
            Target::Vf { pf, index } => {
                let link = format!("{}/virtfn{index}", folder(pf));
                address_of(self.tree, &link)
                    .with_context(|| format!("the kernel has made no VF {index} of {pf}"))
            }
        }
    }

    /// Asks the vDPA bus for something.
    fn ask(&mut self, request: &Request) -> Result<()> {
        if self.socket.is_none() {
            self.socket = Socket::connect()?;
        }
        let socket = self.socket.as_ref().with_context(|| {
            if self.tree.exists("sys/bus/vdpa") {
                "the kernel answers about vDPA in the initial network name space only: do it on \
                 the host, or with nsenter --net=/proc/1/ns/net"
            } else {
                "this kernel has no vDPA bus: modprobe vdpa (CONFIG_VDPA)"
            }
        })?;
        match socket.ask(request) {
            Err(error) if netlink::errno(&error) == Some(Errno::EPERM) => {
                Err(error.context("this needs root (CAP_NET_ADMIN)"))
            }
            other => other.map(drop),
        }
    }

    /// Deletes a device. The kernel waits until its character device is closed, and everybody who asks
    /// the vDPA bus for something waits as well: so one is only deleted while it is open if that was said
    /// in the plan.
    fn delete(&mut self, device: &Name, waits_for: Option<&str>) -> Result<()> {
        if waits_for.is_none() {
            let all = Device::read_all(self.tree);
            let now = all.iter().find(|one| one.name == device.as_str());
            if let Some(opener) = now.and_then(|one| one.openers.first()) {
                bail!(
                    "{} (PID {}) has opened it meanwhile: stop that, and try again",
                    opener.command,
                    opener.pid
                );
            }
        }
        self.ask(&Request::Delete(device.clone()))
    }

    fn add(&mut self, addition: &Addition) -> Result<()> {
        let function = self.address(addition.at)?;
        let mut log = Kmsg::mark(&self.tree.path("dev/kmsg"));
        let request = Request::Add(Add {
            function,
            name: addition.device.clone(),
            mac: addition.mac,
            mtu: addition.mtu,
            max_vqp: addition.max_vqp,
            features: addition.features.map(|features| features.bits()),
        });
        self.ask(&request)
            .map_err(|error| explained(error, log.about(function)))
    }

    fn bind(&self, at: Target) -> Result<()> {
        let address = self.address(at)?;
        let mut log = Kmsg::mark(&self.tree.path("dev/kmsg"));
        let written = self
            .tree
            .write("sys/bus/pci/drivers_probe", &address.to_string());
        // The kernel may call it a success although no driver has taken it, and the other way round.
        let driver = self.driver(&folder(address));
        if driver.as_deref() == Some(DRIVER) {
            return Ok(());
        }
        let error = match (written, driver) {
            (_, Some(other)) => anyhow!("{other} has taken it meanwhile"),
            (Err(error), None) => error,
            (Ok(()), None) => anyhow!("{DRIVER} does not take it"),
        };
        Err(explained(error, log.about(address)))
    }

    fn driver(&self, folder: &str) -> Option<String> {
        self.tree.link(&format!("{folder}/driver"))
    }

    /// Unbinds what is in `folder`, called `name` on its bus, from its driver.
    fn unbind(&self, folder: &str, name: &str) -> Result<()> {
        if self.driver(folder).is_none() {
            return Ok(());
        }
        self.tree.write(&format!("{folder}/driver/unbind"), name)
    }

    fn hand(&self, device: &Name, bus: Bus) -> Result<()> {
        let at = format!("sys/bus/vdpa/devices/{device}");
        ensure!(self.tree.exists(&at), "the device {device} has gone");
        let promised = override_of(self.tree, &at);
        let had = self.driver(&at);
        let result = self.give(&at, device, bus);
        if result.is_err() {
            // As it was, as far as that can be had; what is told is the first error.
            let text = promised.as_deref().unwrap_or("\n");
            let _ = self.tree.write(&format!("{at}/driver_override"), text);
            if let (Some(had), None) = (had, self.driver(&at)) {
                let bind = format!("sys/bus/vdpa/drivers/{had}/bind");
                let _ = self.tree.write(&bind, device.as_str());
            }
        }
        result
    }

    fn give(&self, at: &str, device: &Name, bus: Bus) -> Result<()> {
        let driver = bus.driver();
        let bind = format!("sys/bus/vdpa/drivers/{driver}/bind");
        ensure!(
            self.tree.exists(&bind),
            "{driver} is not loaded: modprobe {driver}"
        );
        self.tree.write(&format!("{at}/driver_override"), driver)?;
        if self.driver(at).as_deref() == Some(driver) {
            return Ok(());
        }
        self.unbind(at, device.as_str())?;
        self.tree.write(&bind, device.as_str())?;
        ensure!(
            self.driver(at).as_deref() == Some(driver),
            "{driver} does not take {device}: dmesg says why"
        );
        Ok(())
    }

    fn make_vfs(&self, pf: Address, count: u16, was: u16) -> Result<()> {
        let file = format!("{}/sriov_numvfs", folder(pf));
        // The kernel refuses to go from one number to another.
        if was != 0 && count != 0 {
            self.tree.write(&file, "0")?;
        }
        let written = self.tree.write(&file, &count.to_string());
        written.with_context(|| {
            format!(
                "{pf} does not make {count} VFs: dmesg says why; often the PF has no driver, or \
                     the firmware has left no room for their BARs (pci=realloc)"
            )
        })
    }
}

impl Perform for Host<'_> {
    fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Load { module } => load(module),
            Step::Delete { device, waits_for } => self.delete(device, waits_for.as_deref()),
            Step::KeepUnbound { pf } => self
                .tree
                .write(&format!("{}/sriov_drivers_autoprobe", folder(*pf)), "0"),
            Step::MakeVfs { pf, count, was } => self.make_vfs(*pf, *count, *was),
            Step::Unbind { at, .. } => {
                let address = self.address(*at)?;
                self.unbind(&folder(address), &address.to_string())
            }
            Step::Promise { at, driver, .. } => {
                let address = self.address(*at)?;
                // An empty line takes the promise back.
                let text = driver.as_deref().unwrap_or("\n");
                let file = format!("{}/driver_override", folder(address));
                self.tree.write(&file, text)
            }
            Step::Bind { at } => self.bind(*at),
            Step::Return { at, driver } => {
                let address = self.address(*at)?;
                let file = match driver {
                    Some(driver) => format!("sys/bus/pci/drivers/{driver}/bind"),
                    None => "sys/bus/pci/drivers_probe".to_owned(),
                };
                self.tree.write(&file, &address.to_string())
            }
            Step::Add(addition) => self.add(addition),
            Step::Hand { device, bus, .. } => self.hand(device, *bus),
            Step::SetMac { device, mac } => self.ask(&Request::SetMac(device.clone(), *mac)),
        }
    }
}

/// The error with the driver's own reasons, which are in the kernel's log alone.
fn explained(error: anyhow::Error, log: Vec<String>) -> anyhow::Error {
    let reasons: Vec<String> = log
        .into_iter()
        .filter(|line| line.contains("refused") || line.contains("cannot"))
        .collect();
    if reasons.is_empty() {
        return error;
    }
    error.context(reasons.join("; "))
}

fn load(module: &str) -> Result<()> {
    let output = Command::new("modprobe")
        .args(["--", module])
        .output()
        .context("starting modprobe")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!(
        "modprobe {module}: {}; vf-vdpa doctor says what a kernel needs",
        said.trim()
    )
}

#[cfg(test)]
mod tests;
