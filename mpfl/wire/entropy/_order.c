/* Bytes from the order of a vector to the order of small keys and back; grouping.py does the same
 * in NumPy without this, to the same result.
 *
 * A span is cut into four parts with counters of their own, which are worked on in turn: so a step
 * need not wait for the counter that the step before it raised.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>

#define PARTS 4
#define ASIDE 256 /* added to the key of entries that do not count */
#define KEYS (2 * ASIDE)

typedef struct {
    const uint8_t *keys, *inside; /* inside may be NULL: all count */
    Py_ssize_t n, at[PARTS + 1];
} span_t;

static void cut(span_t *span)
{
    Py_ssize_t part = (span->n + PARTS - 1) / PARTS;
    for (int j = 0; j <= PARTS; j++)
        span->at[j] = j * part < span->n ? j * part : span->n;
}

/* Do STEP(part, place) at every place, the parts in turn; the last part is the shortest. Pointers
 * are restrict: bytes may alias anything, and all would be read again after each one is written. */
#define EVERYWHERE(span, STEP)                                                      \
    do {                                                                            \
        const uint8_t *restrict keys = (span)->keys;                                \
        const uint8_t *restrict inside = (span)->inside;                            \
        const Py_ssize_t *at = (span)->at, a = at[0], b = at[1], c = at[2], d = at[3]; \
        const Py_ssize_t together = at[PARTS] - d;                                  \
        (void)inside;                                                               \
        for (Py_ssize_t t = 0; t < together; t++) {                                 \
            STEP(0, a + t);                                                         \
            STEP(1, b + t);                                                         \
            STEP(2, c + t);                                                         \
            STEP(3, d + t);                                                         \
        }                                                                           \
        for (int j = 0; j < PARTS - 1; j++)                                         \
            for (Py_ssize_t i = at[j] + together; i < at[j + 1]; i++)               \
                STEP(j, i);                                                         \
    } while (0)

/* No branch on what is inside: it would be a coin toss. */
#define KEY_ALL(place) (unsigned)keys[place]
#define KEY_INSIDE(place) (unsigned)keys[place] | (unsigned)!inside[place] * ASIDE

#define COUNT(KEY, part, place) counts[part][KEY(place)]++
#define GATHER(KEY, part, place)                                   \
    do {                                                           \
        unsigned key = KEY(place);                                 \
        uint64_t to = (uint64_t)next[part][key];                   \
        if (to >= size)                                            \
            return -1;                                             \
        coded[to] = values[place];                                 \
        next[part][key] = (int64_t)(to + (key < ASIDE));           \
    } while (0)
#define SCATTER(KEY, part, place)                                  \
    do {                                                           \
        unsigned key = KEY(place);                                 \
        uint64_t from = (uint64_t)next[part][key];                 \
        if (from >= size)                                          \
            return -1;                                             \
        uint8_t counted = (uint8_t)-(key < ASIDE);                 \
        values[place] = (uint8_t)((coded[from] & counted) | (values[place] & ~counted)); \
        next[part][key] = (int64_t)(from + (key < ASIDE));         \
    } while (0)

#define COUNT_ALL(part, place) COUNT(KEY_ALL, part, place)
#define COUNT_INSIDE(part, place) COUNT(KEY_INSIDE, part, place)
#define GATHER_ALL(part, place) GATHER(KEY_ALL, part, place)
#define GATHER_INSIDE(part, place) GATHER(KEY_INSIDE, part, place)
#define SCATTER_ALL(part, place) SCATTER(KEY_ALL, part, place)
#define SCATTER_INSIDE(part, place) SCATTER(KEY_INSIDE, part, place)

static void count_all(const span_t *span, int64_t (*restrict counts)[KEYS])
{
    if (span->inside)
        EVERYWHERE(span, COUNT_INSIDE);
    else
        EVERYWHERE(span, COUNT_ALL);
}

/* Return 0, or -1 as soon as a counter leaves the coded entries. */
static int gather_all(const span_t *span, int64_t (*restrict next)[KEYS],
                      const uint8_t *restrict values, uint8_t *restrict coded, uint64_t size)
{
    if (span->inside)
        EVERYWHERE(span, GATHER_INSIDE);
    else
        EVERYWHERE(span, GATHER_ALL);
    return 0;
}

static int scatter_all(const span_t *span, int64_t (*restrict next)[KEYS],
                       const uint8_t *restrict coded, uint8_t *restrict values, uint64_t size)
{
    if (span->inside)
        EVERYWHERE(span, SCATTER_INSIDE);
    else
        EVERYWHERE(span, SCATTER_ALL);
    return 0;
}

static int known(span_t *span, const Py_buffer *keys, const Py_buffer *inside,
                 const Py_buffer *counters)
{
    span->keys = keys->buf;
    span->inside = inside->len ? inside->buf : NULL;
    span->n = keys->len;
    cut(span);
    return (!inside->len || inside->len == keys->len) &&
           counters->len == PARTS * KEYS * (Py_ssize_t)sizeof(int64_t) &&
           (uintptr_t)counters->buf % sizeof(int64_t) == 0;
}

static PyObject *count(PyObject *module, PyObject *args)
{
    Py_buffer keys, inside, counts;
    span_t span;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*w*", &keys, &inside, &counts))
        return NULL;
    int legal = known(&span, &keys, &inside, &counts);
    if (legal) {
        Py_BEGIN_ALLOW_THREADS
        count_all(&span, counts.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&keys);
    PyBuffer_Release(&inside);
    PyBuffer_Release(&counts);
    if (!legal) {
        PyErr_SetString(PyExc_ValueError, "keys, inside and counts do not fit together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *move(PyObject *args, int back)
{
    Py_buffer keys, inside, next, from, to;
    span_t span;
    if (!PyArg_ParseTuple(args, "y*y*w*y*w*", &keys, &inside, &next, &from, &to))
        return NULL;
    const Py_buffer *values = back ? &to : &from, *coded = back ? &from : &to;
    int failed = !known(&span, &keys, &inside, &next) || values->len != keys.len;
    if (!failed) {
        Py_BEGIN_ALLOW_THREADS
        uint64_t size = (uint64_t)coded->len;
        failed = back ? scatter_all(&span, next.buf, coded->buf, values->buf, size)
                      : gather_all(&span, next.buf, values->buf, coded->buf, size);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&keys);
    PyBuffer_Release(&inside);
    PyBuffer_Release(&next);
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (failed) {
        PyErr_SetString(PyExc_ValueError, "keys, inside, counters and entries do not fit together");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *gather(PyObject *module, PyObject *args)
{
    (void)module;
    return move(args, 0);
}

static PyObject *scatter(PyObject *module, PyObject *args)
{
    (void)module;
    return move(args, 1);
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS,
     "count(keys, inside, counts): add up int64[4, 512], the entries of each part and key; those "
     "that are not inside have keys from 256 on."},
    {"gather", gather, METH_VARARGS,
     "gather(keys, inside, next, values, coded): move bytes to where `next` says, which is raised."},
    {"scatter", scatter, METH_VARARGS,
     "scatter(keys, inside, next, coded, values): move them back; others stay as they are."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_order", "The loops of grouping by key.", 0, methods, NULL, NULL,
    NULL, NULL,
};

PyMODINIT_FUNC PyInit__order(void)
{
    return PyModuleDef_Init(&definition);
}
