// SPDX-License-Identifier: GPL-2.0

//! The structures of a virtio PCI function, found through its capability list (virtio 1.3, 4.1.4).
//!
//! The list lies in the configuration space of the function and is whatever the function says it
//! is: offsets that leave the BAR, structures on top of each other, lists that bite their tail. What
//! leaves [`parse`] is safe to map and to access.

use core::fmt;

use crate::layout::Msix;

pub use crate::layout::Bar;
pub use crate::layout::Kind;
pub use crate::layout::Layout;
pub use crate::layout::Notify;
pub use crate::layout::Window;

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
        /// Number of the BAR.
        bar: u8,
        /// Offset in the BAR of the byte after the structure.
        end: u64,
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
                bar,
                end,
                bar_len,
            } => write!(
                f,
                "{kind} window ends at {end:#x} outside BAR {bar} of {bar_len:#x} bytes"
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

/// `PCI_STATUS`, low byte.
const STATUS: usize = 0x06;
/// `PCI_STATUS_CAP_LIST`: there is a capability list.
const STATUS_CAP_LIST: u8 = 0x10;
/// Length of the header, in which no capability can be.
const HEADER_LEN: u8 = 0x40;
/// `PCI_CAPABILITY_LIST`.
const LIST: usize = 0x34;
/// Capability ID of vendor-specific capabilities.
const VENDOR_SPECIFIC: u8 = 0x09;
/// Capability ID of MSI-X.
const MSIX: u8 = 0x11;
/// Bytes of an MSI-X capability.
const MSIX_LEN: u8 = 12;
/// Bytes of an entry of the MSI-X table.
const MSIX_ENTRY_LEN: u32 = 16;
/// As many capabilities of 4 bytes as fit behind the header.
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

/// A vendor-specific capability of `kind` at offset `at` of the configuration space `config`.
#[derive(Copy, Clone)]
struct Capability<'a> {
    config: &'a [u8],
    kind: Kind,
    at: u8,
}

impl Capability<'_> {
    /// The error of a capability that says it has `len` bytes.
    const fn truncated(&self, len: u8) -> CapabilityError {
        CapabilityError::Truncated {
            kind: self.kind,
            at: self.at,
            len,
        }
    }

    /// The fields: length of the capability, BAR, offset and length of the structure.
    fn fields(&self) -> Result<(u8, u8, u32, u32), CapabilityError> {
        let at = usize::from(self.at);
        let header = dword(self.config, at, 0).ok_or(self.truncated(0))?;
        let [_, _, len, _] = header.to_le_bytes();
        let end = at.saturating_add(usize::from(len));
        if len < self.kind.capability_len() || end > self.config.len() {
            return Err(self.truncated(len));
        }
        let place = dword(self.config, at, 4).ok_or(self.truncated(len))?;
        let [bar, ..] = place.to_le_bytes();
        let offset = dword(self.config, at, 8).ok_or(self.truncated(len))?;
        let length = dword(self.config, at, 12).ok_or(self.truncated(len))?;
        Ok((len, bar, offset, length))
    }

    /// The window of any structure.
    fn window(&self, bars: &[Option<Bar>; 6]) -> Result<Window, CapabilityError> {
        let (_, bar, offset, length) = self.fields()?;
        Window::new(self.kind, bar, offset, length, bars)
    }

    /// The notification structure.
    fn notify(&self, bars: &[Option<Bar>; 6]) -> Result<Notify, CapabilityError> {
        let (len, bar, offset, length) = self.fields()?;
        let at = usize::from(self.at);
        let multiplier = dword(self.config, at, 16).ok_or(self.truncated(len))?;
        Notify::new(bar, offset, length, multiplier, bars)
    }
}

