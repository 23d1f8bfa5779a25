# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What any vDPA device has to do, whoever has written its driver: vdpa-conform.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

has_node() { # has_node NAME: the device is vhost-vdpa's
	bus vhost "$1" || die "giving $1 to vhost_vdpa"
	wait_for "$SOON" vhost_node "$1" || die "$1 has no node"
}

look_at() { # look_at NAME ARGUMENT...: with vdpa-conform
	"$LAB/bin/vdpa-conform" run "$(vhost_node "$1")" --name "$1" --limit $((60 * ${VF_VDPA_SLOW:-1})) "${@:2}"
}

# conforms NAME: the device keeps to every text that says something of it
conforms() {
	local status=0
	has_node "$1"
	log_mark
	look_at "$1" --format ktap || status=$?
	# A failure has been printed; an error has not.
	[ "$status" -le 1 ] || fail "vdpa-conform ends with $status"
	[ "$status" -eq 0 ] || FAILURES=$((FAILURES + 1))
	eq "$(log_since | grep -F 'DMAR: [DMA' | grep -v "$OWNED" | head -n 3)" "" \
		"nothing else was reached for than what an owner has had"
}

# Where vdpa-conform maps its 8 MiB of memory.
OWNED=' fault addr 0x10[0-7][0-9a-f]\{5\} '

# What an owner has left behind is out of reach (spaces-14): the IOMMU says that a device tried.
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
# limit: 600
case_net() {
	modprobe vhost_vdpa
	pair 0
	add_pair
	conforms a
}

# Every feature that the function has, packed rings among them. VF 3 has RING_RESET;
# without it, a queue that was disabled is not served again before a reset (rings-12).
# needs: time
# drivers: vf_vdpa
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
# limit: 600
case_net_with_all_features() {
	modprobe vhost_vdpa
	pair 2
	vdpa_add "$B" b device_features "$(hex "$(all_features "$B" "$(vdpa_features "$B")")")" || die "adding b"
	conforms b
}

# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
# limit: 600
case_block() {
	local function
	modprobe vhost_vdpa
	function=$(disk_function)
	bind_driver "$function" || die "binding $function"
	vdpa_add "$function" disk || die "adding disk"
	conforms disk
}

# A class that the program knows nothing of: whatever needs a request is left out.
# needs: time
# limit: 300
case_entropy() {
	local function
	modprobe vhost_vdpa
	function=$(entropy_function)
	bind_driver "$function" || die "binding $function"
	vdpa_add "$function" entropy || die "adding entropy"
	conforms entropy
}

# needs: time
# drivers: vf_vdpa
# limit: 600
case_loopback() {
	modprobe vhost_vdpa
	load rust_vdpa_loopback || die "loading rust_vdpa_loopback" "$(dmesg | tail -n 5)"
	vdpa dev add name l0 mgmtdev vdpa_loopback || die "adding l0"
	conforms l0
}

# vduse_disk NAME: a disk that is a program, QEMU's, on the kernel's driver for such
vduse_disk() {
	truncate -s 16M "/tmp/$1.img"
	rm -f /tmp/vduse-blk-export
	qemu-storage-daemon --blockdev driver=file,node-name=disk,filename="/tmp/$1.img" \
		--export type=vduse-blk,id=export,node-name=disk,name="$1",writable=on >>/tmp/vduse.out 2>&1 &
	PROGRAM=$!
	wait_for "$SOON" test -e "/dev/vduse/$1" || die "the program of $1 starts" "$(cat /tmp/vduse.out)"
	vdpa dev add name "$1" mgmtdev vduse || die "adding $1"
	has_node "$1"
}

# vduse_conforms OUTPUT: each case of vdpa-conform. The program takes a reset with requests under way
# for a mistake of its own and aborts, and the kernel has no more use for its device then: the next case
# gets another one.
vduse_conforms() {
	local id count=0 name
	load vduse || die "loading vduse" "$(dmesg | tail -n 5)"
	PROGRAM=
	for id in $("$LAB/bin/vdpa-conform" list --json | jq -r '.[].id'); do
		if [ -z "$PROGRAM" ] || ended "$PROGRAM"; then
			[ -z "$PROGRAM" ] || vdpa dev del "$name" || die "deleting $name"
			count=$((count + 1))
			name=vduse_blk$count
			vduse_disk "$name"
		fi
		look_at "$name" --json "/tmp/vduse.$id.json" "$id" >/dev/null
	done
	jq -s add /tmp/vduse.*.json >"$1"
	echo "# vduse: $((count - 1)) of its programs have died"
	sort /tmp/vduse.out | uniq -c | sed 's/^/# vduse: /'
}

of_verdict() { # of_verdict VERDICT DEVICE: how many cases came to it
	jq "map(select(.verdict == \"$1\")) | length" "/tmp/$2.json"
}

# Every parent driver that there is: ours, which fail nothing, and those of the kernel, which may;
# the log ends with the table of Documentation/conformance.md.
# drivers: vf_vdpa
# needs: parents hours
# limit: 3600
# allow: WARNING
# allow: DMAR: [DMA
# allow: DMAR: DRHD: handling fault
case_parents() {
	local device function packed columns=()
	modprobe vhost_vdpa
	pair 0
	vdpa_add "$A" vf_vdpa || die "adding vf_vdpa"
	load rust_vdpa_loopback || die "loading rust_vdpa_loopback" "$(dmesg | tail -n 5)"
	vdpa dev add name loopback mgmtdev vdpa_loopback || die "adding loopback"
	load vp_vdpa || die "loading vp_vdpa" "$(dmesg | tail -n 5)"
	unbind_driver "$B"
	bind_driver "$B" vp-vdpa || die "binding $B to vp_vdpa" "$(dmesg | tail -n 5)"
	vdpa_add "$B" vp_vdpa || die "adding vp_vdpa"
	function=$(disk_function)
	bind_driver "$function" || die "binding $function"
	vdpa_add "$function" vf_vdpa_blk || die "adding vf_vdpa_blk"
	packed=$(vf 3)
	bind_driver "$packed" || die "binding $packed"
	vdpa_add "$packed" vf_vdpa_packed device_features "$(hex "$(all_features "$packed" "$(vdpa_features "$packed")")")" ||
		die "adding vf_vdpa_packed"
	for device in net blk; do
		load "vdpa_sim_$device" || die "loading vdpa_sim_$device" "$(dmesg | tail -n 5)"
		vdpa dev add name "vdpa_sim_$device" mgmtdev "vdpasim_$device" || die "adding vdpa_sim_$device"
	done
	for device in vf_vdpa vf_vdpa_packed vf_vdpa_blk loopback vp_vdpa vdpa_sim_net vdpa_sim_blk vduse_blk; do
		if [ $device = vduse_blk ]; then
			vduse_conforms /tmp/$device.json
		else
			has_node $device
			look_at $device --json /tmp/$device.json >/dev/null
		fi
		echo "# $device: $(jq -c 'group_by(.verdict) | map({(.[0].verdict): length}) | add' /tmp/$device.json)"
		run_ok test "$(of_verdict pass $device)" -ge 30
		case $device in
		vf_vdpa* | loopback) eq "$(of_verdict fail $device)" 0 "$device fails nothing" ;;
		esac
		columns+=("$device=/tmp/$device.json")
	done
	"$LAB/bin/vdpa-conform" table "${columns[@]}" | sed 's/^/# |/'
}
