// SPDX-License-Identifier: GPL-2.0

//! Addresses of network devices.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::{Serialize, Serializer};

/// The MAC address of a station: neither zero nor that of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these bytes, if a station can have it.
    pub fn new(bytes: [u8; 6]) -> Option<Self> {
        let [first, ..] = bytes;
        (first & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// The bytes, in the order in which they are sent.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(byte).collect();
        let Some(Ok(bytes)) = bytes.map(<[u8; 6]>::try_from) else {
            bail!("{text:?} is no MAC address; one looks like 02:00:00:00:00:05");
        };
        Self::new(bytes).with_context(|| {
            format!("{text} is no station's address: it is all zeroes, or its first byte is odd")
        })
    }
}

fn byte(text: &str) -> Option<u8> {
    let two = text.len() == 2 && text.chars().all(|c| c.is_ascii_hexdigit());
    two.then(|| u8::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stations_have_one() {
        let mac: Mac = "02:00:00:00:AB:05".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:ab:05");
        for text in [
            "00:00:00:00:00:00",
            "01:00:00:00:00:05",
            "ff:ff:ff:ff:ff:ff",
            "02:00:00:00:05",
            "02:00:00:00:00:05:06",
            "2:0:0:0:0:5",
            "",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
