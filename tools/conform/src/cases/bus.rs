// SPDX-License-Identifier: GPL-2.0

//! What the `vdpa` tool shows of the device, against what the device tells its owner.

use std::ops::RangeInclusive;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use vdpa_user::device::feature;
use vdpa_user::frame::HEADER;

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
    Case {
        id: "bus-5",
        title: "statistics count what was done",
        demands: "the counters of a queue grow by what it was given: requests, bytes, and at least one notification of each side",
        source: "linux/vdpa.h, get_vendor_vq_stats; what each driver calls its counters",
        run: counted,
    },
    Case {
        id: "bus-6",
        title: "there are no statistics of other queues",
        demands: "`vdpa dev vstats show` fails for a queue that there is not: any user of the machine may ask",
        source: "linux/vdpa.h, get_vendor_vq_stats",
        run: no_such_statistics,
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

/// The statistics of a queue; or why there are none.
fn vstats(name: &str, queue: u32) -> Result<Result<Map<String, Value>, Verdict>> {
    let queue = queue.to_string();
    match vdpa(&["dev", "vstats", "show", name, "qidx", &queue]) {
        Ok(all) => {
            let counters = all["vstats"][name].as_object();
            Ok(Ok(counters.context("no statistics in the answer")?.clone()))
        }
        Err(error) if format!("{error:#}").contains("not supported") => {
            Ok(Err(Verdict::Skip(format!("{error:#}"))))
        }
        Err(error) => Err(error),
    }
}

fn statistics(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let mut live = Live::open(target)?;
    live.work(20)?;
    match vstats(name, live.worker()?.index.into())? {
        Ok(counters) => pass(Value::from(counters).to_string()),
        Err(skipped) => Ok(skipped),
    }
}

/// Requests that a queue was given, and bytes of theirs.
#[derive(Clone, Copy)]
struct Given {
    requests: u64,
    bytes: u64,
}

/// By how much a counter may have grown.
type Growth = fn(Given) -> RangeInclusive<u64>;

/// What is known of the counters of transmit queues: their names are a matter of each driver.
const COUNTERS: [(&str, Growth); 10] = [
    // vdpa_sim_net. A header may be counted or not.
    ("tx packets", |given| given.requests..=given.requests),
    ("tx bytes", |given| {
        let headers = given.requests * u64::try_from(HEADER).unwrap_or(0);
        given.bytes.saturating_sub(headers)..=given.bytes
    }),
    ("tx errors", |_| 0..=0),
    ("tx drops", |_| 0..=0),
    // mlx5_vdpa.
    ("received_desc", |given| given.requests..=given.requests),
    ("completed_desc", |given| given.requests..=given.requests),
    // vf_vdpa. Several requests may share one notification, and several queues one interrupt.
    ("kicks", |given| 1..=given.requests),
    ("interrupts", |_| 1..=u64::MAX),
    // rust_vdpa_loopback.
    ("frames", |given| given.requests..=given.requests),
    ("dropped", |_| 0..=0),
];

fn counted(target: &Target) -> Result<Verdict> {
    const REQUESTS: u32 = 100;
    let name = name!(target);
    let mut live = Live::open(target)?;
    live.work(10)?;
    let queue = u32::from(live.worker()?.index);
    let before = match vstats(name, queue)? {
        Ok(before) => before,
        Err(skipped) => return Ok(skipped),
    };
    let bytes = live.bytes;
    live.work(REQUESTS)?;
    let given = Given {
        requests: REQUESTS.into(),
        bytes: live.bytes - bytes,
    };
    let after = match vstats(name, queue)? {
        Ok(after) => after,
        Err(_) => return fail("there were statistics before the requests, and none after them"),
    };
    let (mut told, mut wrong) = (Vec::new(), Vec::new());
    for (counter, growth) in COUNTERS {
        let value = |all: &Map<String, Value>| all.get(counter).and_then(Value::as_u64);
        let Some(old) = value(&before) else {
            continue;
        };
        let grown = value(&after).and_then(|new| new.checked_sub(old));
        let allowed = growth(given);
        told.push(format!("{counter} {grown:?}"));
        if !grown.is_some_and(|grown| allowed.contains(&grown)) {
            wrong.push(format!("{counter} by {grown:?}, not {allowed:?}"));
        }
    }
    if told.is_empty() {
        let names: Vec<_> = after.keys().collect();
        return skip(format!("nobody here knows what these count: {names:?}"));
    }
    let seen = format!("{REQUESTS} requests of {} bytes: {told:?}", given.bytes);
    verdict(wrong.is_empty(), format!("{seen}; wrong: {wrong:?}"))
}

fn no_such_statistics(target: &Target) -> Result<Verdict> {
    let name = name!(target);
    let mut live = Live::open(target)?;
    live.work(5)?;
    if let Err(skipped) = vstats(name, live.worker()?.index.into())? {
        return Ok(skipped);
    }
    let beyond = live.device.queue_count()?;
    let told: Vec<_> = [beyond, 0xffff]
        .into_iter()
        .filter(|queue| matches!(vstats(name, *queue), Ok(Ok(_))))
        .collect();
    live.work(5)?;
    verdict(
        told.is_empty(),
        format!("of {beyond} queues, statistics of these were told: {told:?}"),
    )
}
