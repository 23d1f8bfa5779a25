#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The packages are built as anybody builds Debian packages, and have in them what they should.
. "$(dirname "$0")/common.sh"

version=$(cat "$TOP/VERSION")
OUT=/tmp/build
build "$OUT" -b
cd "$OUT/vf-vdpa"
debian/rules clean
diff -r "$TOP" . || :
is "\`debian/rules clean\` leaves the source as it was" diff -qr "$TOP" .

# content PACKAGE: the files, without /usr
content() {
	dpkg-deb -c "$1" | awk '$1 !~ /^d/ { print $6 }' | sed 's,^\./usr/,,' | LC_ALL=C sort
}

content "$OUT/vf-vdpa-dkms_${version}_all.deb" >"$OUT/dkms"
content "$OUT/vf-vdpa-tools_${version}_amd64.deb" >"$OUT/tools"
cat "$OUT/dkms" "$OUT/tools"
src=src/vf-vdpa-$version
for file in "$src/dkms.conf" "$src/Kbuild" "$src/VERSION" "$src/drivers/vdpa/vf_vdpa/vf_vdpa.rs" \
	"$src/rust/virtio/virtio.rs" "$src/rust/vdpa/vdpa.rs" "$src/rust/helpers/helpers.c" \
	"$src/rust/bindings/bindgen_parameters" "$src/rust/bindings/bindings_helper.h" \
	sbin/vf-vdpa-kernel-metadata lib/modules-load.d/vf-vdpa.conf share/doc/vf-vdpa-dkms/copyright \
	share/doc/vf-vdpa-dkms/packaging.md.gz; do
	is "vf-vdpa-dkms has $file" grep -qxF "$file" "$OUT/dkms"
done
other=$(grep -v -e '^src/.*\.\(rs\|[ch]\)$' -e '^share/doc/' "$OUT/dkms" | grep -cv -e /dkms.conf -e /Kbuild -e /VERSION \
	-e /bindgen_parameters -e '^sbin/' -e '^lib/modules-load.d/') || :
is "files that nobody expects in vf-vdpa-dkms: $other" [ "$other" -eq 0 ]
is "vf-vdpa-dkms has no tests, no sample" no grep -qe /tests/ -e /samples/ "$OUT/dkms"
for file in bin/vf-vdpa share/bash-completion/completions/vf-vdpa share/zsh/vendor-completions/_vf-vdpa \
	share/fish/vendor_completions.d/vf-vdpa.fish share/doc/vf-vdpa-tools/copyright; do
	is "vf-vdpa-tools has $file" grep -qxF "$file" "$OUT/tools"
done
depends=$(dpkg-deb -f "$OUT/vf-vdpa-dkms_${version}_all.deb" Depends)
is "vf-vdpa-dkms depends on a dkms that passes kernels over: $depends" \
	sh -c 'case $1 in *"dkms (>= 3.0.11)"*) ;; *) exit 1 ;; esac' - "$depends"
dpkg-deb -x "$OUT/vf-vdpa-tools_${version}_amd64.deb" /tmp/tools
said=$(/tmp/tools/usr/bin/vf-vdpa --version)
is "the command says the version: $said" [ "$said" = "vf-vdpa $version" ]
is "bash can read the completions" bash -n /tmp/tools/usr/share/bash-completion/completions/vf-vdpa
end
