/* SPDX-License-Identifier: MIT */
/*
 * The poller on poll(2), for systems without epoll: leader and followers.
 *
 * One waiting thread, the leader, is in poll with a snapshot of what is armed; the others, the
 * followers, sleep on a condition variable. What the leader finds goes on a list of ready
 * descriptors, from which every wait takes its share. Whoever leaves wakes one follower if there is
 * something left to do: events to take, or the lead. So nothing depends on a particular thread
 * staying.
 *
 * Descriptors are found by number. The snapshot grows old while the leader is in poll: a change of
 * what is armed interrupts it, so that it takes a new one, and what it finds is believed only of
 * descriptors not armed anew since (`stamp`).
 */
#include "lib/poller.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/mem.h"
#include "lib/os.h"

enum { ROOM_MIN = 64 };

struct slot {
    void *data; /* NULL: not registered */
    unsigned
        ready;   /* events to hand out; 0 and queued: taken back by poller_remove or poller_arm */
    bool queued; /* on the list of ready slots */
    int next;    /* there: a descriptor, or -1 */
    size_t position; /* in `armed`, from 1; 0: silent */
    uint64_t stamp;  /* of the last poller_arm */
};

struct poller {
    const struct vouch_allocator *allocator;
    uint64_t epoch; /* of the process that made it */
    pthread_mutex_t lock;
    pthread_cond_t ready; /* for followers */
    struct os_wake wake;  /* gets the leader out of poll */
    bool leading;         /* somebody is in poll */
    bool interrupted;     /* and `wake` was raised at him */
    atomic_bool woken;    /* poller_wake, not yet consumed */
    int64_t alarm;        /* VOUCH_FOREVER: none */
    size_t followers;
    uint64_t stamp;
    int first, last;      /* the list of ready slots, -1: empty */
    size_t room;          /* of the three arrays */
    struct slot *slots;   /* by descriptor */
    struct pollfd *armed; /* dense, in no order */
    size_t armed_count;
    struct pollfd *snapshot; /* the leader's: `armed` and, at the end, `wake` */
    size_t snapshot_room;
    struct pollfd *next_snapshot; /* a larger one for the next leader, `room` + 1 */
};

static int init_sync(struct poller *poller) {
    int r = cond_init(&poller->ready);

    if (r < 0)
        return r;
    r = -pthread_mutex_init(&poller->lock, NULL);
    if (r < 0)
        pthread_cond_destroy(&poller->ready);
    return r;
}

static void free_arrays(struct poller *poller) {
    mem_free(poller->allocator, poller->slots, poller->room * sizeof(*poller->slots));
    mem_free(poller->allocator, poller->armed, poller->room * sizeof(*poller->armed));
    mem_free(poller->allocator, poller->snapshot,
             poller->snapshot_room * sizeof(*poller->snapshot));
    mem_free(poller->allocator, poller->next_snapshot,
             (poller->room + 1) * sizeof(*poller->next_snapshot));
}

/* The leader may be in poll with the old snapshot, so the new one waits until he comes back. */
static int grow(struct poller *poller, size_t room) {
    struct slot *slots = mem_zalloc(poller->allocator, room * sizeof(*slots));
    struct pollfd *armed = mem_alloc(poller->allocator, room * sizeof(*armed));
    struct pollfd *snapshot = mem_alloc(poller->allocator, (room + 1) * sizeof(*snapshot));

    if (!slots || !armed || !snapshot) {
        mem_free(poller->allocator, slots, room * sizeof(*slots));
        mem_free(poller->allocator, armed, room * sizeof(*armed));
        mem_free(poller->allocator, snapshot, (room + 1) * sizeof(*snapshot));
        return -ENOMEM;
    }
    if (poller->room > 0) {
        memcpy(slots, poller->slots, poller->room * sizeof(*slots));
        memcpy(armed, poller->armed, poller->armed_count * sizeof(*armed));
    }
    mem_free(poller->allocator, poller->slots, poller->room * sizeof(*slots));
    mem_free(poller->allocator, poller->armed, poller->room * sizeof(*armed));
    mem_free(poller->allocator, poller->next_snapshot, (poller->room + 1) * sizeof(*snapshot));
    poller->slots = slots;
    poller->armed = armed;
    poller->next_snapshot = snapshot;
    poller->room = room;
    return 0;
}

