// SPDX-License-Identifier: GPL-2.0

//! The common configuration: what is written is kept, and what follows from it is for the device.

use crate::layout::{self, COMMON_LEN};

/// Offsets (virtio 1.3, 4.1.4.3).
pub mod at {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: u64 = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_VECTOR: u64 = 0x10;
    pub const NUM_QUEUES: u64 = 0x12;
    pub const STATUS: u64 = 0x14;
    pub const GENERATION: u64 = 0x15;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub const QUEUE_DESC: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
    pub const QUEUE_RESET: u64 = 0x3a;
}

/// A vector that is none.
pub const NO_VECTOR: u16 = 0xffff;

/// The registers of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRegisters {
    /// Entries.
    pub size: u16,
    /// Its vector.
    pub vector: u16,
    /// It may be worked on.
    pub enabled: bool,
    /// Its reset has not come to an end.
    pub resetting: bool,
    /// Descriptors.
    pub desc: u64,
    /// What the driver writes.
    pub driver: u64,
    /// What the device writes.
    pub device: u64,
}

impl QueueRegisters {
    fn new(size: u16) -> Self {
        Self {
            size,
            vector: NO_VECTOR,
            enabled: false,
            resetting: false,
            desc: 0,
            driver: 0,
            device: 0,
        }
    }
}

/// A write that is more than a value to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// To the status.
    Status(u8),
    /// A queue is to be enabled.
    Enable(u16),
    /// A queue is to be reset.
    Reset(u16),
    /// A vector for configuration changes.
    ConfigVector(u16),
    /// A vector for a queue.
    QueueVector(u16, u16),
}

/// What does not change.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Features that are offered.
    pub features: u64,
    /// Queues that it says there are.
    pub num_queues: u16,
    /// Most entries that it says a queue has.
    pub queue_size: u16,
    /// The queue that has none.
    pub no_queue: Option<u16>,
    /// The doorbells are not where they should be.
    pub stray_doorbells: bool,
}

impl Fixed {
    /// A queue as it is at first.
    fn queue(&self, index: u16) -> QueueRegisters {
        let size = if self.no_queue == Some(index) {
            0
        } else {
            self.queue_size
        };
        QueueRegisters::new(size)
    }
}

/// The registers.
pub struct Registers {
    fixed: Fixed,
    device_feature_select: u32,
    driver_feature_select: u32,
    /// Features that the driver has accepted.
    pub driver_features: u64,
    /// Vector for configuration changes.
    pub config_vector: u16,
    /// Status.
    pub status: u8,
    /// Changes with the device configuration.
    pub generation: u8,
    selected: u16,
    /// The queues.
    pub queues: Vec<QueueRegisters>,
}

impl Registers {
    /// Those of a device with `queues` queues.
    pub fn new(fixed: Fixed, queues: u16) -> Self {
        Self {
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            status: 0,
            generation: 0,
            selected: 0,
            queues: (0..queues).map(|index| fixed.queue(index)).collect(),
            fixed,
        }
    }

    /// Makes them what they were at first, but for the generation.
    pub fn reset(&mut self) {
        let queues = u16::try_from(self.queues.len()).unwrap_or(u16::MAX);
        let generation = self.generation;
        *self = Self::new(self.fixed.clone(), queues);
        self.generation = generation;
    }

