# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0
# What the checks of the packages share. They run in a root of their own (tools/lab/inroot), with
#   TOP      a clean export of the checkout
#   RELEASE  the release of the kernel
#   TREE     the tree that it is built in
set -eu

failed=''

ok() {
	echo "ok - $*"
}

not_ok() {
	echo "not ok - $*"
	failed="$failed
not ok - $*"
}

# is TEXT COMMAND...: COMMAND succeeds.
is() {
	text=$1
	shift
	if "$@"; then ok "$text"; else not_ok "$text"; fi
}

no() {
	! "$@"
}

# has FILE TEXT: a line of FILE contains TEXT.
has() {
	grep -qF -e "$2" "$1"
}

# build FOLDER OPTION...: the packages of a copy of the export, in the folder beside it.
build() {
	mkdir -p "$1"
	[ -d "$1/vf-vdpa" ] || cp -a "$TOP" "$1/vf-vdpa"
	cd "$1/vf-vdpa"
	shift
	dpkg-buildpackage -us -uc "$@"
	cd /
}

# end: with the failures once more, so that they stand at the end of the log.
end() {
	[ -z "$failed" ] || {
		echo "$failed"
		exit 1
	}
}