int poller_new(const struct vouch_allocator *allocator, struct poller **ret_poller) {
    struct poller *poller = mem_zalloc(allocator, sizeof(*poller));
    int r;

    if (!poller)
        return -ENOMEM;
    poller->allocator = allocator;
    poller->epoch = os_process_epoch();
    poller->wake = OS_WAKE_NONE;
    poller->first = poller->last = -1;
    poller->alarm = VOUCH_FOREVER;
    r = init_sync(poller);
    if (r < 0) {
        mem_free(allocator, poller, sizeof(*poller));
        return r;
    }
    r = os_wake_init(&poller->wake);
    if (r == 0)
        r = grow(poller, ROOM_MIN);
    if (r < 0) {
        poller_free(poller);
        return r;
    }
    *ret_poller = poller;
    return 0;
}

/* In a forked child threads that are not there may wait for the condition, and have half of a
 * change made: only the copies of the descriptors are let go of. */
void poller_free(struct poller *poller) {
    if (!poller)
        return;
    os_wake_deinit(&poller->wake);
    if (poller->epoch != os_process_epoch())
        return;
    free_arrays(poller);
    pthread_cond_destroy(&poller->ready);
    pthread_mutex_destroy(&poller->lock);
    mem_free(poller->allocator, poller, sizeof(*poller));
}

static void interrupt_leader(struct poller *poller) {
    if (!poller->leading || poller->interrupted)
        return;
    poller->interrupted = true;
    os_wake_raise(&poller->wake);
}

static struct slot *find(struct poller *poller, int fd) {
    if (fd < 0 || (size_t)fd >= poller->room || !poller->slots[fd].data)
        return NULL;
    return &poller->slots[fd];
}

static void silence(struct poller *poller, struct slot *slot) {
    struct pollfd last;

    if (slot->position == 0)
        return;
    last = poller->armed[--poller->armed_count];
    poller->armed[slot->position - 1] = last;
    poller->slots[last.fd].position = slot->position;
    slot->position = 0;
}

static void arm(struct poller *poller, int fd, struct slot *slot, unsigned events, void *data) {
    int wanted = ((events & POLLER_IN) ? POLLIN : 0) | ((events & POLLER_OUT) ? POLLOUT : 0);

    slot->data = data;
    slot->ready = 0;
    slot->stamp = ++poller->stamp;
    silence(poller, slot);
    if (events) {
        poller->armed[poller->armed_count++] = (struct pollfd){.fd = fd, .events = (short)wanted};
        slot->position = poller->armed_count;
    }
    interrupt_leader(poller);
}

int poller_add(struct poller *poller, int fd, unsigned events, void *data) {
    int r = 0;

    if (fd < 0)
        return -EBADF;
    if (!data || (uintptr_t)data & (POLLER_IN | POLLER_OUT))
        return -EINVAL;
    pthread_mutex_lock(&poller->lock);
    if (find(poller, fd))
        r = -EEXIST;
    else if ((size_t)fd >= poller->room)
        r = grow(poller, 2 * ((size_t)fd + 1));
    if (r == 0)
        arm(poller, fd, &poller->slots[fd], events, data);
    pthread_mutex_unlock(&poller->lock);
    return r;
}

int poller_arm(struct poller *poller, int fd, unsigned events, void *data) {
    struct slot *slot;

    if (!data || (uintptr_t)data & (POLLER_IN | POLLER_OUT))
        return -EINVAL;
    pthread_mutex_lock(&poller->lock);
    slot = find(poller, fd);
    if (slot)
        arm(poller, fd, slot, events, data);
    pthread_mutex_unlock(&poller->lock);
    return slot ? 0 : -ENOENT;
}

/* The interrupt matters here too: a poll that is under way keeps the file open after close(2), and
 * its peer waiting. */
void poller_remove(struct poller *poller, int fd) {
    struct slot *slot;

    pthread_mutex_lock(&poller->lock);
    slot = find(poller, fd);
    if (slot) {
        silence(poller, slot);
        slot->data = NULL;
        slot->ready = 0;
        interrupt_leader(poller);
    }
    pthread_mutex_unlock(&poller->lock);
}

static void enqueue(struct poller *poller, int fd, struct slot *slot) {
    if (slot->queued)
        return;
    slot->queued = true;
    slot->next = -1;
    if (poller->last >= 0)
        poller->slots[poller->last].next = fd;
    else
        poller->first = fd;
    poller->last = fd;
}

static struct slot *dequeue(struct poller *poller) {
    struct slot *slot = &poller->slots[poller->first];

    slot->queued = false;
    poller->first = slot->next;
    if (poller->first < 0)
        poller->last = -1;
    return slot;
}

/* A wake-up comes first: it is the one event that a stream of others must not hold up. */
static int take(struct poller *poller, struct poller_event *ret_events, int max) {
    int count = 0;

    if (atomic_exchange(&poller->woken, false)) {
        ret_events[count++] = (struct poller_event){NULL, 0};
    }
    while (count < max && poller->first >= 0) {
        struct slot *slot = dequeue(poller);

        if (slot->ready)
            ret_events[count++] = (struct poller_event){slot->data, slot->ready};
        slot->ready = 0;
    }
    return count;
}

