/*
 * names.c - why lists at all, when volatility comes from pg_proc: STABLE says "the same within one
 * statement", and a batch is one statement of several clients. now() may be shared by those who
 * travel together, pg_backend_pid() and inet_client_addr() may not. Sorted, searched by halves.
 */
#include "batcher/names.h"

#include <stdlib.h>

static const char *const STABLE_FUNCTIONS[] = {
    "age",
    "array_agg",
    "array_cat",
    "array_out",
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "current_setting",
    "date",
    "date_bin",
    "date_cmp_timestamptz",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "generate_subscripts",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_populate_record",
    "json_to_record",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_path_exists_tz",
    "jsonb_path_query_array_tz",
    "jsonb_path_query_first_tz",
    "justify_interval",
    "make_timestamptz",
    "now",
    "overlaps",
    "phraseto_tsquery",
    "plainto_tsquery",
    "quote_literal",
    "quote_nullable",
    "row_to_json",
    "string_agg",
    "string_to_array",
    "text",
    "timestamp",
    "timestamptz",
    "timetz",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsquery",
    "to_tsvector",
    "transaction_timestamp",
    "ts_headline",
    "websearch_to_tsquery",
};

/* In the order of their bytes. */
static const char *const OPERATORS[] = {
    "!!", "!=", "!~", "!~*", "!~~", "!~~*", "#",   "#-",  "#>", "#>>", "%",   "&",  "&&",
    "&<", "&>", "*",  "+",   "-",   "->",   "->>", "-|-", "/",  "<",   "<->", "<<", "<=",
    "<>", "<@", "=",  ">",   ">=",  ">>",   "?",   "?&",  "?|", "@",   "@>",  "@?", "@@",
    "^",  "^@", "|",  "|/",  "||",  "||/",  "~",   "~*",  "~~", "~~*",
};

static int compare(const void *key, const void *item)
{
    const Slice *name = key;
    const char *other = *(const char *const *)item;
    size_t len = strlen(other);
    int order = memcmp(name->data, other, MIN(name->len, len));
    return order ? order : (name->len > len) - (name->len < len);
}

static bool find(Slice name, const char *const *table, size_t count)
{
    return name.len > 0 && bsearch(&name, table, count, sizeof(*table), compare) != NULL;
}

bool names_stable_function(Slice name)
{
    return find(name, STABLE_FUNCTIONS, ARRAY_LEN(STABLE_FUNCTIONS));
}

bool names_builtin_operator(Slice name)
{
    return find(name, OPERATORS, ARRAY_LEN(OPERATORS));
}
