/* Texture matrices of one discretised lesion: counts of voxel pairs, runs, zones and neighbours.
 *
 * Every function takes grey levels as a C-contiguous int32 array [slice, row, column], 0 outside
 * the lesion and 1 to ng inside, and directions as int32 (n, 3). Levels are copied once onto a grid
 * with a rim of zeros as wide as the longest step, so that no neighbour needs a bounds check.
 * Results go into arrays the caller has made: their sizes are checked here before anything is
 * written, and memory that cannot be had is a MemoryError. Sums are whole numbers, but for the
 * NGTDM's, which are added in PyRadiomics' order.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  int32_t *cells;     /* levels with their rim */
  Py_ssize_t size[3]; /* without the rim */
  Py_ssize_t rim[3];
  Py_ssize_t step[3]; /* from one slice, row, column to the next */
  Py_ssize_t total;   /* cells with the rim */
  Py_ssize_t voxels;  /* cells above zero */
  int32_t largest;
} Grid;

typedef struct {
  Py_ssize_t n;
  const int32_t *triples;
  Py_ssize_t *jumps; /* the same as distances between cells */
} Steps;

static int is_int32(const Py_buffer *view)
{
  return view->itemsize == 4 && view->format != NULL && strcmp(view->format, "i") == 0;
}

/* A C-contiguous buffer that may be written to, of `count` items of one of the one-letter formats
 * and so many bytes each (int64 is "l" here and "q" there). */
static int get_output(PyObject *object, Py_buffer *view, const char *formats, Py_ssize_t bytes,
                      Py_ssize_t count)
{
  if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE) < 0)
    return 0;
  if (view->format == NULL || strlen(view->format) != 1 || !strchr(formats, view->format[0]) ||
      view->itemsize != bytes || view->len / bytes != count) {
    PyErr_Format(PyExc_ValueError, "found an output of format %s and %zd bytes, wanted %zd of %s",
                 view->format ? view->format : "?", view->len, count, formats);
    PyBuffer_Release(view);
    return 0;
  }
  return 1;
}

/* The product of sizes, or -1 with OverflowError. Beside a zero no size may be vast either: a
   caller adds one to them afterwards. */
static Py_ssize_t product(const Py_ssize_t *sizes, int n)
{
  Py_ssize_t result = 1;
  for (int at = 0; at < n; at++) {
    if (sizes[at] < 0 || sizes[at] > PY_SSIZE_T_MAX / 64 ||
        (sizes[at] > 0 && result > PY_SSIZE_T_MAX / 64 / sizes[at])) {
      PyErr_SetString(PyExc_OverflowError, "found more cells than can be addressed");
      return -1;
    }
    result *= sizes[at];
  }
  return result;
}

static void drop(Grid *grid, Steps *steps)
{
  PyMem_Free(grid->cells);
  PyMem_Free(steps->jumps);
  grid->cells = NULL;
  steps->jumps = NULL;
}

static int read_steps(const Py_buffer *view, Grid *grid, Steps *steps)
{
  if (!is_int32(view) || view->ndim != 2 || view->shape[1] != 3 || view->shape[0] < 1) {
    PyErr_SetString(PyExc_ValueError, "found directions of another kind, wanted int32 (n, 3)");
    return 0;
  }
  steps->n = view->shape[0];
  steps->triples = view->buf;
  for (Py_ssize_t at = 0; at < steps->n; at++) {
    const int32_t *triple = steps->triples + 3 * at;
    for (int axis = 0; axis < 3; axis++) {
      Py_ssize_t reach = triple[axis] < 0 ? -(Py_ssize_t)triple[axis] : triple[axis];
      if (reach >= grid->size[axis] && reach > 0) {
        PyErr_SetString(PyExc_ValueError, "found a direction that leads out of the array");
        return 0;
      }
      if (reach > grid->rim[axis])
        grid->rim[axis] = reach;
    }
    if (!triple[0] && !triple[1] && !triple[2]) {
      PyErr_SetString(PyExc_ValueError, "found a direction that leads nowhere");
      return 0;
    }
  }
  return 1;
}

