# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The sample: a software device on the same abstraction. What it is sent comes back.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

sample() {
	modprobe virtio_net || die "loading virtio_net"
	load rust_vdpa_loopback || die "loading rust_vdpa_loopback" "$(dmesg | tail -n 5)"
}

add() { # add NAME [ATTRIBUTE VALUE]...
	local name=$1
	shift
	vdpa dev add name "$name" mgmtdev vdpa_loopback "$@"
}

# drivers: vf_vdpa
case_shows_itself() {
	sample
	eq "$(vdpa -j mgmtdev show vdpa_loopback | jq -c '.mgmtdev.vdpa_loopback.supported_classes')" '["net"]' "the class is net"
	run_ok add l0
	run_ok vdpa dev config show l0
	run_ok vdpa dev del l0
	run_ok rmmod rust_vdpa_loopback
	sample
	run_ok add l0
}

# Any user of the machine asks for the statistics of any queue.
# drivers: vf_vdpa
case_statistics_of_no_queue() {
	sample
	run_ok add l0
	run_ok bus virtio l0
	run_ok vdpa dev vstats show l0 qidx 1
	run_fails "Invalid argument" vdpa dev vstats show l0 qidx 2
}

# drivers: vf_vdpa
case_address_is_that_of_a_station() {
	local mac
	sample
	for mac in 01:00:00:00:00:05 00:00:00:00:00:00; do
		log_mark
		run_fails "Invalid argument" add l0 mac "$mac"
		match "$(log_since)" "*dev add refused: mac $mac*" "the log says why"
	done
	run_ok add l0 mac 02:00:00:00:00:05
	eq "$(config l0 mac | jq -r .)" 02:00:00:00:00:05 "the address is shown"
}

# drivers: vf_vdpa
# limit: 120
case_vhost_loopback() {
	modprobe vhost_vdpa
	sample
	run_ok add l0
	bus vhost l0
	client loopback "$(vhost_node l0)" --count 3000
	client loopback "$(vhost_node l0)" --count 2000 --event-index
	client loopback "$(vhost_node l0)" --count 500 --size 8
}

# drivers: vf_vdpa
# limit: 300
case_vhost_abuse() {
	modprobe vhost_vdpa
	sample
	run_ok add l0
	bus vhost l0
	client abuse "$(vhost_node l0)" --loopback
}

# drivers: vf_vdpa
# limit: 240
case_vhost_random_requests() {
	modprobe vhost_vdpa
	sample
	run_ok add l0
	bus vhost l0
	local seed
	for seed in 21 22 23; do
		client fuzz "$(vhost_node l0)" --loopback --seed $seed --count 4000
	done
}

# An interface that hears its own words: every request it sends arrives.
# drivers: vf_vdpa
# limit: 120
case_virtio_loopback() {
	sample
	run_ok add l0
	bus virtio l0
	run_ok wait_for "$SOON" sample_netdev
	local dev before after
	dev=$(sample_netdev)
	run_ok ns_with left "$dev" "$LEFT/24"
	before=$(received "$dev")
	in_ns left arping -c 5 -i "$dev" "$RIGHT" >/dev/null 2>&1 ||
		in_ns left ping -q -c 5 -i 0.3 -W 1 "$RIGHT" >/dev/null 2>&1
	after=$(received "$dev")
	if [ $((after - before)) -ge 3 ]; then
		ok "what was sent came back: $((after - before)) frames"
	else
		fail "what was sent came back" "received before: $before, after: $after"
	fi
	run_ok vdpa dev del l0
}

sample_netdev() {
	local dir
	for dir in "$VDPA"/devices/l0/virtio*/net/* /sys/class/net/*; do
		[ -e "$dir/device/driver" ] || [ -e "$dir/device" ] || continue
		case $(readlink -f "$dir/device") in
		*l0* | *loopback*)
			echo "${dir##*/}"
			return
			;;
		esac
	done
	return 1
}

received() { # received DEV
	in_ns left cat "/sys/class/net/$1/statistics/rx_packets"
}

# drivers: vf_vdpa
# limit: 180
case_removed_under_traffic() {
	modprobe vhost_vdpa
	sample
	local n
	for n in 1 2 3; do
		run_ok add l0
		bus virtio l0
		run_ok wait_for "$SOON" sample_netdev
		run_ok ns_with left "$(sample_netdev)" "$LEFT/24"
		# Nobody answers a question for the address.
		run_ok ip -n left neighbour replace "$RIGHT" lladdr 02:00:00:00:00:02 dev "$(in_ns left ls /sys/class/net | grep -v lo)"
		flood left "$RIGHT"
		local pinger=$!
		sleep 1
		run_ok vdpa dev del l0
		kill -KILL $pinger 2>/dev/null
		wait $pinger 2>/dev/null
		no_containers
	done
	run_ok add l0
	bus vhost l0
	run_ok "$CLIENT" loopback "$(vhost_node l0)" --count 200
	run_ok rmmod rust_vdpa_loopback
}

# drivers: vf_vdpa
# limit: 240
case_cycles() {
	modprobe vhost_vdpa
	sample
	local n references
	references=$(cat /sys/module/rust_vdpa_loopback/refcnt)
	for n in 1 2 3 4 5 6 7 8 9 10; do
		{ add "l$n" && bus vhost "l$n" && "$CLIENT" loopback "$(vhost_node "l$n")" --count 50 >/tmp/out; } || {
			fail "cycle $n" "$(cat /tmp/out)"
			return
		}
		vdpa dev del "l$n"
	done
	ok "10 cycles"
	eq "$(cat /sys/module/rust_vdpa_loopback/refcnt)" "$references" "the module's references are as before"
}
