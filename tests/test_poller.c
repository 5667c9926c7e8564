/* SPDX-License-Identifier: MIT */
/*
 * The poller's promises, the same for whichever implementation is compiled: one-shot,
 * level-triggered at arming, each event to one thread, no wake-up lost, no EINTR. Threads are
 * synchronised by the events themselves.
 */
#include "lib/poller.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/harness.h"
#include "tests/peers.h"
#include "tests/support.h"

enum { THREADS = 8, PAIRS = 100, ROUNDS = 100, MANY = 400, WAKES = 2000 };

#define SOON VOUCH_SECONDS(30) /* far beyond what anything here takes */

struct pair {
    int ours, theirs;
};

static struct poller *open_poller(void) {
    struct poller *poller;

    support_baseline_begin();
    cr_assert_eq(poller_new(NULL, &poller), 0);
    return poller;
}

static void close_poller(struct poller *poller) {
    poller_free(poller);
    support_baseline_end();
}

static struct pair open_pair(void) {
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    return (struct pair){fds[0], fds[1]};
}

static void close_pair(struct pair *pair) {
    close(pair->ours);
    close(pair->theirs);
}

static void send_byte(int fd) {
    cr_assert_eq(send(fd, "x", 1, MSG_NOSIGNAL), 1);
}

static void receive_byte(int fd) {
    char byte;

    cr_assert_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
}

/* One event that has to come. */
static struct poller_event expect(struct poller *poller) {
    struct poller_event event = {0};

    cr_assert_eq(poller_wait(poller, &event, 1, vouch_deadline_in(SOON)), 1);
    return event;
}

static void expect_silence(struct poller *poller) {
    struct poller_event event;

    cr_assert_eq(poller_wait(poller, &event, 1, 0), 0);
}

Test(poller, readable_is_told_once_until_armed_again) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    struct poller_event event;

    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    expect_silence(poller);
    send_byte(pair.theirs);
    event = expect(poller);
    cr_assert_eq(event.data, &pair);
    cr_assert_eq(event.events, POLLER_IN);
    send_byte(pair.theirs);
    expect_silence(poller);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN, &pair), 0);
    cr_assert_eq(expect(poller).data, &pair);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, arming_what_is_ready_makes_an_event_at_once) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    int other_data;
    struct poller_event event;

    send_byte(pair.theirs);
    cr_assert_eq(poller_add(poller, pair.ours, 0, &pair), 0);
    expect_silence(poller);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_OUT, &pair), 0);
    cr_assert_eq(expect(poller).events, POLLER_OUT);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN | POLLER_OUT, &other_data), 0);
    event = expect(poller);
    cr_assert_eq(event.data, &other_data);
    cr_assert_eq(event.events, POLLER_IN | POLLER_OUT);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, arming_for_nothing_silences) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();

    send_byte(pair.theirs);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    cr_assert_eq(poller_arm(poller, pair.ours, 0, &pair), 0);
    expect_silence(poller);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, a_silent_registration_hides_a_hang_up_until_armed) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    struct poller_event event;

    cr_assert_eq(poller_add(poller, pair.ours, 0, &pair), 0);
    close(pair.theirs);
    expect_silence(poller);
    expect_silence(poller);
    cr_assert_eq(poller_wait(poller, &event, 1, vouch_now() + VOUCH_MILLISECONDS(1)), 0);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN, &pair), 0);
    cr_assert_eq(expect(poller).events, POLLER_IN);
    close(pair.ours);
    close_poller(poller);
}

Test(poller, hang_ups_alone_can_be_waited_for) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();

    cr_assert_eq(poller_add(poller, pair.ours, POLLER_HUP, &pair), 0);
    send_byte(pair.theirs);
    expect_silence(poller);
    close(pair.theirs);
    cr_assert_eq(expect(poller).events, POLLER_HUP);
    expect_silence(poller);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_HUP, &pair), 0);
    cr_assert_eq(expect(poller).events, POLLER_HUP);
    close(pair.ours);
    close_poller(poller);
}

