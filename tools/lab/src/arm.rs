// SPDX-License-Identifier: GPL-2.0
//! A machine with another processor: on Arm the IOMMU translates interrupts, too, so the driver has to
//! request them anew for each domain. Its kernel and its user space are made for it; the case is its
//! first program.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::archive::Archive;
use crate::cache::Key;
use crate::context::{Context, Flavour};
use crate::ktap::{self, Verdict};
use crate::packages::{self, Packages};
use crate::{console, debug, emulator, kconfig, machine, module, step};

/// What the kernel is told besides.
const CONFIG: &str = include_str!("../arm.config");
/// The first program, which is the case.
const INIT: &str = include_str!("../arm.init");
/// User space, and what programs are linked with.
const PACKAGES: [&str; 5] = [
    "busybox-static",
    "iproute2",
    "libc6-dev",
    "libgcc-14-dev",
    "libstd-rust-dev",
];
/// The emulator, of the same version as the sysroot's.
const EMULATOR: &str = "qemu-system-arm";
/// Options of the project that another processor has others for.
const OF_X86: [&str; 3] = ["CONFIG_INTEL_IOMMU", "CONFIG_AMD_IOMMU", "CONFIG_IRQ_REMAP"];
/// The processor, as the kernel and as compilers call it.
const ARCH: &str = "ARCH=arm64";
const TARGET: &str = "aarch64-unknown-linux-gnu";
const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";
const LOADER: &str = "ld-linux-aarch64.so.1";
/// The line that the case begins with.
const BEGIN: &str = "KTAP version 1";
/// The line that it ends with.
const END: &str = "# end";

/// Boots the machine, and returns what went wrong in it.
pub fn check(cx: &Context) -> Result<Vec<String>> {
    let packages = Packages::get(cx)?;
    let kernel = kernel(cx, &packages)?;
    let root = root(cx)?;
    let emulator = emulator(cx, &packages)?;
    let driver = module::build_with(
        cx,
        &kernel.join("source"),
        Flavour::Debug,
        "modules-arm",
        &[ARCH],
    )?
    .join("vf_vdpa.ko");
    let client = client(cx, &root)?;

    let dir = cx.cache.path(&format!("arm-run-{}", cx.checkout_key()));
    fs::create_dir_all(&dir)?;
    let archive = dir.join("initramfs");
    fs::write(&archive, initramfs(&root, &driver, &client)?)?;
    let log = dir.join("console.log");
    let turn = machine::turn(cx)?;
    step::run(
        "running the Arm machine",
        &cx.cache.log(&format!("arm-{}", cx.checkout_key())),
        &mut emulated(&emulator, &kernel.join("Image"), &archive, &log),
    )?;
    drop(turn);
    let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let mut wrong = judge(&String::from_utf8_lossy(&text));
    if !wrong.is_empty() {
        wrong.push(format!("log: {}", log.display()));
    }
    Ok(wrong)
}

/// What is wrong with the console's log.
fn judge(log: &str) -> Vec<String> {
    let lines: Vec<String> = log
        .lines()
        .skip_while(|line| !line.starts_with(BEGIN))
        .map(|line| line.trim_end().to_owned())
        .collect();
    let status = i32::from(!lines.iter().any(|line| line == END));
    let mut wrong = match ktap::verdict(&lines, status) {
        Verdict::Passed => Vec::new(),
        Verdict::Failed(failures) => failures,
        Verdict::Skipped(why) => vec![why],
    };
    wrong.extend(
        lines
            .iter()
            .filter(|line| {
                line.contains("arm-smmu-v3")
                    || !console::bad(std::slice::from_ref(*line), &[]).is_empty()
            })
            .cloned(),
    );
    wrong
}

/// The kernel, from the cache.
fn kernel(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    let options = options(cx)?;
    let key = Key::default().add(packages::key(cx)?).add(&options).name();
    cx.cache.entry("arm", &key, |dir| {
        let source = kconfig::source(cx, packages, "arm", Flavour::Debug, dir, &options, &[ARCH])?;
        // LLVM compiles for any processor: there is no other compiler to be had.
        let mut make = cx.kernel_make(Flavour::Debug, &source)?;
        make.args([ARCH, "Image", "modules"]);
        step::run_long(
            "building the Arm kernel (once, half an hour)",
            &cx.cache.log("arm-kernel"),
            &mut make,
        )?;
        fs::copy(source.join("arch/arm64/boot/Image"), dir.join("Image"))?;
        Ok(())
    })
}

