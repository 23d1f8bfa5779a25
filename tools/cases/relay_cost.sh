# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a relay costs a guest: in proportion to a device that serves its rings alone, and to QEMU's
# shadow virtqueues. The figures are in the logs.

# shellcheck source=tools/cases/migration.sh
. "$LAB/cases/migration.sh"

# Rounds are far apart on a busy host: an odd number, for a middle one.
ROUNDS=9

# Frames by which a ring is used first, as a new one is unlike others; those of one measurement, for which it
# has to stay relayed; and those after which it has begun again.
SOME=5000
FRAMES=55000
THE_REST=$((65536 - SOME - FRAMES + 500))

# The guest with QEMU's shadow virtqueues.
SHADOWED=10.9.0.3

# two_guests DEVICE OTHER: `plain` on the one, and `shadowed` on the other, with x-svq=on, so that each
# measurement of a guest can follow one of the other. Both run by the machine's own processor, which is emulated
# and virtualises: twice emulated, a guest is too slow to tell one from another.
two_guests() {
	GUEST_ACCEL=kvm
	modprobe -q kvm_amd || modprobe -q kvm_intel || skip "the machine's processor cannot virtualise"
	two_places max_vqp 2
	neighbour
	# That is where `serves` looks.
	[ "$1" = a ] || A=$B
	virtualise plain "$1" "$LEFT"
	virtualise shadowed "$2" "$SHADOWED" ,x-svq=on
}

# virtualise NAME DEVICE ADDRESS [OPTION]: the machine's processor trips now and then (the kernel of the
# machine gives up with an internal error, over an instruction that is none to give up for): the guest is
# started again then.
virtualise() {
	local try mac
	mac=$(config "$2" mac | jq -r .)
	for try in 1 2 3 4 5 6; do
		: >"/tmp/$1.log"
		guest_start "$1" "$(vhost_node "$2")${4-}" "$3/24" -global "virtio-net-pci.mac=$mac" -d guest_errors
		wait_for "$BOOT" boots_or_trips "$1"
		! guest_is_ready "$1" 1 || break
		echo "# the machine's processor has tripped, try $try: $(grep -a "RIP=" "/tmp/$1.err" | head -n 1)"
		guest_stop "$1"
	done
	guest_is_ready "$1" 1 || die "the guest $1 boots" "$(head -n 3 "/tmp/$1.err")"
	run_ok in_ns right ping -q -c 3 -i 0.3 -W 20 "$3"
}

boots_or_trips() {
	guest_is_ready "$1" 1 || [ "$(qmp "$1" query-status | jq -r .status)" = internal-error ]
}

# new_driver GUEST ADDRESS: its device is reset, and has a driver that is new to it
new_driver() {
	guest_run "$1" 60 "cd /sys/bus/virtio/drivers/virtio_net; echo virtio0 >unbind; echo virtio0 >bind; ip address add $2/24 dev eth0; ip link set eth0 up; sleep 1" ||
		die "the guest $1 has a new driver"
	run_ok in_ns right ping -q -c 3 -i 0.3 -W 20 "$2"
}

# begins_anew: the plain guest's device, from index 0 on, with a ring that was used for a while
begins_anew() {
	new_driver plain "$LEFT"
	send plain $SOME
	run_ok serves 1 Enabled
}

# is_stopped_once: the plain guest, whose queues are relayed from there on
is_stopped_once() {
	qmp plain stop >/dev/null || die "the guest stops"
	qmp plain cont >/dev/null || die "the guest goes on"
	run_ok serves 1 Relayed
}

# measure GUEST ARGUMENT...: as the guest's own measure has it; MEASURED is what that says
measure() {
	local guest=$1
	shift
	MEASURED=$(guest_run "$guest" 300 "measure $*") || die "the guest $guest measures" "$MEASURED"
}

# notes WHAT [THINGS]: what was measured last
notes() {
	match "$MEASURED" "[1-9]* *[1-9]*" "$1: $MEASURED (${2-frames} a second, interrupts for a thousand)"
	# shellcheck disable=SC2086
	measured "$1" $MEASURED
}

# How many frames a notification is for, where it is no chance.
BURST=32

send() { # send GUEST FRAMES
	measure "$1" send "$2" "$BURST" "$RIGHT" "$STATION"
}

sends() { # sends WHAT GUEST: one measurement
	send "$2" $FRAMES
	notes "$1"
}

# receives WHAT GUEST DEVICE ADDRESS: one measurement, while the neighbour sends to it as fast as it can
receives() {
	floods_with 0 "$4" "$(config "$3" mac | jq -r .)"
	in_ns right sh -c "echo start >/proc/net/pktgen/pgctrl" &
	measure "$2" receive 3
	in_ns right sh -c "echo stop >/proc/net/pktgen/pgctrl"
	wait $!
	notes "$1"
}

