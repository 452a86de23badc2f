/* A bulk sink that costs next to nothing: it reads HTTP/1.1 requests, counts lines and answers that every item was created.
 *
 *   sink [--sums] [SPILL]     prints "port N", then serves on 127.0.0.1:N until it is killed
 *
 * SPILL is a path: the bodies of the n-th connection are appended to SPILL.n, each between two lines: before it "<bytes>\n",
 * behind it the time of its answer, "<nanoseconds since 1970>\n". GET /_sink tells counts: requests, bytes of bodies, and
 * newlines in them. One thread, poll(2), keep-alive, Content-Length only.
 * With --sums it looks at each document, and GET /_sink/sums tells of each pod "<uid> <documents> <sum>": what is summed up is
 * a hash of all that a pod's copy has in common with it (benchmarks.world.sums does the same, slowly), so that
 * documents are the same, each as often, when sums are, in whatever order they came.
 * Compressed bodies are refused (415): an answer has an item for each document, so they would have to be unpacked.
 */
#define _GNU_SOURCE /* memmem, memrchr */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
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
#define PODS (1 << 16) /* in a table that is never full */
#define UID_BYTES 36

struct connection {
    char head[HEAD_BYTES];
    size_t head_length;   /* of the request's head, as far as it is here */
    long long remaining;  /* of its body; -1 while the head is being read */
    long long lines;      /* of its body so far */
    int is_bulk, is_gzip;
    int spill;            /* a file, or -1 */
    char *line;           /* the beginning of one whose end has not been read */
    size_t line_length, line_room;
    uint64_t id;          /* the hash so far: of the action line before a document */
};

struct pod {
    char uid[UID_BYTES + 1]; /* empty where there is none */
    uint64_t documents, sum;
};

static struct pollfd polled[CONNECTIONS];
static struct connection connections[CONNECTIONS];
static char buffer[READ_BYTES];
static unsigned long long requests, body_bytes, newlines;
static struct pod *pods; /* with --sums */

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

static uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    return hash ^ (hash >> 29);
}

static uint64_t mixed_part(uint64_t hash, const char *part, size_t length) {
    hash = mixed(hash, length);
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = 0; /* little endian, as everywhere where this runs */
        memcpy(&word, part + at, length - at < 8 ? length - at : 8);
        hash = mixed(hash, word);
    }
    return hash;
}

static struct pod *pod_of(const char *uid) {
    uint64_t place = mixed_part(0, uid, strlen(uid)) % PODS;
    while (pods[place].documents > 0 && strcmp(pods[place].uid, uid) != 0) place = (place + 1) % PODS;
    return &pods[place];
}

static const char *find(const char *text, const char *end, const char *what) {
    return text == NULL ? NULL : memmem(text, (size_t)(end - text), what, strlen(what));
}

static void sum_up(uint64_t hash, const char *document, const char *end) {
    char uid[UID_BYTES + 1] = "";
    const char *metadata = find(document, end, "\"kubernetes\":{");
    const char *id = find(metadata, end, "\"pod_id\":\""), *rest = find(id, end, "\"container_name\":");
    if (rest != NULL && id + 10 + UID_BYTES <= rest) {
        memcpy(uid, id + 10, UID_BYTES);
        hash = mixed_part(hash, document, (size_t)(metadata - document));
    } else {
        rest = document;
    }
    struct pod *pod = pod_of(uid);
    strcpy(pod->uid, uid);
    pod->documents++;
    pod->sum += mixed_part(hash, rest, (size_t)(end - rest));
}

/* `number` counts the lines of a body: an action, a document, an action, ... */
static void take_line(struct connection *c, long long number, const char *line, const char *end) {
    if (number % 2 == 0) {
        const char *dash = memrchr(line, '-', (size_t)(end - line)), *id = dash == NULL ? line : dash;
        c->id = mixed_part(0, id, (size_t)(end - id));
    } else {
        sum_up(c->id, line, end);
    }
}

static void keep_beginning(struct connection *c, const char *data, size_t length) {
    if (c->line_length + length > c->line_room) {
        c->line_room = 2 * (c->line_length + length);
        c->line = realloc(c->line, c->line_room);
        if (c->line == NULL) fail("realloc");
    }
    memcpy(c->line + c->line_length, data, length);
    c->line_length += length;
}

static void answer_sums(int socket) {
    size_t room = 512, length = 0;
    for (size_t i = 0; i < PODS; i++) room += pods[i].documents > 0 ? UID_BYTES + 48 : 0;
    char *text = malloc(room), head[256];
    if (text == NULL) fail("malloc");
    for (size_t i = 0; i < PODS; i++) {
        const struct pod *pod = &pods[i];
        if (pod->documents == 0) continue;
        length += (size_t)sprintf(text + length, "%s %llu %llu\n", *pod->uid ? pod->uid : "-",
                                  (unsigned long long)pod->documents, (unsigned long long)pod->sum);
    }
    put(socket, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n", length));
    put(socket, text, length);
    free(text);
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
    if (c->spill >= 0) put_number(c->spill, now_ns()); /* before: whoever has the answer finds the body */
    put(socket, text, (size_t)(end + 2 - text));
    free(text);
}

static void answer_other(int socket, struct connection *c) {
    char text[1024], counts[256];
    const char *body = INFO;
    if (strncmp(c->head, "GET /_sink", 10) == 0) {
        snprintf(counts, sizeof counts, "{\"requests\":%llu,\"bytes\":%llu,\"newlines\":%llu}", requests, body_bytes, newlines);
        body = counts;
    }
    if (pods != NULL && strncmp(c->head, "GET /_sink/sums", 15) == 0) {
        answer_sums(socket);
        return;
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
    c->line_length = 0;
    if (header(c->head, "expect") != NULL) put(socket, CONTINUE, sizeof CONTINUE - 1);
    if (!c->is_bulk) return;
    requests++;
    body_bytes += (unsigned long long)c->remaining;
    if (c->spill >= 0) put_number(c->spill, c->remaining);
}

static void take_body(struct connection *c, const char *data, size_t length) {
    c->remaining -= (long long)length;
    if (!c->is_bulk) return;
    const char *end = data + length, *line = data;
    for (const char *at = data; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) {
        if (pods != NULL && c->line_length > 0) {
            keep_beginning(c, line, (size_t)(at - line));
            take_line(c, c->lines, c->line, c->line + c->line_length);
            c->line_length = 0;
        } else if (pods != NULL) {
            take_line(c, c->lines, line, at);
        }
        line = at + 1;
        newlines++;
        c->lines++;
    }
    if (pods != NULL) keep_beginning(c, line, (size_t)(end - line));
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
    const char *spill_path = NULL;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--sums") != 0) spill_path = arguments[i];
        else if ((pods = calloc(PODS, sizeof *pods)) == NULL) fail("calloc");
    }
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
            free(connections[i].line);
            open_files--;
            polled[i] = polled[open_files];
            connections[i] = connections[open_files];
        }
        if (polled[0].revents != 0 && open_files < CONNECTIONS) {
            int client = accept(listener, NULL, NULL);
            if (client < 0) continue;
            polled[open_files] = (struct pollfd){.fd = client, .events = POLLIN};
            int spill = spill_path != NULL ? open_spill(spill_path, accepted++) : -1;
            connections[open_files] = (struct connection){.remaining = -1, .spill = spill};
            open_files++;
        }
    }
    fail("poll");
}
