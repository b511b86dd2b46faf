/* SPDX-License-Identifier: MIT */

/*
 * Method calls with any body, through the real handlers, sessions and engine, on a private
 * connection whose other end is a thread that plays the bus.
 *
 * Input: calls one after the other, each of one byte that chooses it from the table, two bytes with
 * the length of its body (little endian), and the body as it is on the wire. All come from one
 * client, which leaves the bus at the end; then nothing of it may be left. Every call has an
 * answer. Those that may be about a file bring two descriptors: one is a picture, the other a
 * folder.
 */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ipc/bus.h"
#include "ipc/objects.h"
#include "session/store.h"
#include "tests/fixture.h"
#include "tests/session/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define US         ":1.1"
#define CLIENT     ":1.2"
#define DRIVER     "org.freedesktop.DBus"
#define PROPERTIES DRIVER ".Properties"
#define OBJECTS    DRIVER ".ObjectManager"
#define INPUT_MAX  65536 /* fits the socket, which the same thread fills and reads */
#define N_FDS      2
#define KEPT       "0123456789abcdef0123456789abcdef"

enum { CALL = 1, RETURN, ERROR, SIGNAL }; /* message types of the protocol */

static const struct call {
    enum { ROOT, SESSION, MODEL, PUBLISHED } object;
    const char *interface, *member, *signature;
    uint32_t n_fds;
} calls[] = {
    {ROOT, BUS_MANAGER, "CreateSession", "a{sv}", 0},
    {SESSION, BUS_SESSION, "Ask", "aa{sv}a{sv}", N_FDS},
    {SESSION, BUS_SESSION, "Cancel", "u", 0},
    {SESSION, BUS_SESSION, "History", "", 0},
    {SESSION, BUS_SESSION, "Close", "", 0},
    {ROOT, BUS_MANAGER, "ListSessions", "", 0},
    {ROOT, BUS_MANAGER, "OpenSession", "sa{sv}", 0},
    {ROOT, BUS_MANAGER, "ForgetSession", "s", 0},
    {ROOT, BUS_MANAGER, "Rescan", "", 0},
    {MODEL, BUS_MODEL, "Load", "", 0},
    {MODEL, BUS_MODEL, "Unload", "", 0},
    {MODEL, BUS_MODEL, "Remove", "", 0},
    {MODEL, BUS_MODEL, "Verify", "", 0},
    {PUBLISHED, BUS_MODEL, "Download", "", 0},
    {PUBLISHED, BUS_MODEL, "CancelDownload", "", 0},
    {PUBLISHED, BUS_MODEL, "Load", "", 0},
    {ROOT, OBJECTS, "GetManagedObjects", "", 0},
    {SESSION, PROPERTIES, "GetAll", "s", 0},
    {MODEL, PROPERTIES, "Get", "ss", 0},
    {ROOT, PROPERTIES, "Set", "ssv", 0},
    {ROOT, BUS_MANAGER, "FindModel", "s", 0},
    {ROOT, BUS_MANAGER, "PlanImage", "ha{sv}", N_FDS},
    {ROOT, BUS_MANAGER, "Describe", "ha{sv}", N_FDS},
    {ROOT, BUS_MANAGER, "Transcribe", "ha{sv}", N_FDS},
    {ROOT, BUS_MANAGER, "Speak", "sa{sv}", 0},
    {ROOT, BUS_MANAGER, "Silence", "", 0},
    {ROOT, BUS_MANAGER, "ListPermissions", "", 0},
    {ROOT, BUS_MANAGER, "SetPermission", "sss", 0},
    {SESSION, BUS_SESSION, "OpenAudio", "a{sv}", 0},
    {SESSION, BUS_SESSION, "StartListening", "a{sv}", 0},
    {SESSION, BUS_SESSION, "StopListening", "", 0},
    {SESSION, BUS_SESSION, "Press", "", 0},
    {SESSION, BUS_SESSION, "EndOfTurn", "", 0},
    {SESSION, BUS_SESSION, "Interrupt", "", 0},
};

static sd_event *event;
static struct bus *bus;
static struct models *models;
static struct engine *engine;
static char scratch[64];

