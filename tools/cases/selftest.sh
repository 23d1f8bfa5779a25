# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Cases that fail in every way on purpose: `tools/bootstrap selftest` runs them
# and tests that the lab notices. `make check` leaves them out.

case_passes() {
	ok "one is one"
	eq 1 1 "one is still one"
}

case_skips() {
	skip "because it can"
}

case_fails() {
	ok "so far so good"
	eq 1 2 "one is two"
}

case_is_silent() {
	echo "words, but no result"
}

case_ends_badly() {
	ok "so far so good"
	exit 3
}

# limit: 5
case_hangs() {
	ok "so far so good"
	sleep 1000
}

# The parent of vfork waits in the kernel for its child.
# limit: 10
case_hangs_in_the_kernel() {
	ok "so far so good"
	python3 -c 'import ctypes, time; ctypes.CDLL(None).vfork() or time.sleep(1000)'
}

case_warns() {
	ok "so far so good"
	echo "WARNING: injected" >/dev/kmsg
}

# allow: WARNING: injected
case_is_allowed_to_warn() {
	ok "it says so beforehand"
	echo "WARNING: injected" >/dev/kmsg
}

case_crashes() {
	ok "so far so good"
	echo c >/proc/sysrq-trigger
	sleep 100
}

# Unplugs the function that can be unplugged, and plugs it again.
case_asks_the_host() {
	bdf=$(hot_function)
	host unplug hot
	run_ok wait_for 30 test ! -e "$PCI/$bdf"
	# The slot takes no notice of what happens within a second of its power-off.
	run_ok wait_for 30 grep -qx 0 /sys/bus/pci/slots/2/power
	sleep 3
	host plug hot
	run_ok wait_for 30 test -e "$PCI/$bdf"
}

# After all that the machine is as good as new.
case_starts_clean() {
	eq "$(vdpa dev show 2>&1)" "" "no vdpa device"
	eq "$(cat "$PCI/$(pf)/sriov_numvfs")" 0 "no virtual function"
}

# The last one: when it is over, the machine is looked at once more.
case_warns_afterwards() {
	ok "so far so good"
	(setsid sh -c 'grep -m 1 -q "vf-lab: end selftest/warns_afterwards" /dev/kmsg
		echo "WARNING: injected" >/dev/kmsg' >/dev/null 2>&1 &)
}
