// SPDX-License-Identifier: GPL-2.0

//! The function as the emulator sees it (vfio-user).

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};
use vm_memory::Permissions;

use crate::device::Device;
use crate::layout;
use crate::pci_config;
use crate::shape::MOST_VECTORS;

/// The region of the registers.
const REGISTERS: u32 = VFIO_PCI_BAR0_REGION_INDEX + layout::REGISTERS_BAR as u32;
/// The region of the vectors, which the emulator serves itself.
const VECTORS: u32 = VFIO_PCI_BAR0_REGION_INDEX + layout::VECTORS_BAR as u32;

/// The function, which several threads use.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Device>>);

impl Shared {
    /// Takes the function over.
    pub fn new(device: Device) -> Self {
        Self(Arc::new(Mutex::new(device)))
    }

    /// The function, for one thread.
    pub fn lock(&self) -> MutexGuard<'_, Device> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerBackend for Shared {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.lock().read_pci(offset, data),
            REGISTERS => self.lock().read_registers(offset, data),
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.lock().write_pci(offset, data),
            REGISTERS => self.lock().write_registers(offset, data),
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        // What has no file is no memory: the registers of another function.
        let Some(file) = file else {
            return Ok(());
        };
        let access = match (
            flags.contains(DmaMapFlags::READ),
            flags.contains(DmaMapFlags::WRITE),
        ) {
            (true, true) => Permissions::ReadWrite,
            (true, false) => Permissions::Read,
            (false, true) => Permissions::Write,
            (false, false) => Permissions::No,
        };
        let done = self.lock().memory.map(address, size, file, offset, access);
        done.map_err(io::Error::other)
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        let all = flags.contains(DmaUnmapFlags::UNMAP_ALL);
        let range = (!all).then_some((address, size));
        self.lock().memory.unmap(range);
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.lock().reset_function();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        if index != VFIO_PCI_MSIX_IRQ_INDEX {
            return Ok(());
        }
        let interrupts = &mut self.lock().interrupts;
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            interrupts.set(start, count, files);
        } else if count == 0 {
            interrupts.clear();
        }
        Ok(())
    }
}

/// The server at `socket` of a function of any shape.
pub fn server(socket: &Path) -> Result<Server> {
    let regions = (0..VFIO_PCI_NUM_REGIONS).map(|index| {
        let size = match index {
            VFIO_PCI_CONFIG_REGION_INDEX => pci_config::LEN as u64,
            REGISTERS => layout::REGISTERS_LEN.into(),
            VECTORS => layout::VECTORS_LEN.into(),
            _ => 0,
        };
        let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        ServerRegion {
            region_info: vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                flags: if size == 0 { 0 } else { flags },
                index,
                cap_offset: 0,
                size,
                offset: 0,
            },
            sparse_areas: Vec::new(),
            mmap_fd: None,
        }
    });
    let irqs = (0..VFIO_PCI_NUM_IRQS).map(|index| {
        let is_msix = index == VFIO_PCI_MSIX_IRQ_INDEX;
        IrqInfo {
            index,
            count: if is_msix { MOST_VECTORS.into() } else { 0 },
            flags: if is_msix {
                VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE
            } else {
                0
            },
        }
    });
    Server::new(socket, true, irqs.collect(), regions.collect())
        .with_context(|| format!("listening at {}", socket.display()))
}
