// SPDX-License-Identifier: GPL-2.0
//! The emulator's command line: the hardware that the machine is made of.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::consumers;
use crate::model;
use crate::qmp::Pluggable;
use crate::vm::Parts;

/// Queue pairs of the multiqueue VFs.
const PAIRS: u32 = 4;
/// First of the UDP ports that stand for the wires between VFs.
const WIRE_PORT: u16 = 5000;
/// The kernel's command line. What protects processors from their own speculation is left out: there
/// is nothing to protect in an emulated one. So is the test whether the timer works, which panics when
/// the host is busy for ten ticks. The last words are for what only the debug kernel has: KASAN does not stop at
/// its first find.
const CMDLINE: &str = "console=ttyS0 loglevel=7 mitigations=off no_timer_check intel_iommu=on vhost_vdpa.max_iotlb_entries=65536 \
    rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60 sysctl.kernel.hung_task_timeout_secs=50 \
    oops=panic panic=-1 printk.devkmsg=on net.ifnames=0 iommu.debug_pagealloc=1 kasan_multi_shot";

/// A machine with nothing in it, which ends when it would begin again.
pub const BARE: [&str; 5] = [
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
];

/// The file behind the disk, below the sockets.
pub const DISK: &str = "disk";
/// Its length in bytes.
pub const DISK_LEN: u64 = 16 << 20;

/// What can be unplugged: a plain virtio-net function, with too few vectors for its queues.
pub const PLUGGABLE: [Pluggable; 1] = [Pluggable {
    id: "hot",
    driver: "virtio-net-pci",
    bus: "hotport",
    properties: &[
        ("netdev", "hotnet"),
        ("mac", "52:54:00:00:00:20"),
        ("iommu_platform", "on"),
        ("ats", "on"),
        ("vectors", "2"),
        ("aer", "on"),
        ("romfile", ""),
    ],
}];

fn wires() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wires")
}

/// Whether this host lets us make the taps and the bridge of the multiqueue pair.
pub fn multiqueue_works() -> bool {
    let works = Command::new("unshare")
        .arg("--net")
        .arg("sh")
        .arg(wires())
        .args(["yes", "true"])
        .output();
    works.is_ok_and(|done| done.status.success())
}

