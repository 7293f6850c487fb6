/*
 * hint.h - what a statement's leading comment asks for: "shoal: batch=off", "shoal: profile=night".
 *
 * The lexer finds the comment (so nothing inside a string is ever one) and takes "shoal:" off; here
 * its words are read: NAME = VALUE, separated by commas or blanks. Words of others are passed over.
 */
#ifndef SHOAL_BATCHER_HINT_H
#define SHOAL_BATCHER_HINT_H

#include "core/slice.h"

typedef struct Hint {
    bool batch_off;
    Slice profile; /* borrowed from the text; empty: none */
} Hint;

Hint hint_read(Slice text);

#endif