Test(poller, errors_and_hang_ups_show_as_all_that_was_armed) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    int fds[2];

    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN | POLLER_OUT, &pair), 0);
    close(pair.theirs);
    cr_assert_eq(expect(poller).events, POLLER_IN | POLLER_OUT);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_OUT, &pair), 0);
    cr_assert_eq(expect(poller).events, POLLER_OUT);
    poller_remove(poller, pair.ours);
    close(pair.ours);

    cr_assert_eq(pipe(fds), 0); /* its hang-up comes without POLLIN */
    cr_assert_eq(poller_add(poller, fds[0], POLLER_IN, &pair), 0);
    close(fds[1]);
    cr_assert_eq(expect(poller).events, POLLER_IN);
    close(fds[0]);
    close_poller(poller);
}

Test(poller, arguments_are_checked) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    struct poller_event event;

    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, NULL), -EINVAL);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, (char *)&pair + 1), -EINVAL);
    cr_assert_eq(poller_add(poller, -1, POLLER_IN, &pair), -EBADF);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN, &pair), -ENOENT);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), -EEXIST);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN, NULL), -EINVAL);
    cr_assert_eq(poller_wait(poller, &event, 0, 0), -EINVAL);
    poller_free(NULL);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, what_is_removed_is_silent_and_cannot_be_armed) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();

    send_byte(pair.theirs);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    poller_remove(poller, pair.ours);
    poller_remove(poller, pair.ours);
    poller_remove(poller, -1);
    expect_silence(poller);
    cr_assert_eq(poller_arm(poller, pair.ours, POLLER_IN, &pair), -ENOENT);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    cr_assert_eq(expect(poller).data, &pair);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, a_batch_is_no_larger_than_asked_and_nothing_is_dropped) {
    static struct pair pairs[MANY];
    struct poller_event events[7];
    struct poller *poller = open_poller();
    bool seen[MANY] = {false};
    int n;

    for (int i = 0; i < MANY; i++) {
        pairs[i] = open_pair();
        cr_assert_eq(poller_add(poller, pairs[i].ours, POLLER_IN, &pairs[i]), 0);
        send_byte(pairs[i].theirs);
    }
    for (int count = 0; count < MANY; count += n) {
        n = poller_wait(poller, events, 7, vouch_deadline_in(SOON));
        cr_assert(n > 0 && n <= 7);
        for (int i = 0; i < n; i++) {
            ptrdiff_t which = (struct pair *)events[i].data - pairs;

            cr_assert_not(seen[which]);
            seen[which] = true;
        }
    }
    expect_silence(poller);
    for (int i = 0; i < MANY; i++)
        close_pair(&pairs[i]);
    close_poller(poller);
}

Test(poller, deadline_is_honoured) {
    struct poller *poller = open_poller();
    struct poller_event event;
    int64_t deadline;

    for (int64_t timeout = 1000; timeout < VOUCH_MILLISECONDS(20); timeout *= 3) {
        deadline = vouch_now() + timeout;
        cr_assert_eq(poller_wait(poller, &event, 1, deadline), 0);
        cr_assert_geq(vouch_now(), deadline);
    }
    cr_assert_eq(poller_wait(poller, &event, 1, 1), 0, "long past");
    close_poller(poller);
}

Test(poller, a_wake_up_before_the_wait_is_not_lost) {
    struct poller *poller = open_poller();
    struct pair pair = open_pair();
    struct poller_event event;

    poller_wake(poller);
    cr_assert_null(expect(poller).data);
    expect_silence(poller);
    poller_wake(poller);
    poller_wake(poller);
    cr_assert_null(expect(poller).data);
    while (poller_wait(poller, &event, 1, 0) == 1)
        cr_assert_null(event.data, "the second may merge or come by itself");
    send_byte(pair.theirs);
    cr_assert_eq(poller_add(poller, pair.ours, POLLER_IN, &pair), 0);
    poller_wake(poller);
    if (expect(poller).data)
        cr_assert_null(expect(poller).data);
    else
        cr_assert_eq(expect(poller).data, &pair);
    close_pair(&pair);
    close_poller(poller);
}

