/*
 * read_setting.h - SET shoal.read_consistency and its like: a session's own wishes, kept here and not
 * on a server.
 *
 *     SET shoal.read_consistency = 'session'      strong | bounded | session | eventual | default
 *     SET shoal.max_lag = '500ms'                 of bounded reads
 *     SET shoal.copies = 2                        servers that each read asks at once
 *     SET shoal.deadline = 'p99 stale'            no answer by then: any replica; without stale: an error
 *     SHOW shoal.session_lsn                      s0=0/5000060,s1=0/4F00028: what this session has written
 *     SET shoal.session_lsn = '...'               ... must be there when this one reads
 *
 * They are not transactional: a SET counts from then on, whatever becomes of the transaction. SET LOCAL
 * counts until it ends.
 */
#ifndef SHOAL_ROUTER_READ_SETTING_H
#define SHOAL_ROUTER_READ_SETTING_H

#include "router/request.h"

/* True: the statement was one of those, and has been answered (or waits for the answer). */
bool read_setting_run(Request *request, const Shape *shape);
/* From the startup message; false and err for a bad value. `*ret_ours`: the name is Shoal's own. */
bool read_setting_start(Session *session, Slice name, Slice value, bool *ret_ours, Error *err) MUST_USE;
/* RESET ALL, DISCARD ALL. */
void read_setting_reset(Session *session);

#endif
