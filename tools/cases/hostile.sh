# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A function that misbehaves while it is used. Whatever it does: nothing takes longer than
# its bound, the machine goes on, and once it behaves it can be used. What the driver finds
# wrong and nobody else tells is one line of the log. Functions that are odd from the start
# are in shape.sh, what is done in rings is in hostile_rings.sh, those that virtio-net has are in
# hostile_net.sh.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# Without any misbehaviour it is a function like the others.
# drivers: vf_vdpa
# limit: 120
case_model_works() {
	model
	client loopback "$NODE" --count 2000
	client loopback "$NODE" --count 1000 --event-index
	eq "$(tells refused)" 0 "the function has touched nothing that was not mapped"
	bus virtio m || die "giving m to virtio_vdpa"
	wait_for "$SOON" netdev "$M" || die "no network interface appears below $M"
	local device
	device=$(netdev "$M")
	run_ok ns_with left "$device" "$LEFT/24"
	in_ns left ping -q -c 3 -i 0.3 -W 1 "$RIGHT" >/dev/null 2>&1
	run_ok wait_for "$SOON" has_returned "$device" 3
	run_ok vdpa dev del m
}

has_returned() { # has_returned NETDEV FRAMES: so many came back to it
	[ "$(ip -n left -s -j link show "$1" | jq '.[0].stats64.rx.packets')" -ge "$2" ]
}

# needs: time
# drivers: vf_vdpa
# limit: 300
case_model_is_no_easy_victim() {
	model
	client abuse "$NODE" --loopback
	others_work
}

# ---- resets --------------------------------------------------------------

# needs: time
# drivers: vf_vdpa
# limit: 120
case_reset_takes_long() {
	model
	hold
	misbehave late-reset 1000
	let_go 10
	run_ok phase Stopped
	within 60 "$CLIENT" loopback "$NODE" --count 50
	# That is not worth a line.
	behave
	it_works
}

# A reset of the whole function helps.
# drivers: vf_vdpa
# limit: 180
case_reset_never_finishes() {
	model
	hold
	misbehave never-reset
	let_go 20
	named "does not finish its reset (error -110), resetting the function"
	run_ok phase Stopped
	eq "$(tells flrs)" 1 "the function was reset"
	eq "$(tells status)" 0 "and so was the device"
	behave
	it_works
}

# Nothing helps: it gets no memory until a reset does, and if it does not care for that, there is none
# that it reaches.
# drivers: vf_vdpa
# limit: 180
case_no_reset_ever_finishes() {
	local reached
	model
	hold
	misbehave never-reset
	misbehave ignore-flr
	misbehave dma-outside
	run_ok test "$(tells outside_reached)" -gt 0
	eq "$(tells outside_refused)" 1 "it reaches nothing but its rings"
	let_go 30
	named "does not finish its reset (error -110), resetting the function"
	named "does not stop or answer, cut off from memory until a reset"
	run_ok phase CutOff
	eq "$(tells master)" false "it is no bus master"
	reached=$(tells outside_reached)
	misbehave dma-outside
	eq "$(tells outside_reached)" "$reached" "it reaches no memory"
	misbehave ignore-master
	misbehave dma-outside
	eq "$(tells outside_reached)" "$reached" "nor would it as a bus master"
	nothing_else_was_said
	it_fails
	named "does not finish its reset (error -110), resetting the function"
	run_ok phase CutOff
	behave
	it_works
}

