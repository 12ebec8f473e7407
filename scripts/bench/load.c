/* The mail server and the mail programs that scripts/bench/workers.py loads bridges with.

   In C, a thread for each connection: they share the machine's cores, and the caches of these, with what is measured. In
   Python they took twice what a bridge takes for a login, and two bridges that know nothing of each other seemed to cost
   a tenth more than one.

   load serve CERTIFICATE KEY MESSAGE IMAP POP3 SMTP
       Three listening descriptors; TLS from the first octet, for whoever shows any token. Until it is killed.
   load login PROTOCOL ADDRESS COUNT AT_ONCE RATE SPELLING
       Logins, each followed by the end of its session, AT_ONCE under way. RATE a second, as they come; 0 for as fast as
       that goes. SPELLING: 0 for the address as it is, else each in another mixture of small letters and capitals.
   load fetch ADDRESS MEBIBYTES AT_ONCE MESSAGE
       Sessions that fetch at the same time, each octet compared.

   Bridges are lines of standard input, "PORT PASSWORD"; mail programs take turns at them. Exit code 0 if all went well. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MEBIBYTE = 1 << 20, STACK = 256 * 1024, LINE = 4096, MOST_BRIDGES = 16, PATIENCE_SECONDS = 30 };

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static const char *mapped(const char *path)
{
    int file = open(path, O_RDONLY);
    const char *content = file < 0 ? MAP_FAILED : mmap(NULL, MEBIBYTE, PROT_READ, MAP_SHARED, file, 0);
    if (content == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    return content;
}

static pthread_t start(void *(*run)(void *), void *about)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    int problem = pthread_create(&thread, &attributes, run, about);
    if (problem)
        fail("a thread: %s", strerror(problem));
    return thread;
}

/* --- a connection, line by line ------------------------------------------------------------------------------------ */

struct peer {
    int socket;
    SSL *tls; /* NULL without */
    size_t from, to;
    char read[LINE];
};

/* Returns: octets, at least one; 0 at the end. */
static size_t receive(struct peer *peer, char *into, size_t most)
{
    ssize_t count = peer->tls ? SSL_read(peer->tls, into, (int)most) : recv(peer->socket, into, most, 0);
    return count > 0 ? (size_t)count : 0;
}

