# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# What cases are written with. A group is a file `<group>.sh` of functions
# `case_<name>`; the agent runs `bash lib.sh <group> <name>`, which loads the
# group, runs the case, and puts the machine back into a clean state.
#
# DRIVER is the driver under test: vf_vdpa or vp_vdpa.

LAB=/lab
PCI=/sys/bus/pci/devices
VDPA=/sys/bus/vdpa
DEBUG=/sys/kernel/debug
DRIVER=${DRIVER:-vf_vdpa}
RESULTS=0
FAILURES=0
# Wiring of the machine: VF 0 and 1 are back to back (with an MTU of 9000), and
# so are VF 2 and 3 (with packed rings, with several queue pairs when the host
# allows it, and VF 2 without RING_RESET).
export LAB PCI VDPA DEBUG DRIVER
export PATH=$LAB/bin:$PATH

# ---- results -------------------------------------------------------------

ok() { # ok DESCRIPTION
	RESULTS=$((RESULTS + 1))
	echo "ok $RESULTS - $1"
}

fail() { # fail DESCRIPTION [DETAIL...]
	RESULTS=$((RESULTS + 1))
	FAILURES=$((FAILURES + 1))
	echo "not ok $RESULTS - $1"
	shift
	local detail
	for detail; do
		printf '%s\n' "$detail" | sed 's/^/# /'
	done
}

skip() { # skip WHY: ends the case
	RESULTS=$((RESULTS + 1))
	echo "ok $RESULTS - # SKIP $1"
	exit 0
}

eq() { # eq GOT WANT DESCRIPTION
	if [ "$1" = "$2" ]; then
		ok "$3"
	else
		fail "$3" "got: $1" "want: $2"
	fi
}

match() { # match GOT PATTERN DESCRIPTION: a shell pattern
	# shellcheck disable=SC2254 # the pattern is meant as one
	case $1 in
	$2) ok "$3" ;;
	*) fail "$3" "got: $1" "want: $2" ;;
	esac
}

run_ok() { # run_ok COMMAND...: it must succeed
	local output status=0
	output=$("$@" 2>&1) || status=$?
	if [ "$status" -eq 0 ]; then
		ok "$*"
	else
		fail "$* must succeed" "status: $status" "output: $output"
	fi
	return "$status"
}

run_fails() { # run_fails TEXT COMMAND...: it must fail and say TEXT
	local text=$1 output status=0
	shift
	output=$("$@" 2>&1) || status=$?
	if [ "$status" -eq 0 ]; then
		fail "$* must fail" "output: $output" "want: $text"
	elif [[ $output == *"$text"* ]]; then
		ok "$* fails: $text"
	else
		fail "$* must fail with \`$text\`" "status: $status" "output: $output"
	fi
}

die() { # die WHY: the case cannot go on
	fail "$@"
	exit 1
}

wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
	local end=$((SECONDS + $1 * ${VF_VDPA_SLOW:-1}))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# long_run SHORT LONG: the one of them for which there is time
long_run() {
	if [ "${VF_VDPA_LONG:-0}" = 1 ]; then echo "$2"; else echo "$1"; fi
}

# A misspelt check must not pass. The shell calls this in a process of its own:
# what fails the case is the line that the host reads.
command_not_found_handle() {
	fail "there is no command $1"
	return 127
}

# ---- the host ------------------------------------------------------------

# host unplug|plug hot, host link vf0 up|down: asks the emulator. The request
# goes out before this returns; what it does to the machine comes a little later.
host() {
	printf '\n\001host %s\n' "$*" >/dev/ttyS1
}

# ask REQUEST...: the same, but waits until it is done, and prints the answer.
# For the model, see model.sh.
ask() {
	printf '\n\001ask %s\n' "$*" >/dev/ttyS1
	# In a process that leads no session: a leader would get the port as its
	# terminal, and take it along when it ends.
	(IFS= read -r -t 90 answer </dev/ttyS1 && printf '%s\n' "$answer")
}

# ---- PCI functions -------------------------------------------------------

# The addresses follow from the order of the root ports on the emulator's
# command line; smoke/machine tests them.
pf() {
	echo 0000:01:00.0
}

vf() { # vf N: address of VF N
	local link
	link=$(readlink "$PCI/$(pf)/virtfn$1")
	echo "${link##*/}"
}

