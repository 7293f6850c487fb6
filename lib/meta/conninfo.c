/*
 * conninfo.c - `key = value key='va\'lue'`, by libpq's rules, with the keys that make sense here.
 */
#include "meta/conninfo.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "meta/nearest.h"

static const char *const KEYWORDS[] = {
    "host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir",
    "sslsni", "sslcompression", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "channel_binding", "gssencmode", "krbsrvname", "gsslib", "requirepeer", "passfile", "options",
    "connect_timeout", "tcp_user_timeout", "keepalives", "keepalives_idle", "keepalives_interval",
    "keepalives_count",
};

static const char *const OWN_KEYWORDS[] = {"weight", "zone", "patroni"};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The value at *at, unescaped; NULL when a quote is not closed or memory is out. */
static char *take_value(const char **at, Arena *arena)
{
    const char *p = *at;
    char *value = arena_alloc(arena, strlen(p) + 1);
    if (!value)
        return NULL;
    char *out = value;
    bool quoted = *p == '\'';
    p += quoted;
    for (; *p && (quoted ? *p != '\'' : !is_blank(*p)); p++) {
        if (*p == '\\' && p[1])
            p++;
        *out++ = *p;
    }
    *out = 0;
    if (quoted && *p != '\'')
        return NULL;
    *at = p + quoted;
    return value;
}

