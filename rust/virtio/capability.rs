// SPDX-License-Identifier: GPL-2.0

//! The structures of a virtio PCI function, found through its capability list (virtio 1.3, 4.1.4).
//!
//! The list lies in the configuration space of the function and is whatever the function says it
//! is: offsets that leave the BAR, structures on top of each other, lists that bite their tail. What
//! leaves [`parse`] is safe to map and to access.

use core::fmt;

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
}

impl Kind {
    /// The kind with number `cfg_type`, if a parent uses it. The others are no error: 5 is access
    /// through the configuration space, 8 shared memory, 9 vendor data, and a driver must ignore
    /// the types that it does not know (virtio 1.3, 4.1.4.1).
    const fn from_cfg_type(cfg_type: u8) -> Option<Self> {
        match cfg_type {
            1 => Some(Self::Common),
            2 => Some(Self::Notify),
            3 => Some(Self::Isr),
            4 => Some(Self::Device),
            _ => None,
        }
    }

    /// Least length of the capability in bytes: notifications have a multiplier after the header.
    const fn capability_len(self) -> u8 {
        match self {
            Self::Notify => 20,
            _ => 16,
        }
    }

    /// Least length of the structure in bytes: the common configuration up to `queue_device`, one
    /// doorbell, one byte of the rest.
    const fn window_len(self) -> u32 {
        match self {
            Self::Common => 56,
            Self::Notify => 2,
            Self::Isr | Self::Device => 1,
        }
    }

    /// Alignment of the structure within the BAR in bytes, a power of two.
    const fn alignment(self) -> u32 {
        match self {
            Self::Common | Self::Device => 4,
            Self::Notify => 2,
            Self::Isr => 1,
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
        })
    }
}

/// A part of a memory BAR that holds one structure.
///
/// Invariant of those that [`parse`] returns: it ends within the BAR.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Window {
    bar: u8,
    offset: u32,
    length: u32,
}

impl Window {
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
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    window: Window,
    multiplier: u32,
}

impl Notify {
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

/// The structures of a function. No two of them overlap.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    common: Window,
    notify: Notify,
    isr: Option<Window>,
    device: Option<Window>,
}

impl Layout {
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
    fn check_overlap(&self) -> Result<(), CapabilityError> {
        let windows = [
            (Kind::Common, Some(self.common)),
            (Kind::Notify, Some(self.notify.window)),
            (Kind::Isr, self.isr),
            (Kind::Device, self.device),
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

/// Why a capability list was refused. Positions are offsets in the configuration space.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CapabilityError {
    /// The function has no capability list.
    NoList,
    /// The list points to a place that cannot hold a capability.
    Pointer(u8),
    /// The list has more entries than fit.
    Loop,
    /// The capability at `at` ends outside of the configuration space or of itself.
    Truncated {
        /// What it describes.
        kind: Kind,
        /// Where it is.
        at: u8,
        /// Its length in bytes, as it says itself.
        len: u8,
    },
    /// The structure lies in a BAR that is not there, is I/O ports, or has a reserved number.
    NoBar {
        /// The structure.
        kind: Kind,
        /// Number of the BAR.
        bar: u8,
    },
    /// The structure ends outside of its BAR.
    Outside {
        /// The structure.
        kind: Kind,
        /// Where it claims to be.
        window: Window,
        /// Length of the BAR in bytes.
        bar_len: u64,
    },
    /// The structure is too short.
    Short {
        /// The structure.
        kind: Kind,
        /// Its length in bytes.
        length: u32,
    },
    /// The structure is not aligned.
    Misaligned {
        /// The structure.
        kind: Kind,
        /// Its offset in the BAR in bytes.
        offset: u32,
    },
    /// The notification multiplier is neither 0 nor a power of two from 2.
    Multiplier(u32),
    /// The function has no such structure.
    Missing(Kind),
    /// Two structures overlap.
    Overlap(Kind, Kind),
}

impl fmt::Display for CapabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoList => f.write_str("function has no capability list"),
            Self::Pointer(at) => {
                write!(
                    f,
                    "capability list points to {at:#04x}, where no capability can be"
                )
            }
            Self::Loop => f.write_str("capability list does not end"),
            Self::Truncated { kind, at, len } => write!(
                f,
                "{kind} capability at {at:#04x} has an impossible length of {len} bytes"
            ),
            Self::NoBar { kind, bar } => {
                write!(
                    f,
                    "{kind} window is in BAR {bar}, which is not a memory BAR"
                )
            }
            Self::Outside {
                kind,
                window,
                bar_len,
            } => write!(
                f,
                "{kind} window ends at {:#x} outside BAR {} of {bar_len:#x} bytes",
                window.end(),
                window.bar
            ),
            Self::Short { kind, length } => write!(
                f,
                "{kind} window has {length} bytes, needs at least {}",
                kind.window_len()
            ),
            Self::Misaligned { kind, offset } => write!(
                f,
                "{kind} window at {offset:#x} is not aligned to {} bytes",
                kind.alignment()
            ),
            Self::Multiplier(multiplier) => write!(
                f,
                "notification multiplier {multiplier} is neither 0 nor a power of two from 2"
            ),
            Self::Missing(kind) => write!(f, "function has no {kind} capability"),
            Self::Overlap(one, other) => write!(f, "{one} window overlaps the {other} window"),
        }
    }
}

