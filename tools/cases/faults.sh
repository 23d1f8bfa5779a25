# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Memory runs out: each allocation, of the slab allocator (failslab) and of pages (fail_page_alloc), that
# the driver makes, or has made for it, fails once, in turn. What was asked for then fails with a clear
# error or not at all; it leaves nothing half-done, and succeeds the next time.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# What of the kernel's debugfs tells which allocations may fail
FAULTS=(/sys/kernel/debug/failslab /sys/kernel/debug/fail_page_alloc)

# failures_in MODULE: from now on, those that a process asks for by its fail-nth concern
# allocations with the module in their call chain.
failures_in() {
	failures_between "$(awk -v module="[$1]" '
		$4 == module && $2 ~ /[tT]/ { if (!first || $1 "" < first) first = $1 ""; if ($1 "" > last) last = $1 "" }
		END { print first, last }' /proc/kallsyms)"
}

# failures_in_function NAME: those with a function of the kernel's in their call chain
failures_in_function() {
	failures_between "$(grep -i " t " /proc/kallsyms | sort | awk -v name="$1" '
		first && $1 != first { print first, $1; exit }
		$3 == name { first = $1 }')"
}

# failures_between "FIRST LAST": those with an address between these in their call chain
failures_between() {
	[ -e "${FAULTS[0]}" ] || skip "this kernel lets no allocation fail on purpose: make check-debug"
	local bounds=$1 faults
	[ -n "${bounds% *}" ] || die "no such code"
	for faults in "${FAULTS[@]}"; do
		echo N >"$faults/ignore-gfp-wait"
		echo 0 >"$faults/verbose"
		echo 32 >"$faults/stacktrace-depth"
		echo "0x${bounds% *}" >"$faults/require-start"
		echo "0x${bounds#* }" >"$faults/require-end"
	done
	echo N >"${FAULTS[0]}/cache-filter"
	echo 0 >"${FAULTS[1]}/min-order"
}

# each_failure WHAT WHY UNDO LEFT COMMAND...: runs the command once for each of its allocations,
# which fails. If the command then fails, it says something that has the pattern WHY, and LEFT
# succeeds: nothing is left of it. If it does not, UNDO is run. The last run, in which nothing is
# left to fail, has to succeed. Nobody has lost memory then. WHY is empty if it must not fail.
#
# A command is `write FILE TEXT`, or a program; UNDO and LEFT are strings with one of these, or for
# the shell. All of it is one process, as those are slow to start on such a kernel.
each_failure() {
	local what=$1 out
	echo clear >"$LEAKS"
	if out=$(python3 /tmp/each_failure.py "${@:2}" 2>&1); then
		ok "$what: $out"
	else
		fail "$what, with each allocation failing in turn" "$out" "$(dmesg | tail -n 5)"
	fi
	nothing_is_lost
}

cat >/tmp/each_failure.py <<'PYTHON'
import os, re, sys

why, undo, left, *command = sys.argv[1:]


def do(words, nth=None):
    """What a process of its own does; it becomes the program."""
    if words[0] == "write":
        file = os.open(words[1], os.O_WRONLY)
    if nth:
        # It is the process's own, and stays when it becomes another program.
        with open("/proc/self/fail-nth", "w") as own:
            own.write(str(nth))
    if words[0] != "write":
        os.execvp(words[0], words)
    try:
        os.write(file, words[2].encode())
    except OSError as error:
        print(error.strerror, flush=True)
        os._exit(1)
    os._exit(0)


