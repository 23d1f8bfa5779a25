// SPDX-License-Identifier: GPL-2.0

//! What the function is.
//!
//! The emulator looks at the largest one, once. Each of the others has no more vectors and the same
//! BARs, so that it can take its place while no driver looks.

use anyhow::Result;
use clap::{Args, Parser, ValueEnum};

use crate::feature;

/// Most vectors that a function has.
pub const MOST_VECTORS: u16 = 2048;

/// What is wrong with the capabilities of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CapabilityFault {
    /// The device configuration ends outside of its BAR
    OutsideBar,
    /// The offset of the notifications is so great that their end wraps
    Wrapping,
    /// Device and common configuration lie on top of each other
    Overlap,
    /// The notifications lie on the MSI-X table
    OnVectors,
    /// The common configuration is not aligned
    Misaligned,
    /// There is no common configuration
    MissingCommon,
    /// There are no notifications
    MissingNotify,
    /// The common configuration is shorter than its fields
    Short,
    /// The capability of the notifications is shorter than its fields
    Truncated,
    /// The common configuration is in a BAR that is not there
    NoBar,
    /// The notification multiplier is 3
    Multiplier,
    /// The doorbells lie outside of the notifications
    Doorbells,
}

/// What the function is.
#[derive(Args, Clone, Debug)]
pub struct Shape {
    /// MSI-X vectors, 1 to 2048; without: one for each queue and one for the configuration
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_VECTORS)))]
    pub vectors: Option<u16>,
    /// Pairs of data queues
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queue_pairs: u16,
    /// Entries that each queue says it has at most
    #[arg(long, default_value_t = 256)]
    pub queue_size: u16,
    /// A queue that says it has no entries, which means that it is not there
    #[arg(long)]
    pub no_queue: Option<u16>,
    /// Queues that the function says it has, whatever it has
    #[arg(long)]
    pub num_queues: Option<u16>,
    /// Queue pairs that the configuration says there are, whatever there are
    #[arg(long)]
    pub max_pairs: Option<u16>,
    /// Offers SUSPEND (virtio 1.4)
    #[arg(long)]
    pub suspend: bool,
    /// Does not offer `RING_RESET`
    #[arg(long)]
    pub no_ring_reset: bool,
    /// Offers packed rings, and works with nothing else
    #[arg(long)]
    pub packed_only: bool,
    /// Length of the device configuration in bytes
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub config_len: u32,
    /// Numbers of features that it offers besides
    #[arg(long, num_args = 1.., value_parser = clap::value_parser!(u32).range(0..64))]
    pub offer: Vec<u32>,
    /// Numbers of features that it does not offer
    #[arg(long, num_args = 1.., value_parser = clap::value_parser!(u32).range(0..64))]
    pub withhold: Vec<u32>,
    /// What is wrong with its capabilities
    #[arg(long, value_enum)]
    pub capabilities: Option<CapabilityFault>,
}

/// Options without a program.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Options {
    #[command(flatten)]
    shape: Shape,
}

impl Shape {
    /// The shape with these options.
    pub fn parse(options: &[&str]) -> Result<Self> {
        Ok(Options::try_parse_from(options)?.shape)
    }

    /// The shape that has all that any has.
    pub fn largest() -> Self {
        let vectors = Some(MOST_VECTORS);
        Self {
            vectors,
            ..Options::parse_from([""; 0]).shape
        }
    }

    /// The queues that there are: the pairs and the control queue.
    pub fn queues(&self) -> u16 {
        2 * self.queue_pairs + 1
    }

    /// The MSI-X vectors that there are.
    pub fn vectors(&self) -> u16 {
        self.vectors
            .unwrap_or((self.queues() + 1).min(MOST_VECTORS))
    }

    /// The features that it offers.
    pub fn features(&self) -> u64 {
        let mut bits = vec![
            feature::VERSION_1,
            feature::ACCESS_PLATFORM,
            feature::RING_INDIRECT_DESC,
            feature::RING_EVENT_IDX,
            feature::MTU,
            feature::MAC,
            feature::STATUS,
            feature::CTRL_VQ,
            feature::CTRL_RX,
            feature::CTRL_VLAN,
            feature::CTRL_MAC_ADDR,
        ];
        for (wanted, bit) in [
            (self.queue_pairs > 1, feature::MQ),
            (self.suspend, feature::SUSPEND),
            (!self.no_ring_reset, feature::RING_RESET),
            (self.packed_only, feature::RING_PACKED),
        ] {
            if wanted {
                bits.push(bit);
            }
        }
        bits.extend(&self.offer);
        bits.iter()
            .filter(|bit| !self.withhold.contains(bit))
            .fold(0, |all, bit| all | (1 << bit))
    }

    /// Whether it works with these features.
    pub fn accepts(&self, features: u64) -> bool {
        let mut needed = (1 << feature::VERSION_1) | (1 << feature::ACCESS_PLATFORM);
        if self.packed_only {
            needed |= 1 << feature::RING_PACKED;
        }
        features & !self.features() == 0 && features & needed == needed
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The shape with these options.
    pub fn shape(options: &str) -> Shape {
        Shape::parse(&options.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_are_checked() {
        assert!(Shape::parse(&["--vectors", "0"]).is_err());
        assert!(Shape::parse(&["--capabilities", "odd"]).is_err());
        assert_eq!(Shape::largest().vectors(), MOST_VECTORS);
    }

    #[test]
    fn options_decide_what_is_offered() {
        assert_eq!((shape("").features() >> feature::RING_RESET) & 1, 1);
        assert_eq!(
            (shape("--no-ring-reset").features() >> feature::RING_RESET) & 1,
            0
        );
        assert_eq!((shape("--suspend").features() >> feature::SUSPEND) & 1, 1);
        let other = shape("--offer 38 --withhold 5 16");
        assert_eq!((other.features() >> 38) & 1, 1);
        assert_eq!(other.features() & ((1 << 5) | (1 << 16)), 0);
    }

    #[test]
    fn what_is_not_offered_is_not_accepted() {
        let least = (1 << feature::VERSION_1) | (1 << feature::ACCESS_PLATFORM);
        assert!(shape("").accepts(least));
        assert!(!shape("").accepts(1 << feature::VERSION_1));
        assert!(!shape("").accepts(least | (1 << feature::SUSPEND)));
        assert!(!shape("--packed-only").accepts(least));
        assert!(shape("--packed-only").accepts(least | (1 << feature::RING_PACKED)));
    }

    #[test]
    fn vectors_follow_from_queues() {
        assert_eq!(shape("").vectors(), 4);
        assert_eq!(shape("--vectors 2 --queue-pairs 4").vectors(), 2);
        assert_eq!(shape("--queue-pairs 1024").vectors(), 2048);
    }
}
