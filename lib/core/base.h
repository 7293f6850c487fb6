/* base.h - the few attributes and macros that every file may use. */
#ifndef SHOAL_CORE_BASE_H
#define SHOAL_CORE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A result that must be looked at: the caller decides what a failure means. */
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Under AddressSanitizer: memory that is ours but must not be touched now (given back, not yet
 * handed out). Nothing otherwise. */
#if defined(__SANITIZE_ADDRESS__)
#define SHOAL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SHOAL_ASAN 1
#endif
#endif
#ifdef SHOAL_ASAN
/* As in <sanitizer/asan_interface.h> but for a const, which makes gcc 12 take them for readers. */
void __asan_poison_memory_region(void volatile *ptr, size_t size);
void __asan_unpoison_memory_region(void volatile *ptr, size_t size);
#define MEM_POISON(ptr, size) __asan_poison_memory_region((ptr), (size))
#define MEM_UNPOISON(ptr, size) __asan_unpoison_memory_region((ptr), (size))
#else
#define MEM_POISON(ptr, size) ((void)(ptr), (void)(size))
#define MEM_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

/* The struct that holds `member` at address `ptr`. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
