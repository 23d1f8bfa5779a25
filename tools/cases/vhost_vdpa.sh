# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# vhost-vdpa: a program of ours owns the device. Its result lines are the cases'.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# Frames both ways: content, order, loss, interrupts.
# limit: 120
case_transfer() {
	vhost_pair 0
	client transfer "$NODE_A" "$NODE_B" --count 3000
}

# limit: 120
case_transfer_with_event_index() {
	vhost_pair 0
	client transfer "$NODE_A" "$NODE_B" --count 3000 --event-index
}

# limit: 120
case_transfer_with_small_queues() {
	vhost_pair 0
	client transfer "$NODE_A" "$NODE_B" --count 1000 --size 8
}

# limit: 120
case_transfer_with_packed_rings() {
	packed_pair
	client transfer "$NODE_A" "$NODE_B" --count 2000 --packed
	client transfer "$NODE_A" "$NODE_B" --count 2000 --packed --event-index
}

# The doorbell page of the device, mapped into the program.
# limit: 120
case_doorbell() {
	vhost_pair 0
	eq "$(info "$NODE_A" 'doorbells[0]')" true "the function's doorbells can be mapped"
	client doorbell "$NODE_A" "$NODE_B"
}

# Queues that are enabled after DRIVER_OK, as QEMU does.
# limit: 120
case_late_enable() {
	vhost_pair 0
	client late-enable "$NODE_A" "$NODE_B"
}

# A live queue is disabled: it alone stops.
# limit: 180
case_disable() {
	vhost_pair 0
	client disable "$NODE_A" "$NODE_B"
}

# The same of functions without RING_RESET: it stops until the next reset.
# drivers: vf_vdpa
# limit: 180
case_disable_without_queue_reset() {
	vhost_pair 2
	client disable "$NODE_A" "$NODE_B" --for-good
}

abuse() { # abuse GROUP
	vhost_pair 0
	client abuse "$NODE_A" --peer "$NODE_B" --only "$1"
}

# limit: 120
case_bad_features() {
	abuse features
}

# limit: 120
case_bad_status() {
	abuse status
}

# limit: 120
case_bad_sizes() {
	abuse sizes
}

# limit: 120
case_bad_addresses() {
	abuse addresses
}

# limit: 120
case_bad_packed_state() {
	packed_pair
	client abuse "$NODE_A" --peer "$NODE_B" --only packed
}

# limit: 120
case_bad_indices() {
	abuse indices
}

# limit: 120
case_bad_config_accesses() {
	abuse config
}

# limit: 120
case_bad_mappings() {
	log_mark
	abuse table
	[ "$DRIVER" = vf_vdpa ] || return 0
	match "$(log_since | grep "vf_vdpa $A: ")" "*cannot map 0xfe* to 0xfee00fff: 0xfee00000 to 0xfeefffff is reserved*" \
		"the log says what lies in its way"
}

# Which mappings are refused, and that one made early leads to the same page later.
# limit: 120
case_doorbell_mappings() {
	abuse doorbells
}

# limit: 120
case_bad_order() {
	abuse order
}

# limit: 180
case_bad_requests_while_live() {
	abuse live
}

# limit: 300
case_closed_and_reset_in_every_state() {
	abuse closing
}

# Rings the device cannot reach. The IOMMU reports what it stopped.
# limit: 180
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
case_unreachable_rings() {
	vhost_pair 0
	log_mark
	faults_are_logged
	client unmapped "$NODE_A" --peer "$NODE_B"
	faulted "$A"
}

# A process may well have its rings anywhere, and move them to an address space in which it has mapped nothing: the
# IOMMU says that the device has tried.
# limit: 400
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
case_random_requests() {
	vhost_pair 0
	local seed
	for seed in $(seq "$(long_run 4 40)"); do
		client fuzz "$NODE_A" --peer "$NODE_B" --seed $seed --count 4000
	done
}

# Nonsense in the rings, of queues that are relayed, and of the control queue.
# drivers: vf_vdpa
# limit: 400
case_random_rings() {
	local first=0 seed
	# Rings are reset by RING_RESET, or with the function.
	for first in 0 2; do
		vhost_pair $first max_vqp 1
		for seed in $(seq "$(long_run 2 40)"); do
			client scribble "$NODE_A" --peer "$NODE_B" --seed $((100 * first + seed))
		done
		vdpa dev del a
		vdpa dev del b
	done
}

# The owner is killed in the middle of traffic; the next one finds the device fresh.
# limit: 180
case_owner_is_killed() {
	vhost_pair 0
	for _ in 1 2 3; do
		client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 300
		sleep 1
		client_kill
		run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 200
	done
}

# Readers of the configuration come at any time; they must not disturb.
# limit: 120
case_netlink_readers_do_not_disturb() {
	vhost_pair 0
	: >/tmp/rounds
	(while :; do
		# The counters of a device that is not in use cannot be read.
		vdpa dev vstats show a qidx 0 2>/dev/null
		[ "$DRIVER" != vf_vdpa ] || cat "$DEBUG/vf_vdpa-$A/state" || break
		vdpa dev show && vdpa dev config show && vdpa mgmtdev show || break
		echo round >&3
	done 3>/tmp/rounds >/dev/null 2>/tmp/errors) &
	local readers=$!
	client late-enable "$NODE_A" "$NODE_B"
	# Until they have read more than a few times, unless they do not at all.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		client transfer "$NODE_A" "$NODE_B" --count 2000
		[ "$(wc -l </tmp/rounds)" -le 5 ] || break
	done
	kill -KILL $readers
	wait $readers 2>/dev/null
	eq "$(cat /tmp/errors)" "" "the readers see no error"
	run_ok test "$(wc -l </tmp/rounds)" -gt 5
	run_ok vdpa dev show
}
