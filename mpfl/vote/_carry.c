/* Adds ballots to the bit planes of a tally; tally.py does the same in NumPy without this.
 *
 * Array operations make five passes over memory for a full adder, a loop makes one.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define STRIP 128 /* words added at a time, so that ballots, planes and carries stay in the cache */
#define MAX_PLANES 33
#define MAX_BALLOTS 4

typedef uint64_t Word;

typedef struct {
    Py_buffer views[MAX_PLANES];
    Py_ssize_t count;
} Buffers;

static void full_add(Word *restrict plane, const Word *restrict a, const Word *restrict b,
                     Word *restrict carry, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Word p = plane[i], either = p ^ a[i];
        carry[i] = (p & a[i]) | (either & b[i]);
        plane[i] = either ^ b[i];
    }
}

static void half_add(Word *restrict plane, const Word *restrict a, Word *restrict carry,
                     Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Word p = plane[i];
        carry[i] = p & a[i];
        plane[i] = p ^ a[i];
    }
}

/* Add `count` strips of weight 2**level; what they carry is added to the planes above. */
static void add_strips(const Buffers *planes, Py_ssize_t level, const Word **strips,
                       Py_ssize_t count, Py_ssize_t at, Py_ssize_t n)
{
    Word carries[2][MAX_BALLOTS / 2][STRIP];
    for (int side = 0; count && level < planes->count; level++, side = !side) {
        Word *plane = (Word *)planes->views[level].buf + at;
        Py_ssize_t carried = 0;
        for (Py_ssize_t i = 0; i < count; i += 2) {
            Word *carry = carries[side][carried];
            if (i + 1 < count)
                full_add(plane, strips[i], strips[i + 1], carry, n);
            else
                half_add(plane, strips[i], carry, n);
            strips[carried++] = carry;
        }
        count = carried;
    }
}

/* Copy up to n words of a ballot of `units` bits from word `at` on; bits beyond are zero. */
static void copy_words(Word *to, const char *ballot, Py_ssize_t at, Py_ssize_t n,
                       Py_ssize_t units)
{
    Py_ssize_t bits = units - 64 * at < 64 * n ? units - 64 * at : 64 * n;
    memset(to, 0, (size_t)n * sizeof(Word));
    memcpy(to, ballot + 8 * at, (size_t)((bits + 7) / 8));
    if (bits % 8) /* padding is never counted */
        ((unsigned char *)to)[bits / 8] &= (unsigned char)((1u << bits % 8) - 1);
}

static void add_ballots(const Buffers *planes, Py_ssize_t level, const Buffers *ballots,
                        Py_ssize_t units)
{
    Py_ssize_t words = (units + 63) / 64;
    Word copies[MAX_BALLOTS][STRIP];
    const Word *strips[MAX_BALLOTS];
    for (Py_ssize_t at = 0; at < words; at += STRIP) {
        Py_ssize_t n = words - at < STRIP ? words - at : STRIP;
        for (Py_ssize_t i = 0; i < ballots->count; i++) {
            const char *bytes = ballots->views[i].buf;
            strips[i] = (const Word *)(const void *)(bytes + 8 * at);
            if (64 * (at + n) > units || (uintptr_t)bytes % sizeof(Word)) {
                copy_words(copies[i], bytes, at, n, units);
                strips[i] = copies[i];
            }
        }
        add_strips(planes, level, strips, ballots->count, at, n);
    }
}

static void release(Buffers *buffers)
{
    while (buffers->count > 0)
        PyBuffer_Release(&buffers->views[--buffers->count]);
}

static int acquire(Buffers *buffers, PyObject *list, Py_ssize_t most, Py_ssize_t bytes, int flags)
{
    Py_ssize_t count = PyList_Size(list);
    if (count < 1 || count > most) {
        PyErr_Format(PyExc_ValueError, "got %zd buffers, expected 1 to %zd", count, most);
        return -1;
    }
    while (buffers->count < count) {
        Py_buffer *view = &buffers->views[buffers->count];
        PyObject *item = PyList_GetItem(list, buffers->count);
        if (!item || PyObject_GetBuffer(item, view, flags) < 0)
            return -1;
        buffers->count++;
        if (view->len != bytes) {
            PyErr_Format(PyExc_ValueError, "got %zd bytes, expected %zd", view->len, bytes);
            return -1;
        }
    }
    return 0;
}

static PyObject *add(PyObject *module, PyObject *args)
{
    PyObject *plane_list, *ballot_list, *result = NULL;
    Py_ssize_t level, units;
    Buffers planes = {.count = 0}, ballots = {.count = 0};
    (void)module;
    if (!PyArg_ParseTuple(args, "O!nO!n", &PyList_Type, &plane_list, &level, &PyList_Type,
                          &ballot_list, &units))
        return NULL;
    if (units < 1 || level < 0 || level >= PyList_Size(plane_list)) {
        PyErr_SetString(PyExc_ValueError, "units, level and planes do not fit together");
        return NULL;
    }
    if (acquire(&planes, plane_list, MAX_PLANES, (units - 1) / 64 * 8 + 8, PyBUF_WRITABLE) < 0 ||
        acquire(&ballots, ballot_list, MAX_BALLOTS, (units - 1) / 8 + 1, PyBUF_SIMPLE) < 0)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    add_ballots(&planes, level, &ballots, units);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    release(&planes);
    release(&ballots);
    return result;
}

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS,
     "add(planes, level, ballots, units): add packed bits at `level`."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_carry", "Carry-save addition of ballots to bit planes.", 0,
    methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__carry(void)
{
    return PyModuleDef_Init(&definition);
}