def run(words, nth=None):
    """Returns its status, what it has printed, and how many allocations were left to go."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        do(words, nth)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as output:
        said = output.read()
    # Not collected yet, thus its entry is still there. The log does not tell of allocations
    # whose failure is nothing to warn of.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{child}/fail-nth") as file:
        togo = int(file.read())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said, togo


def line(text):
    return text.split() if text.startswith("write ") else ["sh", "-c", text]


failed = survived = 0
for nth in range(1, 1000):
    status, said, togo = run(command, nth)
    injected = togo == 0
    if status == 0:
        status, more, _ = run(line(undo))
        if status:
            sys.exit(f"allocation {nth}: it succeeded, and cannot be undone: {more}")
        if not injected:
            break
        survived += 1
        continue
    if not injected:
        sys.exit(f"it fails although no allocation does: {said}")
    failed += 1
    if not why or not re.search(why, said):
        sys.exit(f"allocation {nth}: it does not say why: {said}")
    status, more, _ = run(line(left))
    if status:
        sys.exit(f"allocation {nth}: {said}something is left: {more}")
else:
    sys.exit("it comes to no end")
if nth == 1:
    sys.exit("it makes no allocation that could fail")
if why and not failed:
    sys.exit(f"it needs none of {nth - 1} allocations")
print(f"of {nth - 1} allocations {failed} had it fail, {survived} did not")
PYTHON

# The kernel warns when it removes an interrupt of which it could not make all files. For want of memory to note that
# a BAR is taken it says that it was taken already. (What has a trace of calls has a first line, too, which is looked at.)
# limit: 1200
# needs: debug
# allow: remove_proc_entry
# allow: Modules linked in:
# allow: Call Trace:
# allow: kmemleak: Cannot allocate a scan area
# allow: debugfs: out of free dentries
case_probe() {
	make_vfs 2 || die "making VFs"
	A=$(vf 0)
	load || die "loading $DRIVER"
	echo "$DRIVER" >"$PCI/$A/driver_override"
	failures_in "$DRIVER"
	each_failure "binding" "Cannot allocate memory|Device or resource busy" "write /sys/bus/pci/drivers/$DRIVER/unbind $A" \
		"! test -e $PCI/$A/driver && ! grep $DRIVER-$A /proc/interrupts" \
		write "/sys/bus/pci/drivers/$DRIVER/bind" "$A"
	run_ok bind_driver "$A"
	run_ok vdpa_add "$A" a
}

# added [ATTRIBUTE VALUE]...: each allocation of an addition with these fails
added() {
	each_failure "adding a device $*" "Cannot allocate memory" "exec vdpa dev del a" "! test -e $VDPA/devices/a" \
		vdpa dev add name a mgmtdev "pci/$A" "$@"
}

# limit: 900
# needs: debug
case_add() {
	local own
	pair 0
	vdpa_add "$A" a
	own=$(config a mac)
	vdpa dev del a
	failures_in "$DRIVER"
	added
	added mac 02:00:00:00:00:77 mtu 1400
	run_ok vdpa_add "$A" a
	eq "$(config a mac)" "$own" "the address of what failed is not shown"
}

# The kernel's network driver: it may have the device and come to nothing with it. What looks for lost
# memory allocates for itself, too.
# limit: 1800
# needs: debug
# allow: kmemleak: Cannot allocate a scan area
case_virtio_net() {
	virtio_pair 0
	echo a >"$VDPA/drivers/virtio_vdpa/unbind"
	failures_in "$DRIVER"
	each_failure "giving a device to virtio_vdpa" "" \
		"write $VDPA/drivers/virtio_vdpa/unbind a" "! test -e $VDPA/devices/a/driver" \
		write "$VDPA/drivers/virtio_vdpa/bind" a
	to_virtio
	containers
	they_ping
}

# As little as a process can send frames with, as each page is an allocation of the driver's. Each is mapped by itself:
# of a mapping in several pieces vhost-vdpa loses pages when one fails (upstream.md).
LITTLE=(--size 8 --pages 16)

# each_failure_of_a_process WHAT ARGUMENT...: of vhost-client, with both devices at the end. Whatever is wrong
# with a mapping, vhost says EFAULT (vhost_chr_write_iter()). A device that does not start shows another status.
each_failure_of_a_process() {
	local what=$1 pinned
	shift
	vhost_pair 0
	pinned=$(pinned_pages)
	failures_in "$DRIVER"
	each_failure "$what" "Cannot allocate memory|os error 12|cannot map .*os error 14|the status is 0x" true \
		"exec $CLIENT transfer $NODE_A $NODE_B --count 20 ${LITTLE[*]}" \
		"$CLIENT" "$1" "$NODE_A" "$NODE_B" "${LITTLE[@]}" "${@:2}"
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	# Nobody looks for lost memory that is a process's.
	eq "$(pinned_pages)" "$pinned" "as many pages are pinned as before"
}

# From opening to frames that flow, and everything that a process asks for between. The kernel warns when it cannot
# give a function back to the domain of the DMA API for want of memory: upstream.md.
# limit: 1800
# needs: debug
# allow: iommu.c:158 at iommu_detach_device
# allow: Modules linked in:
# allow: Call Trace:
case_use() {
	each_failure_of_a_process "sending frames" transfer --count 20 --start 65530
}

# limit: 1800
# needs: debug
# allow: iommu.c:158 at iommu_detach_device
# allow: Modules linked in:
# allow: Call Trace:
case_suspend() {
	each_failure_of_a_process "stopping and going on" suspend --rounds 1 --count 20 --way resume
}

# not_given_back: whatever had the function A ends, and cannot give it back to the domain of the DMA API
not_given_back() {
	log_mark
	run_ok sh -c "echo 1 >/proc/self/fail-nth; exec $CLIENT transfer $NODE_A $NODE_B --count 20 ${LITTLE[*]}"
	match "$(log_since)" "*iommu.c:158 at iommu_detach_device*" "the kernel could not give a function back"
}

# The IOMMU's driver has taken the function from one domain then, and not given it to the other, which the kernel
# does not know: whoever has it next would reach no memory.
# limit: 900
# needs: debug
# allow: iommu.c:158 at iommu_detach_device
# allow: Modules linked in:
# allow: Call Trace:
case_give_back() {
	vhost_pair 0
	failures_in_function iommu_detach_device
	not_given_back
	to_virtio
	containers
	they_ping
	no_containers

	to_vhost
	not_given_back
	unbind_driver "$A"
	unbind_driver "$B"
	{ bind_driver "$A" virtio-pci && bind_driver "$B" virtio-pci; } || die "giving the functions to virtio-pci"
	wait_for "$SOON" netdev "$A"
	wait_for "$SOON" netdev "$B"
	containers
	they_ping
}

# What netlink tells needs no memory of the driver's: nobody has to be told of any that there was not.
# limit: 600
# needs: debug
case_getters() {
	vhost_pair 0
	failures_in "$DRIVER"
	each_failure "showing the configuration" "" true true vdpa dev config show a
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
}
