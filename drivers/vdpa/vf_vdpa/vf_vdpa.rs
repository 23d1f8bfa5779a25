// SPDX-License-Identifier: GPL-2.0

//! vDPA parent driver for virtio 1.x PCI functions: SR-IOV VFs, and any other.
//!
//! The data path stays in hardware: virtqueues, doorbells and interrupts belong to the consumer.
//! This driver owns the control path. Its C counterpart is `drivers/vdpa/virtio_pci/vp_vdpa.c`.
//!
//! How data flows, one way: `limits` turns what the device says into facts that hold;
//! `mgmt` turns a request of `vdpa dev add` into a `profile`; `device` passes what a consumer
//! asks for to `control`, which keeps a checked copy and programs the hardware at `DRIVER_OK`.

mod alarm;
mod announce;
mod commands;
mod config;
mod control;
mod control_queue;
mod debugfs;
mod device;
mod driver;
mod function;
mod gate;
mod hand_back;
mod hardware_queue;
mod interrupts;
mod limits;
mod means;
mod mgmt;
mod profile;
mod program;
mod queue;
mod recovery;
mod relay_queue;
mod requester;
mod served;
mod space;
mod suspend;

kernel::module_driver!(<T>, vdpa::pci::Adapter<T>, {
    type: driver::VfVdpa,
    name: "vf_vdpa",
    authors: ["vf-vdpa developers"],
    description: "vDPA parent driver for virtio PCI functions",
    license: "GPL",
});
