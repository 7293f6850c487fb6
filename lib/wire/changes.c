/* changes.c - see changes.h; PostgreSQL's "Logical Replication Message Formats". */
#include "wire/changes.h"

#include "wire/reader.h"

static WireResult relation_read(ChangeReader *reader, WireReader *r, Error *err)
{
    uint32_t oid = reader_u32(r);
    Slice schema = reader_cstring(r), name = reader_cstring(r);
    ChangeTable *table = NULL;
    for (uint32_t i = 0; i < reader->table_count; i++)
        if (slice_equal(reader->tables[i].name, name) && slice_equal(reader->tables[i].schema, schema))
            table = &reader->tables[i];
    reader_u8(r); /* replica identity */
    uint32_t columns = reader_u16(r);
    bool found = false;
    for (uint32_t i = 0; i < columns && !r->problem; i++) {
        reader_u8(r); /* part of the key? */
        Slice column = reader_cstring(r);
        reader_u32(r);
        reader_u32(r);
        if (!table || !slice_equal(column, table->column))
            continue;
        table->at = i;
        found = true;
    }
    if (!reader_done(r))
        return reader_fail(r, err);
    if (table && !found) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "a replicated table has lost its key column");
        return WIRE_BAD;
    }
    if (table)
        table->oid = oid;
    return WIRE_OK;
}

/* One row; the value of column `at`, if it says one. */
static void tuple_read(WireReader *r, const ChangeTable *table, Change *ret)
{
    uint32_t columns = reader_u16(r);
    for (uint32_t i = 0; i < columns && !r->problem; i++) {
        uint8_t kind = reader_u8(r);
        if (kind == 'n' || kind == 'u')
            continue;
        if (kind != 't' && kind != 'b')
            reader_set_bad(r, "invalid kind of column");
        int32_t len = reader_i32(r);
        if (len < 0)
            reader_set_bad(r, "invalid length of column");
        Slice value = reader_bytes(r, len < 0 ? 0 : (size_t)len);
        bool again = ret->count == 1 && slice_equal(ret->values[0], value);
        if (!r->problem && table && i == table->at && ret->count < 2 && !again)
            ret->values[ret->count++] = value;
    }
}

static WireResult row_read(ChangeReader *reader, WireReader *r, Change *ret, Error *err)
{
    uint32_t oid = reader_u32(r);
    const ChangeTable *table = NULL;
    for (uint32_t i = 0; i < reader->table_count; i++) {
        if (reader->tables[i].oid != oid || !oid)
            continue;
        table = &reader->tables[i];
        ret->table = i;
    }
    while (r->left && !r->problem) {
        uint8_t kind = reader_u8(r);
        if (kind != 'K' && kind != 'O' && kind != 'N')
            reader_set_bad(r, "invalid kind of row");
        tuple_read(r, table, ret);
    }
    if (!reader_done(r))
        return reader_fail(r, err);
    if (table && ret->count)
        return WIRE_OK;
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "a change without the key of its row");
    return WIRE_BAD;
}

WireResult change_read(ChangeReader *reader, Slice message, Change *ret, Error *err)
{
    WireReader r = reader_of(message);
    *ret = (Change){0};
    switch (reader_u8(&r)) {
    case 'R':
        return relation_read(reader, &r, err);
    case 'I':
    case 'U':
    case 'D':
        return row_read(reader, &r, ret, err);
    case 'B': /* Begin, Commit, Origin, tYpe, Message: no rows */
    case 'C':
    case 'O':
    case 'Y':
    case 'M':
        return WIRE_OK;
    default: /* Truncate, too: it is not replicated */
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "a message of logical replication is not known");
        return WIRE_BAD;
    }
}
