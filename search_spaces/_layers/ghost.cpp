// A convolution (stride 1, zeros around) whose maps and their shifted copies lie in one tensor.
//
// Channels last, float32. Lanes are filters; a tile is P places x 2 vectors of filters. A stretch
// of places is done one chunk of taps after the other, so that a chunk's weights stay in the
// first-level cache, and so do the sums, which are written with their copies at the end. What
// will be read or written next is fetched meanwhile. Windows are read where they lie, but for
// those over the left and right border. Results do not depend on the number of threads.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace {

#if defined(__AVX512F__)
constexpr int VL = 16, P = 12;
#elif defined(__AVX2__)
constexpr int VL = 8, P = 6;
#else
constexpr int VL = 4, P = 4;
#endif
constexpr int V = 2, WIDE = V * VL;
constexpr int64_t STRETCH = 48;  // places, a multiple of every P
constexpr int64_t CHUNK = 192;   // taps
constexpr int64_t LARGEST = 15;  // kernel

typedef float vec __attribute__((vector_size(VL * 4)));
typedef float loose __attribute__((vector_size(VL * 4), aligned(4), may_alias));

inline vec load(const float* at) { return *(const loose*)at; }
inline void store(float* at, vec v) { *(loose*)at = v; }
inline vec all(float v) { return v - vec{}; }

inline void add(vec& sum, vec x, vec f) {
#if defined(__AVX512F__) || defined(__FMA__)
  asm("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(f));  // left to itself, GCC spills
#else
  sum += x * f;
#endif
}

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
float* room(int64_t floats) { return (float*)aligned_alloc(64, (size_t)up(4 * floats + 64, 64)); }

// Addresses that will be needed: one is fetched every few taps.
struct Ahead {
  static constexpr int64_t MOST = 4096;
  const char* lines[MOST];
  int64_t next = 0, many = 0;
  void want(const float* from, int64_t floats) {
    for (int64_t b = 0; b < 4 * floats && many < MOST; b += 64) lines[many++] = (const char*)from + b;
  }
  inline void fetch() {
    if (next < many) __builtin_prefetch(lines[next++], 1);
  }
};

// Add `taps` taps of P windows to their sums; `w` has WIDE filters a tap.
inline void windows(const float* const* at, int64_t taps, const float* w, float* sums, Ahead& ahead) {
  vec sum[P][V];
  const float* here[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) {
    here[p] = at[p];
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) sum[p][v] = load(sums + p * WIDE + v * VL);
  }
  auto tap = [&](int64_t c) __attribute__((always_inline)) {
    vec f[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) f[v] = load(w + v * VL);
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) {
      const vec x = all(here[p][c]);
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) add(sum[p][v], x, f[v]);
    }
    w += WIDE;
  };
  const int64_t whole = taps / 4 * 4;
  int64_t c = 0;
  for (; c < whole; c += 4) {
    ahead.fetch();
    tap(c), tap(c + 1), tap(c + 2), tap(c + 3);
  }
  for (; c < taps; c++) tap(c);
#pragma GCC unroll 16
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) store(sums + p * WIDE + v * VL, sum[p][v]);
}

inline void copy(const float* from, float* to, int64_t many) {
  int64_t i = 0;
  for (; i + VL <= many; i += VL) store(to + i, load(from + i));
  for (; i < many; i++) to[i] = from[i];
}

}  // namespace