hot_function() { # the plain virtio-net function that can be unplugged
	echo 0000:02:00.0
}

disk_function() { # the virtio-blk function
	echo 0000:03:00.0
}

single_function() { # the virtio-net function with one interrupt vector
	echo 0000:04:00.0
}

grouped_function() { # the virtio-net function that shares its IOMMU group
	echo 0000:05:01.0
}

model_function() { # the model, when it is plugged
	echo 0000:06:00.0
}

has_taps() { # the host lets the lab make taps: VFs 2 and 3 have queue pairs, the PF has a wire
	grep -qw lab.taps=1 /proc/cmdline
}

make_vfs() { # make_vfs N: N fresh VFs that no driver has been bound to
	local pf
	pf=$(pf)
	modprobe virtio_net
	echo 0 >"$PCI/$pf/sriov_drivers_autoprobe"
	[ "$(cat "$PCI/$pf/sriov_numvfs")" = 0 ] || echo 0 >"$PCI/$pf/sriov_numvfs"
	wait_for 20 pf_is_ready "$pf" || return
	echo "$1" >"$PCI/$pf/sriov_numvfs"
}

pf_is_ready() { # its driver has set DRIVER_OK, which creating VFs needs
	[ "$(basename "$(readlink "$PCI/$1/driver")")" = virtio-pci ] && ls -d "$PCI/$1"/virtio*/net/*
}

# shellcheck disable=SC2120 # the module is optional
load() { # load [MODULE]: inserts one of /lab/modules and what it depends on
	local module=${1:-$DRIVER} needs
	[ ! -d "/sys/module/$module" ] || return 0
	needs=$(modinfo -F depends "$LAB/modules/$module.ko") || return
	local need
	for need in ${needs//,/ }; do
		if [ -e "$LAB/modules/$need.ko" ]; then
			load "$need" || return
		else
			modprobe "$need" || return
		fi
	done
	insmod "$LAB/modules/$module.ko"
}

unload() { # unload [MODULE]
	local module=${1:-$DRIVER}
	[ ! -d "/sys/module/$module" ] || rmmod "$module"
}

pci_driver_name() { # the driver's name on the PCI bus
	case $DRIVER in
	vp_vdpa) echo vp-vdpa ;;
	*) echo "$DRIVER" ;;
	esac
}

bind_driver() { # bind_driver BDF [DRIVER]: hands the function to the driver under test
	local name=${2:-$(pci_driver_name)}
	[ -n "${2-}" ] || load || return
	[ ! -e "$PCI/$1/driver" ] || echo "$1" >"$PCI/$1/driver/unbind"
	echo "$name" >"$PCI/$1/driver_override" || return
	echo "$1" >/sys/bus/pci/drivers_probe || return
	[ "$(basename "$(readlink "$PCI/$1/driver")")" = "$name" ]
}

unbind_driver() { # unbind_driver BDF
	[ ! -e "$PCI/$1/driver" ] || echo "$1" >"$PCI/$1/driver/unbind"
	[ ! -e "$PCI/$1/driver_override" ] || echo >"$PCI/$1/driver_override"
}

ready_vfs() { # ready_vfs N: N VFs bound to the driver under test
	make_vfs "$1" || die "making $1 VFs"
	local n
	for ((n = 0; n < $1; n++)); do
		bind_driver "$(vf "$n")" || die "binding VF $n to $DRIVER" "$(dmesg | tail -n 5)"
	done
}

# model_gone: the model behaves, and the machine forgets it. It stays in its slot.
model_gone() {
	[ "$(ask model say behave)" = ok ] || return
	unbind_driver "$(model_function)"
	echo 1 >"$PCI/$(model_function)/remove"
}

# ---- vdpa ----------------------------------------------------------------

vdpa_add() { # vdpa_add BDF NAME [ATTRIBUTE VALUE]...
	local bdf=$1 name=$2
	shift 2
	vdpa dev add name "$name" mgmtdev "pci/$bdf" "$@"
}

vdpa_driver() { # vdpa_driver NAME: bus driver of a vdpa device
	basename "$(readlink "$VDPA/devices/$1/driver" 2>/dev/null)" 2>/dev/null
}

bus() { # bus virtio|vhost NAME: gives the vdpa device to virtio_vdpa or vhost_vdpa
	local driver=${1}_vdpa
	modprobe "$driver" || return
	[ "$(vdpa_driver "$2")" != "$driver" ] || return 0
	[ ! -e "$VDPA/devices/$2/driver" ] || echo "$2" >"$VDPA/devices/$2/driver/unbind"
	echo "$driver" >"$VDPA/devices/$2/driver_override" || return
	[ "$(vdpa_driver "$2")" = "$driver" ] || echo "$2" >"$VDPA/drivers/$driver/bind"
}

vhost_node() { # vhost_node NAME: its character device
	local node
	for node in "$VDPA/devices/$1"/vhost-vdpa-*; do
		[ -e "$node" ] || return 1
		echo "/dev/${node##*/}"
		return
	done
}

