// Binary convolution: y = taps - 2 popcount(x xor w), taps outside the image left out.
//
// The input's signs are packed, 32 channels to a word, into an image with a border of zeros. A
// vector holds one word of each of its filters; a tile counts for some filters and pixels at once.
// A border word would count the ones of w: `Border` holds what makes up for that.
//
// Weights as prepared: [block of 16 filters][tap][word][16]; ones: [tap][filters, whole blocks].

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int BLOCK = 16;  // filters side by side in prepared weights

#if defined(__AVX512VPOPCNTDQ__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef int32_t Sums __attribute__((vector_size(4 * LANES)));
typedef float Floats __attribute__((vector_size(4 * LANES)));

template <class V> V load(const void* from) { V v; std::memcpy(&v, from, sizeof v); return v; }
template <class V> void store(void* to, V v) { std::memcpy(to, &v, sizeof v); }

// count() adds the ones of each byte, or of each word, to what it is given; `whole` makes words of
// bytes. Bytes overflow after STEPS additions.
#if defined(__AVX512VPOPCNTDQ__)
constexpr const char* NAME = "avx512 vpopcntdq";
constexpr int STEPS = 1 << 30, FILTERS = 2, PIXELS = 8;
inline Words count(Words sum, Words bits) { return sum + (Words)_mm512_popcnt_epi32((__m512i)bits); }
inline Words whole(Words sum) { return sum; }
#elif defined(__AVX2__)
constexpr const char* NAME = "avx2";
constexpr int STEPS = 31, FILTERS = 2, PIXELS = 4;
inline Words count(Words sum, Words bits) {
  const __m256i table = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_set1_epi8(15), v = (__m256i)bits;
  __m256i a = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
  __m256i b = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi32(v, 4), low));
  return (Words)_mm256_add_epi8((__m256i)sum, _mm256_add_epi8(a, b));
}
inline Words whole(Words sum) {
  __m256i pairs = _mm256_maddubs_epi16((__m256i)sum, _mm256_set1_epi8(1));
  return (Words)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
constexpr const char* NAME = "portable";
constexpr int STEPS = 31, FILTERS = 2, PIXELS = 4;
inline Words count(Words sum, Words v) {
  v -= (v >> 1) & 0x55555555u;
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  return sum + ((v + (v >> 4)) & 0x0f0f0f0fu);
}
inline Words whole(Words v) {
  v = (v & 0x00ff00ffu) + ((v >> 8) & 0x00ff00ffu);
  return (v & 0xffffu) + (v >> 16);
}
#endif

struct Sizes {
  int64_t n, c, h, w, o, k, stride, padding, last, threads;  // last: channels lie side by side
  int64_t words() const { return (c + 31) / 32; }
  int64_t filters() const { return (o + BLOCK - 1) / BLOCK * BLOCK; }
  int64_t padded_h() const { return h + 2 * padding; }
  int64_t padded_w() const { return w + 2 * padding; }
  int64_t out_h() const { return (padded_h() - k) / stride + 1; }
  int64_t out_w() const { return (padded_w() - k) / stride + 1; }
};

// Pack the signs of one pixel's channels, which lie side by side.
inline void pack_pixel(const float* x, int64_t c, uint32_t* words) {
  for (; c > 0; c -= 32, x += 32, words++) {
#if defined(__AVX512BW__)
    const __m512 zero = _mm512_setzero_ps();
    const uint32_t in = c >= 32 ? ~0u : (1u << c) - 1;
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)in, x);
    __m512 high = _mm512_maskz_loadu_ps((__mmask16)(in >> 16), x + 16);
    uint32_t a = _mm512_cmp_ps_mask(low, zero, _CMP_GE_OQ);
    uint32_t b = _mm512_cmp_ps_mask(high, zero, _CMP_GE_OQ);
    *words = (a | b << 16) & in;
#else
    uint32_t word = 0;
    int i = 0;
#ifdef __AVX2__
    for (; i + 8 <= (c < 32 ? c : 32); i += 8) {
      __m256 positive = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_setzero_ps(), _CMP_GE_OQ);
      word |= (uint32_t)_mm256_movemask_ps(positive) << i;
    }
