# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A function that misbehaves while the kernel's network driver has it. That one asks it for
# things with the lock of all network configuration held: whatever the function does, the
# machine's network goes on. What a process sees of it is in hostile.sh.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# virtio-net sends commands while it is being bound, with the lock of all network configuration
# held, and waits for the answers.
# needs: time
# drivers: vf_vdpa
# limit: 240
case_refuses_to_start_for_virtio_net() {
	# One without a MAC address is given one by a command, at once.
	model --withhold 5
	modprobe virtio_net || die "loading virtio_net"
	misbehave refuse-driver-ok
	bus virtio m &
	wait_for "$SOON" ended $! || die "virtio-net is bound to a device that does not start" "$(cat "/proc/$!/stack")"
	named "the device does not start: its status is"
	within 10 ip link set lo up
	behave
	bus vhost m || die "giving m to vhost_vdpa"
	wait_for "$SOON" vhost_node m
	NODE=$(vhost_node m)
	it_works
	bus virtio m || die "giving m to virtio_vdpa"
	wait_for "$SOON" netdev "$M"
	within 10 ip link set "$(netdev "$M")" up
	others_work
}

# The kernel passes commands on to the device, and waits for its answer. When there is none the queues of its driver
# stand still, as that one says if it has frames to send.
# drivers: vf_vdpa
# limit: 180
# allow: NETDEV WATCHDOG
case_commands_are_not_answered() {
	commanded ignore-commands "(error -110)"
}

# What it returns in the control queue is looked at by the kernel alone.
# drivers: vf_vdpa
# limit: 300
# allow: NETDEV WATCHDOG
case_lies_on_the_control_queue() {
	commanded used-bad-id "(error -5)"
	run_ok vdpa dev del m
	commanded used-index-jump "(error -5)"
}

# commanded HOW WHY: virtio-net has a command for a function that misbehaves
commanded() {
	echo "# $1"
	network
	misbehave "$1"
	ip -n left link set "$LEFT_DEV" promisc on
	named "control queue: the device does not answer $2"
	network_ends
}

# network: the device m is the kernel's network driver's, in a container
network() {
	model
	bus virtio m || die "giving m to virtio_vdpa"
	wait_for "$SOON" netdev "$M" || die "no network interface appears below $M"
	LEFT_DEV=$(netdev "$M")
	run_ok ns_with left "$LEFT_DEV" "$LEFT/24"
	listen
}

# network_ends: whatever has become of the function, the machine's network has not, and the device m
# can be used once it behaves
network_ends() {
	network_still_configurable
	no_containers
	behave
	bus vhost m || die "giving m to vhost_vdpa"
	wait_for "$SOON" vhost_node m
	NODE=$(vhost_node m)
	it_works
}

# Frames of the kernel's network driver come and go when it begins.
# needs: time
# drivers: vf_vdpa
# limit: 400
# allow: NETDEV WATCHDOG
case_misbehaves_under_virtio_traffic() {
	local how text flooder
	for how in "all-ones:cannot be reached" "dead-registers:cannot be reached" \
		"needs-reset:says that it needs a reset" "status-flips:was reset behind our back" \
		"interrupt-storm:configuration interrupts: [0-9]* a second"; do
		text=${how#*:}
		echo "# ${how%%:*}"
		network
		# Nobody answers, but all of it comes back.
		ip -n left neigh add "$RIGHT" lladdr 02:00:00:00:00:99 dev "$LEFT_DEV"
		ip netns exec left ping -f -q "$RIGHT" >/dev/null 2>&1 &
		flooder=$!
		run_ok wait_for "$SOON" frames_are_back 100
		misbehave "${how%%:*}"
		case ${how%%:*} in
		interrupt-storm)
			run_ok wait_for "$SOON" frames_are_back $(($(tells frames) + 100))
			# Whoever looks finds it.
			wait_for "$SOON" seen "$text"
			;;
		all-ones | dead-registers) named "does not stop or answer, cut off from memory until a reset" ;;
		esac
		named "$text"
		kill "$flooder"
		wait "$flooder" 2>/dev/null
		network_ends
		run_ok vdpa dev del m
	done
}

frames_are_back() { # frames_are_back COUNT: so many frames have come back to whoever has sent them
	[ "$(tells frames)" -ge "$1" ]
}
