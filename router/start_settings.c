/*
 * start_settings.c - PGOPTIONS first, then the parameters by name, as PostgreSQL takes them (postinit.c,
 * process_startup_options). Nothing is judged here but names: a server connection judges the values.
 */
#include "router/start_settings.h"

#include "meta/identifier.h"
#include "router/read_setting.h"
#include "router/worker_state.h"

/* E'' would be the only form with a meaning for backslashes; SET values are plain literals under
 * standard_conforming_strings, which a fresh server session has on. */
static void put_literal(Buf *quoted, Slice value)
{
    buf_append(quoted, SLICE("'"));
    for (size_t i = 0; i < value.len; i++)
        buf_append(quoted, value.data[i] == '\'' ? SLICE("''") : slice_of(value.data + i, 1));
    buf_append(quoted, SLICE("'"));
}

/* `a, "B"` of the startup message is SET TO 'a', 'B': a list in one literal would be one name. */
static bool put_names(Buf *quoted, Slice value)
{
    Identifier id;
    bool first = true;
    for (; identifier_take(&value, ',', &id); first = false) {
        if (!first)
            buf_append(quoted, SLICE(", "));
        put_literal(quoted, identifier_slice(&id));
    }
    return !first && value.len == 0;
}

static bool is_list_of_names(Slice name)
{
    static const char *const NAMES[] = {"search_path", "temp_tablespaces", "local_preload_libraries",
                                        "session_preload_libraries"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (slice_is(name, NAMES[i]))
            return true;
    return false;
}

static bool set_start_value(Session *session, Slice name, Slice value, Error *err)
{
    GucSet *set = &session->worker->gucs;
    Buf quoted;
    bool ok;
    buf_init(&quoted, 2 * value.len + 16);
    if (!is_list_of_names(name) || !put_names(&quoted, value)) {
        buf_reset(&quoted);
        put_literal(&quoted, value);
    }
    GucVector *vector = guc_with(set, session->gucs_base, name, buf_bytes(&quoted), &ok);
    ok = ok && !quoted.failed;
    buf_finish(&quoted);
    if (!ok) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    guc_release(set, session->gucs_base);
    session->gucs_base = vector;
    return true;
}

static Slice lower_case(Slice name, Arena *arena)
{
    Slice copy = arena_dup(arena, name);
    uint8_t *bytes = (uint8_t *)(uintptr_t)copy.data;
    for (size_t i = 0; copy.data && i < copy.len; i++)
        if (bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (uint8_t)(bytes[i] + 32);
    return copy;
}

static bool valid_setting_name(Slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || c == '_' || c == '.' || (i && ((c >= '0' && c <= '9') || c == '$'))))
            return false;
    }
    return name.len > 0;
}

static bool take_setting(Session *session, const StartupParam *param, Arena *arena, Error *err)
{
    Slice name = lower_case(param->name, arena);
    bool ours;
    if (!valid_setting_name(name)) {
        error_set(err, SQLSTATE_UNDEFINED_OBJECT, "unrecognized configuration parameter \"%.*s\"",
                  SLICE_FMT(param->name));
        return false;
    }
    return read_setting_start(session, name, param->value, &ours, err) &&
           (ours || set_start_value(session, name, param->value, err));
}

bool start_settings_take(Session *session, const StartupPacket *startup, Arena *arena, Error *err)
{
    StartupParam *options = NULL;
    size_t option_count = 0;
    if (startup->options.len && !startup_options_parse(startup->options, arena, &options, &option_count, err))
        return false;
    for (size_t i = 0; i < option_count; i++)
        if (!take_setting(session, &options[i], arena, err))
            return false;
    for (size_t i = 0; i < startup->param_count; i++)
        if (!take_setting(session, &startup->params[i], arena, err))
            return false;
    return true;
}
