// SPDX-License-Identifier: GPL-2.0

//! Plans for a made-up host: 01:00.0 has three VFs, c0 is on VF 0, g0 on VF 1.

use super::*;
use crate::file;
use crate::message::{Config, Parent};
use crate::seen::tests::Host;

fn seen(host: &Host) -> Seen {
    let mut seen = host.seen();
    seen.drivers = ["vf_vdpa", "vhost_vdpa", "virtio_vdpa", "virtio_net"].into();
    for (index, device) in seen.devices.iter_mut().enumerate() {
        let last = u8::try_from(index).unwrap();
        device.class = Some(DeviceId::NET);
        device.config = Some(Config {
            mac: Some([2, 0, 0, 0, 0, last]),
            mtu: Some(9000),
            features: Some(0x3_0000_0028),
            ..Config::default()
        });
    }
    seen.parents = vec![Parent {
        handle: "pci/0000:01:00.2".to_owned(),
        classes: 2,
        max_vqs: Some(3),
        features: Some(0x3_0000_0028),
    }];
    seen
}

/// A file with this below the physical function.
fn desired(text: &str) -> Desired {
    file::parse(&format!("[[pf]]\naddress = \"01:00.0\"\n{text}")).unwrap()
}

const AS_IT_IS: &str = r#"
vfs = 3
vf = [
  { index = 0, name = "c0", bus = "virtio", mtu = 9000 },
  { index = 1, name = "g0", bus = "vhost", mac = "02:00:00:00:00:01", max_vqp = 1,
    features = ["MTU", "MAC", "VERSION_1", "ACCESS_PLATFORM"] },
]
"#;

fn plan(text: &str, host: &Host, policy: Policy) -> Plan {
    Plan::new(&desired(text), &seen(host), policy)
}

fn steps(text: &str, host: &Host) -> Vec<String> {
    let plan = plan(text, host, Policy::ReplaceUnused);
    assert_eq!(plan.problems, []);
    plan.steps.iter().map(Step::to_string).collect()
}

fn problem(text: &str, host: &Host) -> Problem {
    let plan = plan(text, host, Policy::ReplaceUnused);
    assert_eq!(plan.steps, []);
    let [problem] = plan.problems.as_slice() else {
        panic!("{:?}", plan.problems);
    };
    assert_eq!(plan.is_impossible(), problem.kind == Kind::Impossible);
    problem.clone()
}

#[test]
fn nothing_is_done_where_nothing_differs() {
    assert_eq!(steps(AS_IT_IS, &Host::with_vfs()), Vec::<String>::new());
}

#[test]
fn a_new_device_takes_its_function_first() {
    let added = AS_IT_IS.replace(
        "vf = [",
        "vf = [{ index = 2, name = \"new\", bus = \"vhost\", mtu = 1500 },",
    );
    let expected = [
        "let no driver but vf_vdpa have VF 2 of 0000:01:00.0",
        "bind VF 2 of 0000:01:00.0 to vf_vdpa",
        "make the device new of VF 2 of 0000:01:00.0: mtu 1500",
        "give new to vhost_vdpa",
    ];
    assert_eq!(steps(&added, &Host::with_vfs()), expected);
}

