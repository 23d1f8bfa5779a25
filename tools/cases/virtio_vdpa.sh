# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# virtio-vdpa: the kernel's own network driver on the device, in two containers.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# limit: 120
case_ping() {
	virtio_pair 0
	containers
	they_ping
	run_ok in_ns left ping -q -c 3 -W 10 -s 8000 "$RIGHT"
}

# limit: 240
case_iperf3() {
	virtio_pair 0
	containers
	streams_end right
	stream
	stream -R
	stream --bidir
	in_ns left iperf3 -J -c "$RIGHT" -u -b 5M -t 3 >/tmp/iperf3.json
	eq "$(jq '.end.sum | .packets > 100 and .lost_packets < .packets / 2' /tmp/iperf3.json)" true \
		"UDP passes: $(jq -c '.end.sum | [.packets, .lost_packets]' /tmp/iperf3.json)"
}

# The device goes from one bus driver to the other and back.
# limit: 300
case_rebind_cycles() {
	modprobe vhost_vdpa
	virtio_pair 0
	for _ in 1 2 3 4; do
		containers
		they_ping
		no_containers
		they_transfer
		to_virtio
	done
	containers
	they_ping
}

# The interface is below the function, where tools of SR-IOV look for it.
case_interface_is_below_the_function() {
	virtio_pair 0
	run_ok test -e "$PCI/$A/virtio"*"/net/$(netdev "$A")"
	local dev
	dev=$(netdev "$A")
	match "$(ethtool -i "$dev")" "*virtio_net*" "its driver is virtio_net"
	eq "$(cat "/sys/class/net/$dev/address")" 52:54:00:00:00:01 "it has the function's address"
}

# The link follows the cable: the configuration interrupt arrives.
# limit: 120
case_link_state() {
	virtio_pair 0
	containers
	they_ping
	for _ in 1 2; do
		host link vf0 down
		run_ok wait_for "$SOON" carrier left "$LEFT_DEV" 0
		host link vf0 up
		run_ok wait_for "$SOON" carrier left "$LEFT_DEV" 1
	done
	they_ping
}

carrier() { # carrier NS DEV VALUE
	[ "$(in_ns "$1" cat "/sys/class/net/$2/carrier")" = "$3" ]
}

# The MTU of the device limits the interface.
# limit: 120
case_mtu() {
	virtio_pair 0 mtu 4000
	containers
	eq "$(in_ns left cat "/sys/class/net/$LEFT_DEV/mtu")" 4000 "the interface starts with the device's MTU"
	run_fails "mtu greater than device maximum" ip -n left link set "$LEFT_DEV" mtu 4001
	run_ok in_ns left ping -q -c 3 -W 10 -M "do" -s 3972 "$RIGHT"
	run_ok ip -n left link set "$LEFT_DEV" mtu 1400
	run_ok in_ns left ping -q -c 3 -W 10 -M "do" -s 1372 "$RIGHT"
	run_fails "too long" in_ns left ping -c 1 -W 2 -M "do" -s 1373 "$RIGHT"
}

# The interface goes down and up: the rings stop and start.
# limit: 120
case_down_and_up() {
	virtio_pair 0
	containers
	for _ in 1 2 3; do
		run_ok ip -n left link set "$LEFT_DEV" down
		run_ok ip -n left link set "$LEFT_DEV" up
		run_ok wait_for "$SOON" in_ns left ping -q -c 1 -W 2 "$RIGHT"
	done
	they_ping
}

# The device is deleted under traffic, and added again.
# limit: 240
case_deleted_under_traffic() {
	virtio_pair 0
	for _ in 1 2 3; do
		containers
		flood left "$RIGHT"
		flood right "$LEFT"
		sleep 1
		run_ok vdpa dev del a
		run_ok vdpa dev del b
		no_containers
		add_pair
		to_virtio
	done
	containers
	they_ping
}

# Ring sizes shown by the interface are the function's.
case_ring_sizes() {
	virtio_pair 0
	match "$(ethtool -g "$(netdev "$A")")" "*256*" "the rings have the function's size"
}

# What it costs to offer no more than QEMU can migrate: the same TCP stream with the
# features that a device has by default and with all that it can have.
# drivers: vf_vdpa
# needs: hours
# limit: 900
case_cost_of_default_features() {
	local all default what
	modprobe vhost_vdpa
	pair 2
	default=$(vdpa_features "$A")
	all=$(($(all_features "$A" "$default") & ~RING_PACKED))
	[ "$all" != "$default" ] || die "the default is less than everything: $(hex "$default")"
	ok "default $(hex "$default"), everything $(hex "$all")"
	for _ in $(seq $ROUNDS); do
		for what in default everything; do
			case $what in
			default) add_pair device_features "$(hex "$default")" ;;
			everything) add_pair device_features "$(hex "$all")" ;;
			esac
			to_virtio
			containers
			they_ping
			streams_end right
			stream
			measured $what "$(jq '.end.sum_received.bits_per_second' /tmp/iperf3.json)"
			stream -R
			measured $what-back "$(jq '.end.sum_received.bits_per_second' /tmp/iperf3.json)"
			kill "$(tr -d '\0' </tmp/iperf3.pid)"
			vdpa dev del a
			vdpa dev del b
			no_containers
		done
	done
	proportions throughput default/everything default-back/everything-back || die "each round has all figures"
}
