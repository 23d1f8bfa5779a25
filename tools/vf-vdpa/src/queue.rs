// SPDX-License-Identifier: GPL-2.0

//! How the virtqueues of a device are served.

use std::fmt;

use nix::errno::Errno;
use serde::Serialize;

use crate::message::Statistics;

/// Who serves a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its consumer has not negotiated yet, or there is none
    Idle,
    /// Its consumer has not enabled it
    Off,
    /// The device, without the kernel
    Direct,
    /// The device, by way of the kernel, as after a migration
    Relayed,
    /// The kernel, as a control queue
    Served,
    /// A driver that does not say so
    Unknown,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Off => "off",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Served => "served",
            Self::Unknown => "unknown",
        })
    }
}

/// A virtqueue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its number, as its consumer counts.
    pub index: u32,
    /// Who serves it.
    pub mode: Mode,
    /// How long it has been relayed, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relayed_seconds: Option<u64>,
}

impl Queue {
    /// What the driver's statistics of a queue mean.
    pub fn new(index: u32, statistics: &Statistics) -> Self {
        let value = |name: &str| {
            let hit = statistics.iter().find(|(known, _)| known == name);
            hit.map(|(_, value)| *value)
        };
        let mode = match (value("ready"), value("direct"), value("relayed")) {
            (Some(0), ..) => Mode::Off,
            (Some(_), _, Some(1..)) => Mode::Relayed,
            (Some(_), Some(1..), _) => Mode::Direct,
            (Some(_), Some(0), Some(0)) => Mode::Served,
            _ => Mode::Unknown,
        };
        let relayed_seconds = match mode {
            Mode::Relayed => value("relayed_seconds"),
            _ => None,
        };
        Self {
            index,
            mode,
            relayed_seconds,
        }
    }
}

/// What the queues of a device do, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queues {
    /// Each of them.
    Known(Vec<Queue>),
    /// Nobody has looked, or the driver has no statistics.
    Unknown,
    /// One has to be root to know.
    Forbidden,
}

impl Queues {
    /// Asks for one queue after the other.
    pub fn read(count: u32, ask: impl Fn(u32) -> Result<Statistics, Errno>) -> Self {
        let mut all = Vec::new();
        for index in 0..count {
            let queue = match ask(index) {
                Ok(statistics) => Queue::new(index, &statistics),
                // The core asks the driver only after FEATURES_OK.
                Err(Errno::EAGAIN) => Queue {
                    index,
                    mode: Mode::Idle,
                    relayed_seconds: None,
                },
                Err(Errno::EPERM | Errno::EACCES) => return Self::Forbidden,
                Err(_) => return Self::Unknown,
            };
            all.push(queue);
        }
        Self::Known(all)
    }

    /// The queues, as far as they are known.
    pub fn known(&self) -> &[Queue] {
        match self {
            Self::Known(all) => all,
            Self::Unknown | Self::Forbidden => &[],
        }
    }

    /// How many are in which mode: `2 direct, 1 served`.
    pub fn summary(&self) -> String {
        let mut counts: Vec<(Mode, usize)> = Vec::new();
        for queue in self.known() {
            match counts.iter_mut().find(|(mode, _)| *mode == queue.mode) {
                Some((_, count)) => *count += 1,
                None => counts.push((queue.mode, 1)),
            }
        }
        let words: Vec<String> = counts
            .iter()
            .map(|(mode, count)| format!("{count} {mode}"))
            .collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, u64)]) -> Statistics {
        let own = |(name, value): &(&str, u64)| ((*name).to_owned(), *value);
        pairs.iter().map(own).collect()
    }

    #[test]
    fn statistics_tell_the_mode() {
        let mode = |pairs| Queue::new(0, &told(pairs)).mode;
        assert_eq!(
            mode(&[("ready", 0), ("direct", 1), ("relayed", 0)]),
            Mode::Off
        );
        assert_eq!(
            mode(&[("ready", 1), ("direct", 1), ("relayed", 0)]),
            Mode::Direct
        );
        assert_eq!(
            mode(&[("ready", 1), ("direct", 0), ("relayed", 0)]),
            Mode::Served
        );
        // As of mlx5_vdpa.
        assert_eq!(mode(&[("received_desc", 7)]), Mode::Unknown);
        let relayed = told(&[
            ("ready", 1),
            ("direct", 0),
            ("relayed", 1),
            ("relayed_seconds", 9),
        ]);
        assert_eq!(
            Queue::new(3, &relayed),
            Queue {
                index: 3,
                mode: Mode::Relayed,
                relayed_seconds: Some(9)
            }
        );
    }

    #[test]
    fn a_device_that_nobody_has_started_is_idle() {
        let queues = Queues::read(3, |_| Err(Errno::EAGAIN));
        assert_eq!(queues.summary(), "3 idle");
        assert_eq!(Queues::read(3, |_| Err(Errno::EPERM)), Queues::Forbidden);
        assert_eq!(Queues::read(3, |_| Err(Errno::EOPNOTSUPP)), Queues::Unknown);
        let mixed = Queues::read(3, |index| match index {
            2 => Ok(told(&[("ready", 1), ("direct", 0), ("relayed", 0)])),
            _ => Ok(told(&[("ready", 1), ("direct", 1), ("relayed", 0)])),
        });
        assert_eq!(mixed.summary(), "2 direct, 1 served");
    }
}
