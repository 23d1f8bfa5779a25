# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What several groups share beyond lib.sh: devices, alone and in pairs, containers, the
# client, the kernel's log. There are no cases in here.

CLIENT=$LAB/bin/vhost-client

# Generous: the machine is emulated, on a host that may be busy.
SOON=30
LATER=90

# Bits of features, as `device_features` takes them.
NET_MAC=$((1 << 5))
NET_STATUS=$((1 << 16))
NET_CTRL_VQ=$((1 << 17))
NET_CTRL_RX=$((1 << 18))
RING_PACKED=$((1 << 34))
# What no device can be without: VERSION_1, ACCESS_PLATFORM.
LEAST=$((1 << 32 | 1 << 33))

# ---- devices, alone and in pairs -----------------------------------------

# one_vf: VF 0, bound to the driver under test; A is its address.
one_vf() {
	ready_vfs 1
	A=$(vf 0)
}

# pair FIRST: VFs FIRST and FIRST+1, which are neighbours, bound to the driver
# under test; A and B are their addresses.
pair() {
	make_vfs 4 || die "making 4 VFs"
	A=$(vf "$1")
	B=$(vf "$(($1 + 1))")
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 5)"
	bind_driver "$B" || die "binding $B" "$(dmesg | tail -n 5)"
}

# add_pair [ATTRIBUTE VALUE]...: vdpa devices a and b on A and B
add_pair() {
	vdpa_add "$A" a "$@" || die "adding a on $A $*" "$(dmesg | tail -n 5)"
	vdpa_add "$B" b "$@" || die "adding b on $B $*" "$(dmesg | tail -n 5)"
}

# vhost_pair FIRST [ATTRIBUTE VALUE]...: with vhost_vdpa; NODE_A and NODE_B are
# the character devices.
vhost_pair() {
	modprobe vhost_vdpa || die "loading vhost_vdpa"
	pair "$1"
	shift
	add_pair "$@"
	to_vhost
}

to_vhost() {
	{ bus vhost a && bus vhost b; } || die "giving a and b to vhost_vdpa"
	wait_for "$SOON" vhost_node a
	wait_for "$SOON" vhost_node b
	NODE_A=$(vhost_node a)
	NODE_B=$(vhost_node b)
}

# virtio_pair FIRST [ATTRIBUTE VALUE]...: with virtio_vdpa
virtio_pair() {
	pair "$1"
	shift
	add_pair "$@"
	to_virtio
}

to_virtio() {
	{ bus virtio a && bus virtio b; } || die "giving a and b to virtio_vdpa"
	wait_for "$SOON" netdev "$A" || die "no network interface appears below $A"
	wait_for "$SOON" netdev "$B" || die "no network interface appears below $B"
}

# neighbours FIRST: a and b on VFs FIRST and FIRST+1, a with vhost_vdpa as NODE_A, b with virtio_vdpa in the container
# right
neighbours() {
	modprobe vhost_vdpa
	modprobe virtio_vdpa
	pair "$1"
	add_pair
	bus vhost a || die "giving a to vhost_vdpa"
	bus virtio b || die "giving b to virtio_vdpa"
	wait_for "$SOON" vhost_node a || die "a has no character device"
	wait_for "$SOON" netdev "$B" || die "b has no interface"
	NODE_A=$(vhost_node a)
	RIGHT_DEV=$(netdev "$B")
	ns_with right "$RIGHT_DEV" "$RIGHT/24" || die "moving $RIGHT_DEV into a container"
}

# entropy_function [slow]: BDF of one that is neither network nor disk, with MSI-X
entropy_function() {
	local dev found=()
	for dev in "$PCI"/*; do
		[ "$(cat "$dev/vendor"):$(cat "$dev/device")" = 0x1af4:0x1044 ] || continue
		[ -z "$(lspci -vv -s "${dev##*/}" | sed -n '/MSI-X/p')" ] || found+=("${dev##*/}")
	done
	# The slow one is behind the other.
	[ "${#found[@]}" -eq 2 ] && echo "${found[${1:+1}]}"
}

# hex NUMBER: the only way the vdpa tool reads features
hex() {
	printf '0x%x' "$1"
}

