// SPDX-License-Identifier: GPL-2.0

//! What the `vdpa` tool shows of the device, against what the device tells its owner.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vdpa_user::device::feature;

use crate::bench::{Class, Live};
use crate::case::{Case, Target, Verdict, fail, pass, skip, verdict};

pub const CASES: &[Case] = &[
    Case {
        id: "bus-1",
        title: "the device is shown as it is",
        demands: "`vdpa dev show` tells the number of queues and their largest size as the device does",
        source: "vdpa(8), uapi/linux/vdpa.h",
        run: shown,
    },
    Case {
        id: "bus-2",
        title: "the configuration is shown as it is",
        demands: "`vdpa dev config show` tells the fields of the configuration space",
        source: "vdpa(8), uapi/linux/vdpa.h",
        run: configuration,
    },
    Case {
        id: "bus-3",
        title: "getters do not disturb",
        demands: "a device at work is not disturbed by whoever reads what there is to read of it",
        source: "linux/vdpa.h",
        run: getters,
    },
    Case {
        id: "bus-4",
        title: "statistics are told, or refused",
        demands: "`vdpa dev vstats show` tells the statistics of a queue of a device at work, or that there are none",
        source: "linux/vdpa.h, get_vendor_vq_stats",
        run: statistics,
    },
];

/// What `vdpa` says, as JSON.
fn vdpa(words: &[&str]) -> Result<Value> {
    let output = Command::new("vdpa")
        .arg("-j")
        .args(words)
        .output()
        .context("starting vdpa, of iproute2")?;
    ensure!(
        output.status.success(),
        "vdpa {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The name, or why the case says nothing.
macro_rules! name {
    ($target:expr) => {
        match $target.name.as_deref() {
            Some(name) => name,
            None => return skip("the device's name was not given"),
        }
    };
}

fn shown(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let device = target.open()?;
    let all = vdpa(&["dev", "show", name])?;
    let field = |key: &str| all["dev"][name][key].as_u64();
    let told = (
        u64::from(device.queue_count()?),
        u64::from(device.queue_limit()?),
    );
    let shown = (field("max_vqs"), field("max_vq_size"));
    verdict(
        shown == (Some(told.0), Some(told.1)),
        format!("shown {shown:?}, told {told:?}"),
    )
}

fn configuration(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let device = target.claim()?;
    if Class::of(&device)? != Class::Net {
        return skip("only the fields of network devices are looked at");
    }
    device.negotiate(device.features()?)?;
    let all = vdpa(&["dev", "config", "show", name])?;
    let shown = &all["config"][name];
    let config = device.config()?;
    let mut wrong = Vec::new();
    if device.features()? & feature::MAC != 0 {
        let address: Vec<String> = config
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if shown["mac"].as_str() != Some(&address.join(":")) {
            wrong.push(format!("mac {}, not {}", shown["mac"], address.join(":")));
        }
    }
    if device.features()? & feature::MTU != 0 {
        let mtu = device.config16(10)?;
        if shown["mtu"].as_u64() != Some(mtu.into()) {
            wrong.push(format!("mtu {}, not {mtu}", shown["mtu"]));
        }
    }
    verdict(wrong.is_empty(), format!("{shown}; wrong: {wrong:?}"))
}

fn getters(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let mut live = Live::open(target)?;
    for _ in 0..20 {
        vdpa(&["dev", "show", name])?;
        vdpa(&["dev", "config", "show", name])?;
        live.work(20)?;
    }
    pass("20 times, with 20 requests in between")
}

fn statistics(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let mut live = Live::open(target)?;
    live.work(20)?;
    let index = live.worker()?.index.to_string();
    match vdpa(&["dev", "vstats", "show", name, "qidx", &index]) {
        Ok(all) => pass(format!("{}", all["vstats"][name])),
        Err(error) => {
            let text = format!("{error:#}");
            if text.contains("not supported") {
                skip(text)
            } else {
                fail(text)
            }
        }
    }
}
