/*
 * The C client's side of the comparison: runs one workload and prints what it measured as one line of JSON.
 *
 * Decides how each workload is written against ZooKeeper's multi-threaded C client: the blocking calls with one thread
 * for each caller, the asynchronous ones for what is pipelined. Refuses to compute anything from the samples.
 *
 * Arguments: HOSTS WORKLOAD OPERATIONS WARMUP BATCHES CALLERS, or --version.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <zookeeper/zookeeper.h>
#include <zookeeper/zookeeper_version.h>

#define PATH "/terzetto-benchmark"
#define CHILD PATH "/child-"
#define VALUE_LENGTH 100
#define SESSION_TIMEOUT_MS 30000
#define CONNECT_SECONDS 15

struct plan {
    const char *hosts;
    const char *workload;
    int operations;
    int warmup;
    int batches;
    int callers;
};

struct stopwatch {
    int64_t wall_ns;
    int64_t cpu_ns;
};

static char value[VALUE_LENGTH];
static struct stopwatch measured;
static int64_t *samples;
static int sample_count;

static void fail(const char *what, int code) {
    fprintf(stderr, "c_client: %s: %s (%d)\n", what, zerror(code), code);
    exit(1);
}

static void check(const char *what, int code) {
    if (code != ZOK) fail(what, code);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

static void start(void) {
    measured.cpu_ns -= cpu_ns();
    measured.wall_ns -= now_ns();
}

static void stop(void) {
    measured.wall_ns += now_ns();
    measured.cpu_ns += cpu_ns();
}

/* -- connections */

static void wait_for(sem_t *signal, const char *what) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += CONNECT_SECONDS;
    if (sem_timedwait(signal, &deadline) != 0) fail(what, ZOPERATIONTIMEOUT);
}

static void session_changed(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    (void)path;
    if (type == ZOO_SESSION_EVENT && state == ZOO_CONNECTED_STATE) sem_post(context);
}

static zhandle_t *connect_to(const char *hosts) {
    /* Outlives the call, since the watcher may be told again. */
    sem_t *connected = malloc(sizeof *connected);
    sem_init(connected, 0, 0);
    zhandle_t *zh = zookeeper_init(hosts, session_changed, SESSION_TIMEOUT_MS, NULL, connected, 0);
    if (zh == NULL) fail("zookeeper_init", ZSYSTEMERROR);
    wait_for(connected, "connect");
    return zh;
}

static void prepare(zhandle_t *zh) {
    int code = zoo_create(zh, PATH, value, VALUE_LENGTH, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (code != ZOK && code != ZNODEEXISTS) fail("create", code);
}

/* -- one request at a time */

static void blocking_read(zhandle_t *zh) {
    char buffer[2 * VALUE_LENGTH];
    int length = sizeof buffer;
    struct Stat stat;
    check("get", zoo_get(zh, PATH, 0, buffer, &length, &stat));
    if (length != VALUE_LENGTH) fail("get: wrong length", ZMARSHALLINGERROR);
}

static void blocking_write(zhandle_t *zh) {
    check("set", zoo_set(zh, PATH, value, VALUE_LENGTH, -1));
}

static void one_at_a_time(zhandle_t *zh, const struct plan *plan, void (*operation)(zhandle_t *)) {
    for (int i = 0; i < plan->warmup; i++) operation(zh);
    start();
    for (int i = 0; i < plan->operations; i++) {
        int64_t began = now_ns();
        operation(zh);
        samples[sample_count++] = now_ns() - began;
    }
    stop();
}

/* -- many threads, one request at a time each */

struct caller {
    zhandle_t *zh;
    pthread_barrier_t *gate;
    int64_t *samples;
    int operations;
};

static void *call(void *argument) {
    struct caller *caller = argument;
    pthread_barrier_wait(caller->gate);
    for (int i = 0; i < caller->operations; i++) {
        int64_t began = now_ns();
        blocking_read(caller->zh);
        caller->samples[i] = now_ns() - began;
    }
    return NULL;
}

static void concurrent(zhandle_t *zh, const struct plan *plan) {
    pthread_t *threads = calloc(plan->callers, sizeof *threads);
    struct caller *callers = calloc(plan->callers, sizeof *callers);
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, plan->callers + 1);
    for (int i = 0; i < plan->warmup; i++) blocking_read(zh);
    for (int i = 0; i < plan->callers; i++) {
        int share = plan->operations / plan->callers;
        callers[i] = (struct caller){zh, &gate, samples + sample_count, share};
        sample_count += share;
        if (pthread_create(&threads[i], NULL, call, &callers[i]) != 0) fail("pthread_create", ZSYSTEMERROR);
    }
    start();
    pthread_barrier_wait(&gate);
    for (int i = 0; i < plan->callers; i++) pthread_join(threads[i], NULL);
    stop();
    free(callers);
    free(threads);
}

/* -- many requests in flight */

static sem_t all_answered;
static atomic_int unanswered;

static void answered(const char *what, int code) {
    check(what, code);
    if (atomic_fetch_sub(&unanswered, 1) == 1) sem_post(&all_answered);
}

