/*
 * ini_file.c - lines to sections and entries. inih splits `key = value ; comment`; the rest is ours.
 *
 * inih has fixed buffers: it would cut a section's name at 50 bytes and silently split a long line
 * in two, it does not tell of sections without keys, and takes an indented line for the
 * continuation of a value. So this file feeds it one line at a time through its reader callback:
 *
 *     TextFile --line--> feed_line --"[...]" kept here, too long: error, indentation off--> inih
 *                                                                      on_entry <--key, value--
 *
 * The state in IniFeed says which section and line inih is at, because it calls on_entry before it
 * asks for the next line.
 */
#include "meta/ini_file.h"

#include <ini.h>
#include <stdlib.h>

#define INI_FILE_MAX (1024 * 1024)
#define INI_LINE_MAX 4000 /* bytes of one line */

typedef struct IniFeed {
    IniFile *file;
    IniSection *section; /* the one being filled */
    Error *err;
    bool failed;     /* err is set; inih gets no more lines */
    bool entry_due;  /* the line fed last should have given an entry */
} IniFeed;

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\f' || c == '\v';
}

static Slice trim(Slice s)
{
    while (s.len > 0 && is_blank(s.data[0]))
        s = slice_from(s, 1);
    while (s.len > 0 && is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

#define FEED_FAIL(feed, ...)                                                                       \
    (text_file_error(&(feed)->file->text, (feed)->file->text.line, (feed)->err, __VA_ARGS__),      \
     (feed)->failed = true)

/* `[kind name]`, optionally with a comment behind it. */
static void feed_section(IniFeed *feed, Slice line)
{
    Arena *arena = feed->file->arena;
    size_t end = 1;
    while (end < line.len && line.data[end] != ']')
        end++;
    Slice tail = trim(slice_from(line, end + 1));
    if (end >= line.len || (tail.len > 0 && tail.data[0] != ';' && tail.data[0] != '#')) {
        FEED_FAIL(feed, "a section header must look like [kind name]");
        return;
    }
    Slice kind = trim(slice_of(line.data + 1, end - 1));
    size_t split = 0;
    while (split < kind.len && !is_blank(kind.data[split]))
        split++;
    Slice name = trim(slice_from(kind, split));
    kind.len = split;
    if (kind.len == 0) {
        FEED_FAIL(feed, "a section header must look like [kind name]");
        return;
    }
    IniSection *section = arena_new(arena, IniSection);
    if (section) {
        section->kind = arena_text(arena, kind);
        section->name = arena_text(arena, name);
        section->line = feed->file->text.line;
        list_init(&section->entries);
        list_init(&section->link);
        list_push(&feed->file->sections, &section->link);
        feed->section = section;
    }
    if (!section || !section->kind || !section->name)
        FEED_FAIL(feed, "out of memory");
}

/* inih's reader: fills `buf` as fgets does. Sections, comments and blank lines stay here. */
static char *feed_line(char *buf, int size, void *stream)
{
    IniFeed *feed = stream;
    Slice line;
    if (!feed->failed && feed->entry_due)
        FEED_FAIL(feed, "expected \"key = value\"");
    while (!feed->failed && text_file_next(&feed->file->text, &line)) {
        line = trim(line);
        if (line.len == 0 || line.data[0] == '#' || line.data[0] == ';')
            continue;
        if (line.len > INI_LINE_MAX || line.len + 2 > (size_t)size) {
            FEED_FAIL(feed, "the line is longer than %d bytes", MIN(INI_LINE_MAX, size - 2));
        } else if (line.data[0] == '[') {
            feed_section(feed, line);
        } else if (!feed->section) {
            FEED_FAIL(feed, "a setting must stand below a section header such as [shoal]");
        } else {
            memcpy(buf, line.data, line.len);
            buf[line.len] = '\n';
            buf[line.len + 1] = 0;
            feed->entry_due = true;
            return buf;
        }
    }
    return NULL;
}

static int on_entry(void *user, const char *section, const char *name, const char *value)
{
    IniFeed *feed = user;
    Arena *arena = feed->file->arena;
    feed->entry_due = false;
    if (feed->failed)
        return 1;
    IniEntry *entry = arena_new(arena, IniEntry);
    if (entry) {
        entry->key = arena_text(arena, slice_str(name));
        entry->value = arena_text(arena, slice_str(value));
        entry->line = feed->file->text.line;
        list_init(&entry->link);
        list_push(&feed->section->entries, &entry->link);
    }
    if (!entry || !entry->key || !entry->value)
        FEED_FAIL(feed, "out of memory");
    return 1;
}

bool ini_file_open(IniFile *file, const char *path, Arena *arena, Error *err)
{
    *file = (IniFile){.arena = arena};
    list_init(&file->sections);
    if (!text_file_open(&file->text, path, INI_FILE_MAX, err))
        return false;
    IniFeed feed = {.file = file, .err = err};
    ini_max_line = INI_LINE_MAX + 8;
    ini_allow_multiline = false;
    int rc = ini_parse_stream(feed_line, &feed, on_entry, &feed);
    if (!feed.failed && feed.entry_due)
        FEED_FAIL(&feed, "expected \"key = value\"");
    if (!feed.failed && rc != 0)
        FEED_FAIL(&feed, "cannot be parsed");
    if (feed.failed)
        ini_file_close(file);
    return !feed.failed;
}

void ini_file_close(IniFile *file)
{
    text_file_close(&file->text);
}
