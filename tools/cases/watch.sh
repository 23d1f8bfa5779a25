# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a kernel that looks for mistakes has to say by itself. The other cases fail
# by themselves if it says something while they run.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# The unit tests of rust/vdpa run when a module is loaded that has it.
# needs: debug
case_unit_tests() {
	[ -e /sys/kernel/debug/kunit ] || skip "this kernel runs no unit tests: make check-debug"
	unload || die "removing $DRIVER"
	log_mark
	load || die "loading $DRIVER"
	local suite
	suite=$(log_since | grep -E "(not )?ok [0-9]+ rust_vdpa_[a-z_]+$")
	match "$suite" "*ok [0-9]* rust_vdpa_guest_memory" "the tests run: $suite"
	match "$suite" "*] ok *" "and pass: $(log_since | grep -E "not ok|EXPECTATION|ASSERTION" | head -n 5)"
}

# Whatever the cases before this one have allocated, somebody still knows of.
# limit: 300
# needs: debug
case_no_memory_is_lost() {
	local leaks=/sys/kernel/debug/kmemleak
	[ -e $leaks ] || skip "this kernel looks for no lost memory: make check-debug"
	local n
	vhost_pair 0
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	run_ok vdpa dev del a
	run_ok vdpa dev del b
	unload || die "removing $DRIVER"
	# What is new is only told after a second look.
	for n in 1 2; do
		sleep 6
		echo scan >$leaks
	done
	eq "$(grep -c unreferenced $leaks)" 0 "no memory is lost: $(head -n 40 $leaks)"
}
