// SPDX-License-Identifier: GPL-2.0

//! The structures of a virtio PCI function and the parts of its BARs that hold them
//! (virtio 1.3, 4.1.4).

use core::fmt;

use crate::capability::CapabilityError;

/// A memory BAR of the function.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Length in bytes.
    pub len: u64,
}

/// The kinds of structure that a vDPA parent uses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Common configuration.
    Common,
    /// Notifications.
    Notify,
    /// Interrupt status.
    Isr,
    /// Device-specific configuration.
    Device,
    /// The table of MSI-X vectors, of no use but that nothing else may be there.
    VectorTable,
    /// The pending bits of MSI-X, likewise.
    PendingBits,
}

impl Kind {
    /// The kind with number `cfg_type`, if a parent uses it. The others are no error: 5 is access
    /// through the configuration space, 8 shared memory, 9 vendor data, and a driver must ignore
    /// the types that it does not know (virtio 1.3, 4.1.4.1).
    pub(crate) const fn from_cfg_type(cfg_type: u8) -> Option<Self> {
        match cfg_type {
            1 => Some(Self::Common),
            2 => Some(Self::Notify),
            3 => Some(Self::Isr),
            4 => Some(Self::Device),
            _ => None,
        }
    }

    /// Least length of the capability in bytes: notifications have a multiplier after the header.
    pub(crate) const fn capability_len(self) -> u8 {
        match self {
            Self::Notify => 20,
            _ => 16,
        }
    }

    /// Least length of the structure in bytes: the common configuration up to `queue_device`, one
    /// doorbell, one byte of the rest.
    pub(crate) const fn window_len(self) -> u32 {
        match self {
            Self::Common => 56,
            Self::Notify => 2,
            Self::Isr | Self::Device | Self::VectorTable | Self::PendingBits => 1,
        }
    }

    /// Alignment of the structure within the BAR in bytes, a power of two.
    pub(crate) const fn alignment(self) -> u32 {
        match self {
            Self::Common | Self::Device => 4,
            Self::Notify => 2,
            Self::Isr => 1,
            Self::VectorTable | Self::PendingBits => 8,
        }
    }

    /// The bits of an offset that alignment forbids.
    const fn alignment_mask(self) -> u32 {
        self.alignment().wrapping_sub(1)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common configuration",
            Self::Notify => "notification",
            Self::Isr => "interrupt status",
            Self::Device => "device configuration",
            Self::VectorTable => "MSI-X table",
            Self::PendingBits => "MSI-X pending bits",
        })
    }
}

/// A part of a memory BAR that holds one structure.
///
/// Invariant: it is aligned, long enough for its structure, and ends within the BAR.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Window {
    bar: u8,
    offset: u32,
    length: u32,
}

impl Window {
    /// The window for a structure of `kind` that the function claims to have at `offset` of `bar`,
    /// `length` bytes long. `bars` are the memory BARs of the function.
    pub fn new(
        kind: Kind,
        bar: u8,
        offset: u32,
        length: u32,
        bars: &[Option<Bar>; 6],
    ) -> Result<Self, CapabilityError> {
        let window = Self {
            bar,
            offset,
            length,
        };
        if length < kind.window_len() {
            return Err(CapabilityError::Short { kind, length });
        }
        let bar_len = match bars.get(usize::from(bar)) {
            Some(Some(bar)) => bar.len,
            _ => return Err(CapabilityError::NoBar { kind, bar }),
        };
        let end = window.end();
        if end > bar_len {
            return Err(CapabilityError::Outside {
                kind,
                bar,
                end,
                bar_len,
            });
        }
        if offset & kind.alignment_mask() != 0 {
            return Err(CapabilityError::Misaligned { kind, offset });
        }
        Ok(window)
    }

    /// Index of the BAR, 0 to 5.
    #[must_use]
    pub const fn bar(&self) -> u8 {
        self.bar
    }

    /// Offset of the first byte from the start of the BAR.
    #[must_use]
    pub const fn offset(&self) -> u32 {
        self.offset
    }

