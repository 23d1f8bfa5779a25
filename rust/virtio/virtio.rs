// SPDX-License-Identifier: GPL-2.0

//! Virtio as pure logic.
//!
//! Everything a device, a guest, a file descriptor or netlink hands to a vDPA parent driver enters
//! here as untrusted numbers or bytes, and leaves as a type whose invariants hold or as an error
//! that says in one line what was wrong. Nothing in this crate touches hardware, the kernel or an
//! allocator, so all of it is tested on the host with `cargo test`.
//!
//! What is where, with the section of the Virtual I/O Device specification 1.3 that governs it:
//!
//! | module         | question it answers                                                | section    |
//! |----------------|--------------------------------------------------------------------|------------|
//! | [`features`]   | which feature bits are these, and what are they called?            | 2.2, 6     |
//! | [`device_id`]  | which device type is this?                                         | 4.1.2, 5   |
//! | [`policy`]     | what may be offered to, provisioned for, accepted from a consumer? | 2.2, 6     |
//! | [`status`]     | is this write to the device status allowed?                        | 2.1, 3.1   |
//! | [`capability`] | where in the BARs are the structures of this PCI function?         | 4.1.4      |
//! | [`layout`]     | what is known of a structure once it is found?                     | 4.1.4      |
//! | [`notify`]     | where is the doorbell of a queue, and may user space map it?       | 4.1.4.4    |
//! | [`queue`]      | is this size, address or state possible, and which index is meant? | 2.7, 2.8   |
//! | [`config`]     | how is the device configuration read without tearing?              | 2.5, 4.1.4 |
//! | [`net`]        | what does a network device's configuration say and show?           | 5.1.4      |
//! | [`control`]    | what does a command of the control queue do to the device?         | 5.1.6.5    |
//! | [`opcode`]     | which commands are known, and what are they called?                | 5.1.6.5    |
//! | [`rules`]      | what may a driver ask for through the control queue?               | 5.1.6.5    |
//! | [`refusal`]    | why was a command of the control queue refused?                    | 5.1.6.5    |
//! | [`journal`]    | which commands bring a device back to where it was?                | 5.1.6.5    |
//! | [`split`]      | how does the device side of a split ring work?                     | 2.7        |
//! | [`chain`]      | what does a descriptor chain hold?                                 | 2.7.5      |
//! | [`iova`]       | which I/O virtual addresses are whose?                             |            |
//! | [`request`]    | how does a parent ask its device something?                        | 2.7        |
//! | [`relay`]      | how is a ring served from an index at which no device starts?      | 2.7        |
//! | [`relayed`]    | what does a look at the rings of a relayed queue leave to do?      |            |
//! | [`boundary`]   | when is a relayed queue given back to its device?                  |            |
//! | [`pace`]       | when does a relay look again by itself, instead of being kicked?   |            |
//! | [`gate`]       | where do notifications go while a queue changes hands?             | 2.3        |
//! | [`announce`]   | how do switches get to know where a guest is that has moved?       | 5.1.6      |
//! | [`standing`]   | where does a ring stand, whose device has stopped?                 | 2.7        |
//! | [`memory`]     | how does the ring reach the memory of its driver?                  | 2.7.13     |
//!
//! # Panics
//!
//! None: a panic in the kernel is a crash of the host. Arithmetic is checked or wrapping, slices are
//! reached with `get`, and the lints below turn an exception into an error. `unsafe` is forbidden.

// Kbuild passes `no_std` on the command line and cargo does not.
#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::panic,
    clippy::string_slice,
    clippy::unreachable,
    clippy::unwrap_used
)]

pub mod announce;
pub mod boundary;
pub mod capability;
pub mod chain;
pub mod config;
pub mod control;
pub mod device_id;
pub mod features;
pub mod gate;
pub mod iova;
pub mod journal;
pub mod layout;
pub mod memory;
pub mod net;
pub mod notify;
pub mod opcode;
mod outstanding;
pub mod pace;
pub mod policy;
pub mod queue;
pub mod refusal;
pub mod relay;
pub mod relayed;
pub mod request;
pub mod requirement;
pub mod rules;
pub mod split;
pub mod standing;
pub mod status;
