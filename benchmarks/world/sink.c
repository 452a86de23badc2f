/* A bulk sink that costs next to nothing: it reads HTTP/1.1 requests, counts lines and answers that every item was created.
 *
 *   sink [SPILL]     prints "port N", then serves on 127.0.0.1:N until it is killed
 *
 * SPILL is a path: the bodies of the n-th connection are appended to SPILL.n, each between two lines: before it "<bytes>\n",
 * behind it the time of its answer, "<nanoseconds since 1970>\n". GET /_sink tells counts: requests, bytes of bodies, and
 * newlines in them. One thread, poll(2), keep-alive, Content-Length only.
 * Compressed bodies are refused (415): an answer has an item for each document, so they would have to be unpacked.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 256
#define HEAD_BYTES 16384
#define READ_BYTES (1 << 20)

struct connection {
    char head[HEAD_BYTES];
    size_t head_length;   /* of the request's head, as far as it is here */
    long long remaining;  /* of its body; -1 while the head is being read */
    long long lines;      /* of its body so far */
    int is_bulk, is_gzip;
    int spill;            /* a file, or -1 */
};

static struct pollfd polled[CONNECTIONS];
static struct connection connections[CONNECTIONS];
static char buffer[READ_BYTES];
static unsigned long long requests, body_bytes, newlines;

static const char INFO[] = "{\"name\":\"sink\",\"cluster_name\":\"sink\",\"cluster_uuid\":\"sink\",\"version\":{\"number\":\"9.5.3\","
                           "\"build_flavor\":\"default\"},\"tagline\":\"You Know, for Search\"}";
static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n"; /* what libcurl waits for before a large body */
static const char ITEM[] = ",{\"create\":{\"status\":201}}";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void put(int file, const char *data, size_t length) {
    while (length > 0) {
        ssize_t written = write(file, data, length);
        if (written < 0) return; /* the client has gone: its connection ends with the next read */
        data += written;
        length -= (size_t)written;
    }
}

static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *value = line + 3 + length;
            while (*value == ' ') value++;
            return value;
        }
    }
    return NULL;
}

static void put_number(int file, long long number) {
    char line[64];
    put(file, line, (size_t)snprintf(line, sizeof line, "%lld\n", number));
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void answer_bulk(int socket, struct connection *c) {
    static const char head[] = "{\"errors\":false,\"items\":[";
    long long items = c->lines / 2;
    size_t length = (items > 0 ? (size_t)items * (sizeof ITEM - 1) - 1 : 0) + sizeof head - 1 + 2;
    char *text = malloc(length + 512);
    if (text == NULL) fail("malloc");
    char *end = text + sprintf(text,
                               "HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n"
                               "content-length: %zu\r\n\r\n%s",
                               length, head);
    for (long long item = 0; item < items; item++) {
        size_t skipped = item == 0; /* the first has no comma */
        memcpy(end, ITEM + skipped, sizeof ITEM - 1 - skipped);
        end += sizeof ITEM - 1 - skipped;
    }
    memcpy(end, "]}", 2);
    put(socket, text, (size_t)(end + 2 - text));
    free(text);
    if (c->spill >= 0) put_number(c->spill, now_ns());
}

static void answer_other(int socket, struct connection *c) {
    char text[1024], counts[256];
    const char *body = INFO;
    if (strncmp(c->head, "GET /_sink", 10) == 0) {
        snprintf(counts, sizeof counts, "{\"requests\":%llu,\"bytes\":%llu,\"newlines\":%llu}", requests, body_bytes, newlines);
        body = counts;
    }
    int is_head = strncmp(c->head, "HEAD ", 5) == 0;
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n"
                          "content-length: %zu\r\n\r\n%s",
                          c->is_gzip ? "415 Unsupported Media Type" : "200 OK", strlen(body), is_head ? "" : body);
    put(socket, text, (size_t)length);
}

static void answer(int socket, struct connection *c) {
    if (c->is_bulk) answer_bulk(socket, c);
    else answer_other(socket, c);
    c->head_length = 0;
    c->remaining = -1;
}

static void begin_body(int socket, struct connection *c) {
    const char *length = header(c->head, "content-length"), *encoding = header(c->head, "content-encoding");
    const char *end_of_path = strpbrk(c->head + strcspn(c->head, " ") + 1, " ?");
    c->remaining = length == NULL ? 0 : atoll(length);
    c->is_gzip = encoding != NULL && strncasecmp(encoding, "gzip", 4) == 0;
    c->is_bulk = end_of_path != NULL && end_of_path - c->head >= 6 && strncmp(end_of_path - 6, "/_bulk", 6) == 0;
    c->is_bulk = c->is_bulk && !c->is_gzip;
    c->lines = 0;
    if (header(c->head, "expect") != NULL) put(socket, CONTINUE, sizeof CONTINUE - 1);
    if (!c->is_bulk) return;
    requests++;
    body_bytes += (unsigned long long)c->remaining;
    if (c->spill >= 0) put_number(c->spill, c->remaining);
}

static void take_body(struct connection *c, const char *data, size_t length) {
    c->remaining -= (long long)length;
    if (!c->is_bulk) return;
    const char *end = data + length;
    for (const char *at = data; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) {
        newlines++;
        c->lines++;
    }
    if (c->spill >= 0) put(c->spill, data, length);
}

/* Returns 0 when the connection is to be closed. */
static int serve(int socket, struct connection *c) {
    ssize_t length = read(socket, buffer, sizeof buffer);
    if (length <= 0) return 0;
    const char *data = buffer, *end = buffer + length;
    while (data < end) {
        if (c->remaining < 0) {
            if (c->head_length == HEAD_BYTES - 1) return 0;
            c->head[c->head_length++] = *data++;
            if (c->head_length < 4 || memcmp(c->head + c->head_length - 4, "\r\n\r\n", 4) != 0) continue;
            c->head[c->head_length] = 0;
            begin_body(socket, c);
        } else {
            size_t here = (size_t)(end - data);
            if ((long long)here > c->remaining) here = (size_t)c->remaining;
            take_body(c, data, here);
            data += here;
        }
        if (c->remaining == 0) answer(socket, c);
    }
    return 1;
}

static int open_spill(const char *path, int connection) {
    char name[4096];
    snprintf(name, sizeof name, "%s.%d", path, connection);
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) fail(name);
    return file;
}

int main(int count, char **arguments) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), open_files = 1, accepted = 0;
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 64) < 0) fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) fail("getsockname");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    while (poll(polled, (nfds_t)open_files, -1) >= 0) {
        for (int i = open_files - 1; i > 0; i--) {
            if (polled[i].revents == 0 || serve(polled[i].fd, &connections[i])) continue;
            close(polled[i].fd);
            if (connections[i].spill >= 0) close(connections[i].spill);
            open_files--;
            polled[i] = polled[open_files];
            connections[i] = connections[open_files];
        }
        if (polled[0].revents != 0 && open_files < CONNECTIONS) {
            int client = accept(listener, NULL, NULL);
            if (client < 0) continue;
            polled[open_files] = (struct pollfd){.fd = client, .events = POLLIN};
            int spill = count > 1 ? open_spill(arguments[1], accepted++) : -1;
            connections[open_files] = (struct connection){.remaining = -1, .spill = spill};
            open_files++;
        }
    }
    fail("poll");
}
