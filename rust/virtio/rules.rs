// SPDX-License-Identifier: GPL-2.0

//! What the driver of a network device may ask for through the control queue (virtio 1.3, 5.1.6.5).

use crate::control::Coal;
use crate::control::Effect;
use crate::control::MAX_VLANS;
use crate::features::net;
use crate::features::Features;
use crate::net as config;
use crate::opcode::Opcode;
use crate::refusal::Refusal;

/// The features that GUEST_OFFLOADS_SET can switch: each has the bit of its offload
/// (virtio 1.3, 5.1.6.5.8). GUEST_HDRLEN is none of them, but Linux sends it with the others.
const OFFLOADS: Features = net::GUEST_CSUM
    .union(net::GUEST_TSO4)
    .union(net::GUEST_TSO6)
    .union(net::GUEST_ECN)
    .union(net::GUEST_UFO)
    .union(net::GUEST_USO4)
    .union(net::GUEST_USO6)
    .union(net::GUEST_HDRLEN);

/// What the device can do with hashes, out of its configuration (virtio 1.3, 5.1.4). All 0 without
/// RSS and HASH_REPORT: the fields do not exist then, and nothing reads them here.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Length in bytes of the longest key.
    pub rss_max_key_size: u8,
    /// Entries of the longest indirection table.
    pub rss_max_indirection_table_length: u16,
    /// Supported hash types, a bit each.
    pub supported_hash_types: u32,
}

impl Limits {
    /// The limits in `config`, which is the configuration from its start. A field that lies outside
    /// is 0.
    #[must_use]
    pub fn from_config(config: &[u8]) -> Self {
        let types = config
            .get(config::SUPPORTED_HASH_TYPES..)
            .and_then(|bytes| bytes.first_chunk());
        Self {
            rss_max_key_size: config
                .get(config::RSS_MAX_KEY_SIZE)
                .copied()
                .unwrap_or_default(),
            rss_max_indirection_table_length: config::field(
                config,
                config::RSS_MAX_INDIRECTION_TABLE_LENGTH,
            )
            .unwrap_or_default(),
            supported_hash_types: types.map_or(0, |bytes| u32::from_le_bytes(*bytes)),
        }
    }
}

/// What a driver may ask for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The features that the driver accepted.
    pub features: Features,
    /// Queue pairs that the driver is shown. Without MQ and RSS it has one, whatever this is.
    pub pairs: u16,
    /// The MAC address, if the administrator set it.
    pub mac: Option<[u8; 6]>,
    /// The limits of the device.
    pub limits: Limits,
}

impl Rules {
    /// Queue pairs that the driver can use.
    fn pairs(&self) -> u16 {
        if self.features.intersects(net::MQ | net::RSS) {
            self.pairs
        } else {
            1
        }
    }

    /// Checks a command, and takes as much of its data as it needs.
    pub(crate) fn check(&self, data: &mut Data<'_>) -> Result<Effect, Refusal> {
        let opcode = data.opcode;
        let needed = opcode.feature() | net::CTRL_VQ;
        let missing = needed.difference(self.features);
        if !missing.is_empty() {
            return Err(Refusal::Feature { opcode, missing });
        }
        Ok(match opcode {
            Opcode::RxPromisc
            | Opcode::RxAllmulti
            | Opcode::RxAlluni
            | Opcode::RxNomulti
            | Opcode::RxNouni
            | Opcode::RxNobcast => match data.u8()? {
                0 => Effect::Rx(false),
                1 => Effect::Rx(true),
                mode => return Err(Refusal::Mode { opcode, mode }),
            },
            Opcode::MacTableSet => {
                // The addresses are not looked at: the first table should have no groups, but the
                // Linux bridge puts link-local groups there, and a filter may pass what it likes.
                for _ in 0..2 {
                    let entries = usize::try_from(data.u32()?).unwrap_or(usize::MAX);
                    data.bytes(entries.saturating_mul(6))?;
                }
                Effect::MacTable
            }
            Opcode::MacAddrSet => Effect::MacAddr(self.mac(data.array()?)?),
            Opcode::VlanAdd => Effect::VlanAdd(vlan(data.u16()?)?),
            Opcode::VlanDel => Effect::VlanDel(vlan(data.u16()?)?),
            Opcode::AnnounceAck => Effect::AnnounceAck,
            Opcode::MqVqPairsSet => Effect::VqPairs(self.count(opcode, data.u16()?)?),
            Opcode::MqRssConfig => self.rss(data)?,
            Opcode::MqHashConfig => self.hash(data)?,
            Opcode::GuestOffloadsSet => {
                let offloads = Features::from_bits(u64::from_le_bytes(data.array()?));
                let unknown = offloads.difference(OFFLOADS & self.features);
                if !unknown.is_empty() {
                    return Err(Refusal::Offloads(unknown));
                }
                Effect::Offloads(offloads)
            }
            Opcode::NotfCoalTxSet => Effect::CoalTx(data.coal()?),
            Opcode::NotfCoalRxSet => Effect::CoalRx(data.coal()?),
            Opcode::NotfCoalVqSet => Effect::CoalVqSet(self.vq(data)?, data.coal()?),
            Opcode::NotfCoalVqGet => Effect::CoalVqGet(self.vq(data)?),
        })
    }

