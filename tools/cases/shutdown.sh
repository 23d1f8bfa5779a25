# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine goes down while a device is in use: the driver stops it, so that
# it does not write to the memory of what is booted next.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# goes_down: ends the case together with the machine
goes_down() {
	echo "1..$RESULTS"
	[ "$FAILURES" -eq 0 ] || exit 1
	sync
	# reboot(2), which goes through the drivers.
	python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x1234567)'
}

# drivers: vf_vdpa
# limit: 180
# ends: vf_vdpa 0000:01:00.1: stopped, the machine goes down
# ends: reboot: Restarting system
case_under_vhost_traffic() {
	vhost_pair 0
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 300
	ok "traffic flows"
	goes_down
}

# drivers: vf_vdpa
# limit: 180
# ends: vf_vdpa 0000:01:00.1: stopped, the machine goes down
# ends: reboot: Restarting system
case_under_virtio_traffic() {
	virtio_pair 0
	containers
	they_ping
	flood left "$RIGHT"
	flood right "$LEFT"
	goes_down
}