/// The command that starts the emulator, in a network name space with the wires between the functions.
pub fn command(
    parts: &Parts,
    sockets: &Path,
    console: &Path,
    queued: bool,
    words: &[String],
) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh"])
        .arg(wires())
        .arg(if queued { "yes" } else { "no" });
    // A lab that is killed takes its machine with it.
    command.args(["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]);
    let accel = match env::var("VF_VDPA_ACCEL").as_deref() {
        Ok("kvm") => "kvm",
        _ => "tcg,thread=multi",
    };
    command
        .args(BARE)
        .args([
            "-accel",
            accel,
            "-M",
            "q35,kernel-irqchip=split,memory-backend=ram",
            // A process beside the emulator reaches it, too.
            "-object",
            "memory-backend-memfd,id=ram,size=3G,share=on",
            // With five levels of page tables the kernel, as it boots, takes addresses of its own for
            // wild ones for a moment, and says so with KASAN.
            "-cpu",
            "max,la57=off",
            "-m",
            "3G",
            "-smp",
            "2",
        ])
        .args([
            "-device",
            "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on",
        ])
        // Hot plug as on a server: by the port, not by ACPI, which leaves its link down.
        .args([
            "-global",
            "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        ])
        .arg("-kernel")
        .arg(&parts.image)
        .arg("-initrd")
        .arg(&parts.initramfs)
        .arg("-append")
        .arg(format!(
            "{CMDLINE} lab.taps={} {}",
            u8::from(queued),
            words.join(" ")
        ));
    let file = |prefix: &str, path: &Path, suffix: &str| {
        let mut text = OsString::from(prefix);
        // A comma separates properties: it is doubled to mean itself.
        text.push(path.to_string_lossy().replace(',', ",,"));
        text.push(suffix);
        text
    };
    command
        .arg("-chardev")
        .arg(file("file,id=console,path=", console, ""))
        .args(["-device", "isa-serial,index=0,chardev=console"])
        .arg("-chardev")
        .arg(file("socket,id=agent,path=", &sockets.join("agent"), ""))
        .args(["-device", "isa-serial,index=1,chardev=agent"])
        .arg("-chardev")
        .arg(file(
            "socket,id=control,path=",
            &sockets.join("control"),
            "",
        ))
        .args(["-mon", "chardev=control,mode=control"])
        .arg("-chardev")
        .arg(file(
            "socket,id=shell,server=on,wait=off,path=",
            &sockets.join("shell"),
            "",
        ))
        .args([
            "-device",
            "virtio-serial-pci",
            "-device",
            "virtconsole,chardev=shell",
        ]);
    let consumers = words.iter().any(|word| word == consumers::WORD);
    for (tag, path) in [
        ("root", Some(Path::new("/srv/root"))),
        ("modules", Some(&parts.modules)),
        ("lab", Some(&parts.share)),
        (
            "consumers",
            parts.consumers.as_deref().filter(|_| consumers),
        ),
    ] {
        let Some(path) = path else { continue };
        command
            .arg("-fsdev")
            .arg(file(
                &format!("local,id={tag},security_model=none,multidevs=remap,readonly=on,path="),
                path,
                "",
            ))
            .args([
                "-device",
                &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
            ]);
    }
    functions(&mut command, sockets, queued);
    command
}

/// The functions under test: four VFs in two pairs, a function that can be unplugged, a
/// disk, one with a single vector, one that shares its IOMMU group, one that is neither network nor disk, and
/// two that are to be refused.
fn functions(command: &mut Command, sockets: &Path, queued: bool) {
    // Datagrams over the loopback of the machine's own name space, as they get lost like
    // frames for a device that is not ready: a Unix socket would hold up the sender, for
    // which the emulator waits in a busy loop.
    let mut wire = |vf: u16, peer: u16| {
        let text = format!(
            "dgram,id=vf{vf},local.type=inet,local.host=127.0.0.1,local.port={},remote.type=inet,remote.host=127.0.0.1,remote.port={}",
            WIRE_PORT + vf,
            WIRE_PORT + peer
        );
        command.args(["-netdev", &text]);
    };
    wire(0, 1);
    wire(1, 0);
    if !queued {
        wire(2, 3);
        wire(3, 2);
    }
    let mut queues = String::new();
    if queued {
        for id in ["vf2", "vf3"] {
            let text =
                format!("tap,id={id},ifname={id},script=no,downscript=no,vhost=off,queues={PAIRS}");
            command.args(["-netdev", &text]);
        }
        command.args([
            "-netdev",
            "tap,id=pf,ifname=pf,script=no,downscript=no,vhost=off",
        ]);
        queues = format!(",mq=on,vectors={}", 2 * PAIRS + 2);
    }
    command.args([
        "-device",
        "pcie-root-port,id=vfport,bus=pcie.0,chassis=1,slot=1",
    ]);
    let common = "iommu_platform=on,ats=on,romfile=";
    for vf in 0..4 {
        let more = if vf < 2 {
            ",host_mtu=9000".to_owned()
        } else {
            let reset = if vf == 2 { "off" } else { "on" };
            format!(",packed=on,queue_reset={reset}{queues}")
        };
        let text = format!(
            "virtio-net-pci,id=vf{vf},bus=vfport,addr=0x0.0x{},netdev=vf{vf},sriov-pf=pf,page-per-vq=on,mac=52:54:00:00:00:0{},{common}{more}",
            vf + 1,
            vf + 1
        );
        command.args(["-device", &text]);
    }
    command
        .args([
            "-device",
            &format!(
                "virtio-net-pci,id=pf,bus=vfport,addr=0x0.0x0,mac=52:54:00:00:00:10,{common}{}",
                if queued { ",netdev=pf" } else { "" }
            ),
        ])
        .args(["-netdev", "user,id=hotnet,restrict=on"])
        .args([
            "-device",
            "pcie-root-port,id=hotport,bus=pcie.0,chassis=2,slot=2",
        ]);
    for device in &PLUGGABLE {
        let properties: Vec<String> = device
            .properties
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        command.args([
            "-device",
            &format!(
                "{},id={},bus={},{}",
                device.driver,
                device.id,
                device.bus,
                properties.join(",")
            ),
        ]);
    }
    command
        .args([
            "-blockdev",
            &format!(
                "driver=raw,node-name=disk,file.driver=file,file.filename={}",
                sockets.join(DISK).to_string_lossy().replace(',', ",,")
            ),
        ])
        .args([
            "-device",
            "pcie-root-port,id=diskport,bus=pcie.0,chassis=3,slot=3",
        ])
        .args([
            "-device",
            "virtio-blk-pci,id=disk,bus=diskport,drive=disk,iommu_platform=on,ats=on,serial=vf-lab",
        ])
        // One vector for everything.
        .args(["-netdev", "user,id=singlenet,restrict=on"])
        .args([
            "-device",
            "pcie-root-port,id=singleport,bus=pcie.0,chassis=4,slot=4",
        ])
        .args([
            "-device",
            &format!("virtio-net-pci,id=single,bus=singleport,netdev=singlenet,mac=52:54:00:00:00:21,vectors=1,{common}"),
        ])
        .args([
            "-device",
            "virtio-rng-pci,rng=entropy,disable-legacy=on,iommu_platform=on",
        ])
        // Functions that a driver has to refuse: without virtio 1.0, and without MSI-X.
        .args(["-object", "rng-builtin,id=entropy"])
        .args([
            "-device",
            "virtio-rng-pci,rng=entropy,disable-modern=on,disable-legacy=off",
        ])
        .args([
            "-device",
            "virtio-rng-pci,rng=entropy,disable-legacy=on,iommu_platform=on,vectors=0",
        ])
        // One that has a byte in six seconds.
        .args([
            "-device",
            "virtio-rng-pci,rng=entropy,max-bytes=1,period=6000,disable-legacy=on,iommu_platform=on",
        ])
        // One that shares its IOMMU group, with the bridge that hides it. The last, as what names
        // no bus might be put there.
        .args(["-netdev", "user,id=groupednet,restrict=on"])
        .args(["-device", "pcie-pci-bridge,id=bridge,bus=pcie.0,addr=0x1d"])
        .args([
            "-device",
            "virtio-net-pci,id=grouped,bus=bridge,addr=0x1,netdev=groupednet,mac=52:54:00:00:00:22,disable-legacy=on,iommu_platform=on,romfile=",
        ])
        // Empty, for the model: behind all others, whose bus numbers come from their order.
        .args([
            "-device",
            &format!(
                "pcie-root-port,id={},bus=pcie.0,addr=0x1e,chassis=5,slot=5",
                model::PORT
            ),
        ]);
}
