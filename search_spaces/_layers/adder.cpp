// The adder convolution and its input gradient on float32, for one processor of any vector width.
//
// Output: |x - w| = 2 max(x, w) - x - w takes two instructions per tap; the sum of x over a window
// is shared by all filters, that of w taken once. Lanes are filters; a tile is P windows x V
// vectors of filters, read where they lie: no columns are made.
// Input gradient: sum of clip(w - x, -1, 1) * g, gathered for each input place from the outputs
// that saw it. Lanes are channels; a tile is P places whose x and sums stay in registers.
//
// Both work on bands of rows that fit into the second-level cache, staged channels last with their
// zero border. Results do not depend on the number of threads.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512DQ__)
constexpr int VL = 16, P = 8, V = 2;
#elif defined(__AVX2__)
constexpr int VL = 8, P = 4, V = 2;
#else
constexpr int VL = 4, P = 4, V = 2;
#endif
constexpr int64_t BAND = 64 * 1024;  // floats that a band may stage
constexpr int64_t FEW = 96;          // terms that are added up in a row

typedef float vec __attribute__((vector_size(VL * 4)));
typedef float loose __attribute__((vector_size(VL * 4), aligned(4), may_alias));

inline vec load(const float* at) { return *(const loose*)at; }
inline void store(float* at, vec v) { *(loose*)at = v; }
inline vec all(float v) { return v - vec{}; }

// The larger of two, lane by lane; the second where one is not a number.
inline vec larger(vec a, vec b) {
#if defined(__AVX512DQ__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// v clipped to [-1, 1], exact, and exactly 0 at 0.
inline vec clip(vec v) {
#if defined(__AVX512DQ__)
  return _mm512_range_ps(v, all(1.f), 2);  // the smaller magnitude, with the sign of v
#elif defined(__AVX2__)
  return _mm256_max_ps(all(-1.f), _mm256_min_ps(all(1.f), v));
#elif defined(__SSE__)
  return _mm_max_ps(all(-1.f), _mm_min_ps(all(1.f), v));
#else
  const vec one = all(1.f), below = one < v ? one : v;
  return -one > below ? -one : below;
#endif
}

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

float* room(int64_t floats) { return (float*)aligned_alloc(64, (size_t)up(4 * floats + 64, 64)); }

// One image (channels, height, width), channels innermost or outermost.
struct Image {
  int64_t channels, height, width, last;

  // Copy rows [top, top + rows) and columns [left, left + columns) channels last, `step` floats
  // a place; zeros stand for what is outside the image and beyond its channels.
  void stage(const float* from, int64_t top, int64_t rows, int64_t left, int64_t columns,
             int64_t step, float* to) const {
    const int64_t first = most(0, -left), end = most(first, least(columns, width - left));
    for (int64_t i = 0; i < rows; i++, to += columns * step) {
      const int64_t y = top + i;
      if (y < 0 || y >= height || first >= columns) {
        memset(to, 0, 4 * columns * step);
        continue;
      }
      memset(to, 0, 4 * first * step);
      memset(to + end * step, 0, 4 * (columns - end) * step);
      if (last && step == channels) {
        memcpy(to + first * step, from + (y * width + left + first) * channels,
               4 * (end - first) * channels);
        continue;
      }
      // Channels outermost: a row of each is read in one go, and what is written stays near.
      const float* row = from + (last ? (y * width + left) * channels : y * width + left);
      for (int64_t c = 0; c < step; c++)
        for (int64_t j = first; j < end; j++)
          to[j * step + c] = c >= channels ? 0 : row[last ? j * channels + c : c * height * width + j];
    }
  }

  // Copy staged whole rows [top, top + rows) back.
  void unstage(const float* from, int64_t top, int64_t rows, int64_t step, float* to) const {
    for (int64_t y = top; y < top + rows; y++, from += width * step)
      for (int64_t c = 0; c < channels; c++)
        for (int64_t j = 0; j < width; j++)
          to[last ? (y * width + j) * channels + c : (c * height + y) * width + j] =
              from[j * step + c];
  }
};

// Sum of x over each window of a staged band: rows x columns places -> out_rows x out_columns.
void window_sums(const float* x, int64_t channels, int64_t rows, int64_t columns, int64_t kernel,
                 int64_t stride, int64_t out_rows, int64_t out_columns, float* places,
                 float* across, float* sums) {
  for (int64_t i = 0; i < rows * columns; i++, x += channels) {
    vec total = {};
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) total += load(x + c);
    float lanes[VL], sum = 0;
    store(lanes, total);
    for (int half = VL / 2; half; half /= 2)
      for (int v = 0; v < half; v++) lanes[v] += lanes[v + half];
    for (; c < channels; c++) sum += x[c];
    places[i] = sum + lanes[0];
  }
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < out_columns; j++) {
      float sum = 0;
      for (int64_t b = 0; b < kernel; b++) sum += places[i * columns + j * stride + b];
      across[i * out_columns + j] = sum;
    }
  for (int64_t i = 0; i < out_rows; i++)
    for (int64_t j = 0; j < out_columns; j++) {
      float sum = 0;
      for (int64_t a = 0; a < kernel; a++) sum += across[(i * stride + a) * out_columns + j];
      sums[i * out_columns + j] = sum;
    }
}

