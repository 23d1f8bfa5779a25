# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The management device and its devices: what is shown of them, refusals, what is left behind.

# shellcheck source=tools/cases/vdpa.sh
. "$LAB/cases/vdpa.sh"

# What an administrator sees of a function.
case_shows_the_function() {
	one_vf
	eq "$(mgmtdev "$A" supported_classes)" '["net"]' "the class is net"
	# One pair and the control queue.
	eq "$(mgmtdev "$A" max_supported_vqs)" 3 "there are three queues"
	local features
	features=$(mgmtdev "$A" dev_features)
	match "$features" '*"VERSION_1"*' "VERSION_1 is offered"
	match "$features" '*"ACCESS_PLATFORM"*' "ACCESS_PLATFORM is offered"
	match "$features" '*"MAC"*' "MAC is offered"
	match "$features" '*"CTRL_VQ"*' "CTRL_VQ is offered"
}

# What vDPA cannot carry is not offered, whatever the function has.
# drivers: vf_vdpa
case_masks_what_vdpa_cannot_carry() {
	one_vf
	local features word
	features=$(mgmtdev "$A" dev_features)
	for word in RING_RESET NOTIFICATION_DATA SR_IOV ADMIN_VQ NOTIF_CONFIG_DATA; do
		case $features in
		*"\"$word\""*) fail "$word is not offered" "$features" ;;
		*) ok "$word is not offered" ;;
		esac
	done
	# iproute2 does not know every name: the numbers, too.
	local bits
	modprobe vhost_vdpa
	run_ok vdpa_add "$A" d0
	bus vhost d0
	bits=$(info "$(vhost_node d0)" feature_bits)
	eq "$(jq -c '[.[] | select((. >= 24 and . <= 27) or (. >= 37 and . <= 49) or . == 30 or . == 31)]' <<<"$bits")" \
		'[]' "no bit that is masked is offered"
}

# A function carries one device; a second add changes nothing.
# limit: 120
case_second_add_is_busy() {
	vhost_pair 0
	run_fails "busy" vdpa_add "$A" c
	run_ok test ! -e "$VDPA/devices/c"
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	# While it is in use, too.
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	run_fails "busy" vdpa_add "$A" c
	run_fails "busy" vdpa_add "$A" c device_features "$(hex $LEAST)"
	client_kill
	run_ok "$CLIENT" transfer "$NODE_A" "$NODE_B" --count 100
	run_ok vdpa dev del a
	run_ok vdpa_add "$A" c
}

# Delete takes the device it was asked to take.
case_delete_takes_the_right_one() {
	ready_vfs 3
	local n
	for n in 0 1 2; do
		run_ok vdpa_add "$(vf $n)" "d$n"
	done
	run_ok vdpa dev del d1
	eq "$(vdpa -j dev show | jq -c '.dev | keys')" '["d0","d2"]' "d0 and d2 are left"
	run_fails "No such device" vdpa dev del d1
	run_ok vdpa_add "$(vf 1)" again
	run_ok vdpa dev del d0
	eq "$(vdpa -j dev show | jq -c '.dev | keys')" '["again","d2"]' "again and d2 are left"
	local dev
	for dev in again d2; do
		eq "$(vdpa -j dev show $dev | jq -r ".dev.$dev.vendor_id")" 6900 "$dev still answers"
	done
}

# A function that is not a virtio function is refused in one line.
case_refuses_foreign_functions() {
	load || die "loading $DRIVER"
	local dev bdf=
	for dev in "$PCI"/*; do
		# The SATA controller: every such machine has one, and nothing needs it.
		[ "$(cat "$dev/class")" = 0x010601 ] && bdf=${dev##*/}
	done
	[ -n "$bdf" ] || die "the machine has no SATA controller"
	refuses "$bdf" virtio
}

# A legacy virtio function is refused in one line.
case_refuses_legacy_functions() {
	load || die "loading $DRIVER"
	local dev bdf=
	for dev in "$PCI"/*; do
		[ "$(cat "$dev/vendor")" = 0x1af4 ] || continue
		# Transitional numbers, and none of virtio's capabilities.
		[[ $(cat "$dev/device") = 0x100? ]] || continue
		lspci -vv -s "${dev##*/}" | grep -q VirtIO || bdf=${dev##*/}
	done
	[ -n "$bdf" ] || die "the machine has no legacy virtio function"
	refuses "$bdf" "no common configuration capability"
}

