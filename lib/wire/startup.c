/*
 * startup.c - why it exists: what an unknown peer says first must cost us almost nothing, and must
 * mean to us exactly what it would mean to PostgreSQL, or be refused.
 *
 *     00 00 00 2a | 00 03 00 00 | u s e r \0 a n n \0 | d a t a b a s e \0 s h o p \0 | \0
 *     length        3.0           name       value     name              value         terminator
 *
 * The first four bytes tell almost everything: a length of at most 10,004 begins with two zero
 * bytes, TLS begins with 16 03, HTTP with a verb.
 */
#include "wire/startup.h"

#include "wire/reader.h"
#include "wire/value.h"
#include "wire/writer.h"

static WireResult packet_decode(Slice whole, StartupPacket *ret, Arena *arena, Error *err);
static WireResult message_decode(Slice body, StartupPacket *ret, Arena *arena, Error *err);

WireResult startup_next(Slice in, StartupPacket *ret, Arena *arena, Error *err)
{
    if (in.len < 4)
        return WIRE_MORE;
    if (startup_looks_like_tls(in) || startup_looks_like_http(in)) {
        *ret =
            (StartupPacket){.kind = startup_looks_like_tls(in) ? STARTUP_TLS_HELLO : STARTUP_HTTP,
                            .whole = slice_of(in.data, 0)};
        return WIRE_OK;
    }
    WireReader r = reader_of(in);
    uint32_t length = reader_u32(&r);
    if (length < 8 || length > STARTUP_BODY_MAX + 4) {
        error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid length of startup packet");
        error_detail(err, "The length is %d; it may be 8 to %d.", (int32_t)length,
                     STARTUP_BODY_MAX + 4);
        return WIRE_BAD;
    }
    if (length > in.len)
        return WIRE_MORE;
    return packet_decode(slice_of(in.data, length), ret, arena, err);
}

bool startup_looks_like_tls(Slice in)
{
    return in.len >= 2 && in.data[0] == 0x16 && in.data[1] == 0x03;
}

bool startup_looks_like_http(Slice in)
{
    static const char VERBS[][5] = {"GET ", "POST", "HEAD", "PUT ", "DELE",
                                    "OPTI", "CONN", "PATC", "TRAC", "PRI "};
    if (in.len < 4)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(VERBS); i++)
        if (memcmp(in.data, VERBS[i], 4) == 0)
            return true;
    return false;
}

static WireResult cancel_decode(WireReader *r, StartupPacket *packet)
{
    packet->cancel_pid = reader_u32(r);
    packet->cancel_key = reader_u32(r);
    packet->kind = reader_done(r) ? STARTUP_CANCEL : STARTUP_CANCEL_BAD;
    return WIRE_OK;
}

/* PostgreSQL does not look at what follows the code of an SSL or GSS request, but a request with
 * a tail is no request that any driver makes: refuse it. */
static WireResult request_decode(WireReader *r, StartupPacket *packet, StartupKind kind, Error *err)
{
    packet->kind = kind;
    if (reader_done(r))
        return WIRE_OK;
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION, "invalid length of startup packet");
    return WIRE_BAD;
}

static WireResult packet_decode(Slice whole, StartupPacket *ret, Arena *arena, Error *err)
{
    WireReader r = reader_of(slice_from(whole, 4));
    uint32_t code = reader_u32(&r);
    StartupPacket packet = {.whole = whole};
    WireResult result;

    if (code == PROTOCOL_CANCEL)
        result = cancel_decode(&r, &packet);
    else if (code == PROTOCOL_SSL)
        result = request_decode(&r, &packet, STARTUP_SSL_REQUEST, err);
    else if (code == PROTOCOL_GSS)
        result = request_decode(&r, &packet, STARTUP_GSS_REQUEST, err);
    else if (code >> 16 != 3) {
        error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED,
                  "unsupported frontend protocol %u.%u: server supports 3.0 to 3.0", code >> 16,
                  code & 0xffff);
        return WIRE_BAD;
    } else {
        packet.kind = STARTUP_MESSAGE;
        packet.major = (uint16_t)(code >> 16);
        packet.minor = (uint16_t)code;
        result = message_decode(reader_rest(&r), &packet, arena, err);
    }
    if (result == WIRE_OK)
        *ret = packet;
    return result;
}

/* ---- parameters ------------------------------------------------------------------------------ */

#define EXTENSION_PREFIX "_pq_."

static bool is_extension(Slice name)
{
    const size_t len = sizeof EXTENSION_PREFIX - 1;
    return name.len >= len && memcmp(name.data, EXTENSION_PREFIX, len) == 0;
}

