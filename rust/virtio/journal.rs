// SPDX-License-Identifier: GPL-2.0

//! What a driver made of a network device through its control queue, to make it so again.
//!
//! A device that was reset behind the back of its driver has lost what the control queue configured.
//! The journal is that configuration, not a list of commands: [`Journal::record`] notes what a
//! command changed once the device said [`OK`](crate::control::OK), and [`Journal::next`] makes
//! commands of it, in an order in which a device takes them. What no command changed is as the
//! device has it after a reset, and none is made for it.

use core::ops::DerefMut;
use core::ops::Range;

use crate::control::Coal;
use crate::control::Command;
use crate::control::Effect;
use crate::control::Opcode;
use crate::control::MAX_COMMAND;
use crate::control::MAX_VLANS;
use crate::features::Features;

/// The buffer: data of MAC_TABLE_SET, ...
const MAC_TABLE: Range<usize> = 0..MAX_COMMAND;
/// ... data of MQ_RSS_CONFIG, ...
const RSS: Range<usize> = MAC_TABLE.end..MAC_TABLE.end + MAX_COMMAND;
/// ... data of MQ_HASH_CONFIG: 13 bytes and the key, ...
const HASH: Range<usize> = RSS.end..RSS.end + 13 + 255;
/// ... a bit for each VLAN, ...
const VLANS: Range<usize> = HASH.end..HASH.end + 512;
/// ... and the coalescing parameters of each queue that has its own, to the end: a byte that is 1 if
/// it has, and the parameters.
const COAL: usize = VLANS.end;
const COAL_ENTRY: usize = 9;

/// The order in which commands are made: who is addressed before what else passes, how many queues
/// there are before what is set for each.
const BEFORE: [Opcode; 9] = [
    Opcode::MacAddrSet,
    Opcode::MacTableSet,
    Opcode::RxPromisc,
    Opcode::RxAllmulti,
    Opcode::RxAlluni,
    Opcode::RxNomulti,
    Opcode::RxNouni,
    Opcode::RxNobcast,
    Opcode::VlanAdd,
];
/// The commands of the MQ class come between, the one that was sent last at the end.
const MULTIQUEUE: [Opcode; 3] = [
    Opcode::MqVqPairsSet,
    Opcode::MqRssConfig,
    Opcode::MqHashConfig,
];
const AFTER: [Opcode; 4] = [
    Opcode::GuestOffloadsSet,
    Opcode::NotfCoalTxSet,
    Opcode::NotfCoalRxSet,
    Opcode::NotfCoalVqSet,
];

/// How many bytes the buffer of a [`Journal`] needs for a device with this many queue `pairs`.
#[must_use]
pub fn buffer_len(pairs: u16) -> usize {
    // At most 18 times 65535 more: never saturates.
    usize::from(pairs)
        .saturating_mul(2 * COAL_ENTRY)
        .saturating_add(COAL)
}

/// How far a replay is. The default is the start.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Which opcode.
    position: usize,
    /// Which VLAN or queue, where an opcode is used for many.
    item: usize,
}

/// The part of the configuration that is not in the buffer.
#[derive(Copy, Clone, Debug)]
struct State {
    mac: Option<[u8; 6]>,
    /// Bytes of [`MAC_TABLE`] in use.
    mac_table: Option<usize>,
    /// The modes, by command.
    rx: [Option<bool>; 6],
    vq_pairs: Option<u16>,
    /// Bytes of [`RSS`] in use.
    rss: Option<usize>,
    /// Bytes of [`HASH`] in use.
    hash: Option<usize>,
    /// The MQ class by age, the last one sent at the end.
    ///
    /// The specification says that the last command counts (virtio 1.3, 5.1.6.5.5), and leaves open
    /// what that is for matters which the last one does not mention: whether hashes are reported
    /// after VQ_PAIRS_SET, how many pairs there are after HASH_CONFIG. If the last of each is sent
    /// again, in the order in which they were sent, all readings lead to the same end.
    multiqueue: [Opcode; 3],
    offloads: Option<Features>,
    coal_tx: Option<Coal>,
    coal_rx: Option<Coal>,
}