    fn mac(&self, requested: [u8; 6]) -> Result<[u8; 6], Refusal> {
        let [first, ..] = requested;
        if first & 1 != 0 || requested == [0; 6] {
            return Err(Refusal::MacAddress(requested));
        }
        match self.mac {
            Some(fixed) if fixed != requested => Err(Refusal::MacFixed { requested, fixed }),
            _ => Ok(requested),
        }
    }

    /// Checks a number of queue pairs, or of transmit queues.
    fn count(&self, opcode: Opcode, requested: u16) -> Result<u16, Refusal> {
        let limit = self.pairs();
        if requested == 0 || requested > limit {
            return Err(Refusal::Pairs {
                opcode,
                requested,
                limit,
            });
        }
        Ok(requested)
    }

    /// Takes the index of a data queue and the reserved field behind, which devices ignore.
    fn vq(&self, data: &mut Data<'_>) -> Result<u16, Refusal> {
        let opcode = data.opcode;
        let index = data.u16()?;
        data.u16()?;
        let limit = u32::from(self.pairs()).saturating_mul(2);
        if u32::from(index) >= limit {
            return Err(Refusal::VqIndex {
                opcode,
                index,
                limit,
            });
        }
        Ok(index)
    }

    /// Takes `struct virtio_net_rss_config` (virtio 1.3, 5.1.6.5.7.1).
    fn rss(&self, data: &mut Data<'_>) -> Result<Effect, Refusal> {
        let opcode = data.opcode;
        self.hash_types(data)?;
        let entries = usize::from(data.u16()?).saturating_add(1);
        let limit = self.limits.rss_max_indirection_table_length;
        if entries > usize::from(limit) {
            return Err(Refusal::Table { entries, limit });
        }
        if !entries.is_power_of_two() {
            return Err(Refusal::NotPowerOfTwo(entries));
        }
        // The queue for unclassified packets, then the table. Entries are numbers of receive queues,
        // not indices of virtqueues, and the bit above them is reserved: it is set in none that is
        // below the limit.
        let limit = self.pairs();
        for _ in 0..entries.saturating_add(1) {
            let queue = data.u16()?;
            if queue >= limit {
                return Err(Refusal::ReceiveQueue { queue, limit });
            }
        }
        let max_tx_vq = self.count(opcode, data.u16()?)?;
        self.key(data)?;
        Ok(Effect::Rss { max_tx_vq })
    }

    /// Takes `struct virtio_net_hash_config` (virtio 1.3, 5.1.6.5.6.4).
    fn hash(&self, data: &mut Data<'_>) -> Result<Effect, Refusal> {
        self.hash_types(data)?;
        // Four reserved fields, which must be 0. Linux sends the layout of RSS with the number of
        // its queue pairs in the place of `max_tx_vq`, which is the last of the four.
        for most in [0, 0, 0, self.pairs()] {
            let value = data.u16()?;
            if value > most {
                return Err(Refusal::Reserved(value));
            }
        }
        self.key(data)?;
        Ok(Effect::Hash)
    }

    fn hash_types(&self, data: &mut Data<'_>) -> Result<(), Refusal> {
        let opcode = data.opcode;
        let types = data.u32()? & !self.limits.supported_hash_types;
        if types != 0 {
            return Err(Refusal::HashTypes { opcode, types });
        }
        Ok(())
    }

    fn key(&self, data: &mut Data<'_>) -> Result<(), Refusal> {
        let opcode = data.opcode;
        let len = data.u8()?;
        let limit = self.limits.rss_max_key_size;
        if len > limit {
            return Err(Refusal::Key { opcode, len, limit });
        }
        data.bytes(usize::from(len))?;
        Ok(())
    }
}

fn vlan(id: u16) -> Result<u16, Refusal> {
    if id >= MAX_VLANS {
        return Err(Refusal::Vlan(id));
    }
    Ok(id)
}

/// The data of a command, taken from the front.
pub(crate) struct Data<'a> {
    opcode: Opcode,
    /// Bytes at first.
    len: usize,
    rest: &'a [u8],
}

impl<'a> Data<'a> {
    /// The data of a command of this kind.
    pub(crate) const fn new(opcode: Opcode, data: &'a [u8]) -> Self {
        Self {
            opcode,
            len: data.len(),
            rest: data,
        }
    }

    const fn wrong_len(&self) -> Refusal {
        Refusal::Len {
            opcode: self.opcode,
            len: self.len,
        }
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(self.wrong_len())?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(self.wrong_len())?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, Refusal> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        self.array().map(u32::from_le_bytes)
    }

    fn coal(&mut self) -> Result<Coal, Refusal> {
        self.array().map(Coal::from_le_bytes)
    }

    /// Checks that everything was taken.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.wrong_len())
        }
    }
}
