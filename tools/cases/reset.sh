# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The function is reset by others than its driver: by the administrator, of which
# the driver is told, and by somebody of whom nobody knows.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# limit: 120
case_flr_while_idle() {
	modprobe vhost_vdpa
	pair 0
	run_ok flr
	add_pair
	run_ok flr
	they_transfer
	run_ok flr
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 200
}

# A device that is open and not live has nothing to lose.
# limit: 120
case_flr_while_open() {
	vhost_pair 0
	client_until "holding open" /tmp/hold.log hold "$NODE_A"
	run_ok flr
	client_kill
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 200
}

# The consumer is told (NEEDS_RESET, configuration interrupt), resets, goes on.
# drivers: vf_vdpa
# limit: 180
case_flr_while_live() {
	vhost_pair 0
	local n
	for n in 1 2 3; do
		client_until "traffic flows" /tmp/survive.log survive "$NODE_A" "$NODE_B" --seconds 90
		run_ok flr
		ends_well "$CLIENT_PID" "round $n: the consumer survives" /tmp/survive.log
		cat /tmp/survive.log
	done
}

# Whatever a consumer does after such a reset, the next one finds the device usable.
# limit: 180
case_flr_while_live_then_closed() {
	vhost_pair 0
	local n
	for n in 1 2 3; do
		client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
		run_ok flr
		client_kill
		run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	done
}

# limit: 180
case_flr_under_vhost_traffic() {
	vhost_pair 0
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 20
	local n
	for n in 1 2 3; do
		run_ok flr
	done
	ends_well "$CLIENT_PID" "the program with the traffic ends" /tmp/traffic.log
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}

# The network driver does not know NEEDS_RESET; bound again it works.
# limit: 180
# allow: NETDEV WATCHDOG
case_flr_under_virtio_traffic() {
	virtio_pair 0
	containers
	flood left "$RIGHT"
	local left=$!
	flood right "$LEFT"
	local right=$!
	sleep 1
	run_ok flr
	network_still_configurable
	kill $left $right
	wait $left $right 2>/dev/null
	no_containers
	local dev
	for dev in a b; do
		echo $dev >"$VDPA/drivers/virtio_vdpa/unbind"
	done
	to_virtio
	containers
	they_ping
}

# A reset nobody announces: not even the kernel knows of it.
raw_flr() {
	# Bit 15 of Device Control in the PCI Express capability.
	setpci -s "$A" CAP_EXP+8.w=8000:8000
	sleep 1
}

# The next reset, which opening the device brings, mends what was lost.
# drivers: vf_vdpa
# limit: 240
case_raw_flr_is_mended() {
	modprobe vhost_vdpa
	pair 0
	run_ok raw_flr
	add_pair
	run_ok raw_flr
	they_transfer
	run_ok raw_flr
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	run_ok raw_flr
	client_kill
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 8
	run_ok raw_flr
	ends_well "$CLIENT_PID" "the program with the traffic ends" /tmp/traffic.log
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}

# Where it would be taken for a device that the driver has set up: a fresh one.
# drivers: vf_vdpa
# limit: 180
case_raw_flr_before_it_starts() {
	vhost_pair "${1:-0}"
	client unannounced "$NODE_A" --peer "$NODE_B" --reset "setpci -s $A CAP_EXP+8.w=8000:8000; sleep 1"
}

# Functions without RING_RESET are suspended by a reset, which a fresh device looks like.
# drivers: vf_vdpa
# limit: 180
case_raw_flr_before_it_starts_without_queue_reset() {
	case_raw_flr_before_it_starts 2
}

# drivers: vf_vdpa
# limit: 180
case_raw_flr_then_flr() {
	vhost_pair 0
	run_ok raw_flr
	run_ok flr
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	run_ok raw_flr
	run_ok flr
	client_kill
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}
