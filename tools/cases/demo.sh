# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The demonstration: `make demo` shows each command and what it really printed.
# It is no case; the lab runs `demo` after loading lib.sh.

# shellcheck source=tools/cases/migration.sh
. "$LAB/cases/migration.sh"

STEP=0

say() { # say TEXT: what comes next, and why
	STEP=$((STEP + 1))
	printf '\n== %d. %s\n' "$STEP" "$1"
}

show() { # show COMMAND: shown as typed, run, its output shown
	printf '$ %s\n' "$1"
	eval "$1" 2>&1 || {
		printf 'demo: that command failed with status %s\n' $?
		exit 1
	}
}

# What is to be known of a demonstration that failed.
confess() {
	local status=$? state
	[ $status != 0 ] || return 0
	for state in "$DEBUG"/vf_vdpa-*/state; do
		[ -e "$state" ] || continue
		echo "demo: $state"
		grep -E '^(phase|status|vq [0-9]+: ready)' "$state"
	done
	[ ! -e /tmp/here.pid ] ||
		guest_run here 60 "cat /proc/interrupts; cat /proc/net/dev; ip neigh show; dmesg | tail -n 5"
	ip -n host neigh show 2>/dev/null
	dmesg | tail -n 5
}

# Waits for the guest and shows that time passes: it may run under two layers of
# emulation.
watch_guest_boot() {
	local waited=0
	until guest_wait "$1" 15; do
		waited=$((waited + 15))
		[ -e "/proc/$(cat "/tmp/$1.pid")" ] && [ "$waited" -lt 600 ] || {
			cat "/tmp/$1.err" "/tmp/$1.log"
			echo "demo: the guest did not boot"
			exit 1
		}
		echo "  (the guest boots: $waited s)"
	done
}

hand_over() { # hand_over VF: from no driver to vf_vdpa
	show "echo vf_vdpa >$PCI/$(vf "$1")/driver_override; echo $(vf "$1") >/sys/bus/pci/drivers_probe"
}

to_bus() { # to_bus NAME DRIVER: which consumer gets the vdpa device
	show "echo $2 >$VDPA/devices/$1/driver_override; echo $1 >$VDPA/drivers/$2/bind"
}

container() { # container NAME NETDEV ADDRESS
	show "ip netns add $1; ip link set $2 netns $1; ip -n $1 address add $3 dev $2; ip -n $1 link set $2 up"
}

moves_while_it_talks() {
	say "The virtual machine stops, goes on, and moves to VF 2, while it is pinged"
	part stop-and-move
	ip netns exec host ping -D -i 0.2 "$LEFT" >>/tmp/ping.log 2>&1 &
	local pinger=$!
	sleep 1
	echo "(QMP) stop, cont"
	{ qmp here stop && qmp here cont; } >/dev/null || exit 1
	sleep 2
	echo "\$ qemu-system-x86_64 … vhostdev=$(vhost_node net2) … -incoming unix:/tmp/way &"
	run_qemu there "$(vhost_node net2)" -incoming unix:/tmp/way
	wait_for 60 test -S /tmp/way || die "QEMU waits for the guest" "$(cat /tmp/there.err)"
	echo '(QMP) migrate {"uri": "unix:/tmp/way"}'
	qmp here migrate '{"uri": "unix:/tmp/way"}' >/dev/null || exit 1
	wait_for 120 ended_migrating here
	qmp here query-migrate | jq -cM '{status, downtime, "total-time"}'
	wait_for 60 runs there || die "the guest runs on VF 2" "$(cat /tmp/there.err)"
	sleep 3
	kill -INT "$pinger"
	wait "$pinger"
	grep transmitted /tmp/ping.log
	echo "the longest time without an answer: $(longest_gaps)"
	show "grep 'vq [01]:' $DEBUG/vf_vdpa-$(vf 2)/state"
}

