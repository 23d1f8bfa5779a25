# SPDX-License-Identifier: GPL-2.0
#
# `make` alone builds the modules against KDIR. `make check` and `make demo`
# bring a kernel, a toolchain and a machine of their own: see `make help`.

KDIR ?= /lib/modules/$(shell uname -r)/build
LAB := tools/bootstrap

# For the lab: CASES='mgmt/* removal/flr', DRIVER=vp_vdpa, KEEP=1, JSON=file.
export CASES DRIVER KEEP JSON

# Whether KDIR can build Rust modules: the goals below then need no lab.
HAVE_RUST := $(and $(wildcard $(KDIR)/rust/libkernel.rmeta),$(wildcard $(KDIR)/include/generated/rustc_cfg))

.PHONY: all modules install clean fmt clippy doc rust-analyzer check check-long check-debug demo shell compare conformance coverage selftest help

all: modules

modules: kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

.PHONY: kdir
kdir:
ifeq ($(HAVE_RUST),)
	@echo "$(KDIR) cannot build Rust modules: it lacks rust/libkernel.rmeta or include/generated/rustc_cfg." >&2
	@echo "Install your distribution's Rust metadata for the kernel (Ubuntu: linux-lib-rust-*; Arch: linux-headers), or" >&2
	@echo 'on Debian 13 with rustc and bindgen: make KDIR=$$(sudo tools/bootstrap kernel). "make check" and "make demo" need neither.' >&2
	@exit 1
endif

# modules_install leaves depmod out where System.map is missing, as it is in packages of headers.
install: kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $$(cat $(KDIR)/include/config/kernel.release)

# What Kbuild leaves at the top, for git, which removes none that it does not ignore.
made = doc modules.order Module.symvers $(foreach end,*.ko *.o *.mod *.mod.c .*.cmd,':(glob)$(end)')

clean:
	@if [ -e $(KDIR)/Makefile ]; then $(MAKE) -C $(KDIR) M=$(CURDIR) clean; else git clean -fdXq -- rust drivers samples $(made); fi

sources = $(shell find drivers samples rust -name '*.rs' ! -name generated.rs ! -path '*/target/*')

ifneq ($(HAVE_RUST),)
fmt:
	rustfmt --edition 2021 --config-path $(KDIR)/.rustfmt.toml $(sources)
	cargo fmt --all --manifest-path tools/Cargo.toml

clippy:
	$(MAKE) -C $(KDIR) M=$(CURDIR) CLIPPY=1 modules

doc:
	$(MAKE) -C $(KDIR) M=$(CURDIR) DOC=y modules

rust-analyzer:
	$(MAKE) -C $(KDIR) M=$(CURDIR) rust-analyzer
	tools/rust-project
else
fmt clippy doc rust-analyzer:
	$(LAB) $@
endif

check demo shell compare conformance coverage selftest:
	$(LAB) $@

check-long:
	VF_VDPA_LONG=1 $(LAB) check

# Everything is several times slower with what such a kernel does besides.
check-debug:
	VF_VDPA_KERNEL=debug VF_VDPA_SLOW=$${VF_VDPA_SLOW:-6} $(LAB) check

help:
	@echo 'Modules, against KDIR=$(KDIR):'
	@echo '  make                build vf_vdpa.ko and rust_vdpa_loopback.ko (VF_VDPA_SAMPLE=n: not the latter)'
	@echo '  make install        install them and run depmod'
	@echo '  make clean          remove what the build made'
	@echo 'Machine of our own (root; what it is made of is made once and cached):'
	@echo '  make demo           watch the driver at work'
	@echo '  make check          run all tests; the last line is the sum'
	@echo "  make check CASES='mgmt/* removal/flr'   only these cases"
	@echo '  make check-long         the same, and what takes long: more rounds, measurements'
	@echo '  make check-debug        the same, on a kernel that looks for mistakes (KASAN, lockdep, ...)'
	@echo '  make check DRIVER=vp_vdpa               against the C driver'
	@echo '  make check KEEP=1 JSON=results.json     shell afterwards; results as JSON'
	@echo '  make shell          a shell in the machine'
	@echo '  make compare        write Documentation/comparison.md from a run of both drivers'
	@echo '  make conformance    write Documentation/conformance.md: which parent driver keeps to what'
	@echo '  make coverage       write Documentation/coverage.md: which lines the tests execute, and which not'
	@echo '  make selftest       test the lab itself'
	@echo 'Sources, with KDIR when it knows Rust, else in the lab:'
	@echo '  make fmt clippy doc rust-analyzer'
