// SPDX-License-Identifier: GPL-2.0

//! The PCI configuration space of the function.
//!
//! What the emulator keeps for itself is not what is here: the addresses in the BARs, and the links
//! of the capability list. So a list that bites its tail is nothing that a model can show, and
//! whatever the shape, each capability has its place.

use crate::layout;
use crate::shape::{CapabilityFault, Shape};

/// Length of the configuration space in bytes.
pub const LEN: usize = 4096;

/// Command register.
const COMMAND: usize = 0x04;
/// Memory can be reached.
const COMMAND_MEMORY: u8 = 1 << 1;
/// The function may reach memory.
const COMMAND_MASTER: u8 = 1 << 2;
/// PCI Express capability: the first of the list.
const EXPRESS: usize = 0x40;
/// Its device control register.
const DEVICE_CONTROL: usize = EXPRESS + 8;
/// The bit in its high byte that resets the function.
const FLR: u8 = 1 << 7;
/// MSI-X capability.
const MSIX: usize = 0x7c;
/// The capabilities of virtio.
const VIRTIO: usize = 0x88;

/// Types of virtio's capabilities.
mod kind {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    /// For the vendor: nothing to a driver that does not know it.
    pub const VENDOR: u8 = 9;
}

/// Which of virtio's capabilities is that of the notifications.
const NOTIFY_INDEX: usize = 1;

/// One capability of virtio.
struct Capability {
    kind: u8,
    /// Its own length, as it says.
    len: u8,
    bar: u8,
    offset: u32,
    length: u32,
}

/// The configuration space.
pub struct PciConfig {
    bytes: Vec<u8>,
    /// The bits that a write changes.
    writable: Vec<u8>,
    /// What it is after a reset.
    fresh: Vec<u8>,
}

impl PciConfig {
    /// That of a function of this shape.
    pub fn new(shape: &Shape) -> Self {
        let mut config = Self {
            bytes: vec![0; LEN],
            writable: vec![0; LEN],
            fresh: Vec::new(),
        };
        config.header();
        config.express();
        config.msix(shape);
        config.virtio(shape);
        config.fresh = config.bytes.clone();
        config
    }

    fn header(&mut self) {
        self.put(0x00, &0x1af4_u16.to_le_bytes());
        self.put(0x02, &0x1041_u16.to_le_bytes());
        // There is a capability list.
        self.put(0x06, &[0x10]);
        // Revision, and the class of an Ethernet controller.
        self.put(0x08, &[1, 0, 0, 2]);
        self.put(0x2c, &0x1af4_u16.to_le_bytes());
        self.put(0x2e, &0x1100_u16.to_le_bytes());
        self.put(0x34, &[EXPRESS as u8]);
        self.allow(COMMAND, &[0x46, 0x05]);
        self.allow(0x0c, &[0xff]);
        self.allow(0x3c, &[0xff]);
    }

    /// An endpoint with one lane, which can be reset.
    fn express(&mut self) {
        self.put(EXPRESS, &[0x10, MSIX as u8]);
        self.put(EXPRESS + 2, &2_u16.to_le_bytes());
        // Role-based error reporting, FLR.
        self.put(EXPRESS + 4, &((1_u32 << 15) | (1 << 28)).to_le_bytes());
        self.allow(DEVICE_CONTROL, &[0xff, 0x7f]);
        self.put(EXPRESS + 12, &0x11_u32.to_le_bytes());
        self.allow(EXPRESS + 16, &[0xcb, 0x00]);
        self.put(EXPRESS + 18, &0x11_u16.to_le_bytes());
        self.allow(EXPRESS + 40, &[0x1f, 0x00]);
        self.put(EXPRESS + 44, &0x2_u32.to_le_bytes());
        self.put(EXPRESS + 48, &[1]);
    }

    fn msix(&mut self, shape: &Shape) {
        self.put(MSIX, &[0x11, VIRTIO as u8]);
        self.put(MSIX + 2, &(shape.vectors() - 1).to_le_bytes());
        self.allow(MSIX + 3, &[0xc0]);
        let bar = u32::from(layout::VECTORS_BAR);
        self.put(MSIX + 4, &bar.to_le_bytes());
        self.put(MSIX + 8, &(layout::PENDING | bar).to_le_bytes());
    }

