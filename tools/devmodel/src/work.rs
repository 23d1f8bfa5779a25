// SPDX-License-Identifier: GPL-2.0

//! What the device does with its queues: what is sent comes back, and commands are answered.

use crate::device::Device;
use crate::misbehaviour::Misbehaviour;
use crate::ring::Ring;
use crate::{feature, net, status};

/// Chains that are worked on in one turn, so that no driver keeps the model busy.
const TURN: usize = 4096;

impl Device {
    /// Whether it works on its queues.
    fn works(&self) -> bool {
        status::works(self.registers.status) && self.is_master()
    }

    /// Whether it tries to reach memory.
    pub(crate) fn is_master(&self) -> bool {
        self.pci.is_master() || self.behaviour.does(Misbehaviour::IgnoreMaster)
    }

    /// The number of the control queue.
    fn control_queue(&self) -> u16 {
        let several = (1 << feature::MQ) | (1 << feature::RSS);
        if self.registers.driver_features & several != 0 {
            2 * self.shape.queue_pairs
        } else {
            2
        }
    }

    /// A queue may have something.
    pub(crate) fn kick(&mut self, queue: u16) {
        if !self.works() {
            return;
        }
        if queue == self.control_queue() {
            self.obey(queue);
        } else {
            self.echo(queue / 2);
        }
    }

    /// Every queue may have something.
    pub(crate) fn work_on_all(&mut self) {
        for queue in 0..self.shape.queues() {
            if queue % 2 == 1 || queue == self.control_queue() {
                self.kick(queue);
            }
        }
    }

    fn take(&mut self, queue: u16) -> Option<Ring> {
        self.rings.get_mut(usize::from(queue))?.take()
    }

    /// Puts a ring back that something was returned to, or not.
    fn put(&mut self, queue: u16, mut ring: Ring, returned: bool) {
        let vector = self.registers.queues.get(usize::from(queue));
        let wants = returned && ring.wants_interrupt(self.memory.reach());
        if let (true, Some(registers)) = (wants, vector) {
            if !self.behaviour.does(Misbehaviour::NoInterrupts) {
                self.interrupts.send(registers.vector);
            }
        }
        if let Some(place) = self.rings.get_mut(usize::from(queue)) {
            *place = Some(ring);
        }
    }

    /// Returns what was sent on a pair of queues.
    fn echo(&mut self, pair: u16) {
        let (receiver, sender) = (2 * pair, 2 * pair + 1);
        let Some(mut transmit) = self.take(sender) else {
            return;
        };
        let mut receive = self.take(receiver);
        let reach = self.memory.reach();
        let (mut sent, mut received) = (0, 0);
        loop {
            while sent < TURN {
                let Some(chain) = transmit.next(reach) else {
                    break;
                };
                if !self.keeps && self.behaviour.does(Misbehaviour::OutOfOrder) {
                    self.keeps = true;
                    continue;
                }
                let frame = net::returned(chain.gather(reach));
                let room = receive.as_mut().and_then(|receive| receive.next(reach));
                match (frame, room, &mut receive) {
                    (Some(frame), Some(room), Some(receive)) => {
                        let len = room.scatter(reach, &frame);
                        receive.complete(reach, &room, len, &self.behaviour);
                        received += 1;
                    }
                    (None, Some(room), Some(receive)) => receive.undo(&room),
                    _ => self.counts.lost += 1,
                }
                transmit.complete(reach, &chain, 0, &self.behaviour);
                sent += 1;
            }
            if sent >= TURN || !transmit.listen(reach) {
                break;
            }
        }
        self.unfinished |= sent >= TURN;
        self.counts.frames += received;
        if let Some(receive) = receive {
            self.put(receiver, receive, received > 0);
        }
        self.put(sender, transmit, sent > 0);
    }

