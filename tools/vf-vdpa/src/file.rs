// SPDX-License-Identifier: GPL-2.0

//! The file of `vf-vdpa apply`, in TOML.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer, de};

use crate::bus::Bus;
use crate::desired::{Desired, Target, Wanted};
use crate::feature::Wish;
use crate::mac::Mac;
use crate::name::Name;
use crate::pci::Address;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    pf: Vec<Pf>,
    #[serde(default)]
    function: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pf {
    #[serde(deserialize_with = "from_text")]
    address: Address,
    vfs: Option<u16>,
    #[serde(default)]
    vf: Vec<Entry>,
}

/// A device: below a `[[pf]]` it has an index, in `[[function]]` an address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    index: Option<u16>,
    #[serde(default, deserialize_with = "from_text_if_there")]
    address: Option<Address>,
    #[serde(deserialize_with = "from_text")]
    name: Name,
    bus: Bus,
    #[serde(default, deserialize_with = "from_text_if_there")]
    mac: Option<Mac>,
    mtu: Option<u16>,
    max_vqp: Option<u16>,
    #[serde(default, deserialize_with = "features")]
    features: Option<Wish>,
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

fn from_text_if_there<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    from_text(deserializer).map(Some)
}

fn features<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Wish>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    Wish::new(words).map(Some).map_err(de::Error::custom)
}

impl Entry {
    fn wanted(self, at: Target) -> Wanted {
        Wanted {
            at,
            name: self.name,
            bus: self.bus,
            mac: self.mac,
            mtu: self.mtu,
            max_vqp: self.max_vqp,
            features: self.features,
        }
    }
}

/// Reads the text of a file.
pub fn parse(text: &str) -> Result<Desired> {
    let file: File = toml::from_str(text)?;
    let mut desired = Desired::default();
    for pf in file.pf {
        let address = pf.address;
        desired.pfs.extend(pf.vfs.map(|count| (address, count)));
        for entry in pf.vf {
            let name = &entry.name;
            if entry.address.is_some() {
                bail!("{name}: a VF of {address} is chosen by its index, not by an address");
            }
            let index = entry
                .index
                .with_context(|| format!("{name}: which VF of {address}? Give its index"))?;
            if let Some(count) = pf.vfs.filter(|count| index >= *count) {
                bail!("{name}: index {index} is beyond vfs = {count} of {address}");
            }
            let at = Target::Vf { pf: address, index };
            desired.devices.push(entry.wanted(at));
        }
    }
    for entry in file.function {
        let name = &entry.name;
        if entry.index.is_some() {
            bail!("{name}: an index belongs below a [[pf]]; a [[function]] has an address");
        }
        let address = entry
            .address
            .with_context(|| format!("{name}: a [[function]] needs an address"))?;
        desired
            .devices
            .push(entry.wanted(Target::Function(address)));
    }
    let contradictions = desired.contradictions();
    if !contradictions.is_empty() {
        bail!(contradictions.join("; "));
    }
    Ok(desired)
}

#[cfg(test)]
mod tests;
