// SPDX-License-Identifier: GPL-2.0

//! What a device shows of itself, for scripts.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::ktap::Report;
use vdpa_user::device::Device;
use vdpa_user::doorbell::Page;

#[derive(Serialize)]
struct Info {
    device_id: u32,
    features: u64,
    feature_bits: Vec<u32>,
    backend_features: u64,
    status: u8,
    queues: u32,
    queue_limit: u16,
    queue_sizes: Vec<Option<u32>>,
    doorbells: Vec<bool>,
    iova_first: u64,
    iova_last: u64,
    config: Vec<u8>,
}

/// Prints one line of JSON.
pub fn print(report: &mut Report, path: &Path) -> Result<()> {
    let mut device = Device::open(path)?;
    // Queue sizes are told to the owner alone.
    device.claim()?;
    let features = device.features()?;
    let queues = device.queue_count()?;
    let (iova_first, iova_last) = device.iova_range()?;
    let queue_sizes = (0..queues).map(|index| device.queue_size(index)).collect();
    let doorbells = (0..queues)
        .map(|index| u16::try_from(index).is_ok_and(|index| Page::map(&device, index).is_ok()))
        .collect();
    let info = Info {
        device_id: device.device_id()?,
        features,
        feature_bits: (0..64).filter(|bit| (features >> bit) & 1 == 1).collect(),
        backend_features: device.backend_features()?,
        status: device.status()?,
        queues,
        queue_limit: device.queue_limit()?,
        queue_sizes,
        doorbells,
        iova_first,
        iova_last,
        config: device.config()?,
    };
    println!("{}", serde_json::to_string(&info)?);
    report.ok("the device answers");
    Ok(())
}
