// SPDX-License-Identifier: GPL-2.0

//! Where a PCI function is.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Serialize, Serializer};

/// The address of a PCI function: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl FromStr for Address {
    type Err = Error;

    /// Takes `0000:01:00.1`, `01:00.1`, and both after `pci/`, as the `vdpa` tool writes it.
    fn from_str(text: &str) -> Result<Self> {
        let bare = text.strip_prefix("pci/").unwrap_or(text);
        match parse(bare) {
            Some(address) => Ok(address),
            None => bail!("{text:?} is no PCI address; one looks like pci/0000:01:00.1 (lspci -D)"),
        }
    }
}

fn parse(text: &str) -> Option<Address> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let address = Address {
        domain: u32::from_str_radix(digits(domain, 8)?, 16).ok()?,
        bus: u8::from_str_radix(digits(bus, 2)?, 16).ok()?,
        device: u8::from_str_radix(digits(device, 2)?, 16).ok()?,
        function: u8::from_str_radix(digits(function, 1)?, 16).ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

/// `text` if it is a hexadecimal number of at most `most` digits, without a sign.
fn digits(text: &str, most: usize) -> Option<&str> {
    let fits = (1..=most).contains(&text.len());
    (fits && text.chars().all(|c| c.is_ascii_hexdigit())).then_some(text)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_it_is_one_address() {
        for text in ["0000:01:1f.7", "01:1f.7", "pci/0000:01:1f.7", "pci/1:1F.7"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), "0000:01:1f.7");
        }
        let far: Address = "10000:e1:00.0".parse().unwrap();
        assert_eq!(far.to_string(), "10000:e1:00.0");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "pci/",
            "01",
            "01:00",
            "01:20.0",
            "01:00.8",
            "+1:00.0",
            "0000:001:00.0",
            "../00:0.0",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