Test(poller, its_descriptor_is_readable_while_events_wait) {
    struct poller *poller = open_poller();
    struct pollfd entry = {.fd = poller_fd(poller), .events = POLLIN};

    if (entry.fd == -ENOTSUP) {
        close_poller(poller);
        return;
    }
    cr_assert_geq(entry.fd, 0);
    cr_assert_eq(poll(&entry, 1, 0), 0);
    poller_wake(poller);
    cr_assert_eq(poll(&entry, 1, 0), 1);
    cr_assert_null(expect(poller).data);
    cr_assert_eq(poll(&entry, 1, 0), 0);
    close_poller(poller);
}

/* Many threads. */

struct crowd {
    struct poller *poller;
    struct pair pairs[PAIRS];
    atomic_int owners[PAIRS]; /* how many threads hold the event of this pair now: never two */
    int rounds[PAIRS];        /* not atomic: the event is the lock, and ThreadSanitizer the judge */
    atomic_int events, finished, wakes, failures;
    pthread_t threads[THREADS];
};

static void start(struct crowd *crowd, void *(*run)(void *)) {
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&crowd->threads[i], NULL, run, crowd), 0);
}

static void join(struct crowd *crowd) {
    for (int i = 0; i < THREADS; i++)
        pthread_join(crowd->threads[i], NULL);
}

/* Answers one byte of pair `i` by sending the next to itself, ROUNDS times. Arming gives the pair
 * away. */
static void serve(struct crowd *crowd, int i) {
    struct pair *pair = &crowd->pairs[i];
    char byte;

    if (atomic_fetch_add(&crowd->owners[i], 1) != 0)
        atomic_fetch_add(&crowd->failures, 1);
    atomic_fetch_add(&crowd->events, 1);
    if (recv(pair->ours, &byte, 1, MSG_DONTWAIT) != 1)
        atomic_fetch_add(&crowd->failures, 1);
    if (++crowd->rounds[i] == ROUNDS) {
        if (atomic_fetch_add(&crowd->finished, 1) == PAIRS - 1)
            poller_wake(crowd->poller);
        return;
    }
    if (send(pair->theirs, "x", 1, MSG_NOSIGNAL) != 1)
        atomic_fetch_add(&crowd->failures, 1);
    atomic_fetch_sub(&crowd->owners[i], 1);
    if (poller_arm(crowd->poller, pair->ours, POLLER_IN, pair) != 0)
        atomic_fetch_add(&crowd->failures, 1);
}

/* The wake-up that ends the test is passed from thread to thread. */
static void *serve_until_woken(void *argument) {
    struct crowd *crowd = argument;
    struct poller_event events[4];

    for (;;) {
        int n = poller_wait(crowd->poller, events, 1 + (int)(pthread_self() % 4), VOUCH_FOREVER);
        bool woken = false;

        if (n < 1)
            atomic_fetch_add(&crowd->failures, 1);
        for (int i = 0; i < n; i++) {
            if (events[i].data)
                serve(crowd, (int)((struct pair *)events[i].data - crowd->pairs));
            else
                woken = true;
        }
        if (woken) {
            poller_wake(crowd->poller);
            return NULL;
        }
    }
}

static struct crowd *open_crowd(int pairs) {
    struct crowd *crowd = calloc(1, sizeof(*crowd));

    crowd->poller = open_poller();
    for (int i = 0; i < pairs; i++) {
        crowd->pairs[i] = open_pair();
        cr_assert_eq(poller_add(crowd->poller, crowd->pairs[i].ours, POLLER_IN, &crowd->pairs[i]),
                     0);
    }
    return crowd;
}

static void close_crowd(struct crowd *crowd, int pairs) {
    cr_assert_eq(atomic_load(&crowd->failures), 0);
    for (int i = 0; i < pairs; i++)
        close_pair(&crowd->pairs[i]);
    close_poller(crowd->poller);
    free(crowd);
}

static void run_crowd(void) {
    struct crowd *crowd = open_crowd(PAIRS);

    start(crowd, serve_until_woken);
    for (int i = 0; i < PAIRS; i++)
        send_byte(crowd->pairs[i].theirs);
    join(crowd);
    cr_assert_eq(atomic_load(&crowd->events), PAIRS * ROUNDS);
    for (int i = 0; i < PAIRS; i++)
        cr_assert_eq(crowd->rounds[i], ROUNDS);
    close_crowd(crowd, PAIRS);
}

Test(poller, every_readiness_goes_to_exactly_one_of_many_threads) {
    run_crowd();
}

