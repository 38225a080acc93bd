"""The table of what the compiler estimates."""

from speech.networks import registry
from speech.networks.config import NetworkConfig
from speech.tpu.compiler import Compiled
from speech.tpu.estimate import TOPOLOGIES
from speech.tpu.table import HEADINGS, MEBIBYTE, BatchShape, row, table

# A program that takes a thousand cycles, and sums 10 MB over the cores.
TEXT = (
    "ENTRY %main.1 (arg.1: f32[]) -> f32[] {\n"
    "  %sum.1 = (f32[1000000]{0:T(8)}, f32[1500000]{0:T(8)}) all-reduce(%arg.1, %arg.1)\n"
    '  ROOT %add.1 = f32[]{:T(128)} add(%arg.1, %arg.1), metadata={op_name="loss/add"}, '
    'backend_config={"window_config":{"estimated_cycles":"1000"}}\n'
    "}\n"
)


def test_row_has_what_the_compiler_reports() -> None:
    hertz = TOPOLOGIES["v5e"].hertz
    compiled = Compiled(
        seconds=61.4,
        cores=4,
        argument_bytes=50 * MEBIBYTE,
        output_bytes=7 * MEBIBYTE,
        temporary_bytes=833 * MEBIBYTE,
        code_bytes=76 * MEBIBYTE,
        text=TEXT.replace('"1000"', f'"{hertz / 100:.0f}"'),  # 10 ms
    )
    network = registry.build(NetworkConfig.of(80, 29))
    # 8 frames have 4 outputs.
    line = row("v5e", compiled, network, BatchShape(8, 5, audio_seconds=2.0), batch=144)
    free = TOPOLOGIES["v5e"].memory_bytes / MEBIBYTE - 966
    share = 3 * 144 * network.forward_flops(4) / 0.0103 / 197e12
    assert share > 0.005
    assert dict(zip(HEADINGS, line, strict=True)) == {
        "TPU": "v5e",
        "cores": "4",
        "compiled s": "61",
        "arguments": "57",
        "temporary": "833",
        "code": "76",
        "free MiB": f"{free:.0f}",
        "convolutions": "0.0",
        "recurrent": "0.0",
        "loss": "10.0",
        "optimizer": "0.0",
        "other": "0.0",
        "sums": "0.3",
        "step ms": "10.3",
        "unpriced MiB": "0",
        "of peak": f"{share:.0%}",
        "audio h/h": f"{288 / 0.0103:.0f}",
    }


def test_columns_of_the_table_are_aligned() -> None:
    line = [str(number) * (number % 7 + 1) for number in range(len(HEADINGS))]
    lines = table([line, line[::-1]]).splitlines()
    assert len({len(each) for each in lines}) == 1
    assert [each.split() for each in lines[1:]] == [line, line[::-1]]
