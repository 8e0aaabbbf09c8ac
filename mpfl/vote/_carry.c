/* Adds ballots to the bit planes of a tally; tally.py does the same in NumPy without this.
 *
 * Array operations make five passes over memory for a full adder, a loop makes one.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define STRIP 1024 /* words added at a time, so that a carry on its way up stays in the cache */
#define MAX_PLANES 33

typedef uint64_t Word;

typedef struct {
    Py_buffer views[MAX_PLANES];
    char *at[MAX_PLANES];
    Py_ssize_t count;
} Buffers;

/* A second carry joins the one that waits; the two never overlap. */
static void absorb(Word *restrict plane, const Word *restrict carry, Word *restrict waiting,
                   Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Word p = plane[i], c = carry[i];
        waiting[i] |= p & c;
        plane[i] = p ^ c;
    }
}

static void half_add(Word *restrict plane, const Word *restrict carry, Word *restrict out,
                     Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Word p = plane[i], c = carry[i];
        out[i] = p & c;
        plane[i] = p ^ c;
    }
}

static void flip(Word *restrict plane, const Word *restrict carry, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        plane[i] ^= carry[i];
}

static Word *words_at(const Buffers *buffers, Py_ssize_t i, Py_ssize_t at)
{
    return (Word *)(void *)buffers->at[i] + at;
}

static void add_strip(const Buffers *planes, const Buffers *carries, Py_ssize_t level,
                      Py_ssize_t last, const Word *carry, Py_ssize_t at, Py_ssize_t n)
{
    Word spilled[2][STRIP];
    for (; level < last; level++) {
        absorb(words_at(planes, level, at), carry, words_at(carries, level, at), n);
        carry = words_at(carries, level, at);
    }
    if (level < carries->count) {
        half_add(words_at(planes, level, at), carry, words_at(carries, level, at), n);
        return;
    }
    for (int side = 0; level < planes->count - 1; level++, side = !side) {
        half_add(words_at(planes, level, at), carry, spilled[side], n);
        carry = spilled[side];
    }
    flip(words_at(planes, level, at), carry, n);
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

static void add_ballot(const Buffers *planes, const Buffers *carries, Py_ssize_t level,
                       Py_ssize_t last, const char *ballot, Py_ssize_t units)
{
    Py_ssize_t words = (units + 63) / 64;
    Word copy[STRIP];
    for (Py_ssize_t at = 0; at < words; at += STRIP) {
        Py_ssize_t n = words - at < STRIP ? words - at : STRIP;
        const Word *strip = (const Word *)(const void *)(ballot + 8 * at);
        if (64 * (at + n) > units || (uintptr_t)strip % sizeof(Word)) {
            copy_words(copy, ballot, at, n, units);
            strip = copy;
        }
        add_strip(planes, carries, level, last, strip, at, n);
    }
}

static void release(Buffers *buffers)
{
    while (buffers->count > 0)
        PyBuffer_Release(&buffers->views[--buffers->count]);
}

static int acquire(Buffers *buffers, PyObject *list, Py_ssize_t bytes, int flags)
{
    Py_ssize_t count = PyList_Size(list);
    if (count > MAX_PLANES) {
        PyErr_Format(PyExc_ValueError, "at most %d buffers", MAX_PLANES);
        return -1;
    }
    for (buffers->count = 0; buffers->count < count;) {
        Py_buffer *view = &buffers->views[buffers->count];
        PyObject *item = PyList_GetItem(list, buffers->count);
        if (!item || PyObject_GetBuffer(item, view, flags) < 0)
            return -1;
        buffers->at[buffers->count++] = view->buf;
        if (view->len != bytes) {
            PyErr_Format(PyExc_ValueError, "got %zd bytes, expected %zd", view->len, bytes);
            return -1;
        }
    }
    return 0;
}

static PyObject *add(PyObject *module, PyObject *args)
{
    PyObject *plane_list, *carry_list, *result = NULL;
    Py_ssize_t level, last, units;
    Buffers planes = {.count = 0}, carries = {.count = 0};
    Py_buffer ballot;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!nny*n", &PyList_Type, &plane_list, &PyList_Type, &carry_list,
                          &level, &last, &ballot, &units))
        return NULL;
    Py_ssize_t bytes = (units + 63) / 64 * 8;
    if (acquire(&planes, plane_list, bytes, PyBUF_WRITABLE) < 0 ||
        acquire(&carries, carry_list, bytes, PyBUF_WRITABLE) < 0)
        goto done;
    if (units < 1 || ballot.len < (units + 7) / 8 || level < 0 || level > last ||
        last >= planes.count || carries.count >= planes.count ||
        (last > level && last > carries.count)) {
        PyErr_SetString(PyExc_ValueError, "ballot, levels and planes do not fit together");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    add_ballot(&planes, &carries, level, last, ballot.buf, units);
    Py_END_ALLOW_THREADS
    result = Py_NewRef(Py_None);
done:
    release(&planes);
    release(&carries);
    PyBuffer_Release(&ballot);
    return result;
}

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS,
     "add(planes, carries, level, last, ballot, units): add packed bits at `level`."},
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
