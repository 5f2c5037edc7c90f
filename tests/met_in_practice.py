"""More networks that users meet, with their multiply-accumulates worked by hand."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from hand_counted import Call, Case

N, T, S, D, H = 2, 7, 4, 8, 16  # samples, tokens, other tokens, width, inner width
C_IN, HIDDEN, PROJECTED = 6, 5, 3
TOKENS, STEPS = ((N, T, D),), ((T, N, C_IN),)
CELL = HIDDEN * (C_IN + HIDDEN)  # one gate of a recurrent cell
SELF = 4 * T * D * D + 2 * T * T * D  # attention within, one sample
CROSS = (2 * T + 2 * S) * D * D + 2 * T * S * D  # attention to other tokens
ENCODER = N * (SELF + 2 * T * D * H)
HEADS = ((N, 4, T, D),) * 3
SCORES = 2 * N * 4 * T * T * D
SMALL = ((N, 4, 5, 5),)
DENSE = N * 6 * 4 * 9 * 25  # 3x3, 4 to 6 channels, 5 x 5


def encoder(**how):
    return nn.TransformerEncoderLayer(D, 2, H, batch_first=True, **how)


def attention(**how):
    return nn.MultiheadAttention(D, 2, batch_first=True, **how)


def itself(**how):
    return Call(lambda m, x: m.layer(x, x, x, **how)[0], layer=attention())


def looped(cell):
    def run(m, x):
        state = None
        for step in x:
            state = m.cell(step, state)
        return state[0] if isinstance(state, tuple) else state

    return Call(run, cell=cell)


def packed(layer):
    return Call(lambda m, x: m.layer(pack_padded_sequence(x, [5, 3]))[0].data, layer=layer)


def attended(**how):
    return Call(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, **how))


class UNet(nn.Module):
    """Two levels: down by pooling, up by a transposed convolution, joined by concatenation."""

    def __init__(self):
        super().__init__()
        self.down, self.low = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x):
        high = F.relu(self.down(x))
        low = F.relu(self.low(F.max_pool2d(high, 2)))
        return self.last(torch.cat([high, self.up(low)], 1))


class Tied(nn.Module):
    """An embedding whose weight is the classifier's too."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Linear(D, D), nn.Linear(D, D)
        self.out.weight = self.body.weight

    def forward(self, x):
        return self.out(self.body(x))


def linear_attention(m, q, k, v):
    return torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k.softmax(1), v))


