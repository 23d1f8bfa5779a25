// SPDX-License-Identifier: GPL-2.0

//! Sends numbered frames between ports and accounts for every one of them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use vdpa_user::frame::{self, Tag};
use vdpa_user::port::Port;
use vdpa_user::wait::{self, Patience};

/// Frames of one direction that may be on their way: less than a receive queue holds, and less than half
/// of what a wire of the lab does (a UDP socket, of some 90 frames), so that a lost frame is a fault and not
/// an overrun, also when those that were given up come with new ones.
const WINDOW: u32 = 40;
/// How long nothing arrives when all has arrived that will.
const SETTLED: Duration = Duration::from_secs(2);
/// Flows per queue pair: enough for a switch that spreads them by chance to use every queue.
const FLOWS: u16 = 16;

/// One direction.
#[derive(Clone, Copy, Debug)]
pub struct Direction {
    /// The sending port.
    pub from: usize,
    /// The receiving port.
    pub to: usize,
}

/// Both directions between two ports.
pub const BOTH: [Direction; 2] = [Direction { from: 0, to: 1 }, Direction { from: 1, to: 0 }];
/// A port that hears itself.
pub const LOOP: [Direction; 1] = [Direction { from: 0, to: 0 }];

/// What became of one direction.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Frames handed to the device.
    pub sent: u32,
    /// Frames that arrived intact.
    pub received: u32,
    /// Frames that overtook an earlier one of their flow.
    pub reordered: u32,
    /// Receive queues that frames arrived on.
    pub queues: Vec<bool>,
    /// Frames given up because the receiver was switched off meanwhile.
    pub forgiven: u32,
    /// Frames that were missing before that: later ones of their flow had arrived.
    pub overtaken: u32,
    /// The flow of each frame that was sent and has not arrived, by its number.
    missing: BTreeMap<u32, u16>,
    /// The number behind the last of those.
    mark: u32,
    /// Next expected number, by flow.
    next: HashMap<u16, u32>,
}

impl Tally {
    /// Frames on their way.
    pub fn outstanding(&self) -> u32 {
        self.sent
            .saturating_sub(self.received)
            .saturating_sub(self.forgiven)
    }

    /// Waits no longer for the frames on their way, which may be lost. Some may arrive yet.
    pub fn forgive(&mut self) {
        // A flow stays in order: what was overtaken is not on its way.
        let overtaken = self
            .missing
            .range(self.mark..)
            .filter(|(number, flow)| self.next.get(flow).is_some_and(|next| *number < next));
        self.overtaken += overtaken.map(|_| 1).sum::<u32>();
        self.forgiven += self.outstanding();
        self.mark = self.sent;
    }

    fn send(&mut self, tag: Tag) {
        self.missing.insert(tag.number, tag.flow);
        self.sent += 1;
    }

    fn receive(&mut self, tag: Tag) {
        self.missing.remove(&tag.number);
        if tag.number < self.mark {
            self.forgiven = self.forgiven.saturating_sub(1);
        }
        let next = self.next.entry(tag.flow).or_insert(0);
        if tag.number < *next {
            self.reordered += 1;
        } else {
            *next = tag.number + 1;
            self.received += 1;
        }
    }
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// So many frames each way; a standstill is an error.
    Frames(u32),
    /// So long; a device that goes away ends it early.
    Time(Duration),
    /// So long, with no more frames than may be on their way: as none shall arrive.
    Silence(Duration),
}

/// How an exchange ended.
#[derive(Debug)]
pub struct Outcome {
    /// One tally for each direction.
    pub tallies: Vec<Tally>,
    /// Whether a device stopped working.
    pub gone: bool,
    run: u16,
}

