/*
 * settings.h - the rows of config_settings() at work: text into a field, and back (internal to meta).
 */
#ifndef SHOAL_META_SETTINGS_H
#define SHOAL_META_SETTINGS_H

#include "meta/config.h"

/* The row, or NULL. */
const Setting *setting_find(const char *section, const char *key);
/*
 * Stores `text` in the field of `base` that the row describes. Texts are copied into `arena`. On
 * failure `ret_reason` tells what was expected, naming the range; never the value of a secret.
 */
bool setting_store(const Setting *setting, void *base, const char *text, Arena *arena,
                   char ret_reason[static 256]) MUST_USE;
/* Defaults of all rows of a section. False when memory is out. */
bool settings_default(const char *section, void *base, Arena *arena) MUST_USE;
/* The field's value as an operator would write it. */
const char *setting_show(const Setting *setting, const void *base, Arena *arena);

#endif
