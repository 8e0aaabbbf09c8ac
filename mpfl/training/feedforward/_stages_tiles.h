/* The loops of _stages.c for registers of LANES floats, compiled once for each width.
 *
 * Defined by who includes this: LANES, TARGET (the processor it is for), WIDTH(name) (the name with
 * the width), TILE (channels whose sums are in registers at the same time, four places each) and
 * STRIP (the same for weight gradients, up to five places each).
 *
 * What is inside a tile has constant bounds and is unrolled, so that its sums stay in registers.
 */

typedef float WIDTH(vec) __attribute__((vector_size(4 * LANES), aligned(4)));
#define VEC WIDTH(vec)
#define AT(pointer) (*(const VEC *)(pointer))

/* Outputs [tile][rows][columns] of a group: the largest of four places, which one. */
INLINE void WIDTH(pool_tile)(const stage_t *s, const float *restrict x, const float *restrict filters,
                             const float *restrict bias, float *restrict out,
                             int32_t *restrict chosen, const int tile)
{
    for (n_t y = 0; y < s->rows; y++)
        for (n_t z = 0; z < s->columns; z++) {
            VEC sum[TILE][4];
            EACH(o, tile) EACH(d, 4) sum[o][d] = (VEC){0};
            for (n_t c = 0; c < s->channels; c++)
                for (n_t i = 0; i < s->kernel; i++) {
                    const float *above = x + ((c * s->height + 2 * y + i) * s->width + 2 * z) * LANES;
                    const float *below = above + s->width * LANES;
                    const float *filter = filters + (c * s->kernel + i) * s->kernel * s->filters;
                    for (n_t j = 0; j < s->kernel; j++) {
                        VEC a = AT(above), b = AT(above += LANES);
                        VEC e = AT(below), f = AT(below += LANES);
                        EACH(o, tile)
                        {
                            float weight = filter[o];
                            sum[o][0] += a * weight;
                            sum[o][1] += b * weight;
                            sum[o][2] += e * weight;
                            sum[o][3] += f * weight;
                        }
                        filter += s->filters;
                    }
                }
            EACH(o, tile)
            {
                n_t at = ((o * s->rows + y) * s->columns + z) * LANES;
                float four[4][LANES];
                memcpy(four, sum[o], sizeof four);
                choose(four[0], LANES, bias[o], s->relu, out + at, chosen + at);
            }
        }
}

TARGET static void WIDTH(forward)(const stage_t *s, const float *x, const float *filters,
                                  const float *bias, float *out, int32_t *chosen)
{
    n_t tiles = (s->filters + TILE - 1) / TILE, area = s->rows * s->columns * LANES;
    for (n_t t = 0; t < tiles; t++) {
        n_t o = s->filters * t / tiles, n = s->filters * (t + 1) / tiles - o;
        float *to = out + o * area;
        int32_t *which = chosen + o * area;
#define POOL(tile) WIDTH(pool_tile)(s, x, filters + o, bias + o, to, which, tile)
        BY_SIZE(n, TILE, POOL);
    }
}

/* Weight gradients [tile][channels][kernel][kernel]: add the products of inputs and gradients. */
INLINE void WIDTH(weight_tile)(const stage_t *s, const float *restrict x, const float *restrict spread,
                               float *restrict gradient, const int tile, const int wide)
{
    n_t area = 2 * s->rows * s->spread_width * LANES, square = s->kernel * s->kernel;
    for (n_t c = 0; c < s->channels; c++)
        for (n_t i = 0; i < s->kernel; i++)
            for (n_t j = 0; j < s->kernel; j += wide) {
                VEC sum[STRIP][5];
                EACH(o, tile) EACH(d, wide) sum[o][d] = (VEC){0};
                for (n_t y = 0; y < 2 * s->rows; y++) {
                    const float *from = x + ((c * s->height + y + i) * s->width + j) * LANES;
                    const float *g = spread + (y * s->spread_width + s->kernel - 1) * LANES;
                    for (n_t z = 0; z < 2 * s->columns; z++) {
                        EACH(d, wide)
                        {
                            VEC value = AT(from + d * LANES);
                            EACH(o, tile) sum[o][d] += value * AT(g + o * area);
                        }
                        from += LANES, g += LANES;
                    }
                }
                EACH(o, tile) EACH(d, wide)
                {
                    float total = 0;
                    EACH(l, LANES) total += sum[o][d][l];
                    gradient[(o * s->channels + c) * square + i * s->kernel + j + d] += total;
                }
            }
}

