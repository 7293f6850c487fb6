/* nearest.c - edit distance, for hints. */
#include "meta/nearest.h"

#include <ctype.h>
#include <string.h>

#define NEAREST_LEN_MAX 63

Nearest nearest_init(const char *wanted)
{
    size_t len = strlen(wanted);
    return (Nearest){.wanted = wanted, .distance = (unsigned)MAX(1, MIN(len / 3, 4)) + 1};
}

/* Insertions, deletions, changes and swaps of neighbours that lead from one word to the other. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][NEAREST_LEN_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_len; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = above[j - 1] + (tolower((unsigned char)a[i - 1]) != b[j - 1]);
            row[j] = MIN(change, MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], before[j - 2] + 1);
        }
        unsigned *oldest = before;
        before = above, above = row, row = oldest;
    }
    return above[b_len];
}

void nearest_offer(Nearest *nearest, const char *word)
{
    size_t a = strlen(nearest->wanted), b = strlen(word);
    if (a > NEAREST_LEN_MAX || b > NEAREST_LEN_MAX)
        return;
    unsigned distance = edit_distance(nearest->wanted, a, word, b);
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->best = word;
    }
}

void nearest_hint(const Nearest *nearest, Error *err)
{
    if (nearest->best)
        error_hint(err, "Did you mean \"%s\"?", nearest->best);
}
