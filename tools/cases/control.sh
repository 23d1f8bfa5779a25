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
	log_mark
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
	eq "$(log_since | grep -c 'control command refused')" 0 "no command is refused"
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
	log_mark
	run_fails "Invalid argument" ip -n left link set dev "$LEFT_DEV" address "$OTHER"
	eq "$(mac_of left "$LEFT_DEV")" "$MAC" "the interface keeps it"
	# Once the command is answered.
	run_ok wait_for "$SOON" refusal_is_told
	reaches
	run_fails "busy" vdpa dev set name a mac "$OTHER"
	eq "$(config a mac)" "\"$MAC\"" "the device keeps it"
}

refusal_is_told() {
	log_since | grep "$A" | grep -q "control command refused"
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

# writes_mac NODE OFFSET/BYTES...: to the configuration, as a process that has opened
# the device, and keeps it open; that is $!
writes_mac() {
	rm -f /tmp/written
	python3 - "$@" >/tmp/written 2>&1 <<-'PYTHON' &
		import fcntl, struct, sys, time
		device = open(sys.argv[1], "rb", buffering=0)
		SET_CONFIG = 0x4008AF74  # VHOST_VDPA_SET_CONFIG
		for write in sys.argv[2:]:
		    offset, data = write.split("/")
		    data = bytes.fromhex(data.replace(":", ""))
		    fcntl.ioctl(device, SET_CONFIG, struct.pack("II", int(offset), len(data)) + data)
		print("written", flush=True)
		time.sleep(1000)
	PYTHON
	wait_for "$SOON" grep -q written /tmp/written || die "the configuration is written" "$(cat /tmp/written)"
}

closes() { # closes PROCESS
	kill "$1"
	wait "$1" 2>/dev/null
}

# Who opens the device may write an address, as QEMU and DPDK do before their drivers
# look. The administrator's stays.
# drivers: vf_vdpa
# limit: 120
case_mac_is_written() {
	pair 0
	run_ok vdpa_add "$A" a
	run_ok vdpa_add "$B" b mac "$MAC"
	to_vhost
	local given bytes
	given=$(config a mac)
	# As JSON: the first six bytes of the configuration.
	bytes=$(jq -c 'split(":") | map(explode | map(if . > 57 then . - 87 else . - 48 end) | .[0] * 16 + .[1])' <<<"$given")
	# Of nobody, of a group, in part, beside it.
	writes_mac "$NODE_A" 0/00:00:00:00:00:00 0/01:00:00:00:00:05 0/02:00 1/02:00:00:00:00:05 6/02:00:00:00:00:05
	eq "$(config a mac)" "$given" "what is no address is not taken"
	closes "$!"
	writes_mac "$NODE_A" "0/$MAC" "0/$OTHER"
	eq "$(config a mac)" "\"$OTHER\"" "the last address is shown"
	closes "$!"
	# It has mapped no memory, so nobody is told that it has gone, but whoever comes next.
	eq "$(info "$NODE_A" 'config[:6]')" "$bytes" "who opens the device next is not shown it"
	eq "$(config a mac)" "$given" "and it is forgotten"
	writes_mac "$NODE_A" "0/$OTHER"
	closes "$!"
	eq "$(config a mac)" "\"$OTHER\"" "an address is shown once more"
	to_virtio
	eq "$(config a mac)" "$given" "the kernel's driver is not shown it either"
	to_vhost
	run_ok vdpa dev set name a mac "$MAC"
	for NODE in "$NODE_A" "$NODE_B"; do
		writes_mac "$NODE" "0/$OTHER"
		closes "$!"
	done
	eq "$(config a mac)" "\"$MAC\"" "an administrator's address stays"
	eq "$(config b mac)" "\"$MAC\"" "and that of dev add"
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
	# Without a control queue, and so without what requires one.
	local all packed
	log_mark
	run_fails "Operation not supported" vdpa_add "$A" a mac "$MAC" device_features "$(hex $((LEAST | NET_MAC)))"
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