// P windows x V vectors of filters. A window is `kernel` runs of `run` floats, `row` floats apart;
// w holds `filters` floats for each of its places.
template <int VS>
inline void windows(const float* const* x, float* const* y, const float* x_sums,
                    const float* w_sums, const float* w, int64_t filters, int64_t kernel,
                    int64_t run, int64_t row) {
  vec total[P][VS];
  const float* at[P];
  for (int p = 0; p < P; p++) {
    at[p] = x[p];
    for (int v = 0; v < VS; v++) total[p][v] = (load(w_sums + v * VL) + x_sums[p]) * -.5f;
  }
  for (int64_t a = 0; a < kernel; a++) {
    for (int64_t q = 0; q < run;) {
      vec part[P][VS] = {};  // a sum of few terms loses less
      for (const int64_t end = least(run, q + FEW); q < end; q++, w += filters) {
        vec taps[VS];
        for (int v = 0; v < VS; v++) taps[v] = load(w + v * VL);
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
          const vec place = all(at[p][q]);
#pragma GCC unroll 2
          for (int v = 0; v < VS; v++) part[p][v] += larger(place, taps[v]);
        }
      }
      for (int p = 0; p < P; p++)
        for (int v = 0; v < VS; v++) total[p][v] += part[p][v];
    }
    for (int p = 0; p < P; p++) at[p] += row;
  }
  for (int p = 0; p < P; p++)
    for (int v = 0; v < VS; v++) store(y[p] + v * VL, total[p][v] * -2.f);
}

// The taps of one class of places: offsets into the staged gradient and into the packed weight.
struct Taps {
  int64_t count;
  const int64_t *of_gradient, *of_weight;
};

// P places x one vector of channels; g points at each place's gradient.
inline void places(const float* const* x, const float* const* g, float* const* to, const float* w,
                   int64_t filters, int64_t channels, const Taps& taps) {
  vec total[P], here[P];
  for (int p = 0; p < P; p++) total[p] = vec{}, here[p] = load(x[p]);
  for (int64_t t = 0; t < taps.count; t++) {
    const float *at[P], *row = w + taps.of_weight[t];
    for (int p = 0; p < P; p++) at[p] = g[p] + taps.of_gradient[t];
    for (int64_t o = 0; o < filters; o++, row += channels) {
      const vec tap = load(row);
#pragma GCC unroll 8
      for (int p = 0; p < P; p++) total[p] += clip(tap - here[p]) * at[p][o];
    }
  }
  for (int p = 0; p < P; p++) store(to[p], here[p] == here[p] ? total[p] : here[p]);
}

}  // namespace

