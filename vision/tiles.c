/* SPDX-License-Identifier: MIT */
#include "vision/tiles.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define TOKEN_PIXELS ((uint64_t)TILES_TOKEN * TILES_TOKEN)
#define ASPECT_MAX   200

const struct tile_settings tile_settings_default = {
    .min_image_tokens = 64,
    .max_image_tokens = 256,
    .min_tiles = 2,
    .max_tiles = 10,
    .tile_size = 512,
    .tiling = true,
    .thumbnail = true,
    .max_pixels_tolerance = 2.0,
};

/* --- settings --------------------------------------------------------------------------------- */

static int in_range(const char *name, uint32_t value, uint32_t low, uint32_t high,
                    struct error *err)
{
    if (value >= low && value <= high)
        return 0;
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is %u, expected a number from %u to %u.",
                     name, value, low, high);
}

/* What the formula needs. */
static int check_formula(const struct tile_settings *s, struct error *err)
{
    int r = in_range("max_tiles", s->max_tiles, 1, TILES_GRID_MAX, err);

    if (r == 0)
        r = in_range("min_tiles", s->min_tiles, 1, s->max_tiles, err);
    if (r == 0)
        r = in_range("tile_size", s->tile_size, TILES_TOKEN, TILES_SIZE_MAX, err);
    if (r == 0)
        r = in_range("min_image_tokens", s->min_image_tokens, 1, UINT32_MAX, err);
    if (r == 0)
        r = in_range("max_image_tokens", s->max_image_tokens, 1, UINT32_MAX, err);
    if (r < 0)
        return r;
    if (s->tile_size % TILES_TOKEN != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "tile_size is %u, expected a multiple of %d pixels.", s->tile_size,
                         TILES_TOKEN);
    if (!isfinite(s->max_pixels_tolerance) || s->max_pixels_tolerance <= 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "max_pixels_tolerance is %g, expected a number above 0.",
                         s->max_pixels_tolerance);
    return 0;
}

int tile_settings_check(const struct tile_settings *s, struct error *err)
{
    int r = in_range("max_image_tokens", s->max_image_tokens, 1, TILES_TOKENS_MAX, err);

    if (r == 0)
        r = in_range("min_image_tokens", s->min_image_tokens, 1, s->max_image_tokens, err);
    if (r == 0)
        r = in_range("max_tiles", s->max_tiles, 1, TILES_VIEWS_MAX - 1, err);
    if (r == 0)
        r = in_range("tile_size", s->tile_size, TILES_TOKEN, TILES_SIDE_OF_TILE_MAX, err);
    if (r == 0)
        r = check_formula(s, err);
    if (r < 0)
        return r;
    if (s->min_tiles == 1 && s->max_tiles > 1)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "min_tiles is 1 and max_tiles is %u, expected at least 2 for both, or 1 "
                         "for both.",
                         s->max_tiles);
    return 0;
}

/* --- size of a single view -------------------------------------------------------------------- */

/* To the nearest multiple of TILES_TOKEN, halves to the even one. */
static double round_side(uint32_t side)
{
    return nearbyint(side / (double)TILES_TOKEN) * TILES_TOKEN;
}

/* The order of the divisions decides at exact multiples. */
static void smart_resize(const struct tile_settings *s, uint32_t width, uint32_t height,
                         double *ret_w, double *ret_h)
{
    const double area = (double)((uint64_t)width * height);
    const double min = (double)(s->min_image_tokens * TOKEN_PIXELS);
    const double max = (double)(s->max_image_tokens * TOKEN_PIXELS);
    double w = fmax(TILES_TOKEN, round_side(width));
    double h = fmax(TILES_TOKEN, round_side(height));

    if (h * w > max) {
        const double beta = sqrt(area / max);

        h = fmax(TILES_TOKEN, floor(height / beta / TILES_TOKEN) * TILES_TOKEN);
        w = fmax(TILES_TOKEN, floor(width / beta / TILES_TOKEN) * TILES_TOKEN);
    } else if (h * w < min) {
        const double beta = sqrt(min / area);

        h = ceil(height * beta / TILES_TOKEN) * TILES_TOKEN;
        w = ceil(width * beta / TILES_TOKEN) * TILES_TOKEN;
    }
    *ret_w = w;
    *ret_h = h;
}

