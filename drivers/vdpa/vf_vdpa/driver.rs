// SPDX-License-Identifier: GPL-2.0

//! The PCI driver: what happens to a function from probe to unbind.

use super::{
    function::Function,
    mgmt, //
};
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use vdpa::pci::{
    channel_state,
    ChannelState,
    Driver,
    ErrorResult, //
};

/// The driver.
pub(crate) struct VfVdpa;

// Empty, as a modalias would race with virtio_pci for every virtio function of the machine. The
// administrator binds a function with `driver_override`.
kernel::pci_device_table!(ID_TABLE, (), []);

impl Driver for VfVdpa {
    const ID_TABLE: pci::IdTable<()> = &ID_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
    ) -> impl PinInit<Function<'bound>, Error> + 'bound {
        Function::new(pdev)
    }

    fn describe(function: &Function<'_>) -> vdpa::mgmt::Description {
        mgmt::describe(function)
    }

    fn unbind(function: &Function<'_>) {
        if channel_state(function.pdev) == ChannelState::PermanentFailure {
            function.vanish();
        }
    }

    fn shutdown(function: &Function<'_>) {
        function.shut_down();
    }

    fn error_detected(function: &Function<'_>, state: ChannelState) -> ErrorResult {
        match state {
            ChannelState::Normal => ErrorResult::CanRecover,
            ChannelState::Frozen => {
                function.freeze();
                ErrorResult::NeedReset
            }
            ChannelState::PermanentFailure => {
                // Told to all below a port as soon as one of them cannot be helped.
                match channel_state(function.pdev) {
                    ChannelState::Normal => function.carry_on(),
                    ChannelState::Frozen => function.abandon(),
                    ChannelState::PermanentFailure => function.vanish(),
                }
                ErrorResult::Disconnect
            }
        }
    }

    fn slot_reset(function: &Function<'_>) -> ErrorResult {
        // It may be a sibling that asked for the reset.
        function.freeze();
        match function.enabled.restore() {
            Ok(()) => ErrorResult::Recovered,
            Err(_) => ErrorResult::Disconnect,
        }
    }

    fn resume(function: &Function<'_>) {
        function.attach();
    }

    fn reset_prepare(function: &Function<'_>) {
        function.detach();
    }

    fn reset_done(function: &Function<'_>) {
        function.attach();
    }
}
