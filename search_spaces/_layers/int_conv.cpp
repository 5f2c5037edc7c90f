// What surrounds an int8 convolution: from floats to codes, and from sums of codes to floats.
//
//   quantise: x -> codes in bytes, channels side by side, and their sum at each pixel if asked for
//   finish:   y = (2 sum over parts + window sum of the codes) factor, channels side by side

#pragma GCC optimize("fp-contract=off")  // a product that is rounded to a code is rounded first
#pragma GCC diagnostic ignored "-Wpsabi"

#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 16;
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

template <class V> V load(const void* from) { V v; std::memcpy(&v, from, sizeof v); return v; }
template <class V> void store(void* to, V v) { std::memcpy(to, &v, sizeof v); }

struct Grid {  // alpha: where inputs are clipped; step: codes per unit; signs: 0 and 2 in place of codes
  float alpha, step;
  bool signs;
  Bytes operator()(Floats x) const {
    Ints code;
    if (signs) {
      code = (x >= 0) & 2;
    } else {
      x = x > 0 ? x : Floats{};
      const Floats top = alpha - Floats{};
      x = (x > top ? top : x) * step;
      // The sum is rounded to a whole number, half to even, and holds it in its lowest bits.
      code = (Ints)(x + 8388608.0f) & 255;
    }
    return __builtin_convertvector(code, Bytes);
  }
};

// Turn 16 vectors of pixels into 16 vectors of channels: four perfect shuffles.
void transpose(Bytes* v) {
  const Bytes low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  const Bytes high = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  Bytes other[LANES];
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < 8; i++) {
      other[2 * i] = __builtin_shuffle(v[i], v[i + 8], low);
      other[2 * i + 1] = __builtin_shuffle(v[i], v[i + 8], high);
    }
    std::memcpy(v, other, sizeof other);
  }
}

Floats some(const float* from, int64_t count) {
  if (count >= LANES) return load<Floats>(from);
  Floats v = {};
  std::memcpy(&v, from, count * sizeof *from);
  return v;
}

void quantise_last(const float* x, uint8_t* codes, int64_t count, const Grid& grid) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(codes + i, grid(load<Floats>(x + i)));
  if (i == count) return;
  const Bytes rest = grid(some(x + i, count - i));
  std::memcpy(codes + i, &rest, count - i);
}

// Sixteen pixels of one image whose channels lie `area` apart.
void quantise_planes(const float* x, uint8_t* codes, int64_t c, int64_t area, int64_t pixels,
                     const Grid& grid) {
  for (int64_t first = 0; first < c; first += LANES) {
    const int64_t channels = c - first < LANES ? c - first : LANES;
    Bytes v[LANES] = {};
    for (int64_t i = 0; i < channels; i++) v[i] = grid(some(x + (first + i) * area, pixels));
    transpose(v);
    for (int64_t p = 0; p < pixels; p++)
      if (channels == LANES) store(codes + p * c + first, v[p]);
      else std::memcpy(codes + p * c + first, &v[p], channels);
  }
}

struct Window { int64_t n, h, w, k, stride, padding, out_h, out_w; };

}  // namespace

extern "C" {

// x (N, C, area) floats, or (N, area, C) where `last` -> codes (N, area, C); sums (N, area) or
// nullptr. sizes: n, c, area, last, signs, threads. Of signs 1 stands for 0, and is taken off sums.
void int_quantise(const float* x, uint8_t* codes, int32_t* sums, const int64_t* sizes, float alpha,
                  float step) {
  const int64_t n = sizes[0], c = sizes[1], area = sizes[2], last = sizes[3], signs = sizes[4];
  [[maybe_unused]] const int64_t threads = sizes[5];
  const Grid grid{alpha, step, signs != 0};
  const int64_t blocks = (area + LANES - 1) / LANES;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t at = 0; at < n * blocks; at++) {
    const int64_t image = at / blocks, first = at % blocks * LANES;
    const int64_t pixels = area - first < LANES ? area - first : LANES;
    uint8_t* to = codes + (image * area + first) * c;
    if (last) quantise_last(x + (image * area + first) * c, to, pixels * c, grid);
    else quantise_planes(x + image * c * area + first, to, c, area, pixels, grid);
    for (int64_t p = 0; sums && p < pixels; p++) {
      int32_t sum = 0;
      for (int64_t i = 0; i < c; i++) sum += to[p * c + i];
      sums[image * area + first + p] = sum - (int32_t)(signs * c);
    }
  }
}

// parts: arrays (N, H', W', O) of whole numbers in floats, each below 2^24; the answer goes to the
// first. sums (N, H, W): of codes over channels. sizes: n, h, w, k, stride, padding, h', w', o,
// parts, threads.
void int_finish(float** parts, const int32_t* sums, const float* factor, const int64_t* sizes) {
  Window s;
  std::memcpy(&s, sizes, sizeof s);
  const int64_t o = sizes[8], count = sizes[9];
  [[maybe_unused]] const int64_t threads = sizes[10];
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < s.n * s.out_h; row++) {
    const int64_t top = row % s.out_h * s.stride - s.padding;
    const int32_t* image = sums + row / s.out_h * s.h * s.w;
    for (int64_t j = 0; j < s.out_w; j++) {
      const int64_t left = j * s.stride - s.padding;
      int32_t sum = 0;
      for (int64_t a = top < 0 ? 0 : top; a < top + s.k && a < s.h; a++)
        for (int64_t b = left < 0 ? 0 : left; b < left + s.k && b < s.w; b++)
          sum += image[a * s.w + b];
      const int64_t at = (row * s.out_w + j) * o;
      float* y = parts[0] + at;
      if (count == 1) {
        for (int64_t i = 0; i < o; i++) y[i] = (2 * y[i] + (float)sum) * factor[i];
      } else {
        for (int64_t i = 0; i < o; i++) {
          double whole = 0;
          for (int64_t part = 0; part < count; part++) whole += parts[part][at + i];
          y[i] = (float)(2 * whole + sum) * factor[i];
        }
      }
    }
  }
}
}
