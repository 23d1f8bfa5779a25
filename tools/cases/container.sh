# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# OCI containers, as an engine makes them: the CNI plugin host-device gives one the interface of a virtio-vdpa
# device by the function's address, and crun runs it.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

PLUGINS=/usr/lib/cni

# network NAME BDF ADDRESS: what an engine is told of the container's network: samples/kubernetes has the same
network() {
	jq -n --arg bdf "$2" --arg address "$3/24" '{
		cniVersion: "1.0.0", name: "vf", type: "host-device", pciBusID: $bdf,
		ipam: {type: "static", addresses: [{address: $address}]}
	}' >"/tmp/$1.json"
}

# cni ADD|CHECK|DEL NAME: asks the plugin. An engine names no name space that is gone.
cni() {
	local netns=/run/netns/$2
	[ -e "$netns" ] || netns=
	CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=$netns CNI_IFNAME=net1 CNI_PATH=$PLUGINS \
		"$PLUGINS/host-device" <"/tmp/$2.json"
}

# container NAME BDF ADDRESS: one that runs, with the interface of the function
container() {
	local bundle=/tmp/$1 result
	network "$@"
	ip netns add "$1"
	ip -n "$1" link set lo up
	result=$(cni ADD "$1") || die "host-device gives $2 to $1" "$result"
	eq "$(jq -r '.ips[0].address' <<<"$result")" "$3/24" "$1 has the interface of $2"
	# As engines do: what was answered is what is asked about later.
	jq --argjson result "$result" '.prevResult = $result' "/tmp/$1.json" >"/tmp/$1.new"
	mv "/tmp/$1.new" "/tmp/$1.json"

	mkdir -p "$bundle/rootfs"
	mount --bind / "$bundle/rootfs" || die "the container's root file system"
	rm -f "$bundle/config.json"
	(cd "$bundle" && crun spec) || die "crun makes no configuration"
	jq --arg netns "/run/netns/$1" '
		.process.terminal = false | .process.args = ["sleep", "infinity"] | .root.readonly = true
		| (.process.capabilities[]) += ["CAP_NET_RAW"]
		| (.linux.namespaces[] | select(.type == "network")).path = $netns
		| .mounts += [{destination: "/tmp", type: "tmpfs", source: "tmpfs"}]
	' "$bundle/config.json" >"$bundle/new"
	mv "$bundle/new" "$bundle/config.json"
	# Its output is not this shell's, which would wait for its end.
	crun run --detach --bundle "$bundle" "$1" </dev/null >"/tmp/$1.log" 2>&1 || die "the container $1 runs" "$(cat "/tmp/$1.log")"
}

# killed NAME: the container is gone; its network is there
killed() {
	crun kill "$1" KILL
	wait_for "$SOON" stopped "$1" || fail "$1 ends"
	run_ok crun delete "$1"
	umount "/tmp/$1/rootfs"
}

stopped() { # stopped NAME
	[ "$(crun state "$1" | jq -r .status)" = stopped ]
}

# no_container NAME: as an engine removes one
no_container() {
	killed "$1"
	run_ok cni DEL "$1"
	ip netns del "$1"
}

# engine: what the machine needs for containers
engine() {
	grep -qw cgroup2 /proc/filesystems || skip "this kernel has no control groups"
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || die "no control groups"
}

# two_containers: left and right, with the devices a and b
two_containers() {
	container left "$A" "$LEFT"
	container right "$B" "$RIGHT"
}

# limit: 240
# needs: consumers
case_pings_and_streams() {
	local bytes
	engine
	virtio_pair 0
	two_containers
	run_ok cni CHECK left
	run_ok crun exec left ping -q -c 3 -i 0.3 -W 10 "$RIGHT"
	run_ok crun exec right ping -q -c 3 -i 0.3 -W 10 "$LEFT"

	crun exec --detach right iperf3 -s </dev/null >/tmp/iperf3.log 2>&1
	wait_for "$SOON" in_ns right sh -c 'ss -Hltn sport = :5201 | grep -q .' || die "iperf3 waits for streams"
	bytes=$(crun exec left iperf3 -J -c "$RIGHT" -t 4 --connect-timeout 20000 | jq '.end.sum_received.bytes // 0')
	run_ok test "${bytes:-0}" -gt 1000000

	# Who has the interface has no right to change it.
	run_fails "Operation not permitted" crun exec left ip link set net1 address 02:00:00:00:00:66
	run_fails "Operation not permitted" crun exec left ip link set net1 down

	no_container left
	no_container right
	wait_for "$SOON" netdev "$A" || fail "the interface is back"
	eq "$(cat "/sys/class/net/$(netdev "$A")/address")" 52:54:00:00:00:01 "it has the function's address"
	containers
	they_ping
}

