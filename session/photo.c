/* SPDX-License-Identifier: MIT */
#include "session/photo.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sha2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "session/json.h"

/* What all photos of the process hold. */
static atomic_uint n_photos;
static atomic_size_t source_bytes, pixel_bytes;

struct photo *photo_new(int fd, const struct image_settings *settings, struct error *err)
{
    struct photo *photo;

    if (atomic_fetch_add(&n_photos, 1) >= PHOTOS_MAX) {
        atomic_fetch_sub(&n_photos, 1);
        error_set(err, ERROR_BUSY,
                  "The open conversations have %d pictures, which is the limit; close one.",
                  PHOTOS_MAX);
        return NULL;
    }
    photo = calloc(1, sizeof(*photo));
    if (!photo) {
        atomic_fetch_sub(&n_photos, 1);
        error_set(err, ERROR_NO_MEMORY, "There is not enough memory for a picture.");
        return NULL;
    }
    photo->holders = 1;
    photo->fd = fd;
    photo->settings = *settings;
    return photo;
}

struct photo *photo_ref(struct photo *photo)
{
    atomic_fetch_add(&photo->holders, 1);
    return photo;
}

struct photo *photo_unref(struct photo *photo)
{
    if (!photo || atomic_fetch_sub(&photo->holders, 1) > 1)
        return NULL;
    photo_drop(photo);
    if (photo->has_source)
        atomic_fetch_sub(&source_bytes, photo->n_bytes);
    if (photo->fd >= 0)
        close(photo->fd);
    free(photo);
    atomic_fetch_sub(&n_photos, 1);
    return NULL;
}

void photo_drop(struct photo *photo)
{
    if (photo->image.rgb)
        atomic_fetch_sub(&pixel_bytes, image_bytes(photo->width, photo->height));
    image_done(&photo->image);
}

/* --- in the history -------------------------------------------------------------------------- */

static const char *const plan_keys[] = {"width",     "height", "resized_width", "resized_height",
                                        "tile_size", "cols",   "rows"};

static void plan_numbers(struct tile_plan *plan, uint32_t *numbers[ARRAY_LEN(plan_keys)])
{
    uint32_t *const all[] = {&plan->width,     &plan->height, &plan->resized_w, &plan->resized_h,
                             &plan->tile_size, &plan->cols,   &plan->rows};

    memcpy(numbers, all, sizeof(all));
}

bool photo_describe(const struct photo *photo, struct json_object *part)
{
    struct tile_plan plan = photo->plan;
    uint32_t *numbers[ARRAY_LEN(plan_keys)];
    bool ok = json_set(part, "sha256", json_object_new_string(photo->id));

    plan_numbers(&plan, numbers);
    for (size_t i = 0; i < ARRAY_LEN(plan_keys); i++)
        ok = json_set(part, plan_keys[i], json_object_new_int64(*numbers[i])) && ok;
    ok = json_set(part, "thumbnail", json_object_new_boolean(plan.thumbnail)) && ok;
    return json_set(part, "tokens", json_object_new_int64((int64_t)plan.n_image_tokens)) && ok;
}

static bool is_id(const char *text)
{
    return strlen(text) == PHOTO_ID_LENGTH && strspn(text, "0123456789abcdef") == PHOTO_ID_LENGTH;
}

struct photo *photo_restore(struct json_object *part, struct error *err)
{
    static const struct image_settings none;
    const char *id = json_member_text(part, "sha256");
    struct tile_plan plan = {0};
    uint32_t *numbers[ARRAY_LEN(plan_keys)];
    struct photo *photo;
    struct json_object *value;

    plan_numbers(&plan, numbers);
    for (size_t i = 0; i < ARRAY_LEN(plan_keys); i++) {
        const int64_t number = json_object_object_get_ex(part, plan_keys[i], &value)
                                   ? json_object_get_int64(value)
                                   : 0;

        *numbers[i] = (uint32_t)MAX(0, MIN(number, (int64_t)UINT32_MAX));
    }
    plan.thumbnail = json_object_object_get_ex(part, "thumbnail", &value) &&
                     json_object_get_boolean(value);
    if (!id || !is_id(id) || tile_plan_complete(&plan) < 0) {
        error_set(err, ERROR_UNSUPPORTED_FORMAT, "A picture of the kept session is damaged.");
        return NULL;
    }
    photo = photo_new(-1, &none, err);
    if (!photo)
        return NULL;
    memcpy(photo->id, id, sizeof(photo->id));
    photo->width = plan.width;
    photo->height = plan.height;
    photo->plan = plan;
    photo->has_plan = true;
    return photo;
}

/* --- the photo's thread ---------------------------------------------------------------------- */

struct photos {
    struct photos_config config;
    struct queue queue;
    pthread_t thread;
    struct queue_node stop;
};

