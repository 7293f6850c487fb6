/*
 * complexity.c - an upper bound of the parse tree's depth, by counting tokens.
 *
 * Each open parenthesis has a Level. Within a level, tokens that can put one node under another
 * (operators, NOT, CASE ...) count into `item`; what ends an expression for sure starts a new item:
 *
 *     values (1 + 2, -3::int), (4, 5)       level 0: "values", then item by item between commas
 *             |item| | item |                        each ( ... ) hands its deepest item + 3 upwards
 *
 *     a = 1 and b = 2 or c = 3              AND and OR end an item too: PostgreSQL's grammar makes
 *     |item|    |item|   |item|             one flat list of them
 *
 * Three things stay open over AND and OR: CASE ... END, BETWEEN ... AND, JOIN ... ON; an item that
 * has seen one of them is `open` and only a comma ends it. Set operations chain over commas as
 * well, so they count for the whole level. A keyword behind a dot is a column's name.
 *
 * A step stands for two messages of the protobuf tree (a Node and what is in it), about 2 KiB of
 * stack where it is unpacked. CASE weighs two (CaseExpr, CaseWhen), a parenthesis three (it may be a
 * SubLink, its SelectStmt and a ResTarget).
 */
#include "query/complexity.h"

#include "query/lexer.h"

enum { CASE_STEPS = 2, PARENTHESIS_STEPS = 3 };

typedef struct Level {
    uint32_t item;    /* steps in the present item */
    uint32_t deepest; /* steps of the deepest item so far */
    uint32_t chained; /* set operations */
    bool open;        /* AND and OR do not end the item */
} Level;

typedef enum WordEffect {
    WORD_NOTHING,
    WORD_ENDS,   /* AND, OR */
    WORD_STEPS,  /* puts a node on top of another */
    WORD_OPENS,  /* steps twice, and stays open over AND and OR */
    WORD_CHAINS  /* set operations */
} WordEffect;

static const struct {
    const char *word;
    WordEffect effect;
} words[] = {
    {"and", WORD_ENDS},        {"or", WORD_ENDS},       {"not", WORD_STEPS},
    {"is", WORD_STEPS},        {"isnull", WORD_STEPS},  {"notnull", WORD_STEPS},
    {"in", WORD_STEPS},        {"like", WORD_STEPS},    {"ilike", WORD_STEPS},
    {"similar", WORD_STEPS},   {"at", WORD_STEPS},      {"collate", WORD_STEPS},
    {"escape", WORD_STEPS},    {"overlaps", WORD_STEPS}, {"operator", WORD_STEPS},
    {"case", WORD_OPENS},      {"between", WORD_OPENS}, {"join", WORD_OPENS},
    {"union", WORD_CHAINS},    {"intersect", WORD_CHAINS}, {"except", WORD_CHAINS},
};

static WordEffect word_effect(Slice word)
{
    if (word.len < 2 || word.len > 9)
        return WORD_NOTHING;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_equal_nocase(word, slice_str(words[i].word)))
            return words[i].effect;
    return WORD_NOTHING;
}

static void item_end(Level *level)
{
    level->deepest = MAX(level->deepest, level->item);
    level->item = 0;
    level->open = false;
}

static uint32_t level_steps(const Level *level)
{
    return MAX(level->deepest, level->item) + level->chained;
}

static void word_count(Level *level, Slice word)
{
    switch (word_effect(word)) {
    case WORD_ENDS:
        if (!level->open)
            item_end(level);
        else
            level->item++;
        break;
    case WORD_OPENS:
        level->open = true;
        level->item += CASE_STEPS;
        break;
    case WORD_STEPS:
        level->item++;
        break;
    case WORD_CHAINS:
        item_end(level);
        level->chained++;
        break;
    case WORD_NOTHING:
        break;
    }
}

Complexity complexity_measure(Slice text, bool standard_strings)
{
    Level levels[COMPLEXITY_DEPTH_MAX + 1], *level = levels;
    Complexity complexity = {0};
    Lexer lexer;
    lexer_init(&lexer, text, standard_strings);
    *level = (Level){0};
    bool after_dot = false;
    for (;;) {
        Token token = lexer_next(&lexer);
        if (token.kind == TOKEN_END || token.kind == TOKEN_BAD)
            break;
        uint8_t c = text.data[token.offset];
        if (token.kind == TOKEN_OPERATOR) {
            level->item++;
        } else if (token.kind == TOKEN_IDENT && !after_dot) {
            word_count(level, token_text(text, token));
        } else if (token.kind == TOKEN_PUNCT && (c == '(' || c == '[')) {
            uint32_t depth = (uint32_t)(level - levels) + 1;
            complexity.depth = MAX(complexity.depth, depth);
            if (depth > COMPLEXITY_DEPTH_MAX)
                break;
            *++level = (Level){0};
        } else if (token.kind == TOKEN_PUNCT && (c == ')' || c == ']') && level > levels) {
            uint32_t steps = level_steps(level) + PARENTHESIS_STEPS;
            (--level)->item += steps;
        } else if (token.kind == TOKEN_PUNCT && c == ',') {
            item_end(level);
        } else if (token.kind == TOKEN_PUNCT && c == ';' && level == levels) {
            complexity.terms = MAX(complexity.terms, level_steps(level));
            *level = (Level){0};
        }
        after_dot = token.kind == TOKEN_PUNCT && c == '.' && token.len == 1;
    }
    uint32_t steps = level_steps(level); /* unbalanced: what is still open stands under the rest */
    while (level > levels)
        steps += level_steps(--level) + PARENTHESIS_STEPS;
    complexity.terms = MAX(complexity.terms, steps);
    return complexity;
}
