/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that the NIC did not place: the reader of rackgate.zeronic.sidestore and rackgate.zeronic.versions. */
#include <stdatomic.h>
#include <string.h>

#include "kernel.h"
#include "shim.h"

/* As sidestore.py has it. */
struct header {
    uint32_t slots;
    _Atomic uint32_t live, consumed, highest;
    uint32_t unused[12];
};

struct descriptor {
    uint32_t position;
    uint16_t size;
    uint8_t version, valid;
};

enum { SLOT_SIZE = 2048, IN_PLACE = 0 };

_Static_assert(sizeof(struct header) == 64 && sizeof(struct descriptor) == 8, "sidestore.py");

static struct header *header_of(const struct zn_flow *flow) { return (struct header *)flow->store; }

static const struct descriptor *descriptor_of(const struct zn_flow *flow, uint32_t slot)
{
    return (const struct descriptor *)(flow->store + sizeof(struct header)) + slot;
}

static bool valid(const struct descriptor *one)
{
    return atomic_load_explicit((const _Atomic uint8_t *)&one->valid, memory_order_acquire);
}

uint32_t zn_consumed(const struct zn_flow *flow)
{
    return atomic_load_explicit(&header_of(flow)->consumed, memory_order_relaxed);
}

void zn_consume(struct zn_flow *flow, uint32_t position)
{
    atomic_store_explicit(&header_of(flow)->consumed, position, memory_order_release);
}

bool zn_in_place(const struct zn_flow *flow, uint32_t position, size_t size)
{
    struct header *header = header_of(flow);
    if (!atomic_load_explicit(&header->live, memory_order_acquire))
        return true;
    uint32_t highest = atomic_load_explicit(&header->highest, memory_order_acquire);
    for (uint32_t slot = 0; slot < highest; slot++) {
        const struct descriptor *one = descriptor_of(flow, slot);
        if (valid(one) && (position - one->position < one->size || one->position - position < size))
            return false;
    }
    return true;
}

static const uint8_t *content_of(const struct zn_flow *flow, uint32_t slot)
{
    return (const uint8_t *)descriptor_of(flow, header_of(flow)->slots) + (size_t)SLOT_SIZE * slot;
}

/* Where version `tag` has the byte at `position`, and how many bytes it has from there on. */
static const uint8_t *find(const struct zn_flow *flow, uint32_t position, uint8_t tag, size_t *size)
{
    uint32_t highest = atomic_load_explicit(&header_of(flow)->highest, memory_order_acquire);
    for (uint32_t slot = 0; slot < highest; slot++) {
        const struct descriptor *one = descriptor_of(flow, slot);
        uint32_t offset = position - one->position;
        if (valid(one) && one->version == tag && offset < one->size) {
            *size = one->size - offset;
            return content_of(flow, slot) + offset;
        }
    }
    return NULL;
}

/* Bytes from the first on that have the same tag. */
static size_t run_of(const uint8_t *tags, size_t size)
{
    size_t n = 1;
    if (memcmp(tags, tags + 1, size - 1) == 0) /* quick, and nearly always so */
        return size;
    while (n < size && tags[n] == tags[0])
        n++;
    return n;
}

int zn_resolve(struct zn_flow *flow, uint32_t position, const uint8_t *tags, size_t size, struct zn_cursor *to)
{
    while (size) {
        size_t n = run_of(tags, size), room = 0;
        if (*tags == IN_PLACE && flow->receive_ring) {
            zn_copy_out(flow, position, to, n);
        } else {
            const uint8_t *content = find(flow, position, *tags, &room);
            if (!content)
                return -1;
            n = n < room ? n : room;
            zn_fill(to, content, n);
        }
        tags += n;
        position += (uint32_t)n;
        size -= n;
    }
    return 0;
}
