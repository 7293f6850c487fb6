/*
 * port.h - is the port free? Workers share it by SO_REUSEPORT, which would let a second shoald of
 * the same user share it too: half of the clients would silently land on the other one.
 */
#ifndef SHOAL_BIN_PORT_H
#define SHOAL_BIN_PORT_H

#include "meta/config.h"

/* False when somebody listens there already (or the address cannot be bound at all). */
bool port_check(const Config *config, Error *err) MUST_USE;

#endif