    /// Carries out commands.
    fn obey(&mut self, queue: u16) {
        let all = self.behaviour.argument(Misbehaviour::IgnoreCommands);
        let left = all.unwrap_or(u64::MAX).saturating_sub(self.counts.commands);
        let most = usize::try_from(left).unwrap_or(TURN).min(TURN);
        if most == 0 {
            return;
        }
        let Some(mut ring) = self.take(queue) else {
            return;
        };
        let features = self.registers.driver_features;
        let reach = self.memory.reach();
        let queues = &self.registers.queues;
        let enabled = queues.iter().filter(|queue| queue.enabled).count();
        let mut done = 0;
        loop {
            while done < most {
                let Some(chain) = ring.next(reach) else {
                    break;
                };
                self.enabled_when_told.get_or_insert(enabled);
                let answer = self.net.command(features, &chain.gather(reach));
                let len = chain.scatter(reach, &answer);
                ring.complete(reach, &chain, len, &self.behaviour);
                done += 1;
            }
            if done >= most || !ring.listen(reach) {
                break;
            }
        }
        self.unfinished |= done >= TURN;
        self.counts.commands += done as u64;
        self.put(queue, ring, done > 0);
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::tests::memory;
    use crate::shape::tests::shape;

    const STATUS: u64 = 0x14;
    const RINGS: u64 = 0x1_0000;

    /// A live device: three queues of 8 entries, each with its rings in 16 KiB from [`RINGS`] on.
    fn live(options: &str) -> Device {
        let mut device = Device::new(shape(options));
        device.memory = memory(0, 0x4_0000);
        device.write_pci(4, &[6, 0]);
        let features = device.shape.features()
            & !((1 << feature::RING_EVENT_IDX) | (1 << feature::RING_PACKED));
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            device.write_registers(0x08, &select.to_le_bytes());
            device.write_registers(0x0c, &half.to_le_bytes());
        }
        device.write_registers(STATUS, &[11]);
        for queue in 0..3_u16 {
            device.write_registers(0x16, &queue.to_le_bytes());
            device.write_registers(0x18, &8_u16.to_le_bytes());
            for (part, register) in (0..).zip([0x20, 0x28, 0x30]) {
                let at = base(queue) + 0x1000 * part;
                device.write_registers(register, &at.to_le_bytes());
            }
            device.write_registers(0x1c, &1_u16.to_le_bytes());
        }
        device.write_registers(STATUS, &[15]);
        device
    }

    fn base(queue: u16) -> u64 {
        RINGS + 0x4000 * u64::from(queue)
    }

    /// Offers one buffer as the `turn`th of a queue, and kicks.
    fn offer(device: &mut Device, queue: u16, turn: u16, bytes: &[u8], writable: bool) {
        let reach = device.memory.reach();
        let buffer = base(queue) + 0x3000;
        reach.write_slice(bytes, GuestAddress(buffer)).unwrap();
        let flags = if writable { 2 } else { 0 };
        reach.write_obj(buffer, GuestAddress(base(queue))).unwrap();
        reach
            .write_obj(bytes.len() as u32, GuestAddress(base(queue) + 8))
            .unwrap();
        reach
            .write_obj([flags, 0_u16], GuestAddress(base(queue) + 12))
            .unwrap();
        let entry = base(queue) + 0x1004 + 2 * u64::from(turn % 8);
        reach.write_obj(0_u16, GuestAddress(entry)).unwrap();
        reach
            .write_obj(turn + 1, GuestAddress(base(queue) + 0x1002))
            .unwrap();
        device.write_registers(0x1_0000 + 4096 * u64::from(queue), &queue.to_le_bytes());
    }

    fn used(device: &Device, queue: u16) -> u16 {
        let reach = device.memory.reach();
        reach.read_obj(GuestAddress(base(queue) + 0x2002)).unwrap()
    }

    fn status(device: &mut Device) -> u8 {
        let mut byte = [0];
        device.read_registers(STATUS, &mut byte);
        byte[0]
    }

    fn generation(device: &mut Device) -> u8 {
        let mut byte = [0];
        device.read_registers(0x15, &mut byte);
        byte[0]
    }