static int copy_levels(const Py_buffer *view, Grid *grid)
{
  Py_ssize_t full[3];
  for (int axis = 0; axis < 3; axis++)
    full[axis] = grid->size[axis] + 2 * grid->rim[axis];
  grid->total = product(full, 3);
  if (grid->total < 0)
    return 0;
  grid->step[0] = full[1] * full[2];
  grid->step[1] = full[2];
  grid->step[2] = 1;
  grid->cells = PyMem_Calloc((size_t)grid->total, sizeof *grid->cells);
  if (grid->cells == NULL) {
    PyErr_NoMemory();
    return 0;
  }
  const int32_t *from = view->buf;
  int32_t smallest = 0;
  for (Py_ssize_t z = 0; z < grid->size[0]; z++)
    for (Py_ssize_t y = 0; y < grid->size[1]; y++) {
      int32_t *to = grid->cells + (z + grid->rim[0]) * grid->step[0] +
                    (y + grid->rim[1]) * grid->step[1] + grid->rim[2];
      memcpy(to, from, (size_t)grid->size[2] * sizeof *to);
      for (Py_ssize_t x = 0; x < grid->size[2]; x++) {
        grid->voxels += to[x] != 0;
        smallest = to[x] < smallest ? to[x] : smallest;
        grid->largest = to[x] > grid->largest ? to[x] : grid->largest;
      }
      from += grid->size[2];
    }
  if (smallest < 0) {
    PyErr_Format(PyExc_ValueError, "found grey level %d, wanted 1 or more", (int)smallest);
    return 0;
  }
  return 1;
}