extern "C" {

struct Job {
  int64_t samples, channels, height, width, filters, ghosts, kernel, runs, threads;
};

// Floats that `ghost_pack` writes.
int64_t ghost_packed(const Job* s) {
  return up(s->filters, WIDE) * (s->kernel * s->kernel * s->channels + 1);
}

// Lay out a weight (filters, kernel, kernel, channels) and a bias for `ghost_forward`.
void ghost_pack(const Job* s, const float* weight, const float* bias, float* packed) {
  const int64_t taps = s->kernel * s->kernel * s->channels;
  for (int64_t o = 0; o < up(s->filters, WIDE); o++) {
    float* to = packed + o / WIDE * WIDE * (taps + 1) + o % WIDE;
    const bool real = o < s->filters;
    *to = real && bias ? bias[o] : 0;
    for (int64_t t = 0; t < taps; t++) to[(t + 1) * WIDE] = real ? weight[o * taps + t] : 0;
  }
}

// runs: first ghost, how many, first source, and where a ghost looks (dy, dx); 1: no memory
int ghost_forward(const Job* job, const float* x, const float* packed, const int64_t* runs, float* y) {
  const Job s = *job;
  const int64_t k = s.kernel, pad = k / 2, run = k * s.channels, taps = k * run;
  const int64_t out = s.filters + s.ghosts, blocks = up(s.filters, WIDE) / WIDE;
  const int64_t edge = least(2 * pad, s.width);  // columns whose windows leave the image
  const int64_t area = s.height * s.width, stretches = up(area, STRETCH) / STRETCH;
  const int64_t rows = STRETCH / s.width + 2 + 2 * pad;  // that a stretch may see
  if (k > LARGEST) return 1;
  int failed = 0;
#pragma omp parallel num_threads(s.threads) reduction(| : failed) if (s.threads > 1)
  {
    float* edges = room((rows * edge + 1) * run);
    float* sums = room(blocks * STRETCH * WIDE);
    Ahead* ahead = (Ahead*)malloc(sizeof(Ahead));
    failed = !edges || !sums || !ahead;
    float* zeros = edges + rows * edge * run;
    if (!failed) memset(zeros, 0, 4 * run);
#pragma omp for schedule(static)
    for (int64_t item = 0; item < s.samples * stretches; item++) {
      if (failed) continue;
      const int64_t n = item / stretches, first = item % stretches * STRETCH;
      const int64_t count = least(STRETCH, area - first), top = first / s.width;
      const int64_t last = (first + count - 1) / s.width;
      const float* image = x + n * area * s.channels;
      float* answer = y + n * area * out;
      for (int64_t i = top - pad; i <= last + pad; i++) {
        if (i < 0 || i >= s.height) continue;
        for (int64_t e = 0; e < edge; e++) {
          const int64_t j = e < pad ? e : s.width - edge + e;
          float* to = edges + ((i - top + pad) * edge + e) * run;
          for (int64_t b = j - pad; b <= j + pad; b++, to += s.channels) {
            if (b < 0 || b >= s.width) memset(to, 0, 4 * s.channels);
            else memcpy(to, image + (i * s.width + b) * s.channels, 4 * s.channels);
          }
        }
      }
      const float* at[LARGEST][STRETCH];
      ahead->next = ahead->many = 0;
      for (int64_t p = 0; p < up(count, P); p++) {
        const int64_t place = first + least(p, count - 1), i = place / s.width, j = place % s.width;
        const bool inner = j >= pad && j < s.width - pad;
        const int64_t e = j < pad ? j : j - s.width + edge;
        for (int64_t a = 0; a < k; a++) {
          const int64_t row = i + a - pad;
          at[a][p] = row < 0 || row >= s.height ? zeros
                     : inner ? image + (row * s.width + j - pad) * s.channels
                             : edges + ((row - top + pad) * edge + e) * run;
        }
      }
      for (int64_t p = 0; p < count; p++) {
        const int64_t place = first + p, i = place / s.width, j = place % s.width;
        ahead->want(answer + place * out, s.filters);
        const int64_t a = i - runs[3], b = j - runs[4];
        if (s.runs && a >= 0 && a < s.height && b >= 0 && b < s.width)
          ahead->want(answer + (a * s.width + b) * out + s.filters, s.ghosts);
        const int64_t below = place + STRETCH + pad * s.width + pad;
        if (below < area) ahead->want(image + below * s.channels, s.channels);
      }
      for (int64_t o = 0; o < blocks; o++) {
        const float* w = packed + o * WIDE * (taps + 1);
        float* to = sums + o * STRETCH * WIDE;
        for (int64_t p = 0; p < up(count, P); p++)
          for (int v = 0; v < V; v++) store(to + p * WIDE + v * VL, load(w + v * VL));
        w += WIDE;
        for (int64_t a = 0; a < k; a++)
          for (int64_t c = 0; c < run; c += CHUNK) {
            const int64_t here = least(CHUNK, run - c);
            for (int64_t p = 0; p < count; p += P) {
              const float* from[P];
              for (int q = 0; q < P; q++) from[q] = at[a][p + q] + c;
              windows(from, here, w, to + p * WIDE, *ahead);
            }
            w += here * WIDE;
          }
      }
      for (int64_t p = 0; p < count; p++) {
        const int64_t place = first + p, i = place / s.width, j = place % s.width;
        float* own = answer + place * out;
        for (int64_t o = 0; o < blocks; o++)
          copy(sums + (o * STRETCH + p) * WIDE, own + o * WIDE, least(WIDE, s.filters - o * WIDE));
        for (const int64_t* r = runs; r < runs + 5 * s.runs; r += 5) {
          const int64_t a = i - r[3], b = j - r[4];
          if (a >= 0 && a < s.height && b >= 0 && b < s.width)
            copy(own + r[2], answer + (a * s.width + b) * out + s.filters + r[0], r[1]);
        }
      }
    }
    // Places whose source lies outside the image.
#pragma omp for schedule(static)
    for (int64_t item = 0; item < s.samples * s.height; item++) {
      const int64_t i = item % s.height;
      float* line = y + item * s.width * out + s.filters;
      for (const int64_t* r = runs; r < runs + 5 * s.runs; r += 5) {
        const bool none = i + r[3] < 0 || i + r[3] >= s.height;
        const int64_t left = none ? s.width : least(s.width, most(0, -r[4]));
        const int64_t right = most(left, least(s.width, s.width - r[4]));
        for (int64_t j = 0; j < left; j++) memset(line + j * out + r[0], 0, 4 * r[1]);
        for (int64_t j = right; j < s.width; j++) memset(line + j * out + r[0], 0, 4 * r[1]);
      }
    }
    free(edges);
    free(sums);
    free(ahead);
  }
  return failed;
}
}
