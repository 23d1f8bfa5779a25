# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A guest that is stopped, or moves from one VF to another, while it talks to
# the physical function.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"
# shellcheck source=tools/cases/guest.sh
. "$LAB/cases/guest.sh"
# shellcheck source=tools/cases/traffic.sh
. "$LAB/cases/traffic.sh"

# What the guest has wherever it is.
MAC=52:54:00:00:00:77

# two_places [ATTRIBUTE VALUE]...: vdpa devices a and b on VFs 3 and 2, which are on one
# bridge with the physical function, the neighbour in the container right. VF 3 has
# RING_RESET, VF 2 has not.
two_places() {
	has_taps || skip "the physical function has no wire: taps are not allowed here"
	modprobe vhost_vdpa || die "loading vhost_vdpa"
	make_vfs 4 || die "making 4 VFs"
	A=$(vf 3)
	B=$(vf 2)
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 5)"
	bind_driver "$B" || die "binding $B" "$(dmesg | tail -n 5)"
	add_pair "$@"
	to_vhost
	ns_with right "$(netdev "$(pf)")" "$RIGHT/24" || die "moving the physical function into a container"
}

# two_places_for_a_guest: the same address and the same queues in both
two_places_for_a_guest() {
	case $DRIVER in
	# It knows neither attribute. With more queues than one pair QEMU crashes before the guest has
	# booted, and the device drops what is not for its own address.
	vp_vdpa)
		two_places device_features "$(hex $((LEAST | NET_MAC | NET_STATUS)))"
		MAC=$(config a mac | jq -r .)
		;;
	*) two_places mac "$MAC" max_vqp 2 ;;
	esac
}

# boot [NODE]: the guest, on a unless told otherwise, with a server that sends back what it gets
boot() {
	run_qemu here "${1:-$NODE_A}"
	guest_wait here "$BOOT" 1 || die "the guest boots" \
		"$(tail -n 5 /tmp/here.err)" "$(tail -n 5 /tmp/here.log)"
	ok "the guest boots"
	run_ok guest_run here 120 "nc -ll -p 7 -e cat & sleep 1"
	run_ok in_ns right ping -q -c 3 -i 0.3 -W 20 "$LEFT"
}

# The address is the administrator's: QEMU has to be told.
run_qemu() { # run_qemu NAME NODE [ARGUMENT]...
	local name=$1 node=$2
	shift 2
	guest_start "$name" "$node" "$LEFT/24" -global "virtio-net-pci.mac=$MAC" -d guest_errors "$@"
}

qemu_is_content() { # qemu_is_content NAME: it has said nothing bad
	# It may say what it could not send any more, when it was told to give up.
	eq "$(grep -v 'failed to save SaveStateEntry' "/tmp/$1.err" | grep -ci 'error\|fail\|unsupported\|cannot')" 0 \
		"QEMU says nothing bad: $(head -c 300 "/tmp/$1.err")"
}

# waits NAME: a QEMU, which waits for a guest to come
waits() { # waits NAME NODE
	rm -f /tmp/way
	run_qemu "$1" "$2" -incoming "unix:/tmp/way"
	wait_for "$SOON" test -S /tmp/way || die "QEMU waits for the guest" "$(cat "/tmp/$1.err")"
}

migration_is() { # migration_is NAME STATUS
	[ "$(qmp "$1" query-migrate | jq -r .status)" = "$2" ]
}

ended_migrating() { # ended_migrating NAME: one way or another
	migration_is "$1" completed || migration_is "$1" failed || migration_is "$1" cancelled
}

# moves FROM TO NODE: the guest, from one QEMU to another
moves() {
	waits "$2" "$3"
	qmp "$1" migrate '{"uri": "unix:/tmp/way"}' >/dev/null || fail "$1 starts the migration"
	# A machine that gets little time moves its guest slowly.
	wait_for "$BOOT" ended_migrating "$1"
	migration_is "$1" completed || die "the guest moves from $1 to $2" "$(qmp "$1" query-migrate)" \
		"$(cat "/tmp/$1.err" "/tmp/$2.err")"
	wait_for "$LATER" runs "$2" || die "the guest runs in $2"
	ok "the guest moves from $1 to $2"
	echo "# QEMU: $(qmp "$1" query-migrate | jq -c '{downtime, "total-time"}'), of" \
		"$(grep -o "but it was not available" "/tmp/$1.err" | wc -l) chains its shadow virtqueues have lost track"
	guest_stop "$1"
	answers "$2"
	qemu_is_content "$2"
}

