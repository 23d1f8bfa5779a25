# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# DPDK: its driver net_virtio_user on a device of vhost-vdpa.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

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