    /// Makes a queue what it was at first.
    pub fn reset_queue(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            *queue = self.fixed.queue(index);
        }
    }

    fn queue(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::from(self.selected))
    }

    /// Copies from them, with the status that is shown.
    pub fn read(&self, offset: u64, data: &mut [u8], status: u8) {
        layout::read(&self.image(status), offset, data);
    }

    fn image(&self, status: u8) -> Vec<u8> {
        let mut image = vec![0; COMMON_LEN as usize];
        let mut put = |at: u64, bytes: &[u8]| {
            for (byte, value) in image.iter_mut().skip(at as usize).zip(bytes) {
                *byte = *value;
            }
        };
        put(
            at::DEVICE_FEATURE_SELECT,
            &self.device_feature_select.to_le_bytes(),
        );
        put(
            at::DEVICE_FEATURE,
            &half(self.fixed.features, self.device_feature_select),
        );
        put(
            at::DRIVER_FEATURE_SELECT,
            &self.driver_feature_select.to_le_bytes(),
        );
        put(
            at::DRIVER_FEATURE,
            &half(self.driver_features, self.driver_feature_select),
        );
        put(at::CONFIG_VECTOR, &self.config_vector.to_le_bytes());
        put(at::NUM_QUEUES, &self.fixed.num_queues.to_le_bytes());
        put(at::STATUS, &[status]);
        put(at::GENERATION, &[self.generation]);
        put(at::QUEUE_SELECT, &self.selected.to_le_bytes());
        if let Some(queue) = self.queue() {
            let notify_off = if self.fixed.stray_doorbells {
                0xffff
            } else {
                self.selected
            };
            put(at::QUEUE_SIZE, &queue.size.to_le_bytes());
            put(at::QUEUE_VECTOR, &queue.vector.to_le_bytes());
            put(at::QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            put(at::QUEUE_NOTIFY_OFF, &notify_off.to_le_bytes());
            put(at::QUEUE_DESC, &queue.desc.to_le_bytes());
            put(at::QUEUE_DRIVER, &queue.driver.to_le_bytes());
            put(at::QUEUE_DEVICE, &queue.device.to_le_bytes());
            put(at::QUEUE_RESET, &u16::from(queue.resetting).to_le_bytes());
        }
        image
    }

    /// Writes to them. Fields are written as a whole, or 64-bit ones in halves.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Event> {
        let mut bytes = [0; 8];
        for (byte, value) in bytes.iter_mut().zip(data) {
            *byte = *value;
        }
        let [b0, b1, b2, b3, ..] = bytes;
        let (short, word) = (
            u16::from_le_bytes([b0, b1]),
            u32::from_le_bytes([b0, b1, b2, b3]),
        );
        match offset {
            at::DEVICE_FEATURE_SELECT => self.device_feature_select = word,
            at::DRIVER_FEATURE_SELECT => self.driver_feature_select = word,
            at::DRIVER_FEATURE => {
                let shift = match self.driver_feature_select {
                    0 => 0,
                    1 => 32,
                    _ => return None,
                };
                let kept = self.driver_features & !(0xffff_ffff << shift);
                self.driver_features = kept | (u64::from(word) << shift);
            }
            at::CONFIG_VECTOR => return Some(Event::ConfigVector(short)),
            at::STATUS => return Some(Event::Status(b0)),
            at::QUEUE_SELECT => self.selected = short,
            at::QUEUE_VECTOR => return Some(Event::QueueVector(self.selected, short)),
            at::QUEUE_ENABLE if short == 1 => return Some(Event::Enable(self.selected)),
            at::QUEUE_RESET if short == 1 => return Some(Event::Reset(self.selected)),
            _ => self.write_queue(offset, data.len(), u64::from_le_bytes(bytes)),
        }
        None
    }

    fn write_queue(&mut self, offset: u64, len: usize, value: u64) {
        let Some(queue) = self.queues.get_mut(usize::from(self.selected)) else {
            return;
        };
        let field = match offset & !7 {
            _ if offset == at::QUEUE_SIZE => {
                queue.size = value as u16;
                return;
            }
            at::QUEUE_DESC => &mut queue.desc,
            at::QUEUE_DRIVER => &mut queue.driver,
            at::QUEUE_DEVICE => &mut queue.device,
            _ => return,
        };
        *field = match (offset & 7, len) {
            (0, 8) => value,
            (0, _) => (*field & !0xffff_ffff) | (value & 0xffff_ffff),
            _ => (*field & 0xffff_ffff) | (value << 32),
        };
    }
}

/// One half of a set of features.
fn half(features: u64, select: u32) -> [u8; 4] {
    let shift = select.checked_mul(32).unwrap_or(64);
    (features.checked_shr(shift).unwrap_or(0) as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers() -> Registers {
        let fixed = Fixed {
            features: (1 << 33) | (1 << 5),
            num_queues: 3,
            queue_size: 256,
            no_queue: None,
            stray_doorbells: false,
        };
        Registers::new(fixed, 3)
    }

    fn read(registers: &Registers, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        registers.read(offset, &mut data[..len], registers.status);
        u64::from_le_bytes(data)
    }

    #[test]
    fn features_come_in_halves() {
        let mut registers = registers();
        assert_eq!(read(&registers, at::DEVICE_FEATURE, 4), 1 << 5);
        registers.write(at::DEVICE_FEATURE_SELECT, &1_u32.to_le_bytes());
        assert_eq!(read(&registers, at::DEVICE_FEATURE, 4), 2);
        registers.write(at::DEVICE_FEATURE_SELECT, &2_u32.to_le_bytes());
        assert_eq!(read(&registers, at::DEVICE_FEATURE, 4), 0);
        registers.write(at::DRIVER_FEATURE_SELECT, &1_u32.to_le_bytes());
        registers.write(at::DRIVER_FEATURE, &3_u32.to_le_bytes());
        assert_eq!(registers.driver_features, 3 << 32);
    }

    #[test]
    fn queues_are_selected() {
        let mut registers = registers();
        registers.write(at::QUEUE_SELECT, &2_u16.to_le_bytes());
        registers.write(at::QUEUE_SIZE, &8_u16.to_le_bytes());
        registers.write(at::QUEUE_DESC, &0x1000_u32.to_le_bytes());
        registers.write(at::QUEUE_DESC + 4, &1_u32.to_le_bytes());
        assert_eq!(registers.queues[2].desc, 0x1_0000_1000);
        assert_eq!(read(&registers, at::QUEUE_SIZE, 2), 8);
        assert_eq!(
            registers.write(at::QUEUE_ENABLE, &1_u16.to_le_bytes()),
            Some(Event::Enable(2))
        );
        registers.write(at::QUEUE_SELECT, &3_u16.to_le_bytes());
        assert_eq!(read(&registers, at::QUEUE_SIZE, 2), 0);
        registers.reset_queue(2);
        assert_eq!(registers.queues[2].size, 256);
    }

    #[test]
    fn the_status_is_for_the_device() {
        let mut registers = registers();
        assert_eq!(registers.write(at::STATUS, &[3]), Some(Event::Status(3)));
        assert_eq!(registers.status, 0);
        registers.write(at::NUM_QUEUES, &[9, 9]);
        assert_eq!(read(&registers, at::NUM_QUEUES, 2), 3);
    }
}