    #[test]
    fn a_restless_configuration_is_another_one_each_time() {
        let mut device = live("");
        device.misbehave(&["restless-configuration"]).unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let before = generation(&mut device);
            let mut byte = [0];
            device.read_registers(0x1006, &mut byte);
            assert_eq!(generation(&mut device), before, "it can be read");
            seen.push((before, byte[0]));
        }
        assert!(
            seen.windows(2)
                .all(|two| two[0].0 != two[1].0 && two[0].1 != two[1].1)
        );
    }

    fn send(device: &mut Device, turn: u16) {
        offer(device, 0, turn, &[0; 64], true);
        offer(device, 1, turn, &[7; 60], false);
    }

    #[test]
    fn what_is_sent_comes_back() {
        let mut device = live("");
        assert_eq!(status(&mut device), 15);
        send(&mut device, 0);
        assert_eq!((used(&device, 0), used(&device, 1)), (1, 1));
        let place = GuestAddress(base(0) + 0x3000 + 12);
        let mut frame = [0; 48];
        device.memory.reach().read_slice(&mut frame, place).unwrap();
        assert_eq!(frame, [7; 48]);
        offer(&mut device, 1, 1, &[7; 60], false);
        assert_eq!((device.counts.frames, device.counts.lost), (1, 1));
    }

    #[test]
    fn a_suspended_device_does_nothing() {
        let mut device = live("--suspend");
        device.write_registers(STATUS, &[31]);
        assert_eq!(status(&mut device), 27);
        send(&mut device, 0);
        assert_eq!(used(&device, 1), 0);
        device.write_registers(STATUS, &[31]);
        assert_eq!((status(&mut device), used(&device, 1)), (15, 1));
    }

    #[test]
    fn resets_come_late_or_never() {
        let mut device = live("");
        device.misbehave(&["never-reset"]).unwrap();
        device.write_registers(STATUS, &[0]);
        assert_eq!(status(&mut device), 15);
        device.write_pci(0x48, &[0, 0x80]);
        device.write_pci(4, &[6, 0]);
        assert_eq!((status(&mut device), device.counts.flrs), (0, 1));
        device.behave();
        let mut device = live("");
        device.misbehave(&["late-reset", "30"]).unwrap();
        device.write_registers(STATUS, &[0]);
        assert_eq!(status(&mut device), 15);
        std::thread::sleep(std::time::Duration::from_millis(40));
        assert_eq!(status(&mut device), 0);
    }

    #[test]
    fn resets_of_queues_come_late() {
        const SELECT: u64 = 0x16;
        const RESET: u64 = 0x3a;

        let mut device = live("");
        let resetting = |device: &mut Device| {
            let mut word = [0; 2];
            device.read_registers(RESET, &mut word);
            word[0]
        };
        device.misbehave(&["late-queue-reset", "30"]).unwrap();
        for queue in [0, 1] {
            device.write_registers(SELECT, &[queue, 0]);
            device.write_registers(RESET, &[1, 0]);
            assert_eq!(resetting(&mut device), 1);
        }
        std::thread::sleep(std::time::Duration::from_millis(40));
        assert_eq!(resetting(&mut device), 0);
        // What has begun is forgotten by a reset of all.
        device.write_registers(RESET, &[1, 0]);
        device.write_registers(STATUS, &[0]);
        assert_eq!(resetting(&mut device), 0);
    }

    #[test]
    fn a_function_that_is_gone_reads_as_ones() {
        let mut device = live("");
        device.misbehave(&["all-ones"]).unwrap();
        assert_eq!(status(&mut device), 0xff);
        device.write_pci(4, &[0, 0]);
        device.behave();
        assert_eq!(status(&mut device), 0xff, "its memory is not enabled");
        device.write_pci(4, &[6, 0]);
        assert_eq!(status(&mut device), 0);
    }

    #[test]
    fn a_master_alone_reaches_memory() {
        let mut device = live("");
        device.write_pci(4, &[2, 0]);
        send(&mut device, 0);
        assert_eq!(used(&device, 1), 0);
        device.misbehave(&["dma-outside"]).unwrap();
        assert_eq!(device.counts.outside_reached, 0);
        device.misbehave(&["ignore-master"]).unwrap();
        device.misbehave(&["dma-outside"]).unwrap();
        assert_eq!(
            (device.counts.outside_reached, device.counts.outside_refused),
            (3, 5)
        );
        assert_eq!(device.memory.refused(), 1);
        device.take_shape(shape(""));
        assert_eq!(device.memory.refused(), 0);
        assert!(
            device
                .memory
                .reach()
                .read_obj::<u8>(GuestAddress(0))
                .is_ok()
        );
    }

    #[test]
    fn commands_can_be_ignored() {
        let mut device = live("");
        device.misbehave(&["ignore-commands"]).unwrap();
        offer(&mut device, 2, 0, &[0, 0, 1], false);
        assert_eq!(used(&device, 2), 0);
        device.behave();
        assert_eq!((used(&device, 2), device.counts.commands), (1, 1));
        device.misbehave(&["ignore-commands", "2"]).unwrap();
        offer(&mut device, 2, 1, &[0, 0, 1], false);
        offer(&mut device, 2, 2, &[0, 0, 1], false);
        assert_eq!((used(&device, 2), device.counts.commands), (2, 2));
        device.behave();
        assert_eq!((used(&device, 2), device.counts.commands), (3, 3));
    }
}