/* One name and value; false at the terminator or when the layout is wrong (the reader is bad). */
static bool param_next(WireReader *r, StartupParam *ret)
{
    ret->name = reader_cstring(r);
    if (r->bad || ret->name.len == 0)
        return false;
    ret->value = reader_cstring(r);
    return !r->bad;
}

/* Which names have a meaning of their own; each of them may be given once. */
typedef struct Special {
    Slice user, database, options, replication;
    bool has_user, has_database, has_options, has_replication;
} Special;

static bool special_take(const StartupParam *param, const char *name, Slice *value, bool *has,
                         bool *ret_twice)
{
    if (!slice_is(param->name, name))
        return false;
    *ret_twice = *ret_twice || *has;
    *has = true;
    *value = param->value;
    return true;
}

static bool special_match(Special *special, const StartupParam *param, bool *ret_twice)
{
    Special *s = special;
    return special_take(param, "user", &s->user, &s->has_user, ret_twice) ||
           special_take(param, "database", &s->database, &s->has_database, ret_twice) ||
           special_take(param, "options", &s->options, &s->has_options, ret_twice) ||
           special_take(param, "replication", &s->replication, &s->has_replication, ret_twice);
}

static WireResult layout_bad(Error *err)
{
    error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
              "invalid startup packet layout: expected terminator as last byte");
    return WIRE_BAD;
}

/* First pass: the layout, and how long the lists will be. */
static bool params_count(Slice body, size_t *ret_params, size_t *ret_extensions)
{
    WireReader r = reader_of(body);
    StartupParam param;
    *ret_params = *ret_extensions = 0;
    while (param_next(&r, &param)) {
        if (is_extension(param.name))
            ++*ret_extensions;
        else
            ++*ret_params;
    }
    return reader_done(&r);
}

/* Second pass: each name to its place. */
static WireResult params_sort(Slice body, StartupPacket *packet, StartupParam *params,
                              StartupParam *extensions, Special *special, Error *err)
{
    WireReader r = reader_of(body);
    StartupParam param;
    while (param_next(&r, &param)) {
        bool twice = false;
        if (is_extension(param.name))
            extensions[packet->extension_count++] = param;
        else if (!special_match(special, &param, &twice))
            params[packet->param_count++] = param;
        if (twice) {
            error_set(err, SQLSTATE_PROTOCOL_VIOLATION,
                      "invalid startup packet: parameter \"%.*s\" is given twice",
                      SLICE_FMT(param.name));
            return WIRE_BAD;
        }
    }
    packet->params = params;
    packet->extensions = extensions;
    return WIRE_OK;
}

static WireResult replication_decode(Slice value, StartupReplication *ret, Error *err)
{
    bool on;
    if (slice_is(value, "database"))
        *ret = STARTUP_REPLICATION_DATABASE;
    else if (value_bool_text(value, &on))
        *ret = on ? STARTUP_REPLICATION_PHYSICAL : STARTUP_REPLICATION_OFF;
    else {
        error_set(err, SQLSTATE_INVALID_PARAMETER,
                  "invalid value for parameter \"replication\": \"%.*s\"", SLICE_FMT(value));
        error_hint(err, "Valid values are: \"false\", 0, \"true\", 1, \"database\".");
        return WIRE_BAD;
    }
    return WIRE_OK;
}

/* PostgreSQL cuts longer names to 63 bytes, and so would meet another user than the one we check.
 */
static WireResult names_decode(const Special *special, StartupPacket *packet, Error *err)
{
    if (special->user.len == 0) {
        error_set(err, SQLSTATE_INVALID_AUTHORIZATION,
                  "no PostgreSQL user name specified in startup packet");
        return WIRE_BAD;
    }
    if (special->user.len > IDENTIFIER_BYTES_MAX) {
        error_set(err, SQLSTATE_INVALID_AUTHORIZATION, "role \"%.*s\" does not exist",
                  SLICE_FMT(special->user));
        error_detail(err, "The name is longer than %d bytes.", IDENTIFIER_BYTES_MAX);
        return WIRE_BAD;
    }
    packet->user = special->user;
    packet->options = special->options;
    packet->database = special->database.len ? special->database : special->user;
    if (packet->database.len > IDENTIFIER_BYTES_MAX) {
        error_set(err, SQLSTATE_INVALID_DATABASE, "database \"%.*s\" does not exist",
                  SLICE_FMT(packet->database));
        error_detail(err, "The name is longer than %d bytes.", IDENTIFIER_BYTES_MAX);
        return WIRE_BAD;
    }
    if (packet->replication == STARTUP_REPLICATION_PHYSICAL)
        packet->database = slice_of(NULL, 0);
    return WIRE_OK;
}

