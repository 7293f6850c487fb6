/* tree.c - protobuf-c's descriptors, read at run time. */
#include "query/tree.h"

static const void *field_at(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

static void field_visit(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        TreeVisit visit, void *context)
{
    const void *member = field_at(message, field->offset);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)field_at(message, field->quantifier_offset);
        ProtobufCMessage *const *list = *(ProtobufCMessage *const *const *)member;
        for (size_t i = 0; i < n; i++)
            visit(list[i], context);
        return;
    }
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
        *(const uint32_t *)field_at(message, field->quantifier_offset) != field->id)
        return;
    const ProtobufCMessage *one = *(const ProtobufCMessage *const *)member;
    if (one)
        visit(one, context);
}

void tree_children(const ProtobufCMessage *message, TreeVisit visit, void *context)
{
    if (message->descriptor == &pg_query__node__descriptor) {
        const ProtobufCMessage *inside = tree_inside((const PgQuery__Node *)message);
        if (inside)
            visit(inside, context);
        return;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type == PROTOBUF_C_TYPE_MESSAGE)
            field_visit(message, field, visit, context);
    }
}

const ProtobufCMessage *tree_inside(const PgQuery__Node *node)
{
    if (!node || node->node_case == PG_QUERY__NODE__NODE__NOT_SET)
        return NULL;
    /* All members of the union are pointers to messages; any of them reads the pointer. */
    return (const ProtobufCMessage *)node->alias;
}

Slice tree_string(const PgQuery__Node *node)
{
    if (!node || node->node_case != PG_QUERY__NODE__NODE_STRING)
        return slice_of(NULL, 0);
    return slice_str(node->string->sval);
}
