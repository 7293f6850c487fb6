/*
 * config_loader.h - one load of shards.ini, shared by the files that read its sections (internal).
 */
#ifndef SHOAL_META_CONFIG_LOADER_H
#define SHOAL_META_CONFIG_LOADER_H

#include "meta/config.h"
#include "meta/ini_file.h"

#define CONFIG_NAME_MAX 63 /* NAMEDATALEN - 1 */

typedef struct ConfigLoader {
    Config *config;
    IniFile ini;
    Arena arena;     /* of the IniFile and of what is needed while loading */
    int *lines;      /* by row of the settings table: where [shoal] and [batch] set it; 0: nowhere */
    Error *err;
} ConfigLoader;

#define FAIL(loader, line, ...)                                                                    \
    text_file_error(&(loader)->ini.text, (line), (loader)->err, __VA_ARGS__)
#define FAIL_MEMORY(loader) FAIL(loader, 0, "out of memory")

#define SECTIONS_EACH(it, loader, kind)                                                            \
    for (IniSection *it = section_next(loader, &(loader)->ini.sections, kind); it;                 \
         it = section_next(loader, &it->link, kind))

/* The next section of this kind behind `link` (the list's head to begin with), or NULL. */
IniSection *section_next(ConfigLoader *loader, List *link, const char *kind);
uint32_t section_count(ConfigLoader *loader, const char *kind);
/* The first entry with this key, or NULL. */
IniEntry *entry_find(IniSection *section, const char *key);
/* Stores all keys of a section in `base`. Rows of width 0 are checked and left to the caller. */
bool section_read(ConfigLoader *loader, IniSection *section, void *base) MUST_USE;
/* Where [shoal] or [batch] set this key; 0: nowhere. */
int config_line_of(ConfigLoader *loader, const char *key);

/* In this order: all others may name profiles, databases name shards, tables name databases. */
bool load_profiles(ConfigLoader *loader) MUST_USE;
bool load_applications(ConfigLoader *loader) MUST_USE;
/* Does a section's `profile` name one? Nothing to check when it has none. */
bool profile_check(ConfigLoader *loader, IniSection *section) MUST_USE;
bool load_shards(ConfigLoader *loader) MUST_USE;
bool load_databases(ConfigLoader *loader) MUST_USE;
bool load_users(ConfigLoader *loader) MUST_USE;
bool load_tables(ConfigLoader *loader) MUST_USE;

#endif