# mgmtdev BDF FIELD: what `vdpa mgmtdev show` says, as JSON
mgmtdev() {
	vdpa -j mgmtdev show "pci/$1" | jq -c ".mgmtdev.\"pci/$1\".$2"
}

# config NAME [FIELD]: what `vdpa dev config show` says, as JSON
config() {
	vdpa -j dev config show "$1" | jq -c ".config.\"$1\"${2:+.$2}"
}

# info NODE FIELD: what the device tells its owner
info() {
	"$CLIENT" info "$1" | sed -n '/^{/p' | jq -c ".$2"
}

# counted BDF COUNTER [QUEUE]: what the state file says of it, or of the first queue; 0 if nothing
counted() {
	local count
	count=$(grep "^vq ${3:-0}: " "$DEBUG/vf_vdpa-$1/state" | sed -n "s/.*, \([0-9]*\) $2.*/\1/p")
	echo "${count:-0}"
}

vdpa_features() { # vdpa_features BDF: the features that a device on it can have, as a number
	modprobe vhost_vdpa
	vdpa_add "$1" probe
	bus vhost probe
	wait_for "$SOON" vhost_node probe
	info "$(vhost_node probe)" features
	vdpa dev del probe
}

# all_features BDF FEATURES: those, and all others that a device on it can have too
all_features() {
	local all=$2 bit
	for bit in {0..63}; do
		((all >> bit & 1)) && continue
		if vdpa_add "$1" probe device_features "$(hex $((all | 1 << bit)))" 2>/dev/null; then
			all=$((all | 1 << bit))
			vdpa dev del probe
		fi
	done
	echo "$all"
}

# packed_pair: VFs 2 and 3 with vhost_vdpa and packed rings, which no device has
# unless it is asked for.
packed_pair() {
	local all
	modprobe vhost_vdpa || die "loading vhost_vdpa"
	pair 2
	all=$(vdpa_features "$A")
	add_pair device_features "$(hex $((all | RING_PACKED)))"
	to_vhost
}

# ---- containers ----------------------------------------------------------

LEFT=10.9.0.1
RIGHT=10.9.0.2

# containers: the interfaces below A and B in the name spaces left and right
containers() {
	LEFT_DEV=$(netdev "$A")
	RIGHT_DEV=$(netdev "$B")
	ns_with left "$LEFT_DEV" "$LEFT/24" || die "moving $LEFT_DEV into a container"
	ns_with right "$RIGHT_DEV" "$RIGHT/24" || die "moving $RIGHT_DEV into a container"
}

no_containers() {
	ip netns del left 2>/dev/null
	ip netns del right 2>/dev/null
	return 0
}

# they_ping: the two containers reach each other
they_ping() {
	pings left "$RIGHT"
	pings right "$LEFT"
}

pings() { # pings NS ADDRESS: one echo may get lost, as on any wire
	local output
	output=$(in_ns "$1" ping -q -c 4 -i 0.2 -W 10 "$2" 2>&1)
	match "$output" "*4 packets transmitted, [34] received*" "$1 reaches $2: $output"
}

# emulator_answers: the device a is the hot or the single function, behind which
# nobody is but the emulator itself, who answers at 10.0.2.2
emulator_answers() {
	bus virtio a || die "giving a to virtio_vdpa"
	wait_for "$SOON" netdev "$A" || die "no network interface appears below $A"
	LEFT_DEV=$(netdev "$A")
	ns_with left "$LEFT_DEV" 10.0.2.15/24 || die "moving $LEFT_DEV into a container"
	run_ok in_ns left ping -q -c 3 -i 0.3 -W 10 10.0.2.2
}

# flood NS ADDRESS: pings as fast as it goes, until it is killed; $! is the process
# itself, and not a shell that has started it. It returns when frames go out.
flood() {
	local before
	before=$(sent "$1")
	ip netns exec "$1" ping -q -f "$2" >/dev/null 2>&1 &
	wait_for "$SOON" has_sent "$1" $((before + 20)) || die "$1 sends to $2: it has sent $(sent "$1") frames, $before before"
}

sent() { # sent NS: frames that its interface has sent
	ip -n "$1" -s -j link show | jq '[.[] | select(.ifname != "lo").stats64.tx.packets] | add'
}

has_sent() { # has_sent NS FRAMES
	[ "$(sent "$1")" -ge "$2" ]
}

