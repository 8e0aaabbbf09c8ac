/* The loops of interleaved rANS; rans_encoder.py and rans_decoder.py do the same in NumPy without
 * this, to the same bytes. A lane is a 32-bit state, symbols go to lanes in turn.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>

#define PRECISION 15
#define SLOTS (1u << PRECISION)
#define LOWEST (1u << 16)
#define BUCKETS 512u
#define BUCKET (SLOTS / BUCKETS)

/* Where the search for a slot's symbol begins: for every BUCKET-th slot of a table its symbol. */
typedef struct {
    uint8_t ready, symbols[BUCKETS];
} guide_t;

static void make_guide(guide_t *guide, const uint16_t *starts, unsigned alphabet)
{
    unsigned symbol = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        while (symbol + 1 < alphabet && starts[symbol + 1] <= bucket * BUCKET)
            symbol++;
        guide->symbols[bucket] = (uint8_t)symbol;
    }
    guide->ready = 1;
}

/* Decode n symbols; returns the next word, or -1 if several lanes find no word where one is due.
 * Adds up what the symbols say, by a table over frequencies.
 * Whether a word is due is a coin toss, so there is no branch on it while there are words. */
static Py_ssize_t decode_all(uint32_t *restrict states, Py_ssize_t lanes, Py_ssize_t row,
                             const uint16_t *restrict words, Py_ssize_t next, Py_ssize_t end,
                             const int64_t *restrict contexts, Py_ssize_t n,
                             const uint16_t *restrict frequencies,
                             const uint16_t *restrict starts, unsigned alphabet,
                             guide_t *restrict guides, const int64_t *restrict says,
                             int64_t *information, uint8_t *restrict out)
{
    int64_t sum = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        guide_t *guide = guides + contexts[i];
        const uint16_t *start = starts + contexts[i] * alphabet;
        uint32_t x = states[row], slot = x & (SLOTS - 1);
        if (!guide->ready)
            make_guide(guide, start, alphabet);
        /* The last symbol whose start is not above the slot: impossible ones start with the next. */
        unsigned symbol = guide->symbols[slot / BUCKET];
        while (symbol + 1 < alphabet && start[symbol + 1] <= slot)
            symbol++;
        uint32_t frequency = frequencies[contexts[i] * alphabet + symbol];
        sum += says[frequency];
        x = frequency * (x >> PRECISION) + slot - start[symbol];
        if (next < end) {
            uint32_t due = x < LOWEST, word = words[next];
            x = due ? x << 16 | word : x;
            next += due;
        } else if (x < LOWEST && lanes > 1)
            return -1;
        states[row] = x;
        out[i] = (uint8_t)symbol;
        row = row + 1 == lanes ? 0 : row + 1;
    }
    *information = sum;
    return next;
}

/* Encode backwards until enough words are out at the end of a stride; returns how many symbols are
 * left. The words stand at the end of their buffer. */
static Py_ssize_t encode_all(uint32_t *restrict states, Py_ssize_t lanes,
                             const uint16_t *restrict frequencies,
                             const uint16_t *restrict starts, Py_ssize_t n,
                             uint16_t *restrict words, Py_ssize_t *at, Py_ssize_t wanted,
                             Py_ssize_t stride)
{
    Py_ssize_t lane = wanted < 0 ? n % lanes : 0, room = *at, free = room, left = n;
    while (left > 0) {
        if (wanted >= 0 && (n - left) % stride == 0 && room - free >= wanted)
            break;
        left--;
        lane = (lane ? lane : lanes) - 1;
        uint32_t x = states[lane], f = frequencies[left];
        uint32_t over = x >= (uint64_t)f << (32 - PRECISION);
        words[free - 1] = (uint16_t)x; /* there is room: a word a symbol at most */
        free -= over;
        x >>= 16 * over;
        states[lane] = ((x / f) << PRECISION) + x % f + starts[left];
    }
    *at = free;
    return left;
}

