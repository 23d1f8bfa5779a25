// SPDX-License-Identifier: GPL-2.0

//! Who is told of an interrupt.

use super::{
    alarm::Alarm,
    queue::Queue, //
};
use kernel::{
    device::{
        self,
        Bound, //
    },
    pci,
    prelude::*,
    str::CString,
    sync::Arc, //
};
use vdpa::{
    iommu::Attached,
    irq,
    notifier::Notifier, //
};

/// What interrupt handlers work on.
pub(crate) struct Receivers {
    /// The virtqueues, by the index that the consumer uses.
    pub(crate) queues: KVec<Queue>,
    pub(crate) alarm: Arc<Alarm>,
}

impl Receivers {
    /// Allocates what `queues` virtqueues need.
    pub(crate) fn new(
        dev: &device::Device,
        queues: u16,
        notifier: &Arc<Notifier>,
    ) -> Result<Arc<Self>> {
        let alarm = Alarm::new(dev)?;
        let mut all = KVec::with_capacity(usize::from(queues), GFP_KERNEL)?;

        for _ in 0..queues {
            all.push(Queue::new(notifier.clone(), alarm.clone())?, GFP_KERNEL)?;
        }
        Ok(Arc::new(Self { queues: all, alarm }, GFP_KERNEL)?)
    }

    /// Returns a virtqueue.
    pub(crate) fn queue(&self, vq: u16) -> Option<&Queue> {
        self.queues.get(usize::from(vq))
    }
}

/// What a vector serves.
#[derive(Clone, Copy)]
enum Serves {
    /// Configuration changes.
    Config,
    /// One virtqueue.
    Queue(u16),
    /// All virtqueues.
    Queues,
    /// All virtqueues and configuration changes.
    Everything,
}

/// The handler of one vector.
pub(crate) struct Handler {
    serves: Serves,
    receivers: Arc<Receivers>,
}

impl irq::Handler for Handler {
    fn handle(&self) {
        let receivers = &*self.receivers;

        if matches!(self.serves, Serves::Config | Serves::Everything) {
            receivers.alarm.config_changed();
        }
        match self.serves {
            Serves::Config => {}
            Serves::Queue(vq) => {
                if let Some(queue) = receivers.queue(vq) {
                    queue.interrupt();
                }
            }
            Serves::Queues | Serves::Everything => {
                for queue in &receivers.queues {
                    queue.interrupt();
                }
            }
        }
    }
}

/// How vectors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// A vector for each virtqueue, and one for the configuration.
    Exclusive,
    /// One vector for all virtqueues, and one for the configuration.
    Queues,
    /// One vector for everything.
    Everything,
}

impl Sharing {
    fn new(vectors: usize, queues: u16) -> Self {
        if vectors > usize::from(queues) {
            Sharing::Exclusive
        } else if vectors >= 2 {
            Sharing::Queues
        } else {
            Sharing::Everything
        }
    }

    /// Returns what a vector serves, [`None`] if nothing.
    fn serves(self, vector: usize) -> Option<Serves> {
        match (self, vector) {
            (Sharing::Everything, 0) => Some(Serves::Everything),
            (_, 0) => Some(Serves::Config),
            (Sharing::Exclusive, n) => Some(Serves::Queue(u16::try_from(n).ok()?.checked_sub(1)?)),
            (Sharing::Queues, 1) => Some(Serves::Queues),
            _ => None,
        }
    }
}

/// The interrupts of a function.
///
/// They are allocated and requested once, when it is probed, if the IOMMU does not translate them. Else
/// each holds an address of the domain that was attached when it was requested.
pub(crate) struct Interrupts<'bound> {
    pdev: &'bound pci::Device<Bound>,
    receivers: Arc<Receivers>,
    name: CString,
    /// Nothing if they could not be had again.
    lines: Option<irq::Interrupts<'bound, Handler>>,
    sharing: Sharing,
    requested_in: Attached,
}

impl<'bound> Interrupts<'bound> {
    /// The vector of configuration changes.
    pub(crate) const CONFIG_VECTOR: u16 = 0;

