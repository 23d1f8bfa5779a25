# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The control queue, which the kernel serves: what a consumer may have changed, and
# what it must not. Several queue pairs: see multiqueue.sh.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

MAC=02:00:00:00:00:05
OTHER=02:00:00:00:00:06

mac_of() { # mac_of NS NETDEV
	ip -n "$1" -j link show dev "$2" | jq -r '.[0].address'
}

reaches() { # reaches DESCRIPTION
	# What the neighbour knows of addresses is older than the case.
	ip -n right neighbour flush all
	run_ok in_ns right ping -q -c 3 -i 0.2 -W 10 "$LEFT"
}

# A driver sets its address, receive modes and VLANs: the device filters by them.
# limit: 120
case_commands_reach_the_device() {
	virtio_pair 0
	containers
	run_ok ip -n left link set dev "$LEFT_DEV" address "$MAC"
	reaches
	eq "$(config a mac)" "\"$MAC\"" "the device has the address"
	run_ok ip -n left link set dev "$LEFT_DEV" promisc on
	run_ok ip -n left link set dev "$LEFT_DEV" allmulticast on
	reaches
	run_ok ip -n left link set dev "$LEFT_DEV" promisc off
	run_ok ip -n left link set dev "$LEFT_DEV" allmulticast off
	run_ok ip -n left maddress add 33:33:00:00:12:34 dev "$LEFT_DEV"
	reaches
	eq "$(dmesg | grep -c 'control command refused')" 0 "no command is refused"
}

# An address of the administrator's is the device's, and no driver changes it.
# drivers: vf_vdpa
# limit: 120
case_mac_is_the_administrators() {
	pair 0
	run_ok vdpa_add "$A" a mac "$MAC"
	run_ok vdpa_add "$B" b
	eq "$(config a mac)" "\"$MAC\"" "the address is shown"
	to_virtio
	containers
	eq "$(mac_of left "$LEFT_DEV")" "$MAC" "the interface has it"
	# The neighbour's frames to it arrive: the device knows it, too.
	reaches
	run_fails "Invalid argument" ip -n left link set dev "$LEFT_DEV" address "$OTHER"
	eq "$(mac_of left "$LEFT_DEV")" "$MAC" "the interface keeps it"
	match "$(dmesg | grep "$A" | tail -n 3)" "*control command refused*" "the log says so"
	reaches
	run_fails "busy" vdpa dev set name a mac "$OTHER"
	eq "$(config a mac)" "\"$MAC\"" "the device keeps it"
}

# It can be changed while nobody uses the device.
# drivers: vf_vdpa
# limit: 120
case_mac_is_changed() {
	pair 0
	add_pair
	local given
	given=$(config a mac)
	run_ok vdpa dev set name a mac "$MAC"
	eq "$(config a mac)" "\"$MAC\"" "the new address is shown"
	to_virtio
	containers
	eq "$(mac_of left "$LEFT_DEV")" "$MAC" "the interface has it"
	reaches
	run_ok ip netns del left
	run_ok vdpa dev del a
	run_ok vdpa_add "$A" a
	eq "$(config a mac)" "$given" "the function's own is back with a new device"
}

# drivers: vf_vdpa
case_bad_macs_are_refused() {
	pair 0
	local mac
	for mac in 01:00:00:00:00:05 00:00:00:00:00:00; do
		log_mark
		run_fails "Invalid argument" vdpa_add "$A" a mac $mac
		one_line "$A" "mac refused" $mac station
	done
	# Without a control queue.
	local all packed
	all=$(vdpa_features "$A")
	log_mark
	run_fails "Operation not supported" vdpa_add "$A" a mac "$MAC" device_features "$(hex $((all & ~(NET_CTRL_VQ | NET_MQ))))"
	one_line "$A" "mac refused" CTRL_VQ
	# With one that the kernel does not serve, as the rings are packed.
	packed=$(vf 2)
	run_ok bind_driver "$packed"
	all=$(vdpa_features "$packed")
	log_mark
	run_fails "Operation not supported" vdpa_add "$packed" c mac "$MAC" device_features "$(hex $((all | RING_PACKED)))"
	one_line "$packed" "mac refused" "packed rings"
	run_ok vdpa_add "$packed" c mac "$MAC"
	run_ok vdpa_add "$A" a
	run_fails "Invalid MAC address" vdpa dev set name a mac 01:00:00:00:00:05
}

# Commands and rings that no driver sends.
# limit: 180
case_abuse() {
	vhost_pair 0
	client abuse "$NODE_A" --peer "$NODE_B" --only control
}

# The control queue in an address space to which no data queue belongs.
# drivers: vf_vdpa
# limit: 120
case_address_space_of_its_own() {
	vhost_pair 0
	eq "$(info "$NODE_A" 'doorbells[2]')" false "nobody but the driver has its doorbell"
	client isolation "$NODE_A" --peer "$NODE_B"
}