/* The rounded sizes of the formula may exceed the budget; here the longer side gives way. */
static void cap(uint32_t max_image_tokens, uint32_t *w, uint32_t *h)
{
    const uint64_t max = max_image_tokens * TOKEN_PIXELS;

    while ((uint64_t)*w * *h > max) {
        uint32_t *longer = *w > *h ? w : h;
        const uint32_t shorter = MIN(*w, *h);

        *longer = (uint32_t)MAX(TILES_TOKEN, max / shorter / TILES_TOKEN * TILES_TOKEN);
    }
}

/* --- grid ------------------------------------------------------------------------------------- */

struct grid {
    uint16_t cols, rows;
    uint32_t slot; /* where the table held it */
};

/*
 * The reference walks a Python set of (cols, rows), sorted by area alone. Grids of one area keep
 * the order in which the set's hash table holds them, and the first of two equally good ones
 * may win. So this is CPython's table (Objects/setobject.c, tupleobject.c of 3.8 and later,
 * 64 bits): same hash, same probes, same growth.
 */
struct grid_set {
    struct grid *slots; /* cols 0: free */
    size_t n_slots;     /* a power of two */
    size_t n;
};

#define SET_LINEAR_PROBES 9
#define SET_PERTURB_SHIFT 5

static uint64_t grid_hash(struct grid grid)
{
    const uint64_t prime1 = 11400714785074694791u;
    const uint64_t prime2 = 14029467366897019727u;
    const uint64_t prime5 = 2870177450012600261u;
    const uint64_t lanes[2] = {grid.cols, grid.rows};
    uint64_t acc = prime5;

    for (size_t i = 0; i < 2; i++) {
        acc += lanes[i] * prime2;
        acc = (acc << 31) | (acc >> 33);
        acc *= prime1;
    }
    return acc + (2 ^ (prime5 ^ 3527539));
}

/* Put a grid that is not in the set into the first free slot of its probes. */
static void set_put(const struct grid_set *set, struct grid grid)
{
    const size_t mask = set->n_slots - 1;
    uint64_t perturb = grid_hash(grid);
    size_t i = perturb & mask;

    for (;;) {
        const size_t last = i + SET_LINEAR_PROBES <= mask ? i + SET_LINEAR_PROBES : i;

        for (size_t k = i; k <= last; k++)
            if (set->slots[k].cols == 0) {
                set->slots[k] = grid;
                return;
            }
        perturb >>= SET_PERTURB_SHIFT;
        i = (i * 5 + 1 + perturb) & mask;
    }
}

static bool set_resize(struct grid_set *set, size_t n_min)
{
    struct grid_set larger = {.n_slots = 8, .n = set->n};

    while (larger.n_slots <= n_min)
        larger.n_slots *= 2;
    larger.slots = calloc(larger.n_slots, sizeof(*larger.slots));
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i].cols > 0)
            set_put(&larger, set->slots[i]);
    free(set->slots);
    *set = larger;
    return true;
}

static bool set_add(struct grid_set *set, uint32_t cols, uint32_t rows)
{
    set_put(set, (struct grid){.cols = (uint16_t)cols, .rows = (uint16_t)rows});
    set->n++;
    return set->n * 5 < (set->n_slots - 1) * 3 || set_resize(set, set->n * 4);
}

/*
 * All grids of min to max tiles. The reference lists, for n from min to max, those of at most n
 * columns and n rows; a grid counts where it comes first.
 */
static bool set_fill(struct grid_set *set, uint32_t min, uint32_t max)
{
    if (!set_resize(set, 0))
        return false;
    for (uint32_t n = min; n <= max; n++)
        for (uint32_t cols = 1; cols <= n; cols++) {
            const bool listed = n > min && cols < n; /* up to n - 1 rows, before */

            for (uint32_t rows = listed ? n : 1; rows <= n && cols * rows <= max; rows++)
                if (cols * rows >= min && !set_add(set, cols, rows))
                    return false;
        }
    return true;
}

