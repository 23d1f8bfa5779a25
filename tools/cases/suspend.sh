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

# Far enough for the indices to come to 0 again: the device gets the queues back.
# limit: 600
case_hands_back() {
	vhost_pair 0
	client suspend "$NODE_A" "$NODE_B" --rounds 1 --count 66000
	local state
	state=$(cat "$DEBUG/vf_vdpa-$A/state")
	match "$state" "*vq 0: *1 hand_backs*" "the device has got its receive queue back"
	match "$state" "*vq 1: *1 hand_backs*" "the device has got its transmit queue back"
}
