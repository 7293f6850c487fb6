/*
 * grammar.c - the one place where libpg_query is called.
 *
 *     text -> parse (libpg_query's memory) -> protobuf bytes (malloc) -> tree of structs (our arena)
 *
 * The tree is unpacked into the arena with an allocator that never frees, so taking it down is one
 * arena_reset and cannot recurse.
 *
 * libpg_query keeps a memory context per thread, freed by a thread-specific key when the thread
 * ends. It makes that key on each thread's first use, in a plain static variable: the first use is
 * therefore under a lock here, once per thread.
 */
#include "query/grammar.h"

#include <pg_query.h>
#include <pthread.h>

static void thread_prepare(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static _Thread_local bool prepared;
    if (prepared)
        return;
    pthread_mutex_lock(&lock);
    pg_query_init();
    pthread_mutex_unlock(&lock);
    prepared = true;
}

static void *tree_alloc(void *arena, size_t size) { return arena_alloc(arena, size); }
static void tree_free(void *arena, void *memory) {}

GrammarResult grammar_parse(const char *text, Arena *arena, PgQuery__ParseResult **ret)
{
    thread_prepare();
    PgQueryProtobufParseResult parsed = pg_query_parse_protobuf(text);
    GrammarResult result = GRAMMAR_REFUSED;
    if (!parsed.error) {
        ProtobufCAllocator allocator = {.alloc = tree_alloc, .free = tree_free, .allocator_data = arena};
        *ret = pg_query__parse_result__unpack(&allocator, parsed.parse_tree.len,
                                              (const uint8_t *)parsed.parse_tree.data);
        result = *ret ? GRAMMAR_OK : GRAMMAR_NO_MEMORY;
    }
    pg_query_free_protobuf_parse_result(parsed);
    return result;
}

PgQuery__Node *grammar_unpack(Arena *arena, const uint8_t *packed, size_t len)
{
    ProtobufCAllocator allocator = {.alloc = tree_alloc, .free = tree_free, .allocator_data = arena};
    return pg_query__node__unpack(&allocator, len, packed);
}

Slice grammar_deparse(const PgQuery__ParseResult *tree, Arena *arena)
{
    thread_prepare();
    size_t size = pg_query__parse_result__get_packed_size(tree);
    uint8_t *packed = arena_alloc(arena, size);
    Slice text = slice_of(NULL, 0);
    if (!packed)
        return text;
    pg_query__parse_result__pack(tree, packed);
    PgQueryDeparseResult result =
        pg_query_deparse_protobuf((PgQueryProtobuf){.len = size, .data = (char *)packed});
    if (!result.error)
        text = arena_dup(arena, slice_str(result.query));
    pg_query_free_deparse_result(result);
    return text;
}

uint64_t grammar_fingerprint(const char *text)
{
    thread_prepare();
    PgQueryFingerprintResult result = pg_query_fingerprint(text);
    uint64_t fingerprint = result.error ? 0 : result.fingerprint;
    pg_query_free_fingerprint_result(result);
    return fingerprint;
}
