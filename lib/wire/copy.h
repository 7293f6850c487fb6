/*
 * copy.h - COPY data cut into rows, and the key's columns found in each, without reading more of it.
 *
 *     CopyData  "1\tann\n2\tb"  "ob\n"           any boundaries, in the middle of a row or of an escape
 *                    │
 *     copy_next      ├─> row "1\tann\n"   keys[0] = "1"
 *                    ├─> row "2\tbob\n"   keys[0] = "2"
 *     copy_end       └─> WIRE_MORE: nothing was left
 *
 * A row is the client's bytes as they came: what a shard is sent is what a single server would have
 * read. Where rows end, what NULL is and how a value is escaped are PostgreSQL 15's own rules
 * (copyfromparse.c), for COPY_TEXT, COPY_CSV and COPY_BINARY. A row that lies whole in its chunk is
 * not copied; at most one unfinished row is kept, up to `row_max`.
 *
 * Bytes must be in an encoding in which no byte of a longer character looks like ASCII.
 */
#ifndef SHOAL_WIRE_COPY_H
#define SHOAL_WIRE_COPY_H

#include "core/arena.h"
#include "core/buf.h"
#include "wire/frame.h"

#define COPY_KEYS_MAX 8

typedef enum CopyFormat { COPY_TEXT, COPY_CSV, COPY_BINARY } CopyFormat;

/* How the data is written: what the options of the COPY statement say. */
typedef struct CopyLayout {
    CopyFormat format;
    uint8_t delimiter, quote, escape; /* quote and escape: CSV only */
    Slice null_text;                  /* borrowed: how NULL is written (text, CSV) */
    bool header;                      /* the first line is not a row */
    uint16_t keys[COPY_KEYS_MAX];     /* key columns: their places among the columns copied, from 0 */
    uint32_t key_count;
    size_t row_max; /* bytes of one row */
} CopyLayout;

/* PostgreSQL's defaults of the format; keys, header and row_max are the caller's. */
CopyLayout copy_layout_of(CopyFormat format);

typedef struct CopyField {
    Slice value;  /* unescaped; binary: as the type's send function gives it */
    bool null;
    bool missing; /* the row ends before it, or cannot be read: whoever stores it will complain */
} CopyField;

typedef struct CopyRow {
    Slice bytes; /* its end of line included, as it came; valid until the next call */
    bool every;  /* no row: a header line or the preamble of the binary format; every reader needs it */
    CopyField keys[COPY_KEYS_MAX];
} CopyRow;

/* Where the reader stands in the row it is in the middle of. */
typedef enum CopyPlace {
    COPY_LINE,      /* inside a line, nothing special */
    COPY_BACKSLASH, /* behind a backslash: of any kind in text, at the line's begin in CSV */
    COPY_DOT,       /* behind \. at the line's begin */
    COPY_RETURN,    /* behind \r: it depends on the next byte */
    COPY_PREAMBLE,  /* binary: signature, flags and extension */
    COPY_FIELDS     /* binary: a row */
} CopyPlace;

typedef enum CopyEol { COPY_EOL_UNKNOWN, COPY_EOL_NL, COPY_EOL_CR, COPY_EOL_CRNL } CopyEol;

typedef struct CopyReader {
    CopyLayout layout;
    CopyPlace place;
    CopyEol eol; /* of the first line; all others must end alike */
    bool ended;  /* the end marker was read; what follows is passed over (binary: refused) */
    bool header_due;
    bool in_quote, after_escape; /* CSV */
    size_t scanned; /* bytes of the row in hand that the place above stands for */
    size_t want;    /* binary: bytes of the row up to the next decision */
    int fields_left, field; /* binary; fields_left -1: their number is not read yet */
    struct {
        size_t at, len;
        bool null, found;
    } spans[COPY_KEYS_MAX]; /* binary: where the keys are, within the row */
    Buf kept;      /* of an unfinished row */
    bool kept_out; /* `kept` was handed out as a row: it is emptied at the next call */
    Arena scratch; /* unescaped values of one row */
    uint64_t rows;
} CopyReader;

void copy_reader_init(CopyReader *reader, const CopyLayout *layout);
void copy_reader_finish(CopyReader *reader);

/* The next row of *input, which is moved behind it. WIRE_MORE: *input is empty now, the begin of a row
 * may be kept. WIRE_BAD: 22P04 as PostgreSQL says it, or 54000 for a row beyond row_max. */
WireResult copy_next(CopyReader *reader, Slice *input, CopyRow *ret, Error *err) MUST_USE;
/* There is no more input: the last row when it had no end of line, else WIRE_MORE. */
WireResult copy_end(CopyReader *reader, CopyRow *ret, Error *err) MUST_USE;

/* What every reader of a binary COPY must get at its end; nothing for text. */
Slice copy_trailer(CopyFormat format);

/* Internal to wire (copy_fields.c): fills row->keys from a whole line without its end. */
bool copy_read_keys(const CopyLayout *layout, Slice line, Arena *scratch, CopyField *keys) MUST_USE;

#endif
