/*
 * config_users.c - who may log in: [user NAME] sections and the lines of the user list, as one
 * sorted array. Passwords become SCRAM verifiers here, once.
 */
#include <stdlib.h>

#include "meta/config_loader.h"
#include "meta/scram.h"
#include "meta/settings.h"
#include "meta/user_list.h"

/* ---- [user NAME] and the user list ---- */

static int user_compare(const void *left, const void *right)
{
    const UserConfig *a = left, *b = right;
    return strcmp(a->name, b->name);
}

/* Splits what was written as the password into plain text and verifier. */
static bool user_finish(ConfigLoader *loader, UserConfig *user)
{
    if (!user->password)
        return true;
    if (scram_is_verifier(user->password)) {
        user->verifier = user->password;
        user->password = NULL;
        return true;
    }
    user->verifier = scram_verifier(user->password, &loader->config->arena);
    return user->verifier || FAIL(loader, 0, "cannot derive a SCRAM verifier for user \"%s\"", user->name);
}

static bool user_looks_hashed(const char *secret)
{
    return strncmp(secret, "SCRAM-SHA-256$", 14) == 0 ||
           (strncmp(secret, "md5", 3) == 0 && strlen(secret) == 35 &&
            strspn(secret + 3, "0123456789abcdef") == 32);
}

/* A hash that cannot be used must not be taken for a password. */
static bool user_secret_check(const TextFile *file, int line, const char *secret, Error *err)
{
    if (!secret || scram_is_verifier(secret) || !user_looks_hashed(secret))
        return true;
    if (*secret == 'm') {
        text_file_error(file, line, err, "MD5 password hashes cannot be used");
        error_hint(err, "Set the password again with password_encryption = 'scram-sha-256' and copy "
                        "the verifier from pg_authid.");
    } else {
        text_file_error(file, line, err, "the SCRAM verifier is damaged");
    }
    return false;
}

static bool load_user_sections(ConfigLoader *loader)
{
    Config *c = loader->config;
    SECTIONS_EACH(section, loader, "user") {
        UserConfig *user = &c->users[c->user_count++];
        if (!settings_default("user", user, &c->arena))
            return FAIL_MEMORY(loader);
        const IniEntry *password = entry_find(section, "password");
        if (password && !user_secret_check(&loader->ini.text, password->line, password->value, loader->err))
            return false;
        if (!section_read(loader, section, user) || !profile_check(loader, section))
            return false;
        user->name = arena_text(&c->arena, slice_str(section->name));
        if (!user->name)
            return FAIL_MEMORY(loader);
    }
    qsort(c->users, c->user_count, sizeof *c->users, user_compare);
    return true;
}

static int user_line_compare(const void *left, const void *right)
{
    const UserLine *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order ? order : a->line - b->line;
}

/* A user may stand in a section (for its rights) or in the list, once. */
static bool merge_user_list(ConfigLoader *loader, UserLine *list, uint32_t count)
{
    Config *c = loader->config;
    TextFile file = {.path = c->user_list};
    uint32_t sections = c->user_count;
    qsort(list, count, sizeof *list, user_line_compare);
    for (uint32_t i = 0; i < count; i++) {
        UserConfig wanted = {.name = list[i].name};
        UserConfig *known = sections ? bsearch(&wanted, c->users, sections, sizeof wanted, user_compare)
                                     : NULL;
        if ((i > 0 && strcmp(list[i - 1].name, list[i].name) == 0) || (known && known->password)) {
            text_file_error(&file, list[i].line, loader->err,
                            "user \"%.63s\" has a password already%s", list[i].name,
                            known ? " in its [user NAME] section" : "");
            return false;
        }
        if (!*list[i].name || strlen(list[i].name) > CONFIG_NAME_MAX) {
            text_file_error(&file, list[i].line, loader->err, "a user's name has 1 to %d bytes",
                            CONFIG_NAME_MAX);
            return false;
        }
        if (!user_secret_check(&file, list[i].line, list[i].secret, loader->err))
            return false;
        UserConfig *user = known ? known : &c->users[c->user_count++];
        user->name = list[i].name;
        user->password = *list[i].secret ? list[i].secret : NULL;
    }
    return true;
}

bool load_users(ConfigLoader *loader)
{
    Config *c = loader->config;
    UserLine *list = NULL;
    uint32_t count = 0;
    if (c->user_list && !user_list_read(c->user_list, &c->arena, &list, &count, loader->err))
        return false;
    c->users = arena_array(&c->arena, UserConfig, section_count(loader, "user") + count + 1);
    if (!c->users)
        return FAIL_MEMORY(loader);
    if (!load_user_sections(loader) || (count > 0 && !merge_user_list(loader, list, count)))
        return false;
    qsort(c->users, c->user_count, sizeof *c->users, user_compare);
    bool any = false;
    for (uint32_t i = 0; i < c->user_count; i++) {
        if (!user_finish(loader, &c->users[i]))
            return false;
        any |= c->users[i].verifier != NULL;
    }
    if (c->auth == AUTH_SCRAM && !any) {
        FAIL(loader, config_line_of(loader, "auth"), "auth is scram-sha-256, but no user has a password");
        error_hint(loader->err, "Add [user NAME] with a password, name a user_list, or, where nobody "
                                "else can connect, write auth = trust.");
        return false;
    }
    return true;
}

const UserConfig *config_user(const Config *config, Slice name)
{
    char text[CONFIG_NAME_MAX + 1];
    if (name.len > CONFIG_NAME_MAX || memchr(name.data ? name.data : (const uint8_t *)"", 0, name.len))
        return NULL;
    if (name.len > 0)
        memcpy(text, name.data, name.len);
    text[name.len] = 0;
    UserConfig wanted = {.name = text};
    return config->user_count
               ? bsearch(&wanted, config->users, config->user_count, sizeof wanted, user_compare)
               : NULL;
}