static void on_alarm(int signal_number) {
    (void)signal_number;
}

Test(poller, a_storm_of_signals_never_shows) {
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm}, old; /* without SA_RESTART */
    struct poller *poller;
    struct poller_event event;
    int64_t deadline;

    if (VOUCH_TEST_VALGRIND)
        cr_skip_test("valgrind delivers the signal when its handler is gone");
    sigaction(SIGALRM, &action, &old);
    setitimer(ITIMER_REAL, &often, NULL);
    run_crowd();
    poller = open_poller();
    deadline = vouch_now() + VOUCH_MILLISECONDS(30);
    cr_assert_eq(poller_wait(poller, &event, 1, deadline), 0);
    cr_assert_geq(vouch_now(), deadline);
    close_poller(poller);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old, NULL);
}

static void *count_wakes(void *argument) {
    struct crowd *crowd = argument;
    struct poller_event event;

    while (atomic_load(&crowd->finished) == 0) {
        if (poller_wait(crowd->poller, &event, 1, VOUCH_FOREVER) != 1 || event.data)
            atomic_fetch_add(&crowd->failures, 1);
        atomic_fetch_add(&crowd->wakes, 1);
        send(crowd->pairs[0].theirs, "x", 1, MSG_NOSIGNAL);
    }
    poller_wake(crowd->poller);
    return NULL;
}

/* Each wake-up is raised only after the one before was consumed, so none can merge: a lost one
 * would hang here, a doubled one be counted. */
Test(poller, each_wake_up_wakes_exactly_one) {
    struct crowd *crowd = open_crowd(0);
    char byte;

    crowd->pairs[0] = open_pair();
    start(crowd, count_wakes);
    for (int i = 0; i < WAKES; i++) {
        poller_wake(crowd->poller);
        cr_assert_eq(recv(crowd->pairs[0].ours, &byte, 1, 0), 1);
    }
    cr_assert_eq(atomic_load(&crowd->wakes), WAKES);
    atomic_store(&crowd->finished, 1);
    poller_wake(crowd->poller);
    join(crowd);
    close_crowd(crowd, 1);
}

static void *wait_for_the_end(void *argument) {
    struct crowd *crowd = argument;
    struct poller_event event;

    while (atomic_load(&crowd->finished) == 0) {
        int n = poller_wait(crowd->poller, &event, 1, VOUCH_FOREVER);

        if (n != 1)
            atomic_fetch_add(&crowd->failures, 1);
        else if (event.data) {
            atomic_fetch_add(&crowd->events, 1);
            send(((struct pair *)event.data)->ours, "y", 1, MSG_NOSIGNAL);
        }
    }
    poller_wake(crowd->poller);
    return NULL;
}

/* Whatever the waiting threads have in hand, a removed descriptor is let go: its peer sees the end
 * although nobody was woken. */
Test(poller, remove_while_others_wait) {
    struct crowd *crowd = open_crowd(0);
    struct pair pair;
    char byte;

    start(crowd, wait_for_the_end);
    for (int i = 0; i < ROUNDS * 10; i++) {
        pair = open_pair();
        cr_assert_eq(poller_add(crowd->poller, pair.ours, POLLER_IN, &pair), 0);
        if (i % 2) { /* an event first, seen by its answer */
            send_byte(pair.theirs);
            cr_assert_eq(recv(pair.theirs, &byte, 1, 0), 1);
            receive_byte(pair.ours);
            cr_assert_eq(poller_arm(crowd->poller, pair.ours, POLLER_IN, &pair), 0);
        }
        poller_remove(crowd->poller, pair.ours);
        close(pair.ours);
        cr_assert_eq(recv(pair.theirs, &byte, 1, 0), 0);
        close(pair.theirs);
    }
    cr_assert_eq(atomic_load(&crowd->events), ROUNDS * 5);
    atomic_store(&crowd->finished, 1);
    poller_wake(crowd->poller);
    join(crowd);
    close_crowd(crowd, 0);
}

/* An allocator that gives `left` blocks, then none. */

static void *give(void *context, size_t size) {
    int *left = context;

    return (*left)-- > 0 ? malloc(size) : NULL;
}

static void take_back(void *context, void *memory, size_t size) {
    (void)context;
    (void)size;
    free(memory);
}

