# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What `vdpa dev add` is told of a device, besides its name: the attributes.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# device_features: a subset is what the device then has, and what its consumer may use.
case_device_features_are_a_subset() {
	vhost_pair 0 device_features "$(hex $((LEAST | NET_MAC)))"
	eq "$(info "$NODE_A" feature_bits)" "[5,32,33]" "the device has what was asked for"
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 50
}

# Unprovisioned features are refused when a consumer asks for them (vp_vdpa lets them pass).
# limit: 120
case_device_features_bind_the_consumer() {
	vhost_pair 0 device_features "$(hex $LEAST)"
	client abuse "$NODE_A" --peer "$NODE_B" --only features
}

# Features that the function or no device can have: EINVAL, and one line that names them.
case_wrong_features_are_named() {
	one_vf
	log_mark
	run_fails "Invalid argument" vdpa_add "$A" d0 device_features "$(hex $((LEAST | 1 << 38 | 1 << 45)))"
	run_ok test ! -e "$VDPA/devices/d0"
	one_line "$A" NOTIFICATION_DATA
	match "$(log_since)" '*bit45*' "the unknown bit is named by its number"
	log_mark
	run_fails "Invalid argument" vdpa_add "$A" d0 device_features "$(hex $NET_MAC)"
	one_line "$A" VERSION_1 ACCESS_PLATFORM
	# What no device may offer: a feature without the one that it requires.
	log_mark
	run_fails "Invalid argument" vdpa_add "$A" d0 device_features "$(hex $((LEAST | NET_MAC | NET_CTRL_RX)))"
	one_line "$A" "lack CTRL_VQ (required by CTRL_RX)"
	run_ok test ! -e "$VDPA/devices/d0"
	run_ok vdpa_add "$A" d0
}

# mtu: shown by the device instead of the function's own.
case_mtu_is_shown() {
	one_vf
	run_ok vdpa_add "$A" d0
	eq "$(config d0 mtu)" 9000 "without the attribute it is the function's"
	run_ok vdpa dev del d0
	local mtu
	for mtu in 9000 1400 68; do
		run_ok vdpa_add "$A" d0 mtu $mtu
		eq "$(config d0 mtu)" $mtu "the configuration shows an MTU of $mtu"
		run_ok vdpa dev del d0
	done
	log_mark
	run_fails "Invalid argument" vdpa_add "$A" d0 mtu 9001
	one_line "$A" 9000
	# The function's own configuration is not changed by all this.
	run_ok vdpa_add "$A" d0
	eq "$(config d0 mtu)" 9000 "afterwards it is the function's again"
}

# mtu of a function that has no such feature: refused with a reason.
case_mtu_needs_its_feature() {
	make_vfs 4
	A=$(vf 2)
	bind_driver "$A"
	log_mark
	run_fails "not supported" vdpa_add "$A" d0 mtu 1400
	one_line "$A" MTU
	run_ok vdpa_add "$A" d0
}

# max_vqp: shown by the device, within what the function has.
case_max_vqp_is_shown() {
	has_taps || skip "one queue pair: taps are not allowed here"
	make_vfs 4
	A=$(vf 2)
	bind_driver "$A"
	[ "$(mgmtdev "$A" max_supported_vqs)" -gt 3 ] || skip "one queue pair: the driver sees no more"
	local vqp
	for vqp in 1 2 3 4; do
		run_ok vdpa_add "$A" d0 max_vqp $vqp
		eq "$(config d0 max_vq_pairs)" $vqp "the configuration shows $vqp pairs"
		eq "$(vdpa -j dev show d0 | jq .dev.d0.max_vqs)" $((2 * vqp + 1)) "$vqp pairs have their queues"
		run_ok vdpa dev del d0
	done
	log_mark
	run_fails "Invalid argument" vdpa_add "$A" d0 max_vqp 5
	one_line "$A" "4 queue pairs"
	run_fails "Invalid argument" vdpa_add "$A" d0 max_vqp 65535
	run_ok vdpa_add "$A" d0
	eq "$(config d0 max_vq_pairs)" 4 "without the attribute it is the function's"
}
