// SPDX-License-Identifier: GPL-2.0

//! The control queue of a network device: commands and their answers.

use anyhow::{Context as _, Result, bail, ensure};

use super::Port;
use crate::device::{Device, feature};
use crate::memory::Memory;
use crate::queue::Queue;
use crate::ring::Buffer;

/// Descriptors of the control queue.
pub const CONTROL_SIZE: u16 = 16;

/// Class and command of "use this many queue pairs" (virtio 1.3, 5.1.6.5.6).
const MQ_PAIRS_SET: [u8; 2] = [4, 0];

/// The buffer of the control queue in which answers arrive: behind all pieces of a command.
const ANSWER: u32 = 8;

/// The number of the control queue. With MQ it comes after all the pairs there could be.
pub fn control_index(device: &Device, features: u64) -> Result<u16> {
    if features & feature::MQ != 0 {
        Ok(2 * device.config16(8)?)
    } else {
        Ok(2)
    }
}

impl Port {
    /// Tells the device how many pairs are in use, through the control queue.
    pub fn set_pairs(&mut self, pairs: u16) -> Result<()> {
        let mut bytes = MQ_PAIRS_SET.to_vec();
        bytes.extend(pairs.to_le_bytes());
        let answer = self.command(&[&bytes[..2], &bytes[2..]])?;
        ensure!(
            answer == 0,
            "the device refused {pairs} pairs: answer {answer}"
        );
        Ok(())
    }

    /// Fills the control queue with one command, again and again, and rings its doorbell once. Returns
    /// how many have come back, and the last answer.
    pub fn commands(&mut self, command: &[u8]) -> Result<(u32, u8)> {
        let Some(control) = &mut self.control else {
            bail!("there is no control queue");
        };
        let memory = &self.device.memory;
        let chain = chain(control, memory, &[command], 0)?;
        let mut sent = 0;
        while control.ring.add(&chain, sent).is_ok() {
            sent += 1;
        }
        control.publish()?;
        let mut returned = 0;
        crate::wait::until("answers of the control queue", || {
            while control.ring.take()?.is_some() {
                returned += 1;
            }
            Ok(returned == sent)
        })?;
        Ok((returned, answer(control, memory)?))
    }

    /// Gives the control queue a command, piece by piece.
    pub fn ask(&mut self, pieces: &[&[u8]]) -> Result<()> {
        self.make_available(pieces, 0)
    }

    /// Gives the control queue a command that asks for so many bytes.
    fn make_available(&mut self, pieces: &[&[u8]], reply: u32) -> Result<()> {
        let Some(control) = &mut self.control else {
            bail!("there is no control queue");
        };
        let chain = chain(control, &self.device.memory, pieces, reply)?;
        control.ring.add(&chain, 0)?;
        control.publish()
    }

    /// Whether a command has come back.
    pub fn is_answered(&mut self) -> Result<bool> {
        let Some(control) = &mut self.control else {
            bail!("there is no control queue");
        };
        Ok(control.ring.take()?.is_some())
    }

    /// The answer to the last command.
    pub fn answer(&self) -> Result<u8> {
        let Some(control) = &self.control else {
            bail!("there is no control queue");
        };
        answer(control, &self.device.memory)
    }

    /// Gives the control queue a command, piece by piece, and waits for the answer.
    pub fn command(&mut self, pieces: &[&[u8]]) -> Result<u8> {
        let (answer, _) = self.inquire(pieces, 0)?;
        Ok(answer)
    }

    /// As [`Port::command`], of one that asks for so many bytes, which are returned, too.
    pub fn inquire(&mut self, pieces: &[&[u8]], reply: u32) -> Result<(u8, Vec<u8>)> {
        self.make_available(pieces, reply)?;
        let Some(control) = &mut self.control else {
            bail!("there is no control queue");
        };
        let memory = &self.device.memory;
        let mut used = None;
        crate::wait::until("an answer of the control queue", || {
            used = control.ring.take()?;
            Ok(used.is_some())
        })?;
        let written = used.map_or(0, |used| used.written);
        let expected = reply + 1;
        ensure!(
            written == expected,
            "the answer has {written} bytes instead of {expected}"
        );
        let mut said = vec![0xff; usize::try_from(expected)?];
        memory.read(control.slot(ANSWER)?, &mut said)?;
        let answer = said.pop().context("an answer has a byte at least")?;
        Ok((answer, said))
    }
}

/// Lays out a command, piece by piece, and room for its answer behind `reply` bytes.
fn chain(control: &Queue, memory: &Memory, pieces: &[&[u8]], reply: u32) -> Result<Vec<Buffer>> {
    let mut at = control.slot(0)?;
    let answer = control.slot(ANSWER)?;
    let mut chain = Vec::new();
    for piece in pieces {
        memory.write(at, piece)?;
        let length = u32::try_from(piece.len())?;
        chain.push(Buffer {
            address: at + control.shift,
            length,
            writable: false,
        });
        at += u64::from(length);
    }
    ensure!(
        at <= answer,
        "a command of {} pieces is too long",
        pieces.len()
    );
    let length = reply + 1;
    memory.write(answer, &vec![0xff; usize::try_from(length)?])?;
    chain.push(Buffer {
        address: answer + control.shift,
        length,
        writable: true,
    });
    Ok(chain)
}

/// The answer to the last command.
fn answer(control: &Queue, memory: &Memory) -> Result<u8> {
    let mut answer = [0xff];
    memory.read(control.slot(ANSWER)?, &mut answer)?;
    let [answer] = answer;
    Ok(answer)
}
