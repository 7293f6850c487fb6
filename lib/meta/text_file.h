/*
 * text_file.h - a small file that a person wrote, read whole and checked before it is parsed.
 *
 * Refused with one clear line: missing, a directory, too big, bytes that no text has (NUL). A BOM
 * is skipped, CRLF ends a line as LF does. The text may hold passwords: it is wiped when let go.
 */
#ifndef SHOAL_META_TEXT_FILE_H
#define SHOAL_META_TEXT_FILE_H

#include "core/error.h"
#include "core/slice.h"

typedef struct TextFile {
    const char *path; /* borrowed; as the operator gave it */
    char *text;       /* owned, NUL-terminated */
    size_t len;
    size_t at;           /* of the next line */
    int line;            /* number of the line last returned; 1 is the first */
    bool world_readable; /* everybody on this machine may read it */
} TextFile;

bool text_file_open(TextFile *file, const char *path, size_t size_max, Error *err) MUST_USE;
void text_file_close(TextFile *file);

/* The next line without its end; false after the last one. */
bool text_file_next(TextFile *file, Slice *ret_line);
/* "path:line: reason", F0000. `line` 0: about the whole file. Always false, for returning it. */
bool text_file_error(const TextFile *file, int line, Error *err, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Refuses a file with a secret in it that everybody may read; `line` holds the secret. */
bool text_file_keeps_secret(const TextFile *file, int line, Error *err) MUST_USE;

#endif
