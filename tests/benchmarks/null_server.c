/*
 * A server that costs almost nothing: answers every getData at once with the same 100 bytes, from one epoll loop.
 *
 * What is left of a measurement against it is the client's own cost. Decides nothing about znodes: it knows the handshake,
 * pings, the end of a session, says to every create that the znode exists, and calls the rest unimplemented.
 *
 * Argument: the number of an inherited listening socket. Ends when its standard input does.
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
#include <unistd.h>

#define VALUE_LENGTH 100
#define STAT_LENGTH 68
#define HEADER_LENGTH 16
#define INPUT_SIZE (256 * 1024)
/* The shortest getData has 18 bytes and its reply 192, so the answers to a full input always fit. */
#define OUTPUT_SIZE (INPUT_SIZE * 11)

enum { CREATE = 1, GET_DATA = 4, PING = 11, CREATE2 = 15, AUTH = 100, SET_WATCHES = 101, SET_WATCHES2 = 105, CLOSE = -11 };
enum { OK = 0, UNIMPLEMENTED = -6, NODE_EXISTS = -110 };

struct connection {
    int socket;
    int greeted;
    int closing;
    size_t input_length;
    size_t output_length;
    size_t output_sent;
    char input[INPUT_SIZE];
    char output[OUTPUT_SIZE];
};

static int poller;
/* Stand for standard input and for the listening socket among the poller's events. */
static struct connection guard, door;
static int64_t sessions;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int32_t int_at(const char *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return (int32_t)ntohl(value);
}

static char *put_int(char *to, int32_t value) {
    uint32_t raw = htonl((uint32_t)value);
    memcpy(to, &raw, sizeof raw);
    return to + sizeof raw;
}

static char *put_long(char *to, int64_t value) {
    uint64_t raw = htobe64((uint64_t)value);
    memcpy(to, &raw, sizeof raw);
    return to + sizeof raw;
}

static void wait_for(struct connection *connection, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(poller, operation, connection->socket, &event) != 0) die("epoll_ctl");
}

static char *greet(char *to, const char *frame, int length) {
    int with_read_only = length > 44;
    to = put_int(to, 36 + with_read_only);
    to = put_int(to, 0);
    to = put_int(to, int_at(frame + 12));
    to = put_long(to, ++sessions);
    to = put_int(to, 16);
    memset(to, 7, 16);
    to += 16;
    if (with_read_only) *to++ = 0;
    return to;
}

static char *put_header(char *to, int body, int32_t xid, int32_t error) {
    to = put_int(to, HEADER_LENGTH + body);
    to = put_int(to, xid);
    to = put_long(to, 1);
    return put_int(to, error);
}

static char *put_value(char *to, int32_t xid) {
    to = put_header(to, 4 + VALUE_LENGTH + STAT_LENGTH, xid, OK);
    to = put_int(to, VALUE_LENGTH);
    memset(to, 'x', VALUE_LENGTH);
    to += VALUE_LENGTH;
    memset(to, 0, STAT_LENGTH);
    to[7] = to[15] = 1;
    return to + STAT_LENGTH;
}

static char *answer(struct connection *connection, char *to, const char *frame, int length) {
    if (!connection->greeted) {
        connection->greeted = 1;
        return greet(to, frame, length);
    }
    int32_t xid = int_at(frame);
    switch (int_at(frame + 4)) {
        case GET_DATA: return put_value(to, xid);
        case CLOSE: connection->closing = 1; return put_header(to, 0, xid, OK);
        case PING: case AUTH: case SET_WATCHES: case SET_WATCHES2: return put_header(to, 0, xid, OK);
        case CREATE: case CREATE2: return put_header(to, 0, xid, NODE_EXISTS);
        default: return put_header(to, 0, xid, UNIMPLEMENTED);
    }
}

/* Answers every whole frame of the input; returns 0 for what no client would send. */
static int answer_all(struct connection *connection) {
    size_t at = 0;
    char *to = connection->output;
    while (connection->input_length - at >= 4) {
        int length = int_at(connection->input + at);
        if (length < 8 || length > INPUT_SIZE - 4 || (!connection->greeted && length < 44)) return 0;
        if (connection->input_length - at < 4 + (size_t)length) break;
        to = answer(connection, to, connection->input + at + 4, length);
        at += 4 + (size_t)length;
    }
    connection->input_length -= at;
    memmove(connection->input, connection->input + at, connection->input_length);
    connection->output_length = (size_t)(to - connection->output);
    connection->output_sent = 0;
    return 1;
}

/* Sends what it can; returns 0 when the connection is over. */
static int flush(struct connection *connection) {
    while (connection->output_sent < connection->output_length) {
        ssize_t sent = send(connection->socket, connection->output + connection->output_sent,
                            connection->output_length - connection->output_sent, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 1;
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return 0;
        connection->output_sent += (size_t)sent;
    }
    return !connection->closing;
}

/* One event of a connection; returns 0 when it is over. While output waits, nothing is read. */
static int serve(struct connection *connection, uint32_t events) {
    int was_blocked = connection->output_sent < connection->output_length;
    if (!was_blocked) {
        if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return 1;
        ssize_t received = recv(connection->socket, connection->input + connection->input_length,
                                INPUT_SIZE - connection->input_length, 0);
        if (received < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        if (received == 0) return 0;
        connection->input_length += (size_t)received;
        if (!answer_all(connection)) return 0;
    }
    if (!flush(connection)) return 0;
    int is_blocked = connection->output_sent < connection->output_length;
    if (is_blocked != was_blocked) wait_for(connection, is_blocked ? EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    return 1;
}

static void welcome(int listening) {
    int socket = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) return;
    int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) die("calloc");
    connection->socket = socket;
    wait_for(connection, EPOLLIN, EPOLL_CTL_ADD);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s LISTENING-SOCKET\n", argv[0]);
        return 2;
    }
    int listening = atoi(argv[1]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    guard.socket = 0;
    door.socket = listening;
    wait_for(&guard, EPOLLIN, EPOLL_CTL_ADD);
    wait_for(&door, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poller, events, 64, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == &guard) return 0;
            if (connection == &door) {
                welcome(listening);
            } else if (!serve(connection, events[i].events)) {
                close(connection->socket);
                free(connection);
            }
        }
    }
}
