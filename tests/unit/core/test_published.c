#include "story.h"

#include <pthread.h>
#include <sched.h>

#include "core/published.h"

typedef struct Map2 {
    PublishedValue value;
    uint64_t a, b; /* always equal */
} Map2;

static int alive;

static void map2_destroy(PublishedValue *value)
{
    Map2 *map = container_of(value, Map2, value);
    map->a = 1, map->b = 2; /* a reader that still looks will notice, with or without ASan */
    free(map);
    alive--;
}

static void publish(Published *p, uint64_t n)
{
    Map2 *map = calloc(1, sizeof(*map));
    map->a = map->b = n * 10;
    alive++;
    published_set(p, &map->value);
}

/* Else: a move ends while a worker still routes by the old map. */
static void old_values_live_until_the_last_reader_lets_go(void **state)
{
    Published p;
    published_init(&p, map2_destroy);
    int slow = published_add_reader(&p), fast = published_add_reader(&p);
    assert_null(published_adopt(&p, fast, 0));
    publish(&p, 1);
    publish(&p, 2);
    assert_int_equal(published_adopt(&p, fast, 0)->version, 2);
    published_collect(&p);
    assert_int_equal(alive, 2); /* the slow one has announced nothing yet */
    assert_int_equal(published_adopted_by_all(&p), 0);
    assert_int_equal(published_adopt(&p, slow, 0)->version, 2);
    published_collect(&p);
    assert_int_equal(alive, 1);

    publish(&p, 3);
    assert_int_equal(published_adopt(&p, slow, 2)->version, 3); /* a request runs on version 2 */
    assert_int_equal(published_adopt(&p, fast, 0)->version, 3);
    assert_int_equal(published_adopted_by_all(&p), 3);
    published_collect(&p);
    assert_int_equal(alive, 2);
    published_adopt(&p, slow, 0);
    published_collect(&p);
    assert_int_equal(alive, 1);
    published_finish(&p);
    assert_int_equal(alive, 0);
}

#define READERS 3
#define VERSIONS 3000

typedef struct Worker {
    Published *p;
    int reader;
    uint64_t torn, last;
    pthread_t thread;
} Worker;

static void *worker_run(void *ctx)
{
    Worker *worker = ctx;
    while (worker->last < VERSIONS) {
        PublishedValue *value = published_adopt(worker->p, worker->reader, 0);
        if (!value)
            continue;
        const Map2 *map = container_of(value, Map2, value);
        for (int i = 0; i < 20; i++)
            worker->torn += map->a != map->b || map->a != value->version * 10;
        worker->torn += value->version < worker->last;
        worker->last = value->version;
        sched_yield();
    }
    return NULL;
}

/* Else: a worker reads a topology that was freed or is half written. */
static void readers_see_whole_values_while_they_are_replaced(void **state)
{
    static Published p;
    Worker workers[READERS];
    published_init(&p, map2_destroy);
    for (int i = 0; i < READERS; i++)
        workers[i] = (Worker){.p = &p, .reader = published_add_reader(&p)};
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), 0);
    for (uint64_t n = 1; n <= VERSIONS; n++) {
        publish(&p, n);
        published_collect(&p);
        if (n % 16 == 0)
            sched_yield();
    }
    for (int i = 0; i < READERS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].torn, 0);
    }
    published_collect(&p);
    assert_int_equal(alive, 1);
    published_finish(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_values_live_until_the_last_reader_lets_go),
        cmocka_unit_test(readers_see_whole_values_while_they_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