# A function without MSI-X is refused in one line.
case_refuses_functions_without_msix() {
	load || die "loading $DRIVER"
	local dev bdf=
	for dev in "$PCI"/*; do
		[ "$(cat "$dev/vendor")" = 0x1af4 ] || continue
		lspci -vv -s "${dev##*/}" | grep -q VirtIO || continue
		lspci -vv -s "${dev##*/}" | grep -q MSI-X || bdf=${dev##*/}
	done
	[ -n "$bdf" ] || die "the machine has no virtio function without MSI-X"
	refuses "$bdf" MSI-X
}

refuses() { # refuses BDF WORD
	local before
	before=$(vdpa mgmtdev show)
	log_mark
	if bind_driver "$1"; then
		fail "$1 is refused" "it was bound"
		return
	fi
	ok "$1 is refused"
	one_line "$1" "$2"
	eq "$(vdpa mgmtdev show)" "$before" "there is no new management device"
	unbind_driver "$1"
}

# vstats: the counters move when there is traffic, queue by queue. The kernel
# shows them of a device that is in use.
# drivers: vf_vdpa
# limit: 120
case_vstats_count() {
	vhost_pair 0
	client_until "traffic flows" /tmp/traffic.log traffic "$NODE_A" "$NODE_B" --seconds 60
	local queue
	for queue in 0 1; do
		vdpa -j dev vstats show a qidx $queue >/tmp/before
		sleep 3
		vdpa -j dev vstats show a qidx $queue >/tmp/after
		grows interrupts $queue
		# A device with buffers to spare may ask for no more kicks.
		[ $queue = 0 ] || grows kicks $queue
	done
	eq "$(vdpa -j dev vstats show a qidx 0 | jq '.vstats.a.kicks > 0')" true "the receive queue was kicked"
	run_fails "Invalid argument" vdpa dev vstats show a qidx 77
	client_kill
}

grows() { # grows COUNTER QUEUE: from /tmp/before to /tmp/after
	local old new
	old=$(jq "[.. | objects | .$1? | select(. != null)][0] // 0" /tmp/before)
	new=$(jq "[.. | objects | .$1? | select(. != null)][0] // 0" /tmp/after)
	if [ "${new:-0}" -gt "${old:-0}" ]; then
		ok "$1 of queue $2 grow: $old, $new"
	else
		fail "$1 of queue $2 grow" "before: $(cat /tmp/before)" "after: $(cat /tmp/after)"
	fi
}

# debugfs: one file for each device that a person can read.
# drivers: vf_vdpa
case_debugfs_tells_the_state() {
	vhost_pair 0
	local file=$DEBUG/vf_vdpa-$A/state text
	run_ok test -r "$file"
	client_until "holding live" /tmp/hold.log hold "$NODE_A" --live
	text=$(cat "$file")
	match "$text" '*DRIVER_OK*' "the status is told"
	match "$text" '*VERSION_1*' "the features are told by name"
	match "$text" '*vq 0: ready in hardware Enabled, size 256*' "the state and the size of a queue are told"
	client_kill
	wait_for "$SOON" no_driver_ok "$file"
	case $(cat "$file") in
	*DRIVER_OK*) fail "the state follows the reset" "$(cat "$file")" ;;
	*) ok "the state follows the reset" ;;
	esac
	run_ok vdpa dev del a
	run_ok cat "$file"
	unbind_driver "$A"
	run_ok test ! -e "$file"
}

no_driver_ok() {
	! grep -q DRIVER_OK "$1"
}

# A type of device that is neither network nor disk: no consumer is refused.
case_other_types_are_not_blocked() {
	A=$(entropy_function)
	[ -n "$A" ] || die "the machine has no entropy function"
	# Whoever wants entropy would wait for the slow one.
	unbind_driver "$(entropy_function slow)"
	modprobe virtio_rng
	bind_driver "$A" || die "binding $A" "$(dmesg | tail -n 3)"
	run_ok vdpa_add "$A" r0
	bus virtio r0
	run_ok wait_for "$SOON" compgen -G "$PCI/$A/virtio*/driver"
	run_ok dd if=/dev/hwrng of=/tmp/noise bs=64 count=4 iflag=fullblock
	eq "$(stat -c %s /tmp/noise)" 256 "entropy comes through vDPA"
}

# Adding and deleting, binding and unbinding leave nothing behind.
# limit: 900
case_cycles_leak_nothing() {
	ready_vfs 2
	A=$(vf 0)
	local references interrupts
	references=$(cat "/sys/module/$DRIVER/refcnt")
	interrupts=$(grep -c . /proc/interrupts)
	no_leaks 100 add_and_delete
	# A function has its interrupts from when it is bound.
	no_leaks 100 unbind_and_bind
	eq "$(cat "/sys/module/$DRIVER/refcnt")" "$references" "the module's references are as before"
	eq "$(grep -c . /proc/interrupts)" "$interrupts" "there are as many interrupts as before"
	eq "$(find "$VDPA/devices" -mindepth 1 | wc -l)" 0 "no vdpa device is left"
}