# Whoever else has a device is not kept waiting until it is known that nothing helps.
# drivers: vf_vdpa
# limit: 240
case_others_go_on_meanwhile() {
	local began ended_before=
	model
	vhost_pair 0
	began=$SECONDS
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 20
	[ $((SECONDS - began)) -le 3 ] || skip "this machine is too slow: it needs $((SECONDS - began)) s for that anyway"
	# It takes 5 s, in which a busy host may come to nothing.
	for _ in 1 2 3; do
		hold
		misbehave never-reset
		misbehave ignore-flr
		began=$SECONDS
		kill -KILL "$CLIENT_PID"
		run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 20
		run_ok vdpa dev config show a
		# (The state file would wait for it.)
		says "does not stop or answer" || ended_before=yes
		echo "# others had done their work after $((SECONDS - began)) s"
		let_go 30
		run_ok phase CutOff
		named "does not finish its reset (error -110), resetting the function"
		named "does not stop or answer, cut off from memory until a reset"
		behave
		it_works
		[ -z "$ended_before" ] || break
	done
	eq "$ended_before" yes "others had done their work before the function was given up"
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_deleted_without_a_reset() {
	model
	hold
	misbehave never-reset
	misbehave ignore-flr
	let_go 30
	named "does not finish its reset (error -110), resetting the function"
	named "does not stop or answer, cut off from memory until a reset"
	nothing_else_was_said
	within 30 vdpa dev del m
	within 30 sh -c "echo $M >/sys/bus/pci/drivers/vf_vdpa/unbind"
	named "does not finish its reset (error -110), resetting the function"
	named "cannot be reset (error -5)"
	behave
	run_ok bind_driver "$M"
	run_ok vdpa_add "$M" m
	run_ok bus vhost m
	NODE=$(vhost_node m)
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_resets_itself() {
	model
	hold
	misbehave forget
	kill -0 "$CLIENT_PID" || die "the process is there"
	# It says nothing: somebody has to look.
	run_ok vdpa dev config show m
	misbehave spurious-interrupt
	told_to_reset
	named "was reset behind our back"
	let_go 10
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_loses_its_configuration() {
	model
	hold
	misbehave forget-all
	let_go 10
	named "was reset behind our back, restoring its configuration"
	run_ok phase Stopped
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_needs_a_reset() {
	model
	hold
	misbehave needs-reset
	told_to_reset
	named "says that it needs a reset"
	let_go 10
	behave
	it_works
	# Before it is live, too.
	hold
	let_go 10
	misbehave needs-reset
	it_works
}

# ---- registers -----------------------------------------------------------

# What was pulled out reads as ones.
# drivers: vf_vdpa
# limit: 300
case_is_pulled_out() {
	model
	hold
	misbehave all-ones
	# Its last words are an interrupt.
	told_to_reset
	named "cannot be reached"
	named "does not stop or answer, cut off from memory until a reset"
	run_ok phase CutOff
	let_go 20
	run_ok phase CutOff
	behave
	it_works
}

# It is taken off the bus while it reads as ones.
# needs: time
# drivers: vf_vdpa
# limit: 300
case_is_pulled_out_for_good() {
	model
	hold
	misbehave all-ones
	told_to_reset
	let_go 20
	named "cannot be reached"
	named "does not stop or answer, cut off from memory until a reset"
	within 30 sh -c "echo 1 >$PCI/$M/remove"
	run_ok test ! -e "$VDPA/devices/m"
	named "cannot be reset (error -5)"
	behave
	model
	it_works
}

# Its BARs alone do not answer.
# drivers: vf_vdpa
# limit: 300
case_registers_are_dead() {
	model
	hold
	misbehave dead-registers
	told_to_reset
	named "cannot be reached"
	named "does not stop or answer, cut off from memory until a reset"
	run_ok phase CutOff
	nothing_else_was_said
	let_go 30
	run_ok phase CutOff
	named "does not finish its reset (error -19), resetting the function"
	nothing_else_was_said
	it_fails 120
	named "does not finish its reset (error -19), resetting the function"
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 120
case_status_flips() {
	model
	hold
	misbehave status-flips
	misbehave spurious-interrupt
	misbehave spurious-interrupt
	told_to_reset
	named "was reset behind our back"
	let_go 20
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_configuration_never_settles() {
	local began
	model
	hold
	began=$SECONDS
	misbehave unsettled-generation
	run_ok wait_for "$SOON" says "the configuration does not settle"
	run_ok phase Live
	within 20 vdpa dev config show m
	let_go 20
	within 60 "$CLIENT" loopback "$NODE" --count 50
	others_work
	model_says say behave
	said_at_most_each_second "the configuration does not settle" "$began"
	it_works
}

# It can be read, and is another one the next time: the process is told, looks, and is told again.
# A few changes a second are shown.
# needs: time
# drivers: vf_vdpa
# limit: 180
case_configuration_changes_all_the_time() {
	local began
	# Short, so that it can be read often enough.
	model --config-len 8
	hold
	began=$SECONDS
	misbehave restless-configuration
	run_ok wait_for "$SOON" says "the configuration changes all the time"
	run_ok phase Live
	within 20 vdpa dev config show m
	let_go 20
	within 60 "$CLIENT" loopback "$NODE" --count 50
	others_work
	model_says say behave
	# Changes, and their interrupts.
	said_at_most_each_second "*configuration *" "$began"
	it_works
}

# ---- starting ------------------------------------------------------------

# starting HOW TEXT: a start fails, and the log says why
starting() {
	misbehave "$1"
	it_fails
	named "$2"
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 240
case_refuses_to_start() {
	model
	starting refuse-features-ok "the device refuses the features"
	starting refuse-driver-ok "the device does not start: its status is"
	starting refuse-queues "virtqueue 0: the device does not enable it (error -5)"
	starting refuse-vectors "the device takes no configuration interrupt"
}

# Queues may be enabled after the start, as QEMU does, and nobody asks then whether they were.
# drivers: vf_vdpa
# limit: 120
case_refuses_a_queue_once_started() {
	model
	misbehave refuse-queues
	hold --late
	told_to_reset
	named "virtqueue 0: the device does not enable it (error -5)"
	let_go 10
	behave
	it_works
}

# ---- interrupts ----------------------------------------------------------

# interrupted N: the driver has counted so many interrupts of configuration changes
interrupted() {
	[ "$(sed -n 's/^configuration interrupts: //p' "$DEBUG/vf_vdpa-$M/state")" -ge "$1" ]
}

# needs: time
# drivers: vf_vdpa
# limit: 180
case_interrupt_storm() {
	model
	hold
	# One that such a kernel can still keep up with: nobody can do anything about faster ones.
	misbehave interrupt-storm $((${VF_VDPA_SLOW:-1} > 4 ? 4 : ${VF_VDPA_SLOW:-1}))
	run_ok wait_for "$SOON" interrupted 100
	run_ok phase Live
	within 30 vdpa dev config show m
	run_ok wait_for "$SOON" seen "configuration interrupts: [0-9]* a second"
	named "configuration interrupts: [0-9]* a second"
	let_go 30
	within 60 "$CLIENT" loopback "$NODE" --count 50
	behave
	it_works
}

# needs: time
# drivers: vf_vdpa
# limit: 120
case_spurious_interrupts() {
	model
	local n
	for n in 1 2 3; do
		misbehave spurious-interrupt
	done
	it_works
	hold
	for n in 1 2 3; do
		misbehave spurious-interrupt
	done
	run_ok wait_for "$SOON" interrupted 1
	run_ok phase Live
	let_go 10
	# That is not worth a line.
	behave
	it_works
}

# Frames come back all the same, only nobody is told: the driver cannot know whether there should have been one,
# and has nothing to say.
# needs: time
# drivers: vf_vdpa
# limit: 180
case_no_interrupts() {
	model
	misbehave no-interrupts
	it_fails
	run_ok test "$(tells frames)" -gt 0
	behave
	it_works
}
