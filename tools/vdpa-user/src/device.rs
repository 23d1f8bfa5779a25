// SPDX-License-Identifier: GPL-2.0

//! One open vhost-vdpa device and its ordinary life.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use vhost::vdpa::VhostVdpa;
use vhost::vhost_kern::VhostKernFeatures;
use vhost::vhost_kern::vdpa::VhostKernVdpa;
use vhost::{VhostBackend, VringConfigData};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::ioctl::{self, ARGUMENT, Argument};
use crate::memory::{self, Memory};
use crate::refusal::{Addresses, NotShown};
use crate::ring::Areas;

/// Feature bits by number (virtio 1.3, 5.1.3 and 6).
pub mod feature {
    /// The driver takes frames without a checksum.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// What the driver takes can be changed.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    /// The maximal MTU is in the configuration space.
    pub const MTU: u64 = 1 << 3;
    /// The hardware address is in the configuration space.
    pub const MAC: u64 = 1 << 5;
    /// A received packet may be spread over several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// The link state is in the configuration space.
    pub const STATUS: u64 = 1 << 16;
    /// There is a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// Receive modes can be set.
    pub const CTRL_RX: u64 = 1 << 18;
    /// VLANs can be filtered.
    pub const CTRL_VLAN: u64 = 1 << 19;
    /// More receive modes can be set.
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    /// The driver can be told to announce itself.
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// The hardware address can be set.
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    /// There are several queue pairs.
    pub const MQ: u64 = 1 << 22;
    /// Event indices instead of flags.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// The device reaches memory through the IOMMU.
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    /// Packed rings.
    pub const RING_PACKED: u64 = 1 << 34;
    /// Chains are returned in the order in which they came.
    pub const IN_ORDER: u64 = 1 << 35;
    /// Interrupts of a queue can be put off.
    pub const VQ_NOTF_COAL: u64 = 1 << 52;
    /// Interrupts can be put off.
    pub const NOTF_COAL: u64 = 1 << 53;
    /// Hashes of frames are reported.
    pub const HASH_REPORT: u64 = 1 << 57;
}

/// Device status bits (virtio 1.3, 2.1).
pub mod status {
    /// The device was seen.
    pub const ACKNOWLEDGE: u8 = 1;
    /// There is a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// Features are negotiated.
    pub const FEATURES_OK: u8 = 8;
    /// The device gave up until it is reset.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver gave up.
    pub const FAILED: u8 = 128;
}

/// Bytes at the start of the configuration space that are looked at: a function may show a whole
/// page of it, nearly all zeroes, and every read goes through the emulator.
pub const CONFIG: u32 = 96;

/// VHOST_BACKEND_F_IOTLB_MSG_V2.
const MSG_V2: u64 = 1 << 1;

/// What can be read back of a device: compared to see that a refused request changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    features: u64,
    status: u8,
    config: Vec<u8>,
    limit: u16,
    sizes: Vec<Option<u32>>,
}

/// An open `/dev/vhost-vdpa-N`.
pub struct Device {
    path: PathBuf,
    kern: VhostKernVdpa<Arc<GuestMemoryMmap>>,
    /// Second descriptor of the same open file: messages to the translation table go through it.
    file: File,
    /// The memory that [`Device::claim`] maps.
    pub memory: Memory,
    /// Bytes of each of its mappings.
    piece: u64,
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.kern.as_raw_fd()
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device {
    /// Opens the device and nothing else.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, memory::SIZE)
    }

    /// As [`Device::open`], with so many bytes of memory.
    pub fn open_with(path: &Path, size: u64) -> Result<Self> {
        let memory = Memory::new(size)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let kern = VhostKernVdpa::with(file.try_clone()?, memory.space(), 0);
        let device = Self {
            path: path.to_owned(),
            kern,
            file,
            memory,
            piece: size,
        };
        let size = device.config_size()?;
        ensure!(
            usize::try_from(size)? <= ARGUMENT / 2,
            "a configuration space of {size} bytes is not credible"
        );
        Ok(device)
    }