# A program that opens the device, uses it and closes it leaves no page of its memory
# pinned. (What programs leave in the caches of the kernel is too much noise to count.)
# limit: 300
case_closed_devices_pin_nothing() {
	vhost_pair 0
	open_and_close || die "the first transfer" "$(tail -n 5 /tmp/transfer.log)"
	local pinned acquired
	pinned=$(pinned_pages)
	acquired=$(vmstat nr_foll_pin_acquired)
	for _ in 1 2 3 4 5; do
		run_ok open_and_close
	done
	run_ok test "$(vmstat nr_foll_pin_acquired)" -gt "$acquired"
	eq "$(pinned_pages)" "$pinned" "as many pages are pinned as before"
}

add_and_delete() { # add_and_delete N
	vdpa_add "$A" "d$(($1 % 3))" && vdpa dev del "d$(($1 % 3))"
}

unbind_and_bind() {
	unbind_driver "$A" && bind_driver "$A"
}

open_and_close() {
	"$CLIENT" transfer "$NODE_A" "$NODE_B" --count 20 >/tmp/transfer.log 2>&1
}

no_leaks() { # no_leaks N COMMAND: N times it, and no cache of the kernel grows with that
	local round
	cycles 5 "$2"
	slab /tmp/before
	for round in 1 2 3; do
		cycles "$1" "$2" || break
		slab /tmp/after
		# One object a cycle is a leak, less what others gave back meanwhile. They make
		# noise the other way, too, and the kernel hands objects around in batches of up
		# to 60: but noise does not grow from round to round.
		join /tmp/before /tmp/after |
			awk -v least=$(($1 * round * 6 / 10)) '$3 - $2 >= least { print $1, $3 - $2 }' >/tmp/grown
		sed "s/^/# round $round grows /" /tmp/grown
		if [ $round -gt 1 ]; then
			join /tmp/leaks /tmp/grown >/tmp/both
			mv /tmp/both /tmp/leaks
		else
			mv /tmp/grown /tmp/leaks
		fi
		[ -s /tmp/leaks ] || break
	done
	eq "$(cat /tmp/leaks)" "" "$2: no cache grew by an object a cycle, in $round round(s)"
}

cycles() { # cycles N COMMAND
	local n
	for ((n = 0; n < $1; n++)); do
		"$2" $n || {
			fail "$2: cycle $n of $1" "$(dmesg | tail -n 3)"
			return 1
		}
	done
	ok "$2: $1 cycles"
}

slab() { # slab FILE: objects in use, by cache
	local cache
	sync
	# What waits for a grace period of RCU counts as in use, also what processes have left that
	# ended long ago: on a busy host that takes its time. The least of several counts is true.
	for _ in 1 2 3 4; do
		echo 3 >/proc/sys/vm/drop_caches
		for cache in /sys/kernel/slab/*/shrink; do
			[ -w "$cache" ] && echo 1 >"$cache"
		done 2>/dev/null
		sleep 1
		awk 'NR > 2 { print $1, $2 }' /proc/slabinfo
	done |
		awk '!($1 in least) || $2 < least[$1] { least[$1] = $2 }
			END { for (cache in least) print cache, least[cache] }' |
		# Caches of processes and of files are not the driver's. Areas of kernel
		# mappings are given back late: every process has one for its stack. The debug kernel
		# notes each of those areas, and keeps what it notes of objects for the next ones.
		grep -Ev '^(vmap_area|kmemleak_|debug_objects_cache|dentry|inode_cache|proc_inode|shmem_inode|sock_inode|anon_vma|vm_area|vma_lock|filp|pid|task_|signal_|sighand|files_cache|fs_cache|mm_struct|cred_jar|ovl_|9p|fid|radix_tree|xa_|buffer_head|page_vma|skbuff|names_cache|lsm_|kernfs_node|eventpoll|seq_file|pde_)' |
		sort >"$1"
}

# The driver does not go away under a device that is in use as a module.
case_module_goes_when_idle() {
	one_vf
	run_ok vdpa_add "$A" d0
	run_ok rmmod "$DRIVER"
	run_ok test ! -e "$VDPA/devices/d0"
	run_ok test ! -e "/sys/module/$DRIVER"
	run_ok bind_driver "$A"
	run_ok vdpa_add "$A" d0
}
