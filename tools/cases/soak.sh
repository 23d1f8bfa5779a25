# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Everybody at once: processes that use devices, administrators that add, remove,
# reset and unbind them, and readers of all there is to read. What each of them is
# told may well be an error; that all of it ends, and the machine works afterwards.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# Each of these is one act, chosen by the random numbers of its own process. It says by its status
# whether it was done.

look() { # at everything
	vdpa -j dev show
	vdpa -j mgmtdev show
	cat "$DEBUG"/vf_vdpa-*/state
	cat /proc/interrupts
	local dev seen=1
	for dev in a b c d; do
		vdpa -j dev config show $dev && vdpa -j dev vstats show $dev qidx $((RANDOM % 2)) && seen=0
	done
	return $seen
}

request() { # whatever a process can ask for, of one that comes and goes
	timeout $((20 * ${VF_VDPA_SLOW:-1})) "$CLIENT" fuzz "$(vhost_node a)" --seed $RANDOM --count 200
}

write() { # into rings what does not belong there
	# One round is not enough for all that the client wants to see of nonsense.
	timeout $((20 * ${VF_VDPA_SLOW:-1})) "$CLIENT" scribble "$(vhost_node b)" --seed $RANDOM --rounds 1 | grep "^ok .*the device works afterwards"
}

flow() { # frames, on the other wire, whose devices others take away
	vdpa_add "${VF[2]}" c
	vdpa_add "${VF[3]}" d
	bus vhost c && bus vhost d &&
		timeout $((20 * ${VF_VDPA_SLOW:-1})) "$CLIENT" transfer "$(vhost_node c)" "$(vhost_node d)" --count 50
}

manage() { # a device, of one of four functions
	local name=(a b c d) n=$((RANDOM % 4)) status
	case $((RANDOM % 4)) in
	0) vdpa dev del ${name[n]} ;;
	1) vdpa dev set name ${name[n]} mac 02:00:00:00:00:$((RANDOM % 90 + 10)) ;;
	*) vdpa_add "${VF[n]}" ${name[n]} ;;
	esac
	status=$?
	sleep 0.$((RANDOM % 5))
	return $status
}

disturb() { # a function, of which nobody was asked
	local A=${VF[RANDOM % 4]} status
	case $((RANDOM % 5)) in
	0) setpci -s "$A" CAP_EXP+8.w=8000:8000 ;;
	1 | 2) flr ;;
	*)
		echo "$A" >"$PCI/$A/driver/unbind"
		bind_driver "$A"
		;;
	esac
	status=$?
	sleep 1.$((RANDOM % 10))
	return $status
}

share() { # devices with the kernel's network driver, which has commands and frames for them
	local bus=(vhost virtio) n=$((RANDOM % 2)) names=(c d) dev status
	bus "${bus[RANDOM % 2]}" "${names[n]}"
	status=$?
	if dev=$(netdev "${VF[2 + n]}"); then
		ip link set "$dev" up promisc on
		ping -q -c 2 -i 0.1 -W 0.2 -I "$dev" 10.9.9.9
	fi
	sleep 0.$((RANDOM % 10))
	return $status
}

# keeps ACT SEED: does it again and again until the file `over` is there; says how often, and
# how often it was done
keeps() {
	local count=0 done=0
	RANDOM=$2
	while [ ! -e /tmp/over ]; do
		"$1" >/dev/null 2>&1 && done=$((done + 1))
		count=$((count + 1))
	done
	echo "$done of $count" >"/tmp/$1.count"
}

# at_once SEED SECONDS: all of them
at_once() {
	local act pid pids=() acts=(look request write flow manage disturb share)
	rm -f /tmp/over
	for act in "${acts[@]}"; do
		# Each has its own sequence; what they do together nobody can repeat.
		keeps "$act" $((100 * $1 + ${#pids[@]})) &
		pids+=($!)
	done
	sleep "$2"
	: >/tmp/over
	for pid in "${pids[@]}"; do
		wait_for "$LATER" ended "$pid" || {
			fail "everybody comes to an end" "still running: $(cat "/proc/$pid/stack" 2>/dev/null)" "$(ps -o pid,stat,wchan:30,args)"
			return
		}
		wait "$pid"
	done
	ok "seed $1: $(for act in "${acts[@]}"; do echo -n "$act $(cat "/tmp/$act.count") times, "; done)all came to an end"
	for act in "${acts[@]}"; do
		# Whose devices are taken away all the time, may come to nothing in a minute.
		[ "$act" != flow ] || [ "$(long_run short long)" = long ] || continue
		match "$(cat "/tmp/$act.count")" "[1-9]* of *" "$act was done now and then"
	done
}

# Devices of the kernel's network driver are reset behind its back, which it does not
# know of: its queues stand still, as it says. The IOMMU says what of the nonsense in
# the rings it has stopped.
# limit: 600
# drivers: vf_vdpa
# allow: NETDEV WATCHDOG
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
case_everything_at_once() {
	modprobe -a vhost_vdpa virtio_vdpa
	make_vfs 4 || die "making VFs"
	local n seed
	VF=()
	for n in 0 1 2 3; do
		VF+=("$(vf $n)")
		bind_driver "${VF[n]}" || die "binding ${VF[n]}"
	done
	for seed in $(seq "$(long_run 1 10)"); do
		at_once "$seed" "${VF_VDPA_SOAK:-$(long_run 60 300)}"
	done
	for n in "$VDPA"/devices/*; do
		[ ! -e "$n" ] || vdpa dev del "${n##*/}" || fail "${n##*/} can be deleted"
	done
	for n in 0 2; do
		unload || fail "$DRIVER can be removed afterwards"
		vhost_pair $n
		run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 200
		vdpa dev del a
		vdpa dev del b
	done
	# Only a kernel that looks for mistakes knows.
	[ ! -e "$LEAKS" ] || nothing_is_lost
}
