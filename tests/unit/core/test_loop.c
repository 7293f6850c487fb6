/* Loop, timers, and the inbox. */
#include "story.h"

#include <pthread.h>

#include "core/clock.h"
#include "core/inbox.h"
#include "core/loop.h"

typedef struct Turns {
    Loop *loop;
    char order[64];
    size_t len;
    int turns, stop_after;
} Turns;

static void note(Turns *turns, char c)
{
    if (turns->len + 1 < sizeof(turns->order))
        turns->order[turns->len++] = c;
}
static void hook_a(void *ctx) { note(ctx, 'a'); }
static void hook_b(void *ctx)
{
    Turns *turns = ctx;
    note(turns, 'b');
    if (++turns->turns < turns->stop_after)
        loop_again(turns->loop);
    else
        loop_stop(turns->loop);
}

/* Else: batches close after the flush, and each answer waits for another client's event. */
static void hooks_run_in_order_each_turn_and_once_at_the_end(void **state)
{
    Loop loop;
    Turns turns = {.loop = &loop, .stop_after = 3};
    assert_true(loop_init(&loop));
    loop_on_turn_end(&loop, hook_a, &turns);
    loop_on_turn_end(&loop, hook_b, &turns);
    loop_run(&loop);
    assert_string_equal(turns.order, "abababab");
    loop_finish(&loop);
}

static void on_tick(Timer *timer) { note(timer->ctx, 't'); }
static void on_end(Timer *timer)
{
    Turns *turns = timer->ctx;
    note(turns, 'e');
    loop_stop(turns->loop);
}

/* Else: a query timeout fires early, twice, or after its query has ended. */
static void timers_fire_once_in_time_or_not_at_all(void **state)
{
    Loop loop;
    Turns turns = {.loop = &loop};
    Timer tick, stopped, end;
    assert_true(loop_init(&loop));
    timer_init(&tick, &loop, on_tick, &turns);
    timer_init(&stopped, &loop, on_tick, &turns);
    timer_init(&end, &loop, on_end, &turns);
    uint64_t start_us = clock_now_us();
    timer_start_ms(&tick, 1000000);
    timer_start_ms(&tick, 5); /* re-armed: the last wish counts */
    timer_start_ms(&stopped, 6);
    assert_true(timer_armed(&stopped));
    timer_stop(&stopped);
    timer_start_ms(&end, 30);
    loop_run(&loop);
    assert_string_equal(turns.order, "te");
    assert_true(clock_now_us() - start_us >= 29000);
    assert_false(timer_armed(&tick));
    loop_finish(&loop);
}

#define SENDERS 4
#define MAILS 20000

typedef struct Letter {
    Mail mail;
    int sender, number;
} Letter;

typedef struct Reader {
    Loop loop;
    Inbox inbox;
    int next[SENDERS]; /* the number expected from each */
    int received, wrong;
} Reader;

typedef struct Sender {
    Reader *to;
    int number;
    pthread_t thread;
} Sender;

static void letter_on_delivery(Mail *mail, void *owner)
{
    Letter *letter = container_of(mail, Letter, mail);
    Reader *reader = owner;
    reader->wrong += letter->number != reader->next[letter->sender]++;
    free(letter);
    if (++reader->received == SENDERS * MAILS)
        loop_stop(&reader->loop);
}

static void *sender_run(void *ctx)
{
    Sender *sender = ctx;
    for (int i = 0; i < MAILS; i++) {
        Letter *letter = calloc(1, sizeof(*letter));
        *letter = (Letter){{.on_delivery = letter_on_delivery}, sender->number, i};
        inbox_send(&sender->to->inbox, &letter->mail);
    }
    return NULL;
}

/* Else: an operator's command is lost, or PAUSE overtakes the RESUME before it. */
static void mail_of_four_threads_arrives_complete_and_in_order(void **state)
{
    static Reader reader;
    Sender senders[SENDERS];
    assert_true(loop_init(&reader.loop));
    inbox_open(&reader.inbox, &reader.loop, &reader);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (Sender){.to = &reader, .number = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_run, &senders[i]), 0);
    }
    loop_run(&reader.loop);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    assert_int_equal(reader.received, SENDERS * MAILS);
    assert_int_equal(reader.wrong, 0);
    inbox_close(&reader.inbox);
    loop_finish(&reader.loop);
}

/* Else: mail that was on its way at shutdown leaks, with what it carries. */
static void closing_delivers_what_is_left(void **state)
{
    static Reader reader;
    assert_true(loop_init(&reader.loop));
    inbox_open(&reader.inbox, &reader.loop, &reader);
    for (int i = 0; i < 3; i++) {
        Letter *letter = calloc(1, sizeof(*letter));
        *letter = (Letter){{.on_delivery = letter_on_delivery}, 0, i};
        inbox_send(&reader.inbox, &letter->mail);
    }
    inbox_close(&reader.inbox);
    inbox_close(&reader.inbox);
    assert_int_equal(reader.received, 3);
    assert_int_equal(reader.wrong, 0);
    loop_finish(&reader.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hooks_run_in_order_each_turn_and_once_at_the_end),
        cmocka_unit_test(timers_fire_once_in_time_or_not_at_all),
        cmocka_unit_test(mail_of_four_threads_arrives_complete_and_in_order),
        cmocka_unit_test(closing_delivers_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
