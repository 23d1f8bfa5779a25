# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Functions that misbehave. Whatever one does: one line of the log says what is
# wrong, nothing takes longer than its bound, the other functions go on, and once it
# behaves it can be used.

# shellcheck source=tools/cases/model.sh
. "$LAB/cases/model.sh"

# Without any misbehaviour it is a function like the others.
# drivers: vf_vdpa
# limit: 300
case_model_works() {
	model
	client loopback "$NODE" --count 2000
	client loopback "$NODE" --count 1000 --event-index
	client abuse "$NODE" --loopback
	eq "$(tells refused)" 0 "the function has touched nothing that was not mapped"
	bus virtio m || die "giving m to virtio_vdpa"
	wait_for "$SOON" netdev "$M" || die "no network interface appears below $M"
	run_ok ns_with left "$(netdev "$M")" "$LEFT/24"
	ip -n left link show
	no_containers
	run_ok vdpa dev del m
}