/* Returns: false if the other side has gone. */
static int send_all(struct peer *peer, const char *data, size_t size)
{
    if (peer->tls)
        return SSL_write(peer->tls, data, (int)size) > 0;
    return send(peer->socket, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Returns: the next line without its end, until the next call; NULL at the end. */
static char *line_of(struct peer *peer)
{
    for (;;) {
        char *begin = peer->read + peer->from, *end = memmem(begin, peer->to - peer->from, "\r\n", 2);
        if (end) {
            *end = 0;
            peer->from += (size_t)(end - begin) + 2;
            return begin;
        }
        memmove(peer->read, begin, peer->to - peer->from);
        peer->to -= peer->from;
        peer->from = 0;
        size_t count = peer->to < LINE ? receive(peer, peer->read + peer->to, LINE - peer->to) : 0;
        if (!count)
            return NULL;
        peer->to += count;
    }
}

static void set_up(int socket)
{
    int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* --- the mail server ------------------------------------------------------------------------------------------------ */

enum protocol { IMAP, POP3, SMTP };

static const char *const GREETING[] = {
    "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n", "+OK ready\r\n", "220 upstream.example ESMTP\r\n"};

static SSL_CTX *context;
static const char *message;

static int send_messages(struct peer *peer, int count)
{
    static const char begin[] = "* 1 FETCH (BODY[] {1048576}\r\n";
    while (count-- > 0)
        if (!send_all(peer, begin, sizeof begin - 1) || !send_all(peer, message, MEBIBYTE) || !send_all(peer, ")\r\n", 3))
            return 0;
    return 1;
}

/* Returns: false after the session's last answer, or if the other side has gone. */
static int answer(enum protocol protocol, struct peer *peer, char *line)
{
    char reply[LINE + 128], *rest = NULL;
    char *first = strtok_r(line, " ", &rest), *second = first ? strtok_r(NULL, " ", &rest) : NULL;
    if (!first || (protocol == IMAP && !second))
        return 0;
    int has_arguments = second && strtok_r(NULL, " ", &rest) != NULL;
    int is_last = !strcasecmp(protocol == IMAP ? second : first, protocol == IMAP ? "LOGOUT" : "QUIT");
    const char *said = reply;
    if (protocol == IMAP) {
        const char *before = is_last ? "* BYE bye\r\n" : "";
        if (!strcasecmp(second, "CAPABILITY"))
            before = "* CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2\r\n";
        snprintf(reply, sizeof reply, "%s%s OK done\r\n", before, first);
    } else if (!strcasecmp(first, "AUTH") && !has_arguments) {
        said = protocol == POP3 ? "+ \r\n" : "334 \r\n";
    } else if (protocol == POP3) {
        said = strcasecmp(first, "CAPA") ? "+OK done\r\n" : "+OK\r\nSASL XOAUTH2\r\nUSER\r\n.\r\n";
    } else if (!strcasecmp(first, "EHLO")) {
        said = "250-upstream.example\r\n250-SIZE 35882577\r\n250-8BITMIME\r\n250 AUTH XOAUTH2\r\n";
    } else if (!strcasecmp(first, "AUTH") || strlen(first) > 20) { /* the token, on a line of its own */
        said = "235 2.7.0 Accepted\r\n";
    } else {
        said = "250 2.0.0 done\r\n";
    }
    return send_all(peer, said, strlen(said)) && !is_last;
}

struct accepted {
    enum protocol protocol;
    int socket;
};

static void *serve_one(void *about)
{
    struct accepted accepted = *(struct accepted *)about;
    struct peer *peer = calloc(1, sizeof *peer);
    free(about);
    pthread_detach(pthread_self());
    set_up(accepted.socket);
    peer->tls = SSL_new(context);
    SSL_set_fd(peer->tls, accepted.socket);
    if (SSL_accept(peer->tls) == 1 &&
        send_all(peer, GREETING[accepted.protocol], strlen(GREETING[accepted.protocol]))) {
        char *line;
        int mebibytes;
        while ((line = line_of(peer)))
            if (sscanf(line, "%*s FETCH %d", &mebibytes) == 1 && !send_messages(peer, mebibytes))
                break;
            else if (!answer(accepted.protocol, peer, line))
                break;
        SSL_shutdown(peer->tls);
    }
    ERR_clear_error();
    SSL_free(peer->tls);
    close(accepted.socket);
    free(peer);
    return NULL;
}

static void *serve_port(void *about)
{
    struct accepted port = *(struct accepted *)about;
    for (;;) {
        struct accepted *accepted = malloc(sizeof *accepted);
        *accepted = port;
        if ((accepted->socket = accept4(port.socket, NULL, NULL, SOCK_CLOEXEC)) < 0)
            fail("accept: %s", strerror(errno));
        start(serve_one, accepted);
    }
    return NULL;
}

static void serve(char **words)
{
    context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, words[0]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, words[1], SSL_FILETYPE_PEM) != 1)
        fail("no certificate in %s, or no key of it in %s", words[0], words[1]);
    message = mapped(words[2]);
    struct accepted ports[3];
    pthread_t threads[3];
    for (int protocol = IMAP; protocol <= SMTP; protocol++) {
        ports[protocol] = (struct accepted){(enum protocol)protocol, atoi(words[3 + protocol])};
        threads[protocol] = start(serve_port, &ports[protocol]);
    }
    for (int protocol = IMAP; protocol <= SMTP; protocol++)
        pthread_join(threads[protocol], NULL);
}

/* --- mail programs -------------------------------------------------------------------------------------------------- */

static struct bridge {
    int port;
    char password[256];
} bridges[MOST_BRIDGES];
static int bridge_count;

static void read_bridges(void)
{
    while (bridge_count < MOST_BRIDGES &&
           scanf("%d %255s", &bridges[bridge_count].port, bridges[bridge_count].password) == 2)
        bridge_count++;
    if (!bridge_count)
        fail("no bridge");
}

static void connect_to(struct peer *peer, int port)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *peer = (struct peer){.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (peer->socket < 0 || connect(peer->socket, (struct sockaddr *)&where, sizeof where))
        fail("connect: %s", strerror(errno));
    set_up(peer->socket);
    setsockopt(peer->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

/* Send a line, unless it is NULL, and wait for the answer that begins with `until`. */
static void say(struct peer *peer, const char *line, const char *until)
{
    char *answer;
    if (line && !send_all(peer, line, strlen(line)))
        fail("gone before a line was sent");
    while ((answer = line_of(peer)))
        if (!strncmp(answer, until, strlen(until)))
            return;
    fail("no %s", until);
}

static void log_in(struct peer *peer, enum protocol protocol, const char *address, const char *password)
{
    char line[LINE];
    if (protocol == IMAP) {
        say(peer, NULL, "* OK");
        snprintf(line, sizeof line, "a LOGIN %s %s\r\n", address, password);
        say(peer, line, "a OK");
    } else if (protocol == POP3) {
        say(peer, NULL, "+OK");
        snprintf(line, sizeof line, "USER %s\r\n", address);
        say(peer, line, "+OK");
        snprintf(line, sizeof line, "PASS %s\r\n", password);
        say(peer, line, "+OK");
    } else {
        unsigned char plain[1024], encoded[2048];
        int size = snprintf((char *)plain, sizeof plain, "%c%s%c%s", 0, address, 0, password);
        EVP_EncodeBlock(encoded, plain, size);
        say(peer, NULL, "220");
        say(peer, "EHLO bench\r\n", "250 ");
        snprintf(line, sizeof line, "AUTH PLAIN %s\r\n", encoded);
        say(peer, line, "235");
    }
}

/* As a mail program ends: after the server. */
static void leave(struct peer *peer, enum protocol protocol)
{
    const char *last = protocol == IMAP ? "z LOGOUT\r\n" : "QUIT\r\n";
    send_all(peer, last, strlen(last));
    while (line_of(peer))
        ;
    close(peer->socket);
}

static struct {
    enum protocol protocol;
    const char *address;
    int count, spelling;
    double rate, *due; /* seconds since the start */
    struct timespec start;
    atomic_int next;
} logins;

/* xorshift64*; which numbers come matters to nobody, as long as they do each time. */
static double chance(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (double)((*state * 0x2545F4914F6CDD1Dull) >> 11) / (double)(1ull << 53);
}

static void spell(char *address, uint64_t how)
{
    uint64_t state = how * 0x9E3779B97F4A7C15ull + 1;
    chance(&state);
    for (; *address; address++)
        *address = (char)(chance(&state) < 0.5 ? tolower(*address) : toupper(*address));
}

static void wait_until(double seconds)
{
    struct timespec when = logins.start;
    when.tv_sec += (time_t)seconds;
    when.tv_nsec += (long)((seconds - floor(seconds)) * 1e9);
    if (when.tv_nsec >= 1000000000) {
        when.tv_sec++;
        when.tv_nsec -= 1000000000;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR)
        ;
}

static void *log_in_and_leave(void *unused)
{
    struct peer peer;
    char address[256];
    int number;
    while ((number = atomic_fetch_add(&logins.next, 1)) < logins.count) {
        const struct bridge *bridge = &bridges[number % bridge_count];
        snprintf(address, sizeof address, "%s", logins.address);
        if (logins.spelling)
            spell(address, ((uint64_t)logins.spelling << 32) + (uint64_t)number);
        if (logins.rate > 0)
            wait_until(logins.due[number]);
        connect_to(&peer, bridge->port);
        log_in(&peer, logins.protocol, address, bridge->password);
        leave(&peer, logins.protocol);
    }
    return unused;
}

static enum protocol protocol_of(const char *name)
{
    static const char *const names[] = {"imap", "pop3", "smtp"};
    for (int protocol = IMAP; protocol <= SMTP; protocol++)
        if (!strcmp(name, names[protocol]))
            return (enum protocol)protocol;
    fail("no protocol: %s", name);
    return IMAP;
}

static void all_at_once(int count, void *(*run)(void *))
{
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    for (int number = 0; number < count; number++)
        threads[number] = start(run, (void *)(intptr_t)number);
    for (int number = 0; number < count; number++)
        pthread_join(threads[number], NULL);
    free(threads);
}

static void log_in_all(char **words)
{
    logins.protocol = protocol_of(words[0]);
    logins.address = words[1];
    logins.count = atoi(words[2]);
    logins.rate = atof(words[4]);
    logins.spelling = atoi(words[5]);
    uint64_t state = 1; /* the same gaps for each system */
    double due = 0;
    logins.due = calloc((size_t)logins.count + 1, sizeof *logins.due);
    for (int number = 0; number < logins.count && logins.rate > 0; number++)
        logins.due[number] = due -= log(1 - chance(&state)) / logins.rate;
    clock_gettime(CLOCK_MONOTONIC, &logins.start);
    all_at_once(atoi(words[3]), log_in_and_leave);
}

static struct {
    const char *address;
    int mebibytes;
} fetches;

static void *fetch(void *about)
{
    const struct bridge *bridge = &bridges[(intptr_t)about % bridge_count];
    struct peer peer;
    char line[LINE], *got = malloc(MEBIBYTE);
    connect_to(&peer, bridge->port);
    log_in(&peer, IMAP, fetches.address, bridge->password);
    snprintf(line, sizeof line, "f FETCH %d\r\n", fetches.mebibytes);
    send_all(&peer, line, strlen(line));
    for (int number = 0; number < fetches.mebibytes; number++) {
        say(&peer, NULL, "* 1 FETCH (BODY[] {1048576}");
        size_t size = peer.to - peer.from; /* what has come along with the line */
        memcpy(got, peer.read + peer.from, size);
        peer.from = peer.to;
        while (size < MEBIBYTE) {
            size_t count = receive(&peer, got + size, MEBIBYTE - size);
            if (!count)
                fail("%zu octets of a message", size);
            size += count;
        }
        if (memcmp(got, message, MEBIBYTE))
            fail("another message");
        say(&peer, NULL, ")");
    }
    say(&peer, NULL, "f OK");
    leave(&peer, IMAP);
    free(got);
    return NULL;
}

int main(int count, char **words)
{
    if (count == 8 && !strcmp(words[1], "serve")) {
        serve(words + 2);
    } else if (count == 8 && !strcmp(words[1], "login")) {
        read_bridges();
        log_in_all(words + 2);
    } else if (count == 6 && !strcmp(words[1], "fetch")) {
        read_bridges();
        fetches.address = words[2];
        fetches.mebibytes = atoi(words[3]);
        message = mapped(words[5]);
        all_at_once(atoi(words[4]), fetch);
    } else {
        fail("see load.c for what it takes");
    }
    return 0;
}
