// SPDX-License-Identifier: GPL-2.0

//! MSI-X interrupts of a PCI function, each with a name and a handler of its own.
//!
//! The kernel crate's registration wants a name that is `'static` and borrows the vectors it
//! belongs to; a driver with a vector per virtqueue needs neither.

use super::bindings;
use core::marker::PhantomPinned;
use kernel::{
    device::Bound,
    devres::Devres,
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    irq::IrqRequest,
    pci,
    prelude::*,
    str::CString, //
};

/// Returns whether the caller runs in hard interrupt context. Any context.
pub fn in_hard_interrupt() -> bool {
    // SAFETY: This only looks at a counter of the current CPU.
    unsafe { bindings::vdpa_in_hardirq() }
}

/// What is to be done on an interrupt.
pub trait Handler: Send + Sync + 'static {
    /// Handles an interrupt, in hard interrupt context.
    fn handle(&self);
}

/// What the C core keeps pointers to while an interrupt is requested.
#[pin_data]
struct Line<H: Handler> {
    name: CString,
    handler: H,
    #[pin]
    _pin: PhantomPinned,
}

/// A requested interrupt. Dropping it waits for its handler to finish. Sleeps.
///
/// # Invariants
///
/// `irq` was requested with `line` as its cookie.
struct Requested<H: Handler> {
    irq: u32,
    line: Pin<KBox<Line<H>>>,
}

impl<H: Handler> Requested<H> {
    /// Requests an interrupt.
    ///
    /// # Safety
    ///
    /// The result is dropped before the vector with the number `irq` is freed, and before the code of
    /// the handler goes away.
    unsafe fn new(irq: u32, name: CString, handler: H) -> Result<Self> {
        let line = KBox::pin_init(
            pin_init!(Line {
                name,
                handler,
                _pin: PhantomPinned,
            }),
            GFP_KERNEL,
        )?;

        // SAFETY: The name and the cookie are pinned and live until `free_irq()`, which the caller sees
        // to. The callback only makes a shared reference of the cookie, which is complete: it may be
        // called at once.
        to_result(unsafe {
            bindings::request_threaded_irq(
                irq,
                Some(Self::handle_callback),
                None,
                0,
                line.name.as_char_ptr(),
                Self::cookie(&line),
            )
        })?;
        // INVARIANT: The interrupt was just requested.
        Ok(Self { irq, line })
    }

    fn cookie(line: &Pin<KBox<Line<H>>>) -> *mut c_void {
        core::ptr::from_ref::<Line<H>>(line).cast_mut().cast()
    }

    extern "C" fn handle_callback(_irq: c_int, cookie: *mut c_void) -> bindings::irqreturn_t {
        // SAFETY: The cookie is a pinned line that lives until `free_irq()` returns. Its handler is
        // `Sync`.
        unsafe { &*cookie.cast::<Line<H>>() }.handler.handle();
        bindings::irqreturn::IRQ_HANDLED
    }
}

impl<H: Handler> Drop for Requested<H> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. The name that this returns is dropped with the line.
        unsafe { bindings::free_irq(self.irq, Self::cookie(&self.line)) };
    }
}

/// The interrupts of a function.
///
/// Vectors are allocated and requested once: their numbers, and the addresses that the function
/// writes to, do not change while this lives.
///
/// # Invariants
///
/// `irqs` has the numbers of `lines`, which are requested while the function is bound.
pub struct Interrupts<'bound, H: Handler> {
    irqs: KVec<u32>,
    // Dropped before the vectors that they use. If this is forgotten instead, they are freed when the
    // function is unbound: a handler must not run when its module has gone.
    _lines: KVec<Devres<Requested<H>>>,
    _vectors: pci::IrqVectorRegistration<'bound>,
}

impl<'bound, H: Handler> Interrupts<'bound, H> {
    /// Allocates up to `wanted` vectors, at least one, and requests all of them.
    ///
    /// `line` gives the name and the handler of each, from its index and the number of vectors.
    ///
    /// # Errors
    ///
    /// - `ENOSPC` if there is no vector, or no MSI-X.
    /// - What requesting an interrupt returns.
    pub fn new(
        pdev: &'bound pci::Device<Bound>,
        wanted: u32,
        mut line: impl FnMut(usize, usize) -> Result<(CString, H)>,
    ) -> Result<Self> {
        let types = pci::IrqTypes::default().with(pci::IrqType::MsiX);
        let vectors = pdev.alloc_irq_vectors(1, wanted.max(1), types)?;
        let mut lines = KVec::with_capacity(vectors.len(), GFP_KERNEL)?;
        let mut irqs = KVec::with_capacity(vectors.len(), GFP_KERNEL)?;

        for index in 0..vectors.len() {
            let (name, handler) = line(index, vectors.len())?;
            let irq = IrqRequest::from(vectors.index(index)?).irq();

            // SAFETY: `lines` is dropped before `vectors`, here and as fields of `Self`. Whatever
            // becomes of these, `Devres` drops the line when the function is unbound, which precedes
            // the end of the driver's module.
            let line = unsafe { Requested::new(irq, name, handler) }?;
            lines.push(Devres::new(pdev.as_ref(), line)?, GFP_KERNEL)?;
            irqs.push(irq, GFP_KERNEL)?;
        }
        // INVARIANT: They were just requested.
        Ok(Self {
            irqs,
            _lines: lines,
            _vectors: vectors,
        })
    }

    /// Returns the number of vectors.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.irqs.len()
    }

    /// Returns the Linux interrupt number of a vector.
    pub fn irq(&self, vector: usize) -> Option<u32> {
        self.irqs.get(vector).copied()
    }

    /// Waits until no handler runs that was running when this was called. May sleep; not to be called
    /// with a lock held that a handler takes.
    pub fn synchronize(&self) {
        for irq in &self.irqs {
            // SAFETY: Any number will do; by the type invariant, this one is requested.
            unsafe { bindings::synchronize_irq(*irq) };
        }
    }
}
