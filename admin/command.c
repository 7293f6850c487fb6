/*
 * command.c - reading a console statement and finding its command.
 *
 * The console's language is words. It is read by its own few lines, because a statement that came
 * from the network and is meant for operators should pass through as little code as possible.
 */
#include "admin/command.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "meta/nearest.h"

#define EXCERPT_MAX 40

typedef struct Reader {
    const char *at, *end;
} Reader;

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* Skips blanks and comments. False for a comment without an end. */
static bool reader_skip(Reader *r)
{
    while (r->at < r->end) {
        size_t left = (size_t)(r->end - r->at);
        if (isspace((unsigned char)*r->at)) {
            r->at++;
        } else if (left >= 2 && memcmp(r->at, "--", 2) == 0) {
            const char *line_end = memchr(r->at, '\n', left);
            r->at = line_end ? line_end + 1 : r->end;
        } else if (left >= 2 && memcmp(r->at, "/*", 2) == 0) {
            int depth = 0;
            do {
                left = (size_t)(r->end - r->at);
                if (left < 2)
                    return false;
                int step = memcmp(r->at, "/*", 2) == 0 ? 1 : memcmp(r->at, "*/", 2) == 0 ? -1 : 0;
                depth += step;
                r->at += step ? 2 : 1;
            } while (depth > 0);
        } else {
            return true;
        }
    }
    return true;
}

/* Bytes of an excerpt that does not end in half a UTF-8 character. */
static int excerpt_len(const char *at, size_t len)
{
    if (len <= EXCERPT_MAX)
        return (int)len;
    len = EXCERPT_MAX;
    while (len > 0 && ((unsigned char)at[len] & 0xC0) == 0x80)
        len--;
    return (int)len;
}

static bool syntax_error(Error *err, const char *at, const char *end)
{
    int len = excerpt_len(at, (size_t)(end - at));
    if (len == 0)
        error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at end of input");
    else
        error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at or near \"%.*s\"", len, at);
    error_hint(err, "The console takes one command at a time; SHOW HELP lists them.");
    return false;
}

/* What may stand inside a word: 0-15,40 and app.orders, s-1 and s0/replica1; not the two of a comment. */
static bool is_inner_byte(const Reader *r)
{
    bool more = r->at + 1 < r->end;
    bool comment = more && ((*r->at == '-' && r->at[1] == '-') || (*r->at == '/' && r->at[1] == '*'));
    return *r->at && strchr(".,-/", *r->at) && !comment;
}

/* Up to the quote that closes it; two of them are one of its bytes. */
static const char *reader_quoted(Reader *r, Arena *arena)
{
    char quote = *r->at, *text = arena_alloc(arena, (size_t)(r->end - r->at)), *to = text;
    for (r->at++; text && r->at < r->end; r->at++) {
        bool two = r->at + 1 < r->end && r->at[1] == quote;
        if (*r->at == quote && !two) {
            r->at++;
            *to = '\0';
            return text;
        }
        r->at += *r->at == quote;
        *to++ = *r->at;
    }
    return NULL;
}