/// All that is asked for, built in: there is nobody who loads modules.
fn options(cx: &Context) -> Result<String> {
    let fragment = debug::fragment(cx)?;
    let ours = fragment
        .lines()
        .filter(|line| !OF_X86.iter().any(|name| line.starts_with(name)))
        .map(|line| match line.strip_suffix("=m") {
            Some(name) => format!("{name}=y\n"),
            None => format!("{line}\n"),
        });
    Ok(ours.chain([CONFIG.to_owned()]).collect())
}

/// The packages of user space, unpacked, from the cache.
fn root(cx: &Context) -> Result<PathBuf> {
    let key = Key::default()
        .add(packages::key(cx)?)
        .add(PACKAGES.join(" "))
        .name();
    let dir = cx.cache.entry("arm-root", &key, |dir| {
        let state = dir.join("apt");
        let root = dir.join("root");
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(state.join("archives/partial"))?;
        fs::create_dir_all(root.join("usr/lib"))?;
        fs::write(state.join("status"), "")?;
        let apt = |words: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.args(["-q", "-y", "-o", "APT::Sandbox::User=root"]);
            for (name, value) in [
                ("APT::Architecture", "arm64".to_owned()),
                ("APT::Architectures", "arm64".to_owned()),
                ("Dir::State", state.display().to_string()),
                (
                    "Dir::State::status",
                    state.join("status").display().to_string(),
                ),
                ("Dir::Cache", state.display().to_string()),
            ] {
                apt.arg("-o").arg(format!("{name}={value}"));
            }
            apt.args(words);
            apt
        };
        let log = cx.cache.log("arm-packages");
        step::run(
            "reading the package lists for Arm",
            &log,
            &mut apt(&["update"]),
        )?;
        let mut download = apt(&["install", "--no-install-recommends", "--download-only"]);
        download.args(PACKAGES);
        step::run("fetching the packages for Arm", &log, &mut download)?;
        // Some packages still name folders by these links.
        std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
        for deb in fs::read_dir(state.join("archives"))? {
            let deb = deb?.path();
            if deb.extension().is_some_and(|extension| extension == "deb") {
                unpack(cx, &deb, &root)?;
            }
        }
        fs::remove_dir_all(&state)?;
        Ok(())
    })?;
    Ok(dir.join("root"))
}

/// The emulator, from the cache: nothing else needs it. Its libraries are the sysroot's.
fn emulator(cx: &Context, packages: &Packages) -> Result<PathBuf> {
    let version = step::output(
        "asking for the emulator's version",
        &cx.cache.log("arm-emulator"),
        Command::new("dpkg-query").args(["-W", "-f", "${Version}", "qemu-system-x86"]),
    )?;
    let key = Key::default()
        .add(&packages.release)
        .add(version.trim())
        .name();
    let dir = cx.cache.entry("arm-emulator", &key, |dir| {
        let log = cx.cache.log("arm-emulator");
        let mut download = packages::apt(cx, "apt-get")?;
        download
            .arg("download")
            .arg(format!("{EMULATOR}={}", version.trim()))
            .current_dir(dir);
        step::run("fetching the emulator", &log, &mut download)?;
        for file in fs::read_dir(dir)? {
            let deb = file?.path();
            if deb.extension().is_some_and(|extension| extension == "deb") {
                unpack(cx, &deb, dir)?;
                fs::remove_file(&deb)?;
            }
        }
        Ok(())
    })?;
    Ok(dir.join("usr/bin/qemu-system-aarch64"))
}

fn unpack(cx: &Context, deb: &Path, into: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(deb).arg(into);
    step::run(
        &format!("unpacking {}", deb.display()),
        &cx.cache.log("arm-unpack"),
        &mut unpack,
    )
    .map(drop)
}

