// SPDX-License-Identifier: GPL-2.0

//! Files that are good, and what is said of others.

use super::*;

const GOOD: &str = r#"
[[pf]]
address = "0000:65:00.0"
vfs = 8

[[pf.vf]]
index = 0
name = "c0"
bus = "virtio"

[[pf.vf]]
index = 1
name = "g0"
bus = "vhost"
mac = "02:00:00:00:00:05"
mtu = 9000
max_vqp = 2
features = ["MAC", "VERSION_1", "ACCESS_PLATFORM"]

[[function]]
address = "66:00.0"
name = "disk"
bus = "vhost"
"#;

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn a_file_is_what_it_says() {
    let desired = parse(GOOD).unwrap();
    let pf: Address = "65:00.0".parse().unwrap();
    assert_eq!(desired.pfs, [(pf, 8)]);
    let at: Vec<String> = desired
        .devices
        .iter()
        .map(|wanted| wanted.at.to_string())
        .collect();
    assert_eq!(
        at,
        [
            "VF 0 of 0000:65:00.0",
            "VF 1 of 0000:65:00.0",
            "0000:66:00.0"
        ]
    );
    let [c0, g0, _] = desired.devices.as_slice() else {
        panic!("not three devices");
    };
    assert_eq!((c0.bus, c0.mac, c0.mtu), (Bus::Virtio, None, None));
    assert_eq!(
        (g0.bus, g0.mtu, g0.max_vqp),
        (Bus::Vhost, Some(9000), Some(2))
    );
    assert_eq!(g0.mac.unwrap().to_string(), "02:00:00:00:00:05");
    assert!(g0.features.is_some());
    assert_eq!(parse("").unwrap(), Desired::default());
}

#[test]
fn a_mistake_is_shown_with_its_line() {
    let text = GOOD.replace("02:00:00:00:00:05", "01:00:00:00:00:05");
    let said = error(&text);
    assert!(said.contains("line 15"), "{said}");
    assert!(said.contains("no station's address"), "{said}");
    let said = error(&GOOD.replace("mtu = 9000", "mtu = 90000"));
    assert!(said.contains("line 16"), "{said}");
    let said = error(&GOOD.replace("mtu", "MTU"));
    assert!(said.contains("unknown field `MTU`"), "{said}");
    let said = error(&GOOD.replace(r#"bus = "virtio""#, r#"bus = "pci""#));
    assert!(said.contains("expected `virtio` or `vhost`"), "{said}");
    let said = error(&GOOD.replace(r#""MAC", "#, r#""MAK", "#));
    assert!(said.contains(r#"the feature "MAK" is not known"#), "{said}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let said = error(&GOOD.replace("index = 1", "index = 0"));
    assert!(
        said.contains("VF 0 of 0000:65:00.0 is there twice"),
        "{said}"
    );
    let said = error(&GOOD.replace(r#""g0""#, r#""c0""#));
    assert!(said.contains("the name c0 is there twice"), "{said}");
    let said = error(&GOOD.replace("index = 1", "index = 8"));
    assert!(said.contains("index 8 is beyond vfs = 8"), "{said}");
    let said = error(&GOOD.replace("mtu = 9000", "mtu = 67"));
    assert!(said.contains("an mtu is at least 68"), "{said}");
    let said = error(&GOOD.replace("max_vqp = 2", "max_vqp = 0"));
    assert!(said.contains("max_vqp is between 1 and"), "{said}");
    let twice = format!("{GOOD}\n[[pf]]\naddress = \"65:00.0\"\nvfs = 2\n");
    assert!(error(&twice).contains("0000:65:00.0 is there twice"));
}

#[test]
fn a_device_says_where_it_is() {
    let said = error("[[function]]\nname = \"a\"\nbus = \"vhost\"");
    assert!(said.contains("needs an address"), "{said}");
    let said = error("[[function]]\nindex = 1\nname = \"a\"\nbus = \"vhost\"");
    assert!(said.contains("an index belongs below a [[pf]]"), "{said}");
    let said = error("[[pf]]\naddress = \"1:0.0\"\n[[pf.vf]]\nname = \"a\"\nbus = \"vhost\"");
    assert!(said.contains("which VF of"), "{said}");
}
