"""Published figures of accelerators, for costs on paper. Peaks are without sparsity; 1 GB = 10^9 bytes."""

import dataclasses

from nofrost_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device. Peaks in FLOP/s: float32 outside of tensor cores, what float32 products take by default, bfloat16.

    bandwidth of its memory and link to the devices of its host, in bytes/s, the link in each direction; memory in
    bytes. host: devices of one; network: bytes/s of a host in each direction, 0 where the link joins hosts, too.
    """

    name: str
    float32: float
    default: float
    bfloat16: float
    bandwidth: float
    memory: float
    link: float
    host: int
    network: float

    def rate(self, dtype: str, precision: str) -> float:
        """Peak of products of float32 or bfloat16 values at a `matmul_precision`."""
        if dtype == "bfloat16":
            return self.bfloat16
        if self.float32:
            return self.float32 if precision == "highest" else self.default
        return self.bfloat16 / {"default": 1, "high": 3, "highest": 6}[precision]  # a TPU: so many bfloat16 passes


TERA, GIGA = 1e12, 1e9
TABLE = {
    one.name: one
    for one in (
        # NVIDIA's data sheets of the SXM modules; hosts: DGX-1 V100 (4 x 100 Gb/s), DGX A100 (8 x 200 Gb/s), DGX H100
        # and H200 (8 x 400 Gb/s). A V100 has neither TF32 nor bfloat16.
        *(
            Accelerator("v100", 15.7 * TERA, 15.7 * TERA, 15.7 * TERA, 900 * GIGA, 32 * GIGA, 150 * GIGA, 8, 50 * GIGA),
            Accelerator("a100", 19.5 * TERA, 156 * TERA, 312 * TERA, 2039 * GIGA, 80 * GIGA, 300 * GIGA, 8, 200 * GIGA),
            Accelerator("h100", 67 * TERA, 495 * TERA, 989 * TERA, 3350 * GIGA, 80 * GIGA, 450 * GIGA, 8, 400 * GIGA),
            Accelerator("h200", 67 * TERA, 495 * TERA, 989 * TERA, 4800 * GIGA, 141 * GIGA, 450 * GIGA, 8, 400 * GIGA),
        ),
        # NVIDIA's data sheets; the link is PCIe (L4: 4.0 x16, T4: 3.0 x16), the network that of Google Cloud's
        # g2-standard-96 and of AWS's g4dn.metal, 100 Gb/s. A T4 has neither TF32 nor bfloat16.
        Accelerator("l4", 30.3 * TERA, 60 * TERA, 121 * TERA, 300 * GIGA, 24 * GIGA, 32 * GIGA, 8, 12.5 * GIGA),
        Accelerator("t4", 8.1 * TERA, 8.1 * TERA, 8.1 * TERA, 320 * GIGA, 16 * GIGA, 16 * GIGA, 8, 12.5 * GIGA),
        # docs.cloud.google.com/tpu/docs/v4, v5e, v5p: a chip is a device; half of its bidirectional ICI bandwidth.
        Accelerator("tpu_v4", 0, 275 * TERA, 275 * TERA, 1228 * GIGA, 32 * 2**30, 150 * GIGA, 4, 0),
        Accelerator("tpu_v5e", 0, 197 * TERA, 197 * TERA, 819 * GIGA, 16 * GIGA, 200 * GIGA, 8, 0),
        Accelerator("tpu_v5p", 0, 459 * TERA, 459 * TERA, 2765 * GIGA, 95 * GIGA, 300 * GIGA, 4, 0),
    )
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """Some devices of one kind on some hosts."""

    device: Accelerator
    devices: int
    hosts: int = 1

    def __str__(self) -> str:
        return f"{self.devices} x {self.device.name} on {self.hosts} host{'s' * (self.hosts > 1)}"

    def ring_seconds(self, size: float, share: float) -> float:
        """Seconds to add up `size` bytes of every device on all: around a ring in each host, and of the hosts. share:
        of the links' peak. Latency is left out."""
        inside = self.devices // self.hosts
        slow = self.device.network or self.device.link * inside
        within = 2 * (inside - 1) / inside * size / self.device.link
        return (within + 2 * (self.hosts - 1) / self.hosts * size / slow) / share


def hosts_of(device: Accelerator, devices: int) -> int:
    """The fewest hosts of the usual size for so many devices."""
    return -(-devices // device.host)


def machine(text: str) -> Machine:
    """`--device`: "h100", "8xh100", or "2x8xh100" for two hosts of eight. Raises UserError."""
    *counts, name = text.split("x") if text not in TABLE else [text]
    numbers = [int(count) if count.isdigit() else 0 for count in counts]
    if name not in TABLE or len(counts) > 2 or not all(numbers):
        raise UserError(
            f"--device={text} is unknown; give one of {', '.join(TABLE)}, or some of them: 8xh100 on one host, "
            "2x8xh100 on two"
        )
    device = TABLE[name]
    if len(numbers) == 2:
        return Machine(device, numbers[0] * numbers[1], numbers[0])
    count = numbers[0] if numbers else device.host
    return Machine(device, count, 1 if numbers else hosts_of(device, count))