/* the other end */

static int bus_fd;
static int picture_fds[N_FDS];
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint answered; /* the greatest serial of a call that was answered */
static atomic_uint awaited;  /* serial of the call that must be answered; 0: it was */

struct message {
    uint8_t bytes[INPUT_MAX + 1024];
    size_t n;
};

static void put(struct message *message, const void *bytes, size_t n)
{
    if (n > 0) /* an empty body has no address */
        memcpy(message->bytes + message->n, bytes, n);
    message->n += n;
}

static void put_u32(struct message *message, uint32_t value)
{
    put(message, &value, sizeof(value));
}

static void align(struct message *message, size_t step)
{
    while (message->n % step)
        message->bytes[message->n++] = 0;
}

static void put_string(struct message *message, const char *text)
{
    put_u32(message, (uint32_t)strlen(text));
    put(message, text, strlen(text) + 1);
}

static void put_field(struct message *message, uint8_t code, char type, const char *text)
{
    const uint8_t length = (uint8_t)strlen(text);

    align(message, 8);
    put(message, (const uint8_t[]){code, 1, (uint8_t)type, 0}, 4);
    if (type == 'g') {
        put(message, &length, 1);
        put(message, text, length + 1u);
    } else {
        put_string(message, text);
    }
}

static void begin(struct message *message, uint8_t type, uint32_t serial, uint32_t n_body)
{
    message->n = 0;
    put(message, (const uint8_t[]){'l', type, 0, 1}, 4);
    put_u32(message, n_body);
    put_u32(message, serial);
    put_u32(message, 0); /* of the fields, as soon as it is known */
}

static void end(struct message *message, const void *body, size_t n_body, bool with_fds)
{
    const uint32_t n_fields = (uint32_t)message->n - 16;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(picture_fds))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(picture_fds)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct iovec part;
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    memcpy(message->bytes + 12, &n_fields, 4);
    align(message, 8);
    put(message, body, n_body);
    part = (struct iovec){message->bytes, message->n};
    memcpy(CMSG_DATA(&control.header), picture_fds, sizeof(picture_fds));
    if (with_fds) {
        header.msg_control = &control;
        header.msg_controllen = sizeof(control);
    }
    pthread_mutex_lock(&writing);
    if (sendmsg(bus_fd, &header, 0) != (ssize_t)message->n)
        abort();
    pthread_mutex_unlock(&writing);
}

