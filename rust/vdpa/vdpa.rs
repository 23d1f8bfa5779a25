// SPDX-License-Identifier: GPL-2.0

//! Abstractions for the vDPA bus.
//!
//! A *vDPA parent* is a driver whose device has a virtio data path but a control path of its own.
//! It registers a management device ([`mgmt`]), on which an administrator creates vDPA devices
//! ([`Device`]); consumers (vhost-vdpa, virtio-vdpa) call [`Operations`] of these.
//!
//! All `unsafe` of the project is in this crate. The parts that are not specific to vDPA
//! ([`pci`], [`irq`]) hold only what the kernel crate lacks, in the style it would
//! have there.
//!
//! C header: [`include/linux/vdpa.h`](srctree/include/linux/vdpa.h)

#[path = "../bindings/bindings.rs"]
mod bindings;

pub mod callback;
mod device;
pub mod guest_memory;
pub mod iommu;
pub mod iotlb;
pub mod irq;
mod mappings;
pub mod mgmt;
pub mod notifier;
mod operations;
pub mod own_memory;
pub mod pages;
mod parts;
pub mod pci;
mod registers;
pub mod software;
pub mod stats;
mod text;
pub mod view;
pub mod virtio_bus;
pub mod virtio_pci;
mod vtable;
pub mod work;

pub use self::{
    device::{
        Context,
        Device, //
    },
    operations::{
        KernelConsumer,
        NotificationArea,
        Operations,
        VqMap,
        VqState,
        BACKEND_F_ENABLE_AFTER_DRIVER_OK, //
    },
    text::Text, //
};