answers() { # answers NAME: the guest, to a ping; else what is known of it
	local output
	if output=$(in_ns right ping -q -c 3 -i 0.3 -W 20 "$LEFT" 2>&1); then
		ok "the guest in $1 answers"
	else
		fail "the guest in $1 answers" "$output" "$(tail -n 5 "/tmp/$1.log")" "$(tail -n 5 "/tmp/$1.err")" \
			"$(grep -H '^vq [01]:' "$DEBUG"/vf_vdpa-*/state)" "$(sleep 2; grep -H '^vq [01]:' "$DEBUG"/vf_vdpa-*/state)"
	fi
}

runs() { # runs NAME
	[ "$(qmp "$1" query-status | jq -r .status)" = running ]
}

# relayed BDF: the device on it goes on in the middle of its rings
relayed() {
	local state
	state=$(cat "$DEBUG/vf_vdpa-$1/state")
	match "$state" "*vq 0: ready in hardware Relayed*" "$1 goes on in the middle of its rings"
	# More returned than forwarded: chains that the place before has lost.
	grep "^vq [01]:" <<<"$state" | sed 's/^/# /; s/size.*interrupts, //'
}

stops() { # stops NAME TIMES: the guest is stopped and goes on, again and again
	local round
	for ((round = 1; round <= $2; round++)); do
		sleep 0.3
		qmp "$1" stop >/dev/null || fail "stop, round $round"
		qmp "$1" cont >/dev/null || fail "cont, round $round"
	done
	qemu_is_content "$1"
}

# stays NAME NODE: the guest, as it is told to half-way to another place
stays() {
	waits never "$2"
	# Slow enough to be caught.
	qmp "$1" migrate-set-parameters '{"max-bandwidth": 100000}' >/dev/null
	qmp "$1" migrate '{"uri": "unix:/tmp/way"}' >/dev/null || fail "the migration starts"
	wait_for "$SOON" migration_is "$1" active || fail "the migration goes on" "$(qmp "$1" query-migrate)"
	qmp "$1" migrate_cancel >/dev/null
	wait_for "$SOON" migration_is "$1" cancelled || fail "the migration is cancelled" "$(qmp "$1" query-migrate)"
	wait_for "$SOON" runs "$1" || fail "the guest goes on where it is"
	qmp "$1" migrate-set-parameters '{"max-bandwidth": 1000000000}' >/dev/null
	guest_stop never KILL
	run_ok in_ns right ping -q -c 3 -i 0.3 -W 20 "$LEFT"
	qemu_is_content "$1"
}

# All in one, as the boot takes the longest.
# needs: guest
# limit: 1500
case_stops_and_moves() {
	two_places_for_a_guest
	boot
	traffic
	part stops
	stops here "$(long_run 10 50)"
	relayed "$A"
	part moves
	moves here there "$NODE_B"
	relayed "$B"
	part moves-back
	moves there back "$NODE_A"
	relayed "$A"
	traffic_survives
}

# A guest that was told to move, and then to stay, and then to move after all. QEMU names a place in its
# rings behind what it has lost: see Documentation/migration.md. The log says how much that was.
# needs: guest hours
# limit: 1500
case_stays_when_cancelled() {
	two_places_for_a_guest
	boot
	traffic
	part stays
	stays here "$NODE_B"
	# QEMU is on its shadow virtqueues from here on, and loses track of some of this, so that the guest may not
	# answer before it has moved.
	part sends
	swallows /tmp/swallows.log 100
	run_ok guest_run here 120 "nc $RIGHT 9 </dev/zero >/dev/null 2>&1 & sleep 4; kill \$!"
	sleep 3
	kill "$SWALLOWER"
	part moves
	moves here there "$NODE_B"
	relayed "$B"
	traffic_survives
}

# A guest that sends as much as it can: frames of several buffers, of which QEMU's shadow virtqueues lose track
# while its memory is copied. What it sends must not stand still for longer than that.
# needs: guest hours
# limit: 1500
case_moves_while_it_sends() {
	two_places_for_a_guest
	boot
	swallows /tmp/swallows.log 100000
	run_ok guest_run here 120 "nc $RIGHT 9 </dev/zero >/dev/null 2>&1 & sleep 1"
	run_ok wait_for "$LATER" has_talked /tmp/swallows.log 100000
	moves here there "$NODE_B"
	relayed "$B"
	# What has piled up comes first. A sender that had no answer for long tries again late.
	run_ok wait_for 300 has_talked /tmp/swallows.log $(($(talked /tmp/swallows.log) + 1))
	run_ok wait_for "$LATER" has_talked /tmp/swallows.log $(($(talked /tmp/swallows.log) + 500000))
	kill "$SWALLOWER"
}

# serves QUEUE HOW: the hardware of a does so with the guest's queue
serves() {
	grep -q "^vq $1: ready in hardware $2" "$DEBUG/vf_vdpa-$A/state"
}