/// `PCI_STATUS`, low byte; bit 4 says that there is a capability list.
const STATUS: usize = 0x06;
/// `PCI_CAPABILITY_LIST`.
const LIST: usize = 0x34;
/// Capability ID of vendor-specific capabilities.
const VENDOR_SPECIFIC: u8 = 0x09;
/// Capabilities of 4 bytes that fit behind the 64 bytes of the header.
const MAX_CAPABILITIES: usize = 48;

/// One byte of the configuration space.
fn byte(config: &[u8], at: usize) -> Option<u8> {
    config.get(at).copied()
}

/// A little-endian number of the configuration space, `offset` bytes behind `at`.
fn dword(config: &[u8], at: usize, offset: usize) -> Option<u32> {
    let start = at.checked_add(offset)?;
    let bytes = config.get(start..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// What is known about one kind of structure while the list is walked.
#[derive(Copy, Clone)]
struct Slot {
    kind: Kind,
    found: Result<Notify, CapabilityError>,
}

impl Slot {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            found: Err(CapabilityError::Missing(kind)),
        }
    }

    /// Takes the capability at `at` unless there is a good one. "The driver SHOULD use the first
    /// instance of each virtio structure type that it can support"; if it can support none, the
    /// first of them has the error worth telling.
    fn offer(&mut self, config: &[u8], at: u8, bars: &[Option<Bar>; 6]) {
        if self.found.is_ok() {
            return;
        }
        let read = read_capability(config, at, self.kind, bars);
        if read.is_ok() || self.found == Err(CapabilityError::Missing(self.kind)) {
            self.found = read;
        }
    }

    /// The structure, or `None` where the function may go without.
    fn optional(&self) -> Result<Option<Window>, CapabilityError> {
        match self.found {
            Ok(notify) => Ok(Some(notify.window)),
            Err(CapabilityError::Missing(_)) => Ok(None),
            // A window of no bytes is no window, and one in I/O ports is for legacy drivers.
            Err(CapabilityError::Short { length: 0, .. }) => Ok(None),
            Err(CapabilityError::NoBar {
                kind: Kind::Isr, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads and checks the capability of `kind` at `at`. The multiplier is 0 except for notifications.
fn read_capability(
    config: &[u8],
    at: u8,
    kind: Kind,
    bars: &[Option<Bar>; 6],
) -> Result<Notify, CapabilityError> {
    let start = usize::from(at);
    let len = start
        .checked_add(2)
        .and_then(|at| byte(config, at))
        .unwrap_or(0);
    let truncated = CapabilityError::Truncated { kind, at, len };
    let end = start.checked_add(usize::from(len)).ok_or(truncated)?;
    if len < kind.capability_len() || end > config.len() {
        return Err(truncated);
    }

    let [bar, ..] = dword(config, start, 4).ok_or(truncated)?.to_le_bytes();
    let offset = dword(config, start, 8).ok_or(truncated)?;
    let length = dword(config, start, 12).ok_or(truncated)?;
    let multiplier = match kind {
        Kind::Notify => dword(config, start, 16).ok_or(truncated)?,
        _ => 0,
    };

    let window = Window {
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
    if window.end() > bar_len {
        return Err(CapabilityError::Outside {
            kind,
            window,
            bar_len,
        });
    }
    if offset & kind.alignment_mask() != 0 {
        return Err(CapabilityError::Misaligned { kind, offset });
    }
    if multiplier == 1 || (multiplier != 0 && !multiplier.is_power_of_two()) {
        return Err(CapabilityError::Multiplier(multiplier));
    }
    Ok(Notify { window, multiplier })
}

/// Finds the structures of a function.
///
/// `config` is a snapshot of the first bytes of its PCI configuration space, up to 256; `bars` are
/// its memory BARs, `None` standing for one that is absent or consists of I/O ports.
pub fn parse(config: &[u8], bars: &[Option<Bar>; 6]) -> Result<Layout, CapabilityError> {
    let mut common = Slot::new(Kind::Common);
    let mut notify = Slot::new(Kind::Notify);
    let mut isr = Slot::new(Kind::Isr);
    let mut device = Slot::new(Kind::Device);

    let status = byte(config, STATUS).ok_or(CapabilityError::NoList)?;
    if status & 0x10 == 0 {
        return Err(CapabilityError::NoList);
    }
    let mut next = byte(config, LIST).ok_or(CapabilityError::NoList)?;
    let mut left = MAX_CAPABILITIES;
    loop {
        // The two low bits are reserved and must be masked.
        let at = next & !3;
        if at == 0 {
            break;
        }
        if at < 0x40 {
            return Err(CapabilityError::Pointer(at));
        }
        left = left.checked_sub(1).ok_or(CapabilityError::Loop)?;
        let header = dword(config, usize::from(at), 0).ok_or(CapabilityError::Pointer(at))?;
        let [id, link, _, cfg_type] = header.to_le_bytes();
        next = link;
        if id != VENDOR_SPECIFIC {
            continue;
        }
        match Kind::from_cfg_type(cfg_type) {
            Some(Kind::Common) => common.offer(config, at, bars),
            Some(Kind::Notify) => notify.offer(config, at, bars),
            Some(Kind::Isr) => isr.offer(config, at, bars),
            Some(Kind::Device) => device.offer(config, at, bars),
            None => {}
        }
    }

    let layout = Layout {
        common: common.found?.window,
        notify: notify.found?,
        isr: isr.optional()?,
        device: device.optional()?,
    };
    layout.check_overlap()?;
    Ok(layout)
}