#[test]
fn a_host_that_has_just_booted_gets_everything() {
    let host = Host::new();
    host.function("0000:01:00.0", Some("virtio-pci"));
    let pf = "sys/devices/pci0/0000:01:00.0";
    host.file(&format!("{pf}/sriov_totalvfs"), "8");
    host.file(&format!("{pf}/sriov_numvfs"), "0");
    let text = "vfs = 4\nvf = [{ index = 0, name = \"c0\", bus = \"virtio\" }]";
    let plan = Plan::new(&desired(text), &host.seen(), Policy::ReplaceUnused);
    let steps: Vec<String> = plan.steps.iter().map(Step::to_string).collect();
    let expected = [
        "load the module vf_vdpa",
        "load the module virtio_vdpa",
        "load the module virtio_net",
        "have the kernel leave new VFs of 0000:01:00.0 without a driver",
        "make 4 VFs of 0000:01:00.0",
        "let no driver but vf_vdpa have VF 0 of 0000:01:00.0",
        "bind VF 0 of 0000:01:00.0 to vf_vdpa",
        "make the device c0 of VF 0 of 0000:01:00.0",
        "give c0 to virtio_vdpa",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn what_cannot_be_changed_is_made_anew() {
    let changed = AS_IT_IS.replace("mtu = 9000", "mtu = 8000");
    let expected = [
        "delete the device c0",
        "make the device c0 of VF 0 of 0000:01:00.0: mtu 8000",
        "give c0 to virtio_vdpa",
    ];
    let host = Host::with_vfs();
    assert_eq!(steps(&changed, &host), expected);
    // Not by `up`, which has been asked for one device only.
    let kept = plan(&changed, &host, Policy::Keep);
    assert!(kept.problems[0].what.contains("mtu is 9000, not 8000"));
    assert!(kept.problems[0].cure.contains("vf-vdpa down c0"));

    host.file(
        "sys/devices/pci0/0000:01:00.1/virtio7/net/eth2/flags",
        "0x1003\n",
    );
    let refused = problem(&changed, &host);
    assert_eq!(refused.kind, Kind::Refused);
    assert_eq!(
        refused.what,
        "the device c0 is in use, the interface eth2 is up: mtu is 9000, not 8000"
    );
    assert_eq!(plan(&changed, &host, Policy::Replace).steps.len(), 3);
}

#[test]
fn an_address_is_changed_in_place_if_nobody_minds() {
    let changed = AS_IT_IS.replace("02:00:00:00:00:01", "02:00:00:00:00:09");
    let host = Host::with_vfs();
    let expected = ["set the address of g0 to 02:00:00:00:00:09"];
    assert_eq!(steps(&changed, &host), expected);
    host.opener(42, "qemu", "vhost-vdpa-0");
    let refused = problem(&changed, &host);
    assert!(refused.what.contains("qemu (PID 42)"), "{refused:?}");
    assert_eq!(refused.kind, Kind::Refused);
    // virtio-net counts as a user even while its interface is down.
    let other = AS_IT_IS.replace("mtu = 9000", "mac = \"02:00:00:00:00:09\"");
    let steps = steps(&other, &Host::with_vfs());
    assert_eq!(steps[0], "delete the device c0");
}

#[test]
fn a_device_changes_hands() {
    let changed = AS_IT_IS.replace("virtio", "vhost");
    assert_eq!(
        steps(&changed, &Host::with_vfs()),
        ["give c0 to vhost_vdpa"]
    );
    let host = Host::with_vfs();
    host.file(
        "sys/devices/pci0/0000:01:00.1/virtio7/net/eth2/flags",
        "0x1003\n",
    );
    assert!(problem(&changed, &host).what.contains("eth2 is up"));
}

#[test]
fn names_can_be_exchanged() {
    let changed = AS_IT_IS
        .replace("c0", "tmp")
        .replace("g0", "c0")
        .replace("tmp", "g0");
    let host = Host::with_vfs();
    let planned = steps(&changed, &host);
    assert_eq!(
        planned[..2],
        ["delete the device c0", "delete the device g0"]
    );
    assert_eq!(planned.len(), 6);
    // If one has to stay that is what is wrong, not that its name is taken.
    host.opener(42, "qemu", "vhost-vdpa-0");
    let refused = problem(&changed, &host);
    assert_eq!(refused.kind, Kind::Refused);
    assert!(refused.what.contains("g0 is in use"), "{refused:?}");
}

#[test]
fn other_numbers_of_vfs_remove_all_of_them() {
    let changed = AS_IT_IS.replace("vfs = 3", "vfs = 4");
    let host = Host::with_vfs();
    let planned = steps(&changed, &host);
    assert_eq!(
        planned[..2],
        ["delete the device c0", "delete the device g0"]
    );
    assert_eq!(
        planned[2],
        "remove all 3 VFs of 0000:01:00.0, and make 4 new ones"
    );
    assert_eq!(
        steps("vfs = 0", &host)[2..],
        ["remove all 3 VFs of 0000:01:00.0"]
    );
    // A device of a VF that the file does not mention counts as well.
    host.opener(42, "qemu", "vhost-vdpa-0");
    let fewer = "vfs = 2\nvf = [{ index = 0, name = \"c0\", bus = \"virtio\" }]";
    assert!(problem(fewer, &host).what.contains("g0 is in use"));

    let host = Host::with_vfs();
    host.link(
        "sys/devices/pci0/0000:01:00.3/driver",
        "sys/bus/pci/drivers/vfio-pci",
    );
    let refused = problem(&changed, &host);
    assert!(
        refused.what.contains("0000:01:00.3 belongs to vfio-pci"),
        "{refused:?}"
    );
}

#[test]
fn what_cannot_be_is_said() {
    let host = Host::with_vfs();
    let cases = [
        ("vfs = 9", "can have 8 VFs, not 9"),
        (
            "vf = [{ index = 3, name = \"a\", bus = \"vhost\" }]",
            "has 3 VFs, and so none with index 3",
        ),
        (
            "vf = [{ index = 2, name = \"g0\", bus = \"vhost\" }]",
            "the name g0 is taken",
        ),
        (
            "vf = [{ index = 1, name = \"g0\", bus = \"vhost\", features = [\"RING_RESET\"] }]",
            "does not offer RING_RESET",
        ),
        (
            "vf = [{ index = 1, name = \"g0\", bus = \"vhost\", features = [\"FLUSH\"] }]",
            "no feature of a net device",
        ),
    ];
    for (text, what) in cases {
        let problem = problem(text, &host);
        assert_eq!(problem.kind, Kind::Impossible, "{text}");
        assert!(problem.what.contains(what), "{problem:?}");
    }
    let function = |address: &str| {
        let text =
            format!("[[function]]\naddress = \"{address}\"\nname = \"a\"\nbus = \"vhost\"\n");
        let desired = file::parse(&text).unwrap();
        Plan::new(&desired, &seen(&host), Policy::Replace).problems
    };
    assert!(function("01:00.0")[0].what.contains("has VFs"));
    assert!(function("09:00.0")[0].what.contains("no virtio function"));
    assert_eq!(function("01:00.3"), []);
    let twice = "\
        [[function]]\naddress = \"01:00.3\"\nname = \"a\"\nbus = \"vhost\"\n\
        [[pf]]\naddress = \"01:00.0\"\nvf = [{ index = 2, name = \"b\", bus = \"vhost\" }]\n";
    for (text, what) in [
        (twice.to_owned(), "is meant twice"),
        (
            twice.replace("vf = [", "vfs = 4\nvf = ["),
            "whose VFs are made anew",
        ),
    ] {
        let desired = file::parse(&text).unwrap();
        let plan = Plan::new(&desired, &seen(&host), Policy::Replace);
        assert!(plan.problems[0].what.contains(what), "{plan:?}");
    }
    let desired = file::parse("[[pf]]\naddress = \"09:00.0\"\nvfs = 2\n").unwrap();
    let plan = Plan::new(&desired, &seen(&host), Policy::Replace);
    assert!(
        plan.problems[0]
            .what
            .contains("no virtio function with VFs")
    );
}

#[test]
fn a_function_of_another_driver_is_taken_only_if_it_is_free() {
    let host = Host::with_vfs();
    let at = "sys/devices/pci0/0000:01:00.3";
    host.link(&format!("{at}/driver"), "sys/bus/pci/drivers/virtio-pci");
    host.link(
        &format!("{at}/virtio3/driver"),
        "sys/bus/virtio/drivers/virtio_net",
    );
    host.file(&format!("{at}/virtio3/net/eth3/flags"), "0x1002\n");
    let text = "vf = [{ index = 2, name = \"new\", bus = \"vhost\" }]";
    assert_eq!(
        steps(text, &host)[..2],
        [
            "take VF 2 of 0000:01:00.0 from virtio-pci",
            "let no driver but vf_vdpa have VF 2 of 0000:01:00.0"
        ]
    );
    host.file(&format!("{at}/virtio3/net/eth3/flags"), "0x1003\n");
    assert!(problem(text, &host).what.contains("eth3 is up"));
}

#[test]
fn devices_of_other_drivers_are_not_touched() {
    let host = Host::with_vfs();
    let at = "sys/devices/pci0/0000:01:00.3";
    host.link(&format!("{at}/driver"), "sys/bus/pci/drivers/vp_vdpa");
    host.device("0000:01:00.3", "vp0", "vhost_vdpa");
    let text = "vf = [{ index = 2, name = \"new\", bus = \"vhost\" }]";
    let plan = plan(text, &host, Policy::ReplaceUnused);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.problems.len(), 1);
    assert!(
        plan.problems[0].what.contains("belongs to vp_vdpa"),
        "{plan:?}"
    );
}

#[test]
fn every_step_can_be_done_by_hand() {
    let host = Host::with_vfs();
    let text = "vfs = 4\nvf = [{ index = 0, name = \"c0\", bus = \"vhost\", mtu = 1500 }]";
    let plan = plan(text, &host, Policy::ReplaceUnused);
    let by_hand: Vec<String> = plan.steps.iter().map(Step::by_hand).collect();
    let sys = "/sys/bus/pci/devices/0000:01:00.0";
    let expected = [
        "vdpa dev del c0".to_owned(),
        "vdpa dev del g0".to_owned(),
        format!("echo 0 > {sys}/sriov_numvfs; echo 4 > {sys}/sriov_numvfs"),
        format!("echo vf_vdpa > {sys}/virtfn0/driver_override"),
        format!("echo $(basename $(readlink {sys}/virtfn0)) > /sys/bus/pci/drivers_probe"),
        format!("vdpa dev add name c0 mgmtdev pci/$(basename $(readlink {sys}/virtfn0)) mtu 1500"),
    ];
    assert_eq!(by_hand[..6], expected);
}

#[test]
fn programs_get_names_that_stay() {
    let host = Host::with_vfs();
    let text = "vf = [{ index = 2, name = \"new\", bus = \"vhost\", features = [\"MAC\"] }]";
    let plan = plan(text, &host, Policy::ReplaceUnused);
    let json = serde_json::to_value(&plan).unwrap();
    let expected = serde_json::json!({
        "steps": [
            { "action": "promise", "at": "VF 2 of 0000:01:00.0", "driver": "vf_vdpa", "was": null },
            { "action": "bind", "at": "VF 2 of 0000:01:00.0" },
            { "action": "add", "at": "VF 2 of 0000:01:00.0", "device": "new", "features": ["MAC"] },
            { "action": "hand", "device": "new", "bus": "vhost", "was": null },
        ],
        "problems": [],
    });
    assert_eq!(json, expected);
}
