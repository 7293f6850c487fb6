/*
 * script.c - a short list of texts, cut back as savepoints go.
 *
 *      BEGIN | SET LOCAL x | SAVEPOINT a | SET LOCAL y | SAVEPOINT b
 *      RELEASE a      ->   BEGIN | SET LOCAL x | SET LOCAL y
 *      ROLLBACK TO a  ->   BEGIN | SET LOCAL x | SAVEPOINT a
 */
#include "router/script.h"

#include <stdlib.h>

static void entry_drop(Script *script, uint32_t at)
{
    ScriptEntry *entry = &script->entries[at];
    script->bytes -= entry->text.len;
    free((void *)(uintptr_t)entry->text.data);
    memmove(entry, entry + 1, (script->count - at - 1) * sizeof *entry);
    script->count--;
}

static bool grow(Script *script)
{
    uint32_t room = script->room ? script->room * 2 : 4;
    ScriptEntry *entries = realloc(script->entries, room * sizeof *entries);
    if (!entries)
        return false;
    script->entries = entries;
    script->room = room;
    return true;
}

bool script_add(Script *script, ScriptKind kind, Slice name, Slice text)
{
    if (script->count == script->room && !grow(script))
        return false;
    uint8_t *block = malloc(text.len + name.len + 1);
    if (!block)
        return false;
    memcpy(block, text.data, text.len);
    if (name.len)
        memcpy(block + text.len, name.data, name.len);
    script->entries[script->count++] = (ScriptEntry){
        .kind = kind, .text = slice_of(block, text.len), .name = slice_of(block + text.len, name.len)};
    script->bytes += text.len;
    return true;
}

/* Index of the innermost savepoint of that name, or -1. */
static int find(const Script *script, Slice name)
{
    for (uint32_t i = script->count; i-- > 0;)
        if (script->entries[i].kind == SCRIPT_SAVEPOINT &&
            slice_equal(script->entries[i].name, name))
            return (int)i;
    return -1;
}

bool script_has_savepoint(const Script *script, Slice name)
{
    return find(script, name) >= 0;
}

bool script_release(Script *script, Slice name)
{
    int at = find(script, name);
    if (at < 0)
        return false;
    for (uint32_t i = script->count; i-- > (uint32_t)at;)
        if (script->entries[i].kind == SCRIPT_SAVEPOINT)
            entry_drop(script, i);
    return true;
}

bool script_rollback_to(Script *script, Slice name)
{
    int at = find(script, name);
    if (at < 0)
        return false;
    while (script->count > (uint32_t)at + 1)
        entry_drop(script, script->count - 1);
    return true;
}

void script_chain(Script *script)
{
    while (script->count > 1)
        entry_drop(script, script->count - 1);
}

void script_write(const Script *script, Buf *out)
{
    for (uint32_t i = 0; i < script->count; i++) {
        if (i)
            buf_append(out, SLICE(";\n"));
        buf_append(out, script->entries[i].text);
    }
}

void script_write_settings(const Script *script, Buf *out)
{
    for (uint32_t i = 0; i < script->count; i++) {
        if (script->entries[i].kind == SCRIPT_SAVEPOINT)
            continue;
        if (i)
            buf_append(out, SLICE(";\n"));
        buf_append(out, script->entries[i].text);
    }
}

void script_clear(Script *script)
{
    while (script->count)
        entry_drop(script, script->count - 1);
    free(script->entries);
    *script = (Script){0};
}
