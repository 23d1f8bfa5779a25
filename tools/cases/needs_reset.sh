# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A function that says that it needs a reset (NEEDS_RESET) when nobody expects it. While it is
# simply in use: hostile/needs_a_reset.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# The driver looks when it starts the device: whenever it was, the consumer gets no DRIVER_OK.
# drivers: vf_vdpa
# limit: 300
case_while_negotiating() {
	local bit
	model
	# ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.
	for bit in 1 2 8 4; do
		misbehave needs-reset-at "$bit"
		it_fails
		named "the device does not start: its status is ACKNOWLEDGE DRIVER FEATURES_OK DRIVER_OK NEEDS_RESET"
		behave
		it_works
	done
}

# A device that is suspended is asked nothing. It is when it is to go on, whatever it was stopped by.
# needs: time
# drivers: vf_vdpa
# limit: 420
case_while_suspended() {
	local how options
	for how in "--suspend:does not resume (error -5), its status is " \
		"--suspend --no-ring-reset:does not resume (error -5), its status is " \
		":does not go on: its status is " \
		"--no-ring-reset:the device does not start: its status is "; do
		read -ra options <<<"${how%%:*}"
		model "${options[@]}"
		echo "# ${how%%:*}"
		client_until "holding suspended" /tmp/hold.log hold "$NODE" --live --suspended
		run_ok phase Suspended
		misbehave needs-reset
		# One that was reset has no vector for that.
		misbehave spurious-interrupt
		run_ok wait_for "$SOON" grep -q "does not resume, NEEDS_RESET" /tmp/hold.log
		named "${how#*:}"
		let_go 10
		run_ok phase Stopped
		behave
		it_works
	done
}

# Its rings are the driver's: nobody works on them any more, and the consumer is told.
# drivers: vf_vdpa
# limit: 420
case_while_relayed() {
	local shape
	# One that is not handed back, and in check-long one that could be.
	for shape in --no-ring-reset $(long_run "" --vectors=4); do
		echo "# $shape"
		model "$shape"
		hold --start 100
		run_ok is_relayed
		misbehave needs-reset
		told_to_reset
		named "says that it needs a reset"
		let_go 10
		behave
		it_works
		# While frames come and go.
		"$CLIENT" loopback "$NODE" --start 100 --count 1000000 >/tmp/loopback.log 2>&1 &
		CLIENT_PID=$!
		run_ok wait_for "$SOON" is_relayed
		misbehave needs-reset
		within 10 vdpa dev config show m
		run_ok grep -q "^status: .*NEEDS_RESET" "$DEBUG/vf_vdpa-$M/state"
		named "says that it needs a reset"
		let_go 20
		behave
		it_works
	done
}
