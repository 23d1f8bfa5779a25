# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# A virtio-blk function, which is no VF: the driver is not for network devices alone.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

disk() {
	# Nothing loads modules by itself in the machine.
	modprobe virtio_blk || die "loading virtio_blk"
	A=$(disk_function)
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 5)"
}

has_disk() {
	compgen -G "$PCI/$A/virtio*/block/*" >/dev/null
}

find_disk() {
	wait_for "$SOON" has_disk || die "a disk appears below $A"
	local dir
	for dir in "$PCI/$A"/virtio*/block/*; do
		DISK=/dev/${dir##*/}
	done
}

case_shows_the_function() {
	disk
	eq "$(mgmtdev "$A" supported_classes)" '["block"]' "the class is block"
	run_ok vdpa_add "$A" d0
	run_ok vdpa dev config show d0
	run_fails "busy" vdpa_add "$A" d1
	run_ok vdpa dev del d0
	# Attributes of network devices are not for this one.
	run_fails "Network class attributes" vdpa_add "$A" d0 mtu 1500
	run_fails "Network class attributes" vdpa_add "$A" d0 max_vqp 1
	run_ok vdpa_add "$A" d0
}

# What is written is read back, after the driver was bound again, too.
# limit: 180
case_reads_what_was_written() {
	disk
	run_ok vdpa_add "$A" d0
	bus virtio d0
	find_disk
	eq "$(blockdev --getsize64 "$DISK")" 16777216 "the disk has its size"
	dd if=/dev/urandom of=/tmp/noise bs=64k count=32 2>/dev/null
	run_ok dd if=/tmp/noise of="$DISK" bs=64k seek=17 oflag=direct conv=fsync
	run_ok dd if="$DISK" of=/tmp/back bs=64k skip=17 count=32 iflag=direct
	run_ok cmp /tmp/noise /tmp/back
	echo d0 >"$VDPA/drivers/virtio_vdpa/unbind"
	bus virtio d0
	find_disk
	run_ok dd if="$DISK" of=/tmp/again bs=64k skip=17 count=32 iflag=direct
	run_ok cmp /tmp/noise /tmp/again
	# Sizes that are no multiple of a page, and many requests at once.
	run_ok dd if="$DISK" of=/dev/null bs=512 count=200 iflag=direct
	local n pids=()
	for n in 0 1 2 3; do
		dd if="$DISK" of=/dev/null bs=128k count=64 skip=$((n * 16)) iflag=direct 2>/dev/null &
		pids+=($!)
	done
	local pid
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "a reader fails" "status: $?"
	done
}

# Deleted while it is read.
# limit: 120
case_deleted_under_load() {
	disk
	run_ok vdpa_add "$A" d0
	bus virtio d0
	find_disk
	(while dd if="$DISK" of=/dev/null bs=128k iflag=direct 2>/dev/null; do :; done) &
	local reader=$!
	sleep 1
	run_ok vdpa dev del d0
	wait $reader 2>/dev/null
	run_ok vdpa_add "$A" d0
	bus virtio d0
	find_disk
	run_ok dd if="$DISK" of=/dev/null bs=128k count=8 iflag=direct
}

# The owner through vhost-vdpa is as hostile as for a network device.
# limit: 240
case_vhost_abuse() {
	disk
	modprobe vhost_vdpa
	run_ok vdpa_add "$A" d0
	bus vhost d0
	eq "$(info "$(vhost_node d0)" device_id)" 2 "a program sees a block device"
	local group
	for group in status addresses indices config table order; do
		client abuse "$(vhost_node d0)" --only $group
	done
	# And the next owner finds a disk that works.
	bus virtio d0
	find_disk
	run_ok dd if="$DISK" of=/dev/null bs=128k count=8 iflag=direct
}
