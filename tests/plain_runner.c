/* SPDX-License-Identifier: MIT */
/*
 * The runner for where Criterion cannot go. It has no threads, and one process per test: a crash or
 * a hang is one failure, and what a checker finds when the process ends (a leak, a race) belongs to
 * a test. A child is the leader of a process group; what the test leaves behind is killed with it.
 *
 * With VOUCH_RUNNER_PIDS=file a line "pid suite/name" is appended for every test that should end in
 * good order, so that logs that a checker writes per process can be attributed.
 */
#include "tests/plain_runner.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/harness.h"

enum { JOBS_MAX = 64, SLOW_FACTOR = VOUCH_TEST_SLOW ? 4 : 1 };

/* What a test and the processes that it starts tell the runner. */
struct report {
    atomic_int failed;
    atomic_int skipped;
    atomic_int finished;
};

struct job {
    pid_t pid; /* 0: free */
    const struct plain_test *test;
    struct report *report; /* shared memory */
    double started;
    double limit;
    bool timed_out;
};

static struct plain_test *registered;

static struct {
    const char *filter;
    double timeout;
    long jobs;
    bool fork;
    bool list;
    bool verbose;
} arguments = {.timeout = 60, .jobs = 1, .fork = true};

static unsigned long tested, passing, failing, crashing, skipped;

/* Of the test that runs in this process. */
static struct report *current;
static pid_t current_pid;
static pthread_t current_thread;
static sigjmp_buf current_end;

void plain_register(struct plain_test *test) {
    test->next = registered;
    registered = test;
}

static void say(const char *head, const char *format, va_list arguments_) {
    char text[2048];
    int n = vsnprintf(text, sizeof(text), format, arguments_);

    if (n > 0)
        (void)dprintf(STDERR_FILENO, "[----] %s%s\n", head, text[0] == ' ' ? text + 1 : text);
}

void plain_log(const char *format, ...) {
    va_list list;

    va_start(list, format);
    say("", format, list);
    va_end(list);
}

/* Only the test's own thread can go back to where the test was started. */
static _Noreturn void end_test(void) {
    if (getpid() != current_pid || !pthread_equal(pthread_self(), current_thread))
        _exit(EXIT_FAILURE);
    siglongjmp(current_end, 1);
}

static void note_failure(const char *file, int line, const char *what, const char *format,
                         va_list list) {
    char head[1024];

    atomic_store(&current->failed, 1);
    (void)snprintf(head, sizeof(head), "%s:%d: %s: ", file, line, what);
    say(head, format, list);
}

void plain_fail(bool fatal, const char *file, int line, const char *what, const char *format, ...) {
    va_list list;

    va_start(list, format);
    note_failure(file, line, what, format, list);
    va_end(list);
    if (fatal)
        end_test();
}

void plain_fatal(const char *file, int line, const char *format, ...) {
    va_list list;

    va_start(list, format);
    note_failure(file, line, "failed", format, list);
    va_end(list);
    end_test();
}

void plain_skip(const char *format, ...) {
    va_list list;

    atomic_store(&current->skipped, 1);
    va_start(list, format);
    say("skipped: ", format, list);
    va_end(list);
    end_test();
}

