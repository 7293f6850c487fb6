/* utf8.h - one character's bytes: for texts that come from clients and go to people. */
#ifndef SHOAL_CORE_UTF8_H
#define SHOAL_CORE_UTF8_H

#include "core/base.h"

/* Bytes of the valid UTF-8 character that the NUL-terminated text begins with; 0: it is none. */
static inline size_t utf8_len(const uint8_t *text)
{
    uint8_t c = text[0];
    size_t len = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : (c & 0xF0) == 0xE0 ? 3
                 : c >= 0xF0 && c < 0xF5              ? 4
                                                      : 0;
    for (size_t i = 1; i < len; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (c == 0xE0 && text[1] < 0xA0) || (c == 0xF0 && text[1] < 0x90);
    bool surrogate = c == 0xED && text[1] >= 0xA0;
    bool beyond = c == 0xF4 && text[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : len;
}

#endif
