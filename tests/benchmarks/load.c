/*
 * What a server is loaded with: any number of sessions from one epoll loop, each with a fixed number of requests in
 * flight. Prints what it measured as one line of JSON.
 *
 * It writes frames by hand and decodes no more than it checks, so that the server is the limit and not the client. Every
 * answer is checked: its order, its error code, and the length of what was read.
 *
 * Arguments: PORT WORKLOAD SESSIONS DEPTH SECONDS WARMUP_SECONDS ZNODES PID. The workload is read or write for SECONDS, or
 * fill, which creates ZNODES at its leisure. PID is the server's, for its CPU time.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PATH "/terzetto-benchmark"
#define VALUE_LENGTH 100
#define SESSION_TIMEOUT_MS 30000
#define ANSWER_SECONDS_MAX 60
#define INPUT_SIZE (256 * 1024)
#define DEPTH_MAX 4096
#define FRAME_MAX 256
#define SAMPLES_MAX 16384

enum { CREATE = 1, GET_DATA = 4, SET_DATA = 5, CLOSE = -11 };
enum { OK = 0, NODE_EXISTS = -110 };
enum { READ, WRITE, FILL };

struct session {
    int socket;
    int32_t sent;
    int32_t answered;
    size_t input_length;
    int64_t began[DEPTH_MAX];
    char input[INPUT_SIZE];
};

static int workload;
static int depth;
static int64_t created;
static char output[DEPTH_MAX * FRAME_MAX];
static int64_t samples[SAMPLES_MAX];
static int sample_count, stride = 1, skipped;
static int measuring;
static int64_t operations;

static void fail(const char *what, int code) {
    fprintf(stderr, "load: %s (%d)\n", what, code);
    exit(1);
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* CPU time of a process and all its threads, user and system. */
static int64_t cpu_ns_of(int pid) {
    char name[64], text[2048];
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    FILE *file = fopen(name, "r");
    if (file == NULL) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char *rest = strrchr(text, ')');
    long long user = 0, system = 0;
    if (rest == NULL || sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &system) != 2)
        return 0;
    return (user + system) * (INT64_C(1000000000) / sysconf(_SC_CLK_TCK));
}

static int32_t int_at(const char *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return (int32_t)ntohl(value);
}

static char *put_int(char *at, int32_t value) {
    uint32_t bytes = htonl((uint32_t)value);
    memcpy(at, &bytes, sizeof bytes);
    return at + sizeof bytes;
}

static char *put_bytes(char *at, const char *bytes, size_t length) {
    at = put_int(at, (int32_t)length);
    memcpy(at, bytes, length);
    return at + length;
}

static char *put_value(char *at) {
    at = put_int(at, VALUE_LENGTH);
    memset(at, 'x', VALUE_LENGTH);
    return at + VALUE_LENGTH;
}

static char *put_create(char *at, const char *path) {
    at = put_value(put_bytes(at, path, strlen(path)));
    /* One ACL: all permissions to world:anyone; no flags. */
    at = put_int(put_int(at, 1), 31);
    at = put_bytes(put_bytes(at, "world", 5), "anyone", 6);
    return put_int(at, 0);
}

static char *put_request(char *at, int32_t xid) {
    char *frame = at;
    at = put_int(at + 4, xid);
    if (workload == READ) {
        at = put_bytes(put_int(at, GET_DATA), PATH, strlen(PATH));
        *at++ = 0;
    } else if (workload == WRITE) {
        at = put_value(put_bytes(put_int(at, SET_DATA), PATH, strlen(PATH)));
        at = put_int(at, -1);
    } else {
        char path[64];
        snprintf(path, sizeof path, PATH "/znode-%07lld", (long long)created++);
        at = put_create(put_int(at, CREATE), path);
    }
    put_int(frame, (int32_t)(at - frame - 4));
    return at;
}

static void send_all(int to, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(to, bytes, length, MSG_NOSIGNAL);
        if (sent < 0) die("load: send");
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void submit(struct session *session, int count) {
    char *at = output;
    int64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        session->began[session->sent % depth] = now;
        at = put_request(at, ++session->sent);
    }
    send_all(session->socket, output, (size_t)(at - output));
}

static void note(int64_t latency) {
    operations++;
    if (++skipped < stride) return;
    skipped = 0;
    if (sample_count == SAMPLES_MAX) {
        /* Evenly spread samples of however many there will be. */
        for (int i = 0; i < SAMPLES_MAX / 2; i++) samples[i] = samples[2 * i];
        sample_count = SAMPLES_MAX / 2;
        stride *= 2;
    }
    samples[sample_count++] = latency;
}

static void check(struct session *session, const char *frame, int32_t length) {
    if (length < 16) fail("short answer", length);
    if (int_at(frame) != session->answered + 1) fail("answer out of order: xid", int_at(frame));
    int32_t code = int_at(frame + 12);
    if (code != OK && !(workload == FILL && code == NODE_EXISTS)) fail("error", code);
    if (workload == READ && (length < 20 || int_at(frame + 16) != VALUE_LENGTH)) fail("wrong length of data", length);
}

static int receive(struct session *session) {
    ssize_t got = recv(session->socket, session->input + session->input_length, INPUT_SIZE - session->input_length, 0);
    if (got == 0) fail("the server closed a connection", 0);
    if (got < 0) die("load: recv");
    session->input_length += (size_t)got;
    int64_t now = now_ns();
    int answers = 0;
    char *at = session->input, *end = session->input + session->input_length;
    while (end - at >= 4 && end - at >= 4 + int_at(at)) {
        check(session, at + 4, int_at(at));
        if (measuring) note(now - session->began[session->answered % depth]);
        session->answered++;
        answers++;
        at += 4 + int_at(at);
    }
    session->input_length = (size_t)(end - at);
    memmove(session->input, at, session->input_length);
    return answers;
}

