# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A device that is stopped, and goes on where it was.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# By a reset, and from places in the rings at which no plain virtio function can start.
# limit: 180
case_restarts() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B"
}

# limit: 180
case_restarts_with_event_index() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --event-index
}

# needs: time
# limit: 180
case_restarts_with_small_queues() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --size 8
}

# Functions without RING_RESET are stopped by a reset.
# limit: 180
case_restarts_without_queue_reset() {
	vhost_pair 2
	client suspend "$NODE_A" "$NODE_B"
}

# limit: 180
case_resumes() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --way resume
}

# needs: time
# limit: 180
case_resumes_with_event_index() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --way resume --event-index
}

# Functions without RING_RESET are made anew, and told again what they were told.
# limit: 180
case_resumes_without_queue_reset() {
	vhost_pair 2
	client suspend "$NODE_A" "$NODE_B" --way resume
	client remember "$NODE_A" "$NODE_B"
}

# limit: 180
case_resumes_with_what_it_was_told() {
	vhost_pair 0
	client remember "$NODE_A" "$NODE_B"
}

# The pairs of queues that a driver has asked for are there again.
# needs: time
# limit: 240
case_several_queues() {
	vhost_pair 2
	# The one without RING_RESET, then the other one.
	client suspend "$NODE_A" "$NODE_B" --queues 3
	client suspend "$NODE_A" "$NODE_B" --queues 3 --way resume
	client suspend "$NODE_B" "$NODE_A" --queues 3 --event-index
	client suspend "$NODE_B" "$NODE_A" --queues 3 --way resume
}

# As many as wrap the indices again and again, in both directions: stopped by a reset, and relayed
# and handed back after it.
# needs: hours
# limit: 7200
case_restarts_over_a_million() {
	vhost_pair 0
	a_million
	queues_came_back
}

# needs: hours
# limit: 7200
case_resumes_over_a_million() {
	vhost_pair 0
	a_million --way resume --event-index
	queues_came_back
}

# needs: hours
# limit: 7200
case_restarts_over_a_million_without_queue_reset() {
	vhost_pair 2
	a_million --event-index
	no_queue_came_back
}

# needs: hours
# limit: 7200
case_resumes_over_a_million_without_queue_reset() {
	vhost_pair 2
	a_million --way resume
	no_queue_came_back
}

# a_million OPTION...: frames each way, with 300 stops
a_million() {
	client suspend "$NODE_A" "$NODE_B" --rounds 300 --count 1000000 "$@"
}

# Fifteen times a ring of the one that is stopped begins anew: some of them may come just as it is.
queues_came_back() {
	local queue
	for queue in 0 1; do
		run_ok test "$(counted "$A" hand_backs "$queue")" -ge 10
		run_ok test "$(counted "$A" forwarded "$queue")" -ge 100000
	done
	the_other_was_let_be
}

no_queue_came_back() {
	local queue
	for queue in 0 1; do
		eq "$(counted "$A" hand_backs "$queue")" 0 "queue $queue was never handed back"
		run_ok test "$(counted "$A" forwarded "$queue")" -ge 900000
	done
	the_other_was_let_be
}

the_other_was_let_be() {
	eq "$(counted "$B" forwarded) $(counted "$B" forwarded 1)" "0 0" "the other end was not relayed"
}

# Rings whose indices soon come to 0 again: the device gets the queues back.
# limit: 180
case_hands_back() {
	vhost_pair 0
	local times vdev
	# A relay may have to wait too long for somebody, and pass the boundary.
	for times in 1 2 3; do
		client transfer "$NODE_A" "$NODE_B" --start 64000 --count 3000
		! all_were_handed_back || break
	done
	for vdev in "$A" "$B"; do
		handed_back "$vdev" 0 $times
		handed_back "$vdev" 1 $times
	done
	client transfer "$NODE_A" "$NODE_B" --start 65535 --count 300 --event-index
}

all_were_handed_back() {
	local vdev queue
	for vdev in "$A" "$B"; do
		for queue in 0 1; do
			[ "$(counted "$vdev" hand_backs $queue)" -gt 0 ] || return
		done
	done
}

