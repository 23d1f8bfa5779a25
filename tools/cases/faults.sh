# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Memory runs out: each allocation that the driver makes, or has made for it, fails
# once, in turn. What was asked for then fails with a clear error or not at all; it
# leaves nothing half-done, and succeeds the next time.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

FAILSLAB=/sys/kernel/debug/failslab

# failures_in MODULE: from now on, those that a process asks for by its fail-nth concern
# allocations with the module in their call chain.
failures_in() {
	[ -e "$FAILSLAB" ] || skip "this kernel lets no allocation fail on purpose: make check-debug"
	local bounds
	bounds=$(awk -v module="[$1]" '
		$4 == module && $2 ~ /[tT]/ { if (!first || $1 "" < first) first = $1 ""; if ($1 "" > last) last = $1 "" }
		END { print first, last }' /proc/kallsyms)
	echo N >$FAILSLAB/ignore-gfp-wait
	echo N >$FAILSLAB/cache-filter
	echo 0 >$FAILSLAB/verbose
	echo 32 >$FAILSLAB/stacktrace-depth
	echo "0x${bounds% *}" >$FAILSLAB/require-start
	echo "0x${bounds#* }" >$FAILSLAB/require-end
}

# nth_fails N COMMAND: runs a command of the shell, whose Nth such allocation fails, and has its
# status. Whether there were so many is in /tmp/left, as the kernel counts: the log does not have
# those whose failure is nothing to warn of.
nth_fails() {
	python3 - "$@" <<-'PYTHON'
		import os, sys
		nth, command = sys.argv[1:]
		child = os.fork()
		if child == 0:
		    # It is the process's own, and stays when it becomes another program.
		    with open("/proc/self/fail-nth", "w") as file:
		        file.write(nth)
		    os.execvp("bash", ["bash", "-c", command])
		# Not collected yet, thus its entry is still there.
		os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
		with open(f"/proc/{child}/fail-nth") as file, open("/tmp/left", "w") as left:
		    left.write(file.read())
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
	PYTHON
}

was_injected() {
	[ "$(cat /tmp/left)" = 0 ]
}

# each_failure WHAT WHY UNDO COMMAND: runs the command once for each of its allocations,
# which fails. If the command then fails, it says something that matches WHY, and
# `left_nothing`; if it does not, UNDO is run. The last run, in which nothing is left to
# fail, has to succeed. Nobody has lost memory then.
each_failure() {
	local what=$1 why=$2 undo=$3 nth=0 failed=0 survived=0 out
	shift 3
	echo clear >"$LEAKS"
	while :; do
		nth=$((nth + 1))
		[ $nth -lt 1000 ] || die "$what comes to an end"
		if out=$(nth_fails $nth "$1" 2>&1); then
			was_injected || break
			survived=$((survived + 1))
			$undo
		else
			was_injected || die "$what succeeds if no allocation fails" "$out" "$(dmesg | tail -n 5)"
			failed=$((failed + 1))
			# shellcheck disable=SC2053 # a pattern
			[[ $out == $why ]] || fail "$what says why it fails when allocation $nth does" "$out"
			left_nothing || die "$what leaves nothing when allocation $nth fails" "$out"
		fi
	done
	$undo
	ok "$what: of $((nth - 1)) allocations $failed had it fail, $survived did not"
	[ $failed -gt 2 ] || fail "$what has allocations that it needs"
	nothing_is_lost
}

# limit: 600
# needs: debug
case_probe() {
	make_vfs 2 || die "making VFs"
	A=$(vf 0)
	load || die "loading $DRIVER"
	echo "$DRIVER" >"$PCI/$A/driver_override"
	failures_in "$DRIVER"
	left_nothing() { [ ! -e "$PCI/$A/driver" ] && ! grep -q "$DRIVER-$A" /proc/interrupts; }
	each_failure "binding" "*Cannot allocate memory*" "unbind_from" "echo $A >/sys/bus/pci/drivers/$DRIVER/bind"
	run_ok bind_driver "$A"
	run_ok vdpa_add "$A" a
}

unbind_from() {
	echo "$A" >"$PCI/$A/driver/unbind"
}

# limit: 600
# needs: debug
case_add() {
	pair 0
	failures_in "$DRIVER"
	left_nothing() { [ ! -e "$VDPA/devices/a" ]; }
	each_failure "adding" "*Cannot allocate memory*" "vdpa dev del a" "exec vdpa dev add name a mgmtdev pci/$A"
	run_ok vdpa_add "$A" a
}

# each_failure_of_a_process WHAT ARGUMENT...: of vhost-client, with both devices at the end
each_failure_of_a_process() {
	local what=$1
	shift
	vhost_pair 0
	failures_in "$DRIVER"
	left_nothing() { "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 20 >/dev/null; }
	each_failure "$what" "*[a-z]*" true "exec $CLIENT $1 $NODE_A $NODE_B ${*:2}"
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}

# From opening to frames that flow, and everything that a process asks for between.
# limit: 1800
# needs: debug
case_use() {
	each_failure_of_a_process "sending frames" transfer --count 20 --start 65500
}

# limit: 1800
# needs: debug
case_suspend() {
	each_failure_of_a_process "stopping and going on" suspend --rounds 1 --count 100 --way resume
}

# The state file, statistics, and what netlink tells.
# limit: 600
# needs: debug
case_getters() {
	vhost_pair 0
	failures_in "$DRIVER"
	left_nothing() { true; }
	each_failure "reading the state file" "*Cannot allocate memory*" true "exec cat $DEBUG/vf_vdpa-$A/state"
	each_failure "showing the configuration" "*Cannot allocate memory*" true "exec vdpa dev config show a"
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}