/// The MSI-X table and its pending bits, as the capability at offset `at` of the configuration space
/// says.
///
/// The PCI core writes to the table wherever that is, behind the end of a BAR as well: it only looks
/// whether there is one.
fn msix(config: &[u8], at: u8, bars: &[Option<Bar>; 6]) -> Result<Msix, CapabilityError> {
    let field = |kind, offset| {
        dword(config, usize::from(at), offset).ok_or(CapabilityError::Truncated {
            kind,
            at,
            len: MSIX_LEN,
        })
    };
    let place = |kind, offset, length| {
        // The BAR is in the three low bits of the offset.
        let offset_and_bar = field(kind, offset)?;
        let [low, ..] = offset_and_bar.to_le_bytes();
        Window::new(kind, low & 7, offset_and_bar & !7, length, bars)
    };
    let [_, _, low, high] = field(Kind::VectorTable, 0)?.to_le_bytes();
    // The size of the table is stored less one, in 11 bits: nothing of this overflows.
    let entries = u32::from(u16::from_le_bytes([low, high]) & 0x7ff).wrapping_add(1);
    Ok(Msix {
        table: place(Kind::VectorTable, 4, entries.wrapping_mul(MSIX_ENTRY_LEN))?,
        // A bit for each vector, in words of 64.
        // Nobody writes to these, and there are functions that say a wrong place.
        pending: place(Kind::PendingBits, 8, entries.div_ceil(64).wrapping_mul(8)).ok(),
    })
}

/// Keeps in `slot` the first good structure of a kind, or else the first error worth telling.
///
/// "The driver SHOULD use the first instance of each virtio structure type that it can support"
/// (virtio 1.3, 4.1.4): a function may offer one in I/O ports first and the same in memory next.
fn keep<T>(slot: &mut Option<Result<T, CapabilityError>>, found: Result<T, CapabilityError>) {
    match slot {
        Some(Ok(_)) => {}
        Some(Err(_)) if found.is_err() => {}
        _ => *slot = Some(found),
    }
}

/// The structure that a function must have.
fn required<T>(slot: Option<Result<T, CapabilityError>>, kind: Kind) -> Result<T, CapabilityError> {
    slot.unwrap_or(Err(CapabilityError::Missing(kind)))
}

/// The structure that a function may go without. A window of no bytes is no window, and an interrupt
/// status in I/O ports is for legacy drivers.
fn optional(
    slot: Option<Result<Window, CapabilityError>>,
) -> Result<Option<Window>, CapabilityError> {
    match slot {
        Some(Err(CapabilityError::Short { length: 0, .. })) => Ok(None),
        Some(Err(CapabilityError::NoBar {
            kind: Kind::Isr, ..
        })) => Ok(None),
        slot => slot.transpose(),
    }
}

/// Finds the structures of a function.
///
/// `config` is a snapshot of the first bytes of its PCI configuration space, up to 256; `bars` are
/// its memory BARs, `None` standing for one that is absent or consists of I/O ports.
pub fn parse(config: &[u8], bars: &[Option<Bar>; 6]) -> Result<Layout, CapabilityError> {
    let status = byte(config, STATUS).ok_or(CapabilityError::NoList)?;
    if status & STATUS_CAP_LIST == 0 {
        return Err(CapabilityError::NoList);
    }
    let mut next = byte(config, LIST).ok_or(CapabilityError::NoList)?;

    let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
    let mut vectors = None;
    let mut left = MAX_CAPABILITIES;
    loop {
        // The two low bits are reserved and must be masked.
        let at = next & !3;
        if at == 0 {
            break;
        }
        if at < HEADER_LEN {
            return Err(CapabilityError::Pointer(at));
        }
        left = left.checked_sub(1).ok_or(CapabilityError::Loop)?;
        let header = dword(config, usize::from(at), 0).ok_or(CapabilityError::Pointer(at))?;
        let [id, link, _, cfg_type] = header.to_le_bytes();
        next = link;
        // The first one is that of the PCI core, too.
        if id == MSIX && vectors.is_none() {
            vectors = Some(msix(config, at, bars)?);
        }
        if id != VENDOR_SPECIFIC {
            continue;
        }
        let Some(kind) = Kind::from_cfg_type(cfg_type) else {
            continue;
        };
        let capability = Capability { config, kind, at };
        match kind {
            Kind::Common => keep(&mut common, capability.window(bars)),
            Kind::Notify => keep(&mut notify, capability.notify(bars)),
            Kind::Isr => keep(&mut isr, capability.window(bars)),
            Kind::Device => keep(&mut device, capability.window(bars)),
            Kind::VectorTable | Kind::PendingBits => {}
        }
    }

    Layout::new(
        required(common, Kind::Common)?,
        required(notify, Kind::Notify)?,
        optional(isr)?,
        optional(device)?,
        vectors,
    )
}