/// Runs traffic in the given directions until the goal. Completions are looked at only when the
/// queue's event has fired: an interrupt that does not arrive stops the run.
pub fn run(
    ports: &mut [Port],
    directions: &[Direction],
    goal: Goal,
    mut on_tick: impl FnMut(&mut [Port], &mut [Tally]) -> Result<()>,
) -> Result<Outcome> {
    let mut outcome = Outcome {
        tallies: vec![Tally::default(); directions.len()],
        gone: false,
        run: fastrand::u16(..),
    };
    for port in ports.iter_mut() {
        rearm(port)?;
    }
    let start = Instant::now();
    let mut progress = Instant::now();
    let mut patience = Patience::new(progress);
    loop {
        let want = match goal {
            Goal::Frames(count) => count,
            Goal::Time(limit) if start.elapsed() < limit => u32::MAX,
            Goal::Silence(limit) if start.elapsed() < limit => WINDOW,
            Goal::Time(_) | Goal::Silence(_) => return Ok(outcome),
        };
        for (tally, direction) in outcome.tallies.iter_mut().zip(directions) {
            send(ports, *direction, tally, outcome.run, want)?;
        }
        // Those that were given up may be on their way.
        let settled =
            outcome.tallies.iter().all(|tally| tally.forgiven == 0) || progress.elapsed() > SETTLED;
        let done = |tally: &Tally| tally.received + tally.forgiven >= want;
        // Those who sent are told so.
        let mut senders = directions.iter().filter_map(|way| ports.get(way.from));
        if matches!(goal, Goal::Frames(_))
            && settled
            && outcome.tallies.iter().all(done)
            && senders.all(Port::is_at_rest)
        {
            return Ok(outcome);
        }
        let moved = collect(ports, directions, &mut outcome)?;
        on_tick(ports, &mut outcome.tallies)?;
        if moved {
            progress = Instant::now();
            patience = Patience::new(progress);
        } else if let Goal::Silence(_) = goal {
            continue;
        } else if let Goal::Time(_) = goal {
            for port in ports.iter() {
                if !port.alive().unwrap_or(false) {
                    outcome.gone = true;
                    return Ok(outcome);
                }
            }
            outcome.tallies.iter_mut().for_each(Tally::forgive);
        } else if patience.has_ended(Instant::now()) {
            bail!("{}", standstill(ports, &outcome));
        }
    }
}

/// Runs `count` frames in each direction and checks that all arrived, intact and in order.
pub fn verify(ports: &mut [Port], directions: &[Direction], count: u32) -> Result<Outcome> {
    let outcome = run(ports, directions, Goal::Frames(count), |_, _| Ok(()))?;
    for (tally, direction) in outcome.tallies.iter().zip(directions) {
        ensure!(
            tally.received == count && tally.reordered == 0,
            "{direction:?}: {} of {count} arrived, {} out of order",
            tally.received,
            tally.reordered
        );
    }
    Ok(outcome)
}

/// Puts `count` numbered frames into the ring of the first pair, which does not show them yet.
pub fn put(port: &mut Port, to: [u8; 6], run: u16, count: u32) -> Result<()> {
    for number in 0..count {
        let tag = Tag {
            run,
            flow: 0,
            number,
        };
        let frame = frame::build(tag, port.address, to, 0);
        ensure!(port.send(0, &frame)?, "no buffer for frame {number}");
    }
    Ok(())
}

/// Sends what the window allows of the frames up to number `want`.
fn send(ports: &mut [Port], way: Direction, tally: &mut Tally, run: u16, want: u32) -> Result<()> {
    let destination = ports.get(way.to).context("no such port")?;
    // A device that sends back what it is sent may lose what it has no buffer for.
    let buffers = destination.pairs.iter().map(|pair| pair.receive.size);
    let window = match buffers.min() {
        Some(least) if way.from == way.to => WINDOW.min(u32::from(least)),
        _ => WINDOW,
    };
    let destination = destination.address;
    let port = ports.get_mut(way.from).context("no such port")?;
    let pairs = u16::try_from(port.pairs.len())?;
    let flows = pairs * FLOWS;
    while tally.sent < want && tally.outstanding() < window {
        let flow = u16::try_from(tally.sent % u32::from(flows))?;
        let tag = Tag {
            run,
            flow,
            number: tally.sent,
        };
        let toward = u8::from(way.from > way.to);
        let frame = frame::build(tag, port.address, destination, toward);
        if !port.send(usize::from(flow % pairs), &frame)? {
            break;
        }
        tally.send(tag);
    }
    for pair in &mut port.pairs {
        pair.transmit.publish()?;
    }
    Ok(())
}