impl State {
    const RESET: Self = Self {
        mac: None,
        mac_table: None,
        rx: [None; 6],
        vq_pairs: None,
        rss: None,
        hash: None,
        multiqueue: MULTIQUEUE,
        offloads: None,
        coal_tx: None,
        coal_rx: None,
    };
}

/// The configuration of a network device that its control queue made.
pub struct Journal<B> {
    buffer: B,
    state: State,
}

impl<B: DerefMut<Target = [u8]>> Journal<B> {
    /// The journal of a device after a reset, with `pairs` queue pairs; `None` if `buffer` is shorter
    /// than [`buffer_len`]. Commands must be parsed with no more pairs in their rules.
    pub fn new(buffer: B, pairs: u16) -> Option<Self> {
        if buffer.len() < buffer_len(pairs) {
            return None;
        }
        let mut journal = Self {
            buffer,
            state: State::RESET,
        };
        journal.forget();
        Some(journal)
    }

    /// Forgets everything: the driver reset the device.
    pub fn forget(&mut self) {
        self.state = State::RESET;
        self.buffer.fill(0);
    }

    /// Notes a command that the device has answered with [`OK`](crate::control::OK).
    pub fn record(&mut self, command: &Command<'_>) {
        let opcode = command.opcode();
        let data = command.data();
        let state = &mut self.state;
        let buffer = &mut *self.buffer;
        match command.effect() {
            Effect::Rx(on) => {
                let [_, mode] = opcode.code();
                if let Some(slot) = state.rx.get_mut(usize::from(mode)) {
                    *slot = Some(on);
                }
            }
            Effect::MacTable => state.mac_table = store(buffer, MAC_TABLE, data),
            Effect::MacAddr(mac) => state.mac = Some(mac),
            Effect::VlanAdd(id) => vlan(buffer, id, true),
            Effect::VlanDel(id) => vlan(buffer, id, false),
            Effect::VqPairs(pairs) => state.vq_pairs = Some(pairs),
            Effect::Rss { .. } => state.rss = store(buffer, RSS, data),
            Effect::Hash => state.hash = store(buffer, HASH, data),
            Effect::Offloads(offloads) => state.offloads = Some(offloads),
            Effect::CoalTx(coal) => {
                state.coal_tx = Some(coal);
                follow(buffer, 1);
            }
            Effect::CoalRx(coal) => {
                state.coal_rx = Some(coal);
                follow(buffer, 0);
            }
            Effect::CoalVqSet(index, coal) => {
                let own = [1].into_iter().chain(coal.to_le_bytes());
                if let Some(entry) = queues(buffer).nth(usize::from(index)) {
                    entry.iter_mut().zip(own).for_each(|(to, from)| *to = from);
                }
            }
            Effect::AnnounceAck | Effect::CoalVqGet(_) => {}
        }
        let [first, second, third] = state.multiqueue;
        if opcode == first {
            state.multiqueue = [second, third, first];
        } else if opcode == second {
            state.multiqueue = [first, third, second];
        }
    }

