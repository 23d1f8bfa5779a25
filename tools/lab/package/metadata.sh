#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# vf-vdpa-kernel-metadata makes the tree of the distribution's source and headers; dkms builds in it; it goes.
. "$(dirname "$0")/common.sh"

version=$(cat "$TOP/VERSION")
build /tmp/build -A
dpkg -i "/tmp/build/vf-vdpa-dkms_${version}_all.deb"
ln -s "$SOURCE" "/usr/src/linux-source-${RELEASE%%.*}.$(echo "$RELEASE" | cut -d. -f2).tar.xz"
is "the tree is made" vf-vdpa-kernel-metadata "$RELEASE"
tree=/usr/lib/vf-vdpa/kernel/$RELEASE
du -sh "$tree"
is "it is small" [ "$(du -sm "$tree" | cut -f1)" -lt 500 ]
is "nothing else is left beside it" [ "$(find /usr/lib/vf-vdpa/kernel -mindepth 1 -maxdepth 1)" = "$tree" ]
dkms status
is "dkms has built with it" [ -n "$(modinfo -k "$RELEASE" -F version vf_vdpa)" ]
is "nothing is made twice" vf-vdpa-kernel-metadata "$RELEASE"
is "it is listed" sh -c "vf-vdpa-kernel-metadata --list | grep -F '$RELEASE: prepared (vf_vdpa is installed)'"
is "it is removed" vf-vdpa-kernel-metadata --remove "$RELEASE"
is "and gone" [ ! -e "$tree" ]
is "a kernel that is not there is an error" no vf-vdpa-kernel-metadata 9.9.9-none
end
