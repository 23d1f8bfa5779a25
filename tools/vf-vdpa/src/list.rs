// SPDX-License-Identifier: GPL-2.0

//! `vf-vdpa list`: what there is, for people and for programs.

use anstyle::Style;
use serde::Serialize;
use virtio::device_id::DeviceId;

use crate::device::{Device, Use};
use crate::feature::Set;
use crate::function::Function;
use crate::interface::{Interface, VirtioDevice};
use crate::opener::Opener;
use crate::pci::Address;
use crate::queue::{Queue, Queues};
use crate::seen::Seen;
use crate::table::{self, DIM, GOOD, HEAD, Row};

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// The whole list, as JSON has it.
#[derive(Serialize)]
pub struct List<'s> {
    functions: Vec<FunctionView<'s>>,
    devices: Vec<DeviceView<'s>>,
    /// What could not be seen, and why.
    unseen: &'s [String],
}

#[derive(Serialize)]
struct FunctionView<'s> {
    kind: &'static str,
    #[serde(flatten)]
    function: &'s Function,
    /// The names of its vDPA devices.
    devices: Vec<&'s str>,
    /// What the driver could offer in a device, if it is a management device.
    supported_features: Option<Set>,
    max_vqs: Option<u32>,
}

#[derive(Serialize)]
struct DeviceView<'s> {
    name: &'s str,
    function: Option<Address>,
    parent: Option<&'s str>,
    class: Option<String>,
    driver: Option<&'s str>,
    driver_override: Option<&'s str>,
    mac: Option<String>,
    mtu: Option<u16>,
    max_vqp: Option<u16>,
    link: Option<bool>,
    features: Option<Set>,
    negotiated_features: Option<Set>,
    max_vqs: u32,
    node: Option<String>,
    virtio: &'s [VirtioDevice],
    openers: &'s [Opener],
    /// Null if it cannot be known.
    in_use: Option<bool>,
    in_use_why: Option<String>,
    /// Null if they cannot be known.
    queues: Option<&'s [Queue]>,
}

impl<'s> List<'s> {
    /// The list of what was seen.
    pub fn new(seen: &'s Seen) -> Self {
        Self {
            functions: seen
                .functions
                .iter()
                .map(|function| FunctionView::new(seen, function))
                .collect(),
            devices: seen.devices.iter().map(DeviceView::new).collect(),
            unseen: &seen.unseen,
        }
    }
}

impl<'s> FunctionView<'s> {
    fn new(seen: &'s Seen, function: &'s Function) -> Self {
        let handle = format!("pci/{}", function.address);
        let parent = seen.parents.iter().find(|parent| parent.handle == handle);
        let class = function.class.unwrap_or(DeviceId::new(0));
        Self {
            kind: kind(function),
            function,
            devices: seen
                .devices_on(function.address)
                .map(|device| device.name.as_str())
                .collect(),
            supported_features: parent
                .and_then(|parent| parent.features)
                .map(|bits| Set::new(bits, class)),
            max_vqs: parent.and_then(|parent| parent.max_vqs),
        }
    }
}

fn kind(function: &Function) -> &'static str {
    match (&function.sriov, &function.vf_of) {
        (_, Some(_)) => "vf",
        (Some(_), None) => "pf",
        (None, None) => "function",
    }
}

impl<'s> DeviceView<'s> {
    fn new(device: &'s Device) -> Self {
        let config = device.config.clone().unwrap_or_default();
        let class = device.class_or_none();
        let set = |bits: Option<u64>| bits.map(|bits| Set::new(bits, class));
        let (in_use, in_use_why) = match device.usage() {
            Use::Free => (Some(false), None),
            Use::Busy(why) => (Some(true), Some(why)),
            Use::Unknown(why) => (None, Some(why)),
        };
        Self {
            name: &device.name,
            function: device.function,
            parent: device.parent.as_deref(),
            class: device.class.map(|class| class.to_string()),
            driver: device.driver.as_deref(),
            driver_override: device.driver_override.as_deref(),
            mac: config.mac.map(|mac| colons(&mac)),
            mtu: config.mtu,
            max_vqp: config.max_vqp,
            link: config.link,
            features: set(config.features),
            negotiated_features: set(config.negotiated),
            max_vqs: device.max_vqs,
            node: device.node.as_ref().map(|node| format!("/dev/{node}")),
            virtio: &device.virtio,
            openers: &device.openers,
            in_use,
            in_use_why,
            queues: match &device.queues {
                Queues::Known(all) => Some(all),
                Queues::Unknown | Queues::Forbidden => None,
            },
        }
    }
}

fn colons(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(":")
}

/// The list as text. `verbose` says of each device what it shows and what each queue does.
pub fn text(seen: &Seen, verbose: bool) -> String {
    if seen.functions.is_empty() && seen.devices.is_empty() {
        return "no virtio function with VFs, none with vf_vdpa, and no vDPA device\n".to_owned();
    }
    let head = [
        "FUNCTION", "WHAT", "DRIVER", "GROUP", "DEVICE", "BUS", "AS", "USED BY", "QUEUES",
    ];
    let mut rows = vec![Row::Cells(head.map(str::to_owned).to_vec(), HEAD)];
    for function in &seen.functions {
        let devices: Vec<&Device> = seen.devices_on(function.address).collect();
        if devices.is_empty() {
            rows.push(row(function_cells(function), Face::Without(function)));
        }
        for device in devices {
            rows.push(row(function_cells(function), Face::Of(device)));
            if verbose {
                rows.extend(details(device).into_iter().map(Row::Note));
            }
        }
    }
    let listed = |device: &Device| {
        device
            .function
            .is_some_and(|address| seen.function(address).is_some())
    };
    for device in seen.devices.iter().filter(|device| !listed(device)) {
        let parent = device.parent.clone().unwrap_or_else(|| NOTHING.to_owned());
        let what = device
            .class
            .map_or_else(|| NOTHING.to_owned(), |class| class.to_string());
        let cells = [parent, what, NOTHING.to_owned(), NOTHING.to_owned()];
        rows.push(row(cells, Face::Of(device)));
        if verbose {
            rows.extend(details(device).into_iter().map(Row::Note));
        }
    }
    let mut text = table::render(&rows);
    for unseen in &seen.unseen {
        text.push_str(&table::styled(DIM, &format!("not seen: {unseen}")));
        text.push('\n');
    }
    text
}

