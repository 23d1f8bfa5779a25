// SPDX-License-Identifier: GPL-2.0

//! The C form of [`VqState`]: a union, of which the negotiated features tell the member.

use crate::{
    bindings,
    VqState, //
};

impl VqState {
    /// Reads a state, of a packed virtqueue or of a split one.
    ///
    /// # Safety
    ///
    /// `raw` is valid for reads.
    pub(super) unsafe fn from_raw(raw: *const bindings::vdpa_vq_state, packed: bool) -> Self {
        // SAFETY: By the safety requirement. The consumer has filled the member that the features
        // call for in its own opinion, and only that. If it is not the one that is read below,
        // because the driver has another, the rest is what the stack held: the access is volatile,
        // so that it is some number then, and not one that the compiler may presume anything of.
        let raw = unsafe { raw.read_volatile() };

        if packed {
            // SAFETY: All bit patterns are valid for both members of the union, and `raw` is
            // initialized.
            let packed = unsafe { raw.__bindgen_anon_1.packed };

            VqState::Packed {
                last_avail_counter: packed.last_avail_counter() != 0,
                last_avail_idx: packed.last_avail_idx(),
                last_used_counter: packed.last_used_counter() != 0,
                last_used_idx: packed.last_used_idx(),
            }
        } else {
            // SAFETY: As above.
            let split = unsafe { raw.__bindgen_anon_1.split };

            VqState::Split {
                avail_index: split.avail_index,
            }
        }
    }

    /// Returns the C form, with no byte left uninitialized.
    pub(super) fn to_raw(self) -> bindings::vdpa_vq_state {
        let mut raw: bindings::vdpa_vq_state = pin_init::zeroed();

        match self {
            VqState::Split { avail_index } => {
                raw.__bindgen_anon_1.split = bindings::vdpa_vq_state_split { avail_index };
            }
            VqState::Packed {
                last_avail_counter,
                last_avail_idx,
                last_used_counter,
                last_used_idx,
            } => {
                let mut packed: bindings::vdpa_vq_state_packed = pin_init::zeroed();

                packed.set_last_avail_counter(last_avail_counter.into());
                packed.set_last_avail_idx(last_avail_idx & 0x7fff);
                packed.set_last_used_counter(last_used_counter.into());
                packed.set_last_used_idx(last_used_idx & 0x7fff);
                raw.__bindgen_anon_1.packed = packed;
            }
        }
        raw
    }
}
