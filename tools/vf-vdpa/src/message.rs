// SPDX-License-Identifier: GPL-2.0

//! The messages of netlink's family `vdpa` (include/uapi/linux/vdpa.h), as bytes and as types.
//!
//! Nothing here does I/O. What the kernel says is checked once, here; attributes that this tool does
//! not know are skipped, as newer kernels have more.

use anyhow::{Context, Result, bail};
use neli::consts::nl::NlmsgerrAttr;
use neli::genl::{AttrTypeBuilder, Genlmsghdr, GenlmsghdrBuilder, Nlattr, NlattrBuilder};
use neli::types::{Buffer, GenlBuffer};

use crate::mac::Mac;
use crate::name::Name;
use crate::pci::Address;

/// A message of a generic netlink family, with commands and attributes as numbers.
pub type Message = Genlmsghdr<u8, u16>;
/// One attribute of it.
type Attribute = Nlattr<u16, Buffer>;

/// The name of the family.
pub const FAMILY: &str = "vdpa";
/// Its version.
const VERSION: u8 = 1;

/// `nlctrl`, the family that knows the numbers of the others (linux/genetlink.h).
mod ctrl {
    pub const GETFAMILY: u8 = 3;
    pub const VERSION: u8 = 2;
    pub const FAMILY_ID: u16 = 1;
    pub const FAMILY_NAME: u16 = 2;
}

/// Commands.
mod command {
    pub const MGMTDEV_GET: u8 = 2;
    pub const DEV_NEW: u8 = 3;
    pub const DEV_DEL: u8 = 4;
    pub const DEV_GET: u8 = 5;
    pub const CONFIG_GET: u8 = 6;
    pub const VSTATS_GET: u8 = 7;
    pub const ATTR_SET: u8 = 8;
}

/// Attributes.
mod attribute {
    pub const MGMTDEV_BUS_NAME: u16 = 1;
    pub const MGMTDEV_DEV_NAME: u16 = 2;
    pub const SUPPORTED_CLASSES: u16 = 3;
    pub const DEV_NAME: u16 = 4;
    pub const DEV_ID: u16 = 5;
    pub const MAX_VQS: u16 = 7;
    pub const MAX_VQ_SIZE: u16 = 8;
    pub const NET_MACADDR: u16 = 10;
    pub const NET_STATUS: u16 = 11;
    pub const NET_MAX_VQP: u16 = 12;
    pub const NET_MTU: u16 = 13;
    pub const NEGOTIATED_FEATURES: u16 = 14;
    pub const MGMTDEV_MAX_VQS: u16 = 15;
    pub const SUPPORTED_FEATURES: u16 = 16;
    pub const QUEUE_INDEX: u16 = 17;
    pub const VENDOR_NAME: u16 = 18;
    pub const VENDOR_VALUE: u16 = 19;
    pub const DEV_FEATURES: u16 = 20;
}

/// Something that is asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The number of the family `vdpa`.
    Family,
    /// All management devices.
    Parents,
    /// All vDPA devices.
    Devices,
    /// The configuration of the device with this name. Not that of all: a device of a type that the
    /// kernel's core does not know ends such a list with an error.
    Config(String),
    /// The statistics of this queue of the device with this name.
    Queue(String, u32),
    /// Make a device of a function.
    Add(Add),
    /// Delete the device.
    Delete(Name),
    /// Change the MAC address of a device that nobody uses.
    SetMac(Name, Mac),
}

/// A device that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// The function that carries it.
    pub function: Address,
    /// What it is called.
    pub name: Name,
    /// Its address, if not the function's.
    pub mac: Option<Mac>,
    /// Its MTU, if not the function's.
    pub mtu: Option<u16>,
    /// Its queue pairs, if not all of the function's.
    pub max_vqp: Option<u16>,
    /// Exactly its features, if not the driver's choice.
    pub features: Option<u64>,
}

impl Request {
    /// Whether all that there is of a kind is asked for, so that many messages answer it.
    pub fn is_dump(&self) -> bool {
        matches!(self, Self::Parents | Self::Devices)
    }

