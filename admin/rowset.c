/* rowset.c - RowDescription and DataRows become a table; see rowset.h. */
#include "admin/rowset.h"

#include "wire/backend.h"
#include "wire/value.h"

static bool out_of_memory(Error *err)
{
    error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
    return false;
}

static bool read_columns(Slice body, Arena *arena, Rowset *rows, Error *err)
{
    RowDescription description;
    FieldDescription field;
    size_t cursor = 0;
    if (backend_read_row_description(body, &description, err) != WIRE_OK)
        return false;
    rows->columns = arena_array(arena, RowsetColumn, MAX(description.count, 1));
    if (!rows->columns)
        return out_of_memory(err);
    while (row_description_next(&description, &cursor, &field)) {
        RowsetColumn *column = &rows->columns[rows->column_count++];
        column->name = arena_text(arena, field.name);
        column->number = field.type_oid == WIRE_OID_INT8;
        if (!column->name)
            return out_of_memory(err);
    }
    return true;
}

static bool make_room(Rowset *rows, Arena *arena)
{
    if (rows->row_count < rows->row_room)
        return true;
    uint32_t room = rows->row_room ? rows->row_room * 2 : 64;
    const char **cells = arena_array(arena, const char *, (size_t)room * rows->column_count);
    if (!cells)
        return false;
    if (rows->row_count)
        memcpy(cells, rows->cells, (size_t)rows->row_count * rows->column_count * sizeof *cells);
    rows->cells = cells;
    rows->row_room = room;
    return true;
}

static bool read_row(Slice body, Arena *arena, Rowset *rows, Error *err)
{
    DataRow row;
    Column column;
    size_t cursor = 0;
    if (backend_read_data_row(body, (int)rows->column_count, &row, err) != WIRE_OK)
        return false;
    if (!make_room(rows, arena))
        return out_of_memory(err);
    const char **cell = &rows->cells[(size_t)rows->row_count * rows->column_count];
    for (; data_row_next(&row, &cursor, &column); cell++) {
        *cell = column.is_null ? NULL : arena_text(arena, column.value);
        if (!column.is_null && !*cell)
            return out_of_memory(err);
    }
    rows->row_count++;
    return true;
}

static bool read_error(Slice body, Error *err)
{
    ErrorResponse response;
    if (backend_read_error(body, &response, err) != WIRE_OK)
        return false;
    char sqlstate[6] = "";
    memcpy(sqlstate, response.sqlstate.data, 5);
    error_set(err, sqlstate, "%.*s", SLICE_FMT(response.message));
    return false;
}

bool rowset_read(Slice frames, Arena *arena, Rowset *ret, Error *err)
{
    Rowset rows = {0};
    Frame frame;
    while (frames.len && frame_next(frames, SIZE_MAX, &frame, err) == WIRE_OK) {
        frames = slice_from(frames, frame.whole.len);
        switch (frame.type) {
        case BACKEND_ROW_DESCRIPTION:
            if (!read_columns(frame.body, arena, &rows, err))
                return false;
            break;
        case BACKEND_DATA_ROW:
            if (!rows.columns || !read_row(frame.body, arena, &rows, err))
                return false;
            break;
        case BACKEND_ERROR:
            return read_error(frame.body, err);
        default: /* notices, the tag */
            break;
        }
    }
    if (!rows.columns) {
        error_set(err, SQLSTATE_INTERNAL, "the command has no rows");
        return false;
    }
    *ret = rows;
    return true;
}

int rowset_column(const Rowset *rows, const char *name)
{
    for (uint32_t i = 0; i < rows->column_count; i++)
        if (strcmp(rows->columns[i].name, name) == 0)
            return (int)i;
    return -1;
}