/* -- sessions */

static void receive_frame(int from, char *frame, size_t size) {
    char length[4];
    if (recv(from, length, 4, MSG_WAITALL) != 4 || int_at(length) > (int32_t)size) fail("no answer", int_at(length));
    if (recv(from, frame, (size_t)int_at(length), MSG_WAITALL) != int_at(length)) fail("half an answer", 0);
}

static void open_session(struct session *session, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    session->socket = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct timeval patience = {.tv_sec = ANSWER_SECONDS_MAX};
    setsockopt(session->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(session->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(session->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(session->socket, (struct sockaddr *)&address, sizeof address) != 0) die("load: connect");
    char frame[FRAME_MAX] = {0}, *at = put_int(put_int(frame, 45), 0);
    /* Of the 45 bytes all but timeout and length of the password are 0. */
    at = put_int(at + 8, SESSION_TIMEOUT_MS);
    put_int(at + 8, 16);
    send_all(session->socket, frame, 49);
    receive_frame(session->socket, frame, sizeof frame);
    if (int_at(frame + 4) <= 0) fail("no session", int_at(frame + 4));
}

static void prepare(struct session *session) {
    char frame[FRAME_MAX], *at = put_int(frame + 4, 0);
    at = put_create(put_int(at, CREATE), PATH);
    put_int(frame, (int32_t)(at - frame - 4));
    send_all(session->socket, frame, (size_t)(at - frame));
    receive_frame(session->socket, frame, sizeof frame);
    int32_t code = int_at(frame + 12);
    if (code != OK && code != NODE_EXISTS) fail("create", code);
}

static void close_session(struct session *session) {
    char frame[FRAME_MAX];
    put_int(put_int(put_int(frame, 8), 0), CLOSE);
    send_all(session->socket, frame, 12);
    receive_frame(session->socket, frame, sizeof frame);
    close(session->socket);
}

/* -- the run */

struct plan {
    int sessions;
    double seconds;
    double warmup_seconds;
    int64_t znodes;
    int pid;
};

static int64_t wall_ns, cpu_ns;

static void start(const struct plan *plan) {
    measuring = 1;
    cpu_ns -= cpu_ns_of(plan->pid);
    wall_ns -= now_ns();
}

static void stop(const struct plan *plan) {
    wall_ns += now_ns();
    cpu_ns += cpu_ns_of(plan->pid);
    measuring = 0;
}

static void run(struct session *sessions, const struct plan *plan) {
    struct epoll_event events[64];
    int poller = epoll_create1(0);
    for (int i = 0; i < plan->sessions; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &sessions[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, sessions[i].socket, &event) != 0) die("load: epoll_ctl");
    }
    if (workload == FILL || plan->warmup_seconds <= 0) start(plan);
    int64_t began = now_ns();
    for (int i = 0; i < plan->sessions; i++) submit(&sessions[i], depth);
    for (int unanswered = plan->sessions * depth, over = 0; unanswered > 0;) {
        int ready = epoll_wait(poller, events, 64, ANSWER_SECONDS_MAX * 1000);
        if (ready == 0) fail("no answer for a long time", ANSWER_SECONDS_MAX);
        for (int i = 0; i < ready; i++) {
            struct session *session = events[i].data.ptr;
            int answers = receive(session);
            unanswered -= answers;
            if (workload == FILL && answers > plan->znodes - created) answers = (int)(plan->znodes - created);
            if (over || answers == 0) continue;
            submit(session, answers);
            unanswered += answers;
        }
        if (over || workload == FILL) continue;
        if (!measuring && (double)(now_ns() - began) >= plan->warmup_seconds * 1e9) {
            start(plan);
            began = now_ns();
        } else if (measuring && (double)(now_ns() - began) >= plan->seconds * 1e9) {
            stop(plan);
            over = 1;
        }
    }
    if (measuring) stop(plan);
    close(poller);
}

static void print_measured(void) {
    printf("{\"operations\": %lld, \"wall_ns\": %lld, \"cpu_ns\": %lld, \"samples_ns\": [", (long long)operations,
           (long long)wall_ns, (long long)cpu_ns);
    for (int i = 0; i < sample_count; i++) printf(i ? ", %lld" : "%lld", (long long)samples[i]);
    printf("]}\n");
}

int main(int argc, char **argv) {
    if (argc != 9) {
        fprintf(stderr, "usage: %s PORT WORKLOAD SESSIONS DEPTH SECONDS WARMUP_SECONDS ZNODES PID\n", argv[0]);
        return 2;
    }
    const char *name = argv[2];
    workload = strcmp(name, "read") == 0 ? READ : strcmp(name, "write") == 0 ? WRITE : FILL;
    if (workload == FILL && strcmp(name, "fill") != 0) fail("no such workload", 0);
    struct plan plan = {atoi(argv[3]), atof(argv[5]), atof(argv[6]), atoll(argv[7]), atoi(argv[8])};
    depth = atoi(argv[4]);
    if (plan.sessions < 1 || depth < 1 || depth > DEPTH_MAX) fail("sessions or depth out of bounds", depth);
    struct session *sessions = calloc((size_t)plan.sessions, sizeof *sessions);
    for (int i = 0; i < plan.sessions; i++) open_session(&sessions[i], atoi(argv[1]));
    prepare(&sessions[0]);
    run(sessions, &plan);
    for (int i = 0; i < plan.sessions; i++) close_session(&sessions[i]);
    print_measured();
    return 0;
}
