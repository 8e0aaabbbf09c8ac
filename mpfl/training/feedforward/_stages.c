/* A convolution, its ReLU and 2 x 2 max pooling in one go, and their gradients; see stages.py.
 *
 * Libraries put the channels of one sample into the places of a vector register, and networks with
 * one, six or twenty channels leave most of them empty. Here samples lie side by side, in groups of
 * as many as a register has places: an array [channels][height][width] of a group holds so many
 * floats where it would hold one. What a convolution finds is pooled in registers and never written
 * out.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define MOST 16 /* floats in the widest register */
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)

typedef Py_ssize_t n_t;

/* Inputs [channels][height][width], padding included; outputs [filters][rows][columns]. Gradients
 * of what was convolved are spread out to [filters][2 rows][spread_width], with zeros around. */
typedef struct {
    n_t groups, channels, height, width, kernel, filters, rows, columns, relu, spread_width;
} stage_t;

/* Take the first largest of four, or a NaN, as PyTorch does. */
INLINE void choose(const float *restrict four, const int lanes, float bias, n_t relu,
                   float *restrict out, int32_t *restrict chosen)
{
    for (int l = 0; l < lanes; l++) {
        float best = four[l];
        int32_t which = 0;
        EACH(d, 3)
        {
            float value = four[(d + 1) * lanes + l];
            int better = value > best || value != value;
            best = better ? value : best;
            which = better ? d + 1 : which;
        }
        best += bias;
        out[l] = relu && best <= 0 ? 0 : best;
        chosen[l] = which;
    }
}

/* Undo the pooling: each gradient goes to the place that was chosen, and into the bias's. */
INLINE void spread_out(const stage_t *s, const float *restrict gradient, const float *restrict out,
                       const int32_t *restrict chosen, float *restrict to, float *restrict bias,
                       const int lanes)
{
    for (n_t o = 0; o < s->filters; o++) {
        float total[MOST] = {0};
        for (n_t y = 0; y < s->rows; y++)
            for (n_t z = 0; z < s->columns; z++) {
                n_t at = ((o * s->rows + y) * s->columns + z) * lanes;
                n_t row = (o * s->rows + y) * 2 * s->spread_width + 2 * z + s->kernel - 1;
                float *above = to + row * lanes, *below = above + s->spread_width * lanes;
                for (int l = 0; l < lanes; l++) {
                    float value = s->relu && out[at + l] <= 0 ? 0 : gradient[at + l];
                    int32_t which = chosen[at + l];
                    above[l] = which == 0 ? value : 0;
                    above[l + lanes] = which == 1 ? value : 0;
                    below[l] = which == 2 ? value : 0;
                    below[l + lanes] = which == 3 ? value : 0;
                    total[l] += value;
                }
            }
        for (int l = 0; l < lanes; l++)
            bias[o] += total[l];
    }
}

/* Do DO(n), with a constant for n; more than `most` does not occur. */
#define BY_SIZE(n, most, DO)                \
    do {                                    \
        if (n == 1)                         \
            DO(1);                          \
        else if (n == 2)                    \
            DO(2);                          \
        else if (most >= 3 && n == 3)       \
            DO(most >= 3 ? 3 : 1);          \
        else if (most >= 4 && n == 4)       \
            DO(most >= 4 ? 4 : 1);          \
        else if (most >= 5 && n == 5)       \
            DO(most >= 5 ? 5 : 1);          \
        else if (most >= 6)                 \
            DO(most >= 6 ? 6 : 1);          \
    } while (0)

#if defined(__x86_64__)
#define FOR(features) __attribute__((target(features)))
#define LANES 16
#define TARGET FOR("avx512f")
#define WIDTH(name) name##_16
#define TILE 6
#define STRIP 5
#include "_stages_tiles.h"
#define WIDE(name) (lanes == 16 ? name##_16 : name##_8)
#else /* never called: `widest` is 0 */
#define FOR(features)
#define WIDE(name) name##_8
#endif

#define LANES 8
#define TARGET FOR("avx2,fma")
#define WIDTH(name) name##_8
#define TILE 3
#define STRIP 3
#include "_stages_tiles.h"

/* The width in use: floats that a register of this processor holds, or fewer; 0 is none. */
static int lanes = 0;

static int widest(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        return 16;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return 8;
#endif
    return 0;
}

typedef struct {
    n_t x, out, spread, filters;
} sizes_t;