# streams_end NS: iperf3 waits there for streams
streams_end() {
	in_ns "$1" iperf3 -s -D -I /tmp/iperf3.pid
	run_ok wait_for "$SOON" test -s /tmp/iperf3.pid
}

# stream [OPTION...]: TCP from left to right, where streams end
stream() {
	in_ns left iperf3 -J -c "$RIGHT" -t 4 --connect-timeout 20000 "$@" >/tmp/iperf3.json
	local bytes field=sum_received
	# Both ways at once: the slower one counts.
	[ "$*" != --bidir ] || field="[.end.sum_received, .end.sum_received_bidir_reverse] | min_by(.bytes)"
	bytes=$(jq "[${field/#sum/.end.sum}] | .[0].bytes // 0" /tmp/iperf3.json)
	if [ "${bytes:-0}" -gt 1000000 ]; then
		ok "TCP passes ${*:-forward}: $bytes bytes"
	else
		fail "TCP passes ${*:-forward}" "$(jq -c '.error // .end' /tmp/iperf3.json | head -c 600)"
	fi
}

# flr: the administrator resets A, of which the kernel tells the driver
flr() {
	echo 1 >"$PCI/$A/reset"
}

# they_transfer: frames flow between a and b through vhost-vdpa
they_transfer() {
	to_vhost
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 200
}

# network_still_configurable: nobody waits forever with the lock of all network
# configuration, in particular not for the answer of a control queue that is dead
network_still_configurable() {
	ip -n left link set "$LEFT_DEV" promisc on 2>/dev/null
	sleep 1
	run_ok timeout 20 ip link set lo up
}

# ---- processes in the background -----------------------------------------

# client ARGUMENT...: its result lines are the case's own
client() {
	local status=0
	"$CLIENT" "$@" || status=$?
	# A failure has been printed; being killed has not.
	[ "$status" -le 1 ] || fail "vhost-client $*" "status: $status"
	[ "$status" -eq 0 ] || FAILURES=$((FAILURES + 1))
}

# client_until LINE LOG ARGUMENT...: starts the client and waits for a line;
# CLIENT_PID is its process.
client_until() {
	local line=$1 log=$2
	shift 2
	: >"$log"
	"$CLIENT" "$@" >"$log" 2>&1 &
	# shellcheck disable=SC2034 # for the caller
	CLIENT_PID=$!
	wait_for "$LATER" grep -q "$line" "$log" || die "the client says \"$line\"" "$(tail "$log")"
}

LEAKS=/sys/kernel/debug/kmemleak

# nothing_is_lost: somebody still knows of whatever was allocated, as far as the kernel can see
nothing_is_lost() {
	# What is new is only told after a second look.
	for _ in 1 2; do
		sleep 6
		echo scan >"$LEAKS" || fail "the kernel looks for lost memory"
	done
	eq "$(grep -c unreferenced "$LEAKS")" 0 "no memory is lost: $(head -n 40 "$LEAKS")"
}

vmstat() { # vmstat COUNTER
	# What each processor has counted by itself is added up first.
	echo 1 >/proc/sys/vm/stat_refresh
	sed -n "s/^$1 //p" /proc/vmstat
}

# pinned_pages: of processes
pinned_pages() {
	echo $(($(vmstat nr_foll_pin_acquired) - $(vmstat nr_foll_pin_released)))
}

# client_kill: ends the client that client_until started, in the hard way
client_kill() {
	kill -KILL "$CLIENT_PID" 2>/dev/null
	wait "$CLIENT_PID" 2>/dev/null
	return 0
}

ended() { # ended PID
	! kill -0 "$1" 2>/dev/null
}

# ends_well PID DESCRIPTION [LOG]: a process ends soon, and without an error
ends_well() {
	local status=0
	wait_for "$LATER" ended "$1" || {
		fail "$2" "still running after $LATER s: $(cat "/proc/$1/stack" 2>/dev/null)"
		return 1
	}
	wait "$1" || status=$?
	if [ "$status" -eq 0 ]; then
		ok "$2"
	else
		fail "$2" "status: $status" "${3:+$(tail -n 5 "$3")}"
	fi
}

# ---- measurements --------------------------------------------------------

# Rounds of a measurement.
ROUNDS=5

