"""PyTorch's side of the overhead bench: the same operators on the same shapes, written as a user would."""

import torch
import torch.nn.functional as F
from peer import serve

BATCH, SIZES = 4, (16, 32, 32, 10)

a = torch.ones(2, 2)
b = torch.ones(2, 2)
x = torch.arange(64 * 384, dtype=torch.float32).view(64, 384)


def add(n):
    for _ in range(n):
        a + b


def view_chain(n):
    for _ in range(n):
        x.view(64, 12, 32).transpose(0, 1).unsqueeze(0).select(1, 3).narrow(1, 8, 16)


weights, biases = [], []
for fan_in, fan_out in zip(SIZES, SIZES[1:]):
    count = fan_in * fan_out
    values = torch.linspace(-1, 1, count).view(fan_out, fan_in) / fan_in**0.5
    weights.append(values.requires_grad_())
    biases.append(torch.zeros(fan_out, requires_grad=True))
inputs = torch.linspace(-1, 1, BATCH * SIZES[0]).view(BATCH, SIZES[0])
labels = torch.arange(BATCH) % SIZES[-1]


def mlp(n):
    for _ in range(n):
        h = F.relu(F.linear(inputs, weights[0], biases[0]))
        h = F.relu(F.linear(h, weights[1], biases[1]))
        loss = F.cross_entropy(F.linear(h, weights[2], biases[2]), labels)
        loss.backward()
        for p in (*weights, *biases):
            p.grad = None


serve({"add_2x2": add, "view_chain": view_chain, "mlp_forward_backward": mlp})