extern "C" {

// What both functions are told. Strides of w are those of (filter, channel, row, column).
struct Job {
  int64_t samples, channels, height, width, filters, kernel, stride, padding;
  int64_t out_height, out_width, x_last, y_last, w_strides[4], threads;
};

// y = -sum |x - w|; 1 where memory is short, else 0.
int adder_forward(const Job* job, const float* x, const float* w, float* y) {
  const Job s = *job;
  const Image in = {s.channels, s.height, s.width, s.x_last};
  const Image out = {s.filters, s.out_height, s.out_width, s.y_last};
  const int64_t k = s.kernel, step = up(s.filters, VL), columns = s.width + 2 * s.padding;
  const bool direct = s.y_last && step == s.filters, whole = s.x_last && !s.padding;
  int64_t rows = most(1, BAND / (columns * s.channels * s.stride));
  rows = least(rows, up(s.out_height * s.samples, s.threads) / s.threads);
  rows = most(1, least(rows, s.out_height));
  const int64_t bands = (s.out_height + rows - 1) / rows, deep = (rows - 1) * s.stride + k;
  float* packed = room(k * k * s.channels * step + step);
  if (!packed) return 1;
  float* w_sums = packed + k * k * s.channels * step;
  int failed = 0;
#pragma omp parallel num_threads(s.threads) reduction(| : failed)
  {
#pragma omp for schedule(static)
    for (int64_t o = 0; o < step; o++) {
      float total = 0;
      for (int64_t c = 0; c < s.channels; c++) {
        float sum = 0;
        for (int64_t t = 0; t < k * k; t++) {
          const int64_t at = o * s.w_strides[0] + c * s.w_strides[1] + t / k * s.w_strides[2] +
                             t % k * s.w_strides[3];
          const float value = o < s.filters ? w[at] : 0;
          packed[(t * s.channels + c) * step + o] = value;
          sum += value;
        }
        total += sum;
      }
      w_sums[o] = total;
    }
    const int64_t seen = deep * columns, made = rows * s.out_width;
    float* staged = whole ? nullptr : room(seen * s.channels);
    float* sums = room(made + seen + deep * s.out_width);
    float* kept = direct ? nullptr : room(made * step);
    failed = (!whole && !staged) || !sums || (!direct && !kept);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < s.samples * bands; item++) {
      if (failed) continue;
      const int64_t n = item / bands, top = item % bands * rows;
      const int64_t here = least(rows, s.out_height - top);
      const float* image = x + n * s.channels * s.height * s.width;
      float* answer = y + n * s.filters * s.out_height * s.out_width;
      const int64_t needed = (here - 1) * s.stride + k;
      if (!whole)
        in.stage(image, top * s.stride - s.padding, needed, -s.padding, columns, s.channels,
                 staged);
      const float* band = whole ? image + top * s.stride * columns * s.channels : staged;
      float* made_here = direct ? answer + top * s.out_width * step : kept;
      window_sums(band, s.channels, needed, columns, k, s.stride, here, s.out_width,
                  sums + made, sums + made + seen, sums);
      const int64_t count = here * s.out_width;
      for (int64_t i = 0, row = 0, column = 0; i < count; i += P) {
        const float* at[P];
        float *to[P], x_sums[P];
        for (int p = 0; p < P; p++) {
          const int64_t index = least(i + p, count - 1);
          at[p] = band + (row * columns + column) * s.stride * s.channels;
          to[p] = made_here + index * step;
          x_sums[p] = sums[index];
          if (i + p < count - 1 && ++column == s.out_width) column = 0, row++;
        }
        for (int64_t o = 0; o < step;) {
          const float* from = packed + o;
          const int64_t run = k * s.channels, far = columns * s.channels;
          if (o + V * VL <= step) {
            windows<V>(at, to, x_sums, w_sums + o, from, step, k, run, far);
            for (int p = 0; p < P; p++) to[p] += V * VL;
            o += V * VL;
          } else {
            windows<1>(at, to, x_sums, w_sums + o, from, step, k, run, far);
            for (int p = 0; p < P; p++) to[p] += VL;
            o += VL;
          }
        }
      }
      if (!direct) out.unstage(kept, top, here, step, answer);
    }
    free(staged), free(sums), free(kept);
  }
  free(packed);
  return failed;
}