static bool key_allowed(const char *key, Error *err)
{
    Nearest nearest = nearest_init(key);
    for (size_t i = 0; i < ARRAY_LEN(KEYWORDS); i++) {
        if (strcmp(KEYWORDS[i], key) == 0)
            return true;
        nearest_offer(&nearest, KEYWORDS[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(OWN_KEYWORDS); i++) {
        if (strcmp(OWN_KEYWORDS[i], key) == 0)
            return true;
        nearest_offer(&nearest, OWN_KEYWORDS[i]);
    }
    if (strcmp(key, "user") == 0 || strcmp(key, "password") == 0 || strcmp(key, "dbname") == 0) {
        error_set(err, SQLSTATE_CONFIG_FILE, "a server's line must not have \"%s\"", key);
        error_hint(err, "It comes from the client, or from dbname, server_user and server_password "
                        "in [database NAME].");
        return false;
    }
    error_set(err, SQLSTATE_CONFIG_FILE, "unknown connection keyword \"%.60s\"", key);
    nearest_hint(&nearest, err);
    return false;
}

static bool port_read(const char *text, int *ret_port, Error *err)
{
    char *end;
    long port = strtol(text, &end, 10);
    if (end == text || *end || port < 1 || port > 65535) {
        error_set(err, SQLSTATE_CONFIG_FILE, "port must be between 1 and 65535, not \"%.60s\"", text);
        return false;
    }
    *ret_port = (int)port;
    return true;
}

#define WEIGHT_MAX 1000

/* db2.example.org; what ends in a number must be an IPv4 address. */
static bool is_host_name(const char *host)
{
    struct in_addr address;
    const char *dot = strrchr(host, '.');
    const char *last = dot ? dot + 1 : host;
    if (last[0] && strspn(last, "0123456789") == strlen(last))
        return inet_pton(AF_INET, host, &address) == 1;
    size_t len = strlen(host);
    return len > 0 && len <= 253 && host[0] != '.' && host[0] != '-' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

/* http://10.0.0.2:8008, http://db2:8008, http://[fd00::2]:8008 */
static bool patroni_read_url(const char *value, Arena *arena, Conninfo *info, Error *err)
{
    static const char SCHEME[] = "http://";
    struct in6_addr address;
    const char *host = value + sizeof SCHEME - 1;
    bool ok = strncmp(value, SCHEME, sizeof SCHEME - 1) == 0;
    bool bracket = ok && host[0] == '[';
    host += bracket;
    size_t len = ok ? strcspn(host, bracket ? "]" : ":/") : 0;
    ok = ok && (!bracket || host[len] == ']');
    info->patroni_host = ok ? arena_text(arena, slice_of(host, len)) : NULL;
    info->patroni_port = 8008;
    ok = info->patroni_host &&
         (bracket ? inet_pton(AF_INET6, info->patroni_host, &address) == 1 : is_host_name(info->patroni_host));
    len += bracket;
    if (ok && host[len] == ':') {
        char *end;
        long port = strtol(host + len + 1, &end, 10);
        ok = end != host + len + 1 && port >= 1 && port <= 65535 && (!*end || strcmp(end, "/") == 0);
        info->patroni_port = (int)port;
    } else if (ok) {
        ok = !host[len] || strcmp(host + len, "/") == 0;
    }
    if (!ok) {
        error_set(err, SQLSTATE_CONFIG_FILE, "patroni must be like http://10.0.0.2:8008, not \"%.60s\"", value);
        error_hint(err, "A host name, an IPv4 address, or an IPv6 address in brackets: http://[fd00::2]:8008. Only http.");
    }
    return ok;
}

/* weight=2, zone=a, patroni=...: not for libpq. False: neither. */
static bool own_pair(const char *key, const char *value, Arena *arena, Conninfo *info, Error *err, bool *ret_ok)
{
    *ret_ok = true;
    if (strcmp(key, "patroni") == 0) {
        *ret_ok = patroni_read_url(value, arena, info, err);
        return true;
    }
    if (strcmp(key, "zone") == 0) {
        info->zone = value;
        return true;
    }
    if (strcmp(key, "weight") != 0)
        return false;
    char *end;
    long weight = strtol(value, &end, 10);
    *ret_ok = end != value && !*end && weight >= 1 && weight <= WEIGHT_MAX;
    if (*ret_ok)
        info->weight = (uint32_t)weight;
    else
        error_set(err, SQLSTATE_CONFIG_FILE, "weight must be between 1 and %d, not \"%.60s\"",
                  WEIGHT_MAX, value);
    return true;
}

static bool pair_read(const char **at, Arena *arena, Conninfo *info, const char **hostaddr,
                      Error *err)
{
    const char *start = *at;
    size_t len = strcspn(*at, "= \t");
    const char *key = arena_text(arena, slice_of(*at, len));
    *at += len;
    while (is_blank(**at))
        ++*at;
    if (!key || len == 0 || **at != '=') {
        error_set(err, SQLSTATE_CONFIG_FILE, "expected host=... port=...");
        return false;
    }
    ++*at;
    while (is_blank(**at))
        ++*at;
    if (!key_allowed(key, err))
        return false;
    const char *value = take_value(at, arena);
    if (!value) {
        error_set(err, SQLSTATE_CONFIG_FILE, "the value of \"%s\" has no closing quote", key);
        return false;
    }
    bool ok;
    if (own_pair(key, value, arena, info, err, &ok))
        return ok;
    info->text = arena_printf(arena, "%s%s%.*s", info->text, *info->text ? " " : "", (int)(*at - start), start);
    if (!info->text) {
        error_set(err, SQLSTATE_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    if (strcmp(key, "host") == 0)
        info->host = value;
    else if (strcmp(key, "hostaddr") == 0)
        *hostaddr = value;
    else if (strcmp(key, "port") == 0)
        return port_read(value, &info->port, err);
    return true;
}

bool conninfo_read(const char *text, Arena *arena, Conninfo *ret_conninfo, Error *err)
{
    Conninfo info = {.port = 5432, .weight = 1, .text = ""};
    const char *hostaddr = NULL;
    for (const char *at = text;;) {
        while (is_blank(*at))
            at++;
        if (!*at)
            break;
        if (!pair_read(&at, arena, &info, &hostaddr, err))
            return false;
    }
    if (!info.host || !*info.host)
        info.host = hostaddr;
    if (!info.host || !*info.host) {
        error_set(err, SQLSTATE_CONFIG_FILE, "a server needs a host");
        error_hint(err, "Write host=... port=...");
        return false;
    }
    if (strchr(info.host, ',')) {
        error_set(err, SQLSTATE_CONFIG_FILE, "one server has one host, not a list");
        error_hint(err, "Give each replica a line of its own: replica = host=...");
        return false;
    }
    *ret_conninfo = info;
    return true;
}