# handed_back BDF QUEUE TIMES: its relay ended before all 3000 (and the 256 buffers behind, if they are such)
# were through, in one of so many times
handed_back() {
	run_ok test "$(counted "$1" hand_backs "$2")" -gt 0
	run_ok test "$(counted "$1" forwarded "$2")" -lt $(($3 * 3256 - 1000))
}

# A frame that needs more receive buffers than are left before the boundary: the device waits for
# those that are held back, and tells nobody. It gets them, and the queue stays relayed, up to a
# boundary at which a frame ends.
# limit: 600
case_merged_frames_pass_the_boundary() {
	vhost_pair 0
	local vdev
	# Each begins with more than the queue holds, so that frames flow when it comes to the
	# boundary, and with as many as make a frame lie across it.
	merged_frames 46 --count 300 --size 16
	merged_frames 35 --count 300 --size 16 --event-index
	merged_frames 76 --count 300 --size 32
	for vdev in "$A" "$B"; do
		eq "$(counted "$vdev" hand_backs)" 0 "the receive queue of $vdev was not handed back"
		# 300 frames take 1999 buffers.
		run_ok test "$(counted "$vdev" returned)" -ge $((3 * 1999))
	done
	# The next boundary, at which a frame ends, comes after some 9800 frames. Who is slow
	# just there seems to wait for more, as well.
	for _ in 1 2 3; do
		merged_frames 363 --count 10000
		! { was_handed_back "$A" && was_handed_back "$B"; } || break
	done
	for vdev in "$A" "$B"; do
		run_ok was_handed_back "$vdev"
	done
}

# merged_frames LEFT OPTION...: frames of several buffers, from LEFT buffers before the boundary on
merged_frames() {
	local left=$1 node
	shift
	client transfer "$NODE_A" "$NODE_B" --merge --start $((65536 - left)) "$@" >/tmp/merged.log
	cat /tmp/merged.log
	for node in "$NODE_A" "$NODE_B"; do
		match "$(grep "^# $node received" /tmp/merged.log)" "*, 1 over index 0" \
			"of $left buffers too few were left for a frame at $node"
	done
	# What has stalled would stall each time, and each takes long.
	[ "$FAILURES" -eq 0 ] || exit 1
}

was_handed_back() { # was_handed_back BDF: its first receive queue was
	[ "$(counted "$1" hand_backs)" -gt 0 ]
}

# Without RING_RESET nothing is handed back.
# limit: 180
case_stays_relayed() {
	vhost_pair 2
	client transfer "$NODE_A" "$NODE_B" --start 65000 --count 1500
	local state
	state=$(grep '^vq 1: ' "$DEBUG/vf_vdpa-$A/state")
	match "$state" "*, 1500 forwarded, 1500 returned*" "all is relayed: $state"
	client transfer "$NODE_A" "$NODE_B" --start 65000 --count 1500 --event-index
	# They are shown of a device that is in use.
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	eq "$(vstat forwarded 1) $(vstat returned 1) $(vstat hand_backs 1)" "3000 3000 0" "the statistics go on counting"
	client_kill
}

# A driver that looks for itself is not interrupted by a relay either, and how often is counted.
# limit: 180
case_tells_nobody_who_does_not_ask() {
	local before event after kicked kicks
	vhost_pair 2
	before=0
	kicked=0
	for event in '' --event-index; do
		# shellcheck disable=SC2086 # it is an option or none
		client quiet "$NODE_A" "$NODE_B" --start 65000 $event
		# They are shown of a device that is in use.
		client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
		after=$(($(vstat suppressed 0) + $(vstat suppressed 1)))
		kicks=$(vstat kicks 1)
		client_kill
		# Each of 32 frames by itself, through either queue.
		run_ok test $((after - before)) -ge 64
		before=$after
		# Each is waited for before the next is sent: no pace lasts.
		run_ok test $((kicks - kicked)) -ge 32
		kicked=$kicks
	done
}

# Whoever relays knows where the rings are: while they are mapped, and no longer. The first queue
# of VF 3 comes to its boundary, where a relay looks at the rings all the time.
# limit: 240
case_rings_come_and_go() {
	vhost_pair 2
	client remap "$NODE_A" "$NODE_B" --start 65000
	match "$(grep '^vq 1: ' "$DEBUG/vf_vdpa-$A/state")" "*, 2200 forwarded, 2200 returned*" "all was relayed"
	log_mark
	client remap "$NODE_A" "$NODE_B" --start 2000 --event-index
	match "$(log_since)" "*vf_vdpa $A: relayed virtqueue 1: rings of the guest: address 0x* is not mapped*" "the log says what is gone"
}

