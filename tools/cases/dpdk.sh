# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# DPDK: its driver net_virtio_user on a device of vhost-vdpa, in testpmd and in Open vSwitch.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"
# shellcheck source=tools/cases/traffic.sh
. "$LAB/cases/traffic.sh"

# Queues of the device, as short as the emulated processor is slow.
PORT=queue_size=256
# No function of the host's is DPDK's own; instructions that are slow to emulate are not used.
EAL=(--no-pci --iova-mode=va --force-max-simd-bitwidth=128)

# huge_pages COUNT: of 2 MiB each
huge_pages() {
	echo "$1" >/proc/sys/vm/nr_hugepages
	eq "$(cat /proc/sys/vm/nr_hugepages)" "$1" "there are huge pages"
}

# testpmd MODE [OPTION...]: forwards on NODE_A in the background, until it is killed; TESTPMD is its process
testpmd() {
	: >/tmp/testpmd.log
	dpdk-testpmd -l 0,1 --in-memory --no-telemetry -m 128 "${EAL[@]}" --vdev="net_virtio_user0,path=$NODE_A,$PORT" -- \
		--forward-mode="$1" --rxd=256 --txd=256 --total-num-mbufs=4096 --stats-period=1 "${@:2}" \
		</dev/null >>/tmp/testpmd.log 2>&1 &
	TESTPMD=$!
	wait_for "$LATER" testpmd_forwards || die "testpmd forwards" "$(tail -n 20 /tmp/testpmd.log)"
}

# It says so each second, which reaches the file some seconds later.
testpmd_forwards() {
	grep -q "Port statistics" /tmp/testpmd.log
}

# testpmd_ends: as its user ends it
testpmd_ends() {
	kill -INT "$TESTPMD"
	ends_well "$TESTPMD" "testpmd ends" /tmp/testpmd.log
}

# limit: 300
# needs: consumers
# boot: hugepages=192
case_ping_is_answered() {
	local pinned
	neighbours 0
	huge_pages 192
	pinned=$(pinned_pages)
	testpmd icmpecho
	# It answers whatever address is asked for.
	pings right "$LEFT"
	testpmd_ends
	eq "$(pinned_pages)" "$pinned" "no page stays pinned"

	testpmd icmpecho
	pings right "$LEFT"
	kill -KILL "$TESTPMD"
	wait "$TESTPMD" 2>/dev/null
	eq "$(pinned_pages)" "$pinned" "no page stays pinned after it was killed"
	testpmd icmpecho
	pings right "$LEFT"
	testpmd_ends
	# Whoever comes next finds a device that is as new.
	to_virtio
	no_containers
	containers
	they_ping
}

# frames_a_second Rx|Tx: what testpmd says of the seconds behind the first ones, the middle one of five
frames_a_second() {
	has_said() {
		[ "$(grep -c "$1-pps" /tmp/testpmd.log)" -ge 8 ]
	}
	wait_for "$LATER" has_said "$1" || die "testpmd counts" "$(tail -n 20 /tmp/testpmd.log)"
	sed -n "s/^ *$1-pps: *\([0-9]*\) .*/\1/p" /tmp/testpmd.log | sed -n 4,8p | sort -n | sed -n 3p
}

# arrived: at the neighbour
arrived() {
	ip -n right -s -j link show dev "$RIGHT_DEV" | jq '.[0].stats64.rx.packets'
}

# What DPDK sends, and takes from a neighbour that sends as fast as the kernel's driver can, from testpmd's own figures.
# limit: 600
# needs: consumers time
# boot: hugepages=192
case_packets_a_second() {
	local before figure
	neighbours 0
	neighbour
	huge_pages 192
	for _ in $(seq $ROUNDS); do
		before=$(arrived)
		testpmd txonly --eth-peer="0,$STATION"
		figure=$(frames_a_second Tx)
		run_ok test "$(arrived)" -gt $((before + figure))
		testpmd_ends
		measured sent "$figure"

		floods_with 0 "$LEFT" "$(config a mac | jq -r .)"
		testpmd rxonly
		in_ns right sh -c "echo start >/proc/net/pktgen/pgctrl" &
		figure=$(frames_a_second Rx)
		in_ns right sh -c "echo stop >/proc/net/pktgen/pgctrl"
		wait $!
		testpmd_ends
		run_ok test "$figure" -gt 0
		measured received "$figure"
	done
	sed 's/$/ frames a second/; s/^/# /' /tmp/measured
	proportions "frames a second" sent/received || die "each round has all figures"
}