static int name_source(struct photo *photo, struct error *err)
{
    const void *bytes = mmap(NULL, photo->n_bytes, PROT_READ, MAP_SHARED, photo->fd, 0);

    if (bytes == MAP_FAILED)
        return error_set(err, ERROR_IO, "The bytes of a picture cannot be read: %s.",
                         strerror(errno));
    SHA256Data(bytes, photo->n_bytes, photo->id);
    munmap((void *)bytes, photo->n_bytes);
    return 0;
}

/* The bytes of a photo, in a memfd that nobody can change. */
static int get_source(struct photos *photos, struct photo *photo, struct error *err)
{
    size_t n_bytes;
    int fd = -1, r;

    if (photo->has_source)
        return 0;
    if (photo->fd < 0) /* of a session from the store */
        r = store_get_image(photos->config.store, photo->id, &fd, &n_bytes, err);
    else
        r = image_source(photo->fd, &photos->config.limits, &fd, &n_bytes, err);
    if (r < 0)
        return r;
    if (photo->fd >= 0)
        close(photo->fd);
    photo->fd = fd;
    photo->n_bytes = n_bytes;
    photo->has_source = true;
    if (atomic_fetch_add(&source_bytes, n_bytes) + n_bytes > PHOTO_SOURCE_BYTES_MAX)
        return error_set(err, ERROR_NO_MEMORY,
                         "The pictures of the open conversations take more than %zu MB; close one.",
                         PHOTO_SOURCE_BYTES_MAX >> 20);
    return photo->id[0] ? 0 : name_source(photo, err);
}

static int check_wanted(const struct photo *photo, struct error *err)
{
    return atomic_load(&photo->cancel) ? error_set(err, ERROR_CANCELLED, "It was cancelled.") : 0;
}

static int decode(struct photos *photos, struct photo *photo, struct error *err)
{
    const char *program = photos->config.program ? photos->config.program : image_decoder_path();
    const bool is_first = photo->width == 0;
    size_t n_bytes;
    int r = check_wanted(photo, err);

    if (r == 0)
        r = get_source(photos, photo, err);
    if (r == 0)
        r = image_decode(program, photo->fd, &photos->config.limits, &photo->cancel, &photo->image,
                         err);
    if (r < 0)
        return r;
    if (check_wanted(photo, err) < 0) { /* its end came before the flag was seen */
        image_done(&photo->image);
        return -ECANCELED;
    }
    if (!is_first &&
        (photo->image.width != photo->width || photo->image.height != photo->height)) {
        image_done(&photo->image);
        return error_set(err, ERROR_IO, "A kept picture is not what it was.");
    }
    photo->width = photo->image.width;
    photo->height = photo->image.height;
    n_bytes = image_bytes(photo->width, photo->height);
    if (atomic_fetch_add(&pixel_bytes, n_bytes) > PHOTO_PIXEL_BYTES_MAX && is_first)
        photo_drop(photo);
    return 0;
}

static void work(struct photos *photos, struct photo *photo)
{
    struct error err = ERROR_INIT;
    int r;

    r = decode(photos, photo, &err);
    if (r < 0)
        photo->error = err;
    atomic_store(&photo->state, r < 0 ? PHOTO_FAILED : PHOTO_READY);
    photo_unref(photo);
    photos->config.done(photos->config.userdata);
}

static void *photos_main(void *userdata)
{
    struct photos *photos = userdata;
    struct queue_node *node;

    pthread_setname_np(pthread_self(), "photos");
    for (;;) {
        while ((node = queue_pop(&photos->queue)))
            if (node == &photos->stop)
                return NULL;
            else
                work(photos, (struct photo *)node);
        queue_wait(&photos->queue, UINT64_MAX);
    }
}

struct photos *photos_new(const struct photos_config *config, struct error *err)
{
    struct photos *photos = calloc(1, sizeof(*photos));
    sigset_t all, before;
    int r;

    if (!photos) {
        error_set(err, ERROR_NO_MEMORY, "There is no memory for the thread that decodes pictures.");
        return NULL;
    }
    photos->config = *config;
    if (queue_init(&photos->queue, err) < 0) {
        free(photos);
        return NULL;
    }
    /* Signals are the bus thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&photos->thread, NULL, photos_main, photos);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0)
        return photos;
    error_set(err, ERROR_INTERNAL, "Cannot start the thread that decodes pictures: %s.",
              strerror(r));
    queue_done(&photos->queue);
    free(photos);
    return NULL;
}

struct photos *photos_free(struct photos *photos)
{
    if (!photos)
        return NULL;
    queue_push(&photos->queue, &photos->stop);
    pthread_join(photos->thread, NULL);
    queue_done(&photos->queue);
    free(photos);
    return NULL;
}

void photos_decode(struct photos *photos, struct photo *photo)
{
    photo->error = (struct error)ERROR_INIT;
    atomic_store(&photo->cancel, false);
    atomic_store(&photo->state, PHOTO_DECODING);
    queue_push(&photos->queue, &photo_ref(photo)->node);
}