// to = sum of clip(w - x, -1, 1) * g over filters and taps, of the shape of x; `y_last` tells
// where the channels of g are; 1 where memory is short, else 0.
int adder_grad_input(const Job* job, const float* g, const float* x, const float* w, float* to) {
  const Job s = *job;
  const Image in = {s.channels, s.height, s.width, s.x_last};
  const Image out = {s.filters, s.out_height, s.out_width, s.y_last};
  const int64_t k = s.kernel, step = up(s.channels, VL);
  const bool direct = s.x_last && step == s.channels;
  // Place i was seen by output (i + padding - a) / stride through tap a, where that divides.
  const int64_t past = (k - 1) / s.stride;  // outputs before the last one that saw a place
  const int64_t left = s.padding / s.stride - past;
  const int64_t columns = (s.width - 1 + s.padding) / s.stride - left + 1;
  int64_t rows = most(1, BAND / (s.width * step + columns * s.filters / s.stride));
  rows = least(rows, up(s.height * s.samples, s.threads) / s.threads);
  rows = most(1, least(rows, s.height));
  const int64_t bands = (s.height + rows - 1) / rows;
  const int64_t deep = (rows + s.stride - 2) / s.stride + 1 + past;
  float* packed = room(k * k * s.filters * step);
  if (!packed) return 1;
  int failed = 0;
#pragma omp parallel num_threads(s.threads) reduction(| : failed)
  {
#pragma omp for schedule(static)
    for (int64_t o = 0; o < s.filters; o++)
      for (int64_t t = 0; t < k * k; t++) {
        const float* from = w + o * s.w_strides[0] + t / k * s.w_strides[2] + t % k * s.w_strides[3];
        float* row = packed + (t * s.filters + o) * step;
        for (int64_t c = 0; c < step; c++) row[c] = c < s.channels ? from[c * s.w_strides[1]] : 0;
      }
    const int64_t made = rows * s.width * step;
    float* seen = room(deep * columns * s.filters);
    float* kept = direct ? nullptr : room(2 * made);
    int64_t* offsets = (int64_t*)room(4 * (past + 1) * (past + 1));
    failed = !seen || (!direct && !kept) || !offsets;
#pragma omp for schedule(static)
    for (int64_t item = 0; item < s.samples * bands; item++) {
      if (failed) continue;
      const int64_t n = item / bands, top = item % bands * rows, here = least(rows, s.height - top);
      const int64_t image = n * s.channels * s.height * s.width;
      const int64_t above = (top + s.padding) / s.stride - past;
      const int64_t needed = (top + here - 1 + s.padding) / s.stride - above + 1;
      out.stage(g + n * s.filters * s.out_height * s.out_width, above, needed, left, columns,
                s.filters, seen);
      const float* band = direct ? x + image + top * s.width * step : kept;
      float* answer = direct ? to + image + top * s.width * step : kept + made;
      if (!direct) in.stage(x + image, top, here, 0, s.width, step, kept);
      for (int64_t across = 0; across < s.stride * s.stride; across++) {
        // A class: the places whose taps are a = down + m * stride, b = beside + l * stride.
        const int64_t down = across / s.stride, beside = across % s.stride;
        Taps taps = {0, offsets, offsets + (past + 1) * (past + 1)};
        for (int64_t a = down, m = 0; a < k; a += s.stride, m++)
          for (int64_t b = beside, l = 0; b < k; b += s.stride, l++, taps.count++) {
            offsets[taps.count] = -(m * columns + l) * s.filters;
            offsets[taps.count + (past + 1) * (past + 1)] = (a * k + b) * s.filters * step;
          }
        const int64_t i0 = (down - (top + s.padding) % s.stride + s.stride) % s.stride;
        const int64_t j0 = (beside - s.padding % s.stride + s.stride) % s.stride;
        for (int64_t i = i0, j = j0; i < here && j0 < s.width;) {
          const float *at[P], *gradient[P];
          float* place[P];
          for (int p = 0; p < P; p++) {
            const int64_t index = (i * s.width + j) * step;
            const int64_t y = (top + i + s.padding) / s.stride - above;
            const int64_t z = (j + s.padding) / s.stride - left;
            at[p] = band + index, place[p] = answer + index;
            gradient[p] = seen + (y * columns + z) * s.filters;
            const bool last = i + s.stride >= here && j + s.stride >= s.width;
            if (last && p < P - 1) continue;  // the last place stands in for those that miss
            if ((j += s.stride) >= s.width) j = j0, i += s.stride;
          }
          for (int64_t c = 0; c < step; c += VL) {
            places(at, gradient, place, packed + c, s.filters, step, taps);
            for (int p = 0; p < P; p++) at[p] += VL, place[p] += VL;
          }
        }
      }
      if (!direct) in.unstage(answer, top, here, step, to + image);
    }
    free(seen), free(kept), free(offsets);
  }
  free(packed);
  return failed;
}
}
