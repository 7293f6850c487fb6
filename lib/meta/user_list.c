/*
 * user_list.c - reads `"name" "secret"` lines. A doubled quote inside stands for one quote.
 */
#include "meta/user_list.h"

#include "meta/text_file.h"

static void skip_blanks(Slice *rest)
{
    while (rest->len > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t'))
        *rest = slice_from(*rest, 1);
}

/* Reads a quoted text into the arena; NULL when there is none. */
static const char *take_quoted(Slice *rest, Arena *arena)
{
    skip_blanks(rest);
    if (rest->len == 0 || rest->data[0] != '"')
        return NULL;
    char *text = arena_alloc(arena, rest->len);
    size_t len = 0;
    for (size_t i = 1; text && i < rest->len; i++) {
        bool quote = rest->data[i] == '"';
        bool doubled = quote && i + 1 < rest->len && rest->data[i + 1] == '"';
        if (quote && !doubled) {
            text[len] = 0;
            *rest = slice_from(*rest, i + 1);
            return text;
        }
        text[len++] = (char)rest->data[i];
        i += doubled;
    }
    return NULL;
}

static bool read_line(const TextFile *file, Slice line, UserLine *user, Arena *arena, Error *err)
{
    user->line = file->line;
    user->name = take_quoted(&line, arena);
    user->secret = user->name ? take_quoted(&line, arena) : NULL;
    skip_blanks(&line);
    if (!user->secret || (line.len > 0 && line.data[0] != ';' && line.data[0] != '#')) {
        text_file_error(file, file->line, err, "expected \"user\" \"password\"");
        return false;
    }
    return text_file_keeps_secret(file, file->line, err);
}

bool user_list_read(const char *path, Arena *arena, UserLine **ret_users, uint32_t *ret_count,
                    Error *err)
{
    TextFile file;
    if (!text_file_open(&file, path, USER_LIST_SIZE_MAX, err))
        return false;
    size_t lines = 1;
    for (size_t i = 0; i < file.len; i++)
        lines += file.text[i] == '\n';
    UserLine *users = arena_array(arena, UserLine, lines);
    uint32_t count = 0;
    bool ok = users != NULL;
    if (!ok)
        text_file_error(&file, 0, err, "out of memory");
    for (Slice line; ok && text_file_next(&file, &line);) {
        skip_blanks(&line);
        if (line.len == 0 || line.data[0] == ';' || line.data[0] == '#')
            continue;
        ok = read_line(&file, line, &users[count], arena, err);
        count += ok;
    }
    text_file_close(&file);
    if (!ok)
        return false;
    *ret_users = users;
    *ret_count = count;
    return true;
}