/// Waits for interrupts and takes what they announce; says whether a frame of ours moved.
fn collect(ports: &mut [Port], directions: &[Direction], outcome: &mut Outcome) -> Result<bool> {
    let events: Vec<_> = ports
        .iter()
        .flat_map(|port| &port.pairs)
        .flat_map(|pair| [&pair.receive.call, &pair.transmit.call])
        .collect();
    wait::any(&events, Duration::from_millis(200))?;
    let mut moved = false;
    for (index, port) in ports.iter_mut().enumerate() {
        for pair in 0..port.pairs.len() {
            if port.pairs[pair].transmit.interrupted() {
                moved |= port.reap(pair)? > 0;
            }
            if !port.pairs[pair].receive.interrupted() {
                continue;
            }
            let tags = port.receive(pair)?;
            let Some(way) = directions.iter().position(|way| way.to == index) else {
                continue;
            };
            let tally = &mut outcome.tallies[way];
            tally.queues.resize(port.pairs.len(), false);
            for tag in tags.into_iter().filter(|tag| tag.run == outcome.run) {
                moved = true;
                tally.receive(tag);
                tally.queues[pair] = true;
            }
        }
    }
    Ok(moved)
}

/// Takes completions that were announced before anyone waited.
fn rearm(port: &mut Port) -> Result<()> {
    for pair in 0..port.pairs.len() {
        port.pairs[pair].receive.interrupted();
        port.pairs[pair].transmit.interrupted();
        port.receive(pair)?;
        port.reap(pair)?;
    }
    Ok(())
}

/// Says what is stuck: nothing came, or it came without an interrupt.
fn standstill(ports: &mut [Port], outcome: &Outcome) -> String {
    let mut text = String::from("no progress");
    for (way, tally) in outcome.tallies.iter().enumerate() {
        text += &format!(
            ", way {way}: sent {}, received {}",
            tally.sent, tally.received
        );
    }
    for port in ports {
        let path = port.device.path().display().to_string();
        match port.device.status() {
            Ok(status) => text += &format!(", {path}: status {status:#x}"),
            Err(error) => text += &format!(", {path}: {error:#}"),
        }
        for pair in &mut port.pairs {
            let (idle, size) = (pair.transmit.idle.len(), pair.transmit.size);
            text += &format!(", queue {}: {idle} of {size} idle", pair.transmit.index);
            for queue in [&mut pair.receive, &mut pair.transmit] {
                if let Ok(Some(_)) = queue.ring.take() {
                    text += &format!(
                        ", queue {} has completions without an interrupt",
                        queue.index
                    );
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally of frames of two flows, of which those in `arrived` have.
    fn tally(sent: u32, arrived: &[u32]) -> Tally {
        let tag = |number: u32| Tag {
            run: 1,
            flow: (number % 2) as u16,
            number,
        };
        let mut tally = Tally::default();
        (0..sent).for_each(|number| tally.send(tag(number)));
        arrived
            .iter()
            .for_each(|number| tally.receive(tag(*number)));
        tally
    }

    #[test]
    fn what_is_on_its_way_is_forgiven() {
        let mut tally = tally(6, &[0, 1, 3]);
        tally.forgive();
        assert_eq!((tally.forgiven, tally.overtaken), (3, 0));
        // It arrives after all.
        tally.receive(Tag {
            run: 1,
            flow: 0,
            number: 2,
        });
        assert_eq!((tally.forgiven, tally.outstanding()), (2, 0));
    }

    #[test]
    fn what_was_lost_before_is_not() {
        let mut tally = tally(6, &[0, 1, 3, 4]);
        tally.forgive();
        assert_eq!((tally.forgiven, tally.overtaken), (2, 1));
        // Nor is it counted again.
        tally.forgive();
        assert_eq!(tally.overtaken, 1);
    }
}
