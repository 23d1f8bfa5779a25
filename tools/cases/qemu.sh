# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A guest in the machine, on a VF through vhost-vdpa. Its neighbour is in a
# container, on the other VF of the pair through virtio-vdpa.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"
# shellcheck source=tools/cases/guest.sh
. "$LAB/cases/guest.sh"

start() {
	# Whoever was there before has been ready, too.
	: >/tmp/guest.log
	guest_start guest "$NODE_A" "$LEFT/24"
	comes_up 1
}

comes_up() { # comes_up TIMES
	guest_wait guest "$BOOT" "$1" || die "the guest boots" \
		"$(tail -n 5 /tmp/guest.err)" "$(tail -n 5 /tmp/guest.log)"
	ok "the guest boots"
}

guest_pings() {
	run_ok in_ns right ping -q -c 5 -i 0.3 -W 20 "$LEFT"
	run_ok guest_run guest 120 "ping -c 3 -W 20 $RIGHT"
}

# needs: guest
# limit: 1500
case_guest_pings() {
	neighbours 0
	local given
	given=$(config a mac)
	start
	guest_pings
	# Not told which, QEMU has an address for its guest, and gives it to the device.
	eq "$(config a mac)" '"52:54:00:12:34:56"' "the device has QEMU's address"
	match "$(guest_run guest 120 "ip link show eth0")" "*$(config a mac | tr -d '"')*" "the guest has it, too"
	eq "$(grep -ci 'error\|fail\|unsupported' /tmp/guest.err)" 0 "QEMU says nothing bad: $(head -c 300 /tmp/guest.err)"
	guest_stop guest
	# Stopped by itself, QEMU gives the device back.
	run_ok "$CLIENT" info "$NODE_A"
	eq "$(config a mac)" "$given" "the device has its own address again"
}

# needs: guest hours
# limit: 1500
case_guest_reboots() {
	neighbours 0
	start
	guest_type guest "reboot -f"
	comes_up 2
	guest_pings
	eq "$(grep -ci 'error\|fail\|unsupported' /tmp/guest.err)" 0 "QEMU says nothing bad: $(head -c 300 /tmp/guest.err)"
}

# needs: guest hours
# limit: 1500
case_qemu_is_killed() {
	neighbours 0
	start
	guest_pings
	# While frames come in, with nobody to give the device back.
	flood right "$LEFT"
	local pinger=$!
	sleep 1
	guest_stop guest KILL
	sleep 1
	kill -KILL "$pinger"
	wait "$pinger" 2>/dev/null
	# In the middle of the boot, too.
	: >/tmp/guest.log
	guest_start guest "$NODE_A" "$LEFT/24"
	sleep 10
	guest_stop guest KILL
	start
	guest_pings
}
