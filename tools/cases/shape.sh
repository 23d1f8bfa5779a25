# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Functions that are odd from the start, and those that have what the emulator's have not.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# odd TEXT OPTION...: a function like that is refused
odd() {
	local text=$1
	shift
	shape "$@"
	echo "# $*"
	refused "$text"
}

# drivers: vf_vdpa
# limit: 240
case_capabilities() {
	odd "device configuration window ends at * outside BAR 0" --capabilities outside-bar
	odd "notification window ends at * outside BAR 0" --capabilities wrapping
	odd "overlaps the" --capabilities overlap
	odd "overlaps the" --capabilities on-vectors
	odd "common configuration window at 0x2 is not aligned to 4 bytes" --capabilities misaligned
	odd "function has no common configuration capability" --capabilities missing-common
	odd "function has no notification capability" --capabilities missing-notify
	odd "common configuration window has 32 bytes, needs at least 56" --capabilities short
	odd "notification capability at * has an impossible length of 16 bytes" --capabilities truncated
	odd "common configuration window is in BAR 4, which is not a memory BAR" --capabilities no-bar
	odd "notification multiplier 3 is neither 0 nor a power of two" --capabilities multiplier
	odd "outside the notification window" --capabilities doorbells
	others_work
	model
	it_works
}

# drivers: vf_vdpa
# limit: 240
case_queues_that_cannot_be() {
	odd "none of its virtqueues has a size" --queue-size 0
	odd "the function has 0 virtqueues" --num-queues 0
	odd "the function has 65535 virtqueues" --num-queues 65535
	odd "reports 0 queue pairs" --queue-pairs 4 --max-pairs 0
	odd "reports 999 queue pairs, impossible with its 9 queues" --queue-pairs 4 --max-pairs 999
	odd "reports 65535 queue pairs" --queue-pairs 4 --max-pairs 65535
	# One that is not there among others that are.
	model --no-queue 1
	it_fails
	run_ok vdpa dev del m
	model
	it_works
	others_work
}

# needs: time
# drivers: vf_vdpa
# limit: 240
case_sizes_that_are_odd() {
	local size
	# What is asked for, and the greatest size of a split ring that is no greater.
	for size in 3:2 100:64 65535:32768; do
		model --queue-size "${size%:*}"
		it_works
		eq "$(vdpa -j dev show m | jq .dev.m.max_vq_size)" "${size#*:}" "rings of ${size%:*} entries are cut"
		run_ok vdpa dev del m
	done
}

# needs: time
# drivers: vf_vdpa
# limit: 120
case_features_that_are_missing() {
	local bit
	odd "does not offer VERSION_1" --withhold 32
	odd "does not offer ACCESS_PLATFORM" --withhold 33
	model --offer 25 30 31 38 41 44 49 50
	it_works
	run_ok vdpa dev del m
	# What nobody knows, or no consumer can use, cannot be asked for.
	for bit in 25 30 31 38 41 44 49; do
		run_fails "" vdpa_add "$M" m device_features "$(hex $((LEAST | 1 << bit)))"
	done
	run_ok vdpa_add "$M" m device_features "$(hex "$LEAST")"
}

# The probe ends, whatever the device does then.
# needs: time
# drivers: vf_vdpa
# limit: 240
case_probe_of_one_that_misbehaves() {
	local how
	for how in "never-reset:does not reset" "refuse-features-ok:does not accept features" \
		"needs-reset-at 1:needs a reset" "all-ones:" "dead-registers:does not reset" \
		"status-flips:was told ACKNOWLEDGE after a reset, and its status is ACKNOWLEDGE DRIVER_OK"; do
		if is_probed "${how%:*}"; then
			fail "it must not be bound"
		else
			named "refused: *${how#*:}"
			# The kernel's own words about errors that are not ENODEV.
			[ "$(count_of "probe with driver vf_vdpa failed")" = 0 ] || named "probe with driver vf_vdpa failed"
		fi
		behave
	done
	# The driver gets by with these.
	for how in "needs-reset-at 8" refuse-vectors unsettled-generation interrupt-storm; do
		if is_probed "$how"; then
			named "virtio net function, 3 virtqueues"
		else
			fail "it must be bound" "$(lines)"
		fi
		behave
	done
	model
	it_works
}

