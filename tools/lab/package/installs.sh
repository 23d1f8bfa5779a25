#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# vf-vdpa-dkms is installed on a kernel without metadata, and with it; is upgraded; goes.
. "$(dirname "$0")/common.sh"

version=$(cat "$TOP/VERSION")
later=$version+later
metadata=/usr/lib/vf-vdpa/kernel

# What is there of the kernel and of dkms, and what depmod says: but for its files' times.
state() {
	find /lib/modules/ /usr/src /var/lib/dkms /usr/lib/vf-vdpa /usr/lib/modules-load.d /etc/dkms /boot -mindepth 1 \
		2>/dev/null | LC_ALL=C sort
	LC_ALL=C sort "/lib/modules/$RELEASE/modules.dep" | md5sum
}

# log_of FILE COMMAND...: with its output in FILE, too; its status is kept.
log_of() {
	log=$1
	shift
	echo "# $*"
	rc=0
	"$@" >"$log" 2>&1 || rc=$?
	cat "$log"
	return $rc
}

status_is() { # status_is WHAT VERSION
	case $(dkms status) in
	"vf-vdpa/$2, $RELEASE, x86_64: $1"*) ;;
	*)
		dkms status
		return 1
		;;
	esac
}

field() {
	modinfo -k "$RELEASE" -F "$1" vf_vdpa
}

build /tmp/first -A
rm -f /var/lib/dkms/dkms_dbversion /var/lib/dkms/mok.*
depmod "$RELEASE"
state >/tmp/before
is "the headers of $RELEASE lack Rust metadata" [ ! -e "/lib/modules/$RELEASE/build/rust/libkernel.rmeta" ]

# --- Without metadata
is "it installs without metadata" log_of /tmp/log dpkg -i "/tmp/first/vf-vdpa-dkms_${version}_all.deb"
is "the kernel is passed over" has /tmp/log BUILD_EXCLUSIVE
is "and why, and the cure, are said" has /tmp/log "$RELEASE: no Rust metadata: vf-vdpa-kernel-metadata $RELEASE"
is "dkms has added it" [ "$(dkms status)" = "vf-vdpa/$version: added" ]
rc=0
log_of /tmp/log dkms autoinstall -k "$RELEASE" || rc=$?
is "the package of a kernel would be installed, too" [ "$rc" -eq 0 ]
is "modprobe knows of no vf_vdpa" no modprobe -S "$RELEASE" -n vf_vdpa 2>/dev/null

# --- With metadata, of another compiler and of this one
mkdir -p "$metadata" /tmp/other/rust /tmp/other/include/config
touch /tmp/other/rust/libkernel.rmeta
echo 'CONFIG_RUSTC_VERSION_TEXT=rustc 1.84.0' >/tmp/other/include/config/auto.conf
ln -s /tmp/other "$metadata/$RELEASE"
rc=0
log_of /tmp/log dkms build "vf-vdpa/$version" -k "$RELEASE" || rc=$?
is "metadata of another compiler is passed over: $rc" [ "$rc" -eq 77 ]
rm "$metadata/$RELEASE"
ln -s "$TREE" "$metadata/$RELEASE"
is "it is built as when a kernel is installed" log_of /tmp/log dkms autoinstall -k "$RELEASE"
cat "/var/lib/dkms/vf-vdpa/$version/$RELEASE/x86_64/log/make.log" || :
is "dkms has installed it" status_is installed "$version"
is "modinfo has its version" [ "$(field version)" = "$version" ]
is "and its srcversion" [ -n "$(field srcversion)" ]
is "and what it needs: $(field depends)" sh -c 'case $1 in *vdpa*) ;; *) exit 1 ;; esac' - "$(field depends)"
is "and the vermagic of the kernel: $(field vermagic)" \
	[ "$(field vermagic)" = "$(modinfo -k "$RELEASE" -F vermagic vdpa)" ]
modprobe -S "$RELEASE" --show-depends vf_vdpa | tee /tmp/log
for module in vdpa vhost_iotlb vf_vdpa; do
	is "modprobe would load $module" grep -qE "insmod .*/$module\.ko" /tmp/log
done
is "the sample is not built" [ ! -e "/lib/modules/$RELEASE/updates/dkms/rust_vdpa_loopback.ko" ]
is "modules are loaded at boot by name" grep -qx vf_vdpa /usr/lib/modules-load.d/vf-vdpa.conf
log_of /tmp/log vf-vdpa-kernel-metadata --list
is "the tree is known" has /tmp/log "(vf_vdpa is installed)"

# --- Upgrade
mkdir /tmp/later
cp -a "$TOP" /tmp/later/vf-vdpa
cd /tmp/later/vf-vdpa
echo "$later" >VERSION
sed -i "s/^PACKAGE_VERSION=.*/PACKAGE_VERSION=\"$later\"/" dkms.conf
sed -i "1s/(.*)/($later)/" debian/changelog
build /tmp/later -A
is "it is upgraded" log_of /tmp/log dpkg -i "/tmp/later/vf-vdpa-dkms_${later}_all.deb"
is "dkms has the later one" status_is installed "$later"
is "and no other" [ "$(dkms status | wc -l)" -eq 1 ]
is "modinfo has the later version" [ "$(field version)" = "$later" ]
is "the source of the old one is gone" [ ! -e "/usr/src/vf-vdpa-$version" ]

# --- Removal
is "it is removed" log_of /tmp/log dpkg -P vf-vdpa-dkms
rm -f /var/lib/dkms/dkms_dbversion /var/lib/dkms/mok.*
state >/tmp/after
diff /tmp/before /tmp/after || :
is "nothing is left" cmp -s /tmp/before /tmp/after
is "the tree that somebody else made is as it was" [ -e "$TREE/rust/libkernel.rmeta" ]
end
