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
	log_mark
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
}

misbehave() { # misbehave NAME [NUMBER]
	model_says say misbehave "$@"
}

behave() {
	model_says say behave
}

tells() { # tells FIELD: what the model says of itself
	ask model say state | jq -r ".$1"
}

# it_works: what the device m is sent comes back
it_works() {
	run_ok timeout 60 "$CLIENT" loopback "$NODE" --count 200
}