# measured WHAT FIGURE...: what one round has given, for the comparison at the end
measured() {
	echo "$*" >>/tmp/measured
}

# proportions NAME... OVER/UNDER...: in what proportion the figures of OVER are to those
# of UNDER in the same round. The middle one of the rounds, which middle_is judges, and in
# brackets the others.
proportions() {
	python3 - "$@" <<-'PYTHON'
		import sys
		from collections import defaultdict
		from math import comb
		def bound(count):  # where the true middle is below, by chance, in one of 40 runs
		    tail = 0
		    for last in range(count):
		        tail += comb(count, last) / 2**count
		        if tail > 0.025:
		            break
		    return count - last if last else count - 1
		rounds = defaultdict(list)
		for line in open("/tmp/measured"):
		    what, *figures = line.split()
		    rounds[what].append([float(figure) for figure in figures])
		names = [word for word in sys.argv[1:] if "/" not in word]
		middles = open("/tmp/middles", "w")
		for pair in (word.split("/") for word in sys.argv[1:] if "/" in word):
		    over, under = (rounds[what] for what in pair)
		    if not over or len(over) != len(under):
		        sys.exit(f"{pair}: {len(over)} and {len(under)} rounds")
		    told = []
		    for column, name in enumerate(names):
		        ratios = sorted(a[column] / b[column] for a, b in zip(over, under) if b[column])
		        if ratios:
		            middle = ratios[len(ratios) // 2]
		            if column == 0:
		                most = ratios[bound(len(ratios))]
		                print("/".join(pair), f"{middle:.4f} {most:.4f}", file=middles)
		            told.append(f"{name} {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
		        else:
		            told.append(f"{name}: none to compare with")
		    print(f"# {pair[0]}, in proportion to {pair[1]}: {', '.join(told)}")
	PYTHON
}

# middle_is OVER/UNDER LEAST: of the first figure, the middle one of these proportions is at least LEAST
middle_is() {
	is_at_least "$1" 2 "$2" "the middle round of $1"
}

# middle_may_be OVER/UNDER LEAST: the first figure of so many rounds does not show that the true
# proportion is less: that of the same thing, measured twice, is below its middle in half of all runs
middle_may_be() {
	is_at_least "$1" 3 "$2" "by chance, the true middle of $1"
}

is_at_least() { # is_at_least OVER/UNDER COLUMN LEAST WHAT: of what proportions has found
	local figure
	figure=$(awk -v pair="$1" -v column="$2" '$1 == pair { print $column }' /tmp/middles)
	[ -n "$figure" ] || die "$4" "no figures"
	if awk -v is="$figure" -v least="$3" 'BEGIN { exit !(is >= least) }'; then
		ok "$4 is $figure, at least $3"
	else
		fail "$4 is at least $3" "it is $figure"
	fi
}

# ---- the kernel's log ----------------------------------------------------

log_mark() {
	LOG_MARK="case mark $$.$RANDOM$RANDOM"
	echo "$LOG_MARK" >/dev/kmsg
}

log_since() {
	dmesg | sed "1,/$LOG_MARK/d"
}

# Faults from now on are in the log: the kernel counts what it would say of faults, also the
# lines that it leaves out, and after the tenth is silent until 5 s after the first.
faults_are_logged() {
	sleep 6
}

# faulted BDF [ADDRESS]...: since the mark the IOMMU has stopped the function, in the
# page of one of the addresses
faulted() {
	local lines found where address pages=()
	lines=$(log_since | grep -F 'DMAR: [DMA' | grep -F "[$1]")
	shift
	for address; do
		pages+=(-e " fault addr $(hex $((address & ~4095))) ")
	done
	[ $# -gt 0 ] || pages=(-e " fault addr ")
	where=${*:+ at one of $*}
	found=$(grep -F "${pages[@]}" <<<"$lines" | tail -n 1)
	match "$found" "?*" "the IOMMU has stopped it$where: ${found:-${lines:-no fault}}"
}

# one_line WORD...: since the mark the driver has logged one line, with all words
one_line() {
	local lines
	lines=$(log_since | grep -F "$(pci_driver_name) ")
	eq "$(printf '%s' "$lines" | grep -c '')" 1 "there is one log line: ${lines:-none}"
	local word
	for word; do
		match "$lines" "*$word*" "the line says $word"
	done
}