static WireResult message_decode(Slice body, StartupPacket *ret, Arena *arena, Error *err)
{
    size_t params, extensions;
    if (!params_count(body, &params, &extensions))
        return layout_bad(err);
    StartupParam *list = arena_array(arena, StartupParam, params + extensions + 1);
    if (!list) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return WIRE_BAD;
    }
    Special special = {.has_user = false};
    WireResult result = params_sort(body, ret, list, list + params, &special, err);
    if (result == WIRE_OK && special.has_replication)
        result = replication_decode(special.replication, &ret->replication, err);
    if (result == WIRE_OK)
        result = names_decode(&special, ret, err);
    return result;
}

bool startup_param(const StartupPacket *packet, Slice name, Slice *ret)
{
    for (size_t i = packet->param_count; i-- > 0;) {
        /* PostgreSQL's settings have no case. */
        if (slice_equal_nocase(packet->params[i].name, name)) {
            *ret = packet->params[i].value;
            return true;
        }
    }
    return false;
}

void startup_put_negotiate(Buf *buf, const StartupPacket *packet)
{
    size_t mark = writer_begin(buf, BACKEND_NEGOTIATE_VERSION);
    writer_u32(buf, PROTOCOL_3_0);
    writer_u32(buf, (uint32_t)packet->extension_count);
    for (size_t i = 0; i < packet->extension_count; i++)
        writer_cstring(buf, packet->extensions[i].name);
    writer_end(buf, mark);
}

/* ---- options --------------------------------------------------------------------------------- */

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next word of `*rest`, unescaped into `room` (which is as long as the whole text). */
static bool word_next(Slice *rest, uint8_t *room, Slice *ret)
{
    size_t i = 0, n = 0;
    while (i < rest->len && is_space(rest->data[i]))
        i++;
    if (i == rest->len)
        return false;
    for (bool escaped = false; i < rest->len && (escaped || !is_space(rest->data[i])); i++) {
        if (!escaped && rest->data[i] == '\\')
            escaped = true;
        else {
            room[n++] = rest->data[i];
            escaped = false;
        }
    }
    *rest = slice_from(*rest, i);
    *ret = slice_of(room, n);
    return true;
}

/* "name=value"; dashes in the name become underscores, in place. */
static bool setting_split(uint8_t *text, size_t len, StartupParam *ret, const char *dash,
                          Error *err)
{
    uint8_t *equals = len ? memchr(text, '=', len) : NULL;
    size_t name_len = equals ? (size_t)(equals - text) : len;
    if (!equals || name_len == 0) {
        error_set(err, SQLSTATE_SYNTAX_ERROR, "%s%.*s requires a value", dash, (int)name_len, text);
        return false;
    }
    for (size_t i = 0; i < name_len; i++)
        if (text[i] == '-')
            text[i] = '_';
    ret->name = slice_of(text, name_len);
    ret->value = slice_of(equals + 1, len - name_len - 1);
    return true;
}

static bool switch_refuse(Slice word, Error *err)
{
    error_set(err, SQLSTATE_FEATURE_NOT_SUPPORTED, "startup option \"%.*s\" is not supported",
              SLICE_FMT(word));
    error_hint(err, "Write settings as -c name=value or --name=value.");
    return false;
}

bool startup_options_parse(Slice options, Arena *arena, StartupParam **ret, size_t *ret_count,
                           Error *err)
{
    /* Each setting takes at least "-ca=" and a space, so len / 4 + 1 are enough. */
    StartupParam *list = arena_array(arena, StartupParam, options.len / 4 + 1);
    uint8_t *room = arena_alloc(arena, options.len + 1);
    if (!list || !room) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    size_t count = 0;
    Slice rest = options, word;
    while (word_next(&rest, room, &word)) {
        uint8_t *text = room;
        room += word.len;
        bool done;
        if (word.len >= 2 && memcmp(text, "--", 2) == 0)
            done = setting_split(text + 2, word.len - 2, &list[count], "--", err);
        else if (word.len > 2 && memcmp(text, "-c", 2) == 0)
            done = setting_split(text + 2, word.len - 2, &list[count], "-c ", err);
        else if (slice_is(word, "-c") && word_next(&rest, room, &word)) {
            text = room;
            room += word.len;
            done = setting_split(text, word.len, &list[count], "-c ", err);
        } else
            done = switch_refuse(word, err);
        if (!done)
            return false;
        count++;
    }
    *ret = list;
    *ret_count = count;
    return true;
}

static void escaped_put(Buf *buf, Slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (is_space(text.data[i]) || text.data[i] == '\\')
            writer_u8(buf, '\\');
        writer_u8(buf, text.data[i]);
    }
}

void startup_options_put(Buf *buf, Slice name, Slice value)
{
    writer_bytes(buf, SLICE(" -c "));
    escaped_put(buf, name);
    writer_u8(buf, '=');
    escaped_put(buf, value);
}