#endif
    for (; i < 32 && i < c; i++) word |= (uint32_t)(x[i] >= 0) << i;
    *words = word;
#endif
  }
}

// Pack one image whose channels lie apart: some pixels of 32 channels at once.
void pack_planes(const float* x, uint32_t* bits, const Sizes& s) {
  const int64_t area = s.h * s.w;
  for (int64_t word = 0; word < s.words(); word++) {
    const float* planes = x + word * 32 * area;
    const int64_t channels = s.c - word * 32 < 32 ? s.c - word * 32 : 32;
    for (int64_t first = 0; first < area; first += LANES) {
      uint32_t found[LANES] = {};
      const int64_t pixels = area - first < LANES ? area - first : LANES;
      if (pixels == LANES) {
        Words v = {};
        for (int64_t i = 0; i < channels; i++)
          v |= (Words)(load<Floats>(planes + i * area + first) >= 0) & (1u << i);
        store(found, v);
      } else {
        for (int64_t i = 0; i < channels; i++)
          for (int64_t p = 0; p < pixels; p++)
            found[p] |= (uint32_t)(planes[i * area + first + p] >= 0) << i;
      }
      int64_t row = first / s.w, column = first % s.w;
      for (int64_t p = 0; p < pixels; p++) {
        bits[((row + s.padding) * s.padded_w() + column + s.padding) * s.words() + word] = found[p];
        if (++column == s.w) column = 0, row++;
      }
    }
  }
}

void pack_image(const float* x, uint32_t* bits, const Sizes& s) {
  if (s.padding) std::memset(bits, 0, s.padded_h() * s.padded_w() * s.words() * sizeof *bits);
  if (!s.last) return pack_planes(x, bits, s);
  for (int64_t i = 0; i < s.h; i++) {
    uint32_t* row = bits + ((i + s.padding) * s.padded_w() + s.padding) * s.words();
    for (int64_t j = 0; j < s.w; j++, x += s.c, row += s.words()) pack_pixel(x, s.c, row);
  }
}

// Where a window leaves the image on one axis: places that see the same taps are one kind.
struct Axis {
  std::vector<int> kind;               // of each place
  std::vector<std::pair<int, int>> seen;  // first and last + 1 tap inside, of each kind
  Axis(int64_t size, int64_t out, const Sizes& s) {
    for (int64_t i = 0; i < out; i++) {
      const int64_t start = i * s.stride - s.padding, end = size - start;
      const std::pair<int, int> taps(
          start < 0 ? (-start < s.k ? -start : s.k) : 0, end > s.k ? s.k : (end > 0 ? end : 0));
      size_t at = 0;
      while (at < seen.size() && seen[at] != taps) at++;
      if (at == seen.size()) seen.push_back(taps);
      kind.push_back((int)at);
    }
  }
};

// taps inside + 2 (ones of the weights outside), for each kind of row and column and each filter;
// whole numbers below 2^24, so that floats hold them and what is taken from them.
struct Border {
  Axis rows, columns;
  int64_t filters;
  std::vector<float> base;
  Border(const int32_t* ones, const Sizes& s)
      : rows(s.h, s.out_h(), s), columns(s.w, s.out_w(), s), filters(s.filters()) {
    base.assign(rows.seen.size() * columns.seen.size() * filters, 0.0f);
    for (auto& kind : columns.kind) kind *= (int)filters;  // where its base is
    float* b = base.data();
    for (auto& r : rows.seen)
      for (auto& q : columns.seen) {
        for (int i = 0; i < s.k; i++)
          for (int j = 0; j < s.k; j++) {
            const bool inside = i >= r.first && i < r.second && j >= q.first && j < q.second;
            const int32_t* one = ones + (i * s.k + j) * filters;
            for (int64_t o = 0; o < filters; o++) b[o] += inside ? (float)s.c : 2.0f * one[o];
          }
        b += filters;
      }
  }
  const float* of(int64_t row) const {
    return base.data() + rows.kind[row] * columns.seen.size() * filters;
  }
};

