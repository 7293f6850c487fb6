/*
 * copy.c - where rows end, byte by byte, whatever the chunks.
 *
 * The state of the scan is kept from chunk to chunk, so that no byte is looked at twice:
 *
 *     kept          "2,"ma        │ input   ny "" lines"\n3,x\n
 *                    └─ scanned ──┤          ^ scan goes on here, in_quote
 *                                 └ what belongs to the row is moved behind `kept`, then handed out
 *
 * Text: a backslash takes the next byte with it, even an end of line. CSV: ends of lines inside quotes are
 * data. Both: the first line decides how lines end, and \. alone on a line ends the data. Binary: lengths.
 */
#include "wire/copy.h"

#define SIGNATURE_LEN 11
#define PREAMBLE_LEN  (SIGNATURE_LEN + 8) /* signature, flags, length of the extension */
static const char SIGNATURE[] = "PGCOPY\n\377\r\n"; /* with its NUL */

#define SQLSTATE_BAD_COPY "22P04"

CopyLayout copy_layout_of(CopyFormat format)
{
    CopyLayout layout = {.format = format, .quote = '"', .escape = '"', .row_max = SIZE_MAX};
    layout.delimiter = format == COPY_CSV ? ',' : '\t';
    layout.null_text = format == COPY_CSV ? SLICE("") : SLICE("\\N");
    return layout;
}

static void row_begin(CopyReader *reader)
{
    if (reader->kept_out)
        buf_reset(&reader->kept);
    reader->kept_out = false;
    reader->in_quote = reader->after_escape = false;
    reader->scanned = 0;
    if (reader->layout.format != COPY_BINARY) {
        reader->place = COPY_LINE;
        return;
    }
    reader->place = COPY_FIELDS;
    reader->want = 2;
    reader->fields_left = -1;
    reader->field = 0;
    memset(reader->spans, 0, sizeof reader->spans);
}

void copy_reader_init(CopyReader *reader, const CopyLayout *layout)
{
    assert(layout->key_count <= COPY_KEYS_MAX);
    *reader = (CopyReader){.layout = *layout, .header_due = layout->header};
    buf_init(&reader->kept, layout->row_max);
    arena_init(&reader->scratch, 512);
    row_begin(reader);
    if (layout->format == COPY_BINARY) {
        reader->place = COPY_PREAMBLE;
        reader->want = PREAMBLE_LEN;
    }
}

void copy_reader_finish(CopyReader *reader)
{
    buf_finish(&reader->kept);
    arena_finish(&reader->scratch);
}

Slice copy_trailer(CopyFormat format)
{
    return format == COPY_BINARY ? SLICE("\xff\xff") : SLICE("");
}

static WireResult bad(Error *err, const char *message)
{
    error_set(err, SQLSTATE_BAD_COPY, "%s", message);
    return WIRE_BAD;
}

static WireResult too_long(const CopyReader *reader, Error *err)
{
    error_set(err, SQLSTATE_LIMIT_EXCEEDED, "a row of COPY data is too long");
    error_detail(err, "The limit is %zu bytes.", reader->layout.row_max);
    error_hint(err, "Raise copy_row_max; an unclosed quote looks like a long row, too.");
    return WIRE_BAD;
}

/* ---- lines: text and CSV ------------------------------------------------------------------------- */

typedef enum LineStep { LINE_ON, LINE_ENDS, LINE_ENDED_BEFORE, LINE_MARKER, LINE_BAD } LineStep;

static LineStep newline(CopyReader *reader, Error *err)
{
    bool csv = reader->layout.format == COPY_CSV;
    if (reader->eol == COPY_EOL_CR || reader->eol == COPY_EOL_CRNL) {
        bad(err, csv ? "unquoted newline found in data" : "literal newline found in data");
        return LINE_BAD;
    }
    reader->eol = COPY_EOL_NL;
    return LINE_ENDS;
}

static LineStep bad_return(const CopyReader *reader, Error *err)
{
    bad(err, reader->layout.format == COPY_CSV ? "unquoted carriage return found in data"
                                               : "literal carriage return found in data");
    return LINE_BAD;
}

static LineStep carriage_return(CopyReader *reader, Error *err)
{
    if (reader->eol == COPY_EOL_NL)
        return bad_return(reader, err);
    if (reader->eol == COPY_EOL_CR)
        return LINE_ENDS;
    reader->place = COPY_RETURN;
    return LINE_ON;
}

