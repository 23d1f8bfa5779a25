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
use core::ptr::NonNull;
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
pub(crate) fn as_raw(pdev: &pci::Device) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// Returns a snapshot of the first 256 bytes of configuration space.
///
/// A byte that cannot be read is all ones, as it is when the function is gone.
///
/// # Errors
///
/// `ENOMEM`
pub fn config_snapshot(pdev: &pci::Device<Bound>) -> Result<KVec<u8>> {
    let config = pdev.config_space();
    let mut snapshot = KVec::from_elem(0xff, CONFIG_LEN, GFP_KERNEL)?;

    for (offset, byte) in snapshot.iter_mut().enumerate() {
        *byte = config.try_read8(offset).unwrap_or(0xff);
    }
    Ok(snapshot)
}

/// Returns the length of a BAR in bytes, [`None`] if it is absent or an I/O BAR.
pub fn memory_bar_len(pdev: &pci::Device, bar: u32) -> Option<u64> {
    let index = c_int::try_from(bar).ok()?;
    let len: resource_size_t = pdev.resource_len(bar).ok()?;

    // SAFETY: `pdev` is valid, and `resource_len()` has checked the index.
    let memory = unsafe { bindings::vdpa_pci_bar_is_memory(as_raw(pdev), index) };

    (memory && len != 0).then_some(len)
}

/// Returns the number of MSI-X vectors that a function has, 0 if it has no MSI-X.
pub fn msix_vectors(pdev: &pci::Device) -> u32 {
    // SAFETY: `pdev` is valid.
    let count = unsafe { bindings::pci_msix_vec_count(as_raw(pdev)) };

    u32::try_from(count).unwrap_or(0)
}

/// Returns the state of the channel to a function, as the PCI core knows it.
pub fn channel_state(pdev: &pci::Device) -> ChannelState {
    // SAFETY: `pdev` is valid. The field is a word that the PCI core writes with cmpxchg().
    let state = unsafe { (&raw const (*as_raw(pdev)).error_state).read_volatile() };

    match state {
        bindings::pci_channel_io_frozen => ChannelState::Frozen,
        bindings::pci_channel_io_perm_failure => ChannelState::PermanentFailure,
        _ => ChannelState::Normal,
    }
}

/// A copy of the configuration space of a function (`struct pci_saved_state`).
///
/// The PCI core keeps one of its own, but overwrites it whenever somebody resets the function, with
/// whatever it finds there.
struct SavedState(NonNull<bindings::pci_saved_state>);

impl Drop for SavedState {
    fn drop(&mut self) {
        // SAFETY: The copy is an allocation of kmalloc() that `self` owns.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

// SAFETY: The copy is plain memory.
unsafe impl Send for SavedState {}

// SAFETY: The copy is not written to.
unsafe impl Sync for SavedState {}

/// A function whose memory is enabled. Dropping it disables that, and bus mastering.
pub struct Enabled<'bound> {
    pdev: &'bound pci::Device<Bound>,
    saved: Option<SavedState>,
}

impl<'bound> Enabled<'bound> {
    /// Enables the memory of a function, and lets it have addresses of 64 bits.
    ///
    /// Bus mastering is left as it is: whatever ran before may have left the device running, so
    /// that it has to be reset first.
    ///
    /// # Errors
    ///
    /// - `EIO` if the function cannot address 64 bits.
    /// - That of `pci_enable_device_mem()`, if the function cannot be enabled.
    pub fn new<'c>(pdev: &'bound pci::Device<Core<'c>>) -> Result<Self>
    where
        'c: 'bound,
    {
        // SAFETY: There is a `Core` during probe, unbind and the like, one at a time. Nothing has been
        // mapped by then that others than the caller could map more of: what serves consumers comes
        // into being at the end of probe, without a `Core`.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }?;
        pdev.enable_device_mem()?;
        Ok(Self { pdev, saved: None })
    }

    /// Disables bus mastering: whatever the device does, it reaches no memory from now on.
    pub fn clear_master(&self) {
        // SAFETY: The function is valid and enabled.
        unsafe { bindings::pci_clear_master(as_raw(self.pdev)) };
    }

    /// Enables bus mastering. The device must have been reset before: it has no addresses then.
    pub fn set_master(&self) {
        // SAFETY: The function is valid and enabled.
        unsafe { bindings::pci_set_master(as_raw(self.pdev)) };
    }

    /// Makes the copy of the configuration space that [`restore`](Self::restore) goes back to.
    ///
    /// To be called at the end of probe, with interrupts but before bus mastering is enabled.
    ///
    /// # Errors
    ///
    /// - `ENOMEM` if there is no memory for it.
    /// - That of `pci_save_state()`.
    pub fn save(&mut self) -> Result {
        // Whoever had the function before may have left it enabled.
        self.clear_master();
        // SAFETY: The function is valid and enabled.
        to_result(unsafe { bindings::pci_save_state(as_raw(self.pdev)) })?;
        // SAFETY: As above.
        let copy = unsafe { bindings::pci_store_saved_state(as_raw(self.pdev)) };

        self.saved = Some(SavedState(NonNull::new(copy).ok_or(ENOMEM)?));
        Ok(())
    }

    /// Resets the function (FLR), and restores its configuration space.
    ///
    /// For up to about a minute no other process can use the function. The caller makes sure that
    /// it does not touch the registers meanwhile, and that the PCI core is not resetting it.
    ///
    /// # Errors
    ///
    /// - `ENOTTY` if the function cannot be reset this way, or did not come back.
    /// - As [`restore`](Self::restore).
    pub fn function_level_reset(&self) -> Result {
        // SAFETY: The function is valid and enabled. This does not take the device lock, which a
        // caller may hold already (when the driver is unbound). If the caller does not see to what is
        // asked of it, two resets go on at once: the function suffers, memory does not.
        let result = to_result(unsafe { bindings::pcie_reset_flr(as_raw(self.pdev), false) });

        self.restore()?;
        result
    }

    /// Gives the configuration space back what was saved: the state of interrupts, for a function
    /// that was reset behind our back, or was cut off. Bus mastering is disabled afterwards.
    ///
    /// # Errors
    ///
    /// `EIO` if the function does not take it.
    pub fn restore(&self) -> Result {
        let saved = self.saved.as_ref().ok_or(EIO)?;

        // SAFETY: The function is valid and enabled, the copy is one of it and is not consumed. What
        // the PCI core has saved is overwritten in place: if that is saved or restored elsewhere at
        // the same time, the function gets a mixture.
        to_result(unsafe { bindings::pci_load_saved_state(as_raw(self.pdev), saved.0.as_ptr()) })?;
        // SAFETY: As above.
        unsafe { bindings::pci_restore_state(as_raw(self.pdev)) };

        if self.command() == u16::MAX {
            return Err(EIO);
        }
        Ok(())
    }

    /// Returns the command register, all ones if it cannot be read.
    fn command(&self) -> u16 {
        /// The command register, in bytes from the start of configuration space.
        const COMMAND: usize = 0x04;

        let config = self.pdev.config_space();
        config.try_read16(COMMAND).unwrap_or(u16::MAX)
    }

    /// Returns whether the configuration space can be read and says that bus mastering is enabled.
    ///
    /// A function that was reset has lost that, together with the state of its interrupts.
    pub fn is_master(&self) -> bool {
        const BUS_MASTER: u16 = 1 << 2;

        let command = self.command();
        command != u16::MAX && command & BUS_MASTER != 0
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        self.clear_master();
        // SAFETY: The function was enabled by `new`.
        unsafe { bindings::pci_disable_device(as_raw(self.pdev)) };
    }
}