struct Row {  // what the tiles of one row of outputs share
  const uint32_t* x;       // the row's first window
  const uint32_t* w;       // the first of the tile's filters
  const int32_t* places;   // of a window's words, from its first
  const float* base;       // of the row's kind and the tile's filters
  const int32_t* columns;  // where the base of a column is
  const float* scale;      // of the tile's filters
  float* y;                // the first pixel's first filter of the tile
  int64_t filters, apart, step, steps;
  // filters that exist, floats and words from pixel to pixel, words of a window
};

template <int V, int P> void tile(const Row& r, int64_t j) {
  const int64_t block = r.steps * BLOCK;
  const uint32_t *w = r.w, *x = r.x + j * r.step;
  Words found[P * V];
  for (int64_t done = 0; done < r.steps;) {
    const int64_t first = done, end = r.steps - done < STEPS ? r.steps : done + STEPS;
    Words sum[P * V] = {};  // in registers
    for (; done < end; done++, w += BLOCK) {
      const uint32_t* at = x + r.places[done];
      Words f[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; v++)
        f[v] = load<Words>(w + v * LANES / BLOCK * block + v * LANES % BLOCK);
#pragma GCC unroll 8
      for (int p = 0; p < P; p++) {
        const Words here = at[p * r.step] - Words{};
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) sum[p * V + v] = count(sum[p * V + v], here ^ f[v]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < P * V; i++) found[i] = first ? found[i] + whole(sum[i]) : whole(sum[i]);
  }
  Floats scale[V];
#pragma GCC unroll 2
  for (int v = 0; v < V; v++) scale[v] = load<Floats>(r.scale + v * LANES);
#pragma GCC unroll 8
  for (int p = 0; p < P; p++) {
    const float* base = r.base + r.columns[j + p];
    float* y = r.y + (j + p) * r.apart;
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
      const Floats ones = __builtin_convertvector((Sums)found[p * V + v], Floats);
      const Floats value = (load<Floats>(base + v * LANES) - 2 * ones) * scale[v];
      if (r.filters >= (v + 1) * LANES) store(y + v * LANES, value);
      else std::memcpy(y + v * LANES, &value, (r.filters - v * LANES) * sizeof *y);
    }
  }
}

template <int V, int P> void tiles(const Row& r, int64_t j, int64_t out) {
  for (; j + P <= out; j += P) tile<V, P>(r, j);
  if constexpr (P > 1) tiles<V, P / 2>(r, j, out);
}

// Write a row of (pixels, apart) floats as filters in planes of `area` floats.
void spread(const float* row, float* y, int64_t pixels, int64_t filters, int64_t apart,
            int64_t area) {
  typedef float Four __attribute__((vector_size(16)));
  typedef int32_t Lanes __attribute__((vector_size(16)));
  int64_t j = 0;
  for (; j + 4 <= pixels; j += 4) {
    const float* at = row + j * apart;
    int64_t o = 0;
    for (; o + 4 <= filters; o += 4) {
      Four a = load<Four>(at + o), b = load<Four>(at + apart + o);
      Four c = load<Four>(at + 2 * apart + o), d = load<Four>(at + 3 * apart + o);
      const Lanes low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, even = {0, 1, 4, 5}, odd = {2, 3, 6, 7};
      Four ab = __builtin_shuffle(a, b, low), cd = __builtin_shuffle(c, d, low);
      Four AB = __builtin_shuffle(a, b, high), CD = __builtin_shuffle(c, d, high);
      store(y + o * area + j, __builtin_shuffle(ab, cd, even));
      store(y + (o + 1) * area + j, __builtin_shuffle(ab, cd, odd));
      store(y + (o + 2) * area + j, __builtin_shuffle(AB, CD, even));
      store(y + (o + 3) * area + j, __builtin_shuffle(AB, CD, odd));
    }
    for (; o < filters; o++)
      for (int64_t p = 0; p < 4; p++) y[o * area + j + p] = at[p * apart + o];
  }
  for (; j < pixels; j++)
    for (int64_t o = 0; o < filters; o++) y[o * area + j] = row[j * apart + o];
}

