/* hint.c - why by hand: a hint is a few words, and what is no hint must cost nothing. */
#include "batcher/hint.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static Slice skip(Slice text, bool commas)
{
    while (text.len && (is_blank(text.data[0]) || (commas && text.data[0] == ',')))
        text = slice_from(text, 1);
    return text;
}

/* Letters, digits and what names of profiles may have. */
static Slice take_word(Slice *text)
{
    size_t len = 0;
    while (len < text->len && !is_blank(text->data[len]) && text->data[len] != ',' &&
           text->data[len] != '=')
        len++;
    Slice word = slice_of(text->data, len);
    *text = slice_from(*text, len);
    return word;
}

static bool is_off(Slice value)
{
    return slice_equal_nocase(value, SLICE("off")) || slice_equal_nocase(value, SLICE("false")) ||
           slice_equal_nocase(value, SLICE("no")) || slice_is(value, "0");
}

Hint hint_read(Slice text)
{
    Hint hint = {0};
    for (text = skip(text, true); text.len; text = skip(text, true)) {
        Slice name = take_word(&text);
        text = skip(text, false);
        if (!text.len || text.data[0] != '=') {
            if (name.len == 0)
                break; /* nothing that we could pass over */
            continue;
        }
        text = skip(slice_from(text, 1), false);
        Slice value = take_word(&text);
        if (slice_equal_nocase(name, SLICE("batch")))
            hint.batch_off = is_off(value);
        else if (slice_equal_nocase(name, SLICE("profile")))
            hint.profile = value;
    }
    return hint;
}
