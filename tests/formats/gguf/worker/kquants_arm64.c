// Compares what the lanes give with the bytes in a file of cases; test_kquants.py says what is in it.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef size_t quantize_chunk(int, const float *, void *, int64_t, int64_t, int64_t, const float *);
int phi_bot_kquants(int type, const float *x, void *out, int64_t rows, int64_t width, const float *importance,
                    quantize_chunk *ggml);

static size_t not_to_be_called(int type, const float *x, void *out, int64_t start, int64_t rows, int64_t width,
                               const float *importance) {
    (void)type, (void)x, (void)out, (void)start, (void)rows, (void)width, (void)importance;
    abort(); // there is no ggml here, and no case has a number that is left to it
}

static void *next(FILE *file, size_t size) {
    void *part = malloc(size);
    if (part == NULL || fread(part, 1, size, file) != size) abort();
    return part;
}

int main(int count, char **names) {
    static const size_t sizes[] = {84, 110, 144, 176, 210}; // bytes of a super-block, from Q2_K on
    FILE *file = count == 2 ? fopen(names[1], "rb") : NULL;
    if (file == NULL) return 2;
    int32_t head[4]; // type, rows, columns, whether there is an importance
    int cases = 0, differ = 0;
    while (fread(head, sizeof head, 1, file) == 1) {
        const size_t numbers = (size_t)head[1] * head[2], size = numbers / 256 * sizes[head[0] - 10];
        float *x = next(file, 4 * numbers), *importance = head[3] ? next(file, 4 * (size_t)head[2]) : NULL;
        uint8_t *expected = next(file, size), *found = calloc(size, 1);
        phi_bot_kquants(head[0], x, found, head[1], head[2], importance, not_to_be_called);
        differ += memcmp(expected, found, size) != 0;
        ++cases;
        free(x), free(importance), free(expected), free(found);
    }
    printf("%d cases, %d differ\n", cases, differ);
    return 0;
}
