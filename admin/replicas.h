/*
 * replicas.h - SHOW REPLICAS: what the probes measured and what the workers' own reads say, side by side.
 */
#ifndef SHOAL_ADMIN_REPLICAS_H
#define SHOAL_ADMIN_REPLICAS_H

#include "admin/command.h"
#include "admin/control.h"

bool show_replicas(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                   Error *err);
bool show_replica_lag(Control *control, Call *call, const Command *command, const CommandLine *arguments,
                      Error *err);

#endif
