# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Hosts on which nothing holds the function back: the kernel may use it, no
# process is given it.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# serves_the_kernel_only WHY: the functions work as network interfaces; whoever opens
# one is told that it cannot be had, and the log says WHY
serves_the_kernel_only() {
	local why="cannot be given to a process: $1" a
	log_mark
	pair 0
	a=$A
	match "$(log_since)" "*$a: $why*" "what is missing is said when the function is bound"
	add_pair
	to_virtio
	containers
	they_ping
	no_containers
	modprobe vhost_vdpa
	to_vhost
	log_mark
	run_fails "cannot map" "$CLIENT" hold --live "$NODE_A"
	match "$(log_since)" "*$a: $why*" "and to whoever asks for it all the same"
	to_virtio
	containers
	they_ping
}

# limit: 180
# drivers: vf_vdpa
# boot: intel_iommu=off
case_no_iommu() {
	serves_the_kernel_only "it is not behind an IOMMU"
}

# Whoever may have the function write anywhere may have it raise any interrupt.
# limit: 180
# drivers: vf_vdpa
# boot: intremap=off
case_interrupts_not_remapped() {
	serves_the_kernel_only "the IOMMU does not remap interrupts"
}