static bool read_all(void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        const ssize_t got = read(bus_fd, (char *)bytes + at, n - at);

        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

/* What a bus answers to a program that wants a name and asks who is there. */
static void answer(uint32_t serial, const uint8_t *fields, size_t n_fields)
{
    static struct message reply;
    struct message body = {.n = 0};
    const char *signature = "";

    if (memmem(fields, n_fields, "Hello", 6) || memmem(fields, n_fields, "GetNameOwner", 13)) {
        signature = "s";
        put_string(&body, memmem(fields, n_fields, "Hello", 6) ? US : CLIENT);
    } else if (memmem(fields, n_fields, "RequestName", 12)) {
        signature = "u";
        put_u32(&body, 1);
    }
    begin(&reply, RETURN, serial, (uint32_t)body.n);
    put_field(&reply, 7, 's', DRIVER);
    put_field(&reply, 8, 'g', signature);
    align(&reply, 8);
    put(&reply, (const uint8_t[]){5, 1, 'u', 0}, 4);
    put_u32(&reply, serial);
    end(&reply, body.bytes, body.n, false);
}

/* The serial that a reply answers: the field of type u. */
static uint32_t replied(const uint8_t *fields, size_t n_fields)
{
    const uint8_t *field = memmem(fields, n_fields, (const uint8_t[]){5, 1, 'u', 0}, 4);
    uint32_t serial = 0;

    if (field)
        memcpy(&serial, field + 4, 4);
    return serial;
}

/* A call may be answered after ones that came later. */
static void note_answer(uint32_t serial)
{
    unsigned expected = serial;

    atomic_compare_exchange_strong(&awaited, &expected, 0);
    if (serial > atomic_load(&answered))
        atomic_store(&answered, serial);
}

/* A descriptor that comes with a message is closed, as it is only read(). */
static void *play_bus(void *unused)
{
    static const char hello[] = "DATA\r\nOK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n";
    static uint8_t rest[1 << 27];
    char last[7] = "";
    uint32_t head[4];

    (void)unused;
    while (memcmp(last, "BEGIN\r\n", 7) != 0) {
        memmove(last, last + 1, 6);
        if (!read_all(last + 6, 1))
            return NULL;
    }
    if (write(bus_fd, hello, sizeof(hello) - 1) < 0)
        return NULL;
    while (read_all(head, sizeof(head))) {
        const uint8_t type = ((const uint8_t *)head)[1];
        const size_t n_body = head[1], n_fields = round_up(head[3], 8);

        if (n_body > sizeof(rest) / 2 || n_fields > sizeof(rest) / 2 ||
            !read_all(rest, n_fields + n_body))
            abort();
        if (type == CALL)
            answer(head[2], rest, n_fields);
        else if (type == RETURN || type == ERROR)
            note_answer(replied(rest, n_fields));
    }
    return NULL;
}

/* our end */

static bool serving;

static void ready(void *userdata)
{
    (void)userdata;
    serving = true;
}

static void refused(void *userdata, const struct error *error)
{
    (void)userdata, (void)error;
    abort();
}

static void models_changed(void *userdata)
{
    (void)userdata;
}

static int reload(void *userdata, struct error *err)
{
    (void)userdata, (void)err;
    return 0;
}

static void run_loop(void)
{
    if (sd_event_run(event, 1000) < 0)
        abort();
}

static void keep_a_session(const char *directory)
{
    const struct kept_session session = {
        .id = KEPT, .title = "Kept", .model = "tiny", .n_context = 256};
    const struct kept_turn turn = {
        .number = 1, .reason = "stop", .usage = "{}", .messages = "[{\"role\":\"user\"}]"};
    const atomic_bool open = false;
    struct store *store = store_new(directory, NULL);

    if (!store || store_put(store, &session, &turn, &open, NULL) < 0)
        abort();
    store_free(store);
}

static void clean(void)
{
    scratch_remove(scratch);
}

static void setup(void)
{
    static const struct bus_hooks hooks = {
        .ready = ready, .refused = refused, .models_changed = models_changed, .reload = reload};
    char own[80], installed[80], model[120], vision[120], state[80];
    const char *const directories[] = {own, installed, NULL};
    sd_bus *connection;
    pthread_t thread;
    int fds[2];

    signal(SIGPIPE, SIG_IGN); /* as the daemon does: streams may have lost their reader */
    log_setup(NULL, -1);
    scratch_make(scratch);
    atexit(clean);
    snprintf(own, sizeof(own), "%s/own", scratch);
    snprintf(installed, sizeof(installed), "%s/installed", scratch);
    snprintf(model, sizeof(model), "%s/tiny.gguf", installed);
    snprintf(vision, sizeof(vision), "%s/mmproj-tiny.gguf", installed);
    snprintf(state, sizeof(state), "%s/state", scratch);
    mkdir(own, 0700);
    mkdir(installed, 0700);
    picture_fds[0] = open(data_path("vision/single.png"), O_RDONLY | O_CLOEXEC);
    picture_fds[1] = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (picture_fds[0] < 0 || picture_fds[1] < 0 ||
        symlink(data_path("vision/tiny_text_f32.gguf"), model) < 0 ||
        symlink(data_path("vision/mmproj-tiny_text_f32.gguf"), vision) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        abort();
    keep_a_session(state);
    bus_fd = fds[1];
    if (pthread_create(&thread, NULL, play_bus, NULL) != 0 || sd_event_new(&event) < 0 ||
        sd_bus_new(&connection) < 0 || sd_bus_set_fd(connection, fds[0], fds[0]) < 0 ||
        sd_bus_set_bus_client(connection, true) < 0 ||
        sd_bus_negotiate_fds(connection, true) < 0 || sd_bus_start(connection) < 0 ||
        sd_bus_attach_event(connection, event, 0) < 0)
        abort();
    pthread_detach(thread);
    bus = bus_new(event, connection, &hooks, NULL, NULL);
    models = models_new(
        &(struct models_config){.directories = directories, .fetch_program = "/bin/false"},
        &bus_models_sink, bus, NULL);
    engine = engine_new(&(struct engine_config){.n_threads = 1,
                                                .keep_alive_sec = KEEP_ALIVE_FOREVER,
                                                .n_context = 256,
                                                .state_directory = state},
                        models, &bus_engine_sink, bus, NULL);
    if (!bus || !models || !engine || bus_start(bus, models, engine, NULL, NULL) < 0)
        abort();
    while (!serving)
        run_loop();
}

static uint32_t next_serial(void)
{
    static uint32_t serial = 1u << 20;

    return ++serial;
}

static void send_call(const char *path, const char *interface, const char *member,
                      const char *signature, uint32_t n_fds, uint32_t serial, const uint8_t *body,
                      size_t n_body)
{
    static struct message message;

    begin(&message, CALL, serial, (uint32_t)n_body);
    put_field(&message, 1, 'o', path);
    put_field(&message, 2, 's', interface);
    put_field(&message, 3, 's', member);
    put_field(&message, 6, 's', BUS_NAME);
    put_field(&message, 7, 's', CLIENT);
    put_field(&message, 8, 'g', signature);
    if (n_fds) {
        align(&message, 8);
        put(&message, (const uint8_t[]){9, 1, 'u', 0}, 4);
        put_u32(&message, n_fds);
    }
    end(&message, body, n_body, n_fds > 0);
}

/* Messages are taken in order: when this call is answered, all before it have been taken. */
static void settle(void)
{
    const uint32_t serial = next_serial();

    send_call(BUS_PATH, "org.freedesktop.DBus.Peer", "Ping", "", 0, serial, NULL, 0);
    while (atomic_load(&answered) < serial)
        run_loop();
}

static void leave(void)
{
    static struct message message;
    struct message body = {.n = 0};

    put_string(&body, CLIENT);
    align(&body, 4);
    put_string(&body, CLIENT);
    align(&body, 4);
    put_string(&body, "");
    begin(&message, SIGNAL, next_serial(), (uint32_t)body.n);
    put_field(&message, 1, 'o', "/org/freedesktop/DBus");
    put_field(&message, 2, 's', DRIVER);
    put_field(&message, 3, 's', "NameOwnerChanged");
    put_field(&message, 7, 's', DRIVER);
    put_field(&message, 8, 'g', "sss");
    end(&message, body.bytes, body.n, false);
    settle();
    if (bus->clients || bus->sessions || bus->n_turns)
        abort();
    while (bus_busy(bus)) {
        engine_unload(engine, "tiny", NULL);
        run_loop();
    }
}

static void make_call(const struct call *call, const uint8_t *body, size_t n_body)
{
    struct session_object *session = session_object_next(bus, NULL);
    const char *path = call->object == MODEL       ? BUS_PATH "/models/tiny"
                       : call->object == PUBLISHED ? BUS_PATH "/models/lfm2_2d350m"
                       : call->object == ROOT      ? BUS_PATH
                       : session                   ? session_object_path(session)
                                                   : BUS_PATH "/sessions/none";
    const uint32_t serial = next_serial();

    atomic_store(&awaited, serial);
    send_call(path, call->interface, call->member, call->signature, call->n_fds, serial, body,
              n_body);
    settle();
    /* Those are answered when their work is done. */
    if (atomic_load(&awaited) && strcmp(call->member, "Load") && strcmp(call->member, "Verify") &&
        strcmp(call->member, "PlanImage"))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!bus)
        setup();
    for (size_t at = 0; at + 3 <= size && size <= INPUT_MAX;) {
        const struct call *call = &calls[data[at] % ARRAY_LEN(calls)];
        const size_t wanted = data[at + 1] | (size_t)data[at + 2] << 8;
        const size_t n_body = call->signature[0] ? MIN(wanted, size - at - 3) : 0;

        make_call(call, data + at + 3, n_body);
        at += 3 + n_body;
    }
    leave();
    return 0;
}
