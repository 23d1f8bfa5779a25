// SPDX-License-Identifier: GPL-2.0

//! Feature bits by the names that the driver, its log and this project's pages use.
//!
//! The table is that of crate `virtio`, so a name cannot mean one bit here and another in the
//! driver.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Serialize, Serializer};
use virtio::device_id::DeviceId;
use virtio::features::Features;

/// What a set of features is written as, in a table of names and where a bit has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    bits: u64,
    class: DeviceId,
}

impl Set {
    /// The features `bits` of a device of type `class`.
    pub fn new(bits: u64, class: DeviceId) -> Self {
        Self { bits, class }
    }

    /// The mask.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// The names, lowest bit first.
    pub fn names(self) -> Vec<String> {
        if self.bits == 0 {
            return Vec::new();
        }
        let text = Features::from_bits(self.bits).names(self.class).to_string();
        text.split(' ').map(str::to_owned).collect()
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Features::from_bits(self.bits).names(self.class), f)
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// What somebody asks for: names, `bitN` and hexadecimal masks, whose bits depend on the type of
/// device, which is not known before the function has been looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wish(Vec<String>);

impl Wish {
    /// The features that these words name.
    pub fn new(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let words: Vec<String> = words.into_iter().collect();
        ensure!(
            !words.is_empty(),
            "an empty list of features asks for a device that can do nothing; leave it out to get \
             the driver's choice"
        );
        for word in &words {
            // Whether the name exists for this type of device is seen later; a typing error that
            // exists for none should not have to wait for that.
            let known = [DeviceId::NET, DeviceId::BLOCK, DeviceId::RNG]
                .iter()
                .any(|class| bits(word, *class).is_some());
            ensure!(known, "{}", unknown(word));
        }
        Ok(Self(words))
    }

    /// The features as words between commas or blanks: `MAC,STATUS` or `0x300000020`.
    pub fn from_text(text: &str) -> Result<Self> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        Self::new(words.map(str::to_owned))
    }

    /// The mask for a device of type `class`.
    pub fn mask(&self, class: DeviceId) -> Result<u64> {
        let mut mask = 0;
        for word in &self.0 {
            mask |= bits(word, class).with_context(|| {
                format!(
                    "{word} is no feature of a {class} device; {}",
                    unknown(word)
                )
            })?;
        }
        Ok(mask)
    }
}

fn unknown(word: &str) -> String {
    format!(
        "the feature {word:?} is not known: names are those of `vdpa mgmtdev show`, such as MAC, \
         or bitN, or a mask such as 0x300000020"
    )
}

/// The bits that `word` names in a device of type `class`.
fn bits(word: &str, class: DeviceId) -> Option<u64> {
    if let Some(mask) = word.strip_prefix("0x") {
        let plain = mask.chars().all(|c| c.is_ascii_hexdigit());
        return plain.then(|| u64::from_str_radix(mask, 16).ok()).flatten();
    }
    let upper = word.to_ascii_uppercase();
    let prefixes = ["VIRTIO_NET_F_", "VIRTIO_BLK_F_", "VIRTIO_F_"];
    let bare = prefixes
        .iter()
        .find_map(|prefix| upper.strip_prefix(prefix));
    let wanted = bare.unwrap_or(&upper);
    (0..u64::BITS).find_map(|number| {
        let feature = Features::bit(number);
        let name = feature.names(class).to_string();
        let hit = name.eq_ignore_ascii_case(wanted) || wanted == format!("BIT{number}");
        hit.then(|| feature.bits())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_bits_names() {
        let wish = Wish::from_text("MAC, version_1 VIRTIO_F_ACCESS_PLATFORM,bit44").unwrap();
        assert_eq!(wish.mask(DeviceId::NET).unwrap(), 0x1003_0000_0020);
        let set = Set::new(0x1003_0000_0020, DeviceId::NET);
        assert_eq!(set.to_string(), "MAC VERSION_1 ACCESS_PLATFORM bit44");
        assert_eq!(Wish::new(set.names()).unwrap(), Wish(set.names()));
        assert_eq!(Set::new(0, DeviceId::NET).names(), Vec::<String>::new());
    }

    #[test]
    fn a_name_means_what_it_means_for_that_device() {
        let wish = Wish::from_text("MQ").unwrap();
        assert_eq!(wish.mask(DeviceId::NET).unwrap(), 1 << 22);
        assert_eq!(wish.mask(DeviceId::BLOCK).unwrap(), 1 << 12);
        let error = Wish::from_text("MAC").unwrap().mask(DeviceId::BLOCK);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("no feature of a blk device")
        );
    }

    #[test]
    fn a_mask_is_taken_as_it_is() {
        assert_eq!(
            Wish::from_text("0x300000020")
                .unwrap()
                .mask(DeviceId::RNG)
                .unwrap(),
            0x3_0000_0020
        );
    }

    #[test]
    fn what_is_no_feature_is_refused_at_once() {
        for text in [
            "",
            "MAK",
            "0x",
            "0x1ffffffffffffffff",
            "0x+1",
            "bit64",
            "MAC,oops",
        ] {
            assert!(Wish::from_text(text).is_err(), "{text}");
        }
    }
}