/* Levels and directions, checked and ready; 0 with an exception set, and nothing to drop. */
static int prepare(PyObject *levels, PyObject *directions, Py_ssize_t ng, Grid *grid, Steps *steps,
                   Py_buffer *kept)
{
  Py_buffer view;
  memset(grid, 0, sizeof *grid);
  memset(steps, 0, sizeof *steps);
  if (PyObject_GetBuffer(levels, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
    return 0;
  if (PyObject_GetBuffer(directions, kept, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
    PyBuffer_Release(&view);
    return 0;
  }
  int fit = is_int32(&view) && view.ndim == 3;
  if (!fit)
    PyErr_SetString(PyExc_ValueError, "found levels of another kind, wanted int32 in 3 dimensions");
  else
    memcpy(grid->size, view.shape, sizeof grid->size);
  fit = fit && read_steps(kept, grid, steps) && copy_levels(&view, grid);
  if (fit && grid->largest > ng) {
    PyErr_Format(PyExc_ValueError, "found grey level %d, wanted at most %zd", (int)grid->largest,
                 ng);
    fit = 0;
  }
  PyBuffer_Release(&view);
  if (fit) {
    steps->jumps = PyMem_Malloc((size_t)steps->n * sizeof *steps->jumps);
    if (steps->jumps == NULL) {
      PyErr_NoMemory();
      fit = 0;
    }
  }
  for (Py_ssize_t at = 0; fit && at < steps->n; at++) {
    steps->jumps[at] = 0;
    for (int axis = 0; axis < 3; axis++)
      steps->jumps[at] += steps->triples[3 * at + axis] * grid->step[axis];
  }
  if (!fit) {
    drop(grid, steps);
    PyBuffer_Release(kept);
  }
  return fit;
}

static Py_ssize_t row_start(const Grid *grid, Py_ssize_t z, Py_ssize_t y)
{
  return (z + grid->rim[0]) * grid->step[0] + (y + grid->rim[1]) * grid->step[1] + grid->rim[2];
}

/* ---- pairs: pairs[i - 1][j - 1][direction], doubles ---- */

static void count_pairs(const Grid *grid, Py_ssize_t jump, Py_ssize_t width, int64_t *table)
{
  for (Py_ssize_t z = 0; z < grid->size[0]; z++)
    for (Py_ssize_t y = 0; y < grid->size[1]; y++) {
      const int32_t *row = grid->cells + row_start(grid, z, y);
      for (Py_ssize_t x = 0; x < grid->size[2]; x++)
        if (row[x]) /* a neighbour outside is level 0: its column is left out afterwards */
          table[row[x] * width + row[x + jump]]++;
    }
}

static PyObject *pairs(PyObject *self, PyObject *args)
{
  PyObject *levels, *directions, *result;
  Py_ssize_t ng;
  Grid grid;
  Steps steps;
  Py_buffer kept, out;
  if (!PyArg_ParseTuple(args, "OOnO", &levels, &directions, &ng, &result) ||
      !prepare(levels, directions, ng, &grid, &steps, &kept))
    return NULL;
  Py_ssize_t sizes[3] = {ng, ng, steps.n};
  Py_ssize_t count = product(sizes, 3), cells = -1;
  if (count >= 0) {
    Py_ssize_t wide[2] = {ng + 1, ng + 1};
    cells = product(wide, 2);
  }
  int done = cells >= 0 && get_output(result, &out, "d", 8, count);
  if (done) {
    double *to = out.buf;
    int64_t *table = PyMem_Malloc((size_t)cells * sizeof *table);
    if (table == NULL) {
      PyErr_NoMemory();
      done = 0;
    }
    for (Py_ssize_t a = 0; done && a < steps.n; a++) {
      memset(table, 0, (size_t)cells * sizeof *table);
      count_pairs(&grid, steps.jumps[a], ng + 1, table);
      for (Py_ssize_t i = 0; i < ng; i++)
        for (Py_ssize_t j = 0; j < ng; j++)
          to[(i * ng + j) * steps.n + a] = (double)table[(i + 1) * (ng + 1) + j + 1];
    }
    PyMem_Free(table);
    PyBuffer_Release(&out);
  }
  drop(&grid, &steps);
  PyBuffer_Release(&kept);
  return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- runs: runs[i - 1][length - 1][direction], doubles ---- */

/* How many voxels have a run of at least so many behind them, themselves included. */
static void count_reaches(const Grid *grid, Py_ssize_t jump, Py_ssize_t nr, int32_t *behind,
                          int64_t *table)
{
  for (Py_ssize_t z = 0; z < grid->size[0]; z++)
    for (Py_ssize_t y = 0; y < grid->size[1]; y++) {
      Py_ssize_t start = row_start(grid, z, y);
      const int32_t *row = grid->cells + start;
      int32_t *reach = behind + start;
      for (Py_ssize_t x = 0; x < grid->size[2]; x++)
        if (row[x]) {
          int32_t on = row[x - jump] == row[x] ? reach[x - jump] : 0;
          reach[x] = on + 1;
          table[(Py_ssize_t)(row[x] - 1) * (nr + 1) + on]++;
        }
    }
}

/* Whether any line along the direction has two voxels of the lesion, with or without a gap. */
static int any_line_of_two(const Grid *grid, Py_ssize_t jump, int32_t *behind)
{
  memset(behind, 0, (size_t)grid->total * sizeof *behind);
  for (Py_ssize_t z = 0; z < grid->size[0]; z++)
    for (Py_ssize_t y = 0; y < grid->size[1]; y++) {
      Py_ssize_t start = row_start(grid, z, y);
      for (Py_ssize_t at = start; at < start + grid->size[2]; at++) {
        if (behind[at - jump] && grid->cells[at])
          return 1;
        behind[at] = behind[at - jump] || grid->cells[at];
      }
    }
  return 0;
}

static PyObject *runs(PyObject *self, PyObject *args)
{
  PyObject *levels, *directions, *result;
  Py_ssize_t ng, nr;
  Grid grid;
  Steps steps;
  Py_buffer kept, out;
  if (!PyArg_ParseTuple(args, "OOnnO", &levels, &directions, &ng, &nr, &result) ||
      !prepare(levels, directions, ng, &grid, &steps, &kept))
    return NULL;
  Py_ssize_t sizes[3] = {ng, nr, steps.n};
  Py_ssize_t count = product(sizes, 3), cells = -1;
  if (count >= 0) {
    Py_ssize_t wide[2] = {ng, nr + 1};
    cells = product(wide, 2);
  }
  int done = cells >= 0;
  for (int axis = 0; done && axis < 3; axis++)
    if (grid.size[axis] > nr || grid.rim[axis] > 1) {
      PyErr_SetString(PyExc_ValueError, "found runs longer than asked for, or a step of two");
      done = 0;
    }
  done = done && get_output(result, &out, "d", 8, count);
  if (done) {
    double *to = out.buf;
    int64_t *table = PyMem_Malloc((size_t)cells * sizeof *table);
    int32_t *behind = PyMem_Malloc((size_t)grid.total * sizeof *behind);
    if (table == NULL || behind == NULL) {
      PyErr_NoMemory();
      done = 0;
    }
    for (Py_ssize_t a = 0; done && a < steps.n; a++) {
      /* Backwards and forwards the runs are the same; what lies behind must come first. */
      Py_ssize_t jump = steps.jumps[a] < 0 ? -steps.jumps[a] : steps.jumps[a];
      memset(table, 0, (size_t)cells * sizeof *table);
      count_reaches(&grid, jump, nr, behind, table);
      /* As PyRadiomics: a direction in which no line meets the lesion twice has no runs. */
      int real = 0;
      for (Py_ssize_t i = 0; nr > 1 && !real && i < ng; i++)
        real = table[i * (nr + 1) + 1] > 0;
      real = real || any_line_of_two(&grid, jump, behind);
      for (Py_ssize_t i = 0; i < ng; i++)
        for (Py_ssize_t r = 0; r < nr; r++) {
          const int64_t *at = table + i * (nr + 1) + r;
          to[(i * nr + r) * steps.n + a] = real ? (double)(at[0] - at[1]) : 0.0;
        }
    }
    PyMem_Free(table);
    PyMem_Free(behind);
    PyBuffer_Release(&out);
  }
  drop(&grid, &steps);
  PyBuffer_Release(&kept);
  return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- zones: level and size of every connected zone of one level ---- */

static Py_ssize_t find_zones(Grid *grid, const Steps *steps, Py_ssize_t *stack, int32_t *level,
                             int64_t *size)
{
  Py_ssize_t found = 0;
  for (Py_ssize_t z = 0; z < grid->size[0]; z++)
    for (Py_ssize_t y = 0; y < grid->size[1]; y++) {
      Py_ssize_t start = row_start(grid, z, y);
      for (Py_ssize_t at = start; at < start + grid->size[2]; at++) {
        int32_t own = grid->cells[at];
        if (!own)
          continue;
        Py_ssize_t top = 0;
        int64_t voxels = 0;
        grid->cells[at] = 0; /* a voxel is put on the stack once: the stack holds them all */
        stack[top++] = at;
        while (top) {
          Py_ssize_t from = stack[--top];
          voxels++;
          for (Py_ssize_t a = 0; a < steps->n; a++) {
            Py_ssize_t to = from + steps->jumps[a];
            if (grid->cells[to] == own) {
              grid->cells[to] = 0;
              stack[top++] = to;
            }
          }
        }
        level[found] = own;
        size[found++] = voxels;
      }
    }
  return found;
}

static PyObject *zones(PyObject *self, PyObject *args)
{
  PyObject *levels, *directions, *to_levels, *to_sizes;
  Py_ssize_t ng, found = 0;
  Grid grid;
  Steps steps;
  Py_buffer kept, level, size;
  if (!PyArg_ParseTuple(args, "OOnOO", &levels, &directions, &ng, &to_levels, &to_sizes) ||
      !prepare(levels, directions, ng, &grid, &steps, &kept))
    return NULL;
  int done = get_output(to_levels, &level, "i", 4, grid.voxels);
  if (done) {
    done = get_output(to_sizes, &size, "lq", 8, grid.voxels);
    if (done) {
      Py_ssize_t *stack = PyMem_Malloc((size_t)(grid.voxels + 1) * sizeof *stack);
      if (stack == NULL) {
        PyErr_NoMemory();
        done = 0;
      }
      else
        found = find_zones(&grid, &steps, stack, level.buf, size.buf);
      PyMem_Free(stack);
      PyBuffer_Release(&size);
    }
    PyBuffer_Release(&level);
  }
  drop(&grid, &steps);
  PyBuffer_Release(&kept);
  return done ? PyLong_FromSsize_t(found) : NULL;
}

/* ---- dependences: dependences[i - 1][dependent neighbours], doubles ---- */

static void dependent_in_row(const int32_t *row, Py_ssize_t n, Py_ssize_t jump, int32_t alpha,
                             int32_t *count)
{
  if (alpha == 0) { /* what equals a level above zero lies inside as well */
    for (Py_ssize_t x = 0; x < n; x++)
      count[x] += row[x + jump] == row[x];
    return;
  }
  for (Py_ssize_t x = 0; x < n; x++) {
    int32_t gap = row[x + jump] - row[x];
    count[x] += (row[x + jump] != 0) & ((gap < 0 ? -gap : gap) <= alpha);
  }
}

static PyObject *dependences(PyObject *self, PyObject *args)
{
  PyObject *levels, *directions, *result;
  Py_ssize_t ng;
  int alpha;
  Grid grid;
  Steps steps;
  Py_buffer kept, out;
  if (!PyArg_ParseTuple(args, "OOniO", &levels, &directions, &ng, &alpha, &result) ||
      !prepare(levels, directions, ng, &grid, &steps, &kept))
    return NULL;
  Py_ssize_t sizes[2] = {ng, steps.n + 1};
  Py_ssize_t cells = product(sizes, 2);
  int done = cells >= 0 && get_output(result, &out, "d", 8, cells);
  if (done) {
    double *to = out.buf;
    memset(to, 0, (size_t)cells * sizeof *to);
    int32_t *count = PyMem_Malloc((size_t)(grid.size[2] + 1) * sizeof *count);
    if (count == NULL) {
      PyErr_NoMemory();
      done = 0;
    }
    for (Py_ssize_t z = 0; done && z < grid.size[0]; z++)
      for (Py_ssize_t y = 0; y < grid.size[1]; y++) {
        const int32_t *row = grid.cells + row_start(&grid, z, y);
        memset(count, 0, (size_t)grid.size[2] * sizeof *count);
        for (Py_ssize_t a = 0; a < steps.n; a++)
          dependent_in_row(row, grid.size[2], steps.jumps[a], alpha, count);
        for (Py_ssize_t x = 0; x < grid.size[2]; x++)
          if (row[x])
            to[(Py_ssize_t)(row[x] - 1) * (steps.n + 1) + count[x]]++;
      }
    PyMem_Free(count);
    PyBuffer_Release(&out);
  }
  drop(&grid, &steps);
  PyBuffer_Release(&kept);
  return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- differences: differences[i - 1] = voxels, summed difference from the neighbours' mean ---- */

static void add_row(const Grid *grid, const Steps *steps, const int32_t *row, int64_t *sum,
                    int32_t *count, double *to)
{
  Py_ssize_t n = grid->size[2];
  memset(sum, 0, (size_t)n * sizeof *sum);
  memset(count, 0, (size_t)n * sizeof *count);
  for (Py_ssize_t a = 0; a < steps->n; a++)
    for (Py_ssize_t x = 0; x < n; x++) {
      sum[x] += row[x + steps->jumps[a]];
      count[x] += row[x + steps->jumps[a]] != 0;
    }
  for (Py_ssize_t x = 0; x < n; x++) {
    if (!row[x])
      continue;
    double gap = count[x] ? (double)row[x] - (double)sum[x] / (double)count[x] : 0.0;
    double *at = to + (Py_ssize_t)(row[x] - 1) * 2;
    at[0]++;
    at[1] += gap < 0 ? -gap : gap;
  }
}

static PyObject *differences(PyObject *self, PyObject *args)
{
  PyObject *levels, *directions, *result;
  Py_ssize_t ng;
  Grid grid;
  Steps steps;
  Py_buffer kept, out;
  if (!PyArg_ParseTuple(args, "OOnO", &levels, &directions, &ng, &result) ||
      !prepare(levels, directions, ng, &grid, &steps, &kept))
    return NULL;
  Py_ssize_t sizes[2] = {ng, 2};
  Py_ssize_t cells = product(sizes, 2);
  int done = cells >= 0 && get_output(result, &out, "d", 8, cells);
  if (done) {
    double *to = out.buf;
    memset(to, 0, (size_t)cells * sizeof *to);
    int64_t *sum = PyMem_Malloc((size_t)(grid.size[2] + 1) * sizeof *sum);
    int32_t *count = PyMem_Malloc((size_t)(grid.size[2] + 1) * sizeof *count);
    if (sum == NULL || count == NULL) {
      PyErr_NoMemory();
      done = 0;
    }
    for (Py_ssize_t z = 0; done && z < grid.size[0]; z++)
      for (Py_ssize_t y = 0; y < grid.size[1]; y++)
        add_row(&grid, &steps, grid.cells + row_start(&grid, z, y), sum, count, to);
    PyMem_Free(sum);
    PyMem_Free(count);
    PyBuffer_Release(&out);
  }
  drop(&grid, &steps);
  PyBuffer_Release(&kept);
  return done ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"pairs", pairs, METH_VARARGS, "pairs(levels, directions, ng, out (ng, ng, n) float64)"},
    {"runs", runs, METH_VARARGS, "runs(levels, directions, ng, nr, out (ng, nr, n) float64)"},
    {"zones", zones, METH_VARARGS,
     "zones(levels, directions, ng, levels out int32, sizes out int64) -> how many"},
    {"dependences", dependences, METH_VARARGS,
     "dependences(levels, directions, ng, alpha, out (ng, n + 1) float64)"},
    {"differences", differences, METH_VARARGS,
     "differences(levels, directions, ng, out (ng, 2) float64)"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_texture", NULL, 0, methods,
                                    NULL,                  NULL,       NULL, NULL};

PyMODINIT_FUNC PyInit__texture(void)
{
  return PyModuleDef_Init(&module);
}