# is_probed HOW: the driver takes a function that misbehaves like that, which takes no longer than a reset
is_probed() {
	local status=0 began
	shape
	echo "# $1"
	# Whoever had it before has left it in the middle of something.
	[ "$1" != never-reset ] || setpci -s "$M" COMMAND=6
	misbehave "$1"
	began=$SECONDS
	bind_driver "$M" 2>/dev/null || status=1
	unbind_driver "$M"
	run_ok test $((SECONDS - began)) -le $((20 * ${VF_VDPA_SLOW:-1}))
	return "$status"
}

# ---- what the emulator's functions do not have -----------------------------

# drivers: vf_vdpa
# limit: 240
case_suspends_itself() {
	model --suspend
	client suspend "$NODE" --way resume
	client suspend "$NODE" --way resume --event-index
	# What it has are the relay's rings: it is reset to go on.
	client suspend "$NODE" --way resume --start 1000
	client suspend "$NODE" --way restart
}

# needs: time
# drivers: vf_vdpa
# limit: 240
case_suspends_itself_without_queue_reset() {
	model --suspend --no-ring-reset
	client suspend "$NODE" --way resume
	client suspend "$NODE" --way resume --event-index
	# It gets no queue back before a reset.
	client suspend "$NODE" --way restart
	suspending never-suspend "does not suspend itself (error -110), its status is"
	suspending never-resume "does not resume (error -110), its status is"
	others_work
}

# forgetful: a device which is reset as a whole when it is stopped, with all that a driver can tell one
forgetful() {
	local bit all=$LEAST
	# With checksums and segments to switch, modes, announcements, coalescing, hashes and RSS.
	local more=(1 2 7 20 21 52 53 57 60)
	model --no-ring-reset --queue-pairs 2 --offer "${more[@]}"
	for bit in 3 5 16 17 18 19 22 23 "${more[@]}"; do
		all=$((all | 1 << bit))
	done
	run_ok vdpa dev del m
	run_ok vdpa_add "$M" m device_features "$(hex $all)"
	run_ok bus vhost m
	wait_for "$SOON" vhost_node m
	NODE=$(vhost_node m)
}

# One of each command that a driver can send: what it was told is told to it again, and no more.
# drivers: vf_vdpa
# limit: 120
case_is_told_everything_again() {
	forgetful
	client_until "holding what was told again" /tmp/tell.log tell "$NODE"
	eq "$(tells commands)" 38 "it has answered 20 commands, and 16 again, and a question twice"
	# Addresses, modes, the VLAN that is left, the class of MQ in the order in which it was told,
	# offloads, coalescing.
	local told=(
		0101026677889900 01000100000002112233445500000000
		000000 000101 000200 000301 000400 000501 02002301
		04000200 040201000000000000000000000000 04013f0000000100000000000100020004"11223344"
		05008200000000000000 06000a00000014000000 06010700000008000000 0602030000000500000006000000
		# The question.
		060303000000
	)
	eq "$(tells 'told | join(" ")')" "${told[*]}" "all that it has been told since"
	client_kill
	it_works
}

# It answers what its driver tells it, and what it is asked, and then no more.
# needs: time
# drivers: vf_vdpa
# limit: 180
case_is_silent_when_told_again() {
	forgetful
	misbehave ignore-commands 21
	run_fails "VHOST_VDPA_RESUME: EIO" timeout $((30 * ${VF_VDPA_SLOW:-1})) "$CLIENT" tell "$NODE"
	named "control queue: the device does not take its configuration again (error -110)"
	eq "$(tells commands)" 21 "it has answered so many"
	behave
	it_works
}