    /// Becomes the owner.
    pub fn own(&self) -> Result<()> {
        self.kern.set_owner().context("VHOST_SET_OWNER")
    }

    /// Becomes the owner and maps [`Device::memory`].
    pub fn claim(&mut self) -> Result<()> {
        self.claim_in_pieces(self.memory.size())
    }

    /// As [`Device::claim`], with a mapping for each `piece` bytes of the memory.
    pub fn claim_in_pieces(&mut self, piece: u64) -> Result<()> {
        // Every page is pinned and counted against this limit, once for each device.
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
            .context("cannot lift the limit of locked memory: run as root")?;
        self.own()?;
        let offered = self.kern.get_backend_features()?;
        ensure!(
            offered & MSG_V2 != 0,
            "backend features {offered:#x} lack messages of version 2"
        );
        self.accept_backend_features(0)?;
        self.piece = piece;
        self.map_all()
    }

    /// Lets the device reach the memory, as when it was claimed.
    pub fn map_all(&self) -> Result<()> {
        let end = memory::BASE + self.memory.size();
        let mut next = memory::BASE;
        while next < end {
            self.map(next, self.piece.min(end - next))?;
            next += self.piece;
        }
        Ok(())
    }

    /// Takes the memory away from the device.
    pub fn unmap_all(&self) -> Result<()> {
        self.unmap(memory::BASE, self.memory.size())
    }

    /// Lets the device reach a part of the memory.
    pub fn map(&self, iova: u64, size: u64) -> Result<()> {
        let offset = usize::try_from(iova - memory::BASE)?;
        self.map_at(iova, size, self.memory.host_address()?.wrapping_add(offset))
    }

    /// Lets the device reach what is at `start` in this process, as `iova`.
    pub fn map_at(&self, iova: u64, size: u64, start: *const u8) -> Result<()> {
        self.kern
            .dma_map(iova, size, start, false)
            .with_context(|| format!("cannot map {size:#x} bytes at {iova:#x}"))
    }

    /// As [`Device::map_at`], for reading only.
    pub fn map_readable(&self, iova: u64, size: u64, start: *const u8) -> Result<()> {
        self.kern
            .dma_map(iova, size, start, true)
            .with_context(|| format!("cannot map {size:#x} bytes at {iova:#x} for reading"))
    }

    /// Accepts backend features, besides messages of version 2 which [`Device::claim`] accepts.
    pub fn accept_backend_features(&mut self, features: u64) -> Result<()> {
        self.kern
            .set_backend_features(features | MSG_V2)
            .with_context(|| format!("VHOST_SET_BACKEND_FEATURES {features:#x}"))
    }

    /// Lets the queues in address space `asid` reach all of the memory, from `iova` on.
    pub fn map_in(&mut self, asid: u32, iova: u64) -> Result<()> {
        // What was accepted before stays so: above all that mappings outlive a reset.
        let accepted = self.kern.get_backend_features_acked();
        // VHOST_BACKEND_F_IOTLB_ASID.
        self.accept_backend_features(accepted | (1 << 3))?;
        // VHOST_IOTLB_UPDATE.
        self.change_in(asid, iova, 2)
            .with_context(|| format!("cannot map at {iova:#x} in address space {asid}"))
    }

    /// Maps once more what [`Device::map_in`] has mapped: a reset may have taken it away.
    pub fn map_again_in(&self, asid: u32, iova: u64) -> Result<()> {
        // VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_UPDATE.
        [3, 2]
            .into_iter()
            .try_for_each(|message| self.change_in(asid, iova, message))
            .with_context(|| format!("cannot map again at {iova:#x} in address space {asid}"))
    }

