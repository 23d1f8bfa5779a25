// SPDX-License-Identifier: GPL-2.0

//! PCI functions as vDPA management devices, and what the kernel crate lacks for them.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

mod driver;

pub use self::driver::{
    Adapter,
    ChannelState,
    Driver,
    ErrorResult, //
};

use super::bindings;
use kernel::{
    bindings::resource_size_t,
    device::{
        Bound,
        Core, //
    },
    dma::{
        Device as _,
        DmaMask, //
    },
    error::to_result,
    ffi::c_int,
    io::Io,
    pci,
    prelude::*, //
};

/// The number of BARs of a function.
pub const NUM_BARS: usize = 6;

/// The length of the configuration space that holds the capability list, in bytes.
const CONFIG_LEN: usize = 256;

/// Returns the C structure of a function.
fn as_raw(pdev: &pci::Device) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// Returns a snapshot of the first 256 bytes of configuration space.
///
/// A byte that cannot be read is all ones, as it is when the function is gone.
pub fn config_snapshot(pdev: &pci::Device<Bound>) -> KVec<u8> {
    let config = pdev.config_space();
    let bytes = (0..CONFIG_LEN).map(|offset| config.try_read8(offset).unwrap_or(0xff));
    let mut snapshot = KVec::new();

    for byte in bytes {
        if snapshot.push(byte, GFP_KERNEL).is_err() {
            break;
        }
    }
    snapshot
}

/// Returns the length of a BAR in bytes, [`None`] if it is absent or an I/O BAR.
pub fn memory_bar_len(pdev: &pci::Device, bar: u32) -> Option<u64> {
    let index = c_int::try_from(bar).ok()?;
    let len: resource_size_t = pdev.resource_len(bar).ok()?;

    // SAFETY: `pdev` is valid, and `resource_len()` has checked the index.
    let memory = unsafe { bindings::vdpa_pci_bar_is_memory(as_raw(pdev), index) };

    (memory && len != 0).then_some(len)
}

/// Returns whether the function is known to be cut off: removed, or its channel is in error.
pub fn is_offline(pdev: &pci::Device) -> bool {
    // SAFETY: `pdev` is valid. The field is a word that the PCI core writes with cmpxchg().
    let state = unsafe { (&raw const (*as_raw(pdev)).error_state).read_volatile() };

    // 0 is the state of a function that was never enumerated fully; it is on line as well.
    state > bindings::pci_channel_io_normal
}

/// A function whose memory and bus mastering are enabled. Dropping it disables both.
pub struct Enabled<'bound>(&'bound pci::Device<Bound>);

impl<'bound> Enabled<'bound> {
    /// Enables memory and bus mastering of a function, for addresses of 64 bits.
    pub fn new<'c>(pdev: &'bound pci::Device<Core<'c>>) -> Result<Self>
    where
        'c: 'bound,
    {
        // SAFETY: The driver is only being probed: nobody maps memory for the function yet.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }?;
        pdev.enable_device_mem()?;
        pdev.set_master();
        Ok(Self(pdev))
    }

    /// Disables bus mastering: whatever the device does, it reaches no memory from now on.
    pub fn clear_master(&self) {
        // SAFETY: The function is valid and enabled.
        unsafe { bindings::pci_clear_master(as_raw(self.0)) };
    }

    /// Saves the configuration space, for [`restore`](Self::restore).
    ///
    /// To be called once the interrupts are allocated, which is part of what is saved.
    pub fn save(&self) -> Result {
        // SAFETY: The function is valid and enabled.
        to_result(unsafe { bindings::pci_save_state(as_raw(self.0)) })
    }

    /// Resets the function (FLR), and gives its configuration space back what was saved.
    ///
    /// For up to about a minute no other process can use the function. The caller makes sure that
    /// it does not touch the registers meanwhile, and that the PCI core is not resetting it.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if the function cannot be reset this way, or did not come back.
    pub fn function_level_reset(&self) -> Result {
        // SAFETY: The function is valid and enabled. This does not take the device lock, which a
        // caller may hold already (when the driver is unbound).
        let result = to_result(unsafe { bindings::pcie_reset_flr(as_raw(self.0), false) });

        self.restore()?;
        result
    }

    /// Gives the configuration space back what was saved: bus mastering and interrupts, for a
    /// function that was reset behind our back.
    pub fn restore(&self) -> Result {
        // SAFETY: The function is valid and enabled.
        unsafe { bindings::pci_restore_state(as_raw(self.0)) };
        // Restoring consumes what was saved.
        self.save()
    }

    /// Returns whether the configuration space says that bus mastering is enabled.
    ///
    /// A function that was reset has lost that, together with the state of its interrupts.
    pub fn is_master(&self) -> bool {
        /// The command register, in bytes from the start of configuration space.
        const COMMAND: usize = 0x04;
        const BUS_MASTER: u16 = 1 << 2;

        let command = self.0.config_space().try_read16(COMMAND).unwrap_or(0);
        command & BUS_MASTER != 0
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        self.clear_master();
        // SAFETY: The function was enabled by `new`.
        unsafe { bindings::pci_disable_device(as_raw(self.0)) };
    }
}