# Wherever a guest has come from, its device serves it alone again once both rings have begun
# anew: the whole of a ring's indices has to pass.
# drivers: vf_vdpa
# needs: guest hours
# limit: 1800
case_hands_back() {
	two_places_for_a_guest
	boot "$NODE_B"
	# What is left is for the relay.
	uses_rings here 60000
	traffic
	part moves
	moves here there "$NODE_A"
	relayed "$A"
	part hands-back
	# No flood (-f), which sends 100 a second whether they are answered or not: a guest that is slower loses what
	# its connection sends, again and again.
	local flooders=() began=$SECONDS
	for _ in 1 2 3 4; do
		ip netns exec right ping -q -A -s 16 "$LEFT" >/dev/null 2>&1 &
		flooders+=($!)
	done
	run_ok wait_for 1200 serves 0 Enabled
	run_ok wait_for 300 serves 1 Enabled
	echo "# both queues are handed back $((SECONDS - began)) s after the move"
	kill "${flooders[@]}"
	wait "${flooders[@]}" 2>/dev/null
	local queue state
	state=$(cat "$DEBUG/vf_vdpa-$A/state")
	for queue in 0 1; do
		match "$state" "*vq $queue: *, 1 hand_backs*" "queue $queue was relayed once: $(grep "^vq $queue:" <<<"$state")"
	done
	part direct
	alone 0 1
	run_ok in_ns right ping -q -c 20 -i 0.1 -W 20 "$LEFT"
	still_alone 0 1
	traffic_survives
}

# alone QUEUE..., still_alone QUEUE...: nothing was relayed by a between the two
alone() {
	RELAYED=$(relayed_chains "$@")
	match "$RELAYED" "*$1 [1-9]*" "queue $1 was relayed before (queue, forwarded, returned): $RELAYED"
}

still_alone() {
	eq "$(relayed_chains "$@")" "$RELAYED" "the device serves its queues alone (queue, forwarded, returned)"
}

relayed_chains() {
	local queue
	for queue; do
		echo "$queue $(counted "$A" forwarded "$queue") $(counted "$A" returned "$queue");"
	done
}

# By a station's address, how often it should have been announced, and how often it was, as far as the driver
# knows: it waits for a while only, and says so then, and the frame may be sent after that.
declare -A TRIED ANNOUNCED

# goes_on_at INDEX MAC_A MAC_B: frames flow from there on, of stations with these addresses
goes_on_at() {
	for _ in 1 2 3; do
		log_mark
		client transfer "$NODE_A" "$NODE_B" --start "$1" --count 20
		told "$A" "$2"
		told "$B" "$3"
		[ "${ANNOUNCED[$2]}" -eq 0 ] || [ "${ANNOUNCED[$3]}" -eq 0 ] || return
	done
}

told() { # told BDF MAC: it has had to announce itself
	local known=1
	! log_since | grep -qF "vf_vdpa $1: nobody was told" || known=0
	TRIED[$2]=$((${TRIED[$2]:-0} + 1))
	ANNOUNCED[$2]=$((${ANNOUNCED[$2]:-0} + known))
}

# heard MAC: the neighbour has been told where the station is, as often as it should
heard() {
	local times
	run_ok test "${ANNOUNCED[$1]}" -ge 1
	wait_for "$SOON" is_heard "$1" "${ANNOUNCED[$1]}"
	times=$(announcements "$1")
	run_ok test "$times" -ge "${ANNOUNCED[$1]}" -a "$times" -le "${TRIED[$1]}"
}

is_heard() { # is_heard MAC TIMES: at least
	[ "$(announcements "$1")" -ge "$2" ]
}

announcements() { # announcements MAC
	grep -c "$1 > ff:ff:ff:ff:ff:ff, ethertype Reverse ARP" /tmp/heard.log
}

# A bridge learns where a guest is that has come from elsewhere, before the guest sends
# anything; nothing is said of a driver that begins at the beginning of its rings.
# drivers: vf_vdpa
# limit: 120
case_announces() {
	local here there mac
	two_places
	here=$(config a mac | jq -r .)
	there=$(config b mac | jq -r .)
	neighbour
	ip netns exec right tcpdump -i "$RIGHT_DEV" -nne -l rarp >/tmp/heard.log 2>/tmp/tcpdump.err &
	wait_for "$SOON" grep -q listening /tmp/tcpdump.err || die "tcpdump listens" "$(cat /tmp/tcpdump.err)"
	client transfer "$NODE_A" "$NODE_B" --count 20
	goes_on_at 700 "$here" "$there"
	# Whoever has got an address from the administrator is called by it.
	run_ok vdpa dev set name a mac "$MAC"
	goes_on_at 65535 "$MAC" "$there"
	# Any of the first frames, which begin at index 0, would be heard before these.
	for mac in "$here" "$there" "$MAC"; do
		heard "$mac"
	done
}