    /// Sends a message about all of the memory, which is at `iova` in address space `asid`.
    fn change_in(&self, asid: u32, iova: u64, message: u8) -> Result<()> {
        let start = u64::try_from(self.memory.host_address()?.addr())?;
        let mut bytes = Vec::new();
        bytes.extend(2_u32.to_ne_bytes());
        bytes.extend(asid.to_ne_bytes());
        for word in [iova, self.memory.size(), start] {
            bytes.extend(word.to_ne_bytes());
        }
        // VHOST_ACCESS_RW.
        bytes.extend([3, message]);
        bytes.resize(72, 0);
        self.message(&bytes)?;
        Ok(())
    }

    /// Takes a part of the memory away from the device.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        Ok(self.kern.dma_unmap(iova, size)?)
    }

    /// Where the device is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a raw message to the translation table.
    pub fn message(&self, bytes: &[u8]) -> Result<usize, std::io::Error> {
        (&self.file).write(bytes)
    }

    /// What class of device it is.
    pub fn device_id(&self) -> Result<u32> {
        Ok(self.kern.get_device_id()?)
    }

    /// The features on offer.
    pub fn features(&self) -> Result<u64> {
        Ok(self.kern.get_features()?)
    }

    /// Negotiates exactly `features`.
    pub fn set_features(&self, features: u64) -> Result<()> {
        self.kern
            .set_features(features)
            .with_context(|| format!("VHOST_SET_FEATURES {features:#x}"))
    }

    /// The device status.
    pub fn status(&self) -> Result<u8> {
        Ok(self.kern.get_status()?)
    }

    /// Adds bits to the status and checks that they are shown.
    pub fn add_status(&self, bits: u8) -> Result<()> {
        let wanted = self.status()? | bits;
        self.kern.set_status(wanted)?;
        let shown = self.status()?;
        ensure!(shown == wanted, NotShown { wanted, shown });
        Ok(())
    }

    /// Resets the device.
    pub fn reset(&self) -> Result<()> {
        self.kern.set_status(0).context("reset")?;
        let shown = self.status()?;
        ensure!(shown == 0, "the status is {shown:#x} after a reset");
        Ok(())
    }

    /// Reset, then everything up to FEATURES_OK.
    pub fn negotiate(&self, features: u64) -> Result<()> {
        self.reset()?;
        self.add_status(status::ACKNOWLEDGE)?;
        self.add_status(status::DRIVER)?;
        self.set_features(features)?;
        self.add_status(status::FEATURES_OK)
    }

    /// Bytes of the configuration space.
    pub fn config_size(&self) -> Result<u32> {
        Ok(self.kern.get_config_size()?)
    }

    /// The configuration space, as far as any class of device has something in it.
    pub fn config(&self) -> Result<Vec<u8>> {
        let length = self.config_size()?.min(CONFIG);
        let mut bytes = vec![0; usize::try_from(length)?];
        if !bytes.is_empty() {
            self.kern.get_config(0, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// A 16-bit word of the configuration space.
    pub fn config16(&self, offset: usize) -> Result<u16> {
        let config = self.config()?;
        let Some(&[low, high]) = config.get(offset..offset + 2) else {
            bail!(
                "no word at {offset} in {} bytes of configuration",
                config.len()
            );
        };
        Ok(u16::from_le_bytes([low, high]))
    }

    /// The largest queue size over all queues.
    pub fn queue_limit(&self) -> Result<u16> {
        Ok(self.kern.get_vring_num()?)
    }

    /// The number of queues.
    pub fn queue_count(&self) -> Result<u32> {
        Ok(self.kern.get_vqs_count()?)
    }

    /// The largest size of one queue, if the device tells.
    pub fn queue_size(&self, index: u32) -> Option<u32> {
        self.try_queue_size(index).ok()
    }

    /// The largest size of one queue, or why the device does not tell.
    pub fn try_queue_size(&self, index: u32) -> Result<u32, Errno> {
        ioctl::state(self, ioctl::VHOST_VDPA_GET_VRING_SIZE(), index, 0)
    }

    /// The I/O virtual addresses the device can be given.
    pub fn iova_range(&self) -> Result<(u64, u64)> {
        let range = self.kern.get_iova_range()?;
        Ok((range.first, range.last))
    }

    /// What the kernel's vhost-vdpa can do for this device.
    pub fn backend_features(&self) -> Result<u64> {
        Ok(self.kern.get_backend_features()?)
    }

    /// Configures a queue, all but enabling it; it is to go on at `base`, as the ioctl has it.
    pub fn set_queue(&self, index: u16, size: u16, areas: Areas, base: u32) -> Result<()> {
        let queue = usize::from(index);
        self.kern
            .set_vring_num(queue, size)
            .with_context(|| format!("size of queue {index}"))?;
        ioctl::state(self, ioctl::VHOST_SET_VRING_BASE(), index.into(), base)
            .with_context(|| format!("base of queue {index}"))?;
        let data = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            flags: 0,
            desc_table_addr: areas.descriptors,
            used_ring_addr: areas.device,
            avail_ring_addr: areas.driver,
            log_addr: None,
        };
        self.kern
            .set_vring_addr(queue, &data)
            .context(Addresses(index))
    }

    /// Where a queue stands.
    pub fn base(&self, index: u16) -> Result<u32> {
        ioctl::state(self, ioctl::VHOST_GET_VRING_BASE(), index.into(), 0)
            .with_context(|| format!("base of queue {index}"))
    }

    /// Stops the device where it is.
    pub fn suspend(&self) -> Result<()> {
        self.kern.suspend().context("VHOST_VDPA_SUSPEND")
    }

    /// Has it go on.
    pub fn resume(&self) -> Result<()> {
        ioctl::send_null(self, ioctl::VHOST_VDPA_RESUME()).context("VHOST_VDPA_RESUME")
    }

    /// Sets the event that announces completions.
    pub fn set_call(&self, index: u16, event: &EventFd) -> Result<()> {
        Ok(self.kern.set_vring_call(index.into(), event)?)
    }

    /// Sets the event that notifies the device.
    pub fn set_kick(&self, index: u16, event: &EventFd) -> Result<()> {
        Ok(self.kern.set_vring_kick(index.into(), event)?)
    }

    /// Sets the event that announces changes of configuration and status.
    pub fn set_config_call(&self, event: &EventFd) -> Result<()> {
        Ok(self.kern.set_config_call(event)?)
    }

    /// Starts or stops one queue.
    pub fn enable(&self, index: u16, on: bool) -> Result<()> {
        Ok(self.kern.set_vring_enable(index.into(), on)?)
    }

    /// The group of a queue.
    pub fn group(&self, index: u32) -> Result<u32> {
        ioctl::state(self, ioctl::VHOST_VDPA_GET_VRING_GROUP(), index, 0)
            .with_context(|| format!("group of queue {index}"))
    }

    /// Moves a group of queues to an address space.
    pub fn set_group_asid(&self, group: u32, asid: u32) -> Result<()> {
        ioctl::state(self, ioctl::VHOST_VDPA_SET_GROUP_ASID(), group, asid)
            .with_context(|| format!("group {group} in address space {asid}"))?;
        Ok(())
    }

    /// Everything that can be read back.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let queues = self.queue_count()?;
        Ok(Snapshot {
            features: self.features()?,
            status: self.status()?,
            config: self.config()?,
            limit: self.queue_limit()?,
            sizes: (0..queues).map(|index| self.queue_size(index)).collect(),
        })
    }

    /// Sets the status to exactly `value` with no check of what comes of it.
    pub fn raw_status(&self, value: u8) -> Result<(), Errno> {
        let mut argument = Argument::bytes(&[value]);
        ioctl::send(self, ioctl::VHOST_VDPA_SET_STATUS(), &mut argument)
    }
}