void convolve_row(const uint32_t* bits, const uint32_t* weights, const int32_t* places,
                  const Border& border, const float* scale, float* y, const Sizes& s, int64_t image, int64_t i) {
  const int64_t steps = s.k * s.k * s.words(), area = s.out_h() * s.out_w();
  const int64_t line = s.padded_w() * s.words(), wide = FILTERS * LANES;
  std::vector<float> apart(s.last ? 0 : s.out_w() * wide);
  Row r = {};
  r.x = bits + (image * s.padded_h() + i * s.stride) * line;
  r.places = places, r.columns = border.columns.kind.data();
  r.step = s.stride * s.words(), r.steps = steps;
  for (int64_t o = 0; o < s.o; o += wide) {
    r.w = weights + o / BLOCK * steps * BLOCK + o % BLOCK;
    r.base = border.of(i) + o, r.scale = scale + o;
    r.filters = s.o - o < wide ? s.o - o : wide;
    r.y = s.last ? y + (image * s.out_h() + i) * s.out_w() * s.o + o : apart.data();
    r.apart = s.last ? s.o : wide;
    if (r.filters > LANES) tiles<FILTERS, PIXELS>(r, 0, s.out_w());
    else tiles<1, PIXELS>(r, 0, s.out_w());
    if (!s.last)
      spread(apart.data(), y + (image * s.o + o) * area + i * s.out_w(), s.out_w(), r.filters, wide,
             area);
  }
}

}  // namespace

extern "C" {

const char* xnor_name() { return NAME; }

// packed: bit ((o * taps + tap) * c + channel), lowest first.
void xnor_prepare(const uint8_t* packed, int64_t o, int64_t taps, int64_t c, uint32_t* weights,
                  int32_t* ones) {
  const int64_t words = (c + 31) / 32, filters = (o + BLOCK - 1) / BLOCK * BLOCK;
  std::memset(weights, 0, filters * taps * words * sizeof *weights);
  std::memset(ones, 0, taps * filters * sizeof *ones);
  for (int64_t i = 0; i < o * taps * c; i++) {
    if (!(packed[i / 8] >> i % 8 & 1)) continue;
    const int64_t filter = i / (taps * c), tap = i / c % taps, channel = i % c;
    const int64_t at = (filter / BLOCK * taps + tap) * words + channel / 32;
    weights[at * BLOCK + filter % BLOCK] |= 1u << channel % 32;
    ones[tap * filters + filter]++;
  }
}

// x (N, C, H, W) -> y (N, O, H', W'), both with their channels side by side where sizes say so.
// scale: (O,) or nullptr. Returns 0, or 1 where there is no memory for the packed input.
int xnor_conv(const float* x, const uint32_t* weights, const int32_t* ones, const float* scale,
              float* y, const int64_t* sizes) {
  Sizes s;
  std::memcpy(&s, sizes, sizeof s);
  const int64_t image = s.padded_h() * s.padded_w() * s.words(), rows = s.n * s.out_h();
  std::unique_ptr<uint32_t[]> bits(new (std::nothrow) uint32_t[s.n * image]);
  if (!bits) return 1;
  const Border border(ones, s);
  std::vector<int32_t> places;
  for (int64_t row = 0; row < s.k; row++)
    for (int64_t word = 0; word < s.k * s.words(); word++)
      places.push_back((int32_t)(row * s.padded_w() * s.words() + word));
  std::vector<float> factors(s.filters(), 1.0f);
  if (scale) std::memcpy(factors.data(), scale, s.o * sizeof *scale);
#pragma omp parallel num_threads(s.threads) if (s.threads > 1)
  {
#pragma omp for
    for (int64_t n = 0; n < s.n; n++) pack_image(x + n * s.c * s.h * s.w, bits.get() + n * image, s);
#pragma omp for
    for (int64_t row = 0; row < rows; row++)
      convolve_row(bits.get(), weights, places.data(), border, factors.data(), y, s,
                   row / s.out_h(), row % s.out_h());
  }
  return 0;
}
}