    /// The message that asks.
    pub fn encode(&self) -> Result<Message> {
        use attribute as a;
        let (command, attributes) = match self {
            Self::Family => {
                let name = vec![text(ctrl::FAMILY_NAME, FAMILY)?];
                return message(ctrl::GETFAMILY, ctrl::VERSION, name);
            }
            Self::Parents => (command::MGMTDEV_GET, vec![]),
            Self::Devices => (command::DEV_GET, vec![]),
            Self::Config(name) => (command::CONFIG_GET, vec![text(a::DEV_NAME, name)?]),
            Self::Queue(name, index) => (
                command::VSTATS_GET,
                vec![
                    text(a::DEV_NAME, name)?,
                    raw(a::QUEUE_INDEX, &index.to_ne_bytes())?,
                ],
            ),
            Self::Add(add) => (command::DEV_NEW, add.attributes()?),
            Self::Delete(name) => (command::DEV_DEL, vec![text(a::DEV_NAME, name.as_str())?]),
            Self::SetMac(name, mac) => (
                command::ATTR_SET,
                vec![
                    text(a::DEV_NAME, name.as_str())?,
                    raw(a::NET_MACADDR, &mac.bytes())?,
                ],
            ),
        };
        message(command, VERSION, attributes)
    }
}

impl Add {
    fn attributes(&self) -> Result<Vec<Attribute>> {
        use attribute as a;
        let mut all = vec![
            text(a::MGMTDEV_BUS_NAME, "pci")?,
            text(a::MGMTDEV_DEV_NAME, &self.function.to_string())?,
            text(a::DEV_NAME, self.name.as_str())?,
        ];
        if let Some(mac) = self.mac {
            all.push(raw(a::NET_MACADDR, &mac.bytes())?);
        }
        if let Some(mtu) = self.mtu {
            all.push(raw(a::NET_MTU, &mtu.to_ne_bytes())?);
        }
        if let Some(pairs) = self.max_vqp {
            all.push(raw(a::NET_MAX_VQP, &pairs.to_ne_bytes())?);
        }
        if let Some(features) = self.features {
            all.push(raw(a::DEV_FEATURES, &features.to_ne_bytes())?);
        }
        Ok(all)
    }
}

fn message(command: u8, version: u8, attributes: Vec<Attribute>) -> Result<Message> {
    let attributes: GenlBuffer<u16, Buffer> = attributes.into_iter().collect();
    let header = GenlmsghdrBuilder::default()
        .cmd(command)
        .version(version)
        .attrs(attributes);
    header.build().context("composing a netlink message")
}

/// An attribute with text. The kernel reads it up to a NUL, although its policy does not always
/// insist on one.
fn text(kind: u16, value: &str) -> Result<Attribute> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    raw(kind, &bytes)
}

fn raw(kind: u16, value: &[u8]) -> Result<Attribute> {
    let kind = AttrTypeBuilder::default()
        .nla_type(kind)
        .build()
        .context("composing a netlink attribute")?;
    NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(value)
        .build()
        .context("composing a netlink attribute")
}

/// A management device: what vDPA devices can be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its name, as the `vdpa` tool writes it: `pci/0000:01:00.1`, `vdpasim_net`.
    pub handle: String,
    /// One bit for each type of device that it can make.
    pub classes: u64,
    /// How many virtqueues a device of it has at most.
    pub max_vqs: Option<u32>,
    /// The features that its devices can have.
    pub features: Option<u64>,
}

/// A vDPA device, whoever has made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is called.
    pub name: String,
    /// Its management device.
    pub parent: Option<String>,
    /// Its type, as a number.
    pub class: u32,
    /// How many virtqueues it has.
    pub max_vqs: u32,
    /// How many entries the largest has.
    pub max_vq_size: Option<u16>,
}

/// What a device shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// MAC address.
    pub mac: Option<[u8; 6]>,
    /// MTU.
    pub mtu: Option<u16>,
    /// Queue pairs, if there can be several.
    pub max_vqp: Option<u16>,
    /// Whether the link is up.
    pub link: Option<bool>,
    /// The features that it offers.
    pub features: Option<u64>,
    /// The features that its user has taken, if there is one that has come so far.
    pub negotiated: Option<u64>,
}

/// Numbers about a virtqueue, each with the name that its driver has given to it.
pub type Statistics = Vec<(String, u64)>;

/// The attributes of an answer, each checked as it is taken.
struct Answer<'m>(&'m [Attribute]);

impl<'m> Answer<'m> {
    fn of(message: &'m Message) -> Self {
        Self(message.attrs().as_ref())
    }

