/* slice.c - comparing and hashing bytes. */
#include "core/slice.h"

#include <stdatomic.h>
#include <sys/random.h>

#include "core/clock.h"

static inline uint8_t ascii_lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; }

bool slice_equal_nocase(Slice a, Slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i]))
            return false;
    return true;
}

bool slice_equal_secret(Slice a, Slice b)
{
    if (a.len != b.len)
        return false;
    volatile uint8_t differing = 0; /* volatile: no early way out for the optimiser either */
    for (size_t i = 0; i < a.len; i++)
        differing |= a.data[i] ^ b.data[i];
    return differing == 0;
}

/*
 * The hash: 16 bytes at a time go through one 64x64 -> 128 bit multiplication, whose halves are
 * folded together; a product depends on all bits of both factors. The state enters as a factor, so
 * the order of the words counts. The last 1..16 bytes are read as two overlapping words, and the
 * length closes the sum, so that "a" and "a\0" differ. Both factors hold a secret made of the seed:
 * a client that could make one of them zero would choose what the other does not count for.
 */
#define HASH_K1 0x9e3779b97f4a7c15u /* odd, from the golden ratio */
#define HASH_K2 0xc2b2ae3d27d4eb4fu
#define HASH_K3 0xd6e8feb86659fd93u

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline uint64_t load4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Random, never 0, the same for all threads. */
static uint64_t process_seed(void)
{
    static atomic_uint_fast64_t seed;
    uint64_t now = atomic_load_explicit(&seed, memory_order_relaxed);
    if (now != 0)
        return now;
    uint64_t fresh = 0;
    if (getrandom(&fresh, sizeof(fresh), GRND_NONBLOCK) != (ssize_t)sizeof(fresh))
        fresh = fold(clock_wall_us() ^ HASH_K1, clock_now_us() ^ HASH_K2);
    uint_fast64_t none = 0; /* the first thread wins; the others take its seed */
    atomic_compare_exchange_strong(&seed, &none, fresh | 1);
    return atomic_load(&seed);
}

uint64_t slice_hash(Slice s, uint64_t seed)
{
    const uint8_t *p = s.data;
    size_t left = s.len;
    if (seed == 0)
        seed = process_seed();
    uint64_t state = fold(seed ^ HASH_K1, HASH_K2), secret = fold(seed ^ HASH_K3, HASH_K1);
    for (; left > 16; p += 16, left -= 16)
        state = fold(load8(p) ^ state, load8(p + 8) ^ secret) + state;

    uint64_t a = 0, b = 0; /* the last 0..16 bytes */
    if (left >= 8) {
        a = load8(p);
        b = load8(p + left - 8);
    } else if (left >= 4) {
        a = load4(p);
        b = load4(p + left - 4);
    } else if (left > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[left / 2] << 8 | p[left - 1];
    }
    state = fold(a ^ state ^ HASH_K3, b ^ secret) + state;
    return fold(state ^ HASH_K2, s.len ^ HASH_K1);
}