# vswitch MEGABYTES: Open vSwitch with so much memory to begin with, and its bridge br0; VSWITCHD is its process
vswitch() {
	# What its packages' scripts would do
	ln -sf ../lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk /usr/sbin/ovs-vswitchd
	export OVS_RUNDIR=/tmp/ovs
	mkdir /tmp/ovs
	modprobe tun
	ovsdb-tool create /tmp/conf.db /usr/share/openvswitch/vswitch.ovsschema || die "the switch's database"
	ovsdb-server /tmp/conf.db --remote=punix:/tmp/ovs/db.sock --pidfile --log-file=/tmp/ovsdb.log \
		</dev/null >/tmp/ovsdb.out 2>&1 &
	wait_for "$SOON" test -S /tmp/ovs/db.sock || die "the database answers" "$(cat /tmp/ovsdb.out)"
	ovs-vsctl --no-wait init
	ovs-vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true \
		other_config:dpdk-lcore-mask=0x1 other_config:pmd-cpu-mask=0x2 \
		other_config:dpdk-socket-mem="$1" other_config:dpdk-socket-limit=320 other_config:per-port-memory=true \
		other_config:pmd-sleep-max=200 "other_config:dpdk-extra=\"${EAL[*]}\""
	ovs-vswitchd --pidfile --log-file=/tmp/vswitchd.log </dev/null >/tmp/vswitchd.out 2>&1 &
	VSWITCHD=$!
	# It waits for the switch, which takes its time to start.
	run_ok wait_for "$LATER" ovs-vsctl --timeout=20 --may-exist add-br br0 -- set bridge br0 datapath_type=netdev ||
		die "the switch has a bridge" "$(tail /tmp/vswitchd.log)"
}

# port NAME NODE: of br0
port() {
	ovs-vsctl --timeout=60 add-port br0 "$1" -- set Interface "$1" type=dpdk \
		"options:dpdk-devargs=\"net_virtio_user_$1,path=$2,$PORT\"" options:n_rxq_desc=256 options:n_txq_desc=256
	# It prints what went wrong, and succeeds.
	eq "$(ovs-vsctl --timeout=10 get Interface "$1" error)" "[]" "the port $1 is there"
	match "$(ovs-vsctl --timeout=10 get Interface "$1" ofport)" "[1-9]*" "the port $1 has a number"
}

# passed NAME FIELD: frames of a port
passed() {
	ovs-vsctl --timeout=10 get Interface "$1" statistics:"$2"
}

# free_pages: huge ones
free_pages() {
	sed -n 's/^HugePages_Free: *//p' /proc/meminfo
}

# two_wires: a and c with vhost_vdpa, as NODE_A and NODE_C, for a switch; their neighbours b and d with virtio_vdpa, in
# the containers left and right. c has one pair of queues: for several, the switch transmits with more than it receives
# with, and the function sends some frames to those that nobody looks at.
two_wires() {
	local n names=(a b c d) buses=(vhost virtio vhost virtio)
	modprobe vhost_vdpa
	modprobe virtio_vdpa
	ready_vfs 4
	for n in 0 1 2 3; do
		local with=()
		[ "$n" != 2 ] || with=(max_vqp 1)
		vdpa_add "$(vf $n)" "${names[n]}" "${with[@]}" || die "adding ${names[n]}"
		bus "${buses[n]}" "${names[n]}" || die "giving ${names[n]} to ${buses[n]}_vdpa"
	done
	wait_for "$SOON" vhost_node a || die "a has no character device"
	wait_for "$SOON" vhost_node c || die "c has no character device"
	wait_for "$SOON" netdev "$(vf 1)" || die "b has no interface"
	wait_for "$SOON" netdev "$(vf 3)" || die "d has no interface"
	NODE_A=$(vhost_node a)
	NODE_C=$(vhost_node c)
	ns_with left "$(netdev "$(vf 1)")" "$LEFT/24"
	ns_with right "$(netdev "$(vf 3)")" "$RIGHT/24"
}

# limit: 300
# needs: consumers
# boot: hugepages=192
case_ovs_forwards() {
	local pinned
	two_wires
	huge_pages 192
	pinned=$(pinned_pages)
	vswitch 320
	port p0 "$NODE_A"
	port p1 "$NODE_C"
	they_ping
	streams_end right
	stream
	match "$(passed p0 rx_packets) $(passed p1 tx_packets)" "[1-9]* [1-9]*" "both ports have passed frames"
	match "$(ovs-appctl dpctl/dump-flows)" "*in_port*" "the switch has flows"
	# A port goes, and its device with it, and comes back.
	ovs-vsctl --timeout=30 del-port br0 p0
	run_ok "$CLIENT" info "$NODE_A"
	port p0 "$NODE_A"
	they_ping
	ovs-appctl -t ovs-vswitchd exit
	ends_well "$VSWITCHD" "the switch ends" /tmp/vswitchd.log
	eq "$(pinned_pages)" "$pinned" "no page stays pinned"
}

# The second port needs memory that the switch has to get while the first one is in use: DPDK disables the queues, maps
# everything anew and enables them.
# limit: 300
# needs: consumers time
# boot: hugepages=192
case_ovs_memory_grows() {
	local before
	two_wires
	huge_pages 192
	vswitch 64
	port p0 "$NODE_A"
	before=$(free_pages)
	port p1 "$NODE_C"
	run_ok test "$(free_pages)" -lt "$before"
	they_ping
	match "$(sed -n '/^vq 0/p' "$DEBUG/vf_vdpa-$(vf 0)/state")" "vq 0: ready *" "the first port's queue goes on"
	streams_end right
	stream
}
