/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What rust/vdpa needs of C and the kernel crate does not bind.
 *
 * <linux/hrtimer_types.h> comes first for the same reason as in the kernel's own
 * bindings_helper.h: bindgen must see its enum before an anonymous use of it.
 */

#include <linux/hrtimer_types.h>
#include <linux/mod_devicetable.h>
#include <linux/vdpa.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio.h>
#include <uapi/linux/vdpa.h>
#include <uapi/linux/vhost_types.h>

#include "../helpers/helpers.h"
