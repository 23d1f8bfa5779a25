// SPDX-License-Identifier: GPL-2.0

//! The socket over which the kernel is asked about vDPA, and told.
//!
//! `neli`'s own router would do more, but what the kernel says in words gets lost in it
//! (`Nlmsgerr::to_typed` of 0.7.5 keeps the number alone), and a thread is not needed here.

use std::cell::Cell;
use std::fmt;
use std::io;

use anyhow::{Context, Result, bail};
use neli::consts::nl::NlmF;
use neli::consts::socket::NlFamily;
use neli::err::SocketError;
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::socket::synchronous::NlSocketHandle;
use neli::utils::Groups;
use nix::errno::Errno;

use crate::message::{self, Config, Device, Message, Parent, Request, Statistics};

/// The family that is there from the start (linux/netlink.h, `GENL_ID_CTRL`).
const CTRL: u16 = 0x10;

/// A request that the kernel has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its error number.
    pub errno: Errno,
    /// What it says besides.
    pub words: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno.desc())?;
        match &self.words {
            Some(words) => write!(f, ": {words}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// A connection to the kernel's vDPA bus.
pub struct Socket {
    socket: NlSocketHandle,
    family: u16,
    sequence: Cell<u32>,
}

impl Socket {
    /// Connects. `None` if this kernel, or this network name space, has no such family.
    pub fn connect() -> Result<Option<Self>> {
        let socket = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty())
            .context("opening a netlink socket")?;
        // A kernel without it tells the number alone.
        let _ = socket.enable_ext_ack(true);
        let mut this = Self {
            socket,
            family: CTRL,
            sequence: Cell::new(0),
        };
        let found = match this.ask(&Request::Family) {
            Err(error) if errno(&error) == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let first = found.first().context("the kernel does not answer")?;
        this.family = message::family(first)?;
        Ok(Some(this))
    }

    /// All management devices.
    pub fn parents(&self) -> Result<Vec<Parent>> {
        let all = self.ask(&Request::Parents)?;
        all.iter().map(Parent::decode).collect()
    }

    /// All vDPA devices.
    pub fn devices(&self) -> Result<Vec<Device>> {
        let all = self.ask(&Request::Devices)?;
        all.iter().map(Device::decode).collect()
    }

    /// What the device `name` shows.
    pub fn config(&self, name: &str) -> Result<Config> {
        let all = self.ask(&Request::Config(name.to_owned()))?;
        let first = all.first().context("the kernel does not answer")?;
        Config::decode(first)
    }

    /// The statistics of queue `index` of the device `name`.
    pub fn queue(&self, name: &str, index: u32) -> Result<Statistics> {
        let all = self.ask(&Request::Queue(name.to_owned(), index))?;
        let first = all.first().context("the kernel does not answer")?;
        Ok(message::statistics(first))
    }

    /// Asks, and returns everything that is answered.
    pub fn ask(&self, request: &Request) -> Result<Vec<Message>> {
        let how = if request.is_dump() {
            NlmF::DUMP
        } else {
            NlmF::ACK
        };
        self.exchange(request.encode()?, how)
    }

    fn exchange(&self, message: Message, how: NlmF) -> Result<Vec<Message>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let message = NlmsghdrBuilder::default()
            .nl_type(self.family)
            .nl_flags(NlmF::REQUEST | how)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(message))
            .build()
            .context("composing a netlink message")?;
        self.socket.send(&message).context("asking over netlink")?;
        let mut all = Vec::new();
        loop {
            let (messages, _) = match self.socket.recv::<u16, Message>() {
                Err(error) if interrupted(&error) => continue,
                other => other.context("waiting for an answer over netlink")?,
            };
            for message in messages {
                let message = message.context("reading an answer over netlink")?;
                if *message.nl_seq() != sequence {
                    // Of an earlier request, which was given up.
                    continue;
                }
                match message.nl_payload() {
                    NlPayload::Payload(payload) => all.push(payload.clone()),
                    NlPayload::Ack(_) | NlPayload::Empty => return Ok(all),
                    NlPayload::DumpExtAck(end) if *end.error() == 0 => return Ok(all),
                    NlPayload::DumpExtAck(end) => {
                        bail!(refusal(*end.error(), message::words(end.ext_ack())))
                    }
                    NlPayload::Err(end) => {
                        bail!(refusal(*end.error(), message::words(end.ext_ack())))
                    }
                }
            }
        }
    }
}

fn refusal(error: i32, words: Option<String>) -> Refusal {
    Refusal {
        errno: Errno::from_raw(error.saturating_neg()),
        words,
    }
}

fn interrupted(error: &SocketError) -> bool {
    matches!(error, SocketError::Io(error) if error.kind() == io::ErrorKind::Interrupted)
}

/// The kernel's error number, if it is one that the kernel has refused a request with.
pub fn errno(error: &anyhow::Error) -> Option<Errno> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.errno)
}

#[cfg(test)]
mod tests {
    use neli::genl::{AttrTypeBuilder, GenlmsghdrBuilder, NlattrBuilder};
    use neli::types::{Buffer, GenlBuffer};

    use super::*;

    #[test]
    fn the_kernels_words_follow_its_number() {
        let said = refusal(-22, Some("Missing features 0x8".to_owned()));
        assert_eq!(said.to_string(), "Invalid argument: Missing features 0x8");
        assert_eq!(refusal(-16, None).to_string(), "Device or resource busy");
        assert_eq!(errno(&said.into()), Some(Errno::EINVAL));
    }

    /// A real socket, connected to the family that every kernel has.
    fn ctrl() -> Socket {
        let socket = NlSocketHandle::connect(NlFamily::Generic, None, Groups::empty()).unwrap();
        socket.enable_ext_ack(true).unwrap();
        Socket {
            socket,
            family: CTRL,
            sequence: Cell::new(0),
        }
    }

    #[test]
    fn a_real_kernel_lists_and_refuses() {
        let socket = ctrl();
        let ask = Request::Family.encode().unwrap();
        let all = socket.exchange(ask, NlmF::DUMP).unwrap();
        assert!(all.iter().all(|one| message::family(one).is_ok()));
        assert!(!all.is_empty());
        // A command that nlctrl does not have, and then one that it has: nothing is left over.
        let odd = Request::Delete("c0".parse().unwrap()).encode().unwrap();
        let error = socket.exchange(odd, NlmF::ACK).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::EOPNOTSUPP));
        let ask = Request::Family.encode().unwrap();
        assert!(!socket.exchange(ask, NlmF::DUMP).unwrap().is_empty());
    }

    #[test]
    fn a_real_kernel_says_why() {
        let attribute = NlattrBuilder::default()
            .nla_type(AttrTypeBuilder::default().nla_type(4711).build().unwrap())
            .nla_payload([0_u8; 5])
            .build()
            .unwrap();
        let attributes: GenlBuffer<u16, Buffer> = [attribute].into_iter().collect();
        // CTRL_CMD_GETPOLICY: one that minds attributes which it does not know.
        let odd = GenlmsghdrBuilder::default()
            .cmd(10)
            .version(2)
            .attrs(attributes)
            .build()
            .unwrap();
        let error = ctrl().exchange(odd, NlmF::DUMP).unwrap_err();
        let said = error.to_string();
        assert_eq!(said, "Invalid argument: Unknown attribute type");
    }

    #[test]
    fn whether_there_is_a_bus_is_found_out() {
        if let Some(socket) = Socket::connect().unwrap() {
            socket.parents().unwrap();
            socket.devices().unwrap();
        }
    }
}
