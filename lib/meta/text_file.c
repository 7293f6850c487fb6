/*
 * text_file.c - shards.ini and user lists as lines, with the traps of real files taken out first.
 */
#include "meta/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool text_file_error(const TextFile *file, int line, Error *err, const char *fmt, ...)
{
    char reason[sizeof err->message];
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    /* A long path must not push the reason out of the message. */
    const char *path = file->path;
    size_t path_len = strlen(path), path_max = sizeof err->message / 3;
    const char *dots = path_len > path_max ? "..." : "";
    if (path_len > path_max)
        path += path_len - path_max;
    if (line > 0)
        error_set(err, SQLSTATE_CONFIG_FILE, "%s%s:%d: %s", dots, path, line, reason);
    else
        error_set(err, SQLSTATE_CONFIG_FILE, "%s%s: %s", dots, path, reason);
    return false;
}

bool text_file_keeps_secret(const TextFile *file, int line, Error *err)
{
    if (!file->world_readable)
        return true;
    text_file_error(file, line, err, "a password stands here and everybody may read the file");
    error_hint(err, "chmod 600 %s", file->path);
    return false;
}

/* Reads until the end; the size that stat told is only a hint (pipes, files being written). */
static bool text_file_read(TextFile *file, int fd, size_t size_max, Error *err)
{
    size_t cap = 0;
    for (;;) {
        if (file->len + 1 >= cap) {
            size_t wanted = cap ? cap * 2 : 8192;
            char *grown = malloc(wanted);
            if (!grown) {
                text_file_error(file, 0, err, "out of memory");
                return false;
            }
            if (file->text) {
                memcpy(grown, file->text, file->len);
                OPENSSL_cleanse(file->text, file->len);
                free(file->text);
            }
            file->text = grown;
            cap = wanted;
        }
        ssize_t got = read(fd, file->text + file->len, cap - file->len - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            text_file_error(file, 0, err, "cannot read: %s", strerror(errno));
            return false;
        }
        file->len += (size_t)got;
        file->text[file->len] = 0;
        if (got == 0)
            return true;
        if (file->len > size_max) {
            text_file_error(file, 0, err, "bigger than %zu kB", size_max / 1024);
            error_hint(err, "Is this the right file?");
            return false;
        }
    }
}

static bool text_file_check(TextFile *file, Error *err)
{
    const char *nul = memchr(file->text, 0, file->len);
    if (nul) {
        int line = 1;
        for (const char *p = file->text; p < nul; p++)
            line += *p == '\n';
        text_file_error(file, line, err, "a zero byte, so this is not a text file");
        return false;
    }
    if (file->len >= 3 && memcmp(file->text, "\xEF\xBB\xBF", 3) == 0)
        file->at = 3;
    return true;
}

bool text_file_open(TextFile *file, const char *path, size_t size_max, Error *err)
{
    *file = (TextFile){.path = path};
    struct stat st;
    /* O_NONBLOCK: a FIFO without a writer must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0) {
        text_file_error(file, 0, err, "cannot open: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    file->world_readable = st.st_mode & S_IROTH;
    bool ok = false;
    if (S_ISDIR(st.st_mode))
        text_file_error(file, 0, err, "is a directory, not a file");
    else
        ok = text_file_read(file, fd, size_max, err) && text_file_check(file, err);
    close(fd);
    if (!ok)
        text_file_close(file);
    return ok;
}

void text_file_close(TextFile *file)
{
    if (file->text)
        OPENSSL_cleanse(file->text, file->len);
    free(file->text);
    file->text = NULL;
    file->len = file->at = 0;
}

bool text_file_next(TextFile *file, Slice *ret_line)
{
    if (file->at >= file->len)
        return false;
    const char *start = file->text + file->at;
    const char *end = memchr(start, '\n', file->len - file->at);
    size_t len = end ? (size_t)(end - start) : file->len - file->at;
    file->at += len + (end != NULL);
    file->line++;
    if (len > 0 && start[len - 1] == '\r')
        len--;
    *ret_line = slice_of(start, len);
    return true;
}
