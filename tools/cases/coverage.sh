# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What a module built to count has counted (`make coverage`). It is no group: lib.sh
# loads it in a run that is about coverage.

# The counters go with the module, so each is asked before it goes. What it executes
# while it goes is not seen.
rmmod() { # rmmod MODULE...
	local module
	for module; do
		counters "$module" || fail "the counters of $module cannot be read"
	done
	command rmmod "$@"
}

# counters MODULE: tells the host. Run lengths, as most have counted nothing. Each `return` says
# its status: in a trap it would be that of the command before the trap.
counters() {
	local address=/sys/module/$1/sections/__llvm_prf_cnts size offset counts
	[ -e "$address" ] || return 0 # not ours
	size=$(size --format=sysv --radix=10 "$LAB/modules/$1.ko" | awk '$1 == "__llvm_prf_cnts" { print $2 }')
	address=$(cat "$address")
	offset=$(kcore_offset "$address") || return 1
	counts=$(
		set -o pipefail
		dd if=/proc/kcore iflag=fullblock,skip_bytes,count_bytes bs=64K status=none \
			skip="$offset" count="$size" |
			od --address-radix=n --output-duplicates --format=u8 --width=8 | uniq -c | tr -s ' \n' ' '
	) || return 1
	# In one piece, or the output of somebody else would get between: cat writes what it has read at once.
	printf '\n\001host coverage %s %s\n' "$1" "$counts" >"/tmp/counters.$BASHPID"
	cat "/tmp/counters.$BASHPID" >/dev/ttyS1
	rm "/tmp/counters.$BASHPID"
}

# kcore_offset ADDRESS: where the kernel's memory is in /proc/kcore. The upper half of
# all addresses is negative here: comparisons are between two of that half.
kcore_offset() {
	local kind offset start _ length rest
	while read -r kind offset start _ length rest; do
		[ "$kind" = LOAD ] || continue
		if (($1 >= start && $1 - start < length)); then
			echo $((offset + $1 - start))
			return 0
		fi
	done <<<"$(readelf --program-headers --wide /proc/kcore)"
	return 1
}
