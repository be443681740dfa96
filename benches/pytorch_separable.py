"""A separable network of circular convolutions in four dimensions in PyTorch, to compare
`cargo bench -p latflow-benches --bench separable` with.

    pip install torch
    python benches/pytorch_separable.py [--batch 64] [--threads 2]

The network: blocks of one circular convolution of three taps a direction, 12 -> 32 -> 32 -> 32 -> 49 channels on 4^4
sites, leaky ReLU between blocks, a bias after the last direction of each, read at a quarter of the sites. Each
formulation is first compared with the definition. Timings are the best of several repetitions after a warm-up.
"""

import argparse
import time

import torch
import torch.nn.functional as F

EXTENT, TAPS = 4, 3


def definition(x, weight, direction):
    """x [B, L, L, L, L, C], weight [3, C, C']: sum over taps t of x(site + (t - 1) direction) w_t."""
    return sum(torch.roll(x, 1 - t, direction + 1) @ weight[t] for t in range(TAPS))


def rolled_columns(x, weight, direction):
    """All taps side by side, one matrix product."""
    columns = torch.cat([torch.roll(x, 1 - t, direction + 1) for t in range(TAPS)], -1)
    return columns @ weight.flatten(0, 1)


def conv1d(x, weight, direction):
    """The library's one-dimensional convolution, lines as samples."""
    lines = x.movedim(direction + 1, -1)
    shape = lines.shape
    flat = F.pad(lines.reshape(-1, shape[-2], EXTENT), (1, 1), mode="circular")
    y = F.conv1d(flat, weight.permute(2, 1, 0))
    return y.reshape(*shape[:-2], -1, EXTENT).movedim(-1, direction + 1)


def circulant(x, weight, direction):
    """A line of four sites as one row: one matrix product with a circulant matrix, a third more operations."""
    inputs, outputs = weight.shape[1:]
    blocks = [[None] * EXTENT for _ in range(EXTENT)]
    zero = weight.new_zeros(inputs, outputs)
    for source in range(EXTENT):
        for target in range(EXTENT):
            tap = (source - target + 1) % EXTENT
            blocks[source][target] = weight[tap] if tap < TAPS else zero
    matrix = torch.cat([torch.cat(row, 1) for row in blocks], 0)
    lines = x.movedim(direction + 1, -2)
    y = lines.flatten(-2) @ matrix
    return y.unflatten(-1, (EXTENT, outputs)).movedim(-2, direction + 1)


def network(convolution, x, blocks, sites):
    for k, (weights, bias) in enumerate(blocks):
        for direction, weight in enumerate(weights):
            x = convolution(x, weight, direction)
        x = x + bias
        if k + 1 < len(blocks):
            x = F.leaky_relu(x, 0.01)
    return x.flatten(1, 4)[:, sites]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--repeats", type=int, default=10)
    arguments.add_argument("--compile", action="store_true", help="through torch.compile")
    options = arguments.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    channels = [12, 32, 32, 32, 49]
    blocks, flops = [], 0
    for inputs, outputs in zip(channels, channels[1:]):
        weights = [
            (torch.randn(TAPS, inputs if d == 0 else outputs, outputs) / (TAPS * outputs) ** 0.5).requires_grad_()
            for d in range(4)
        ]
        flops += sum(2 * w.numel() * EXTENT**4 * options.batch for w in weights)
        blocks.append((weights, torch.zeros(outputs, requires_grad=True)))
    x = torch.randn(options.batch, *[EXTENT] * 4, channels[0], requires_grad=True)
    site = torch.arange(EXTENT**4).reshape([EXTENT] * 4)
    phase = sum(s * c for s, c in zip([1, 2, 1, 1], torch.meshgrid(*[torch.arange(EXTENT)] * 4, indexing="ij")))
    sites = site[phase % 4 == 0]

    def best(run):
        run()
        seconds = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    print(f"torch {torch.__version__}, {vars(options)}")
    expected = network(definition, x, blocks, sites).detach()
    for convolution in [definition, rolled_columns, conv1d, circulant]:
        run = torch.compile(network) if options.compile else network

        def forward():
            with torch.no_grad():
                return run(convolution, x, blocks, sites)

        def step():
            y = run(convolution, x, blocks, sites)
            y.backward(torch.ones_like(y))

        error = ((forward() - expected).abs().max() / expected.abs().max()).item()
        assert error < 1e-5, error
        for name, seconds, work in [("forward", best(forward), flops), ("step", best(step), 3 * flops)]:
            print(f"{convolution.__name__:<16} {name:<8} {1e3 * seconds:9.2f} ms {work / seconds / 1e9:8.1f} GF/s")


if __name__ == "__main__":
    main()
