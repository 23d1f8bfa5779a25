# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The function goes away: in every way, while nobody uses it, while vhost-vdpa is
# open, while virtio-vdpa is busy.
#
# A device that a program has open through vhost-vdpa holds its removal up until
# the file is closed: that is how the kernel's vhost_vdpa works. The cases close
# the file then, and the removal must end by itself.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# ---- ways to go ----------------------------------------------------------
# Each takes A away. `back_from` undoes it as far as the machine is concerned.

go_unbind() {
	echo "$A" >"$PCI/$A/driver/unbind"
}

go_sriov() {
	echo 0 >"$PCI/$(pf)/sriov_numvfs"
}

go_rmmod() {
	rmmod "$DRIVER"
}

go_remove() {
	echo 1 >"$PCI/$A/remove"
}

left_unbind() { [ -e "$PCI/$A" ] && [ ! -e "$PCI/$A/driver" ]; }
left_sriov() { [ ! -e "$PCI/$A" ]; }
left_rmmod() { [ ! -e "/sys/module/$DRIVER" ]; }
left_remove() { [ ! -e "$PCI/$A" ]; }

# Everything is set up anew, and frames flow.
again() {
	local dev
	no_containers
	for dev in "$VDPA"/devices/*; do
		[ ! -e "$dev" ] || vdpa dev del "${dev##*/}"
	done
	unload || fail "$DRIVER can be removed afterwards"
	vhost_pair 0
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}

while_idle() { # while_idle WAY
	modprobe vhost_vdpa
	pair 0
	# Without a vdpa device, then with one.
	run_ok "go_$1"
	run_ok "left_$1"
	[ ! -e "$PCI/$A" ] || unbind_driver "$A"
	again
	run_ok "go_$1"
	run_ok "left_$1"
	run_ok test ! -e "$VDPA/devices/a"
	again
}