    fn virtio(&mut self, shape: &Shape) {
        let capabilities = capabilities(shape);
        let multiplier = match shape.capabilities {
            Some(CapabilityFault::Multiplier) => 3,
            _ => layout::doorbell_stride(shape),
        };
        let mut at = VIRTIO;
        let count = capabilities.len();
        for (index, capability) in capabilities.into_iter().enumerate() {
            // Whatever it is: it has its place.
            let room = if index == NOTIFY_INDEX { 20 } else { 16 };
            let next = if index + 1 < count { at + room } else { 0 };
            self.put(at, &[9, next as u8, capability.len, capability.kind]);
            self.put(at + 4, &[capability.bar]);
            self.put(at + 8, &capability.offset.to_le_bytes());
            self.put(at + 12, &capability.length.to_le_bytes());
            if index == NOTIFY_INDEX {
                self.put(at + 16, &multiplier.to_le_bytes());
            }
            at += room;
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(target) = self.bytes.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        if let Some(target) = self.writable.get_mut(at..at + bits.len()) {
            target.copy_from_slice(bits);
        }
    }

    /// Copies from it; what lies behind its end is 0.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        layout::read(&self.bytes, offset, data);
    }

    /// Writes to it. Returns whether the function is to be reset.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let mut reset = false;
        let Ok(start) = usize::try_from(offset) else {
            return false;
        };
        for (at, value) in (start..LEN).zip(data) {
            reset |= at == DEVICE_CONTROL + 1 && value & FLR != 0;
            if let (Some(byte), Some(bits)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = (*byte & !bits) | (value & bits);
            }
        }
        reset
    }

    /// Makes it what it was at first.
    pub fn reset(&mut self) {
        self.bytes.clone_from(&self.fresh);
    }

    fn command(&self) -> u8 {
        self.bytes.get(COMMAND).copied().unwrap_or(0)
    }

    /// Whether its BARs answer.
    pub fn has_memory(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0
    }

    /// Whether it may reach memory.
    pub fn is_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }
}

