/*
 * row_fill_end.h - ends what a fill has prepared on the shards: committed everywhere, or rolled back everywhere.
 *
 * The store decides: the table is in it, or it is not. Runs at the end of each fill, and at each start of the router until
 * nothing is left; shards that cannot be asked are asked again. The table's locks hold until then.
 */
#ifndef SHOAL_ADMIN_ROW_FILL_END_H
#define SHOAL_ADMIN_ROW_FILL_END_H

#include "admin/row_fill.h"

typedef struct RowFillEnd RowFillEnd;

/* Nothing to do when the store knows of none; on_over may be NULL, and is called when all shards have ended it. */
void row_fill_end_begin(Control *control, void (*on_over)(void *ctx), void *ctx);
/* Whoever waited is gone. */
void row_fill_end_forget(Control *control);
void row_fill_end_stop(Control *control);

#endif
