# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What groups share that test with the model, a function which misbehaves on
# command (tools/devmodel). There are no cases in here.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# shape [OPTION...]: the model as a function without a driver; M is its address.
# The options are in tools/devmodel/src/shape.rs.
shape() {
	M=$(model_function)
	# The kernel's own driver would be the first to have it.
	echo 0 >/sys/bus/pci/drivers_autoprobe
	case $(ask model plug) in
	there) ;;
	# Once in the life of the machine it appears by itself.
	plugged) wait_for "$SOON" test -e "$PCI/$M/driver_override" || die "the model does not appear" ;;
	*) die "the model cannot be plugged" ;;
	esac
	[ ! -e "$PCI/$M" ] || echo 1 >"$PCI/$M/remove"
	model_says say shape "$@"
	echo 1 >/sys/bus/pci/rescan
	[ -e "$PCI/$M" ] || die "the model does not appear"
	echo 1 >/sys/bus/pci/drivers_autoprobe
	listen
}

model_says() { # model_says REQUEST...: the host carries it out
	local answer
	answer=$(ask model "$@")
	[ "$answer" = ok ] || die "model $*: ${answer:-no answer}"
}

# model [OPTION...]: plugged, bound, and with the device m
model() {
	shape "$@"
	modprobe vhost_vdpa || die "loading vhost_vdpa"
	bind_driver "$M" || die "binding $M" "$(dmesg | tail -n 5)"
	vdpa_add "$M" m || die "adding m on $M" "$(dmesg | tail -n 5)"
	bus vhost m || die "giving m to vhost_vdpa"
	wait_for "$SOON" vhost_node m
	NODE=$(vhost_node m)
	listen
}

misbehave() { # misbehave NAME [NUMBER]
	model_says say misbehave "$@"
}

# behave: others have gone on while it did not, and the driver has said what was named, and no more
behave() {
	others_work
	nothing_else_was_said
	model_says say behave
}

tells() { # tells FIELD: what the model says of itself
	ask model say state | jq -r ".$1"
}

# ---- what is to be seen --------------------------------------------------

# listen: what the driver says of the model counts from now on
listen() {
	log_mark
	NAMED=()
}

lines() { # what it has said
	log_since | grep -F "vf_vdpa $M: " | grep -vF "enabling device"
}

count_of() { # count_of PATTERN: how many lines have it
	local line count=0
	while read -r line; do
		# shellcheck disable=SC2053 # it is meant as a pattern
		[[ $line != *"vf_vdpa $M: "$1* ]] || count=$((count + 1))
	done <<<"$(lines)"
	echo "$count"
}

says() { # says PATTERN
	[ "$(count_of "$1")" -gt 0 ]
}

seen() { # seen PATTERN: whoever looks at the configuration finds it, and the log says so
	vdpa dev config show m
	says "$1"
}

# named PATTERN: the driver has said so, once
named() {
	wait_for "$SOON" says "$1"
	eq "$(count_of "$1")" 1 "one line says: $1"
	NAMED+=("$1")
}

# nothing_else_was_said: it has said what was named, each once, and no more; what comes counts anew
nothing_else_was_said() {
	eq "$(lines | grep -c '')" "${#NAMED[@]}" "there is a line for each thing that was named, and no other: $(lines)"
	listen
}

# said_at_most_each_second PATTERN BEGAN: what comes again and again is one line a second, and there is no other
said_at_most_each_second() {
	local count
	count=$(count_of "$1")
	run_ok test "$count" -le $((SECONDS - $2 + 1))
	eq "$(lines | grep -c '')" "$count" "nothing else is said than: $1"
	listen
}

# refused TEXT: the driver refuses the function, says why, and nothing else
refused() {
	local lines
	bind_driver "$M" 2>/dev/null && fail "the function must be refused"
	unbind_driver "$M"
	lines=$(lines)
	eq "$(grep -c '' <<<"$lines")" 1 "there is one log line: ${lines:-none}"
	match "$lines" "*refused: *$1*" "it names the fault"
}

phase() { # phase NAME: of the function, in the state file
	grep -q "^phase: $1\$" "$DEBUG/vf_vdpa-$M/state"
}

is_relayed() { # a queue of the device m is
	vdpa dev vstats show m qidx 1 | grep -q "relayed 1"
}

# within SECONDS COMMAND...: it succeeds, and does not take longer
within() {
	local limit=$1 began=$SECONDS
	shift
	run_ok timeout $((limit * ${VF_VDPA_SLOW:-1})) "$@"
	echo "# it took $((SECONDS - began)) s"
}

# hold [OPTION...]: a process has the device m, live; it is CLIENT_PID
hold() {
	client_until "holding live" /tmp/hold.log hold "$NODE" --live "$@"
}

# let_go SECONDS: the process is killed, which resets the device, within that time
let_go() {
	local began=$SECONDS
	kill -KILL "$CLIENT_PID"
	if wait_for "$1" ended "$CLIENT_PID"; then
		ok "closing the device took $((SECONDS - began)) s, at most $1"
	else
		fail "closing the device takes at most $1 s" "$(cat "/proc/$CLIENT_PID/stack" 2>/dev/null)"
	fi
	wait "$CLIENT_PID" 2>/dev/null
}

told_to_reset() { # the process has been told that the device needs a reset
	run_ok wait_for "$SOON" grep -q "configuration interrupt, NEEDS_RESET" /tmp/hold.log
}

# it_works: what the device m is sent comes back
it_works() {
	run_ok timeout $((60 * ${VF_VDPA_SLOW:-1})) "$CLIENT" loopback "$NODE" --count 200
}

# it_fails: it cannot be used, which takes a while and no longer
it_fails() {
	run_fails "not ok" timeout $((${1:-60} * ${VF_VDPA_SLOW:-1})) "$CLIENT" loopback "$NODE" --count 50
}

# others_work: functions that have nothing to do with the model, the driver's own among them
others_work() {
	local disk
	[ -e "$VDPA/devices/b" ] || vhost_pair 0
	run_ok timeout $((60 * ${VF_VDPA_SLOW:-1})) "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 50
	modprobe virtio_blk
	wait_for "$SOON" compgen -G "$PCI/$(disk_function)/virtio*/block/*"
	for disk in "$PCI/$(disk_function)"/virtio*/block/*; do
		run_ok timeout 30 dd "if=/dev/${disk##*/}" of=/dev/null bs=64k count=16 iflag=direct
	done
}
