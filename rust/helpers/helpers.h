/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One-line wrappers of inline functions and macros, which Rust cannot call.
 */
#ifndef _VF_VDPA_HELPERS_H
#define _VF_VDPA_HELPERS_H

#include <linux/pci.h>

struct device;
struct iommu_domain;
struct work_struct;

bool rust_helper_vdpa_pci_bar_is_memory(struct pci_dev *pdev, int bar);
void rust_helper_vdpa_break_virtio_device(struct device *dev);
void rust_helper_vdpa_dev_set_dma_coherent(struct device *dev);
bool rust_helper_vdpa_device_iommu_mapped(struct device *dev);
int rust_helper_vdpa_iommu_get_msi_cookie(struct iommu_domain *domain, u64 base);
bool rust_helper_vdpa_in_hardirq(void);
bool rust_helper_vdpa_queue_work(struct work_struct *work);
bool rust_helper_vdpa_pfn_valid(unsigned long pfn);
void rust_helper_vdpa_get_pfn(unsigned long pfn);
void rust_helper_vdpa_put_pfn(unsigned long pfn);
u64 rust_helper_vdpa_sme_clr(u64 addr);
phys_addr_t rust_helper_vdpa_virt_to_phys(void *addr);
void *rust_helper_vdpa_kmap_local_pfn(unsigned long pfn);
void rust_helper_vdpa_kunmap_local(const void *addr);

#endif
