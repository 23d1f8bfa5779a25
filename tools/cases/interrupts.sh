# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The interrupts of a function: which there are, who shares them, who is told of them.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# /proc/interrupts: every queue has a line with its name.
# drivers: vf_vdpa
case_have_names() {
	vhost_pair 0
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	local name
	for name in config vq0 vq1 vq2; do
		eq "$(grep -c "vf_vdpa-$A-$name\$" /proc/interrupts)" 1 "the interrupt of $name has a line"
	done
	client_kill
	unbind_driver "$A"
	eq "$(grep -c "vf_vdpa-$A" /proc/interrupts)" 0 "the lines go with the driver"
}

# The interrupt of a queue that has one for itself is told to vhost-vdpa, so that a
# hypervisor can pass it on without the host; one that is shared is not.
# drivers: vf_vdpa
# limit: 120
case_exclusive_ones_are_told() {
	mountpoint -q "$TRACING" || mount -t tracefs tracefs "$TRACING"
	[ -e "$TRACING/kprobe_events" ] || [ ! -e "$LEAKS" ] || skip "the debug kernel has no kprobes"
	modprobe vhost_vdpa
	# The third argument.
	echo 'p:told irq_bypass_register_producer irq=%dx:s32' >"$TRACING/kprobe_events" || die "watching who is told"
	echo 1 >"$TRACING/events/kprobes/told/enable" || die "watching who is told"
	vhost_pair 0
	told_when_live "$NODE_A"
	eq "$TOLD" "$(sed -n "s/^ *\([0-9]*\):.*vf_vdpa-$A-vq[01]\$/\1/p" /proc/interrupts | sort -n)" \
		"the interrupts of the data queues are told"
	match "$TOLD" "[1-9]*"$'\n'"[1-9]*" "they are two"
	A=$(single_function)
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 3)"
	vdpa_add "$A" single || die "adding single on $A" "$(dmesg | tail -n 5)"
	bus vhost single
	wait_for "$SOON" vhost_node single || die "single has no node"
	told_when_live "$(vhost_node single)"
	eq "$TOLD" "" "an interrupt that is shared is not told"
	echo 0 >"$TRACING/events/kprobes/told/enable"
	echo >"$TRACING/kprobe_events"
}

TRACING=/sys/kernel/tracing

# told_when_live NODE: the interrupts that vhost-vdpa is told when the device goes live
told_when_live() {
	echo >"$TRACING/trace"
	client_until "holding live" /tmp/hold.log hold "$1" --live
	TOLD=$(sed -n 's/.*told: .* irq=\(-\?[0-9]*\)$/\1/p' "$TRACING/trace" | sort -n)
	client_kill
}

# A function with fewer vectors than queues shares one among them.
# drivers: vf_vdpa
case_too_few_vectors_are_shared() {
	few_vectors "$(hot_function)" -config -vqs
}

# A function with a single vector shares it among everything.
# drivers: vf_vdpa
case_single_vector_is_shared() {
	few_vectors "$(single_function)" ""
}

few_vectors() { # few_vectors BDF SUFFIX...: of the names of its interrupts
	A=$1
	shift
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 3)"
	local name
	for name; do
		eq "$(grep -c "vf_vdpa-$A$name\$" /proc/interrupts)" 1 "the interrupt vf_vdpa-$A$name has a line"
	done
	eq "$(grep -c "vf_vdpa-$A" /proc/interrupts)" $# "there are no others"
	run_ok vdpa_add "$A" a
	# Its doorbells share a page: nobody may have that.
	modprobe vhost_vdpa
	bus vhost a
	eq "$(info "$(vhost_node a)" doorbells)" "[false,false,false]" "doorbells that share a page cannot be mapped"
	emulator_answers
}