static int fits(const Py_buffer *view, Py_ssize_t items, Py_ssize_t size)
{
    return view->len == items * size && (uintptr_t)view->buf % (size_t)size == 0;
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    Py_buffer states, words, contexts, frequencies, starts, says, out;
    Py_ssize_t row, next, alphabet;
    int64_t information = 0;
    guide_t *guides = NULL;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*ny*ny*y*y*ny*w*", &states, &row, &words, &next, &contexts,
                          &frequencies, &starts, &alphabet, &says, &out))
        return NULL;
    Py_ssize_t lanes = states.len / 4, n = out.len;
    Py_ssize_t tables = alphabet > 0 ? frequencies.len / 2 / alphabet : 0;
    const int64_t *context = contexts.buf;
    int legal = lanes > 0 && fits(&states, lanes, 4) && fits(&words, words.len / 2, 2) &&
                fits(&contexts, n, 8) && fits(&frequencies, tables * alphabet, 2) &&
                fits(&starts, tables * alphabet, 2) && row >= 0 && row < lanes && next >= 0 &&
                next <= words.len / 2 && alphabet <= 256 && fits(&says, SLOTS + 1, 8);
    for (Py_ssize_t i = 0; legal && i < tables * alphabet; i++)
        legal = ((const uint16_t *)frequencies.buf)[i] <= SLOTS;
    for (Py_ssize_t i = 0; legal && i < n; i++)
        legal = context[i] >= 0 && context[i] < tables;
    if (!legal) {
        PyErr_SetString(PyExc_ValueError, "states, words, contexts and tables do not fit together");
        goto done;
    }
    guides = PyMem_Calloc((size_t)tables, sizeof(guide_t));
    if (!guides) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    next = decode_all(states.buf, lanes, row, words.buf, next, words.len / 2, context, n,
                      frequencies.buf, starts.buf, (unsigned)alphabet, guides, says.buf,
                      &information, out.buf);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("nL", next, (long long)information);
done:
    PyMem_Free(guides);
    PyBuffer_Release(&states);
    PyBuffer_Release(&words);
    PyBuffer_Release(&contexts);
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&says);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *encode(PyObject *module, PyObject *args)
{
    Py_buffer states, frequencies, starts, words;
    Py_ssize_t wanted, stride, left;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "w*y*y*w*nn", &states, &frequencies, &starts, &words, &wanted,
                          &stride))
        return NULL;
    Py_ssize_t lanes = states.len / 4, n = frequencies.len / 2, at = words.len / 2;
    const uint16_t *frequency = frequencies.buf;
    int legal = lanes > 0 && fits(&states, lanes, 4) && fits(&frequencies, n, 2) &&
                fits(&starts, n, 2) && fits(&words, at, 2) && at >= n && stride > 0;
    for (Py_ssize_t i = 0; legal && i < n; i++)
        legal = frequency[i] > 0;
    if (!legal) {
        PyErr_SetString(PyExc_ValueError, "states, symbols and words do not fit together");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    left = encode_all(states.buf, lanes, frequencies.buf, starts.buf, n, words.buf, &at, wanted,
                      stride);
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("nn", left, at);
done:
    PyBuffer_Release(&states);
    PyBuffer_Release(&frequencies);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&words);
    return result;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS,
     "decode(states, row, words, next, contexts, frequencies, starts, alphabet, says, "
     "out): fill out; returns the next word, -1 where one is missing, and the sum of what says has "
     "for each symbol's frequency."},
    {"encode", encode, METH_VARARGS,
     "encode(states, frequencies, starts, words, wanted, stride): returns how many symbols are "
     "left and where the words begin."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_lanes", "The loops of interleaved rANS.", 0, methods, NULL, NULL,
    NULL, NULL,
};

PyMODINIT_FUNC PyInit__lanes(void)
{
    return PyModuleDef_Init(&definition);
}