    /// Allocates a vector for each virtqueue and one for the configuration, fewer if there are not
    /// as many. The function is attached to the domain of the DMA API.
    pub(crate) fn new(
        pdev: &'bound pci::Device<Bound>,
        receivers: &Arc<Receivers>,
        name: &CStr,
    ) -> Result<Self> {
        let mut interrupts = Self {
            pdev,
            receivers: receivers.clone(),
            name: CString::try_from_fmt(fmt!("{name}"))?,
            lines: None,
            sharing: Sharing::Exclusive,
            requested_in: Attached::DmaApi,
        };

        interrupts.acquire().inspect_err(|error| {
            dev_err!(
                pdev,
                "refused: cannot get a single interrupt (error {})\n",
                error.to_errno()
            );
        })?;
        Ok(interrupts)
    }

    /// Requests all interrupts anew, unless they were requested while this domain was attached. Their
    /// numbers may change. The device has been reset, and works on nothing.
    ///
    /// # Errors
    ///
    /// As the kernel's. There are none then, until this succeeds.
    pub(crate) fn follow(&mut self, attached: Attached) -> Result {
        if self.lines.is_some() && self.requested_in == attached {
            return Ok(());
        }
        // A function has its vectors once.
        self.lines = None;
        self.acquire()?;
        self.requested_in = attached;
        Ok(())
    }

    /// Allocates and requests as many as there are. There are none now.
    fn acquire(&mut self) -> Result {
        let queues = u16::try_from(self.receivers.queues.len())?;
        let exclusive = u32::from(queues).saturating_add(1);
        let mut result = Err(ENOSPC);

        // Vectors may be scarce when they are allocated, or not before they are requested.
        for wanted in [exclusive, 2, 1] {
            // Vectors that are not enough have to go before others can be had.
            drop(core::mem::replace(&mut result, Err(ENOSPC)));
            result = Self::request(self.pdev, wanted, &self.receivers, &self.name);
            let enough = result
                .as_ref()
                .is_ok_and(|lines| u32::try_from(lines.len()) == Ok(wanted));
            if enough {
                break;
            }
        }
        let lines = result?;
        let sharing = Sharing::new(lines.len(), queues);

        let changed = sharing != core::mem::replace(&mut self.sharing, sharing);
        if changed && sharing != Sharing::Exclusive {
            dev_info!(
                self.pdev,
                "{} of {} interrupts available, virtqueues share one\n",
                lines.len(),
                exclusive
            );
        }
        self.lines = Some(lines);
        Ok(())
    }

    fn request(
        pdev: &'bound pci::Device<Bound>,
        wanted: u32,
        receivers: &Arc<Receivers>,
        name: &CStr,
    ) -> Result<irq::Interrupts<'bound, Handler>> {
        let queues = u16::try_from(receivers.queues.len())?;

        irq::Interrupts::new(pdev, wanted, |vector, vectors| {
            let serves = Sharing::new(vectors, queues)
                .serves(vector)
                .unwrap_or(Serves::Queues);
            let label = match serves {
                Serves::Config => CString::try_from_fmt(fmt!("vf_vdpa-{name}-config"))?,
                Serves::Queue(vq) => CString::try_from_fmt(fmt!("vf_vdpa-{name}-vq{vq}"))?,
                Serves::Queues => CString::try_from_fmt(fmt!("vf_vdpa-{name}-vqs"))?,
                Serves::Everything => CString::try_from_fmt(fmt!("vf_vdpa-{name}"))?,
            };
            let receivers = receivers.clone();

            Ok((label, Handler { serves, receivers }))
        })
    }

    /// Returns the vector of a virtqueue.
    pub(crate) fn vector(&self, vq: u16) -> u16 {
        match self.sharing {
            Sharing::Exclusive => vq.saturating_add(1),
            Sharing::Queues => 1,
            Sharing::Everything => 0,
        }
    }

    /// Returns the Linux interrupt number of a virtqueue, if nothing else uses it.
    pub(crate) fn exclusive_irq(&self, vq: u16) -> Option<u32> {
        match self.sharing {
            Sharing::Exclusive => self.lines.as_ref()?.irq(usize::from(self.vector(vq))),
            Sharing::Queues | Sharing::Everything => None,
        }
    }

    /// Returns whether what the virtqueues interrupt for is taken for a change of the configuration, too.
    pub(crate) fn share_everything(&self) -> bool {
        self.sharing == Sharing::Everything
    }

    /// Waits until no handler runs that was running when this was called. Sleeps.
    pub(crate) fn synchronize(&self) {
        if let Some(lines) = &self.lines {
            lines.synchronize();
        }
    }
}
