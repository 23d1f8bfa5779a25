# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a function reaches for a process: what that has mapped, nothing else.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# What the DMA API would have the function reach does not matter, be it all of the
# memory: that is how a host boots with iommu=pt.
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
# limit: 120
case_process_reaches_no_physical_memory() {
	local function group
	make_vfs 4 || die "making 4 VFs"
	for function in "$(vf 0)" "$(vf 1)"; do
		group=$PCI/$function/iommu_group
		echo identity >"$group/type" || die "setting the type of $function's domain"
		eq "$(cat "$group/type")" identity "the DMA API lets $function reach everything"
		bind_driver "$function" || die "binding $function"
	done
	A=$(vf 0)
	B=$(vf 1)
	add_pair
	modprobe vhost_vdpa
	to_vhost
	local map areas
	for map in "" --map; do
		log_mark
		faults_are_logged
		client physical "$NODE_A" --peer "$NODE_B" $map >/tmp/physical.log
		cat /tmp/physical.log
		# It has tried, and was stopped there.
		read -ra areas <<<"$(sed -n 's/^# .*: rings at //p' /tmp/physical.log)"
		eq ${#areas[@]} 3 "a process has tried"
		faulted "$A" "${areas[@]}"
	done
}

# Mappings stay over a reset, as consumers that pin gigabytes want it.
# limit: 120
case_mappings_survive_a_reset() {
	vhost_pair 0
	# VHOST_BACKEND_F_IOTLB_PERSIST
	eq $(($(info "$NODE_A" backend_features) >> 8 & 1)) 1 "mappings are said to persist"
	# Once more on the same open file, and without mapping anything again.
	client late-enable "$NODE_A" "$NODE_B"
}

# One domain after the other: the kernel's driver after a process, and back.
# limit: 180
case_consumers_take_turns() {
	local round
	vhost_pair 0
	for round in 1 2 3; do
		client transfer "$NODE_A" "$NODE_B" --count 200
		to_virtio
		containers
		they_ping
		to_vhost
	done
}

# A function that the IOMMU cannot tell from another serves the kernel, but no process.
# limit: 120
case_shared_group_serves_no_process() {
	local function devices
	function=$(grouped_function)
	devices=("$PCI/$function"/iommu_group/devices/*)
	eq "${#devices[@]}" 2 "the function shares its IOMMU group"
	bind_driver "$function" || die "binding $function"
	run_ok vdpa_add "$function" grouped
	bus vhost grouped
	wait_for "$SOON" vhost_node grouped
	# The first mapping tells; a driver that leaves its domain to vhost-vdpa, opening.
	local refused="cannot map"
	[ "$DRIVER" = vf_vdpa ] || refused="cannot open"
	log_mark
	run_fails "$refused" "$CLIENT" hold --live "$(vhost_node grouped)"
	if [ "$DRIVER" = vf_vdpa ]; then
		match "$(log_since | grep "$function")" "*not alone in its IOMMU group*" "the log says why"
	fi
	bus virtio grouped
	run_ok wait_for "$SOON" netdev "$function"
	ns_with left "$(netdev "$function")" 10.0.2.15/24
	run_ok in_ns left ping -q -c 2 -W 10 10.0.2.2
}
