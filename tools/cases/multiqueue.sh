# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Several queue pairs. The control queue comes after all the pairs a device has,
# or after the first one, depending on what device and consumer agreed on.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

queued_pair() { # queued_pair BUS [ATTRIBUTE VALUE]...
	local kind=$1
	shift
	has_taps || skip "one queue pair: taps are not allowed here"
	modprobe vhost_vdpa
	"${kind}_pair" 2 "$@"
	[ "$(mgmtdev "$A" max_supported_vqs)" -gt 3 ] || skip "one queue pair: the driver sees no more"
}

combined() { # combined NS DEV: pairs in use
	in_ns "$1" ethtool -l "$2" | awk '/^Combined/ { n = $2 } END { print n }'
}

# The network driver with every max_vqp: the control queue answers.
with_max_vqp() { # with_max_vqp N
	queued_pair virtio max_vqp "$1"
	containers
	they_ping
	eq "$(in_ns left ethtool -l "$LEFT_DEV" | awk '/^Combined/ { print $2; exit }')" "$1" "the interface can have $1 pairs"
	local n
	for ((n = $1; n >= 1; n--)); do
		run_ok in_ns left ethtool -L "$LEFT_DEV" combined "$n"
		eq "$(combined left "$LEFT_DEV")" "$n" "$n pairs are in use"
		they_ping
	done
	for ((n = 1; n <= $1; n++)); do
		run_ok in_ns left ethtool -L "$LEFT_DEV" combined "$n"
		they_ping
	done
	run_fails "Invalid argument" in_ns left ethtool -L "$LEFT_DEV" combined $(($1 + 1))
	control_queue
}

# The control queue does more than set the number of pairs.
control_queue() {
	log_mark
	run_ok ip -n left link set "$LEFT_DEV" promisc on
	run_ok ip -n left link set "$LEFT_DEV" promisc off
	run_ok ip -n left link set "$LEFT_DEV" allmulticast on
	run_ok ip -n left link set "$LEFT_DEV" allmulticast off
	# The driver sends these commands from a worker, and logs one that failed.
	they_ping
	eq "$(log_since | grep -c "Failed to .* promisc\|Failed to .* allmulti\|Fail to set num of queue pairs")" 0 \
		"no command failed"
	eq "$(log_since | grep -c 'control command refused')" 0 "no command is refused"
}

# limit: 180
case_one_of_four() {
	with_max_vqp 1
}

# needs: time
# limit: 240
case_two_of_four() {
	with_max_vqp 2
}

# needs: time
# limit: 240
case_three_of_four() {
	with_max_vqp 3
}

# limit: 300
case_four_of_four() {
	with_max_vqp 4
}

# Without MQ among the features the control queue is number 2.
# limit: 180
case_control_queue_without_mq() {
	pair 2
	local features
	features=$((LEAST | NET_MAC | NET_STATUS | NET_CTRL_VQ | NET_CTRL_RX))
	add_pair device_features "$(hex $features)"
	to_virtio
	containers
	they_ping
	eq "$(vdpa -j dev show a | jq .dev.a.max_vqs)" 3 "one pair and the control queue"
	control_queue
}

# Without a control queue at all.
# limit: 120
case_no_control_queue() {
	pair 2
	add_pair device_features "$(hex $((LEAST | NET_MAC | NET_STATUS)))"
	to_virtio
	containers
	they_ping
	eq "$(vdpa -j dev show a | jq .dev.a.max_vqs)" 2 "one pair"
}

# A consumer that uses all pairs through vhost-vdpa. It sends on each of them; on
# which ones frames arrive is the affair of the switch.
# limit: 240
case_vhost_with_all_pairs() {
	queued_pair vhost
	client transfer "$NODE_A" "$NODE_B" --queues 4 --count 3000
	client transfer "$NODE_A" "$NODE_B" --queues 2 --count 2000
}

# limit: 240
case_vhost_with_max_vqp() {
	local vqp
	for vqp in 2 3; do
		queued_pair vhost max_vqp $vqp
		client transfer "$NODE_A" "$NODE_B" --queues $vqp --count 2000
		vdpa dev del a
		vdpa dev del b
	done
}

# A consumer that does not accept MQ uses one pair of a device that has four.
# limit: 180
case_vhost_without_mq() {
	queued_pair vhost
	client transfer "$NODE_A" "$NODE_B" --count 1000
	client late-enable "$NODE_A" "$NODE_B"
	client transfer "$NODE_A" "$NODE_B" --queues 4 --count 1000
	client transfer "$NODE_A" "$NODE_B" --count 1000
}

# The hostile owner, on a device with many queues.
# needs: time
# limit: 300
case_vhost_abuse() {
	queued_pair vhost
	# With fewer pairs than the function has, the last queue is not the function's
	# queue of that number, and has its doorbell elsewhere.
	vdpa dev del b
	run_ok vdpa_add "$B" b max_vqp 2
	to_vhost
	# Queue 2 is the control queue for a consumer that does without MQ: the kernel
	# serves it.
	local want="[true,true,false,true,false]"
	[ "$DRIVER" = vf_vdpa ] || want="[true,true,true,true,false]"
	eq "$(info "$NODE_B" doorbells)" "$want" "only doorbells that are always the consumer's can be mapped"
	vdpa dev del b
	vdpa_add "$B" b
	to_vhost
	local group
	for group in sizes packed indices doorbells order live; do
		client abuse "$NODE_A" --peer "$NODE_B" --only $group
	done
	# Its control queue is queue 2, with MQ offered and not accepted.
	[ "$DRIVER" != vf_vdpa ] || client abuse "$NODE_A" --peer "$NODE_B" --only control
	client fuzz "$NODE_A" --peer "$NODE_B" --seed 11 --count 3000
}

# Throughput streams over several pairs at once.
# limit: 180
case_parallel_streams() {
	queued_pair virtio
	containers
	run_ok in_ns left ethtool -L "$LEFT_DEV" combined 4
	run_ok in_ns right ethtool -L "$RIGHT_DEV" combined 4
	streams_end right
	stream -P 4
	they_ping
}
