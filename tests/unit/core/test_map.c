#include "story.h"

#include "core/list.h"
#include "core/map.h"

#define KEYS 512

typedef struct Item {
    uint64_t key;
    bool present;
    bool seen;
    List link;
} Item;

static bool item_has_key(const void *item, const void *key)
{
    return ((const Item *)item)->key == *(const uint64_t *)key;
}

/* Small hashes on purpose: long runs of slots, many equal hashes. */
static uint64_t hash_of(uint64_t key) { return key % 40; }

static size_t count_present(Item *items)
{
    size_t n = 0;
    for (size_t i = 0; i < KEYS; i++)
        n += items[i].present;
    return n;
}

/* Else: a prepared statement is "not found", or another one is executed in its place. */
static void map_agrees_with_a_plain_array(void **state)
{
    static Item items[KEYS];
    Map map;
    uint64_t random = 11;
    map_init(&map, item_has_key);
    for (uint64_t i = 0; i < KEYS; i++)
        items[i] = (Item){.key = i};
    for (int step = 0; step < 200000; step++) {
        /* Waves: mostly putting, then mostly removing. */
        bool putting = story_random(&random) % 4 < ((step / 5000) % 2 ? 1u : 3u);
        Item *item = &items[story_random(&random) % KEYS];
        assert_ptr_equal(map_get(&map, hash_of(item->key), &item->key),
                         item->present ? item : NULL);
        if (putting && !item->present)
            assert_true(map_put(&map, hash_of(item->key), item));
        else if (!putting)
            assert_ptr_equal(map_remove(&map, hash_of(item->key), &item->key),
                             item->present ? item : NULL);
        item->present = putting;
        assert_true(map.size <= 4 * KEYS);
    }
    assert_int_equal(map.count, count_present(items));
    map_finish(&map);
}

/* Else: DISCARD ALL forgets half of the statements, or visits one twice. */
static void every_item_is_visited_once_and_may_be_removed(void **state)
{
    static Item items[KEYS];
    Map map;
    size_t cursor = 0, visited = 0;
    map_init(&map, item_has_key);
    for (uint64_t i = 0; i < KEYS; i++) {
        items[i] = (Item){.key = i};
        assert_true(map_put(&map, i, &items[i]));
    }
    for (Item *item; (item = map_next(&map, &cursor)) != NULL; visited++) {
        assert_false(item->seen);
        item->seen = true;
        assert_ptr_equal(map_remove(&map, item->key, &item->key), item);
    }
    assert_int_equal(visited, KEYS);
    assert_int_equal(map.count, 0);
    cursor = 0;
    assert_null(map_next(&map, &cursor));
    map_finish(&map);
}

/* Else: the longest waiter is not the first to be served (H31). */
static void lists_keep_their_order(void **state)
{
    Item items[4] = {{.key = 0}, {.key = 1}, {.key = 2}, {.key = 3}};
    List waiting, later;
    list_init(&waiting);
    list_init(&later);
    for (int i = 0; i < 4; i++) {
        list_init(&items[i].link);
        list_push(i < 2 ? &waiting : &later, &items[i].link);
    }
    list_splice(&waiting, &later);
    assert_true(list_empty(&later));
    list_remove(&items[1].link);
    list_remove(&items[1].link); /* harmless */
    list_push_front(&waiting, &items[1].link);
    const uint64_t order[] = {1, 0, 2, 3};
    size_t i = 0;
    LIST_EACH_SAFE(link, &waiting) {
        assert_int_equal(list_entry(link, Item, link)->key, order[i++]);
        list_remove(link);
    }
    assert_int_equal(i, 4);
    assert_null(list_pop(&waiting));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_agrees_with_a_plain_array),
        cmocka_unit_test(every_item_is_visited_once_and_may_be_removed),
        cmocka_unit_test(lists_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