static LineStep behind_return(CopyReader *reader, uint8_t c, Error *err)
{
    if (c == '\n') {
        reader->eol = COPY_EOL_CRNL;
        return LINE_ENDS;
    }
    if (reader->eol == COPY_EOL_CRNL)
        return bad_return(reader, err);
    reader->eol = COPY_EOL_CR;
    return LINE_ENDED_BEFORE;
}

static void quote_step(CopyReader *reader, uint8_t c)
{
    const CopyLayout *layout = &reader->layout;
    bool own_escape = layout->escape != layout->quote;
    if (own_escape && reader->in_quote && c == layout->escape)
        reader->after_escape = !reader->after_escape;
    if (c == layout->quote && !reader->after_escape)
        reader->in_quote = !reader->in_quote;
    if (!own_escape || c != layout->escape)
        reader->after_escape = false;
}

static LineStep plain_step(CopyReader *reader, uint8_t c, bool first, Error *err)
{
    bool csv = reader->layout.format == COPY_CSV;
    reader->place = COPY_LINE;
    if (csv)
        quote_step(reader, c);
    if (c == '\\' && (!csv || first)) {
        reader->place = COPY_BACKSLASH;
        return LINE_ON;
    }
    if (reader->in_quote)
        return LINE_ON;
    return c == '\n' ? newline(reader, err) : c == '\r' ? carriage_return(reader, err) : LINE_ON;
}

static LineStep behind_backslash(CopyReader *reader, uint8_t c, size_t at, Error *err)
{
    bool csv = reader->layout.format == COPY_CSV;
    if (c == '.' && at == 1 && !reader->in_quote) {
        reader->place = COPY_DOT;
        return LINE_ON;
    }
    if (csv)
        return plain_step(reader, c, false, err);
    reader->place = COPY_LINE; /* whatever it was, it was data */
    if (c != '.')
        return LINE_ON;
    bad(err, "end-of-copy marker corrupt");
    return LINE_BAD;
}

static LineStep behind_dot(CopyReader *reader, uint8_t c, Error *err)
{
    if (c == '\n' || c == '\r')
        return LINE_MARKER;
    if (reader->layout.format == COPY_CSV) {
        quote_step(reader, '.');
        return plain_step(reader, c, false, err);
    }
    bad(err, "end-of-copy marker corrupt");
    return LINE_BAD;
}

static inline bool is_dull(const CopyReader *reader, uint8_t c)
{
    const CopyLayout *layout = &reader->layout;
    return c != '\n' && c != '\r' && c != '\\' &&
           (layout->format != COPY_CSV || (c != layout->quote && c != layout->escape));
}

/* Goes on with the row in hand over `input`. *ret_used: bytes of it that belong to the row. */
static LineStep line_scan(CopyReader *reader, Slice input, size_t *ret_used, Error *err)
{
    const uint8_t *at = input.data, *end = input.data + input.len;
    LineStep step = LINE_ON;
    while (at < end && step == LINE_ON) {
        size_t place = reader->scanned + (size_t)(at - input.data);
        uint8_t c = *at++;
        switch (reader->place) {
        case COPY_BACKSLASH:
            step = behind_backslash(reader, c, place, err);
            break;
        case COPY_DOT:
            step = behind_dot(reader, c, err);
            break;
        case COPY_RETURN:
            step = behind_return(reader, c, err);
            break;
        default:
            step = plain_step(reader, c, place == 0, err);
            while (reader->place == COPY_LINE && step == LINE_ON && at < end && is_dull(reader, *at)) {
                reader->after_escape = false;
                at++;
            }
        }
    }
    *ret_used = (size_t)(at - input.data) - (step == LINE_ENDED_BEFORE);
    reader->scanned += *ret_used;
    return step;
}

static Slice without_eol(const CopyReader *reader, Slice line)
{
    if (line.len && line.data[line.len - 1] == '\n')
        line.len--;
    if (line.len && reader->eol != COPY_EOL_NL && line.data[line.len - 1] == '\r')
        line.len--;
    return line;
}

