"""One training step of an affine checkerboard flow in PyTorch, to compare `cargo bench -p latflow-benches --bench yukawa` with.

    pip install torch
    python benches/pytorch_step.py [--batch 256] [--threads 2]

The flow: Gaussian noise through couplings that alternate between the two colours of the checkerboard,

    phi = frozen + active * (z * exp(s) + t),    (s, t) = net(frozen),    log|det J| = sum over active sites of s,

each with a network of circular 3x3 convolutions, 1 -> 32 -> 32 -> 2, leaky ReLU in between. The loss is the reverse
Kullback-Leibler divergence to a lattice phi^4 theory. A step is its forward and backward pass; the optimizer, a few
per cent at most, is left out. Timings are medians after a warm-up.
"""

import argparse
import math
import statistics
import time

import torch
from torch import nn


class Coupling(nn.Module):
    def __init__(self, extent, hidden, parity):
        super().__init__()

        def conv(inputs, outputs):
            return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular")

        self.net = nn.Sequential(
            conv(1, hidden), nn.LeakyReLU(0.01), conv(hidden, hidden), nn.LeakyReLU(0.01), conv(hidden, 2)
        )
        sites = torch.arange(extent)
        self.register_buffer("active", ((sites[:, None] + sites[None, :] + parity) % 2).float())

    def forward(self, z, log_det):
        frozen = (1 - self.active) * z
        s, t = self.net(frozen[:, None]).unbind(1)
        s = self.active * s
        return frozen + self.active * (z * torch.exp(s) + t), log_det + s.sum((1, 2))


def action(phi, m2=-4.0, lam=6.0):
    neighbours = torch.roll(phi, 1, 1) + torch.roll(phi, 1, 2)
    return (-2 * phi * neighbours + (m2 + 4) * phi**2 + lam * phi**4).sum((1, 2))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--batch", type=int, default=256)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--couplings", type=int, default=12)
    arguments.add_argument("--hidden", type=int, default=32)
    arguments.add_argument("--extent", type=int, default=16)
    arguments.add_argument("--repeats", type=int, default=10)
    arguments.add_argument("--channels-last", action="store_true", help="the other memory layout")
    options = arguments.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    flow = nn.ModuleList(Coupling(options.extent, options.hidden, i % 2) for i in range(options.couplings))
    if options.channels_last:
        flow = flow.to(memory_format=torch.channels_last)
    z = torch.randn(options.batch, options.extent, options.extent) * math.sqrt(0.5)

    def sample():
        phi, log_det = z, torch.zeros(options.batch)
        for coupling in flow:
            phi, log_det = coupling(phi, log_det)
        return phi, log_det

    def step():
        flow.zero_grad(set_to_none=True)
        phi, log_det = sample()
        loss = (action(phi) - (z**2).sum((1, 2)) - log_det).mean()
        loss.backward()
        return loss.item()

    def sample_only():
        with torch.no_grad():
            sample()

    print(f"torch {torch.__version__}, {options.threads} threads, {vars(options)}")
    for name, run in [("step (forward + backward)", step), ("sampling (forward, no gradient)", sample_only)]:
        run()
        seconds = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        print(f"{name:<34} median {statistics.median(seconds):.4f} s, best {min(seconds):.4f} s")


if __name__ == "__main__":
    main()