/* A word, folded, or one in "double" or 'single' quotes as it is. NULL when something else stands here. */
static const char *reader_word(Reader *r, Arena *arena)
{
    const char *start = r->at;
    if (*r->at == '"' || *r->at == '\'')
        return reader_quoted(r, arena);
    while (r->at < r->end && (is_word_byte(*r->at) || (r->at > start && is_inner_byte(r))))
        r->at++;
    if (r->at == start)
        return NULL;
    char *word = arena_text(arena, slice_of(start, (size_t)(r->at - start)));
    for (char *c = word; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return word;
}

bool command_line_read(Slice text, Arena *arena, CommandLine *ret, Error *err)
{
    Reader r = {(const char *)text.data, (const char *)text.data + text.len};
    bool ended = false; /* a semicolon was seen behind the words */
    ret->count = 0;
    for (;;) {
        const char *before = r.at;
        if (!reader_skip(&r))
            return syntax_error(err, before, r.end);
        if (r.at == r.end)
            return true;
        if (*r.at == ';') {
            ended = ret->count > 0;
            r.at++;
            continue;
        }
        const char *start = r.at;
        if ((ended && ret->count > 0) || ret->count == COMMAND_WORDS_MAX)
            return syntax_error(err, start, r.end);
        const char *word = reader_word(&r, arena);
        if (!word)
            return syntax_error(err, start, r.end);
        ret->literal[ret->count] = *start == '\'';
        ret->words[ret->count++] = word;
    }
}

/* Joins the words with blanks, cut to `size`. */
static void line_join(const CommandLine *line, char *ret_text, size_t size)
{
    size_t at = 0;
    ret_text[0] = '\0';
    for (uint32_t i = 0; i < line->count && at < size - 1; i++) {
        int n = snprintf(ret_text + at, size - at, "%s%s", i ? " " : "", line->words[i]);
        at += MIN((size_t)n, size - at - 1);
    }
}

static void upper(const char *text, char *ret, size_t size)
{
    size_t i = 0;
    for (; text[i] && i < size - 1; i++)
        ret[i] = (char)toupper((unsigned char)text[i]);
    ret[i] = '\0';
}

static bool line_begins_with(const CommandLine *line, const char *words, uint32_t *ret_count)
{
    uint32_t i = 0;
    while (*words) {
        size_t len = strcspn(words, " ");
        if (i == line->count || line->literal[i] || strlen(line->words[i]) != len ||
            memcmp(line->words[i], words, len) != 0)
            return false;
        i++;
        words += len + (words[len] == ' ');
    }
    *ret_count = i;
    return true;
}

const Command *command_find(const Command *commands, size_t count, const CommandLine *line,
                            CommandLine *ret_arguments, Error *err)
{
    char text[64];
    for (size_t i = 0; i < count; i++) {
        uint32_t own;
        if (!line_begins_with(line, commands[i].words, &own))
            continue;
        if (line->count > own && !*commands[i].arguments) {
            const char *extra = line->words[own];
            error_set(err, SQLSTATE_SYNTAX_ERROR, "syntax error at or near \"%.*s\"",
                      excerpt_len(extra, strlen(extra)), extra);
            upper(commands[i].words, text, sizeof text);
            error_hint(err, "%s takes no arguments.", text);
            return NULL;
        }
        ret_arguments->count = line->count - own;
        memcpy(ret_arguments->words, line->words + own, ret_arguments->count * sizeof *line->words);
        memcpy(ret_arguments->literal, line->literal + own, ret_arguments->count * sizeof *line->literal);
        return &commands[i];
    }
    line_join(line, text, sizeof text);
    error_set(err, SQLSTATE_SYNTAX_ERROR, "unknown command \"%.*s\"",
              excerpt_len(text, strlen(text)), text);
    Nearest nearest = nearest_init(text);
    for (size_t i = 0; i < count; i++)
        nearest_offer(&nearest, commands[i].words);
    if (nearest.best) {
        char best[64];
        upper(nearest.best, best, sizeof best);
        error_hint(err, "Did you mean %s? SHOW HELP lists all commands.", best);
    } else {
        error_hint(err, "SHOW HELP lists all commands.");
    }
    return NULL;
}

bool command_allowed(const Command *command, const Call *call, Error *err)
{
    bool allowed = (command->right == COMMAND_FOR_MONITORS && (call->monitor || call->admin)) ||
                   (command->right == COMMAND_FOR_ADMINS && call->admin);
    if (allowed)
        return true;
    char text[64];
    upper(command->words, text, sizeof text);
    error_set(err, SQLSTATE_NO_PRIVILEGE, "permission denied for %s", text);
    error_hint(err, "Set \"%s\" for the user in shards.ini.",
               command->right == COMMAND_FOR_MONITORS ? "monitor = yes" : "admin = yes");
    return false;
}