/// The capabilities of virtio, with what is wrong with them.
fn capabilities(shape: &Shape) -> [Capability; 4] {
    let entry = |kind, offset, length| Capability {
        kind,
        len: if kind == kind::NOTIFY { 20 } else { 16 },
        bar: layout::REGISTERS_BAR,
        offset,
        length,
    };
    let mut common = entry(kind::COMMON, layout::COMMON, layout::COMMON_LEN);
    let mut notify = entry(kind::NOTIFY, layout::NOTIFY, layout::doorbells_len(shape));
    let mut device = entry(kind::DEVICE, layout::DEVICE, shape.config_len);
    let isr = entry(kind::ISR, layout::ISR, 1);
    match shape.capabilities {
        Some(CapabilityFault::OutsideBar) => device.offset = layout::REGISTERS_LEN - 4,
        Some(CapabilityFault::Wrapping) => notify.offset = u32::MAX - 1,
        Some(CapabilityFault::Overlap) => device.offset = layout::COMMON + 0x20,
        Some(CapabilityFault::OnVectors) => {
            notify.bar = layout::VECTORS_BAR;
            notify.offset = 0;
            notify.length = 0x20;
        }
        Some(CapabilityFault::Misaligned) => common.offset += 2,
        Some(CapabilityFault::Short) => common.length = 0x20,
        Some(CapabilityFault::Truncated) => notify.len = 16,
        Some(CapabilityFault::NoBar) => common.bar = layout::NO_BAR,
        Some(CapabilityFault::MissingCommon) => common.kind = kind::VENDOR,
        Some(CapabilityFault::MissingNotify) => notify.kind = kind::VENDOR,
        Some(CapabilityFault::Multiplier | CapabilityFault::Doorbells) | None => {}
    }
    [common, notify, isr, device]
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use virtio::capability::{self, Bar, CapabilityError, Kind, Layout};

    use super::*;
    use crate::shape::tests::shape;

    fn parsed(options: &str) -> Result<Layout, CapabilityError> {
        let shape = shape(options);
        let mut bytes = [0; 256];
        PciConfig::new(&shape).read(0, &mut bytes);
        let mut bars = [None; 6];
        for (bar, len) in [
            (layout::REGISTERS_BAR, layout::REGISTERS_LEN),
            (layout::VECTORS_BAR, layout::VECTORS_LEN),
        ] {
            bars[usize::from(bar)] = Some(Bar { len: len.into() });
        }
        capability::parse(&bytes, &bars)
    }

    #[test]
    fn a_driver_finds_what_is_there() {
        let layout = parsed("").unwrap();
        assert_eq!(layout.common().offset(), layout::COMMON);
        assert_eq!(layout.notify().window().offset(), layout::NOTIFY);
        assert_eq!(layout.device().unwrap().length(), 24);
        assert!(parsed("--queue-pairs 1024 --config-len 4096").is_ok());
    }

    #[test]
    fn every_fault_is_what_it_is_called() {
        for fault in CapabilityFault::value_variants() {
            let name = fault.to_possible_value().unwrap();
            let found = parsed(&format!("--capabilities {}", name.get_name()));
            let right = match fault {
                CapabilityFault::OutsideBar => matches!(
                    found,
                    Err(CapabilityError::Outside {
                        kind: Kind::Device,
                        ..
                    })
                ),
                CapabilityFault::Wrapping => found.is_err(),
                CapabilityFault::Overlap | CapabilityFault::OnVectors => {
                    matches!(found, Err(CapabilityError::Overlap(..)))
                }
                CapabilityFault::Misaligned => {
                    matches!(found, Err(CapabilityError::Misaligned { .. }))
                }
                CapabilityFault::MissingCommon => {
                    found == Err(CapabilityError::Missing(Kind::Common))
                }
                CapabilityFault::MissingNotify => {
                    found == Err(CapabilityError::Missing(Kind::Notify))
                }
                CapabilityFault::Short => matches!(
                    found,
                    Err(CapabilityError::Short {
                        kind: Kind::Common,
                        ..
                    })
                ),
                CapabilityFault::Truncated => matches!(
                    found,
                    Err(CapabilityError::Truncated {
                        kind: Kind::Notify,
                        ..
                    })
                ),
                CapabilityFault::NoBar => matches!(
                    found,
                    Err(CapabilityError::NoBar {
                        kind: Kind::Common,
                        ..
                    })
                ),
                CapabilityFault::Multiplier => found == Err(CapabilityError::Multiplier(3)),
                CapabilityFault::Doorbells => found.is_ok(),
            };
            assert!(right, "{fault:?}: {found:?}");
        }
    }

    #[test]
    fn each_capability_has_its_place() {
        let faults = CapabilityFault::value_variants().iter().map(|fault| {
            let name = fault.to_possible_value().unwrap();
            format!("--capabilities {}", name.get_name())
        });
        for options in faults.chain([String::new()]) {
            let config = PciConfig::new(&shape(&options));
            let mut places = Vec::new();
            let mut at = usize::from(config.bytes[0x34]);
            while at != 0 {
                places.push(at);
                at = usize::from(config.bytes[at + 1]);
            }
            assert_eq!(places, [0x40, 0x7c, 0x88, 0x98, 0xac, 0xbc], "{options}");
        }
    }

    #[test]
    fn a_reset_undoes_writes() {
        let mut config = PciConfig::new(&shape(""));
        assert!(!config.is_master());
        assert!(!config.write(4, &[6, 0]));
        assert!(config.is_master() && config.has_memory());
        assert!(!config.write(0, &[0, 0]));
        let mut id = [0; 2];
        config.read(0, &mut id);
        assert_eq!(id, [0xf4, 0x1a], "it is not writable");
        assert!(config.write(DEVICE_CONTROL as u64, &[0, 0x80]));
        config.reset();
        assert!(!config.is_master());
    }
}