static double now(void) {
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static const struct plain_options *suite_of(const struct plain_test *test) {
    static const struct plain_options none;

    for (const struct plain_test *t = registered; t; t = t->next) {
        if (!t->name && strcmp(t->suite, test->suite) == 0)
            return t->options;
    }
    return &none;
}

static void call(void (*function)(void)) {
    if (function)
        function();
}

static void run_here(const struct plain_test *test, struct report *report) {
    current = report;
    current_pid = getpid();
    current_thread = pthread_self();
    if (sigsetjmp(current_end, 1) == 0) {
        call(suite_of(test)->init);
        call(test->options->init);
        test->run();
    }
    if (sigsetjmp(current_end, 1) == 0) {
        call(test->options->fini);
        call(suite_of(test)->fini);
    }
    atomic_store(&report->finished, 1);
}

static void result(const char *word, const struct plain_test *test, const char *why, double took) {
    (void)dprintf(STDERR_FILENO, "[%s] %s::%s%s%s (%.2fs)\n", word, test->suite, test->name,
                  why[0] ? ": " : "", why, took);
}

static void failure(const struct plain_test *test, const char *why, double took, bool crash) {
    failing++;
    crashing += crash;
    result("FAIL", test, why, took);
}

static void judge(const struct job *job, int status) {
    const struct plain_options *options = job->test->options;
    double took = now() - job->started;
    bool by_signal = WIFSIGNALED(status) && WTERMSIG(status) == options->signal;
    bool by_code = WIFEXITED(status) && WEXITSTATUS(status) == options->exit_code;
    char why[128] = "";

    if (job->timed_out) {
        (void)snprintf(why, sizeof(why), "Timed out after %.1f s.", job->limit);
        failure(job->test, why, took, false);
    } else if (atomic_load(&job->report->failed)) {
        failure(job->test, why, took, false);
    } else if (options->signal ? by_signal : options->exit_code ? by_code : false) {
        passing++;
    } else if (WIFSIGNALED(status)) {
        (void)snprintf(why, sizeof(why), "CRASH! (signal %d)", WTERMSIG(status));
        failure(job->test, why, took, true);
    } else if (!atomic_load(&job->report->finished) || options->signal || options->exit_code) {
        (void)snprintf(why, sizeof(why), "ended unexpectedly with %d", WEXITSTATUS(status));
        failure(job->test, why, took, true);
    } else if (WEXITSTATUS(status) != 0) {
        (void)snprintf(why, sizeof(why), "checker's complaint, exit code %d", WEXITSTATUS(status));
        failure(job->test, why, took, false);
    } else if (atomic_load(&job->report->skipped)) {
        tested--;
        skipped++;
        result("SKIP", job->test, why, took);
    } else {
        passing++;
        if (arguments.verbose)
            result("PASS", job->test, why, took);
    }
}

static void remember_pid(pid_t pid, const struct plain_test *test) {
    const char *path = getenv("VOUCH_RUNNER_PIDS");
    int fd;

    if (!path || test->options->signal || test->options->exit_code)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    (void)dprintf(fd, "%d %s/%s\n", (int)pid, test->suite, test->name);
    (void)close(fd);
}

static void start(struct job *job, const struct plain_test *test, const sigset_t *mask) {
    const struct plain_options *suite = suite_of(test);
    double limit = test->options->timeout > 0 ? test->options->timeout : suite->timeout;

    job->test = test;
    job->timed_out = false;
    job->limit = (limit > 0 ? limit : arguments.timeout) * SLOW_FACTOR;
    memset(job->report, 0, sizeof(*job->report));
    job->started = now();
    (void)fflush(NULL);
    tested++;
    job->pid = fork();
    if (job->pid < 0) {
        perror("fork");
        exit(EXIT_FAILURE);
    }
    if (job->pid == 0) {
        (void)setpgid(0, 0);
        (void)signal(SIGCHLD, SIG_DFL);
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        (void)sigprocmask(SIG_SETMASK, mask, NULL);
        run_here(test, job->report);
        exit(EXIT_SUCCESS);
    }
    (void)setpgid(job->pid, job->pid);
    remember_pid(job->pid, test);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    if (number != SIGCHLD)
        interrupted = number;
}

static void reap(struct job *jobs) {
    pid_t pid;
    int status;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (long i = 0; i < arguments.jobs; i++) {
            if (jobs[i].pid != pid)
                continue;
            (void)kill(-pid, SIGKILL); /* what the test left running */
            judge(&jobs[i], status);
            jobs[i].pid = 0;
        }
    }
}

static void enforce(struct job *jobs) {
    double time = now();

    for (long i = 0; i < arguments.jobs; i++) {
        if (!jobs[i].pid || (!interrupted && time < jobs[i].started + jobs[i].limit))
            continue;
        jobs[i].timed_out = true;
        (void)kill(-jobs[i].pid, SIGKILL);
        (void)kill(jobs[i].pid, SIGKILL);
    }
}

static void run_all(const struct plain_test **tests, size_t count) {
    struct report *reports = mmap(NULL, sizeof(struct report) * JOBS_MAX, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static struct job jobs[JOBS_MAX];
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked, mask;
    size_t next = 0;

    if (reports == MAP_FAILED) {
        perror("mmap");
        exit(EXIT_FAILURE);
    }
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGCHLD);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, &mask);
    (void)sigaction(SIGCHLD, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    for (;;) {
        struct timespec tick = {.tv_nsec = 100000000};
        bool busy = false;

        for (long i = 0; i < arguments.jobs; i++) {
            jobs[i].report = &reports[i];
            if (!jobs[i].pid && next < count && !interrupted)
                start(&jobs[i], tests[next++], &mask);
            busy = busy || jobs[i].pid;
        }
        if (!busy)
            break;
        (void)pselect(0, NULL, NULL, NULL, &tick, &mask);
        enforce(jobs);
        reap(jobs);
    }
    (void)munmap(reports, sizeof(struct report) * JOBS_MAX);
}