/* Whether a product, of bytes, can be counted. */
static int fits(n_t bytes, n_t a, n_t b, n_t c)
{
    return !__builtin_mul_overflow(bytes, a, &bytes) && !__builtin_mul_overflow(bytes, b, &bytes) &&
           !__builtin_mul_overflow(bytes, c, &bytes);
}

/* How many numbers there are in each array (of a group), or an error if they cannot be. */
static int sizes_of(const stage_t *s, sizes_t *sizes)
{
    const n_t *numbers = &s->groups;
    for (int i = 0; i < 10; i++)
        if (numbers[i] < (i != 8) || numbers[i] > 1 << 20)
            goto wrong;
    if (2 * s->rows + s->kernel - 1 > s->height || 2 * s->columns + s->kernel - 1 > s->width ||
        s->spread_width < s->width + s->kernel - 1)
        goto wrong;
    n_t floats = 4 * MOST;
    if (!fits(floats * s->groups, s->channels, s->height, s->width) ||
        !fits(floats * s->groups, s->filters, s->rows, s->columns) ||
        !fits(floats * 2, s->filters, s->rows, s->spread_width) ||
        !fits(4 * s->filters, s->channels, s->kernel, s->kernel))
        goto wrong;
    sizes->x = s->channels * s->height * s->width * lanes;
    sizes->out = s->filters * s->rows * s->columns * lanes;
    sizes->spread = s->filters * 2 * s->rows * s->spread_width * lanes;
    sizes->filters = s->filters * s->channels * s->kernel * s->kernel;
    if (lanes)
        return 0;
    PyErr_SetString(PyExc_ValueError, "this processor has no vector registers that are known here");
    return -1;
wrong:
    PyErr_SetString(PyExc_ValueError, "the sizes of a stage do not fit together");
    return -1;
}

static int check(const Py_buffer *views, const n_t *counts, int n)
{
    for (int i = 0; i < n; i++)
        if (views[i].len != 4 * counts[i] || (uintptr_t)views[i].buf % 4) {
            PyErr_Format(PyExc_ValueError, "array %d: got %zd bytes, expected %zd", i,
                         views[i].len, 4 * counts[i]);
            return -1;
        }
    return 0;
}

static PyObject *finish(Py_buffer *views, int n, int done)
{
    for (int i = 0; i < n; i++)
        PyBuffer_Release(&views[i]);
    return done ? Py_NewRef(Py_None) : NULL;
}

#define STAGE "(nnnnnnnnnn)"
#define STAGE_OF(s)                                                                         \
    &(s).groups, &(s).channels, &(s).height, &(s).width, &(s).kernel, &(s).filters, &(s).rows, \
        &(s).columns, &(s).relu, &(s).spread_width

static PyObject *forward(PyObject *module, PyObject *args)
{
    stage_t s;
    sizes_t size;
    Py_buffer v[5]; /* x, filters, bias, out, chosen */
    (void)module;
    if (!PyArg_ParseTuple(args, STAGE "y*y*y*w*w*", STAGE_OF(s), &v[0], &v[1], &v[2], &v[3], &v[4]))
        return NULL;
    if (sizes_of(&s, &size) < 0)
        return finish(v, 5, 0);
    n_t counts[] = {s.groups * size.x, size.filters, s.filters, s.groups * size.out,
                    s.groups * size.out};
    if (check(v, counts, 5) < 0)
        return finish(v, 5, 0);
    Py_BEGIN_ALLOW_THREADS
    for (n_t g = 0; g < s.groups; g++)
        WIDE(forward)(&s, (float *)v[0].buf + g * size.x, v[1].buf, v[2].buf,
                      (float *)v[3].buf + g * size.out, (int32_t *)v[4].buf + g * size.out);
    Py_END_ALLOW_THREADS
    return finish(v, 5, 1);
}

