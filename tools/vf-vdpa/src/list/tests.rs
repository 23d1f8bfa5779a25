// SPDX-License-Identifier: GPL-2.0

//! The list of a made-up host.

use super::*;
use crate::message::{self, Config};
use crate::queue::Mode;
use crate::seen::tests::Host;

fn seen() -> Seen {
    let host = Host::with_vfs();
    host.opener(42, "qemu", "vhost-vdpa-0");
    let mut seen = host.seen();
    let told = message::Device {
        name: "g0".to_owned(),
        parent: Some("pci/0000:01:00.2".to_owned()),
        class: 1,
        max_vqs: 3,
        max_vq_size: Some(256),
    };
    let config = Config {
        mac: Some([2, 0, 0, 0, 0, 5]),
        mtu: Some(9000),
        link: Some(true),
        features: Some(0x3_0000_0020),
        ..Config::default()
    };
    let queue = |index, mode| Queue {
        index,
        mode,
        relayed_seconds: None,
    };
    let queues = vec![
        queue(0, Mode::Direct),
        queue(1, Mode::Direct),
        queue(2, Mode::Served),
    ];
    let g0 = seen
        .devices
        .iter_mut()
        .find(|device| device.name == "g0")
        .unwrap();
    g0.learn(&told, Some(config), Queues::Known(queues));
    seen.unseen.push("the other side of the moon".to_owned());
    seen
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn people_get_a_table() {
    let expected = "\
FUNCTION        WHAT                DRIVER      GROUP      DEVICE  BUS     AS                 USED BY                   QUEUES
0000:01:00.0    PF net, 3 of 8 VFs  virtio-pci  000001000  -       -       eth0 (up)          the interface eth0 is up  -
  0000:01:00.1  VF 0 net            vf_vdpa     000001001  c0      virtio  eth2 (down)        nobody                    ?
  0000:01:00.2  VF 1 net            vf_vdpa     000001002  g0      vhost   /dev/vhost-vdpa-0  qemu 42                   2 direct, 1 served
    mac 02:00:00:00:00:05 mtu 9000 link up
    features MAC VERSION_1 ACCESS_PLATFORM
    open in qemu (PID 42)
    queue 0: direct
    queue 1: direct
    queue 2: served
  0000:01:00.3  VF 2 net            -           000001003  -       -       -                  -                         -
not seen: the other side of the moon
";
    assert_eq!(plain(&text(&seen(), true)), expected);
    let nothing = text(&Seen::default(), false);
    assert!(nothing.starts_with("no virtio function"), "{nothing}");
}

#[test]
fn programs_get_names_that_stay() {
    let seen = seen();
    let json = serde_json::to_value(List::new(&seen)).unwrap();
    let pf = &json["functions"][0];
    assert_eq!(pf["kind"], "pf");
    assert_eq!(pf["address"], "0000:01:00.0");
    assert_eq!(pf["sriov"]["enabled"], 3);
    let vf = &json["functions"][2];
    assert_eq!(vf["kind"], "vf");
    assert_eq!(vf["vf_of"]["pf"], "0000:01:00.0");
    assert_eq!(vf["vf_of"]["index"], 1);
    assert_eq!(vf["class"], "net");
    assert_eq!(vf["iommu_group"], "000001002");
    assert_eq!(vf["devices"][0], "g0");
    let device = &json["devices"][1];
    assert_eq!(device["name"], "g0");
    assert_eq!(device["function"], "0000:01:00.2");
    assert_eq!(device["parent"], "pci/0000:01:00.2");
    assert_eq!(device["driver"], "vhost_vdpa");
    assert_eq!(device["node"], "/dev/vhost-vdpa-0");
    assert_eq!(device["mac"], "02:00:00:00:00:05");
    assert_eq!(device["features"][2], "ACCESS_PLATFORM");
    assert_eq!(device["openers"][0]["pid"], 42);
    assert_eq!(device["in_use"], true);
    assert_eq!(device["queues"][2]["mode"], "served");
    assert!(json["devices"][0]["queues"].is_null());
    assert_eq!(json["unseen"][0], "the other side of the moon");
}

#[test]
fn devices_of_other_drivers_are_listed() {
    let host = Host::with_vfs();
    host.file("sys/devices/vdpasim_net/sim0/driver_override", "(null)\n");
    host.link("sys/bus/vdpa/devices/sim0", "sys/devices/vdpasim_net/sim0");
    let mut seen = host.seen();
    let sim = seen
        .devices
        .iter_mut()
        .find(|device| device.name == "sim0")
        .unwrap();
    sim.parent = Some("vdpasim_net".to_owned());
    let text = plain(&text(&seen, false));
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("vdpasim_net "), "{text}");
    assert!(last.contains(" sim0 "), "{text}");
}
