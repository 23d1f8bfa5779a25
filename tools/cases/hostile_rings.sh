# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A function that misbehaves in the memory that it is given, its rings and what is beside them.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# A device that was stopped writes to what it was given last.
# drivers: vf_vdpa
# limit: 120
case_writes_after_it_was_stopped() {
	local before
	model
	hold
	misbehave dma-outside
	eq "$(tells outside_reached) $(tells outside_refused)" "2 1" "while it is live its rings are mapped, and nothing else"
	let_go 10
	before=$(tells outside_reached)
	misbehave dma-outside
	eq "$(tells outside_reached)" "$before" "nothing of it is mapped any more"
	it_works
	eq "$(tells "refused - .outside_refused")" 0 "it was refused nothing else"
}

# A guest that goes on elsewhere has its rings relayed: what the device returns in
# them is looked at.
# drivers: vf_vdpa
# limit: 300
case_returns_what_it_was_not_given() {
	local how
	# (The id of another chain that it has been given cannot be told from the right one.)
	for how in "used-bad-id:used chain 263 was not given to the device" "used-index-jump:used index * is further"; do
		model --no-ring-reset
		echo "# ${how%:*}"
		"$CLIENT" suspend "$NODE" --way restart --count 40000 >/tmp/suspend.log 2>&1 &
		CLIENT_PID=$!
		run_ok wait_for "$SOON" is_relayed
		misbehave "${how%:*}"
		named "relayed virtqueue [01]: *${how#*:}"
		let_go 20
		behave
		it_works
	done
}

# A device that was stopped in the middle of that has no place at which another one could go on.
# drivers: vf_vdpa
# limit: 240
case_returns_out_of_order() {
	model
	misbehave out-of-order
	"$CLIENT" suspend "$NODE" --count 500 --rounds 2 >/tmp/suspend.log
	not_suspended "virtqueue 1: chain * was not returned in its turn, and some are still out"
	# The same behind a relay, once it has told where its guest is.
	"$CLIENT" suspend "$NODE" --start 1000 --count 40000 >/tmp/suspend.log &
	CLIENT_PID=$!
	run_ok wait_for "$SOON" is_relayed
	misbehave out-of-order
	run_ok wait_for "$SOON" ended "$CLIENT_PID"
	not_suspended "relayed virtqueue 1: the device has not kept the order"
}

# not_suspended TEXT: the client says so, the device demands a reset, and the log says why
not_suspended() {
	match "$(cat /tmp/suspend.log)" "*not ok*VHOST_VDPA_SUSPEND: *(os error 5)*its status is 0x4f*" \
		"it is not suspended: $(grep "not ok" /tmp/suspend.log)"
	named "$1"
	behave
	it_works
}
