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

# As many as wrap the indices again and again, in both directions.
# needs: time
# limit: 7200
case_restarts_over_a_million() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --rounds 300 --count 1000000
	client suspend "$NODE_A" "$NODE_B" --rounds 300 --count 200000 --way resume --event-index
}

# Rings whose indices soon come to 0 again: the device gets the queues back.
# limit: 180
case_hands_back() {
	vhost_pair 0
	client transfer "$NODE_A" "$NODE_B" --start 64000 --count 3000
	local vdev
	for vdev in "$A" "$B"; do
		handed_back "$vdev" 0
		handed_back "$vdev" 1
	done
	client transfer "$NODE_A" "$NODE_B" --start 65535 --count 300 --event-index
}

handed_back() { # handed_back BDF QUEUE: its relay ended before all was through
	local line
	line=$(grep "^vq $2: " "$DEBUG/vf_vdpa-$1/state")
	match "$line" "*, 1 hand_backs*" "queue $2 of $1 was handed back: $line"
	match "$line" "*, 1[0-9][0-9][0-9] forwarded*" "what came afterwards was not relayed"
}

# Without RING_RESET nothing is handed back.
# limit: 180
case_stays_relayed() {
	vhost_pair 2
	client transfer "$NODE_A" "$NODE_B" --start 65000 --count 1500
	local state
	state=$(grep '^vq 1: ' "$DEBUG/vf_vdpa-$A/state")
	match "$state" "*, 1500 forwarded, 1500 returned*" "all is relayed: $state"
}

# For how long, for administrators.
# limit: 120
case_tells_for_how_long_it_is_relayed() {
	local first
	vhost_pair 2
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live --start 65000
	eq "$(vstat relayed)" 1 "it is relayed"
	first=$(vstat relayed_seconds)
	run_ok wait_for "$SOON" is_relayed_for $((first + 2))
	match "$(grep '^vq 0: ' "$DEBUG/vf_vdpa-$A/state")" "*in hardware Relayed*, relayed for [0-9]* s and until a reset: *" \
		"the state says for how long"
	client_kill
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	eq "$(vstat relayed) $(vstat relayed_seconds)" "0 0" "the next one is not"
	match "$(grep '^vq 0: ' "$DEBUG/vf_vdpa-$A/state")" "*in hardware Enabled*" "it is the device's"
	client_kill
}

is_relayed_for() {
	[ "$(vstat relayed_seconds)" -ge "$1" ]
}

vstat() { # vstat NAME: of the first queue of the device a
	vdpa -j dev vstats show a qidx 0 | jq ".vstats.a.$1"
}

# What a relay costs, in proportion to a device that serves its rings alone: the
# figures are in the log. For ones that mean something there must be more rounds.
# limit: 300
case_cost() {
	vhost_pair 0
	client cost "$NODE_A" "$NODE_B" --rounds 1 --count 1000
}