    fn bytes(&self, kind: u16) -> Option<&'m [u8]> {
        let hit = self
            .0
            .iter()
            .find(|one| *one.nla_type().nla_type() == kind)?;
        Some(hit.nla_payload().as_ref())
    }

    fn array<const N: usize>(&self, kind: u16) -> Result<Option<[u8; N]>> {
        match self.bytes(kind) {
            None => Ok(None),
            Some(bytes) => match bytes.try_into() {
                Ok(array) => Ok(Some(array)),
                Err(_) => bail!(
                    "the kernel's attribute {kind} has {} bytes, not {N}",
                    bytes.len()
                ),
            },
        }
    }

    fn u16(&self, kind: u16) -> Result<Option<u16>> {
        Ok(self.array(kind)?.map(u16::from_ne_bytes))
    }

    fn u32(&self, kind: u16) -> Result<Option<u32>> {
        Ok(self.array(kind)?.map(u32::from_ne_bytes))
    }

    fn u64(&self, kind: u16) -> Result<Option<u64>> {
        Ok(self.array(kind)?.map(u64::from_ne_bytes))
    }

    fn text(&self, kind: u16) -> Option<String> {
        self.bytes(kind).map(until_nul)
    }

    /// The management device, in one word.
    fn handle(&self) -> Option<String> {
        let device = self.text(attribute::MGMTDEV_DEV_NAME)?;
        Some(match self.text(attribute::MGMTDEV_BUS_NAME) {
            Some(bus) => format!("{bus}/{device}"),
            None => device,
        })
    }
}

fn until_nul(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The number of the family, from what `nlctrl` says.
pub fn family(message: &Message) -> Result<u16> {
    let id = Answer::of(message).u16(ctrl::FAMILY_ID)?;
    id.context("the kernel does not say what number the family has")
}

impl Parent {
    /// The management device that the kernel describes.
    pub fn decode(message: &Message) -> Result<Self> {
        let answer = Answer::of(message);
        Ok(Self {
            handle: answer
                .handle()
                .context("a management device without a name")?,
            classes: answer.u64(attribute::SUPPORTED_CLASSES)?.unwrap_or(0),
            max_vqs: answer.u32(attribute::MGMTDEV_MAX_VQS)?,
            features: answer.u64(attribute::SUPPORTED_FEATURES)?,
        })
    }
}

impl Device {
    /// The device that the kernel describes.
    pub fn decode(message: &Message) -> Result<Self> {
        let answer = Answer::of(message);
        let name = answer.text(attribute::DEV_NAME);
        Ok(Self {
            name: name.context("a vDPA device without a name")?,
            parent: answer.handle(),
            class: answer.u32(attribute::DEV_ID)?.unwrap_or(0),
            max_vqs: answer.u32(attribute::MAX_VQS)?.unwrap_or(0),
            max_vq_size: answer.u16(attribute::MAX_VQ_SIZE)?,
        })
    }
}

impl Config {
    /// The configuration that the kernel describes.
    pub fn decode(message: &Message) -> Result<Self> {
        let answer = Answer::of(message);
        Ok(Self {
            mac: answer.array(attribute::NET_MACADDR)?,
            mtu: answer.u16(attribute::NET_MTU)?,
            max_vqp: answer.u16(attribute::NET_MAX_VQP)?,
            // VIRTIO_NET_S_LINK_UP is bit 0. The header says that it is an u8, the kernel sends the
            // whole field.
            link: answer
                .u16(attribute::NET_STATUS)?
                .map(|status| status & 1 == 1),
            features: answer.u64(attribute::DEV_FEATURES)?,
            negotiated: answer.u64(attribute::NEGOTIATED_FEATURES)?,
        })
    }
}

/// The statistics that the kernel tells: names and numbers in turn.
pub fn statistics(message: &Message) -> Statistics {
    let mut all = Vec::new();
    let mut name = None;
    for one in message.attrs().as_ref() {
        let one: &Attribute = one;
        let bytes = one.nla_payload().as_ref();
        match *one.nla_type().nla_type() {
            attribute::VENDOR_NAME => name = Some(until_nul(bytes)),
            attribute::VENDOR_VALUE => {
                let value = bytes.try_into().ok().map(u64::from_ne_bytes);
                all.extend(name.take().zip(value));
            }
            _ => {}
        }
    }
    all
}

/// What the kernel adds to an error number in words, if it does.
pub fn words(attributes: &GenlBuffer<NlmsgerrAttr, Buffer>) -> Option<String> {
    let all: &[Nlattr<NlmsgerrAttr, Buffer>] = attributes.as_ref();
    let hit = all
        .iter()
        .find(|one| *one.nla_type().nla_type() == NlmsgerrAttr::Msg)?;
    // Each module puts its name before what it says.
    let text = until_nul(hit.nla_payload().as_ref());
    Some(text.strip_prefix("vdpa: ").unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests;
