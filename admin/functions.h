/*
 * functions.h - SELECT shoal.name(...): what Shoal itself answers in a user's database.
 *
 * One table: name, arguments, help, handler. Each answers like a SELECT of a function that returns
 * text: one row, one column of its name. Those that change a table ask for what ALTER TABLE asks
 * for: its owner (distribute.h).
 */
#ifndef SHOAL_ADMIN_FUNCTIONS_H
#define SHOAL_ADMIN_FUNCTIONS_H

#include "meta/topology.h"
#include "router/call.h"

typedef struct Control Control;
typedef struct Function Function;

struct Function {
    const char *name, *arguments, *help;
    uint32_t args_min, args_max;
    bool (*run)(Control *control, Call *call, const Function *function, Error *err);
};

const Function *functions_table(size_t *ret_count);
/* Finds the function and checks the number of arguments: 42883. */
const Function *function_find(const Call *call, Error *err) MUST_USE;
/* Answers the call, now or later. */
void functions_run(Control *control, Call *call);
/* The one row. `value` NULL is SQL NULL. */
void function_answer(Call *call, const char *name, const char *value);

/* Splits `orders`, `app.orders` or `"My Schema".orders`; schema public when there is none. Both are
 * copied. 42602 for anything else. */
bool table_name_read(Slice text, Arena *arena, const char **ret_schema, const char **ret_name,
                     Error *err) MUST_USE;
/* Bucket and shard of a key given as text, one for each of its columns; 42P01, 55000, 22023 or 23514 when
 * there is none. */
bool key_bucket(const Topology *topology, uint32_t database, Slice table_name, const Slice *keys,
                uint32_t key_count, Arena *arena, uint32_t *ret_bucket, uint32_t *ret_shard,
                Error *err) MUST_USE;

#endif
