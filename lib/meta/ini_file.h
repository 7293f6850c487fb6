/*
 * ini_file.h - an INI file as a list of sections, each with its keys, values and line numbers.
 *
 *     [database app]        kind "database", name "app"
 *     shards = s0,s1        key "shards", value "s0,s1"
 *
 * Knows nothing of what the keys mean. Sections and keys keep the order of the file, and repeated
 * ones are kept, too: whether they may be repeated is the reader's matter.
 */
#ifndef SHOAL_META_INI_FILE_H
#define SHOAL_META_INI_FILE_H

#include "core/arena.h"
#include "core/list.h"
#include "meta/text_file.h"

typedef struct IniEntry {
    List link; /* IniSection.entries */
    const char *key;
    char *value; /* may be wiped by the reader when it is a secret */
    int line;
} IniEntry;

typedef struct IniSection {
    List link; /* IniFile.sections */
    const char *kind;
    const char *name; /* "" when the header has none */
    int line;
    List entries;
} IniSection;

typedef struct IniFile {
    TextFile text; /* for errors and for the permission check */
    List sections;
    Arena *arena; /* the caller's; holds all of the above */
} IniFile;

bool ini_file_open(IniFile *file, const char *path, Arena *arena, Error *err) MUST_USE;
void ini_file_close(IniFile *file);

#endif