# A kick finds the ring broken, and somebody else is about to say so when the device is suspended.
# limit: 180
case_broken_rings_are_not_suspended() {
	vhost_pair 2
	log_mark
	client lie "$NODE_A" --peer "$NODE_B"
	match "$(log_since)" "*vf_vdpa $A: relayed virtqueue 0: available *" "the log says what is wrong"
}

# Whoever had a queue before may leave it at a place that its rings contradict, as QEMU has done after a
# migration that was cancelled: a driver must not be shown used entries that nobody has written.
# limit: 180
case_goes_on_where_its_rings_say() {
	vhost_pair 2
	log_mark
	client taken "$NODE_A" "$NODE_B"
	match "$(log_since)" "*vf_vdpa $A: relayed virtqueue 1: cannot go on at index *" "the log says what is wrong"
	client_until "holding behind a gap" /tmp/taken.log taken "$NODE_A" "$NODE_B" --hold
	match "$(grep '^vq 1: ' "$DEBUG/vf_vdpa-$A/state")" "*, 100 lost before, *" "the state file says what does not come back"
	client_kill
}

# A driver may write any number of chains into its ring before it shows them: over those that were returned, by
# which a device is seen to keep the order.
# limit: 180
case_waits_until_what_is_written_is_shown() {
	vhost_pair 2
	log_mark
	client ahead "$NODE_A" "$NODE_B"
	match "$(log_since)" "*vf_vdpa $A: virtqueue 0: chain * was not returned in its turn*" "the log says why it was not suspended"
}

# A device that may do requests in any order has to finish them before it is stopped.
# drivers: vf_vdpa
# limit: 240
case_waits_for_what_is_being_done() {
	local slow
	modprobe vhost_vdpa
	slow=$(entropy_function slow)
	bind_driver "$slow" || die "binding $slow" "$(dmesg | tail -n 3)"
	run_ok vdpa_add "$slow" r
	bus vhost r || die "giving r to vhost_vdpa"
	wait_for "$SOON" vhost_node r
	log_mark
	client busy "$(vhost_node r)"
	match "$(log_since)" "*vf_vdpa $slow: virtqueue 0: the device does not finish*" "the log says why it is not stopped"
	# The same with a relay between.
	[ "$(long_run short long)" = short ] || client busy "$(vhost_node r)" --start 1000
}

# Who serves a queue, and for how long, for administrators.
# limit: 120
case_tells_who_serves_it_for_how_long() {
	local first
	vhost_pair 2
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live --start 65000
	eq "$(vstat relayed)" 1 "it is relayed"
	eq "$(vstat direct) $(vstat direct_seconds)" "0 0" "it is not the device's"
	first=$(vstat relayed_seconds)
	run_ok wait_for "$SOON" seconds_are relayed $((first + 2))
	match "$(grep '^vq 0: ' "$DEBUG/vf_vdpa-$A/state")" "*in hardware Relayed*, relayed for [0-9]* s and until a reset: *" \
		"the state says for how long"
	client_kill
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	eq "$(vstat relayed) $(vstat relayed_seconds) $(vstat direct)" "0 0 1" "the next one is not"
	first=$(vstat direct_seconds)
	run_ok wait_for "$SOON" seconds_are direct $((first + 2))
	match "$(grep '^vq 0: ' "$DEBUG/vf_vdpa-$A/state")" "*in hardware Enabled*, direct for [0-9]* s*" \
		"it is the device's"
	client_kill
}

seconds_are() { # seconds_are relayed|direct SECONDS: at least so many by now
	[ "$(vstat "$1_seconds")" -ge "$2" ]
}

vstat() { # vstat NAME [QUEUE]: of the first queue of the device a, or another one
	vdpa -j dev vstats show a qidx "${2:-0}" | jq ".vstats.a.$1"
}

# What a relay costs, in proportion to a device that serves its rings alone: the
# figures are in the log. For ones that mean something there must be more rounds.
# limit: 300
case_cost() {
	vhost_pair 0
	client cost "$NODE_A" "$NODE_B" --rounds 1 --count 1000
}