static PyObject *backward(PyObject *module, PyObject *args)
{
    stage_t s;
    sizes_t size;
    /* gradient, out, chosen, x, filters, spread, gradients of filters, of the bias, of x */
    Py_buffer v[9];
    (void)module;
    if (!PyArg_ParseTuple(args, STAGE "y*y*y*y*y*w*w*w*w*", STAGE_OF(s), &v[0], &v[1], &v[2], &v[3],
                          &v[4], &v[5], &v[6], &v[7], &v[8]))
        return NULL;
    if (sizes_of(&s, &size) < 0)
        return finish(v, 9, 0);
    int first = v[8].len == 0; /* nobody asks for the gradient of the inputs */
    n_t all = s.groups * size.out;
    n_t counts[] = {all, all, all, s.groups * size.x, size.filters, size.spread, size.filters,
                    s.filters, first ? 0 : s.groups * size.x};
    if (check(v, counts, 9) < 0)
        return finish(v, 9, 0);
    float *spread = v[5].buf;
    Py_BEGIN_ALLOW_THREADS
    memset(v[6].buf, 0, (size_t)v[6].len);
    memset(v[7].buf, 0, (size_t)v[7].len);
    for (n_t g = 0; g < s.groups; g++) {
        WIDE(spread)(&s, (float *)v[0].buf + g * size.out, (float *)v[1].buf + g * size.out,
                     (int32_t *)v[2].buf + g * size.out, spread, v[7].buf);
        WIDE(weights)(&s, (float *)v[3].buf + g * size.x, spread, v[6].buf);
        if (!first)
            WIDE(inputs)(&s, spread, v[4].buf, (float *)v[8].buf + g * size.x);
    }
    Py_END_ALLOW_THREADS
    return finish(v, 9, 1);
}

/* Rows [samples][features] to groups [groups][features][width] or back; missing ones are zeros. */
static PyObject *transpose(PyObject *args, int back)
{
    Py_buffer v[2];
    n_t samples, features;
    if (!PyArg_ParseTuple(args, "nny*w*", &samples, &features, &v[0], &v[1]))
        return NULL;
    n_t most = (n_t)1 << 30;
    if (!lanes || samples < 1 || features < 1 || samples > most || features > most) {
        PyErr_SetString(PyExc_ValueError, "there must be samples, features and vector registers");
        return finish(v, 2, 0);
    }
    n_t groups = (samples + lanes - 1) / lanes;
    n_t counts[] = {samples * features, groups * features * lanes};
    n_t turned[] = {counts[1], counts[0]};
    if (check(v, back ? turned : counts, 2) < 0)
        return finish(v, 2, 0);
    const float *restrict from = v[0].buf;
    float *restrict to = v[1].buf;
    Py_BEGIN_ALLOW_THREADS
    for (n_t g = 0; g < groups; g++) {
        n_t here = samples - g * lanes < lanes ? samples - g * lanes : lanes;
        for (n_t f = 0; f < features; f++) {
            n_t group = (g * features + f) * lanes, row = g * lanes * features + f;
            for (n_t l = 0; l < here; l++) {
                if (back)
                    to[row + l * features] = from[group + l];
                else
                    to[group + l] = from[row + l * features];
            }
            for (n_t l = here; l < lanes && !back; l++)
                to[group + l] = 0;
        }
    }
    Py_END_ALLOW_THREADS
    return finish(v, 2, 1);
}

static PyObject *group(PyObject *module, PyObject *args)
{
    (void)module;
    return transpose(args, 0);
}

static PyObject *ungroup(PyObject *module, PyObject *args)
{
    (void)module;
    return transpose(args, 1);
}

static PyObject *width(PyObject *module, PyObject *args)
{
    int wanted = -1, most = widest();
    (void)module;
    if (!PyArg_ParseTuple(args, "|i", &wanted))
        return NULL;
    if (wanted != -1) {
        if (wanted > most || (wanted != 0 && wanted != 8 && wanted != 16))
            return PyErr_Format(PyExc_ValueError, "width %d: 0, 8 or 16, at most %d", wanted, most);
        lanes = wanted;
    }
    return PyLong_FromLong(lanes);
}

static PyMethodDef methods[] = {
    {"forward", forward, METH_VARARGS,
     "forward(stage, x, filters, bias, out, chosen): fill `out` and `chosen`."},
    {"backward", backward, METH_VARARGS,
     "backward(stage, gradient, out, chosen, x, filters, spread, ...): fill the last three."},
    {"group", group, METH_VARARGS, "group(samples, features, rows, groups): fill `groups`."},
    {"ungroup", ungroup, METH_VARARGS, "ungroup(samples, features, groups, rows): fill `rows`."},
    {"width", width, METH_VARARGS, "width([wanted]): floats a register holds, 0 where unusable."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_stages", "Convolution, ReLU and pooling, and their gradients.", 0,
    methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__stages(void)
{
    lanes = widest();
    return PyModuleDef_Init(&definition);
}
