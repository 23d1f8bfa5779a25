# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# vf-vdpa, which does for an administrator what the other groups do by hand.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# no_driver N: N VFs that no driver has, with the module there: modprobe would not find it in this machine
no_driver() {
	load || die "loading $DRIVER"
	make_vfs "$1" || die "making $1 VFs"
	A=$(vf 0)
	B=$(vf 1)
}

# listed LIST FILTER: of what `vf-vdpa list --json` shows
listed() {
	vf-vdpa list --json | jq -r ".$1[] | $2"
}

# What it shows is what iproute2 and sysfs say.
# limit: 180
# drivers: vf_vdpa
case_list() {
	neighbours 0
	eq "$(listed devices '[.name, .driver, .mac] | join(" ")' | sort)" \
		"a vhost_vdpa $(config a mac | jq -r .)
b virtio_vdpa $(config b mac | jq -r .)" "names, drivers and addresses"
	eq "$(listed devices 'select(.name == "a").node')" "$NODE_A" "the character device"
	eq "$(listed functions "select(.address == \"$A\").driver")" vf_vdpa "the function's driver"
	eq "$(listed functions "select(.address == \"$A\").iommu_group")" \
		"$(basename "$(readlink "$PCI/$A/iommu_group")")" "its IOMMU group"
	eq "$(listed functions "select(.address == \"$(pf)\").kind")" pf "the physical function"
	eq "$(listed devices 'select(.name == "a").in_use') $(listed devices 'select(.name == "b").in_use')" \
		"false true" "a is not in use, b is"
	client_until "holding live" /tmp/client.log hold "$NODE_A" --live
	eq "$(listed devices 'select(.name == "a").openers[0].pid')" "$CLIENT_PID" "who has it open"
	client_kill
	match "$(vf-vdpa list)" "*$A*VF 0 net*vf_vdpa* a *vhost*$NODE_A*" "people read it, too"
}

# limit: 240
# drivers: vf_vdpa
case_up_and_down() {
	no_driver 2
	run_ok vf-vdpa up "pci/$A" --name c0 --bus virtio
	run_ok wait_for "$SOON" netdev "$A"
	match "$(vf-vdpa up "pci/$A" --name c0 --bus virtio)" "*nothing to do*" "once it is done there is nothing to do"

	run_fails "is not between 1 and" vf-vdpa up "pci/$B" --name g0 --bus vhost --max-vqp 9
	run_ok test ! -e "$PCI/$B/driver"
	run_ok test ! -e "$VDPA/devices/g0"
	run_ok vf-vdpa up "pci/$B" --name g0 --bus vhost --mac 02:00:00:00:00:05
	eq "$(config g0 mac | jq -r .)" 02:00:00:00:00:05 "the address is the one that was asked for"
	run_ok wait_for "$SOON" vhost_node g0

	client_until "holding live" /tmp/client.log hold "$(vhost_node g0)" --live
	run_fails "$CLIENT_PID" vf-vdpa down g0
	run_ok test -e "$VDPA/devices/g0"
	client_kill
	run_ok vf-vdpa down g0
	run_ok test ! -e "$PCI/$B/driver"
	run_ok vf-vdpa down c0 --give-back
	eq "$(vdpa -j dev show)" '{"dev":{}}' "no device is left"
}

# wanted BUS: the file of two devices
wanted() {
	cat >/tmp/vf-vdpa.toml <<-TOML
		[[pf]]
		address = "$(pf)"
		vfs = 2

		[[pf.vf]]
		index = 0
		name = "c0"
		bus = "virtio"

		[[pf.vf]]
		index = 1
		name = "g0"
		bus = "$1"
		mac = "02:00:00:00:00:05"
	TOML
}

# limit: 240
# drivers: vf_vdpa
case_apply() {
	local before
	load || die "loading $DRIVER"
	make_vfs 0
	wanted vhost
	before=$(cat "$PCI/$(pf)/sriov_numvfs")
	run_ok vf-vdpa apply --dry-run /tmp/vf-vdpa.toml
	eq "$(cat "$PCI/$(pf)/sriov_numvfs")" "$before" "a look at the plan does nothing"
	run_ok vf-vdpa apply /tmp/vf-vdpa.toml
	eq "$(listed devices '[.name, .driver] | join(" ")' | sort)" "c0 virtio_vdpa
g0 vhost_vdpa" "the devices are there"
	match "$(vf-vdpa apply /tmp/vf-vdpa.toml)" "*nothing to do*" "the second time there is nothing to do"

	# As a boot begins, with nothing but the VFs
	run_ok vf-vdpa down --all
	eq "$(vdpa -j dev show)" '{"dev":{}}' "no device is left"
	run_ok vf-vdpa apply /tmp/vf-vdpa.toml
	wait_for "$SOON" vhost_node g0
	client_until "holding live" /tmp/client.log hold "$(vhost_node g0)" --live
	wanted virtio
	run_fails "$CLIENT_PID" vf-vdpa apply /tmp/vf-vdpa.toml
	client_kill
	run_ok vf-vdpa apply /tmp/vf-vdpa.toml
	eq "$(vdpa_driver g0)" virtio_vdpa "it has gone from one driver to the other"

	sed -i 's/name = "g0"/name = "c0"/' /tmp/vf-vdpa.toml
	run_fails "c0" vf-vdpa apply /tmp/vf-vdpa.toml
	sed -i 's/^bus/buss/' /tmp/vf-vdpa.toml
	run_fails "buss" vf-vdpa apply /tmp/vf-vdpa.toml
}

# limit: 120
# drivers: vf_vdpa
case_doctor() {
	one_vf
	local found
	found=$(vf-vdpa doctor --json)
	eq "$(jq -r '.[] | select(.check == "iommu" or .check == "irq-remapping" or .check == "iommu-groups" or .check == "driver") | .state' <<<"$found" | sort -u)" \
		ok "what is there is found"
	# The machine has no compiler's files of its own kernel.
	eq "$(jq -r '.[] | select(.check == "rust-metadata").state' <<<"$found")" warning "what is missing is found"
	eq "$(jq -r '[.[] | select(.state == "problem" or .state == "warning") | select((.cure // "") == "")] | length' <<<"$found")" 0 \
		"each finding has a cure"
}