# The device is told of it before a process can have frames written to the driver's own ring, which
# could say that it has been; and not again when the process asks for it.
# drivers: vf_vdpa
# limit: 120
case_has_the_administrators_address() {
	model
	run_ok vdpa dev del m
	run_ok vdpa_add "$M" m mac 02:12:34:56:78:9a
	run_ok bus vhost m
	wait_for "$SOON" vhost_node m
	client_until "holding with its own address" /tmp/readdress.log readdress "$(vhost_node m)"
	eq "$(tells 'told | join(" ")')" 010102123456789a "it was told of the address once, and of no other"
	eq "$(tells enabled_when_told)" 1 "no queue of the process was enabled then"
	named "control command refused"
	client_kill
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 240
case_suspends_without_help() {
	model
	client suspend "$NODE" --way resume
	client suspend "$NODE" --way restart
	model --no-ring-reset
	client suspend "$NODE" --way resume
	client suspend "$NODE" --way restart
}

# suspending HOW TEXT: stopping it, or going on, fails, and the log says why
suspending() {
	misbehave "$1"
	run_fails "not ok" timeout $((60 * ${VF_VDPA_SLOW:-1})) "$CLIENT" suspend "$NODE" --way resume --count 500 --rounds 2
	named "$2"
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 240
case_does_not_suspend_itself() {
	model --suspend
	suspending never-suspend "does not suspend itself (error -110), its status is"
	suspending fail-suspend "does not suspend itself (error -5), its status is"
	suspending never-resume "does not resume (error -110), its status is"
	others_work
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_queue_reset_never_finishes() {
	model
	suspending never-queue-reset "virtqueue 0 cannot be stopped (error -110)"
}

# Each comes to an end in its time, but there are many of them.
# needs: time
# drivers: vf_vdpa
# limit: 180
case_queue_resets_take_too_long() {
	model --queue-pairs 4
	misbehave late-queue-reset 800
	run_fails "not ok" timeout $((60 * ${VF_VDPA_SLOW:-1})) "$CLIENT" suspend "$NODE" --queues 4 --count 500 --rounds 2
	named "virtqueue 5 is not stopped: those before it took too long"
	behave
	run_ok "$CLIENT" suspend "$NODE" --queues 4 --count 500 --rounds 2
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 120
case_many_queues() {
	model --queue-pairs 32 --queue-size 16
	eq "$(mgmtdev "$M" max_supported_vqs)" 65 "there are so many queues"
	it_works
	client loopback "$NODE" --queues 32 --count 640
	run_ok vdpa dev del m
	run_ok vdpa_add "$M" m max_vqp 2
	bus vhost m || die "giving m to vhost_vdpa"
	NODE=$(vhost_node m)
	it_works
}

# vhost_vdpa allocates all queues in one piece, each with many kilobytes.
# needs: time
# drivers: vf_vdpa
# limit: 120
case_more_queues_than_vhost_can_have() {
	modprobe vhost_vdpa
	shape --queue-pairs 1024
	run_ok bind_driver "$M"
	eq "$(mgmtdev "$M" max_supported_vqs)" 129 "as many are offered as it can have"
	run_ok vdpa_add "$M" m
	run_ok bus vhost m
	NODE=$(vhost_node m)
	it_works
}

# drivers: vf_vdpa
# limit: 120
case_long_configuration() {
	model --config-len 4096
	run_ok vdpa dev config show m
	eq "$(info "$NODE" "config | length")" 24 "it shows the fields that a network device is known to have"
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 120
case_short_configuration() {
	model --config-len 8
	run_ok vdpa dev config show m
	eq "$(info "$NODE" "config | length")" 8 "it shows what is there"
	it_works
}

# It works with packed rings and nothing else: a consumer that does not know them cannot have it.
# drivers: vf_vdpa
# limit: 240
case_packed_rings_only() {
	local all
	model --packed-only --queue-pairs 2
	it_fails
	named "the device refuses the features"
	all=$(info "$NODE" features)
	run_ok vdpa dev del m
	# No device has them unless it is asked for.
	run_ok vdpa_add "$M" m device_features "$(hex $((all | RING_PACKED)))"
	bus vhost m || die "giving m to vhost_vdpa"
	wait_for "$SOON" vhost_node m
	NODE=$(vhost_node m)
	client loopback "$NODE" --packed --count 2000
	client loopback "$NODE" --packed --count 1000 --event-index
	# With commands.
	client loopback "$NODE" --packed --count 1000 --queues 2
	eq "$(tells commands)" 1 "it was told to use both pairs"
	eq "$(tells refused)" 0 "the function has touched nothing that was not mapped"
	others_work
}

# ---- few vectors -----------------------------------------------------------

# The table of vectors is the emulator's, and has enough: it is the device that takes fewer.
# needs: time
# drivers: vf_vdpa
# limit: 240
case_takes_few_vectors() {
	# The control queue, which the kernel uses, needs none.
	model --vectors 3
	it_works
	few_vectors 2 1
	few_vectors 1 0
	model
	it_works
	others_work
}

few_vectors() { # few_vectors N QUEUE: with so many, this queue is the first that gets none
	model --vectors "$1"
	it_fails
	named "virtqueue $2: the device does not enable it (error -28)"
}