static WireResult give_line(CopyReader *reader, Slice bytes, bool ended, CopyRow *ret, Error *err)
{
    *ret = (CopyRow){.bytes = bytes, .every = reader->header_due};
    reader->header_due = false;
    if (ret->every)
        return WIRE_OK;
    reader->rows++;
    arena_reset(&reader->scratch);
    if (copy_read_keys(&reader->layout, ended ? without_eol(reader, bytes) : bytes, &reader->scratch,
                       ret->keys))
        return WIRE_OK;
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return WIRE_BAD;
}

/* The row in hand is `kept` and the first `used` bytes of *input: as one. */
static bool row_join(CopyReader *reader, Slice *input, size_t used, Slice *ret)
{
    *ret = slice_of(input->data, used);
    if (buf_len(&reader->kept)) {
        if (!buf_append(&reader->kept, *ret))
            return false;
        *ret = buf_bytes(&reader->kept);
        reader->kept_out = true;
    }
    *input = slice_from(*input, used);
    return ret->len <= reader->layout.row_max;
}

static WireResult keep_rest(CopyReader *reader, Slice *input, Error *err)
{
    bool ok = buf_append(&reader->kept, *input);
    *input = slice_from(*input, input->len);
    return ok ? WIRE_MORE : too_long(reader, err);
}

static WireResult next_line(CopyReader *reader, Slice *input, CopyRow *ret, Error *err)
{
    size_t used;
    Slice bytes;
    if (reader->scanned && (reader->kept_out || buf_len(&reader->kept) == 0))
        row_begin(reader); /* the one before was handed out */
    switch (line_scan(reader, *input, &used, err)) {
    case LINE_ON:
        return keep_rest(reader, input, err);
    case LINE_BAD:
        return WIRE_BAD;
    case LINE_MARKER:
        reader->ended = true;
        *input = slice_from(*input, input->len);
        return WIRE_MORE;
    default:
        break;
    }
    if (!row_join(reader, input, used, &bytes))
        return too_long(reader, err);
    return give_line(reader, bytes, true, ret, err);
}

static WireResult end_line(CopyReader *reader, CopyRow *ret, Error *err)
{
    Slice bytes = buf_bytes(&reader->kept);
    if (reader->kept_out || bytes.len == 0 || reader->ended)
        return WIRE_MORE;
    reader->kept_out = reader->ended = true;
    if (reader->place == COPY_DOT)
        return WIRE_MORE;
    if (reader->place == COPY_RETURN && reader->eol == COPY_EOL_CRNL) {
        bad_return(reader, err);
        return WIRE_BAD;
    }
    return give_line(reader, bytes, reader->place == COPY_RETURN, ret, err);
}

/* ---- binary ----------------------------------------------------------------------------------------- */

static uint32_t big_endian(const uint8_t *at, int bytes)
{
    uint32_t value = 0;
    while (bytes--)
        value = value << 8 | *at++;
    return value;
}

static WireResult preamble_step(CopyReader *reader, const uint8_t *row, Error *err)
{
    uint32_t flags = big_endian(row + SIGNATURE_LEN, 4), extension = big_endian(row + SIGNATURE_LEN + 4, 4);
    if (memcmp(row, SIGNATURE, SIGNATURE_LEN) != 0)
        return bad(err, "COPY file signature not recognized");
    if (flags & 1u << 16)
        return bad(err, "invalid COPY file header (WITH OIDS)");
    if (flags >> 16)
        return bad(err, "unrecognized critical flags in COPY file header");
    if (extension > INT32_MAX)
        return bad(err, "invalid COPY file header (missing length)");
    if (reader->want == PREAMBLE_LEN && extension) {
        reader->want += extension;
        return WIRE_MORE;
    }
    return WIRE_OK;
}

static void note_key(CopyReader *reader, size_t at, int32_t len)
{
    for (uint32_t k = 0; k < reader->layout.key_count; k++) {
        if (reader->layout.keys[k] != reader->field)
            continue;
        reader->spans[k].at = at;
        reader->spans[k].len = len < 0 ? 0 : (size_t)len;
        reader->spans[k].null = len < 0;
        reader->spans[k].found = true;
    }
}