netdev() { # netdev BDF: network interface of the function, through virtio-vdpa or virtio-pci
	local dir
	for dir in "$PCI/$1"/virtio*/net/* "$PCI/$1"/*/virtio*/net/*; do
		[ -e "$dir" ] || continue
		basename "$dir"
		return
	done
	return 1
}

# ---- network name spaces -------------------------------------------------

ns_with() { # ns_with NS NETDEV ADDRESS: a name space that has the interface, up
	ip netns add "$1" 2>/dev/null || true
	ip link set "$2" netns "$1" || return
	ip -n "$1" link set lo up
	ip -n "$1" address add "$3" dev "$2" || return
	ip -n "$1" link set "$2" up
}

in_ns() { # in_ns NS COMMAND...
	local ns=$1
	shift
	ip netns exec "$ns" "$@"
}

# ---- tidying up ----------------------------------------------------------

# Puts the machine back: no process of the case, no vdpa device, no VF, no
# module under test, and no bus driver that would take the next case's devices.
# What cannot be put back is a failure of the case.
clean_up() {
	local status=$? ns dev pid name number
	trap - EXIT
	for pid in $(jobs -p); do
		kill -KILL -- "$pid" 2>/dev/null
	done
	for ns in /run/netns/*; do
		[ -e "$ns" ] || continue
		for pid in $(ip netns pids "${ns##*/}"); do
			kill -KILL "$pid" 2>/dev/null
		done
	done
	wait 2>/dev/null
	if [ -d /run/crun ]; then
		for name in $(crun list --quiet); do
			crun delete --force "$name" || fail "container $name cannot be deleted"
		done
	fi
	for dev in "$VDPA"/devices/*; do
		[ ! -e "$dev" ] || vdpa dev del "${dev##*/}" || fail "${dev##*/} cannot be deleted"
	done
	[ ! -e "$PCI/$(model_function)" ] || model_gone || fail "the model does not behave"
	for dev in "$PCI"/*; do
		read -r name <"$dev/driver_override"
		[ "$name" != "(null)" ] || continue
		unbind_driver "${dev##*/}"
		# What is no VF had the kernel's own driver.
		[ -e "$dev/physfn" ] || echo "${dev##*/}" >/sys/bus/pci/drivers_probe
	done
	read -r number <"$PCI/$(pf)/sriov_numvfs"
	[ "$number" = 0 ] || echo 0 >"$PCI/$(pf)/sriov_numvfs" || fail "the VFs cannot be removed"
	for ns in /run/netns/*; do
		[ ! -e "$ns" ] || ip netns del "${ns##*/}" || fail "container ${ns##*/} cannot be deleted"
	done
	# The injector of errors takes a lock at each access to a configuration space, which the debug kernel objects to.
	for name in rust_vdpa_loopback "$DRIVER" virtio_vdpa vhost_vdpa aer_inject; do
		unload "$name" || fail "$name cannot be removed"
	done
	while read -r _ dev _; do
		[[ $dev != /tmp/* ]] || umount "$dev" || fail "$dev cannot be unmounted"
	done </proc/mounts
	rm -rf --one-file-system /tmp/*
	echo "1..$RESULTS"
	[ "$status" -ne 0 ] || [ "$FAILURES" -eq 0 ] || status=1
	exit "$status"
}

lab_run() { # lab_run GROUP CASE
	echo "KTAP version 1"
	# shellcheck source=tools/cases/coverage.sh
	[ "${VF_VDPA_COVERAGE:-0}" = 0 ] || . "$LAB/cases/coverage.sh"
	# shellcheck source=/dev/null
	. "$LAB/cases/$1.sh"
	trap clean_up EXIT
	"case_$2"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	lab_run "$@"
fi
