// SPDX-License-Identifier: GPL-2.0

//! A case: what a text demands of a device, and how to see whether it does it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use vdpa_user::device::Device;

/// VHOST_BACKEND_F_SUSPEND.
pub const SUSPEND: u64 = 1 << 4;
/// VHOST_BACKEND_F_RESUME.
pub const RESUME: u64 = 1 << 5;
/// VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK.
pub const ENABLE_LATE: u64 = 1 << 6;
/// VHOST_BACKEND_F_DESC_ASID.
pub const DESC_ASID: u64 = 1 << 7;
/// VHOST_BACKEND_F_IOTLB_PERSIST.
pub const IOTLB_PERSIST: u64 = 1 << 8;

/// The device that is looked at.
pub struct Target {
    /// Its `/dev/vhost-vdpa-N`.
    pub path: PathBuf,
    /// Its name on the vDPA bus, if known: then what `vdpa` shows is looked at, too.
    pub name: Option<String>,
}

impl Target {
    /// Opens the device, and nothing else.
    pub fn open(&self) -> Result<Device> {
        Device::open(&self.path)
    }

    /// Opens the device and becomes its owner: it reaches nothing.
    pub fn own(&self) -> Result<Device> {
        let mut device = self.open()?;
        device.own()?;
        let persist = device.backend_features()? & IOTLB_PERSIST;
        device.accept_backend_features(persist)?;
        Ok(device)
    }

    /// Opens the device, becomes its owner and lets it reach memory: over resets, too, if it offers
    /// that.
    pub fn claim(&self) -> Result<Device> {
        let mut device = self.open()?;
        device.claim()?;
        if device.backend_features()? & IOTLB_PERSIST != 0 {
            device.accept_backend_features(IOTLB_PERSIST)?;
        }
        Ok(device)
    }
}

/// What came of a case, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "seen")]
pub enum Verdict {
    /// The device does what the text demands.
    Pass(String),
    /// It does not.
    Fail(String),
    /// The text demands nothing of this device, or nobody can see what it does.
    Skip(String),
}

/// Passes or fails with what was seen.
pub fn verdict(holds: bool, seen: impl Into<String>) -> Result<Verdict> {
    let seen = seen.into();
    Ok(if holds {
        Verdict::Pass(seen)
    } else {
        Verdict::Fail(seen)
    })
}

/// Passes by the way.
pub fn pass(seen: impl Into<String>) -> Result<Verdict> {
    Ok(Verdict::Pass(seen.into()))
}

/// Fails by the way.
pub fn fail(seen: impl Into<String>) -> Result<Verdict> {
    Ok(Verdict::Fail(seen.into()))
}

/// The case says nothing about this device.
pub fn skip(why: impl Into<String>) -> Result<Verdict> {
    Ok(Verdict::Skip(why.into()))
}

/// One case.
pub struct Case {
    /// Its group and its number there, which stay as they are.
    pub id: &'static str,
    /// What it is about, in a few words.
    pub title: &'static str,
    /// What the text demands.
    pub demands: &'static str,
    /// Where it says so.
    pub source: &'static str,
    /// Finds out. An error is a device that could not even be brought to where it matters.
    pub run: fn(&Target) -> Result<Verdict>,
}

/// The texts that cases refer to.
pub mod source {
    /// `include/uapi/linux/vhost.h`.
    pub const UAPI: &str = "uapi/linux/vhost.h";
    /// `include/uapi/linux/vhost_types.h`.
    pub const TYPES: &str = "uapi/linux/vhost_types.h";
}

/// The cases that `patterns` (of the shell's kind) select; none selects all.
pub fn select(cases: &[&'static Case], patterns: &[String]) -> Result<Vec<&'static Case>> {
    let mut chosen = Vec::new();
    let compiled = patterns
        .iter()
        .map(|text| {
            let whole = if text.contains('-') || text.contains('*') {
                text.clone()
            } else {
                format!("{text}-*")
            };
            Ok((text, glob::Pattern::new(&whole)?))
        })
        .collect::<Result<Vec<_>>>()?;
    for (text, pattern) in &compiled {
        if !cases.iter().any(|case| pattern.matches(case.id)) {
            bail!("no case is called `{text}`; `vdpa-conform list` shows all");
        }
    }
    for case in cases {
        if compiled.is_empty() || compiled.iter().any(|(_, pattern)| pattern.matches(case.id)) {
            chosen.push(*case);
        }
    }
    Ok(chosen)
}