static int compare_grids(const void *a, const void *b)
{
    const struct grid *x = a, *y = b;
    const int order = x->cols * x->rows - y->cols * y->rows;

    return order != 0 ? order : (x->slot > y->slot) - (x->slot < y->slot);
}

/* To a list slots[0 .. n - 1], by area and then as the table held them. */
static void set_sort(struct grid_set *set)
{
    size_t n = 0;

    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i].cols > 0) {
            set->slots[n] = set->slots[i];
            set->slots[n++].slot = (uint32_t)i;
        }
    qsort(set->slots, n, sizeof(*set->slots), compare_grids);
}

/* The grid whose form is nearest to the picture's; *ret keeps its value when there is none. */
static int choose_grid(const struct tile_settings *s, uint32_t width, uint32_t height,
                       uint32_t line_max, struct grid *ret, struct error *err)
{
    const double aspect = width / (double)height;
    const double area = (double)((uint64_t)width * height);
    const double tile_area = (double)s->tile_size * s->tile_size;
    struct grid_set set = {0};
    double nearest = INFINITY;

    if (!set_fill(&set, s->min_tiles, s->max_tiles)) {
        free(set.slots);
        return error_set(err, ERROR_NO_MEMORY, "There is no memory for the grids of a picture.");
    }
    set_sort(&set);
    for (size_t i = 0; i < set.n; i++) {
        const struct grid grid = set.slots[i];
        const double distance = fabs(aspect - grid.cols / (double)grid.rows);
        const double grid_area = tile_area * grid.cols * grid.rows;

        if (grid.cols > line_max || grid.rows > line_max)
            continue;
        if (distance < nearest || (distance == nearest && area > 0.5 * grid_area))
            *ret = grid;
        nearest = fmin(nearest, distance);
    }
    free(set.slots);
    return 0;
}

/* --- plan ------------------------------------------------------------------------------------- */

/* The patch, not the token, is the smallest side here. */
static bool too_large(const struct tile_settings *s, uint32_t width, uint32_t height)
{
    const double w = fmax(TILES_PATCH, round_side(width));
    const double h = fmax(TILES_PATCH, round_side(height));

    return h * w > (double)(s->max_image_tokens * TOKEN_PIXELS) * s->max_pixels_tolerance;
}

static size_t tokens(uint32_t width, uint32_t height)
{
    return (size_t)(width / TILES_TOKEN) * (height / TILES_TOKEN);
}

static int plan(const struct tile_settings *s, uint32_t width, uint32_t height, uint32_t line_max,
                struct tile_plan *ret, struct error *err)
{
    struct grid grid = {.cols = 1, .rows = 1};
    double w, h;
    size_t n_tiles;
    int r = check_formula(s, err);

    if (r == 0)
        r = in_range("The width of the picture", width, 1, TILES_SIDE_MAX, err);
    if (r == 0)
        r = in_range("The height of the picture", height, 1, TILES_SIDE_MAX, err);
    if (r < 0)
        return r;
    smart_resize(s, width, height, &w, &h);
    if (fmax(w, h) > 0x1p30)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "min_image_tokens and max_image_tokens would make a view of %.0fx%.0f "
                         "pixels.",
                         w, h);
    if (s->tiling && !(s->min_tiles == 1 && s->max_tiles == 1) && too_large(s, width, height)) {
        r = choose_grid(s, width, height, line_max, &grid, err);
        if (r < 0)
            return r;
    }
    n_tiles = (size_t)grid.cols * grid.rows;
    *ret = (struct tile_plan){
        .width = width,
        .height = height,
        .resized_w = (uint32_t)w,
        .resized_h = (uint32_t)h,
        .tile_size = s->tile_size,
        .cols = grid.cols,
        .rows = grid.rows,
        .thumbnail = n_tiles > 1 && s->thumbnail,
    };
    ret->n_views = n_tiles + ret->thumbnail;
    ret->n_special_tokens = 2 + (n_tiles > 1 ? ret->n_views : 0);
    return 0;
}