# How many seconds a stream is taken for, and how many bytes its sender writes at once.
STREAM=4
BLOCK=65536

# streams WHAT GUEST: one measurement
streams() {
	local before rate
	before=$(grep -c rate /tmp/swallows.log)
	measure "$2" stream "$RIGHT" 9 $BLOCK
	eq "$(grep -c rate /tmp/swallows.log)" $((before + 1)) "the guest $2 has sent a stream"
	rate=$(sed -n 's/^rate //p' /tmp/swallows.log | tail -n 1)
	MEASURED=$(awk -v rate="$rate" -v count="$MEASURED" -v seconds=$STREAM \
		'BEGIN { printf "%d %.4f", rate, rate ? count * 1000 / rate / seconds : 0 }')
	notes "$1" KiB
}

# rounds: a device alone, a relay, QEMU's shadow virtqueues, and the device that has got its queue back
rounds() {
	two_guests a b
	for _ in $(seq $ROUNDS); do
		begins_anew
		sends direct plain
		sends again plain
		begins_anew
		is_stopped_once
		sends relayed plain
		run_ok serves 1 Relayed
		sends shadow shadowed
		send plain $THE_REST
		run_ok wait_for "$SOON" serves 1 Enabled
		alone 1
		sends returned plain
		still_alone 1
	done
	proportions "frames a second" "interrupts a frame" relayed/direct returned/direct shadow/direct relayed/shadow again/direct || die "each round has all figures"
}

# In bursts, each of which is one notification.
# drivers: vf_vdpa
# needs: guest hours
# limit: 2400
case_sending() {
	rounds
	middle_is relayed/direct 0.6
	middle_may_be returned/direct 0.97
}

# Frame by frame. Whether the emulated device asks to be told of nearly each of them, or of hardly any, is
# chance then, by which a direct queue is slow or fast.
# drivers: vf_vdpa
# needs: guest hours
# limit: 2400
case_sending_singly() {
	BURST=1
	rounds
	middle_is relayed/direct 0.6
}

# rounds_of_streams: what a guest sends over TCP, frames of up to 64 KiB in several pieces, whose descriptors QEMU's
# shadow virtqueues copy, and a relay does not. QEMU 11.1.3 loses track of some of them, on the kernel's
# vdpa_sim_net as well: so there, too, the driver is a new one for each measurement.
rounds_of_streams() {
	two_guests a b
	swallows /tmp/swallows.log $STREAM
	for _ in $(seq $ROUNDS); do
		begins_anew
		streams direct plain
		streams again plain
		run_ok serves 1 Enabled
		begins_anew
		is_stopped_once
		streams relayed plain
		run_ok serves 1 Relayed
		new_driver shadowed "$SHADOWED"
		send shadowed $SOME
		streams shadow shadowed
	done
	kill "$SWALLOWER"
	echo "# chains that QEMU's shadow virtqueues have lost track of: $(grep -o "but it was not available" /tmp/shadowed.err | wc -l)"
	proportions "bytes a second" "interrupts a byte" relayed/direct shadow/direct relayed/shadow again/direct || die "each round has all figures"
	middle_is relayed/shadow 2
}

# drivers: vf_vdpa
# needs: guest hours
# limit: 2400
case_streaming() {
	rounds_of_streams
	middle_is relayed/direct 0.6
}

# From a sender that writes a little at a time. How large a frame becomes then, the guest's TCP makes depend on how fast
# the ones before were sent: what is a little slower has smaller frames, and is much slower. So is a device
# alone now and then.
# drivers: vf_vdpa
# needs: guest hours
# limit: 2400
case_streaming_small_writes() {
	BLOCK=1024
	rounds_of_streams
}

# What a guest receives, on a function whose queue is relayed until the next reset. The neighbour does not send
# so much that a device alone would have twice the frames of QEMU's shadow virtqueues.
# drivers: vf_vdpa
# needs: guest hours
# limit: 2400
case_receiving() {
	two_guests b a
	for _ in $(seq $ROUNDS); do
		begins_anew
		receives direct plain b "$LEFT"
		receives again plain b "$LEFT"
		begins_anew
		is_stopped_once
		run_ok serves 0 Relayed
		receives relayed plain b "$LEFT"
		run_ok serves 0 Relayed
		receives shadow shadowed a "$SHADOWED"
	done
	proportions "frames a second" "interrupts a frame" relayed/direct shadow/direct relayed/shadow again/direct || die "each round has all figures"
	middle_is relayed/direct 0.6
}
