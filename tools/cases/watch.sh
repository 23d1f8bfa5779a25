# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a kernel that looks for mistakes has to say by itself. The other cases fail
# by themselves if it says something while they run.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# Each of those that look for mistakes is built in, switched on, and has not given up, as some do
# when they have found one.
# needs: debug
case_instruments_are_on() {
	local debug=/sys/kernel/debug
	[ -e $debug/kmemleak ] || skip "this kernel does not look for mistakes: make check-debug"
	run_ok grep -q " kasan_report" /proc/kallsyms
	run_ok grep -q " __might_sleep" /proc/kallsyms
	load || die "loading $DRIVER"
	# What debug assertions of Rust are made of.
	run_ok grep -q "precondition_check.*\[$DRIVER\]" /proc/kallsyms
	# It refuses once it has given up.
	run_ok sh -c "echo scan >$debug/kmemleak"
	match "$(cat /proc/cmdline)" "*kasan_multi_shot*" "KASAN goes on after its first find"
	# Whoever dies or finds something has lockdep switched off.
	eq "$(($(cat /proc/sys/kernel/tainted) & (1 << 5 | 1 << 7 | 1 << 9)))" 0 "nothing bad was found so far"
	eq "$(awk '/debug_locks:/ { print $2 }' /proc/lockdep_stats) $(cat /proc/sys/kernel/prove_locking)" "1 1" "lockdep"
	eq "$(cat $debug/dma-api/disabled)" N "DMA debugging"
	run_ok test "$(cat $debug/dma-api/nr_total_entries)" -gt 0
	run_ok grep -q "[1-9]" $debug/debug_objects/stats
	run_ok grep -q " __iommu_debug_unmap_begin" /proc/kallsyms
	match "$(cat /proc/cmdline)" "*iommu.debug_pagealloc=1*" "debugging of the IOMMU"
	run_ok test -e $debug/failslab/verbose
	run_ok test -e $debug/fail_page_alloc/min-order
	run_ok test -d $debug/kunit
}

# The unit tests of rust/vdpa run when a module is loaded that has it.
# needs: debug
case_unit_tests() {
	[ -e /sys/kernel/debug/kunit ] || skip "this kernel runs no unit tests: make check-debug"
	unload || die "removing $DRIVER"
	log_mark
	load || die "loading $DRIVER"
	local suite result
	for suite in guest_memory view; do
		result=$(log_since | grep -E "(not )?ok [0-9]+ rust_vdpa_$suite$")
		match "$result" "*] ok [0-9]* rust_vdpa_$suite" \
			"the tests of $suite pass: $(log_since | grep -E "not ok|EXPECTATION|ASSERTION" | head -n 5)"
	done
}

# Whatever the cases before this one have allocated, somebody still knows of.
# limit: 300
# needs: debug
case_no_memory_is_lost() {
	[ -e "$LEAKS" ] || skip "this kernel looks for no lost memory: make check-debug"
	vhost_pair 0
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	run_ok vdpa dev del a
	run_ok vdpa dev del b
	unload || die "removing $DRIVER"
	nothing_is_lost
}
