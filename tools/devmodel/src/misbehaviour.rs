// SPDX-License-Identifier: GPL-2.0

//! What the function does wrong, switched while it runs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::status::FEATURES_OK;

/// A way not to behave. It lasts until the function behaves again, but for those that happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Misbehaviour {
    /// A reset through the status register does not come to an end
    NeverReset,
    /// It takes so many milliseconds
    LateReset,
    /// A reset of the function (FLR) changes nothing of the device
    IgnoreFlr,
    /// Every other read of the status shows another one
    StatusFlips,
    /// At once: it resets itself, and keeps its PCI configuration
    Forget,
    /// At once: it resets itself, and loses its PCI configuration
    ForgetAll,
    /// At once: it says that it needs a reset
    NeedsReset,
    /// It needs a reset as soon as a driver sets one of these bits of the status
    NeedsResetAt,
    /// `FEATURES_OK` does not stick
    RefuseFeaturesOk,
    /// `DRIVER_OK` does not stick
    RefuseDriverOk,
    /// Vectors do not stick
    RefuseVectors,
    /// Queues stay disabled
    RefuseQueues,
    /// Every read of the configuration generation shows another one
    UnsettledGeneration,
    /// Whoever has read the configuration and reads it again finds another one
    RestlessConfiguration,
    /// All vectors interrupt all the time, so many milliseconds apart at least
    InterruptStorm,
    /// At once: all vectors interrupt
    SpuriousInterrupt,
    /// Queues do not interrupt
    NoInterrupts,
    /// The used index jumps ahead by so many
    UsedIndexJump,
    /// Used entries have an id that no ring has
    UsedBadId,
    /// The first frame that is sent from now on is kept, and those behind it are returned
    OutOfOrder,
    /// At once: writes where nothing is mapped, and to the rings that it was given last
    DmaOutside,
    /// It reaches memory although it may not be a bus master
    IgnoreMaster,
    /// All reads give ones, as of a function that was pulled out
    AllOnes,
    /// All reads of BARs give ones
    DeadRegisters,
    /// The reset of a queue does not come to an end
    NeverQueueReset,
    /// It takes so many milliseconds
    LateQueueReset,
    /// It does not suspend itself
    NeverSuspend,
    /// It fails when it is to suspend itself
    FailSuspend,
    /// It does not resume
    NeverResume,
    /// Commands of the control queue are not answered, once so many were
    IgnoreCommands,
}

impl Misbehaviour {
    /// What its argument is if none is given; `None` if it takes none.
    fn default_argument(self) -> Option<u64> {
        match self {
            Self::LateReset | Self::LateQueueReset => Some(500),
            Self::InterruptStorm => Some(1),
            Self::UsedIndexJump => Some(1000),
            Self::IgnoreCommands => Some(0),
            Self::NeedsResetAt => Some(u64::from(FEATURES_OK)),
            _ => None,
        }
    }
}

/// What the function does wrong now.
#[derive(Debug, Default)]
pub struct Behaviour(BTreeMap<Misbehaviour, u64>);

impl Behaviour {
    /// Takes up what `words` say: the name of a misbehaviour, and its argument if it has one.
    pub fn take_up(&mut self, words: &[&str]) -> Result<Misbehaviour> {
        let (name, argument) = words.split_first().context("misbehave how?")?;
        let how = Misbehaviour::from_str(name, false)
            .map_err(|_| anyhow::anyhow!("there is no misbehaviour {name}"))?;
        let value = match (how.default_argument(), argument) {
            (None, []) => 0,
            (Some(default), []) => default,
            (Some(_), [number]) => number
                .parse()
                .with_context(|| format!("{number} is no number"))?,
            _ => anyhow::bail!("{name} does not take {}", argument.join(" ")),
        };
        ensure!(value < 1 << 32, "{value} is too great");
        self.0.insert(how, value);
        Ok(how)
    }

    /// Behaves.
    pub fn behave(&mut self) {
        self.0.clear();
    }

    /// Ends one.
    pub fn drop(&mut self, how: Misbehaviour) {
        self.0.remove(&how);
    }

    /// Whether it does this.
    pub fn does(&self, how: Misbehaviour) -> bool {
        self.0.contains_key(&how)
    }

    /// The argument of what it does, if it does.
    pub fn argument(&self, how: Misbehaviour) -> Option<u64> {
        self.0.get(&how).copied()
    }

    /// The names of all that it does.
    pub fn names(&self) -> Vec<String> {
        self.0
            .keys()
            .filter_map(|how| Some(how.to_possible_value()?.get_name().to_owned()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let mut behaviour = Behaviour::default();
        assert!(behaviour.take_up(&["never-reset"]).is_ok());
        assert!(behaviour.take_up(&["never-rest"]).is_err());
        assert!(behaviour.take_up(&[]).is_err());
        assert!(behaviour.take_up(&["never-reset", "5"]).is_err());
        assert!(behaviour.take_up(&["late-reset", "soon"]).is_err());
        assert!(behaviour.take_up(&["late-reset", "7"]).is_ok());
        assert_eq!(behaviour.argument(Misbehaviour::LateReset), Some(7));
        assert_eq!(behaviour.names(), ["never-reset", "late-reset"]);
        behaviour.behave();
        assert!(!behaviour.does(Misbehaviour::NeverReset));
    }
}
