/* SPDX-License-Identifier: MIT */
/* Proves that a packed group holds exactly the values of the file, for every type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "tensor/packing.h"

#include "random.h"

static void check_type(enum dtype type, size_t in, size_t n_rows)
{
    const size_t row_bytes = dtype_row_bytes(type, in);
    const size_t group_bytes = packing_parts(type, in).group_bytes;
    unsigned char *const rows = malloc(n_rows * row_bytes);
    unsigned char *const group = aligned_alloc(64, group_bytes);
    void *const scratch = malloc(GROUP_ROWS * round_up(in, 256));
    float *const expected = malloc(in * sizeof(float)), *const found = malloc(in * sizeof(float));

    assert_int_equal(group_bytes % ARENA_ALIGN, 0);
    for (size_t r = 0; r < n_rows; r++)
        random_blocks(type, rows + r * row_bytes, in);
    memset(group, 0xff, group_bytes);
    packing_group(type, in, rows, row_bytes, n_rows, group, scratch);

    for (size_t r = 0; r < GROUP_ROWS; r++) {
        memset(expected, 0, in * sizeof(float));
        if (r < n_rows)
            dtype_to_f32(type, rows + r * row_bytes, expected, in);
        packing_row(type, in, group, r, found);
        for (size_t k = 0; k < in; k++) {
            if (expected[k] != found[k])
                fail_msg("%s, row %zu of %zu, value %zu of %zu: %a is packed as %a",
                         dtype_name(type), r, n_rows, k, in, (double)expected[k],
                         (double)found[k]);
        }
    }
    free(found);
    free(expected);
    free(scratch);
    free(group);
    free(rows);
}

static void test_every_type_packs_to_its_exact_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(random_types); i++) {
        const size_t block = dtype_info(random_types[i])->block_values;

        check_type(random_types[i], MAX(block, (size_t)32), 16);
        check_type(random_types[i], block == 1 ? 37 : 3 * block, 16);
        check_type(random_types[i], block == 1 ? 7 : 5 * block, 3);
        check_type(random_types[i], 1024, 1);
    }
}

static void test_packed_types_take_hardly_more_bytes_than_the_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(random_types); i++) {
        const size_t file = GROUP_ROWS * dtype_row_bytes(random_types[i], 1024);
        const size_t more = packing_of(random_types[i])->bits >= 4 ? file / 32 : file / 5;

        assert_true(packing_parts(random_types[i], 1024).group_bytes <= file + more);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_packs_to_its_exact_values),
        cmocka_unit_test(test_packed_types_take_hardly_more_bytes_than_the_file),
    };

    return cmocka_run_group_tests_name("packing", tests, NULL, NULL);
}