demo() {
	trap 'confess; clean_up >/dev/null' EXIT
	local pf n
	pf=$(pf)

	say "A stock kernel, and a virtio network card that has virtual functions"
	show "uname -r"
	show "lspci -s $pf"
	show "echo 0 >$PCI/$pf/sriov_drivers_autoprobe"
	wait_for 30 pf_is_ready "$pf"
	show "echo 4 >$PCI/$pf/sriov_numvfs"
	show "lspci -s ${pf%.0}"

	say "The driver takes the VFs: hardware keeps the data path, vf_vdpa owns the control path"
	show "modprobe -a vdpa virtio_vdpa vhost_vdpa"
	show "insmod $LAB/modules/vf_vdpa.ko"
	for n in 0 1 2 3; do
		hand_over "$n"
	done
	show "vdpa mgmtdev show"

	say "One vdpa device on each VF"
	for n in 0 1; do
		show "vdpa dev add name net$n mgmtdev pci/$(vf "$n")"
	done
	if has_taps; then
		# Where a guest can be, with the same address.
		show "vdpa dev add name net2 mgmtdev pci/$(vf 2) mac $MAC max_vqp 1"
	else
		show "vdpa dev add name net2 mgmtdev pci/$(vf 2)"
	fi
	show "vdpa dev add name net3 mgmtdev pci/$(vf 3) mac $MAC max_vqp 1"
	show "vdpa dev show"
	show "vdpa dev config show net0"

	say "Two containers: network name spaces on VF 0 and VF 1, through virtio-vdpa"
	for n in 0 1; do
		[ ! -e "$VDPA/devices/net$n/driver" ] || echo "net$n" >"$VDPA/devices/net$n/driver/unbind"
		to_bus "net$n" virtio_vdpa
		wait_for 30 netdev "$(vf "$n")"
		container "box$n" "$(netdev "$(vf "$n")")" "10.0.1.$((n + 1))/24"
	done
	show "ip netns exec box0 ping -c 3 -i 0.5 -W 10 10.0.1.2"
	show "ip netns exec box1 iperf3 --server --one-off --daemon --pidfile /tmp/iperf3.pid"
	wait_for 30 test -s /tmp/iperf3.pid || die "iperf3 did not start"
	show "ip netns exec box0 iperf3 --client 10.0.1.2 --time 3 --interval 0 --format m"

	say "A virtual machine on VF 3 through vhost-vdpa"
	for n in 2 3; do
		[ ! -e "$VDPA/devices/net$n/driver" ] || echo "net$n" >"$VDPA/devices/net$n/driver/unbind"
	done
	to_bus net3 vhost_vdpa
	wait_for 30 vhost_node net3
	if has_taps; then
		to_bus net2 vhost_vdpa
		wait_for 30 vhost_node net2
		echo "(its neighbour is the physical function, in a container)"
		container host "$(netdev "$pf")" "$RIGHT/24"
	else
		to_bus net2 virtio_vdpa
		wait_for 30 netdev "$(vf 2)"
		echo "(its neighbour is VF 2, in a container; it moves nowhere, as taps are not allowed here)"
		container host "$(netdev "$(vf 2)")" "$RIGHT/24"
	fi
	show "ls -l $(vhost_node net3)"
	echo "\$ qemu-system-x86_64 … -netdev vhost-vdpa,id=net,vhostdev=$(vhost_node net3) -device virtio-net-pci,netdev=net,mac=$MAC &"
	run_qemu here "$(vhost_node net3)"
	watch_guest_boot here
	echo "guest# ip address show eth0"
	guest_run here 120 "ip address show eth0" || exit 1
	show "ip netns exec host ping -c 3 -i 0.5 -W 10 $LEFT"
	! has_taps || moves_while_it_talks

	say "What went through, as the driver counted it"
	show "vdpa dev vstats show net0 qidx 0"
	show "vdpa dev vstats show net0 qidx 1"
	show "grep -i vdpa /proc/interrupts | head -n 6"

	say "And all of it goes away again"
	guest_stop here
	guest_stop there 2>/dev/null
	for n in 0 1 2 3; do
		show "vdpa dev del net$n"
	done
	show "echo 0 >$PCI/$pf/sriov_numvfs"
	show "rmmod vf_vdpa"
	printf '\nThat was vf_vdpa. `make check` runs the tests, `make shell` gives you this machine.\n'
}