fn function_cells(function: &Function) -> [String; 4] {
    let indent = if function.vf_of.is_some() { "  " } else { "" };
    let class = function
        .class
        .map_or_else(|| "not virtio".to_owned(), |class| class.to_string());
    let what = match (&function.vf_of, &function.sriov) {
        (Some(vf), _) => format!("VF {} {class}", vf.index),
        (None, Some(sriov)) => format!("PF {class}, {} of {} VFs", sriov.enabled, sriov.total),
        (None, None) => class,
    };
    let driver = match (&function.driver, &function.driver_override) {
        (Some(driver), _) => driver.clone(),
        (None, Some(only)) => format!("- ({only})"),
        (None, None) => NOTHING.to_owned(),
    };
    let group = match &function.iommu_group {
        Some(group) if function.iommu_group_size > 1 => {
            format!("{group} (of {})", function.iommu_group_size)
        }
        Some(group) => group.clone(),
        None => "none".to_owned(),
    };
    [format!("{indent}{}", function.address), what, driver, group]
}

/// What is at a function.
enum Face<'s> {
    /// A vDPA device
    Of(&'s Device),
    /// None, but perhaps what another driver has made of it
    Without(&'s Function),
}

fn row(function: [String; 4], face: Face<'_>) -> Row {
    let mut cells = function.to_vec();
    let device = match face {
        Face::Of(device) => device,
        Face::Without(function) => {
            let (used, faces) = (user(function), faces(None, &function.virtio));
            let nothing = || NOTHING.to_owned();
            cells.extend([nothing(), nothing(), faces, used, nothing()]);
            return Row::Cells(cells, Style::new());
        }
    };
    let usage = device.usage();
    let style = match usage {
        Use::Busy(_) => GOOD,
        Use::Free | Use::Unknown(_) => Style::new(),
    };
    cells.push(device.name.clone());
    cells.push(match (device.bus(), &device.driver) {
        (Some(bus), _) => bus.to_string(),
        (None, Some(driver)) => driver.clone(),
        (None, None) => NOTHING.to_owned(),
    });
    cells.push(faces(device.node.as_deref(), &device.virtio));
    cells.push(match usage {
        Use::Free => "nobody".to_owned(),
        Use::Busy(why) => short(device).unwrap_or(why),
        Use::Unknown(_) => "?".to_owned(),
    });
    cells.push(match &device.queues {
        Queues::Known(_) => device.queues.summary(),
        Queues::Unknown | Queues::Forbidden => "?".to_owned(),
    });
    Row::Cells(cells, style)
}

/// What a consumer calls it: a character device, interfaces, disks.
fn faces(node: Option<&str>, virtio: &[VirtioDevice]) -> String {
    let mut all: Vec<String> = Vec::new();
    all.extend(node.map(|node| format!("/dev/{node}")));
    for virtio in virtio {
        all.extend(virtio.interfaces.iter().map(interface));
        all.extend(virtio.disks.iter().map(|disk| disk.name.clone()));
        if virtio.interfaces.is_empty() && virtio.disks.is_empty() {
            all.push(virtio.name.clone());
        }
    }
    if all.is_empty() {
        return NOTHING.to_owned();
    }
    all.join(" ")
}

fn interface(interface: &Interface) -> String {
    let up = if interface.up { "up" } else { "down" };
    format!("{} ({up})", interface.name)
}

/// Who uses a function that carries no vDPA device.
fn user(function: &Function) -> String {
    let user = function.virtio.iter().find_map(VirtioDevice::user);
    user.unwrap_or_else(|| NOTHING.to_owned())
}

/// Who uses it, in a word for the table.
fn short(device: &Device) -> Option<String> {
    let first = device.openers.first()?;
    let more = match device.openers.len() {
        1 => String::new(),
        count => format!(" and {} more", count.saturating_sub(1)),
    };
    Some(format!("{} {}{more}", first.command, first.pid))
}

fn details(device: &Device) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(config) = &device.config {
        let mut words = Vec::new();
        words.extend(config.mac.map(|mac| format!("mac {}", colons(&mac))));
        words.extend(config.mtu.map(|mtu| format!("mtu {mtu}")));
        words.extend(config.max_vqp.map(|pairs| format!("max_vqp {pairs}")));
        words.extend(config.link.map(|up| {
            let link = if up { "up" } else { "down" };
            format!("link {link}")
        }));
        if !words.is_empty() {
            all.push(words.join(" "));
        }
        let class = device.class_or_none();
        let set = |name: &str, bits: Option<u64>| {
            bits.map(|bits| format!("{name} {}", Set::new(bits, class)))
        };
        all.extend(set("features", config.features));
        all.extend(set("negotiated", config.negotiated));
    }
    let opener = |opener: &Opener| format!("open in {} (PID {})", opener.command, opener.pid);
    all.extend(device.openers.iter().map(opener));
    for queue in device.queues.known() {
        let since = queue
            .relayed_seconds
            .map_or_else(String::new, |seconds| format!(" for {seconds} s"));
        all.push(format!("queue {}: {}{since}", queue.index, queue.mode));
    }
    all
}

#[cfg(test)]
mod tests;