TARGET static void WIDTH(weights)(const stage_t *s, const float *x, const float *spread,
                                  float *gradient)
{
    n_t tiles = (s->filters + STRIP - 1) / STRIP, area = 2 * s->rows * s->spread_width * LANES;
    for (n_t t = 0; t < tiles; t++) {
        n_t o = s->filters * t / tiles, n = s->filters * (t + 1) / tiles - o;
        const float *from = spread + o * area;
        float *to = gradient + o * s->channels * s->kernel * s->kernel;
#define BY_FIVE(tile) WIDTH(weight_tile)(s, x, from, to, tile, 5)
#define BY_THREE(tile) WIDTH(weight_tile)(s, x, from, to, tile, 3)
#define ONE_BY_ONE(tile) WIDTH(weight_tile)(s, x, from, to, tile, 1)
        if (s->kernel % 5 == 0)
            BY_SIZE(n, STRIP, BY_FIVE);
        else if (s->kernel % 3 == 0)
            BY_SIZE(n, STRIP, BY_THREE);
        else
            BY_SIZE(n, STRIP, ONE_BY_ONE);
    }
}

/* Input gradients [tile][height] of `wide` columns from `first` on. */
INLINE void WIDTH(input_tile)(const stage_t *s, const float *restrict spread,
                              const float *restrict filters, float *restrict gradient, n_t first,
                              const int tile, const int wide)
{
    n_t last = s->kernel - 1, rows = 2 * s->rows, columns = 2 * s->columns;
    n_t left = first >= columns ? first - columns + 1 : 0;
    n_t right = first + wide - 1 < last ? first + wide - 1 : last;
    for (n_t y = 0; y < s->height; y++) {
        VEC sum[TILE][4];
        EACH(c, tile) EACH(d, wide) sum[c][d] = (VEC){0};
        n_t low = y >= rows ? y - rows + 1 : 0, high = y < last ? y : last;
        for (n_t o = 0; o < s->filters; o++)
            for (n_t i = low; i <= high; i++) {
                n_t place = (o * rows + y - i) * s->spread_width + first + last - left;
                const float *from = spread + place * LANES;
                const float *filter = filters + ((o * s->kernel + i) * s->kernel + left) * s->channels;
                for (n_t j = left; j <= right; j++) {
                    EACH(d, wide)
                    {
                        VEC value = AT(from + d * LANES);
                        EACH(c, tile) sum[c][d] += value * filter[c];
                    }
                    from -= LANES, filter += s->channels;
                }
            }
        EACH(c, tile) EACH(d, wide)
        {
            n_t at = (c * s->height + y) * s->width + first + d;
            *(VEC *)(gradient + at * LANES) = sum[c][d];
        }
    }
}

TARGET static void WIDTH(inputs)(const stage_t *s, const float *spread, const float *filters,
                                 float *gradient)
{
    n_t tiles = (s->channels + TILE - 1) / TILE, area = s->height * s->width * LANES;
    for (n_t t = 0; t < tiles; t++) {
        n_t c = s->channels * t / tiles, n = s->channels * (t + 1) / tiles - c, z = 0;
        float *to = gradient + c * area;
#define FOUR(tile) WIDTH(input_tile)(s, spread, filters + c, to, z, tile, 4)
#define ONE(tile) WIDTH(input_tile)(s, spread, filters + c, to, z, tile, 1)
        for (; z + 4 <= s->width; z += 4)
            BY_SIZE(n, TILE, FOUR);
        for (; z < s->width; z++)
            BY_SIZE(n, TILE, ONE);
    }
}

TARGET static void WIDTH(spread)(const stage_t *s, const float *gradient, const float *out,
                                 const int32_t *chosen, float *to, float *bias)
{
    spread_out(s, gradient, out, chosen, to, bias, LANES);
}

#undef AT
#undef BY_FIVE
#undef BY_THREE
#undef FOUR
#undef LANES
#undef ONE
#undef ONE_BY_ONE
#undef POOL
#undef STRIP
#undef TARGET
#undef TILE
#undef VEC
#undef WIDTH