static void run_all_here(const struct plain_test **tests, size_t count) {
    for (size_t i = 0; i < count; i++) {
        static struct report report;
        struct job job = {.test = tests[i], .report = &report, .started = now()};

        if (tests[i]->options->signal || tests[i]->options->exit_code)
            continue;
        memset(&report, 0, sizeof(report));
        tested++;
        run_here(tests[i], &report);
        judge(&job, 0);
    }
}

static bool wanted(const struct plain_test *test) {
    char name[512];

    if (!test->name)
        return false;
    (void)snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
    return !arguments.filter || fnmatch(arguments.filter, name, 0) == 0;
}

static int by_name(const void *a, const void *b) {
    const struct plain_test *left = *(const struct plain_test *const *)a;
    const struct plain_test *right = *(const struct plain_test *const *)b;
    int r = strcmp(left->suite, right->suite);

    return r ? r : strcmp(left->name, right->name);
}

static const char *value_of(const char *argument, const char *option, int *i, char **argv) {
    size_t length = strlen(option);

    if (strncmp(argument, option, length) != 0)
        return NULL;
    if (argument[length] == '=')
        return argument + length + 1;
    if (argument[length] == '\0')
        return argv[*i + 1] ? argv[++*i] : NULL;
    return option[1] != '-' ? argument + length : NULL;
}

static void parse(int argc, char **argv) {
    const char *text = getenv("VOUCH_TEST_TIMEOUT");

    if (text)
        arguments.timeout = strtod(text, NULL);
    for (int i = 1; i < argc; i++) {
        const char *value;

        if (strcmp(argv[i], "--no-fork") == 0) {
            arguments.fork = false;
        } else if (strcmp(argv[i], "--list") == 0) {
            arguments.list = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            arguments.verbose = true;
        } else if ((value = value_of(argv[i], "--filter", &i, argv)) != NULL) {
            arguments.filter = value;
        } else if ((value = value_of(argv[i], "--timeout", &i, argv)) != NULL) {
            arguments.timeout = strtod(value, NULL);
        } else if ((value = value_of(argv[i], "-j", &i, argv)) != NULL) {
            arguments.jobs = strtol(value, NULL, 10);
        } else {
            (void)dprintf(STDERR_FILENO,
                          "usage: %s [--filter GLOB] [--timeout SECONDS] [-j N] [--no-fork]\n"
                          "       [--list] [--verbose]\nGLOB is matched with suite/test.\n",
                          argv[0]);
            exit(2);
        }
    }
    if (arguments.jobs < 1 || arguments.jobs > JOBS_MAX)
        arguments.jobs = 1;
    if (!(arguments.timeout > 0))
        arguments.timeout = 60;
}

/* Never freed: the children inherit it, and it is in use until the end. */
static const struct plain_test **selected;

int main(int argc, char **argv) {
    size_t count = 0;

    parse(argc, argv);
    for (const struct plain_test *t = registered; t; t = t->next)
        count++;
    selected = calloc(count + 1, sizeof(struct plain_test *));
    if (!selected)
        return EXIT_FAILURE;
    count = 0;
    for (const struct plain_test *t = registered; t; t = t->next) {
        if (!wanted(t))
            continue;
        if (t->options->disabled || suite_of(t)->disabled)
            skipped++;
        else
            selected[count++] = t;
    }
    qsort(selected, count, sizeof(struct plain_test *), by_name);
    if (arguments.list) {
        for (size_t i = 0; i < count; i++)
            (void)printf("%s/%s\n", selected[i]->suite, selected[i]->name);
        return EXIT_SUCCESS;
    }
    if (arguments.fork)
        run_all(selected, count);
    else
        run_all_here(selected, count);
    (void)dprintf(STDERR_FILENO,
                  "[====] Synthesis: Tested: %lu | Passing: %lu | Failing: %lu | Crashing: %lu "
                  "| Skipped: %lu\n",
                  tested, passing, failing, crashing, skipped);
    return failing || interrupted ? EXIT_FAILURE : EXIT_SUCCESS;
}