while_open() { # while_open WAY [--live]
	vhost_pair 0
	local holding=open way=$1
	shift
	[ $# -eq 0 ] || holding=live
	client_until "holding $holding" /tmp/hold.log hold "$NODE_A" "$@"
	local holder=$CLIENT_PID
	"go_$way" >/tmp/go.log 2>&1 &
	local going=$!
	sleep 2
	if ended $going; then
		fail "the removal waits for the file to be closed" "it is over: $(cat /tmp/go.log)"
	else
		ok "the removal waits for the file to be closed"
	fi
	kill -KILL "$holder"
	wait "$holder" 2>/dev/null
	ends_well $going "with the file closed the removal ends" /tmp/go.log
	run_ok "left_$way"
	again
}

while_client_is_busy() { # while_client_is_busy WAY
	vhost_pair 0
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 8
	local traffic=$CLIENT_PID
	"go_$1" >/tmp/go.log 2>&1 &
	local going=$!
	ends_well "$traffic" "the program with the traffic ends" /tmp/traffic.log
	ends_well $going "then the removal ends" /tmp/go.log
	run_ok "left_$1"
	again
}

while_busy() { # while_busy WAY
	virtio_pair 0
	containers
	they_ping
	flood left "$RIGHT"
	flood right "$LEFT"
	sleep 1
	run_ok "go_$1"
	run_ok "left_$1"
	run_ok test ! -e "$VDPA/devices/a"
	again
}

# limit: 180
case_unbind_while_idle() {
	while_idle unbind
}

# limit: 180
case_unbind_while_open() {
	while_open unbind
}

# limit: 180
case_unbind_while_live() {
	while_open unbind --live
}

# limit: 180
case_unbind_under_vhost_traffic() {
	while_client_is_busy unbind
}

# limit: 180
case_unbind_under_virtio_traffic() {
	while_busy unbind
}

# limit: 180
case_no_vfs_while_idle() {
	while_idle sriov
}

# limit: 180
case_no_vfs_while_open() {
	while_open sriov
}

# limit: 180
case_no_vfs_while_live() {
	while_open sriov --live
}

# limit: 180
case_no_vfs_under_vhost_traffic() {
	while_client_is_busy sriov
}

# limit: 180
case_no_vfs_under_virtio_traffic() {
	while_busy sriov
}

# limit: 180
case_rmmod_while_idle() {
	while_idle rmmod
}

# limit: 180
case_rmmod_while_open() {
	while_open rmmod
}

# limit: 180
case_rmmod_while_live() {
	while_open rmmod --live
}

# limit: 180
case_rmmod_under_vhost_traffic() {
	while_client_is_busy rmmod
}

# limit: 180
case_rmmod_under_virtio_traffic() {
	while_busy rmmod
}

# ---- hot unplug ----------------------------------------------------------
# The function in the slot of its own, behind which the emulator answers.

plugged() {
	modprobe virtio_net || die "loading virtio_net"
	A=$(hot_function)
	[ -e "$PCI/$A" ] || die "there is no function that can be unplugged"
	bind_driver "$A" || die "binding $A"
	vdpa_add "$A" a || die "adding a"
}

PROVING=/proc/sys/kernel/prove_locking

# unplug: the function goes a little later. The PCI core takes two locks in either order then, and lockdep, which
# says so, would watch nothing any more (Documentation/upstream.md): it looks away until the function is back.
unplug() {
	[ ! -e $PROVING ] || echo 0 >$PROVING
	host unplug hot
}

unplugged_and_back() {
	run_ok wait_for "$LATER" test ! -e "$PCI/$A"
	run_ok test ! -e "$VDPA/devices/a"
	# The slot takes no notice of what happens within a second of its power-off.
	run_ok wait_for "$LATER" slot_is_off
	sleep 3
	host plug hot
	run_ok wait_for "$LATER" test -e "$PCI/$A/driver_override"
	[ ! -e $PROVING ] || echo 1 >$PROVING
	# The kernel's own driver may have been quicker.
	run_ok wait_for "$SOON" bind_driver "$A"
	run_ok vdpa_add "$A" a
	modprobe vhost_vdpa
	bus vhost a
	run_ok "$CLIENT" info "$(vhost_node a)"
}

slot_is_off() { # the second slot is the one of the hot function
	[ "$(cat /sys/bus/pci/slots/2/power)" = 0 ]
}

# limit: 180
case_unplug_while_idle() {
	plugged
	unplug
	unplugged_and_back
}

unplug_while() { # unplug_while open|live [--live]
	modprobe vhost_vdpa
	plugged
	bus vhost a
	local holding=$1
	shift
	client_until "holding $holding" /tmp/hold.log hold "$(vhost_node a)" "$@"
	unplug
	run_ok wait_for "$LATER" test ! -e "$VDPA/devices/a"
	# The function itself stays until the file is closed.
	sleep 2
	run_ok test -e "$PCI/$A"
	client_kill
	unplugged_and_back
}

# limit: 180
case_unplug_while_open() {
	unplug_while open
}

# limit: 180
case_unplug_while_live() {
	unplug_while live --live
}

# limit: 180
case_unplug_under_virtio_traffic() {
	plugged
	emulator_answers
	flood left 10.0.2.2
	sleep 1
	unplug
	unplugged_and_back
}

# A function that is taken off the bus, and found again.
# limit: 180
case_pci_remove_under_virtio_traffic() {
	plugged
	emulator_answers
	flood left 10.0.2.2
	sleep 1
	run_ok go_remove
	run_ok left_remove
	echo 1 >/sys/bus/pci/rescan
	run_ok wait_for "$LATER" test -e "$PCI/$A/driver_override"
	run_ok wait_for "$SOON" bind_driver "$A"
	run_ok vdpa_add "$A" a
}

# Removed while it waits for its consumer's reset.
# drivers: vf_vdpa
# limit: 120
case_removed_while_flr_is_pending() {
	vhost_pair 0
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	run_ok flr
	go_unbind >/tmp/go.log 2>&1 &
	local going=$!
	sleep 1
	client_kill
	ends_well $going "the removal ends" /tmp/go.log
	again
}