/* Puts what poll found on the list. One-shot: what is found falls silent. */
static void collect(struct poller *poller, const struct pollfd *found, uint64_t stamp) {
    struct slot *slot = find(poller, found->fd);
    bool broken = found->revents & (POLLERR | POLLHUP | POLLNVAL);

    if (!slot || slot->position == 0 || slot->stamp > stamp)
        return;
    if ((found->events & POLLIN) && (broken || (found->revents & POLLIN)))
        slot->ready |= POLLER_IN;
    if ((found->events & POLLOUT) && (broken || (found->revents & POLLOUT)))
        slot->ready |= POLLER_OUT;
    if (!found->events)
        slot->ready = POLLER_HUP;
    silence(poller, slot);
    enqueue(poller, found->fd, slot);
}

static size_t take_snapshot(struct poller *poller) {
    size_t count = poller->armed_count;

    if (poller->next_snapshot) {
        mem_free(poller->allocator, poller->snapshot,
                 poller->snapshot_room * sizeof(*poller->snapshot));
        poller->snapshot = poller->next_snapshot;
        poller->snapshot_room = poller->room + 1;
        poller->next_snapshot = NULL;
    }
    memcpy(poller->snapshot, poller->armed, count * sizeof(*poller->armed));
    poller->snapshot[count++] = (struct pollfd){.fd = poller->wake.read_fd, .events = POLLIN};
    return count;
}

static void check_alarm(struct poller *poller) {
    if (poller->alarm == VOUCH_FOREVER || vouch_now() < poller->alarm)
        return;
    poller->alarm = VOUCH_FOREVER;
    atomic_store(&poller->woken, true);
}

/* One poll(2), with the lock released meanwhile. */
static int lead(struct poller *poller, int64_t deadline) {
    size_t count = take_snapshot(poller);
    uint64_t stamp = poller->stamp;
    int n, r = 0;

    if (poller->alarm < deadline)
        deadline = poller->alarm;
    poller->leading = true;
    pthread_mutex_unlock(&poller->lock);
    n = poll(poller->snapshot, (nfds_t)count,
             clock_poll_timeout(deadline ? vouch_now() : 0, deadline));
    if (n < 0 && errno != EINTR)
        r = -errno;
    pthread_mutex_lock(&poller->lock);
    poller->leading = false;
    if (poller->interrupted || (n > 0 && poller->snapshot[count - 1].revents))
        os_wake_clear(&poller->wake);
    poller->interrupted = false;
    for (size_t i = 0; n > 0 && i < count - 1; i++)
        if (poller->snapshot[i].revents)
            collect(poller, &poller->snapshot[i], stamp);
    check_alarm(poller);
    return r;
}

static void follow(struct poller *poller, int64_t deadline) {
    poller->followers++;
    cond_wait_until(&poller->ready, &poller->lock, deadline);
    poller->followers--;
}

static bool is_past(int64_t deadline) {
    return deadline == 0 || (deadline != VOUCH_FOREVER && vouch_now() >= deadline);
}

int poller_wait(struct poller *poller, struct poller_event *ret_events, int max, int64_t deadline) {
    bool looked = false;
    int r;

    if (max < 1)
        return -EINVAL;
    pthread_mutex_lock(&poller->lock);
    for (;;) {
        r = take(poller, ret_events, max);
        if (r > 0)
            break;
        if ((looked || poller->leading) && is_past(deadline))
            break;
        if (poller->leading) {
            follow(poller, deadline);
            continue;
        }
        r = lead(poller, deadline);
        if (r < 0)
            break;
        looked = true;
    }
    if (poller->followers > 0 && (poller->first >= 0 || !poller->leading))
        pthread_cond_signal(&poller->ready);
    pthread_mutex_unlock(&poller->lock);
    return r;
}

/* No lock, for signal handlers. The flag first: whoever finds the pipe readable looks at it
 * afterwards. */
void poller_wake(struct poller *poller) {
    atomic_store(&poller->woken, true);
    os_wake_raise(&poller->wake);
}

int poller_set_alarm(struct poller *poller, int64_t deadline) {
    pthread_mutex_lock(&poller->lock);
    poller->alarm = deadline;
    interrupt_leader(poller);
    pthread_mutex_unlock(&poller->lock);
    return 0;
}

int poller_fd(const struct poller *poller) {
    (void)poller;
    return -ENOTSUP;
}