/* Decides at byte `want` of the row. MORE: a new `want`; OK: the row ends here. */
static WireResult fields_step(CopyReader *reader, const uint8_t *row, Error *err)
{
    if (reader->fields_left < 0) {
        reader->fields_left = (int16_t)big_endian(row, 2);
        if (reader->fields_left == -1) {
            reader->ended = true;
            return WIRE_OK;
        }
        if (reader->fields_left < 0)
            return bad(err, "row field count is negative");
    } else {
        int32_t len = (int32_t)big_endian(row + reader->want - 4, 4);
        if (len < -1)
            return bad(err, "invalid field size");
        note_key(reader, reader->want, len);
        reader->field++;
        reader->fields_left--;
        reader->want += len < 0 ? 0 : (size_t)len;
    }
    if (reader->fields_left == 0)
        return WIRE_OK;
    reader->want += 4;
    return WIRE_MORE;
}

static bool row_complete(const CopyReader *reader)
{
    return reader->place == COPY_FIELDS && reader->fields_left == 0;
}

/* Walks over what is there of the row: OK with its length in want, MORE, BAD. */
static WireResult binary_walk(CopyReader *reader, Slice row, Error *err)
{
    WireResult result = WIRE_MORE;
    while (result == WIRE_MORE && row.len >= reader->want) {
        if (row_complete(reader))
            return WIRE_OK;
        result = reader->place == COPY_PREAMBLE ? preamble_step(reader, row.data, err)
                                                : fields_step(reader, row.data, err);
        if (result == WIRE_OK && row.len < reader->want)
            result = WIRE_MORE; /* its last field is still to come */
        if (reader->want > reader->layout.row_max)
            return too_long(reader, err);
    }
    return result;
}

static WireResult give_binary(CopyReader *reader, Slice bytes, CopyRow *ret)
{
    *ret = (CopyRow){.bytes = bytes, .every = reader->place == COPY_PREAMBLE};
    for (uint32_t k = 0; !ret->every && k < reader->layout.key_count; k++) {
        ret->keys[k].missing = !reader->spans[k].found;
        ret->keys[k].null = reader->spans[k].null;
        if (reader->spans[k].found && !reader->spans[k].null)
            ret->keys[k].value = slice_of(bytes.data + reader->spans[k].at, reader->spans[k].len);
    }
    reader->rows += !ret->every;
    row_begin(reader);
    return WIRE_OK;
}

static WireResult next_binary(CopyReader *reader, Slice *input, CopyRow *ret, Error *err)
{
    if (reader->kept_out)
        buf_reset(&reader->kept);
    reader->kept_out = false;
    WireResult result = WIRE_MORE;
    bool direct = buf_len(&reader->kept) == 0;
    if (direct)
        result = binary_walk(reader, *input, err);
    while (!direct && result == WIRE_MORE && input->len) {
        size_t missing = reader->want - buf_len(&reader->kept), taken = MIN(missing, input->len);
        if (!buf_append(&reader->kept, slice_of(input->data, taken)))
            return too_long(reader, err);
        *input = slice_from(*input, taken);
        result = binary_walk(reader, buf_bytes(&reader->kept), err);
    }
    if (result == WIRE_BAD)
        return result;
    if (result == WIRE_MORE)
        return keep_rest(reader, input, err);
    if (reader->ended) {
        if (direct)
            *input = slice_from(*input, reader->want);
        buf_reset(&reader->kept);
        return input->len ? bad(err, "received copy data after EOF marker") : WIRE_MORE;
    }
    Slice bytes = direct ? slice_of(input->data, reader->want) : buf_bytes(&reader->kept);
    if (direct)
        *input = slice_from(*input, reader->want);
    bool kept = !direct;
    result = give_binary(reader, bytes, ret);
    reader->kept_out = kept;
    return result;
}

/* ---- both --------------------------------------------------------------------------------------------- */

WireResult copy_next(CopyReader *reader, Slice *input, CopyRow *ret, Error *err)
{
    bool binary = reader->layout.format == COPY_BINARY;
    if (reader->ended) {
        if (binary && input->len)
            return bad(err, "received copy data after EOF marker");
        *input = slice_from(*input, input->len);
    }
    if (input->len == 0)
        return WIRE_MORE;
    return binary ? next_binary(reader, input, ret, err) : next_line(reader, input, ret, err);
}

WireResult copy_end(CopyReader *reader, CopyRow *ret, Error *err)
{
    if (reader->layout.format != COPY_BINARY)
        return end_line(reader, ret, err);
    if (reader->place == COPY_PREAMBLE)
        return bad(err, "COPY file signature not recognized");
    if (!reader->kept_out && buf_len(&reader->kept))
        return bad(err, "unexpected EOF in COPY data");
    return WIRE_MORE;
}
