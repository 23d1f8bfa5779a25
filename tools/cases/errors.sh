# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Errors of PCI Express, reported by a function and handled by the kernel (AER).
# The kernel's own injector makes them; the resets that follow are real.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# The function in a port of its own: an error takes down all below a port.
failing() {
	modprobe aer_inject || die "loading aer_inject"
	modprobe vhost_vdpa
	A=$(hot_function)
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 3)"
	vdpa_add "$A" a || die "adding a"
	# Whichever bus driver was loaded first has taken it: one that does nothing yet
	# is the one that is wanted.
	bus vhost a || die "giving a to vhost_vdpa"
	log_mark
}

# inject corrected|nonfatal|fatal [BDF]: an error of A, or of another function
inject() {
	python3 - "${2:-$A}" "$1" <<-'PYTHON'
		import re, struct, sys
		domain, bus, device, function = (int(n, 16) for n in re.split("[:.]", sys.argv[1]))
		# Receiver error; completion timeout; malformed TLP, which is fatal.
		corrected, uncorrected = {
		    "corrected": (0x1, 0), "nonfatal": (0, 0x4000), "fatal": (0, 0x40000),
		}[sys.argv[2]]
		error = struct.pack("=BBBxIIIIIII", bus, device, function, uncorrected, corrected, 1, 2, 3, 4, domain)
		open("/dev/aer_inject", "wb", buffering=0).write(error)
	PYTHON
}

recovered() { # the kernel says so
	log_since | grep -q "AER: device recovery successful"
}

phase() { # phase NAME: of A, in the state file
	grep -q "^phase: $1\$" "$DEBUG/vf_vdpa-$A/state"
}

usable() { # the next consumer finds a device that works
	emulator_answers
	no_containers
}

# drivers: vf_vdpa
# limit: 120
case_corrected_error_changes_nothing() {
	failing
	client_until "holding live" /tmp/hold.log hold "$(vhost_node a)" --live
	run_ok inject corrected
	run_ok wait_for "$SOON" logs "Correctable"
	run_ok phase Live
	client_kill
	usable
}

logs() {
	log_since | grep -q "$1"
}

# The link works: the device goes on as if nothing had been.
# drivers: vf_vdpa
# limit: 120
case_nonfatal_error_while_live() {
	failing
	client_until "holding live" /tmp/hold.log hold "$(vhost_node a)" --live
	run_ok inject nonfatal
	run_ok wait_for "$SOON" recovered
	run_ok phase Live
	client_kill
	usable
}

# The kernel resets all below the port.
# drivers: vf_vdpa
# limit: 120
case_fatal_error_while_idle() {
	failing
	run_ok inject fatal
	run_ok wait_for "$SOON" recovered
	run_ok phase Stopped
	usable
}

# The consumer is told to reset, and the next one works.
# drivers: vf_vdpa
# limit: 120
case_fatal_error_while_live() {
	failing
	client_until "holding live" /tmp/hold.log hold "$(vhost_node a)" --live
	run_ok inject fatal
	run_ok wait_for "$SOON" recovered
	run_ok phase Lost
	match "$(grep ^status: "$DEBUG/vf_vdpa-$A/state")" "*NEEDS_RESET*" "the status says so"
	run_ok wait_for "$SOON" grep -q "configuration interrupt, NEEDS_RESET" /tmp/hold.log
	client_kill
	run_ok wait_for "$SOON" phase Stopped
	usable
}

# The network driver may be waiting for an answer of the device.
# drivers: vf_vdpa
# limit: 180
case_fatal_error_under_virtio_traffic() {
	failing
	emulator_answers
	flood left 10.0.2.2
	local pinger=$!
	run_ok inject fatal
	run_ok wait_for "$SOON" recovered
	network_still_configurable
	kill $pinger
	wait $pinger 2>/dev/null
	no_containers
	echo a >"$VDPA/drivers/virtio_vdpa/unbind"
	usable
}

# Unbound while the consumer has yet to reset it.
# drivers: vf_vdpa
# limit: 120
case_unbound_after_a_fatal_error() {
	failing
	run_ok inject fatal
	run_ok wait_for "$SOON" recovered
	unbind_driver "$A"
	run_ok test ! -e "$VDPA/devices/a"
	run_ok bind_driver "$A"
	run_ok vdpa_add "$A" a
	usable
}

# Unbound while the kernel recovers it: nobody gives it its BARs back then.
# drivers: vf_vdpa
# limit: 120
case_unbound_during_a_fatal_error() {
	failing
	run_ok inject fatal
	unbind_driver "$A"
	run_ok test ! -e "$VDPA/devices/a"
	run_ok wait_for "$SOON" logs "AER: device recovery"
	echo 1 >"$PCI/$A/remove"
	echo 1 >/sys/bus/pci/rescan
	run_ok wait_for "$SOON" bind_driver "$A"
	run_ok vdpa_add "$A" a
	usable
}

# ---- functions that share a port with one that cannot be helped ------------

# A and B, VFs, with the PF beside them: its driver knows nothing of errors, so the
# kernel gives up, and tells all of them. PORT is theirs.
beside_another_driver() {
	modprobe aer_inject || die "loading aer_inject"
	vhost_pair 0
	PORT=$(basename "$(readlink -f "$PCI/$(pf)/..")")
	eq "$(basename "$(readlink "$PCI/$(pf)/driver")")" virtio-pci "the PF has another driver"
	log_mark
}

given_up() { # the kernel says so
	log_since | grep -q "AER: device recovery failed"
}

# What works goes on working.
# drivers: vf_vdpa
# limit: 180
case_nonfatal_error_beside_another_driver() {
	beside_another_driver
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 20
	run_ok inject nonfatal "$PORT"
	run_ok wait_for "$SOON" given_up
	run_ok logs "vf_vdpa $A: an error below its port was not recovered from, goes on"
	run_ok phase Live
	ends_well "$CLIENT_PID" "the program with the traffic ends" /tmp/traffic.log
	cat /tmp/traffic.log
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}

# The reset of the port takes the VFs' existence from the PF, whose driver does not give it
# back: nobody can be helped before the PF is found anew.
# drivers: vf_vdpa
# limit: 180
case_fatal_error_beside_another_driver() {
	beside_another_driver
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	run_ok inject fatal "$PORT"
	run_ok wait_for "$SOON" given_up
	run_ok logs "vf_vdpa $A: does not stop or answer, cut off from memory until a reset"
	run_ok phase CutOff
	run_ok wait_for "$SOON" grep -q "configuration interrupt, NEEDS_RESET" /tmp/hold.log
	client_kill
	run_fails "Input/output error" "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	run_ok vdpa dev del a
	run_ok vdpa dev del b
	echo 1 >"$PCI/$(pf)/remove"
	run_ok test ! -e "$PCI/$A"
	echo 1 >/sys/bus/pci/rescan
	vhost_pair 0
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}