    /// Length in bytes.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// Offset of the byte after the last one, from the start of the BAR.
    #[must_use]
    pub fn end(&self) -> u64 {
        // Two 32-bit numbers: never saturates.
        u64::from(self.offset).saturating_add(u64::from(self.length))
    }

    /// True if this window and `other` have a byte in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bar == other.bar
            && u64::from(self.offset) < other.end()
            && u64::from(other.offset) < self.end()
    }
}

/// The notification structure.
///
/// Invariant: the window is one of [`Kind::Notify`], the multiplier is 0 or a power of two from 2.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    window: Window,
    multiplier: u32,
}

impl Notify {
    /// The notification structure at `offset` of `bar`, `length` bytes long, with `multiplier`.
    /// `bars` are the memory BARs of the function.
    pub fn new(
        bar: u8,
        offset: u32,
        length: u32,
        multiplier: u32,
        bars: &[Option<Bar>; 6],
    ) -> Result<Self, CapabilityError> {
        let window = Window::new(Kind::Notify, bar, offset, length, bars)?;
        // An odd distance would misalign every second doorbell.
        if multiplier == 1 || (multiplier != 0 && !multiplier.is_power_of_two()) {
            return Err(CapabilityError::Multiplier(multiplier));
        }
        Ok(Self { window, multiplier })
    }

    /// Where the doorbells are.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Distance in bytes between the doorbells of neighbouring `queue_notify_off`: 0, or a power of
    /// two from 2.
    #[must_use]
    pub const fn multiplier(&self) -> u32 {
        self.multiplier
    }
}

/// Where MSI-X is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Msix {
    /// The table.
    pub(crate) table: Window,
    /// The pending bits, if they are in a BAR.
    pub(crate) pending: Option<Window>,
}

/// The structures of a function.
///
/// Invariant: no two of them overlap, nor do they overlap MSI-X.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    common: Window,
    notify: Notify,
    isr: Option<Window>,
    device: Option<Window>,
}

impl Layout {
    /// The layout of these structures, unless two of them overlap, or one and MSI-X.
    pub(crate) fn new(
        common: Window,
        notify: Notify,
        isr: Option<Window>,
        device: Option<Window>,
        msix: Option<Msix>,
    ) -> Result<Self, CapabilityError> {
        let layout = Self {
            common,
            notify,
            isr,
            device,
        };
        layout.check_overlap(msix)?;
        Ok(layout)
    }

    /// Common configuration: at least 56 bytes, aligned to 4. The fields of virtio 1.2 and later
    /// are there if the length says so, for example `queue_reset` from 60 bytes.
    #[must_use]
    pub const fn common(&self) -> &Window {
        &self.common
    }

    /// Notifications.
    #[must_use]
    pub const fn notify(&self) -> &Notify {
        &self.notify
    }

    /// Interrupt status, which a parent that uses MSI-X never reads.
    #[must_use]
    pub const fn isr(&self) -> Option<&Window> {
        self.isr.as_ref()
    }

    /// Device configuration, aligned to 4, if the device has any.
    #[must_use]
    pub const fn device(&self) -> Option<&Window> {
        self.device.as_ref()
    }

    /// Refuses structures on top of each other: a write to one would be a write to the other.
    fn check_overlap(&self, msix: Option<Msix>) -> Result<(), CapabilityError> {
        let windows = [
            (Kind::Common, Some(self.common)),
            (Kind::Notify, Some(self.notify.window)),
            (Kind::Isr, self.isr),
            (Kind::Device, self.device),
            (Kind::VectorTable, msix.map(|msix| msix.table)),
            (Kind::PendingBits, msix.and_then(|msix| msix.pending)),
        ];
        let mut rest = windows.as_slice();
        while let [(kind, window), tail @ ..] = rest {
            for (other_kind, other) in tail {
                if let (Some(window), Some(other)) = (window, other) {
                    if window.overlaps(other) {
                        return Err(CapabilityError::Overlap(*kind, *other_kind));
                    }
                }
            }
            rest = tail;
        }
        Ok(())
    }
}