/// Compiles the client of vhost-vdpa.
fn client(cx: &Context, root: &Path) -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR")
        .context("CARGO_TARGET_DIR is not set: start the lab with tools/bootstrap or make")?;
    let root = root.display();
    let mut cargo = cx.cargo("build", "tools/Cargo.toml");
    cargo
        .args(["--package", "vhost-client", "--target", TARGET])
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "clang")
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            format!(
                "--sysroot={root}/usr -C target-feature=+crt-static -C link-arg=-fuse-ld=lld \
                 -C link-arg=--target={TARGET} -C link-arg=--sysroot={root}"
            ),
        );
    step::run(
        "building vhost-client for Arm",
        &cx.cache.log(&format!("arm-client-{}", cx.checkout_key())),
        &mut cargo,
    )?;
    Ok(PathBuf::from(target)
        .join(TARGET)
        .join("debug/vhost-client"))
}

/// Everything that the machine has besides its kernel.
fn initramfs(root: &Path, driver: &Path, client: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.directory("iproute2");
    archive.directory("lib");
    let mut add = |name: &str, file: &Path| -> Result<()> {
        let data = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        archive.file(name, 0o755, &data);
        Ok(())
    };
    let tools = [root.join("usr/sbin/vdpa"), root.join("usr/bin/ip")];
    add("bin/busybox", &root.join("usr/bin/busybox"))?;
    add("bin/vhost-client", client)?;
    add("vf_vdpa.ko", driver)?;
    add("iproute2/vdpa", &tools[0])?;
    add("iproute2/ip", &tools[1])?;
    for name in libraries(root, &tools)? {
        add(&format!("lib/{name}"), &root.join(LIBRARIES).join(&name))?;
    }
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}

/// The libraries of programs, and those of the libraries.
fn libraries(root: &Path, programs: &[PathBuf]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::from([LOADER.to_owned()]);
    let mut left = programs.to_vec();
    while let Some(file) = left.pop() {
        let done = Command::new("readelf").arg("-d").arg(&file).output()?;
        for name in needed(&String::from_utf8_lossy(&done.stdout)) {
            if found.insert(name.to_owned()) {
                left.push(root.join(LIBRARIES).join(name));
            }
        }
    }
    Ok(found)
}

/// The libraries that `readelf -d` names.
fn needed(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0))
        .collect()
}

/// The command that runs the machine: it ends by itself.
fn emulated(emulator: &Path, kernel: &Path, archive: &Path, log: &Path) -> Command {
    let mut command = Command::new("setpriv");
    // A lab that is killed takes its machine with it.
    command.args(["--pdeathsig", "KILL"]).arg(emulator);
    command
        .args(emulator::BARE)
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "cortex-a57",
            "-m",
            "1G",
            "-smp",
            "2",
        ])
        .args(["-M", "virt,gic-version=3,its=on,iommu=smmuv3"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .args([
            "-append",
            "console=ttyAMA0 loglevel=7 net.ifnames=0 oops=panic panic=-1",
        ])
        .arg("-chardev")
        .arg(format!(
            "file,id=console,path={}",
            log.display().to_string().replace(',', ",,")
        ))
        .args(["-serial", "chardev:console"]);
    for (number, name) in [(1, "a"), (2, "b")] {
        command
            .args(["-netdev", &format!("hubport,id={name},hubid=0")])
            .args([
                "-device",
                &format!("pcie-root-port,id=port{name},bus=pcie.0,chassis={number},slot={number}"),
            ])
            .args([
                "-device",
                &format!(
                    "virtio-net-pci,bus=port{name},netdev={name},mac=52:54:00:00:00:0{number},\
                     disable-legacy=on,iommu_platform=on,page-per-vq=on,romfile="
                ),
            ]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read() {
        let text = " 0x0000000000000001 (NEEDED)  Shared library: [libmnl.so.0]\n \
                    0x000000000000000e (SONAME)  Library soname: [libx.so]\n";
        assert_eq!(needed(text), ["libmnl.so.0"]);
    }

    #[test]
    fn logs_are_judged() {
        let good = "[ 0.1] WARNING: before\r\nKTAP version 1\r\nok - one\r\n# end\r\n";
        assert!(judge(good).is_empty());
        assert_eq!(
            judge("KTAP version 1\nok - one\nnot ok - two\nok - three\n# end\n"),
            ["two"]
        );
        assert!(!judge("KTAP version 1\nok - one\n").is_empty());
        assert!(!judge("KTAP version 1\nok - one\n[ 9] arm-smmu-v3: event: F\n# end\n").is_empty());
        assert!(!judge("").is_empty());
    }
}
