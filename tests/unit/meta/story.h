/* story.h - what every unit test of this folder includes, and helpers for files and configurations. */
#ifndef SHOAL_TESTS_UNIT_META_STORY_H
#define SHOAL_TESTS_UNIT_META_STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/arena.h"
#include "meta/config.h"

#define CLUSTER "[shard s0]\nprimary=host=a port=1\n[shard s1]\nprimary=host=b port=2\n[database app]\n"
#define TRUST "[shoal]\nauth=trust\n"

/* A file of the source tree. */
static inline const char *story_source(const char *name)
{
    static char path[4096];
    const char *root = getenv("SHOAL_SOURCE");
    snprintf(path, sizeof path, "%s/%s", root ? root : ".", name);
    return path;
}

/* A directory of this process's own, made at the first call, and a path in it. */
static inline const char *story_path(const char *name)
{
    static char dir[64], paths[8][160];
    static unsigned next;
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/shoal-meta-XXXXXX");
        assert_non_null(mkdtemp(dir));
    }
    char *path = paths[next++ % ARRAY_LEN(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

/* Takes the directory away; the last line of main. */
static inline void story_clean(void)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", story_path(""));
    if (system(command) != 0)
        fprintf(stderr, "could not clean up: %s\n", command);
}

static inline const char *story_file_bytes(const char *name, const void *bytes, size_t len)
{
    const char *path = story_path(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0600), 0);
    return path;
}

static inline const char *story_file(const char *name, const char *text)
{
    return story_file_bytes(name, text, strlen(text));
}

static inline Config *story_config(const char *text)
{
    Error err = {0};
    Config *config = config_load(story_file("shards.ini", text), &err);
    if (!config)
        fail_msg("%s (%s)", err.message, err.hint);
    return config;
}

#endif