static void count_tokens(struct tile_plan *plan)
{
    const size_t n_tiles = (size_t)plan->cols * plan->rows;

    plan->n_image_tokens = 0;
    if (n_tiles > 1)
        plan->n_image_tokens += n_tiles * tokens(plan->tile_size, plan->tile_size);
    if (n_tiles == 1 || plan->thumbnail)
        plan->n_image_tokens += tokens(plan->resized_w, plan->resized_h);
}

static bool is_side(uint32_t side, uint32_t max)
{
    return side >= TILES_TOKEN && side <= max && side % TILES_TOKEN == 0;
}

int tile_plan_complete(struct tile_plan *plan)
{
    const uint64_t n_tiles = (uint64_t)plan->cols * plan->rows;

    if (plan->width == 0 || plan->height == 0 || n_tiles == 0 || plan->cols > TILES_LINE_MAX ||
        plan->rows > TILES_LINE_MAX || (plan->thumbnail && n_tiles == 1) ||
        !is_side(plan->tile_size, TILES_SIDE_OF_TILE_MAX) ||
        !is_side(plan->resized_w, TILES_TOKENS_MAX * TILES_TOKEN) ||
        !is_side(plan->resized_h, TILES_TOKENS_MAX * TILES_TOKEN) ||
        tokens(plan->resized_w, plan->resized_h) > TILES_TOKENS_MAX)
        return -EINVAL;
    plan->n_views = n_tiles + plan->thumbnail;
    plan->n_special_tokens = 2 + (n_tiles > 1 ? plan->n_views : 0);
    count_tokens(plan);
    return 0;
}

int tiles_plan(const struct tile_settings *settings, uint32_t width, uint32_t height,
               struct tile_plan *ret, struct error *err)
{
    int r = plan(settings, width, height, UINT32_MAX, ret, err);

    if (r == 0)
        count_tokens(ret);
    return r;
}

int tiles_plan_capped(const struct tile_settings *settings, uint32_t width, uint32_t height,
                      struct tile_plan *ret, struct error *err)
{
    int r;

    if (width > 0 && height > 0 && MAX(width, height) > (uint64_t)ASPECT_MAX * MIN(width, height))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "The picture is %ux%u pixels; one side must not be more than %d times as "
                         "long as the other.",
                         width, height, ASPECT_MAX);
    r = plan(settings, width, height, TILES_LINE_MAX, ret, err);
    if (r < 0)
        return r;
    cap(settings->max_image_tokens, &ret->resized_w, &ret->resized_h);
    count_tokens(ret);
    return 0;
}

struct tile_view tile_view(const struct tile_plan *plan, size_t i)
{
    const size_t n_tiles = (size_t)plan->cols * plan->rows;
    const uint32_t col = (uint32_t)(i % plan->cols), row = (uint32_t)(i / plan->cols);

    if (n_tiles == 1 || i == n_tiles)
        return (struct tile_view){
            .width = plan->resized_w,
            .height = plan->resized_h,
            .thumbnail = n_tiles > 1,
            .n_tokens = tokens(plan->resized_w, plan->resized_h),
        };
    return (struct tile_view){
        .x = col * plan->tile_size,
        .y = row * plan->tile_size,
        .width = plan->tile_size,
        .height = plan->tile_size,
        .row = row + 1,
        .col = col + 1,
        .n_tokens = tokens(plan->tile_size, plan->tile_size),
    };
}

/* --- cost ------------------------------------------------------------------------------------- */

double tile_view_cost(const struct tile_view *view, const struct vision_shape *shape)
{
    const double d = shape->n_hidden, f = shape->n_ff;
    const double n_tokens = (double)view->n_tokens, n = 4 * n_tokens; /* patches */
    const double embed = 2 * 3.0 * TILES_PATCH * TILES_PATCH * d;
    const double layer = 2 * (4 * d * d + 2 * d * f) + 4 * n * d;
    const double projector = 2 * (4 * d + shape->n_embd) * shape->n_projector;

    return n * (embed + shape->n_layer * layer) + n_tokens * projector;
}

double tiles_cost(const struct tile_plan *plan, const struct vision_shape *shape)
{
    double cost = 0;

    for (size_t i = 0; i < plan->n_views; i++) {
        const struct tile_view view = tile_view(plan, i);

        cost += tile_view_cost(&view, shape);
    }
    return cost;
}