Test(poller, no_memory_is_reported) {
    int left = 0, high, r = -ENOMEM;
    struct vouch_allocator allocator = {give, take_back, &left};
    struct poller *poller;
    struct pair pair;

    support_baseline_begin();
    for (int blocks = 0; r != 0; blocks++) {
        left = blocks;
        r = poller_new(&allocator, &poller);
        cr_assert(r == 0 || r == -ENOMEM);
    }
    pair = open_pair();
    high = fcntl(pair.ours, F_DUPFD_CLOEXEC, 500); /* a table of descriptors has to grow */
    cr_assert_geq(high, 500);
    r = -ENOMEM;
    for (int blocks = 0; r != 0; blocks++) {
        left = blocks;
        r = poller_add(poller, high, POLLER_OUT, &pair);
        cr_assert(r == 0 || r == -ENOMEM);
    }
    cr_assert_eq(expect(poller).data, &pair);
    close(high);
    close_pair(&pair);
    poller_free(poller);
    support_baseline_end();
}

/* The alarm is an event like any other: it goes to one wait, once, whoever waits then. */
Test(poller, alarm_wakes_a_wait_once) {
    struct poller *poller = open_poller();
    struct poller_event event;

    cr_assert_eq(poller_set_alarm(poller, vouch_deadline_in(VOUCH_MILLISECONDS(5))), 0);
    cr_assert_eq(poller_wait(poller, &event, 1, vouch_deadline_in(SOON)), 1);
    cr_assert_null(event.data);
    cr_assert_eq(poller_wait(poller, &event, 1, 0), 0);
    close_poller(poller);
}

Test(poller, alarm_in_the_past_fires_at_once) {
    struct poller *poller = open_poller();
    struct poller_event event;

    cr_assert_eq(poller_set_alarm(poller, vouch_now() - 1), 0);
    cr_assert_eq(poller_wait(poller, &event, 1, vouch_deadline_in(SOON)), 1);
    cr_assert_null(event.data);
    close_poller(poller);
}

Test(poller, alarm_can_be_taken_back) {
    struct poller *poller = open_poller();
    struct poller_event event;

    cr_assert_eq(poller_set_alarm(poller, vouch_deadline_in(VOUCH_MILLISECONDS(5))), 0);
    cr_assert_eq(poller_set_alarm(poller, VOUCH_FOREVER), 0);
    cr_assert_eq(poller_wait(poller, &event, 1, vouch_deadline_in(VOUCH_MILLISECONDS(50))), 0);
    close_poller(poller);
}

static void *wait_for_event(void *argument) {
    struct poller_event event;

    return poller_wait(argument, &event, 1, vouch_deadline_in(SOON)) == 1 && !event.data ? argument
                                                                                         : NULL;
}

Test(poller, alarm_set_while_others_wait) {
    struct poller *poller = open_poller();
    pthread_t thread;
    void *result;

    cr_assert_eq(pthread_create(&thread, NULL, wait_for_event, poller), 0);
    cr_assert_eq(poller_set_alarm(poller, vouch_deadline_in(VOUCH_MILLISECONDS(5))), 0);
    cr_assert_eq(pthread_join(thread, &result), 0);
    cr_assert_eq(result, poller);
    close_poller(poller);
}

/* ---- fork ---- */

static int child_frees(void *context) {
    poller_free(context);
    return 0;
}

static atomic_uint woken;

static void *wait_to_be_woken(void *argument) {
    void *result = wait_for_event(argument);

    atomic_fetch_add(&woken, 1);
    return result;
}

/* Whoever waits here does not in the child, which must not wait for them to be done. */
Test(poller, a_forked_child_frees_it_while_others_wait) {
    struct poller *poller = open_poller();
    pthread_t threads[3];
    void *result;

    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, wait_to_be_woken, poller), 0);
    for (int i = 0; i < 30; i++)
        cr_assert_eq(peers_run(child_frees, poller), 0);
    while (atomic_load(&woken) < 3) { /* wake-ups may merge */
        poller_wake(poller);
        sched_yield();
    }
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(pthread_join(threads[i], &result), 0);
        cr_assert_eq(result, poller);
    }
    close_poller(poller);
}