    /// Writes the next command of a replay to the start of `out`, which has [`MAX_COMMAND`] bytes, and
    /// returns its length in bytes; `None` at the end. Nothing may be recorded between the first call
    /// and the last.
    pub fn next(&self, cursor: &mut Cursor, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..MAX_COMMAND)?;
        loop {
            let mut order = BEFORE.iter().chain(&self.state.multiqueue).chain(&AFTER);
            let opcode = *order.nth(cursor.position)?;
            let mut writer = Writer { out, len: 0 };
            writer.put(&opcode.code());
            if let Some(item) = self.write(opcode, cursor.item, &mut writer) {
                cursor.item = item.saturating_add(1);
                return Some(writer.len);
            }
            cursor.position = cursor.position.saturating_add(1);
            cursor.item = 0;
        }
    }

    /// Writes the data of the first command with this opcode that is for item `from` or one behind,
    /// and returns which it is for; `None` if there is none.
    fn write(&self, opcode: Opcode, from: usize, out: &mut Writer<'_>) -> Option<usize> {
        let state = &self.state;
        let buffer = &*self.buffer;
        match opcode {
            Opcode::VlanAdd => {
                let start = u16::try_from(from).ok()?;
                let id = (start..MAX_VLANS).find(|id| has_vlan(buffer, *id))?;
                out.put(&id.to_le_bytes());
                return Some(usize::from(id));
            }
            Opcode::NotfCoalVqSet => {
                let entries = buffer.get(COAL..)?.chunks_exact(COAL_ENTRY);
                let (index, coal) = entries
                    .enumerate()
                    .skip(from)
                    .find_map(|(index, entry)| Some((index, entry.strip_prefix(&[1])?)))?;
                out.put(&u16::try_from(index).ok()?.to_le_bytes());
                out.put(&[0; 2]);
                out.put(coal);
                return Some(index);
            }
            // The others are not for many items.
            _ if from != 0 => return None,
            Opcode::MacAddrSet => out.put(&state.mac?),
            Opcode::MacTableSet => out.put(load(buffer, MAC_TABLE, state.mac_table?)?),
            Opcode::RxPromisc
            | Opcode::RxAllmulti
            | Opcode::RxAlluni
            | Opcode::RxNomulti
            | Opcode::RxNouni
            | Opcode::RxNobcast => {
                let [_, mode] = opcode.code();
                let on = (*state.rx.get(usize::from(mode))?)?;
                out.put(&[u8::from(on)]);
            }
            Opcode::MqVqPairsSet => out.put(&state.vq_pairs?.to_le_bytes()),
            Opcode::MqRssConfig => out.put(load(buffer, RSS, state.rss?)?),
            Opcode::MqHashConfig => out.put(load(buffer, HASH, state.hash?)?),
            Opcode::GuestOffloadsSet => out.put(&state.offloads?.bits().to_le_bytes()),
            Opcode::NotfCoalTxSet => out.put(&state.coal_tx?.to_le_bytes()),
            Opcode::NotfCoalRxSet => out.put(&state.coal_rx?.to_le_bytes()),
            Opcode::VlanDel | Opcode::AnnounceAck | Opcode::NotfCoalVqGet => return None,
        }
        Some(0)
    }
}

/// Puts `data` at the start of a `region` of the buffer and returns its length. There is room: no
/// command is longer than its region.
fn store(buffer: &mut [u8], region: Range<usize>, data: &[u8]) -> Option<usize> {
    let target = buffer.get_mut(region)?.get_mut(..data.len())?;
    target.copy_from_slice(data);
    Some(data.len())
}

/// What [`store`] put there.
fn load(buffer: &[u8], region: Range<usize>, len: usize) -> Option<&[u8]> {
    buffer.get(region)?.get(..len)
}

/// The byte of [`VLANS`] with the bit of a VLAN, and that bit.
fn vlan_bit(id: u16) -> (usize, u8) {
    let bit = 1u8.checked_shl(u32::from(id & 7)).unwrap_or_default();
    (usize::from(id >> 3), bit)
}

fn vlan(buffer: &mut [u8], id: u16, present: bool) {
    let (index, bit) = vlan_bit(id);
    if let Some(byte) = buffer.get_mut(VLANS).and_then(|map| map.get_mut(index)) {
        *byte = if present { *byte | bit } else { *byte & !bit };
    }
}

fn has_vlan(buffer: &[u8], id: u16) -> bool {
    let (index, bit) = vlan_bit(id);
    let byte = buffer.get(VLANS).and_then(|map| map.get(index));
    byte.is_some_and(|byte| byte & bit != 0)
}

/// The entries of the queues, by index.
fn queues(buffer: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    let entries = buffer.get_mut(COAL..).unwrap_or_default();
    entries.chunks_exact_mut(COAL_ENTRY)
}

/// Takes from the queues of one direction what they have of their own: 0 for those that receive, 1
/// for those that transmit. They follow a command for all of them.
fn follow(buffer: &mut [u8], direction: usize) {
    for entry in queues(buffer).skip(direction).step_by(2) {
        entry.fill(0);
    }
}

/// A command in the making.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    /// Appends `data`. There is room: it comes from a command that was no longer.
    fn put(&mut self, data: &[u8]) {
        let free = self.out.get_mut(self.len..).unwrap_or_default();
        for (to, from) in free.iter_mut().zip(data) {
            *to = *from;
            self.len = self.len.saturating_add(1);
        }
    }
}