# remains: everything that a container might leave
remains() {
	ip -j link show | jq -c '[.[] | [.ifname, .address, .ifalias, .operstate]] | sort'
	vdpa -j dev show
	ls -A /sys/fs/cgroup /run/crun /run/netns
	cut -d' ' -f2 /proc/mounts | sort
	pinned_pages
}

# limit: 400
# needs: consumers
case_ten_in_a_row() {
	local before
	engine
	virtio_pair 0
	# What stays after the first one: the interface is down, and folders of crun's.
	two_containers
	no_container left
	no_container right
	before=$(remains)
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		two_containers
		run_ok crun exec left ping -q -c 2 -i 0.3 -W 10 "$RIGHT"
		no_container left
		no_container right
	done
	eq "$(remains)" "$before" "ten containers have left nothing"
}

# The name space goes before the engine says DEL: the kernel takes the interface back, with the name that it had there.
# limit: 240
# needs: consumers
case_network_dies_first() {
	engine
	virtio_pair 0
	two_containers
	killed left
	ip netns del left
	wait_for "$SOON" netdev "$A" || die "the interface is not back"
	run_ok cni DEL left
	container left "$A" "$LEFT"
	run_ok crun exec left ping -q -c 3 -i 0.3 -W 10 "$RIGHT"
	no_container left
	no_container right
}

# The device goes while a container has it: the interface is gone, and the engine gets rid of the container.
# limit: 240
# needs: consumers
case_device_goes_first() {
	engine
	virtio_pair 0
	two_containers
	run_ok vdpa dev del a
	run_fails "does not exist" crun exec left ip link show net1
	killed left
	ip netns del left
	run_ok cni DEL left
	run_ok vdpa_add "$A" a
	to_virtio
	container left "$A" "$LEFT"
	run_ok crun exec left ping -q -c 3 -i 0.3 -W 10 "$RIGHT"
	no_container left
	no_container right
}

# looked_for: what Kubernetes' plugins look for, each with what they have to find there: a pattern for what a file says, or
# for the name that a link leads to. `+` is anything, as long as there is something, `-` nothing. Documentation/kubernetes.md
# tells who looks for what.
looked_for() {
	cat <<-'TABLE'
		/sys/bus/pci/devices/BDF/vendor 0x1af4
		/sys/bus/pci/devices/BDF/device 0x1041
		/sys/bus/pci/devices/BDF/class 0x020000
		/sys/bus/pci/devices/BDF/driver vf_vdpa
		/sys/bus/pci/devices/BDF/iommu_group [0-9]*
		/sys/bus/pci/devices/BDF/physfn PF
		/sys/bus/pci/devices/BDF/physfn/virtio*/net/* +
		/sys/bus/pci/devices/BDF/net -
		/sys/bus/pci/devices/PF/sriov_totalvfs 4
		/sys/bus/pci/devices/PF/sriov_numvfs 4
		/sys/bus/pci/devices/PF/virtfn* BDF
		/sys/bus/pci/devices/PF/numa_node -1
	TABLE
}

# looked_for_of virtio|vhost: the same, by what has the device
looked_for_of() {
	case $1 in
	virtio)
		cat <<-'TABLE'
			/sys/bus/vdpa/devices/NAME/driver virtio_vdpa
			/sys/bus/pci/devices/BDF/virtio*/net/* +
		TABLE
		;;
	vhost)
		cat <<-'TABLE'
			/sys/bus/vdpa/devices/NAME/driver vhost_vdpa
			/sys/bus/vdpa/devices/NAME/vhost-vdpa-* +
			/dev/vhost-vdpa-* +
			/sys/bus/pci/devices/BDF/virtio*/net/* -
		TABLE
		;;
	esac
}

# finds PATH PATTERN: so does whoever looks there
finds() {
	local found=() file seen=-
	for file in $1; do
		[ ! -e "$file" ] || found+=("$file")
	done
	for file in "${found[@]}"; do
		if [ -L "$file" ]; then
			seen=$(basename "$(readlink -f "$file")")
		elif [ -f "$file" ]; then
			seen=$(cat "$file")
		else
			seen=${file##*/}
		fi
		# shellcheck disable=SC2053 # it is a pattern
		[[ $seen != $2 ]] || break
	done
	match "$seen" "${2/#+/?*}" "$1 is $seen"
}

# finds_all COMMAND...: what the table that it prints says
finds_all() {
	local path pattern
	while read -r path pattern; do
		path=${path/BDF/$A}
		path=${path/PF/$(pf)}
		pattern=${pattern/BDF/$A}
		finds "${path/NAME/a}" "${pattern/PF/$(pf)}"
	done <<<"$("$@")"
}

# limit: 120
case_kubernetes_finds_what_it_looks_for() {
	modprobe vhost_vdpa
	virtio_pair 0
	finds_all looked_for
	finds_all looked_for_of virtio
	eq "$(vdpa -j dev show a | jq -r .dev.a.mgmtdev)" "pci/$A" "the device is the function's"
	to_vhost
	finds_all looked_for_of vhost
}
