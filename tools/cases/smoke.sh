# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine itself: every later group relies on what is tested here.

case_machine() {
	eq "$(vf_count)" 4 "the PF can have four VFs"
	run_ok test -e /sys/kernel/iommu_groups/0
	match "$(cat /proc/cmdline)" "*intel_iommu=on*" "the IOMMU is on"
	run_ok test -e "$PCI/$(hot_function)"
	run_ok test -e "$PCI/$(grouped_function)"
	match "$(lspci -vv -s "$(single_function)")" "*MSI-X: Enable? Count=1 *" "a function has one interrupt vector"
	eq "$(cat "$PCI/$(disk_function)/class")" 0x010000 "the disk's class"
}

vf_count() {
	cat "$PCI/$(pf)/sriov_totalvfs"
}

# Each VF has an IOMMU group of its own, and no driver takes it by itself.
case_vfs() {
	run_ok make_vfs 4
	local n groups=""
	for n in 0 1 2 3; do
		eq "$(cat "$PCI/$(vf $n)/vendor")" 0x1af4 "VF $n is a virtio function"
		run_ok test ! -e "$PCI/$(vf $n)/driver"
		groups="$groups $(readlink "$PCI/$(vf $n)/iommu_group")"
	done
	eq "$(printf '%s\n' $groups | sort -u | wc -l)" 4 "four IOMMU groups"
}

# The wires: with the kernel's own driver on the VFs, both pairs are connected.
# limit: 120
case_wires() {
	run_ok make_vfs 4
	local n
	for n in 0 1 2 3; do
		run_ok bind_driver "$(vf $n)" virtio-pci
		run_ok wait_for 20 netdev "$(vf $n)"
		run_ok ns_with "ns$n" "$(netdev "$(vf $n)")" "10.0.$((n / 2)).$((n % 2 + 1))/24"
	done
	run_ok in_ns ns0 ping -c 3 -i 0.2 -W 10 10.0.0.2
	run_ok in_ns ns2 ping -c 3 -i 0.2 -W 10 10.0.1.2
}

# The driver under test takes a VF and shows a management device.
case_driver() {
	ready_vfs 1
	match "$(vdpa mgmtdev show)" "*pci/$(vf 0)*" "the VF is a management device"
}