static void got(int code, const char *data, int length, const struct Stat *stat, const void *context) {
    (void)data;
    (void)stat;
    (void)context;
    if (code == ZOK && length != VALUE_LENGTH) fail("get: wrong length", ZMARSHALLINGERROR);
    answered("get", code);
}

static void was_set(int code, const struct Stat *stat, const void *context) {
    (void)stat;
    (void)context;
    answered("set", code);
}

static void was_created(int code, const char *path, const void *context) {
    (void)path;
    (void)context;
    answered("create", code);
}

static int submit_read(zhandle_t *zh) {
    return zoo_aget(zh, PATH, 0, got, NULL);
}

static int submit_write(zhandle_t *zh) {
    return zoo_aset(zh, PATH, value, VALUE_LENGTH, -1, was_set, NULL);
}

static int submit_create(zhandle_t *zh) {
    int mode = ZOO_EPHEMERAL | ZOO_SEQUENCE;
    return zoo_acreate(zh, CHILD, value, VALUE_LENGTH, &ZOO_OPEN_ACL_UNSAFE, mode, was_created, NULL);
}

static void batch(zhandle_t *zh, int size, int (*submit)(zhandle_t *)) {
    if (size == 0) return;
    atomic_store(&unanswered, size);
    for (int i = 0; i < size; i++) check("submit", submit(zh));
    while (sem_wait(&all_answered) != 0) continue;
}

static void pipelined(zhandle_t *zh, const struct plan *plan, int (*submit)(zhandle_t *)) {
    sem_init(&all_answered, 0, 0);
    batch(zh, plan->warmup, submit);
    for (int i = 0; i < plan->batches; i++) {
        int64_t began = now_ns();
        start();
        batch(zh, plan->operations, submit);
        stop();
        samples[sample_count++] = now_ns() - began;
    }
}

/* -- watches */

struct delivery {
    sem_t arrived;
    int64_t at;
};

static void changed(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    (void)state;
    (void)path;
    struct delivery *delivery = context;
    if (type != ZOO_CHANGED_EVENT) return;
    delivery->at = now_ns();
    sem_post(&delivery->arrived);
}

static int64_t deliver_once(zhandle_t *watching, zhandle_t *setting, struct delivery *delivery) {
    char buffer[2 * VALUE_LENGTH];
    int length = sizeof buffer;
    struct Stat stat;
    check("get", zoo_wget(watching, PATH, changed, delivery, buffer, &length, &stat));
    int64_t began = now_ns();
    blocking_write(setting);
    wait_for(&delivery->arrived, "watch");
    return delivery->at - began;
}

static void watch(zhandle_t *watching, const struct plan *plan) {
    zhandle_t *setting = connect_to(plan->hosts);
    struct delivery delivery;
    sem_init(&delivery.arrived, 0, 0);
    for (int i = 0; i < plan->warmup; i++) deliver_once(watching, setting, &delivery);
    start();
    for (int i = 0; i < plan->operations; i++) samples[sample_count++] = deliver_once(watching, setting, &delivery);
    stop();
    zookeeper_close(setting);
}

/* -- */

static int run(zhandle_t *zh, const struct plan *plan) {
    if (strcmp(plan->workload, "read") == 0) one_at_a_time(zh, plan, blocking_read);
    else if (strcmp(plan->workload, "write") == 0) one_at_a_time(zh, plan, blocking_write);
    else if (strcmp(plan->workload, "concurrent-read") == 0) concurrent(zh, plan);
    else if (strcmp(plan->workload, "pipelined-read") == 0) pipelined(zh, plan, submit_read);
    else if (strcmp(plan->workload, "pipelined-write") == 0) pipelined(zh, plan, submit_write);
    else if (strcmp(plan->workload, "pipelined-create") == 0) pipelined(zh, plan, submit_create);
    else if (strcmp(plan->workload, "watch") == 0) watch(zh, plan);
    else return 0;
    return 1;
}

static void print_measured(void) {
    printf("{\"wall_ns\": %lld, \"cpu_ns\": %lld, \"samples_ns\": [", (long long)measured.wall_ns,
           (long long)measured.cpu_ns);
    for (int i = 0; i < sample_count; i++) printf(i ? ", %lld" : "%lld", (long long)samples[i]);
    printf("]}\n");
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts(ZOO_VERSION);
        return 0;
    }
    if (argc != 7) {
        fprintf(stderr, "usage: %s HOSTS WORKLOAD OPERATIONS WARMUP BATCHES CALLERS\n", argv[0]);
        return 2;
    }
    struct plan plan = {argv[1], argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]), atoi(argv[6])};
    memset(value, 'x', sizeof value);
    samples = calloc((size_t)plan.operations + plan.batches, sizeof *samples);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zhandle_t *zh = connect_to(plan.hosts);
    prepare(zh);
    if (!run(zh, &plan)) {
        fprintf(stderr, "c_client: no workload %s\n", plan.workload);
        return 2;
    }
    zookeeper_close(zh);
    print_measured();
    return 0;
}
