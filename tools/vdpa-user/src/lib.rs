// SPDX-License-Identifier: GPL-2.0

//! A device behind `/dev/vhost-vdpa-N`, driven from user space: its requests, its memory, its rings.

pub mod device;
pub mod doorbell;
pub mod frame;
pub mod ioctl;
pub mod memory;
pub mod merge;
mod packed;
pub mod port;
pub mod queue;
pub mod refusal;
pub mod ring;
mod split;
pub mod stage;
pub mod wait;