CASES = {
    "LSTM, 2 layers, both ways": Case(
        lambda: nn.LSTM(C_IN, HIDDEN, 2, bidirectional=True),
        STEPS,
        T * N * 2 * 4 * (CELL + HIDDEN * 3 * HIDDEN),
    ),
    "LSTM, projected": Case(
        lambda: nn.LSTM(C_IN, HIDDEN, proj_size=PROJECTED),
        STEPS,
        T * N * (4 * HIDDEN * (C_IN + PROJECTED) + HIDDEN * PROJECTED),
    ),
    "GRU, batch first": Case(
        lambda: nn.GRU(C_IN, HIDDEN, batch_first=True), ((3, T, C_IN),), 3 * T * 3 * CELL
    ),
    "RNN": Case(lambda: nn.RNN(C_IN, HIDDEN), STEPS, T * N * CELL),
    "LSTM, packed": Case(lambda: packed(nn.LSTM(C_IN, HIDDEN)), STEPS, 8 * 4 * CELL),
    "GRU, packed": Case(lambda: packed(nn.GRU(C_IN, HIDDEN)), STEPS, 8 * 3 * CELL),
    "GRUCell": Case(lambda: looped(nn.GRUCell(C_IN, HIDDEN)), STEPS, T * N * 3 * CELL),
    "LSTMCell": Case(lambda: looped(nn.LSTMCell(C_IN, HIDDEN)), STEPS, T * N * 4 * CELL),
    "encoder layer": Case(encoder, TOKENS, ENCODER),
    "encoder layer, norm first": Case(
        lambda: encoder(norm_first=True, activation="gelu"), TOKENS, ENCODER
    ),
    "decoder layer": Case(
        lambda: nn.TransformerDecoderLayer(D, 2, H, batch_first=True),
        (*TOKENS, (N, S, D)),
        N * (SELF + CROSS + 2 * T * D * H),
    ),
    "attention with weights": Case(lambda: itself(need_weights=True), TOKENS, N * SELF),
    "attention, masked": Case(lambda: itself(attn_mask=torch.zeros(T, T)), TOKENS, N * SELF),
    "attention to other widths": Case(
        lambda: Call(lambda m, q, k, v: m.layer(q, k, v)[0], layer=attention(kdim=3, vdim=5)),
        (*TOKENS, (N, S, 3), (N, S, 5)),
        N * (2 * T * D * D + S * 3 * D + S * 5 * D + 2 * T * S * D),
    ),
    "SDPA, grouped queries": Case(
        lambda: attended(enable_gqa=True), (HEADS[0], *[(N, 2, T, D)] * 2), SCORES
    ),
    "SDPA, causal": Case(lambda: attended(is_causal=True), HEADS, SCORES),
    "SDPA, masked": Case(
        lambda: attended(attn_mask=torch.ones(T, T, dtype=torch.bool)), HEADS, SCORES
    ),
    "SDPA, three dimensions": Case(attended, TOKENS * 3, 2 * N * T * T * D),
    "transposed depthwise 1D": Case(
        lambda: nn.ConvTranspose1d(4, 4, 3, 2, groups=4), ((N, 4, 9),), N * 4 * 9 * 3
    ),
    "transposed depthwise 3D": Case(
        lambda: nn.ConvTranspose3d(4, 4, 3, 2, groups=4), ((N, 4, 3, 4, 5),), N * 4 * 60 * 27
    ),
    "transposed, output padding": Case(
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), SMALL, DENSE
    ),
    "dilated 3D": Case(lambda: nn.Conv3d(2, 3, 3, dilation=2), ((1, 2, 7, 7, 7),), 3 * 27 * 2 * 27),
    "padding same": Case(lambda: nn.Conv2d(4, 6, 3, padding="same"), SMALL, DENSE),
    "padding circular": Case(
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), SMALL, DENSE
    ),
    "bilinear": Case(lambda: nn.Bilinear(3, 4, 5), ((N, 3), (N, 4)), N * 60),
    "unfold and matmul": Case(
        lambda: Call(lambda m, x: m.w @ F.unfold(x, 3, padding=1), w=(6, 36)), SMALL, DENSE
    ),
    "tensordot": Case(
        lambda: Call(lambda m, x: torch.tensordot(x, m.w, ([1, 2], [0, 1])), w=(3, 4, 5)),
        ((N, 3, 4),),
        N * 12 * 5,
    ),
    "einsum of heads": Case(
        lambda: Call(lambda m, q, k: torch.einsum("bhqd,bhkd->bhqk", q, k)),
        (HEADS[0], (N, 4, S, D)),
        N * 4 * T * S * D,
    ),
    "linear attention": Case(lambda: Call(linear_attention), TOKENS * 3, 2 * N * T * D * D),
    "matmul, broadcast": Case(
        lambda: Call(lambda m, x: x @ m.w, w=(3, 8, 5)), ((4, 8),), 3 * 4 * 8 * 5
    ),
    "tied weights": Case(Tied, TOKENS, 2 * N * T * D * D),
    "taken in inference mode": Case(
        lambda: Call(torch.inference_mode()(lambda m, x: m.layer(x)), layer=encoder()),
        TOKENS,
        ENCODER,
    ),
    "affine grid": Case(
        lambda: Call(lambda m, x: F.affine_grid(x, [N, 1, 4, 6], align_corners=False)),
        ((N, 2, 3),),
        N * 24 * 2 * 3,
    ),
    "bilinear upsampling": Case(
        lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 6, 1)),
        SMALL,
        N * 6 * 4 * 100,
    ),
    "grid sampling": Case(
        lambda: Call(
            lambda m, x: m.layer(F.grid_sample(x, x[:, :2].movedim(1, 3), align_corners=False)),
            layer=nn.Conv2d(4, 6, 1),
        ),
        SMALL,
        N * 6 * 4 * 25,
    ),
    "U-Net": Case(
        UNet,
        ((1, 3, 8, 8),),
        64 * 3 * 8 * 9 + 16 * 8 * 16 * 9 + 16 * 16 * 8 * 4 + 64 * 16 * 3 * 9,
    ),
}
