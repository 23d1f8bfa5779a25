// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>

#include "helpers.h"

/* `module!` has no key for it. This file is linked into each module. */
MODULE_VERSION(VF_VDPA_VERSION);

bool rust_helper_vdpa_pci_bar_is_memory(struct pci_dev *pdev, int bar)
{
	return pci_resource_flags(pdev, bar) & IORESOURCE_MEM;
}

void rust_helper_vdpa_break_virtio_device(struct device *dev)
{
	virtio_break_device(dev_to_virtio(dev));
}

void rust_helper_vdpa_dev_set_dma_coherent(struct device *dev)
{
	dev_set_dma_coherent(dev);
}

bool rust_helper_vdpa_device_iommu_mapped(struct device *dev)
{
	return device_iommu_mapped(dev);
}

int rust_helper_vdpa_iommu_get_msi_cookie(struct iommu_domain *domain, u64 base)
{
	return iommu_get_msi_cookie(domain, base);
}

bool rust_helper_vdpa_in_hardirq(void)
{
	return in_hardirq();
}

bool rust_helper_vdpa_queue_work(struct work_struct *work)
{
	return queue_work(system_dfl_wq, work);
}

bool rust_helper_vdpa_pfn_valid(unsigned long pfn)
{
	return pfn_valid(pfn);
}

void rust_helper_vdpa_get_pfn(unsigned long pfn)
{
	get_page(pfn_to_page(pfn));
}

void rust_helper_vdpa_put_pfn(unsigned long pfn)
{
	put_page(pfn_to_page(pfn));
}

u64 rust_helper_vdpa_sme_clr(u64 addr)
{
	return __sme_clr(addr);
}

phys_addr_t rust_helper_vdpa_virt_to_phys(void *addr)
{
	return virt_to_phys(addr);
}

void *rust_helper_vdpa_kmap_local_pfn(unsigned long pfn)
{
	return kmap_local_page(pfn_to_page(pfn));
}

void rust_helper_vdpa_kunmap_local(const void *addr)
{
	kunmap_local(addr);
}
